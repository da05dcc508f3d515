package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/callgate/callgate/approvals"
	"github.com/callgate/callgate/approvals/storetest"
)

// cutter stands between a store and the server, and cuts connections where a
// test says so.
type cutter struct {
	listener net.Listener
	server   string

	mu    sync.Mutex
	fault fault
	after func() // of the next cut
}

// fault is where the next connection is cut.
type fault int

const (
	none       fault = iota
	unsent           // COMMIT does not reach the server
	unanswered       // COMMIT does, and its answer does not come back
	halfRead         // after the first row of an answer
)

func cut(t *testing.T, cfg Config) (*cutter, Config) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(cfg.URL)
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{listener: l, server: u.Host}
	u.Host = l.Addr().String()
	cfg.URL = u.String()
	var open sync.WaitGroup
	open.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			open.Go(func() { c.serve(client) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); open.Wait() }) // registered first, so that stores are closed by then
	return c, cfg
}

// next cuts the next connection that comes to where the fault is, and then calls
// after.
func (c *cutter) next(f fault, after func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fault, c.after = f, after
}

// take tells whether this is where to cut.
func (c *cutter) take(f fault) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fault != f {
		return false
	}
	c.fault = none
	if c.after != nil {
		c.after()
	}
	return true
}

func (c *cutter) serve(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", c.server)
	if err != nil {
		return
	}
	defer server.Close()
	from, to := pgproto3.NewBackend(client, client), pgproto3.NewFrontend(server, server)
	hello, err := from.ReceiveStartupMessage()
	if err != nil {
		return
	}
	to.Send(hello)
	if to.Flush() != nil {
		return
	}
	var mu sync.Mutex
	dropping := false // answers
	back := make(chan struct{})
	go func() {
		defer close(back)
		defer client.Close()
		for {
			m, err := to.Receive()
			if err != nil {
				return
			}
			switch m := m.(type) {
			case *pgproto3.AuthenticationSASL:
				_ = from.SetAuthType(pgproto3.AuthTypeSASL)
			case *pgproto3.AuthenticationSASLContinue:
				_ = from.SetAuthType(pgproto3.AuthTypeSASLContinue)
			case *pgproto3.AuthenticationSASLFinal:
				_ = from.SetAuthType(pgproto3.AuthTypeSASLFinal)
			case *pgproto3.ReadyForQuery:
				mu.Lock()
				over := dropping && m.TxStatus == 'I'
				mu.Unlock()
				if over { // it is done, and nobody is told
					return
				}
			}
			mu.Lock()
			drop := dropping
			mu.Unlock()
			if drop {
				continue
			}
			from.Send(m)
			if from.Flush() != nil {
				return
			}
			if _, row := m.(*pgproto3.DataRow); row && c.take(halfRead) {
				return
			}
		}
	}()
	defer func() { _ = server.Close(); <-back }()
	commits := map[string]bool{} // statements
	for {
		m, err := from.Receive()
		if err != nil {
			return
		}
		switch m := m.(type) {
		case *pgproto3.Parse:
			commits[m.Name] = m.Query == "COMMIT"
		case *pgproto3.Bind:
			if commits[m.PreparedStatement] {
				if c.take(unsent) {
					return
				}
				if c.take(unanswered) {
					mu.Lock()
					dropping = true
					mu.Unlock()
				}
			}
		}
		to.Send(m)
		if to.Flush() != nil {
			return
		}
	}
}

// terminate ends the connections of stores on a database, as a restart does.
func terminate(t *testing.T, cfg Config) {
	t.Helper()
	u, err := url.Parse(cfg.URL)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), server.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	for left := 1; left > 0; {
		if err := conn.QueryRow(t.Context(), `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = $1`, strings.Trim(u.Path, "/")).Scan(&left); err != nil {
			t.Fatal(err)
		}
	}
}

