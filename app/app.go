// Package app wires Callgate's rooms together and runs them. It is the only room
// that knows all others; nothing here decides, masks or records.
package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	procv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/callgate/callgate/accesslog"
	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/call/redact"
	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/control"
	"github.com/callgate/callgate/extauthz"
	"github.com/callgate/callgate/extproc"
	"github.com/callgate/callgate/extproc/sealed"
	"github.com/callgate/callgate/xds"
)

// Role is one of the services that a process can run.
type Role string

// The roles.
const (
	ExtAuthz  Role = "extauthz"
	ExtProc   Role = "extproc"
	AccessLog Role = "accesslog"
	XDS       Role = "xds"
	Console   Role = "console"
)

// Roles are all roles, in the order of a call's path.
var Roles = []Role{ExtAuthz, ExtProc, AccessLog, XDS, Console}

// ParseRoles reads a list of roles; none means all.
func ParseRoles(names []string) ([]Role, error) {
	if len(names) == 0 {
		return Roles, nil
	}
	var out []Role
	for _, n := range names {
		if !slices.Contains(Roles, Role(n)) {
			return nil, fmt.Errorf("role %q is not known; there are %s", n, join(Roles))
		}
		out = append(out, Role(n))
	}
	return out, nil
}

func join(roles []Role) string {
	names := make([]string, len(roles))
	for i, r := range roles {
		names[i] = string(r)
	}
	return strings.Join(names, ", ")
}

// Options are what a process is told beside its configuration.
type Options struct {
	// File is where the configuration came from; its policy is read again
	// when it changes.
	File    string
	Roles   []Role
	Version string
	Log     *slog.Logger
	// Now is the clock that events are stamped by; nil means time.Now.
	Now func() time.Time
	// Slack is where messages in Slack are changed after a decision; empty means
	// Slack's own.
	Slack string
	// Ready is called once everything serves; it may be nil.
	Ready func()
}

// App is one running Callgate.
type App struct {
	cfg      *config.Config
	opts     Options
	registry *prometheus.Registry
	log      *slog.Logger

	hashKey   []byte
	release   *sealed.ReleaseKey
	redact    *redact.Redactor
	trail     *trail
	people    *people
	authz     *extauthz.Server
	xds       *xds.Server
	messages  *messages
	detectors *detectors
	carried   *carried
	sessions  *sessions
	listeners map[string]net.Listener

	decider     *decider
	store       *control.Store
	plane       *control.Plane // nil without the role xds
	endPolicies context.CancelFunc
}

// New opens everything that must be there before a call can be decided: ports,
// the spool, the approval store, the issuers' keys. Its errors name cause and
// fix. Run or Close must follow.
func New(ctx context.Context, cfg *config.Config, opts Options) (_ *App, err error) {
	a := &App{cfg: cfg, opts: opts, log: opts.Log, registry: prometheus.NewRegistry(), listeners: map[string]net.Listener{}}
	a.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	defer func() {
		if err != nil {
			err = errors.Join(err, a.Close())
		}
	}()
	if err := os.MkdirAll(cfg.StateDir, 0o700); err != nil {
		return nil, fmt.Errorf("state_dir %s can't be made: %w; create it or set another", cfg.StateDir, err)
	}
	if a.has(XDS) && a.asked() && cfg.Services.TLS != (config.ServicesTLS{}) && cfg.Envoy.ServicesTLS == (config.TowardsServices{}) {
		return nil, errors.New("envoy.services_tls is missing: the services take TLS only (services.tls), and Envoys would speak plain text to them; set its cert_file, key_file and ca_file")
	}
	if err := a.listen(); err != nil {
		return nil, err
	}
	if a.trail, err = openTrail(cfg, a.registry, opts.Now, a.log); err != nil {
		return nil, err
	}
	if a.release, err = releaseKey(cfg); err != nil {
		return nil, err
	}
	if a.hashKey, err = hashKey(cfg); err != nil {
		return nil, err
	}
	if a.people, err = openPeople(ctx, a); err != nil {
		return nil, err
	}
	if a.redact, err = redact.New(a.hashKey); err != nil {
		return nil, err
	}
	a.messages, a.detectors = &messages{}, &detectors{}
	if a.carried, err = newCarried(a.hashKey); err != nil {
		return nil, err
	}
	if a.sessions, err = newSessions(a.people.store, a.log); err != nil {
		return nil, err
	}
	a.authz = extauthz.New(extauthz.Config{Identifier: a.people.verifier, Approvals: a.people.approvals, Recorder: a.trail.recorder, Backlog: a.trail.backlog, Redact: a.redact, Requests: extproc.NewRequests(a.hashKey, a.detectors, a.messages), Carrier: a.carried, Sessions: a.sessions,
		Now: opts.Now, Log: a.log, Metrics: extauthz.NewMetrics(a.registry)})
	a.xds = xds.New(xds.Config{Nodes: cfg.Envoy.Nodes, Follow: mayFollow(cfg.Control), Report: mayReport(cfg.Control), Node: mayBe(cfg.Control.Nodes), Log: a.log, Metrics: xds.NewMetrics(a.registry)})
	if err := a.openPolicies(ctx); err != nil {
		return nil, err
	}
	return a, nil
}

