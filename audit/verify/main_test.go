package verify_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/callgate/callgate/audit"
	"github.com/callgate/callgate/audit/clickhouse"
	"github.com/callgate/callgate/audit/engine"
	"github.com/callgate/callgate/call"
)

var shared struct {
	once sync.Once
	proc *engine.Process
	dir  string
	err  error
}

// TestMain lets the test binary be the engine's process.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "clickhouse" {
		var cfg engine.Config
		flags := flag.NewFlagSet("clickhouse", flag.ExitOnError)
		flags.StringVar(&cfg.Path, "path", "", "")
		flags.StringVar(&cfg.Addr, "addr", "", "")
		flags.StringVar(&cfg.User, "user", "", "")
		flags.Int64Var(&cfg.MaxMemory, "max-memory", 0, "")
		flags.IntVar(&cfg.Connections, "connections", 0, "")
		flags.Parse(os.Args[2:])
		if err := engine.Main(context.Background(), cfg, nil); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	code := m.Run()
	if shared.proc != nil {
		shared.proc.Stop()
		os.RemoveAll(shared.dir)
	}
	os.Exit(code)
}

const password = "test-only"

func address(t testing.TB) string {
	t.Helper()
	shared.once.Do(func() {
		if shared.dir, shared.err = os.MkdirTemp("", "callgate-verify-"); shared.err != nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute) // it may be fetched
		defer cancel()
		shared.proc, shared.err = engine.Start(ctx, engine.ProcessConfig{
			Config: engine.Config{Path: filepath.Join(shared.dir, "data"), Addr: "127.0.0.1:0", Password: password, Log: slog.New(slog.DiscardHandler)},
		}, func(line string) { fmt.Fprintln(os.Stderr, line) })
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.proc.Addr()
}

// outside is a connection of somebody who may change anything.
func outside(t testing.TB) driver.Conn {
	t.Helper()
	conn, err := ch.Open(&ch.Options{Addr: []string{address(t)}, Protocol: ch.HTTP, Auth: ch.Auth{Username: "default", Password: password}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func open(t testing.TB, database string) *clickhouse.DB {
	t.Helper()
	db, err := clickhouse.Open(clickhouse.Config{URL: "http://" + address(t), Database: database, Password: func() (string, error) { return password, nil }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// trail is a recorded trail: one spool, its keys, and the witness.
type trail struct {
	t       testing.TB
	db      *clickhouse.DB
	spool   *audit.Spool
	signer  *audit.Checkpointer
	keys    audit.Keys
	witness string
	calls   []uuid.UUID
	stop    func()
}

// record starts a trail in a database of its own.
func record(t testing.TB, database string) *trail {
	t.Helper()
	dir := t.TempDir()
	log := slog.New(slog.DiscardHandler)
	spool, err := audit.Open(audit.SpoolConfig{Dir: filepath.Join(dir, "spool"), MaxBytes: 64 << 20, SegmentBytes: 1 << 20, Log: log, Metrics: audit.NewMetrics(prometheus.NewRegistry())})
	if err != nil {
		t.Fatal(err)
	}
	r := &trail{t: t, db: open(t, database), spool: spool, keys: audit.Keys{Path: filepath.Join(dir, "keys"), Name: "callgate/test"}, witness: filepath.Join(dir, "witness")}
	r.signer = audit.NewCheckpointer(audit.CheckpointerConfig{Spool: spool, Keys: r.keys, Node: "n1", Witness: audit.FileWitness{Path: r.witness}, Log: log,
		Metrics: audit.NewCheckpointMetrics(prometheus.NewRegistry())})
	shipper := clickhouse.NewShipper(clickhouse.ShipperConfig{Spool: spool, DB: r.db, SettleAfter: time.Millisecond, Checkpoints: r.signer, Log: log,
		Metrics: clickhouse.NewMetrics(prometheus.NewRegistry())})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		shipper.Run(ctx)
	}()
	stopped := false
	r.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		<-done
		spool.Close()
	}
	t.Cleanup(r.stop)
	return r
}

// sign signs what is there, and brings it to the witness.
func (r *trail) sign() {
	r.t.Helper()
	if err := r.signer.End(context.Background()); err != nil {
		r.t.Fatal(err)
	}
}

// shipped waits until ClickHouse has all events, rows and checkpoints.
func (r *trail) shipped(calls int) {
	r.t.Helper()
	conn := outside(r.t)
	for range 400 {
		var n uint64
		err := conn.QueryRow(context.Background(), "SELECT count() FROM "+r.database()+".calls").Scan(&n)
		if err == nil && n == uint64(calls) && r.signer.Status().Pending == 0 {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	r.t.Fatal("the trail does not arrive")
}

func (r *trail) database() string { return databaseOf(r.t) }

func databaseOf(t testing.TB) string {
	out := []byte("v_")
	for _, c := range []byte(t.Name()) {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' {
			out = append(out, c)
		} else {
			out = append(out, '_')
		}
	}
	return string(out[:min(len(out), 63)])
}

func (r *trail) append(events ...call.Event) {
	r.t.Helper()
	for _, e := range events {
		if err := r.spool.Append(context.Background(), e); err != nil {
			r.t.Fatal(err)
		}
	}
}

// call records one whole call.
func (r *trail) call(subject, body string) uuid.UUID {
	r.t.Helper()
	id, err := call.NewID()
	if err != nil {
		r.t.Fatal(err)
	}
	r.calls = append(r.calls, id)
	now := time.Now()
	r.append(
		call.Event{Kind: call.Held, CallID: id, Time: now, Approval: &call.ApprovalEvent{ID: "a-" + id.String(), Step: "asked", By: subject, Expires: now.Add(time.Hour), Function: "refund"}},
		call.Event{Kind: call.Decided, CallID: id, Time: now, Decided: &call.DecidedEvent{
			Identity: call.Identity{Issuer: "https://idp", Subject: subject, Kind: call.Human, Groups: []string{"g1", "g2"}}, Connection: "crm", Protocol: call.HTTP, Function: "refund",
			ArgsJSON: []byte(`{"to":"` + subject + `"}`), Decision: call.Decision{Outcome: call.Allow, Rule: "r", Reason: call.ReasonRule}, Method: "POST", Path: "/refunds?x=1",
			Headers: call.Headers{{Name: "user-agent", Value: "t"}}, Body: call.NewBody([]byte(body), 64, "text/plain", ""), Started: now, Took: time.Millisecond,
			Expect: []call.EventKind{call.Answered, call.Finished}}},
		call.Event{Kind: call.Answered, CallID: id, Time: now, Answered: &call.AnsweredEvent{Status: 200, RPCStatus: &call.RPCStatus{Code: 3, Message: "so and so"},
			Body: call.NewBody(bytes.Repeat([]byte("r"), 100), 10, "text/plain", ""), Masked: []call.Masked{{Rule: "m", Type: "card", Count: 1}},
			Original: &call.Original{Commitment: [32]byte{1}, Sealed: []byte("sealed")}}},
		call.Event{Kind: call.Finished, CallID: id, Time: now, Finished: &call.FinishedEvent{Status: 201, Started: now, Duration: time.Second, Upstream: "10.0.0.1:80"}},
	)
	return id
}

func (r *trail) trusted() []string {
	r.t.Helper()
	ring, err := r.keys.Load()
	if err != nil {
		r.t.Fatal(err)
	}
	return ring.Trusted()
}

func (r *trail) witnessed() [][]byte {
	r.t.Helper()
	data, err := os.ReadFile(r.witness)
	if err != nil {
		r.t.Fatal(err)
	}
	list, err := audit.ReadWitness(data)
	if err != nil {
		r.t.Fatal(err)
	}
	return list
}
