package demo

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/callgate/callgate/audit/engine"
	"github.com/callgate/callgate/demo/endpoint"
	"github.com/callgate/callgate/demo/issuer"
	"github.com/callgate/callgate/envoy"
	"github.com/callgate/callgate/envoy/local"
)

// Functions are the services behind the gateway. They know nothing of it.
type Functions struct {
	REST      *endpoint.REST
	MCP       *endpoint.MCP
	GRPC      *endpoint.GRPC
	Authority *endpoint.Authority
}

func (s *Stack) startFunctions(context.Context) error {
	s.progress("starting the issuer and three functions")
	var err error
	if s.Authority, err = endpoint.NewAuthority(); err != nil {
		return fmt.Errorf("make the functions' certificates: %w", err)
	}
	if err := os.WriteFile(s.file("ca.pem"), s.Authority.PEM(), 0o600); err != nil {
		return fmt.Errorf("write the functions' CA: %w", err)
	}
	tls, err := s.Authority.ServerTLS()
	if err != nil {
		return fmt.Errorf("make the functions' certificates: %w", err)
	}
	if s.cfg.TLS {
		if err := s.writeListenerTLS(); err != nil {
			return err
		}
	}
	pages := issuer.Client{ID: "console", Secret: s.secrets["CALLGATE_DEMO_CONSOLE_SECRET"], Redirects: []string{"http://" + s.Addrs.Console + "/login/callback"}}
	if s.Issuer, err = issuer.New(issuer.Config{Clients: append(issuer.DemoClients(), pages), Log: s.cfg.Log}); err != nil {
		return fmt.Errorf("start the issuer: %w", err)
	}
	if s.REST, err = endpoint.NewREST(endpoint.Config{TLS: tls, Credential: s.secrets["CALLGATE_DEMO_CRM_KEY"], Log: s.cfg.Log}); err != nil {
		return fmt.Errorf("start the REST function: %w", err)
	}
	if s.MCP, err = endpoint.NewMCP(endpoint.Config{Credential: s.secrets["CALLGATE_DEMO_MCP_KEY"], Log: s.cfg.Log}); err != nil {
		return fmt.Errorf("start the MCP server: %w", err)
	}
	if s.GRPC, err = endpoint.NewGRPC(endpoint.Config{Credential: s.secrets["CALLGATE_DEMO_ORDERS_KEY"], Log: s.cfg.Log}); err != nil {
		return fmt.Errorf("start the gRPC function: %w", err)
	}
	for _, run := range []func(context.Context) error{s.Issuer.Run, s.REST.Run, s.MCP.Run, s.GRPC.Run} {
		s.group.Go(func() error { return run(s.ctx) })
	}
	return nil
}

