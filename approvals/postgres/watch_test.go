package postgres

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/callgate/callgate/approvals"
	"github.com/callgate/callgate/approvals/storetest"
)

// ear collects what a Watch tells.
type ear struct {
	mu   sync.Mutex
	ids  []string
	all  int
	told chan struct{}
}

func listenTo(t *testing.T, s *Store) *ear {
	t.Helper()
	e := &ear{told: make(chan struct{}, 1000)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- s.Watch(ctx, func(ids ...string) {
			e.mu.Lock()
			defer e.mu.Unlock()
			if e.ids = append(e.ids, ids...); len(ids) == 0 {
				e.all++
			}
			e.told <- struct{}{}
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return e
}

// until waits for something to have been told.
func (e *ear) until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for bound := time.After(30 * time.Second); ; {
		e.mu.Lock()
		there := ok()
		e.mu.Unlock()
		if there {
			return
		}
		select {
		case <-e.told:
		case <-bound:
			t.Fatalf("not told in time: %s", what)
		}
	}
}

func TestWatch(t *testing.T) {
	cfg := database(t, server)
	a, b := open(t, cfg), open(t, cfg)
	e := listenTo(t, b)
	e.until(t, "that it listens", func() bool { return e.all == 1 })
	var want []string
	for i, end := range []func(id string) error{
		func(id string) error { _, err := a.Decide(t.Context(), id, yes()); return err },
		func(id string) error {
			v := yes()
			v.Approve = false
			_, err := a.Decide(t.Context(), id, v)
			return err
		},
		func(id string) error { _, err := a.End(t.Context(), id, approvals.Canceled, time.Now()); return err },
		func(id string) error { _, err := a.Expire(t.Context(), time.Now().Add(time.Hour), 10); return err },
	} {
		h := storetest.NewHold(t, "apr_"+string(rune('a'+i)), time.Now())
		if _, err := a.Ask(t.Context(), h); err != nil {
			t.Fatal(err)
		}
		if err := end(h.ID); err != nil {
			t.Fatal(err)
		}
		want = append(want, h.ID)
	}
	e.until(t, "every end", func() bool {
		return !slices.ContainsFunc(want, func(id string) bool { return !slices.Contains(e.ids, id) })
	})
	// A connection that is cut is made anew, and whoever waits is told to look.
	must(t, a, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = current_database()`)
	e.until(t, "that it listens again", func() bool { return e.all == 2 })
	h := storetest.NewHold(t, "apr_x", time.Now())
	if _, err := a.Ask(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Decide(t.Context(), h.ID, yes()); err != nil {
		t.Fatal(err)
	}
	e.until(t, "a decision after that", func() bool { return slices.Contains(e.ids, h.ID) })
}

func yes() approvals.Verdict {
	return approvals.Verdict{Approve: true, By: approvals.Person{Issuer: "https://idp", Subject: "ann"}, At: time.Now()}
}
