package backtest

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/callgate/callgate/audit"
	"github.com/callgate/callgate/audit/clickhouse"
	"github.com/callgate/callgate/audit/engine"
	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/call/redact"
	"github.com/callgate/callgate/policies"
)

// shared is the engine that tests share, each with a database of its own.
var shared struct {
	once sync.Once
	proc *engine.Process
	dir  string
	err  error
}

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "clickhouse" {
		runEngine(os.Args[2:])
	}
	code := m.Run()
	if shared.proc != nil {
		shared.proc.Stop()
		os.RemoveAll(shared.dir)
	}
	os.Exit(code)
}

func runEngine(args []string) {
	var cfg engine.Config
	flags := flag.NewFlagSet("clickhouse", flag.ExitOnError)
	flags.StringVar(&cfg.Path, "path", "", "")
	flags.StringVar(&cfg.Addr, "addr", "", "")
	flags.StringVar(&cfg.User, "user", "", "")
	flags.Int64Var(&cfg.MaxMemory, "max-memory", 0, "")
	flags.IntVar(&cfg.Connections, "connections", 0, "")
	flags.Parse(args)
	if err := engine.Main(context.Background(), cfg, nil); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// database is a fresh trail in the shared engine.
func database(t testing.TB) *clickhouse.DB {
	t.Helper()
	const password = "test-only"
	shared.once.Do(func() {
		if shared.dir, shared.err = os.MkdirTemp("", "callgate-engine-"); shared.err != nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute) // it may be fetched
		defer cancel()
		shared.proc, shared.err = engine.Start(ctx, engine.ProcessConfig{Config: engine.Config{Path: filepath.Join(shared.dir, "data"), Addr: "127.0.0.1:0", Password: password,
			Log: slog.New(slog.DiscardHandler)}}, func(line string) { fmt.Fprintln(os.Stderr, line) })
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	db, err := clickhouse.Open(clickhouse.Config{URL: "http://" + shared.proc.Addr(), Database: "t_" + t.Name(), Password: func() (string, error) { return password, nil }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if err := db.Migrate(t.Context(), slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	return db
}

// noon is when the tests' calls are made.
var noon = time.Now().UTC().Truncate(24 * time.Hour).Add(-12 * time.Hour)

// recorded makes of a call and what was decided the event that the gateway
// records: credentials are replaced, claims and most headers are left out.
func recorded(t testing.TB, c *call.Call, decided call.Decision) call.Event {
	t.Helper()
	r, err := redact.New(make([]byte, redact.MinKey))
	if err != nil {
		t.Fatal(err)
	}
	if c.ID, err = call.NewID(); err != nil {
		t.Fatal(err)
	}
	path, hidden := r.Target(c.Request.Path)
	args := c.ArgsJSON
	if c.Protocol == call.HTTP {
		args = r.Arguments(args, hidden)
	}
	var headers call.Headers
	for _, h := range c.Request.Headers {
		if call.HeaderRecorded(h.Name) {
			headers = append(headers, h)
		}
	}
	e := &call.DecidedEvent{Identity: c.Identity, Connection: c.Connection, Protocol: c.Protocol, Function: c.Function, ArgsJSON: args, Session: c.Session, Decision: decided,
		Method: c.Request.Method, Authority: c.Request.Authority, Path: path, Headers: r.Headers(headers), Body: call.NewBody(c.Request.Body, 1<<20, "application/json", ""),
		Started: c.Time}
	if c.Request.Source.IsValid() {
		e.Source = c.Request.Source.String()
	}
	return call.Event{Kind: call.Decided, CallID: c.ID, Time: c.Time.Add(time.Millisecond), Decided: e}
}

// outcome is what is decided of a ruling where people always agree.
func outcome(r call.Ruling) call.Decision {
	switch r.Action {
	case call.ActionAllow:
		return call.Decision{Outcome: call.Allow, Rule: r.Rule, Reason: call.ReasonRule}
	case call.ActionHold:
		return call.Decision{Outcome: call.HoldAllow, Rule: r.Rule, Reason: call.ReasonApproved, Approval: &call.Approval{ID: "a-1"}}
	}
	return call.Decision{Outcome: call.Deny, Rule: r.Rule, Reason: r.Reason, Message: r.Message}
}

// store puts events into a trail and waits until they are there.
func store(t testing.TB, db *clickhouse.DB, events []call.Event) {
	t.Helper()
	spool, err := audit.Open(audit.SpoolConfig{Dir: t.TempDir(), MaxBytes: 1 << 30, Log: slog.New(slog.DiscardHandler), Metrics: audit.NewMetrics(prometheus.NewRegistry())})
	if err != nil {
		t.Fatal(err)
	}
	defer spool.Close()
	var wg sync.WaitGroup
	for part := range slices.Chunk(events, 64) {
		for _, e := range part {
			wg.Go(func() {
				if err := spool.Append(context.Background(), e); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
	shipper := clickhouse.NewShipper(clickhouse.ShipperConfig{Spool: spool, DB: db, SettleAfter: time.Millisecond, Log: slog.New(slog.DiscardHandler), Metrics: clickhouse.NewMetrics(prometheus.NewRegistry())})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); shipper.Run(ctx) }()
	defer func() { cancel(); <-done }()
	for range 2000 {
		if st := shipper.Status(); st.Shipped >= uint64(len(events)) && st.Unsettled == 0 {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("the calls did not reach the trail")
}

var connections = []policies.Connection{
	{Name: "crm", Protocol: call.HTTP, Functions: []string{"refunds.create", "refunds.list"}},
	{Name: "tools", Protocol: call.MCP},
}

func policy(t testing.TB, rules ...policies.Rule) Policy {
	t.Helper()
	for i := range rules {
		if rules[i].Action == policies.Hold {
			rules[i].Hold = call.Hold{Timeout: time.Minute, Stages: []call.Stage{{Approvers: call.Approvers{Groups: []string{"approvers"}}}}}
		}
		if rules[i].Name == "" {
			rules[i].Name = rules[i].Action
		}
	}
	set, err := policies.Compile(rules, policies.Config{Version: "candidate", Connections: connections, Replay: true})
	if err != nil {
		t.Fatal(err)
	}
	return Policy{Set: set, Connections: connections}
}