// writeListenerTLS writes the certificate and key of Envoy's own listener.
func (s *Stack) writeListenerTLS() error {
	config, err := s.Authority.ServerTLS()
	if err != nil {
		return fmt.Errorf("make the listener's certificate: %w", err)
	}
	var chain []byte
	for _, der := range config.Certificates[0].Certificate {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	key, err := x509.MarshalPKCS8PrivateKey(config.Certificates[0].PrivateKey)
	if err != nil {
		return fmt.Errorf("write the listener's key: %w", err)
	}
	return errors.Join(
		os.WriteFile(s.file("listener.crt"), chain, 0o600),
		os.WriteFile(s.file("listener.key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), 0o600))
}

// values fill the configuration's templates.
func (s *Stack) values() map[string]string {
	v := map[string]string{
		"GRPC": s.Addrs.GRPC, "XDS": s.Addrs.XDS, "Console": s.Addrs.Console, "Metrics": s.Addrs.Metrics, "Envoy": s.Addrs.Envoy,
		"ClickHouse": s.Addrs.ClickHouse, "Issuer": s.Issuer.URL(),
		"REST": s.REST.URL(), "CA": s.file("ca.pem"), "MCP": s.MCP.URL(), "GRPCUpstream": s.GRPC.URL(), "Investigator": s.investigator,
	}
	if s.cfg.TLS {
		v["Cert"], v["Key"] = s.file("listener.crt"), s.file("listener.key")
	}
	return v
}

func (s *Stack) file(name string) string { return filepath.Join(s.cfg.Dir, name) }

func (s *Stack) log(name string) (*os.File, error) {
	f, err := os.OpenFile(s.file(name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open a log: %w", err)
	}
	s.stops = append(s.stops, f.Close)
	return f, nil
}

func (s *Stack) startEngine(ctx context.Context) error {
	if s.cfg.NoEngine {
		return nil
	}
	s.progress("starting the embedded ClickHouse engine")
	log, err := s.log("clickhouse.log")
	if err != nil {
		return err
	}
	p, err := engine.Start(ctx, engine.ProcessConfig{
		Config:     engine.Config{Path: s.file("clickhouse"), Addr: s.Addrs.ClickHouse, Password: s.secrets["CALLGATE_DEMO_CLICKHOUSE_PASSWORD"], Log: s.cfg.Log},
		Executable: s.cfg.Executable, Stderr: log,
	}, s.cfg.Progress)
	if err != nil {
		return err
	}
	s.stops = append(s.stops, p.Stop)
	return nil
}

func (s *Stack) startCallgate(ctx context.Context) error {
	s.progress("starting callgate serve")
	if s.cfg.Serve != nil {
		for k, v := range s.secrets {
			if err := os.Setenv(k, v); err != nil {
				return fmt.Errorf("hand over a secret: %w", err)
			}
		}
		serving, stop := context.WithCancel(ctx)
		done := make(chan error, 1)
		go func() { done <- s.cfg.Serve(serving, s.ConfigFile) }()
		s.stops = append(s.stops, func() error { stop(); return <-done })
		return s.awaitCallgate(ctx, done)
	}
	log, err := s.log("callgate.log")
	if err != nil {
		return err
	}
	s.stops = append(s.stops, func() error { return s.stopServe() })
	return s.serveProcess(ctx, log)
}

// serveProcess runs callgate serve as a process of its own.
func (s *Stack) serveProcess(ctx context.Context, log *os.File) error {
	args := []string{"serve", "-c", s.ConfigFile}
	if s.cfg.Roles != "" {
		args = append(args, "--roles", s.cfg.Roles)
	}
	cmd := exec.Command(s.cfg.Executable, args...)
	cmd.Env = append(append(os.Environ(), s.Environment()...), s.cfg.Env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = childAttributes()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start callgate serve: %w", err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	s.Callgate = cmd.Process
	s.stopServe = func() error {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		select {
		case err := <-done:
			return err
		case <-time.After(stopBound):
			return errors.Join(errors.New("callgate serve did not stop in time"), cmd.Process.Kill())
		}
	}
	return s.awaitCallgate(ctx, done)
}

// stopBound is how long a process may take to stop.
const stopBound = 15 * time.Second

// awaitCallgate waits until the service is ready, or has ended.
func (s *Stack) awaitCallgate(ctx context.Context, done chan error) error {
	ready := make(chan error, 1)
	go func() { ready <- await(ctx, "callgate serve", "http://"+s.Addrs.Metrics+"/readyz") }()
	select {
	case err := <-ready:
		return err
	case err := <-done:
		done <- err
		return fmt.Errorf("callgate serve ended: %w; see %s", errors.Join(err, errors.New("it should not")), s.file("callgate.log"))
	}
}

// Restart kills callgate serve without a word and starts it anew: a crash.
func (s *Stack) Restart(ctx context.Context) error {
	if err := s.Callgate.Kill(); err != nil {
		return fmt.Errorf("kill callgate serve: %w", err)
	}
	if err := s.stopServe(); err != nil {
		var killed *exec.ExitError
		if !errors.As(err, &killed) {
			return fmt.Errorf("wait for callgate serve: %w", err)
		}
	}
	log, err := os.OpenFile(s.file("callgate.log"), os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open a log: %w", err)
	}
	defer log.Close()
	return s.serveProcess(ctx, log)
}

func (s *Stack) startEnvoy(ctx context.Context) error {
	binary, err := local.Find(ctx, s.cfg.Progress)
	if err != nil {
		return err
	}
	s.progress("starting Envoy, which fetches its configuration from callgate")
	bootstrap, err := envoy.Bootstrap(envoy.BootstrapConfig{Node: "demo-envoy", XDS: s.Addrs.XDS, Admin: s.Addrs.EnvoyAdmin})
	if err != nil {
		return err
	}
	log, err := s.log("envoy.log")
	if err != nil {
		return err
	}
	if s.Envoy, err = local.Start(local.Config{Binary: binary, Bootstrap: bootstrap, Admin: s.Addrs.EnvoyAdmin, Dir: s.cfg.Dir, Output: log, Log: s.cfg.Log}); err != nil {
		return err
	}
	s.stops = append(s.stops, s.Envoy.Stop)
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := s.Envoy.Ready(ctx); err != nil {
		return fmt.Errorf("%w; see %s", err, s.file("envoy.log"))
	}
	return nil
}