// Waiting is how many calls wait for people here.
func (a *App) Waiting() int { return a.authz.Waiting() }

func (a *App) has(r Role) bool { return slices.Contains(a.opts.Roles, r) }

// asked reports whether this process has a role that Envoys ask.
func (a *App) asked() bool { return a.has(ExtAuthz) || a.has(ExtProc) || a.has(AccessLog) }

// listen opens the ports of the roles, so that a taken one is known at once.
func (a *App) listen() error {
	want := map[string]string{"listen.metrics": a.cfg.Listen.Metrics}
	if a.asked() {
		want["listen.grpc"] = a.cfg.Listen.GRPC
	}
	if a.has(XDS) {
		want["listen.xds"] = a.cfg.Listen.XDS
	}
	if a.has(Console) {
		want["listen.console"] = a.cfg.Listen.Console
	}
	for setting, addr := range want {
		l, err := listen(setting, addr)
		if err != nil {
			return err
		}
		a.listeners[setting] = l
	}
	return nil
}

// Run serves until ctx ends. Listeners stop first and the trail last, so that
// what was decided is also recorded and, where it can be, shipped.
func (a *App) Run(ctx context.Context) error {
	defer a.Close()
	shipping, stopShipping := context.WithCancel(context.WithoutCancel(ctx))
	var trail errgroup.Group
	trail.Go(func() error { return a.trail.run(shipping) })

	g, ctx := errgroup.WithContext(ctx)
	a.note(ctx, call.ChangeEvent{What: call.ChangeStarted, Version: a.opts.Version, Detail: "roles " + join(a.opts.Roles)})
	keepUp, err := a.startPolicies(ctx)
	if err != nil {
		stopShipping()
		return errors.Join(fmt.Errorf("activate the policy: %w", err), trail.Wait())
	}
	a.decider.watches.first(ctx)
	g.Go(func() error { return keepUp(ctx) })
	g.Go(func() error { return a.people.run(ctx) })
	g.Go(func() error { return a.sessions.run(ctx) })
	g.Go(func() error { return a.trail.signer.Run(ctx) })
	g.Go(func() error { return a.trail.backlog.Run(ctx) })
	g.Go(func() error { return watch(ctx, a.log, a.folders(), a.reload) })
	for setting, serve := range map[string]func(context.Context, net.Listener) error{
		"listen.grpc": a.serveEnvoys, "listen.xds": a.serveXDS, "listen.console": a.serveConsole,
		"listen.metrics": func(ctx context.Context, l net.Listener) error { return serveHealth(ctx, l, a.registry, a.trail.ready) },
	} {
		if l := a.listeners[setting]; l != nil {
			g.Go(func() error {
				if err := serve(ctx, l); err != nil {
					return fmt.Errorf("serve %s: %w", setting, err)
				}
				return nil
			})
		}
	}
	a.log.Info("callgate runs", "version", a.opts.Version, "roles", join(a.opts.Roles), "node", a.cfg.Node,
		"policy", a.decider.stable())
	if a.opts.Ready != nil {
		a.opts.Ready()
	}
	err = g.Wait()
	a.log.Info("callgate stops")
	err = errors.Join(err, a.trail.flush(ctx))
	a.note(ctx, call.ChangeEvent{What: call.ChangeStopped, Version: a.opts.Version})
	a.trail.end(ctx, a.log)
	a.trail.drain()
	stopShipping()
	return errors.Join(err, trail.Wait())
}