// steps are what a store does of its own accord or is asked for, one after the
// other on one hold, with how many steps the hold has taken then.
var steps = []struct {
	name string
	do   func(ctx context.Context, s *Store, h approvals.Hold) (approvals.Change, error)
	want approvals.State
	n    int
}{
	{"ask", func(ctx context.Context, s *Store, h approvals.Hold) (approvals.Change, error) { return s.Ask(ctx, h) }, approvals.Open, 1},
	{"mark", func(ctx context.Context, s *Store, h approvals.Hold) (approvals.Change, error) {
		return s.Mark(ctx, h.ID, approvals.Mark{Name: approvals.StepSeen, By: "ann", At: h.AskedAt})
	}, approvals.Open, 2},
	{"decide", func(ctx context.Context, s *Store, h approvals.Hold) (approvals.Change, error) {
		v := yes()
		v.At = h.AskedAt
		return s.Decide(ctx, h.ID, v)
	}, approvals.Approved, 3},
	{"use", func(ctx context.Context, s *Store, h approvals.Hold) (approvals.Change, error) {
		return s.Use(ctx, h.ID, approvals.Use{Call: h.CallID, Binding: h.Binding, At: h.AskedAt})
	}, approvals.Used, 4},
	{"break glass", func(ctx context.Context, s *Store, h approvals.Hold) (approvals.Change, error) {
		h.ID += "_b"
		h.BreakGlass = "fire"
		return s.Break(ctx, h)
	}, approvals.BrokeGlass, 1},
	{"review", func(ctx context.Context, s *Store, h approvals.Hold) (approvals.Change, error) {
		return s.Judge(ctx, h.ID+"_b", approvals.Review{By: approvals.Person{Issuer: "https://idp", Subject: "bob"}, Justified: true, Comment: "it burned", At: h.AskedAt})
	}, approvals.BrokeGlass, 2},
	{"ask again", func(ctx context.Context, s *Store, h approvals.Hold) (approvals.Change, error) {
		h.ID += "_c"
		return s.Ask(ctx, h)
	}, approvals.Open, 1},
	{"end", func(ctx context.Context, s *Store, h approvals.Hold) (approvals.Change, error) {
		return s.End(ctx, h.ID+"_c", approvals.Canceled, h.AskedAt)
	}, approvals.Canceled, 2},
	{"ask for what is not decided", func(ctx context.Context, s *Store, h approvals.Hold) (approvals.Change, error) {
		h.ID += "_d"
		return s.Ask(ctx, h)
	}, approvals.Open, 1},
	{"expire", func(ctx context.Context, s *Store, h approvals.Hold) (approvals.Change, error) {
		out, err := s.Expire(ctx, h.Expires.Add(time.Hour), 10)
		if err != nil || len(out) != 1 {
			return approvals.Change{}, fmt.Errorf("%d have expired, %w", len(out), err)
		}
		return out[0], nil
	}, approvals.Expired, 2},
}

// Each step is done, and done once, whatever becomes of the connection that it
// is taken on.
func TestDeadConnections(t *testing.T) {
	for name, f := range map[string]fault{"died before": none, "COMMIT does not arrive": unsent, "COMMIT is not answered": unanswered} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := database(t, server)
			between, through := cut(t, cfg)
			s, straight := open(t, through), open(t, cfg)
			for _, store := range []*Store{s, straight} {
				if err := store.Check(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			h := storetest.NewHold(t, "apr_a", time.Now())
			h.Owner = ""
			for _, step := range steps {
				if f == none {
					busy(t, s)()
					terminate(t, cfg)
				} else {
					between.next(f, nil)
				}
				got, err := step.do(t.Context(), s, h)
				if err != nil {
					t.Fatalf("%s: %v", step.name, err)
				}
				if f != none && between.take(f) {
					t.Fatalf("%s: the connection was not cut", step.name)
				}
				is, err := straight.Get(t.Context(), got.Hold.ID)
				if err != nil || is.State != step.want || got.Hold.State != step.want || is.Steps != step.n {
					t.Errorf("%s: told %s, is %s after %d steps, %v", step.name, got.Hold.State, is.State, is.Steps, err)
				}
				if list, err := straight.History(t.Context(), is.ID); err != nil || len(list) != step.n {
					t.Errorf("%s: %d steps in its history, %v", step.name, len(list), err)
				}
			}

			d := approvals.Delegation{ID: "del_a", From: h.Identity, To: "https://idp|bob", Created: h.AskedAt, Until: h.AskedAt.Add(time.Hour)}
			for _, step := range []struct {
				name string
				do   func() error
				want int // are in force
			}{
				{"delegate", func() error { return s.Delegate(t.Context(), d) }, 1},
				{"undelegate", func() error { _, err := s.Undelegate(t.Context(), d.ID, "bob", h.AskedAt); return err }, 0},
			} {
				if f == none {
					busy(t, s)()
					terminate(t, cfg)
				} else {
					between.next(f, nil)
				}
				if err := step.do(); err != nil {
					t.Errorf("%s: %v", step.name, err)
				}
				if list, err := straight.Delegations(t.Context(), h.AskedAt); err != nil || len(list) != step.want {
					t.Errorf("%s: %d in force, %v", step.name, len(list), err)
				}
			}
		})
	}
}

