package console

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/callgate/callgate/approvals"
	"github.com/callgate/callgate/approvals/sqlite"
	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/control"
	"github.com/callgate/callgate/xds/policyv1"
)

// plane gives grants, after it failed as often as it is told to.
type plane struct {
	Control
	mu    sync.Mutex
	fail  int
	given map[string]*policyv1.Grant
	asked int
}

func (*plane) CheckGrant(*policyv1.Grant) error { return nil }

func (p *plane) Grant(_ context.Context, g *policyv1.Grant, author, reason string) (control.Grant, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked++
	if p.fail > 0 {
		p.fail--
		return control.Grant{}, errors.New("the disk is full")
	}
	if p.given[g.GetId()] == nil {
		p.given[g.GetId()] = g
	}
	return control.Grant{Grant: g, Author: author, Reason: reason}, nil
}

// journal is what was recorded.
type journal struct {
	mu    sync.Mutex
	steps []call.ApprovalEvent
}

func (j *journal) Record(_ context.Context, e call.Event) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.steps = append(j.steps, *e.Approval)
	return nil
}

// A grant that comes with an approval is given once: by who took the decision,
// or, where that failed or died at any point before it had noted that, by the
// next who looks.
func TestGrantIsGivenOnce(t *testing.T) {
	for name, c := range map[string]struct {
		fail int
		die  func(ctx context.Context, s *Server, d *approvals.Service, h *approvals.Hold) // after the decision
	}{
		"given at once":          {},
		"the plane failed once":  {fail: 1},
		"died before the giving": {die: func(context.Context, *Server, *approvals.Service, *approvals.Hold) {}},
		"died after the giving": {die: func(ctx context.Context, s *Server, _ *approvals.Service, h *approvals.Hold) {
			grants, by := h.Grants()
			_, _ = s.give(ctx, h, 0, grants[0], h.EndedAt.Add(grants[0].For), by[0])
		}},
		"died after it was on record": {die: func(ctx context.Context, s *Server, _ *approvals.Service, h *approvals.Hold) {
			_, _ = s.giveAll(ctx, h)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "approvals.db")
			p, j := &plane{fail: c.fail, given: map[string]*policyv1.Grant{}}, &journal{}
			serve := func() (*Server, *approvals.Service, func()) {
				store, err := sqlite.Open(t.Context(), file)
				if err != nil {
					t.Fatal(err)
				}
				d := approvals.New(approvals.Config{Store: store, Recorder: j, Log: slog.New(slog.DiscardHandler), Metrics: approvals.NewMetrics(prometheus.NewRegistry())})
				return New(Config{Approvals: d, Outbox: store, Control: p, Log: slog.New(slog.DiscardHandler)}), d, func() {
					if err := store.Close(); err != nil {
						t.Error(err)
					}
				}
			}
			s, d, stop := serve()
			h := hold
			h.AskedAt = time.Now()
			h.Expires, h.Terms.Stages = h.AskedAt.Add(time.Hour), []call.Stage{{Approvers: call.Approvers{Groups: []string{"finance"}}}}
			ruling := call.Ruling{Rule: h.Rule, PolicyVersion: "v", Hold: h.Terms}
			ruling.Hold.Wait = call.WaitRetry
			id, err := call.NewID()
			if err != nil {
				t.Fatal(err)
			}
			asked := d.Hold(t.Context(), &call.Call{ID: id, Identity: h.Identity, Connection: h.Connection, Function: h.Function}, &ruling)
			answer := approvals.Answer{Approve: true, Grant: approvals.Grant{For: time.Hour, Bounds: "call.args.amount < 5"}}
			switch {
			case c.die != nil:
				decided, err := d.Decide(t.Context(), asked.Approval.ID, somebody["bob"], answer)
				if err != nil {
					t.Fatal(err)
				}
				c.die(t.Context(), s, d, &decided)
			default:
				_, given, err := s.Decide(t.Context(), asked.Approval.ID, somebody["bob"], answer)
				if (err == nil) != (c.fail == 0) || len(given) == c.fail {
					t.Fatalf("%v %v", given, err)
				}
			}
			stop()

			s, d, stop = serve() // after a restart
			defer stop()
			ctx, end := context.WithCancel(t.Context())
			var giving sync.WaitGroup
			giving.Go(func() { s.GiveGrants(ctx) })
			for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
				n, err := s.cfg.Outbox.(approvals.Outbox).Undelivered(t.Context(), approvals.GrantTarget)
				if err != nil {
					t.Fatal(err)
				}
				if n == 0 {
					break
				}
				if time.Now().After(deadline) {
					t.Fatal("it was not given")
				}
			}
			end()
			giving.Wait()
			if len(p.given) != 1 {
				t.Fatalf("given %v", p.given)
			}
			decided, err := d.Get(t.Context(), asked.Approval.ID)
			if err != nil {
				t.Fatal(err)
			}
			for id, g := range p.given {
				if !decided.Granted(id) || !g.GetUntil().AsTime().Equal(decided.EndedAt.Add(time.Hour)) || g.GetWhen() != "call.args.amount < 5" {
					t.Errorf("%v %+v", g, decided.Marks)
				}
			}
			j.steps = slices.DeleteFunc(j.steps, func(e call.ApprovalEvent) bool { return e.Step != string(approvals.StepGranted) })
			if len(j.steps) != 1 || j.steps[0].Number != 3 || j.steps[0].By != "i|bob" || !j.steps[0].Expires.Equal(decided.EndedAt.Add(time.Hour)) {
				t.Errorf("recorded %+v", j.steps)
			}
		})
	}
}
