package storetest

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/callgate/callgate/approvals"
	"github.com/callgate/callgate/call"
)

// trail is an audit trail that outlives who writes to it.
type trail struct {
	mu    sync.Mutex
	steps []string // "approval number step"
}

func (l *trail) Record(_ context.Context, e call.Event) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.steps = append(l.steps, fmt.Sprintf("%s %d %s", e.Approval.ID, e.Approval.Number, e.Approval.Step))
	return nil
}

func (l *trail) recorded(_ context.Context, id string, number int) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var n int
	return slices.ContainsFunc(l.steps, func(step string) bool {
		var of string
		_, err := fmt.Sscan(step, &of, &n)
		return err == nil && of == id && n == number
	}), nil
}

// A process that dies after it recorded steps, and before the store knows,
// leaves them to the next: the trail has each once, or at least, where it can't
// be asked, each under one number.
func testReplay(t *testing.T, open func(*testing.T) approvals.Store) {
	for name, asked := range map[string]bool{"trail asked": true, "trail not asked": false} {
		t.Run(name, func(t *testing.T) {
			l := &trail{}
			conf := approvals.Config{Recorder: l, Log: slog.New(slog.DiscardHandler), TrailLag: time.Millisecond}
			if asked {
				conf.Recorded = l.recorded
			}
			serve := func() *approvals.Service {
				conf.Store, conf.Metrics = open(t), approvals.NewMetrics(prometheus.NewRegistry())
				return approvals.New(conf)
			}
			died := serve() // it never runs, and so never says what it has recorded
			id, err := call.NewID()
			if err != nil {
				t.Fatal(err)
			}
			c := &call.Call{ID: id, Identity: call.Identity{Issuer: "https://idp", Subject: "joe"}, Connection: "crm", Function: "pay",
				Request: call.Request{Method: "POST", Path: "/pay/" + name}}
			ruling := call.Ruling{Rule: "r", PolicyVersion: "v", Hold: Terms(1)}
			ruling.Hold.Wait = call.WaitRetry
			first := died.Hold(t.Context(), c, &ruling)
			if first.Approval == nil {
				t.Fatalf("%+v", first)
			}
			ann := call.Identity{Issuer: "https://idp", Subject: "ann", Groups: []string{"leads"}}
			if _, err := died.Decide(t.Context(), first.Approval.ID, ann, approvals.Answer{Approve: true}); err != nil {
				t.Fatal(err)
			}
			Settle(t, conf.Store, serve().Run, 20*time.Second)
			want := []string{first.Approval.ID + " 1 asked", first.Approval.ID + " 2 approved"}
			got := slices.Sorted(slices.Values(l.steps))
			if !asked {
				if len(got) != 4 {
					t.Errorf("recorded %q: nothing was tried", got)
				}
				got = slices.Compact(got)
			}
			if !slices.Equal(got, want) {
				t.Errorf("recorded %q, want %q", got, want)
			}
		})
	}
}

// Settle runs a replica until the store knows of every step that it is on record,
// which must be within so long.
func Settle(t *testing.T, store approvals.Store, run func(context.Context) error, within time.Duration) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	for deadline := time.Now().Add(within); ; time.Sleep(5 * time.Millisecond) {
		n, err := store.Undelivered(t.Context(), approvals.TrailTarget)
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d steps were left", n)
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