// busy takes several connections of a store's pool; they are free again when it
// is told so.
func busy(t *testing.T, s *Store) (free func()) {
	t.Helper()
	var all []*pgxpool.Conn
	for range 5 {
		c, err := s.pool.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	return func() {
		for _, c := range all {
			c.Release()
		}
	}
}

// A COMMIT that nobody can ask about is told to be in doubt, and not repeated.
func TestInDoubt(t *testing.T) {
	cfg := database(t, server)
	between, through := cut(t, cfg)
	s, straight := open(t, through), open(t, cfg)
	h := storetest.NewHold(t, "apr_a", time.Now())
	if _, err := s.Ask(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	between.next(unanswered, func() { _ = between.listener.Close() })
	if _, err := s.Decide(t.Context(), h.ID, yes()); !errors.Is(err, errInDoubt) {
		t.Errorf("nobody can say whether it is decided: %v", err)
	}
	if got, err := straight.Get(t.Context(), h.ID); err != nil || got.State != approvals.Approved || len(got.Verdicts) != 1 {
		t.Errorf("%+v %v", got.Status, err)
	}

	// What leaves no trace of its own can't be told from what was not done.
	between, through = cut(t, cfg)
	s = open(t, through)
	h = storetest.NewHold(t, "apr_b", time.Now())
	h.Owner = ""
	if _, err := s.Ask(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	between.next(unanswered, nil)
	if _, err := s.Ask(t.Context(), h); !errors.Is(err, errInDoubt) {
		t.Errorf("taken up again: %v", err)
	}
	if got, err := straight.Get(t.Context(), h.ID); err != nil || got.Attempts != 2 {
		t.Errorf("%d attempts, %v", got.Attempts, err)
	}
}

// What a broken answer has told of is not told twice.
func TestHalfAnAnswer(t *testing.T) {
	cfg := database(t, server)
	between, through := cut(t, cfg)
	s := open(t, through)
	const n = 3
	for i := range n {
		h := storetest.NewHold(t, "apr_"+strings.Repeat("a", i+1), time.Now())
		if _, err := s.Ask(t.Context(), h); err != nil {
			t.Fatal(err)
		}
		if err := s.Delegate(t.Context(), approvals.Delegation{ID: h.ID, Created: h.AskedAt, Until: h.Expires}); err != nil {
			t.Fatal(err)
		}
	}
	h, err := s.Mark(t.Context(), "apr_a", approvals.Mark{Name: approvals.StepSeen, By: "ann", At: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	for name, read := range map[string]struct {
		do   func() (int, error)
		want int
	}{
		"holds":       {func() (int, error) { l, err := s.List(t.Context(), approvals.Filter{}); return len(l), err }, n},
		"steps":       {func() (int, error) { l, err := s.History(t.Context(), h.Hold.ID); return len(l), err }, 2},
		"delegations": {func() (int, error) { l, err := s.Delegations(t.Context(), time.Time{}); return len(l), err }, n},
	} {
		between.next(halfRead, nil)
		if got, err := read.do(); err != nil || got != read.want {
			t.Errorf("%s: %d, not %d, %v", name, got, read.want, err)
		}
		if between.take(halfRead) {
			t.Errorf("%s: the answer was not broken", name)
		}
	}
	between.next(halfRead, nil)
	leased, err := s.Lease(t.Context(), "hook", time.Now().Add(time.Second), time.Now().Add(time.Minute), 10)
	if err != nil {
		t.Fatal(err)
	}
	// They were leased to nobody, and come when that ends.
	more, err := s.Lease(t.Context(), "hook", time.Now().Add(2*time.Minute), time.Now().Add(time.Hour), 10)
	if err != nil || len(leased)+len(more) != n {
		t.Errorf("leased %d and %d notices, not %d, %v", len(leased), len(more), n, err)
	}
}

// The database is killed and started again while the store has connections: what
// comes next is done at once.
func TestKilledWhileIdle(t *testing.T) {
	db := durable(t)
	s := open(t, configOf(t, db.URL("postgres")))
	for i := range kills(2) {
		h := storetest.NewHold(t, "apr_"+strings.Repeat("a", i+1), time.Now())
		if _, err := s.Ask(t.Context(), h); err != nil {
			t.Fatal(err)
		}
		free := busy(t, s) // so that none has been idle for long
		if err := db.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := db.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		free()
		if _, err := s.Decide(t.Context(), h.ID, yes()); err != nil {
			t.Error(err)
		}
	}
}