// Close frees what New opened. It may be called more than once.
func (a *App) Close() error {
	var errs []error
	for setting, l := range a.listeners {
		if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, fmt.Errorf("close %s: %w", setting, err))
		}
	}
	if a.endPolicies != nil {
		a.endPolicies()
	}
	if a.store != nil {
		errs = append(errs, a.store.Close())
	}
	if a.people != nil {
		errs = append(errs, a.people.close())
	}
	if a.trail != nil {
		errs = append(errs, a.trail.close())
	}
	return errors.Join(errs...)
}

// largestMessage bounds a gRPC message from Envoy: the largest body that a
// connection may take, and its headers.
const largestMessage = 72 << 20

// serveEnvoys serves the three services that Envoys call during a call.
func (a *App) serveEnvoys(ctx context.Context, l net.Listener) error {
	creds, err := ofServices(a.cfg.Services)
	if err != nil {
		return err
	}
	b := new(busy)
	options := append(b.options(), grpc.Creds(creds), grpc.MaxRecvMsgSize(largestMessage), grpc.MaxSendMsgSize(largestMessage),
		// Envoys ask every few seconds whether this process still moves.
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
		// Workers keep their grown stacks from call to call. Where all are
		// busy, as with held calls, a call gets a goroutine of its own. Most of
		// the time a call waits for the disk.
		grpc.NumStreamWorkers(uint32(16*runtime.GOMAXPROCS(0))))
	present, parting := grpc.NewServer(options...), grpc.NewServer(options...)
	if a.has(ExtAuthz) {
		a.authz.Register(ctx, present)
		authv3.RegisterAuthorizationServer(parting, stopping{})
	}
	if a.has(ExtProc) {
		responses := extproc.New(extproc.Config{Recorder: a.trail.recorder, Backlog: a.trail.backlog, Messages: a.messages, Visible: a.decider, Pinned: a.decider, Judge: a.decider, Detectors: a.detectors, Sessions: a.sessions, HashKey: a.hashKey, Sealer: a.release, Redact: a.redact,
			MaxResponse: 8 << 20, Memory: int64(a.cfg.Masking.Memory), Timeout: a.cfg.Masking.Timeout, Now: a.opts.Now, Log: a.log, Metrics: extproc.NewMetrics(a.registry)})
		procv3.RegisterExternalProcessorServer(present, responses)
		procv3.RegisterExternalProcessorServer(parting, responses)
	}
	if !a.has(AccessLog) {
		return serveGRPC(ctx, l, b, present, parting)
	}
	logs := accesslog.New(accesslog.Config{Recorder: a.trail.recorder, Backlog: a.trail.backlog, Now: a.opts.Now, Log: a.log, Metrics: accesslog.NewMetrics(a.registry)})
	accesslogv3.RegisterAccessLogServiceServer(present, logs)
	accesslogv3.RegisterAccessLogServiceServer(parting, logs)
	var g errgroup.Group
	counting, stop := context.WithCancel(ctx)
	g.Go(func() error { return logs.Run(counting) })
	err = serveGRPC(ctx, l, b, present, parting)
	stop()
	err = errors.Join(err, g.Wait())
	if lost := logs.Flush(ctx); lost != nil { // no entry comes any more
		a.log.ErrorContext(ctx, "what access logs counted is not recorded", "error", lost)
	}
	return err
}

// stopping decides nothing: Envoy asks another replica, or denies.
type stopping struct {
	authv3.UnimplementedAuthorizationServer
}

func (stopping) Check(context.Context, *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	return nil, status.Error(codes.Unavailable, "this replica stops")
}

// largestPolicy bounds what is sent to a node at once, in bytes.
const largestPolicy = 128 << 20

func (a *App) serveXDS(ctx context.Context, l net.Listener) error {
	creds, err := ofControl(a.cfg.Control.TLS)
	if err != nil {
		return err
	}
	srv := grpc.NewServer(grpc.Creds(creds), grpc.MaxSendMsgSize(largestPolicy))
	a.xds.Register(ctx, srv)
	return serveStreams(ctx, srv, l)
}
