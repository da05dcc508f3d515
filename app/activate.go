package app

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/call/protocol"
	"github.com/callgate/callgate/call/protocol/descriptor"
	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/envoy"
	"github.com/callgate/callgate/extauthz"
	"github.com/callgate/callgate/extauthz/connection"
	"github.com/callgate/callgate/extauthz/credential"
)

// activePolicy is what one version of the policy keeps running.
type activePolicy struct {
	version string
	sources map[string]*descriptor.Source // by grpc connection
	cancel  context.CancelFunc
}

// folders are watched for a changed policy.
func (a *App) folders() []string {
	out := []string{filepath.Dir(a.opts.File)}
	if a.cfg.PoliciesDir != "" && a.cfg.PoliciesDir != out[0] {
		out = append(out, a.cfg.PoliciesDir)
	}
	return out
}

// reload reads the policy again and activates it, or says where it is wrong and
// changes nothing.
func (a *App) reload(ctx context.Context) {
	p, err := config.LoadPolicy(a.opts.File, a.cfg.PoliciesDir)
	if err == nil {
		if now := a.policy.Load(); now != nil && now.version == p.Version {
			return
		}
		err = a.activate(ctx, p)
	}
	if err != nil {
		a.log.ErrorContext(ctx, "the changed policy is refused; the last good one stays", "error", err)
		a.note(ctx, call.ChangeEvent{What: call.ChangePolicyRefused, Detail: err.Error()})
	}
}

// activate builds all that a policy means, and only when all of it can be built
// puts it in force: first for decisions, then for Envoy, so that Envoy never
// routes by a policy that the decisions do not know.
func (a *App) activate(ctx context.Context, p config.Policy) error {
	rules, err := compile(p, a.cfg.Approvals.Approvers)
	if err != nil {
		return err
	}
	files := map[string][]byte{}
	for _, f := range envoy.FilesOf(a.cfg.Envoy, p) {
		if files[f], err = os.ReadFile(f); err != nil {
			return fmt.Errorf("read a certificate: %w", err)
		}
	}
	resources, err := envoy.Build(envoy.Input{Settings: a.cfg.Envoy, Policy: p, Files: files})
	if err != nil {
		return err
	}
	life, cancel := context.WithCancel(ctx)
	next := &activePolicy{version: p.Version, sources: map[string]*descriptor.Source{}, cancel: cancel}
	var list []*connection.Connection
	for _, c := range p.Connections {
		built, err := a.connect(life, c, next)
		if err != nil {
			cancel()
			return fmt.Errorf("%s: connection %q: %w", c.Position, c.Name, err)
		}
		list = append(list, built)
	}
	set, err := connection.NewSet(list)
	if err != nil {
		cancel()
		return err
	}
	a.authz.Activate(extauthz.Versions{Stable: extauthz.Active{Version: p.Version, Connections: set, Policy: rules}})
	a.messages.sources.Store(&next.sources)
	if old := a.policy.Swap(next); old != nil {
		// Calls that are being decided may still use the old descriptors,
		// which stay; only their refreshing ends.
		old.cancel()
	}
	if err := a.xds.Set(ctx, p.Version, resources); err != nil {
		return err
	}
	a.log.InfoContext(ctx, "policy active", "version", p.Version, "connections", len(p.Connections), "rules", len(p.Rules))
	a.note(ctx, call.ChangeEvent{What: call.ChangePolicyActivated, Version: p.Version, Detail: unrecorded(p)})
	return nil
}

// unrecorded says which connections let calls through that can't be recorded:
// that choice is on record itself.
func unrecorded(p config.Policy) string {
	var names []string
	for _, c := range p.Connections {
		if c.Record.Unavailable == "allow" {
			names = append(names, c.Name)
		}
	}
	if len(names) == 0 {
		return ""
	}
	return "calls are let through when they can't be recorded (record.unavailable: allow) on " + strings.Join(names, ", ")
}

