//go:build linux

package soak

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/demo"
	"github.com/callgate/callgate/demo/issuer"
)

// world is one Envoy, the services that it asks, a function and a client.
type world struct {
	*demo.Stack
	dir, database string
	function      *function
	journal       *journal
	token         string
	services      []*service
	// excused are the calls and, by spool, the events that a fault destroyed
	// and that can't be anywhere.
	excusedCalls  map[string]bool
	excusedEvents map[string]map[uint64]bool
}

// plan is how a world is made. The zero plan has one service with all roles.
type plan struct {
	program string // in place of callgate as it is built
	env     []string
	small   int64 // bytes of the spool's file system
	// second adds a replica, and lets route spread what Envoy asks.
	second bool
	// serve runs in this process what would be a service otherwise.
	serve func(ctx context.Context, file, database string) error
}

// settle is how long a row waits for a leg in these tests.
const settle = 2 * time.Second

// newWorld starts a world that ends with the test.
func newWorld(t *testing.T, p plan) *world {
	t.Helper()
	w := &world{dir: t.TempDir(), database: "soak_" + filepath.Base(t.Name()), journal: newJournal(),
		excusedCalls: map[string]bool{}, excusedEvents: map[string]map[uint64]bool{}}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	t.Cleanup(cancel)
	var err error
	if w.function, err = startFunction(ctx); err != nil {
		t.Fatal(err)
	}
	if p.program == "" {
		p.program = callgate
	}
	serve := func(ctx context.Context, file string) error {
		if err := os.WriteFile(filepath.Join(filepath.Dir(file), "policies", "soak.yaml"), []byte(w.function.policy()), 0o600); err != nil {
			return err
		}
		if p.serve != nil {
			return p.serve(ctx, file, w.database)
		}
		return w.serve(ctx, file, p)
	}
	w.Stack, err = demo.Start(ctx, demo.Config{Executable: callgate, Dir: filepath.Join(w.dir, "stack"), AnyPorts: true, NoEngine: true, Serve: serve,
		Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	t.Cleanup(func() {
		if err := w.Stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
		if t.Failed() {
			for _, s := range w.services {
				t.Logf("the end of the service's log:\n%s", s.tail())
			}
		}
	})
	must(t, err)
	token, err := w.Issuer.Flows(nil).ClientCredentials(ctx, issuer.CIDeploy, issuer.CIDeploy+"-demo-secret")
	if err != nil {
		t.Fatal(err)
	}
	w.token = token.Access
	return w
}

// serve runs the services until ctx ends. Between, whoever tests does with
// them what it likes.
func (w *world) serve(ctx context.Context, file string, p plan) error {
	cfg, err := config.Load(file, nil)
	if err != nil {
		return err
	}
	w.services = []*service{{program: p.program, metrics: cfg.Listen.Metrics}}
	if p.second {
		w.services = append(w.services, &service{program: p.program})
		if err := w.replicate(ctx, cfg); err != nil {
			return err
		}
	}
	for i, s := range w.services {
		state := filepath.Join(w.dir, fmt.Sprintf("state%d", i))
		s.log, s.spool, s.small = state+".log", filepath.Join(state, "spool"), p.small
		if err := os.MkdirAll(s.spool, 0o700); err != nil {
			return err
		}
		s.args = append([]string{"serve", "-c", file}, s.args...)
		s.env = append(s.env, "CALLGATE_AUDIT_CLICKHOUSE_URL=http://"+store.addr, "CALLGATE_AUDIT_CLICKHOUSE_DATABASE="+w.database,
			"CALLGATE_AUDIT_CLICKHOUSE_SETTLE_AFTER="+settle.String(), "CALLGATE_DEMO_CLICKHOUSE_PASSWORD="+password, "CALLGATE_STATE_DIR="+state)
		s.env = append(s.env, p.env...)
		if err := s.again(ctx); err != nil {
			return err
		}
	}
	<-ctx.Done()
	bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	for _, s := range w.services {
		if err := s.term(bound); err != nil {
			return err
		}
	}
	return nil
}

// metrics are the addresses where the services tell how they do.
func (w *world) metrics() []string {
	if len(w.services) == 0 {
		return []string{w.Addrs.Metrics}
	}
	var out []string
	for _, s := range w.services {
		out = append(out, s.metrics)
	}
	return out
}

// must ends a test at an error that is not its subject.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// sleep lets time pass; false where the test is over.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// eventually waits until something is so.
func eventually(ctx context.Context, what string, so func() bool) error {
	for deadline := time.Now().Add(patience()); !so(); {
		if time.Now().After(deadline) || !sleep(ctx, 20*time.Millisecond) {
			return fmt.Errorf("never: %s", what)
		}
	}
	return nil
}
