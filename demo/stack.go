package demo

import (
	"context"
	"crypto/rand"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"text/template"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/callgate/callgate/demo/issuer"
	"github.com/callgate/callgate/envoy/local"
)

//go:embed config.yaml.tmpl connections.yaml.tmpl rules.yaml rules_test.yaml
var files embed.FS

// Config is what a [Stack] needs.
type Config struct {
	// Executable is the callgate binary that the stack's processes run.
	Executable string
	// Dir is where the stack keeps its files. It is created.
	Dir string
	// Serve runs Callgate with a configuration file until ctx ends; nil means
	// a process of its own.
	Serve func(ctx context.Context, file string) error
	// TLS makes Envoy's listener an https one.
	TLS bool
	// AnyPorts takes free ports instead of the product's own, so that several
	// stacks can run side by side.
	AnyPorts bool
	// Roles are those of Callgate's process, comma-separated; empty: all.
	Roles string
	// Env is added to the environment of Callgate's process.
	Env []string
	// NoEngine leaves the ClickHouse engine out, as if it were away.
	NoEngine bool
	// Progress is told what takes longer than a moment.
	Progress func(line string)
	Log      *slog.Logger
}

// Addrs are where the stack listens, each host:port.
type Addrs struct {
	Envoy, EnvoyAdmin, GRPC, XDS, Console, Metrics, ClickHouse string
}

// Stack is everything the demo runs.
type Stack struct {
	Addrs      Addrs
	Issuer     *issuer.Issuer
	ConfigFile string
	Policies   string // folder of connections.yaml and rules.yaml

	// Callgate is the serving process, where it is one.
	Callgate *os.Process
	Envoy    *local.Process

	Functions
	cfg     Config
	secrets map[string]string // environment of Callgate's processes
	// investigator is the public key of who may look behind masks.
	investigator string
	cancel       context.CancelFunc
	group        *errgroup.Group
	ctx          context.Context
	stops        []func() error
	// stopServe stops the present serving process.
	stopServe func() error
}

// Start starts everything and returns when calls can be made. Stop ends it,
// also after an error.
func Start(ctx context.Context, cfg Config) (*Stack, error) {
	ctx, cancel := context.WithCancel(ctx)
	s := &Stack{cfg: cfg, cancel: cancel, secrets: map[string]string{}}
	s.group, s.ctx = errgroup.WithContext(ctx)
	for _, start := range []func(context.Context) error{s.prepare, s.startFunctions, s.makeInvestigator, s.writeConfig, s.startEngine, s.startCallgate, s.startEnvoy} {
		if err := start(s.ctx); err != nil {
			return s, errors.Join(err, context.Cause(s.ctx))
		}
	}
	return s, nil
}

// Stop ends everything, the callers' side first, and returns what went wrong
// meanwhile.
func (s *Stack) Stop() error {
	var errs []error
	for i := len(s.stops) - 1; i >= 0; i-- {
		errs = append(errs, s.stops[i]())
	}
	s.cancel()
	if err := s.group.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (s *Stack) progress(format string, args ...any) {
	if s.cfg.Progress != nil {
		s.cfg.Progress(fmt.Sprintf(format, args...))
	}
}

// prepare chooses addresses, the product's own where they are free, and secrets.
func (s *Stack) prepare(context.Context) error {
	if err := os.MkdirAll(s.cfg.Dir, 0o700); err != nil {
		return fmt.Errorf("make the demo's folder: %w", err)
	}
	for _, a := range []struct {
		to   *string
		port int
	}{
		{&s.Addrs.Envoy, 10000}, {&s.Addrs.EnvoyAdmin, 0}, {&s.Addrs.GRPC, 9191}, {&s.Addrs.XDS, 18000},
		{&s.Addrs.Console, 8080}, {&s.Addrs.Metrics, 9090}, {&s.Addrs.ClickHouse, 8123},
	} {
		if s.cfg.AnyPorts {
			a.port = 0
		}
		addr, err := freeAddr(a.port)
		if err != nil {
			return err
		}
		*a.to = addr
	}
	for _, name := range []string{"CLICKHOUSE_PASSWORD", "CRM_KEY", "MCP_KEY", "ORDERS_KEY", "CONSOLE_SECRET"} {
		var b [16]byte
		if _, err := rand.Read(b[:]); err != nil {
			return fmt.Errorf("make a secret: %w", err)
		}
		s.secrets["CALLGATE_DEMO_"+name] = hex.EncodeToString(b[:])
	}
	return nil
}

// Environment is what Callgate's processes find their secrets in.
func (s *Stack) Environment() []string {
	var env []string
	for k, v := range s.secrets {
		env = append(env, k+"="+v)
	}
	return env
}

func (s *Stack) writeConfig(context.Context) error {
	s.ConfigFile = filepath.Join(s.cfg.Dir, "callgate.yaml")
	s.Policies = filepath.Join(s.cfg.Dir, "policies")
	if err := os.MkdirAll(s.Policies, 0o700); err != nil {
		return fmt.Errorf("make the policies' folder: %w", err)
	}
	values := s.values()
	for name, to := range map[string]string{
		"config.yaml.tmpl":      s.ConfigFile,
		"connections.yaml.tmpl": filepath.Join(s.Policies, "connections.yaml"),
		"rules.yaml":            filepath.Join(s.Policies, "rules.yaml"),
		"rules_test.yaml":       filepath.Join(s.Policies, "rules_test.yaml"),
	} {
		t, err := template.ParseFS(files, name)
		if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		f, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
		if err != nil {
			return fmt.Errorf("write the demo's configuration: %w", err)
		}
		if err := errors.Join(t.Execute(f, values), f.Close()); err != nil {
			return fmt.Errorf("write %s: %w", to, err)
		}
	}
	return nil
}

// await polls until a URL answers 200.
func await(ctx context.Context, what, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	var last error
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
			err = fmt.Errorf("status %s", resp.Status)
		}
		last = err
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w", what, last)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