// note records an operator's act. Its failing stops nothing: the spool's state
// shows in calls being denied.
func (a *App) note(ctx context.Context, e call.ChangeEvent) {
	e.Node = a.cfg.Node
	err := a.trail.recorder.Record(context.WithoutCancel(ctx), call.Event{Kind: call.Changed, Time: time.Now(), Change: &e})
	if err != nil {
		a.log.ErrorContext(ctx, "a change could not be recorded", "what", e.What, "error", err)
	}
}

// connect builds one connection for the decision service.
func (a *App) connect(ctx context.Context, c config.Connection, next *activePolicy) (*connection.Connection, error) {
	secret, err := credential.New(credential.Config{Header: c.Credential.Header, Prefix: c.Credential.Prefix, Env: c.Credential.Secret.Env, File: c.Credential.Secret.File})
	if err != nil {
		return nil, err
	}
	cfg := protocol.Config{Protocol: call.Protocol(c.Protocol), BasePath: c.Match.Path}
	for _, f := range c.Functions {
		cfg.Functions = append(cfg.Functions, protocol.Function(f))
	}
	if c.Protocol == "grpc" {
		source, err := a.descriptors(ctx, c)
		if err != nil {
			return nil, err
		}
		next.sources[c.Name], cfg.Methods = source, source
	}
	parser, err := protocol.New(cfg)
	if err != nil {
		return nil, err
	}
	return &connection.Connection{
		Name: c.Name, Version: c.Version, Protocol: call.Protocol(c.Protocol), Authorities: c.Match.Authorities, Path: c.Match.Path, Services: c.Match.Services,
		Parser: parser, Credential: secret, Mask: masks(c), MaxBody: int64(c.MaxBody), MaxResponse: int64(c.MaxResponse),
		Record: call.RecordSettings{MaxBody: int64(c.Record.MaxBody), Response: c.Record.Response, Headers: c.Record.Headers,
			Unrecorded: c.Record.Unavailable == "allow",
			KeepBodies: int64(time.Duration(c.Record.Keep.Bodies).Seconds()), KeepCalls: int64(time.Duration(c.Record.Keep.Calls).Seconds())},
	}, nil
}

// firstReflection is how long a start or a change of policy waits for a
// service's first answer; calls are denied with the reason until it comes.
const firstReflection = 2 * time.Second

func (a *App) descriptors(ctx context.Context, c config.Connection) (*descriptor.Source, error) {
	if c.GRPC.Descriptors != "" {
		return descriptor.File(c.GRPC.Descriptors, c.Match.Services)
	}
	u, err := url.Parse(c.Upstream.URL)
	if err != nil {
		return nil, fmt.Errorf("upstream.url: %w", err)
	}
	creds, err := upstreamCredentials(u, c.Upstream)
	if err != nil {
		return nil, err
	}
	conn, err := grpc.NewClient(u.Host, grpc.WithTransportCredentials(creds))
	if err != nil {
		return nil, fmt.Errorf("reach its reflection: %w", err)
	}
	source := descriptor.Reflected(c.Match.Services)
	go func() {
		source.Refresh(ctx, conn, a.log)
		_ = conn.Close() // nothing was written to it
	}()
	for deadline := time.Now().Add(firstReflection); time.Now().Before(deadline) && !source.Known(); time.Sleep(10 * time.Millisecond) {
	}
	return source, nil
}

// messages finds the response types of gRPC methods for extproc.
type messages struct {
	sources atomic.Pointer[map[string]*descriptor.Source]
}

func (m *messages) Output(connection, function string) (protoreflect.MessageDescriptor, error) {
	sources := m.sources.Load()
	if sources == nil || (*sources)[connection] == nil {
		return nil, errors.New("there are no descriptors for this connection")
	}
	d, err := (*sources)[connection].Method(function)
	if err != nil {
		return nil, err
	}
	return d.Output(), nil
}
