package approvals_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/callgate/callgate/approvals"
	"github.com/callgate/callgate/approvals/sqlite"
	"github.com/callgate/callgate/approvals/storetest"
	"github.com/callgate/callgate/call"
)

// trail is a recorder that can be made to fail.
type trail struct {
	mu     sync.Mutex
	events []call.Event
	fail   map[string]error
}

func (r *trail) Record(ctx context.Context, e call.Event) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.fail[e.Approval.Step]; err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	r.events = append(r.events, e)
	// A call may be released before the decision that does it is on record; what
	// says how the two came is their number.
	for i := len(r.events) - 1; i > 0 && e.Approval.ID == r.events[i-1].Approval.ID && e.Approval.Number < r.events[i-1].Approval.Number; i-- {
		r.events[i-1], r.events[i] = r.events[i], r.events[i-1]
	}
	return nil
}

func (r *trail) want(t *testing.T, steps ...string) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	var got []string
	for _, e := range r.events {
		got = append(got, string(e.Kind)+" "+e.Approval.Step)
	}
	if !slices.Equal(got, steps) {
		t.Errorf("recorded %q, want %q", got, steps)
	}
}

type bell struct{ asked chan approvals.Hold }

func (b *bell) Targets(approvals.Hold) []string { return []string{"hook"} }

func (b *bell) Stepped(h approvals.Hold, s approvals.Step) {
	if s.Name == approvals.StepAsked {
		b.asked <- h
	}
}

// desk is a service with its surroundings, inside a synctest bubble.
type desk struct {
	*approvals.Service
	store  approvals.Store
	memory *storetest.Memory // nil with another store
	trail  *trail
	asked  chan approvals.Hold
	reg    *prometheus.Registry
	log    *strings.Builder
	// revoked are subjects whose tokens of before a time are refused.
	revoked map[string]time.Time
}

func (d *desk) admit(who call.Identity) error {
	iat, dated := who.Claims["iat"].(int64)
	if before, ok := d.revoked[who.Subject]; ok && (!dated || time.Unix(iat, 0).Before(before)) {
		return errors.New("revoked")
	}
	return nil
}

func newDesk(store approvals.Store) *desk {
	d := &desk{store: store, trail: &trail{fail: map[string]error{}}, asked: make(chan approvals.Hold, 10000), reg: prometheus.NewRegistry(), log: &strings.Builder{}}
	d.memory, _ = store.(*storetest.Memory)
	d.Service = approvals.New(approvals.Config{Store: store, Recorder: d.trail, Key: []byte("test-only"), Log: slog.New(slog.NewTextHandler(&lockedWriter{w: d.log}, nil)),
		Metrics: approvals.NewMetrics(d.reg), Notifier: &bell{d.asked}, Keep: 2 * time.Hour, Admit: d.admit})
	return d
}

type lockedWriter struct {
	mu sync.Mutex
	w  *strings.Builder
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// run runs the service until the returned function is called.
func (d *desk) run(t *testing.T) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := d.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	return func() { cancel(); <-done }
}

var (
	leads = call.Ruling{Action: call.ActionHold, Rule: "big-refunds", Reason: call.ReasonRule, Message: "ask", PolicyVersion: "v7", Shadow: []string{"s"},
		Hold: call.Hold{Stages: []call.Stage{{Approvers: call.Approvers{Groups: []string{"leads"}}}}, Timeout: time.Minute}}
	ann = call.Identity{Issuer: "https://idp", Subject: "ann", Kind: call.Human, Groups: []string{"leads"}}
)

func refund(t testing.TB) *call.Call {
	t.Helper()
	id, err := call.NewID()
	if err != nil {
		t.Fatal(err)
	}
	return &call.Call{ID: id, Identity: call.Identity{Issuer: "https://idp", Subject: "joe", Kind: call.Human, Actors: []call.Actor{{Issuer: "https://idp", Subject: "bot"}}},
		Connection: "crm", Protocol: call.HTTP, Function: "refunds.create", ArgsJSON: []byte(`{"amount":150,"password":"hunter2"}`),
		Request: call.Request{Method: "POST", Authority: "crm", Path: "/refunds?api_key=hunter2&x=1", Body: []byte(`{"amount":150,"password":"hunter2"}`),
			Headers: call.Headers{{Name: "content-type", Value: "application/json"}, {Name: "authorization", Value: "Bearer hunter2"}}}}
}

func (d *desk) Hold(ctx context.Context, c *call.Call, r call.Ruling) call.Decision {
	return *d.Service.Hold(ctx, c, &r)
}

func (d *desk) say(id string, by call.Identity, approve bool, comment string) error {
	_, err := d.Decide(context.Background(), id, by, approvals.Answer{Approve: approve, Comment: comment})
	return err
}

// elsewhere approves past the service, as another process would.
func elsewhere(t *testing.T, s approvals.Store, id, by string, at time.Time) {
	t.Helper()
	if _, err := s.Decide(t.Context(), id, approvals.Verdict{Approve: true, By: approvals.Person{Issuer: "https://idp", Subject: by}, At: at}); err != nil {
		t.Error(err)
	}
}

// hold starts a hold and returns it as the approver is told of it, and where
// its decision will come.
func (d *desk) hold(ctx context.Context, c *call.Call, r call.Ruling) (approvals.Hold, <-chan call.Decision) {
	out := make(chan call.Decision, 1)
	go func() { out <- d.Hold(ctx, c, r) }()
	return <-d.asked, out
}

func check(t *testing.T, got call.Decision, outcome call.Outcome, reason call.Reason) {
	t.Helper()
	if got.Outcome != outcome || got.Reason != reason || got.Message == "" || got.Rule != "big-refunds" || got.PolicyVersion != "v7" || !slices.Equal(got.Shadow, []string{"s"}) {
		t.Errorf("got %+v, want %s %s", got, outcome, reason)
	}
}

func TestApproved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(storetest.NewMemory())
		c := refund(t)
		h, out := d.hold(t.Context(), c, leads)
		d.trail.want(t, "held asked")
		if e := d.trail.events[0]; e.CallID != c.ID || e.Approval.Binding == c.Binding("v7") || e.Approval.Binding == [32]byte{} || e.Approval.ID != h.ID || e.Approval.Rule != "big-refunds" ||
			e.Approval.Function != "refunds.create" || !e.Approval.Expires.Equal(h.Expires) {
			t.Errorf("got %+v", e.Approval)
		}
		time.Sleep(10 * time.Second)
		if err := d.say(" "+strings.ToUpper(h.ID)+"\n", ann, true, "fine"); err != nil {
			t.Fatal(err)
		}
		got := <-out // at once: nothing polls here
		check(t, got, call.HoldAllow, call.ReasonApproved)
		a := got.Approval
		if a.ID != h.ID || !slices.Equal(a.By, []string{"https://idp|ann"}) || a.Comment != "fine" || a.HeldFor != 10*time.Second ||
			a.EndedAt.Sub(a.AskedAt) != a.HeldFor || a.Expires.Sub(a.AskedAt) != time.Minute || a.Attempts != 1 {
			t.Errorf("got %+v", a)
		}
		d.trail.want(t, "held asked", "approved approved", "approved used")
		for i, e := range d.trail.events {
			by, comment := "https://idp|joe", ""
			if i == 1 {
				by, comment = "https://idp|ann", "fine"
			}
			if e.Approval.Binding != d.trail.events[0].Approval.Binding || e.Approval.By != by || e.Approval.Comment != comment || e.CallID != c.ID {
				t.Errorf("got %+v", e.Approval)
			}
		}
		if st, err := d.store.Status(t.Context(), h.ID); err != nil || st.State != approvals.Used {
			t.Errorf("%+v %v", st, err)
		}
		if err := d.say(h.ID, ann, false, ""); !errors.Is(err, approvals.ErrDecided) || !strings.Contains(err.Error(), "https://idp|ann") {
			t.Errorf("decided again: %v", err)
		}
		for name, want := range map[string]float64{"callgate_approvals_asked_total": 1, "callgate_approvals_waiting": 0} {
			if got := gathered(t, d.reg, name); got != want {
				t.Errorf("%s is %v", name, got)
			}
		}
		if n, err := testutil.GatherAndCount(d.reg, "callgate_approvals_ended_total", "callgate_approvals_decision_seconds"); err != nil || n != 2 {
			t.Errorf("%d metrics, %v", n, err)
		}
		if strings.Contains(d.log.String(), "hunter2") {
			t.Error("a secret is in the log")
		}
	})
}

func gathered(t *testing.T, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.Metric[0].GetCounter().GetValue() + f.Metric[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

func TestRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(storetest.NewMemory())
		h, out := d.hold(t.Context(), refund(t), leads)
		if err := d.say(h.ID, ann, false, "too much"); err != nil {
			t.Fatal(err)
		}
		got := <-out
		check(t, got, call.HoldDeny, call.ReasonRefused)
		if !strings.Contains(got.Message, "too much") || got.Approval.Comment != "too much" {
			t.Errorf("got %+v", got)
		}
		d.trail.want(t, "held asked", "approved refused")
	})
}

func TestExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(storetest.NewMemory())
		defer d.run(t)()
		h, out := d.hold(t.Context(), refund(t), leads)
		got := <-out
		check(t, got, call.HoldExpired, call.ReasonApprovalExpired)
		if got.Approval.HeldFor != time.Minute || got.Approval.By != nil {
			t.Errorf("got %+v", got.Approval)
		}
		if err := d.say(h.ID, ann, true, ""); !errors.Is(err, approvals.ErrExpired) || !strings.Contains(err.Error(), "make the call again") {
			t.Errorf("decided after the end: %v", err)
		}
		time.Sleep(5 * time.Second) // the sweeper finds nothing left to do
		d.trail.want(t, "held asked", "approved expired")
	})
}

func TestCallerHangsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(storetest.NewMemory())
		ctx, cancel := context.WithCancel(t.Context())
		h, out := d.hold(ctx, refund(t), leads)
		cancel()
		check(t, <-out, call.HoldExpired, call.ReasonCanceled)
		if err := d.say(h.ID, ann, true, ""); !errors.Is(err, approvals.ErrCanceled) {
			t.Errorf("decided about a call that is gone: %v", err)
		}
		d.trail.want(t, "held asked", "approved canceled")
	})
}

// Approve and cancel meet: the approval stands, and no call passes on it.
func TestCancelAgainstApprove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(storetest.NewMemory())
		ctx, cancel := context.WithCancel(t.Context())
		h, out := d.hold(ctx, refund(t), leads)
		once := sync.Once{}
		d.memory.Before(func(step string) {
			if step == "end" { // the caller is gone, the hold not yet canceled
				once.Do(func() {
					if err := d.say(h.ID, ann, true, ""); err != nil {
						t.Error(err)
					}
				})
			}
		})
		cancel()
		check(t, <-out, call.HoldExpired, call.ReasonCanceled)
		if st, err := d.store.Status(t.Context(), h.ID); err != nil || st.State != approvals.Approved {
			t.Errorf("%+v %v", st, err)
		}
		d.trail.want(t, "held asked", "approved approved")
	})
}

// Approve and expire meet: a decision taken in time counts.
func TestExpireAgainstApprove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(storetest.NewMemory())
		h, out := d.hold(t.Context(), refund(t), leads)
		d.memory.Before(func(step string) {
			if step == "end" {
				// Decided a moment before the end, by another process.
				elsewhere(t, d.store, h.ID, "ann", h.Expires.Add(-1))
			}
		})
		check(t, <-out, call.HoldAllow, call.ReasonApproved)
		d.trail.want(t, "held asked", "approved used")
	})
}

// Another process decides; this one sees it at the next poll.
func TestDecidedElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := storetest.NewMemory()
		here, there := newDesk(m), newDesk(m)
		defer here.run(t)()
		time.Sleep(time.Second)
		h, out := here.hold(t.Context(), refund(t), leads)
		time.Sleep(time.Second)
		asked := time.Now()
		if err := there.say(h.ID, ann, true, ""); err != nil {
			t.Fatal(err)
		}
		check(t, <-out, call.HoldAllow, call.ReasonApproved)
		if d := time.Since(asked); d > 250*time.Millisecond {
			t.Errorf("seen after %s", d)
		}
	})
}

// A decision made before the poller has taken its first look is not missed.
func TestDecidedElsewhereAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := storetest.NewMemory()
		here, there := newDesk(m), newDesk(m)
		h, out := here.hold(t.Context(), refund(t), leads)
		if err := there.say(h.ID, ann, true, ""); err != nil {
			t.Fatal(err)
		}
		defer here.run(t)()
		asked := time.Now()
		check(t, <-out, call.HoldAllow, call.ReasonApproved)
		if d := time.Since(asked); d > 250*time.Millisecond {
			t.Errorf("seen after %s", d)
		}
	})
}

// One look-out serves every waiting call.
func TestOnePoller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := storetest.NewMemory()
		d := newDesk(m)
		defer d.run(t)()
		var outs []<-chan call.Decision
		for i := range 2000 {
			c := refund(t)
			c.Identity.Subject = fmt.Sprint("joe-", i/100)
			_, out := d.hold(t.Context(), c, leads)
			outs = append(outs, out)
		}
		time.Sleep(time.Second)
		var mu sync.Mutex
		steps := map[string]int{}
		m.Before(func(step string) { mu.Lock(); defer mu.Unlock(); steps[step]++ })
		time.Sleep(10 * time.Second)
		mu.Lock()
		if steps["changes"] == 0 || steps["changes"] > 41 || steps["status"] > 0 || steps["get"] > 0 {
			t.Errorf("in ten seconds: %v", steps)
		}
		mu.Unlock()
		for _, out := range outs {
			check(t, <-out, call.HoldExpired, call.ReasonApprovalExpired)
		}
	})
}

// A hold whose process died stays open for decision until its end, and then
// expires; nobody's call passes on it.
func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := storetest.NewMemory()
		now := time.Now()
		a, b := storetest.NewHold(t, "apr_a", now), storetest.NewHold(t, "apr_b", now)
		for _, h := range []approvals.Hold{a, b} {
			if _, err := m.Ask(t.Context(), h); err != nil {
				t.Fatal(err)
			}
		}
		d := newDesk(m)
		defer d.run(t)()
		time.Sleep(30 * time.Second)
		if err := d.say(a.ID, ann, true, ""); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Minute)
		if err := d.say(b.ID, ann, true, ""); !errors.Is(err, approvals.ErrExpired) {
			t.Errorf("decided after the end: %v", err)
		}
		// What the process that died had not recorded was recorded here.
		d.trail.want(t, "held asked", "held asked", "approved approved", "approved expired", "approved expired")
		if _, err := m.Use(t.Context(), a.ID, approvals.Use{Binding: a.Binding, At: time.Now()}); !errors.Is(err, approvals.ErrExpired) {
			t.Errorf("an approval outlived its end: %v", err)
		}
		time.Sleep(4 * time.Hour)
		if holds, err := d.List(t.Context(), approvals.Filter{}, nil); err != nil || len(holds) > 0 {
			t.Errorf("kept for ever: %v %v", holds, err)
		}
	})
}

func TestStoreAway(t *testing.T) {
	gone := errors.New("disk I/O error")
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(storetest.NewMemory())
		defer d.run(t)()
		d.memory.Fail(gone)
		got := d.Hold(t.Context(), refund(t), leads)
		check(t, got, call.Deny, call.ReasonApprovalUnavailable)
		if got.Approval != nil {
			t.Errorf("an approval that nobody was asked for: %+v", got.Approval)
		}
		if err := d.say("apr_x", ann, true, ""); err == nil || !strings.Contains(err.Error(), "the approval store is away, try again") {
			t.Errorf("got %v", err)
		}
		if _, err := d.List(t.Context(), approvals.Filter{}, nil); !errors.Is(err, gone) {
			t.Errorf("got %v", err)
		}
		d.memory.Fail(nil)
		// Away for a while in the middle: the hold waits on.
		h, out := d.hold(t.Context(), refund(t), leads)
		time.Sleep(time.Second)
		d.memory.Fail(gone)
		time.Sleep(5 * time.Second)
		d.memory.Fail(nil)
		elsewhere(t, d.store, h.ID, "x", time.Now())
		check(t, <-out, call.HoldAllow, call.ReasonApproved)
		// Away until the end: denied.
		_, out = d.hold(t.Context(), refund(t), leads)
		d.memory.Fail(gone)
		check(t, <-out, call.HoldDeny, call.ReasonApprovalUnavailable)
		// Away when the approval is to be taken up: denied.
		d.memory.Fail(nil)
		h, out = d.hold(t.Context(), refund(t), leads)
		d.memory.Before(func(step string) {
			if step == "use" {
				d.memory.Fail(gone)
			}
		})
		if err := d.say(h.ID, ann, true, ""); err != nil {
			t.Fatal(err)
		}
		check(t, <-out, call.HoldDeny, call.ReasonApprovalUnavailable)
	})
}

// A wake-up that finds the store away is not forgotten.
func TestStoreAwayWhenWoken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(storetest.NewMemory())
		h, out := d.hold(t.Context(), refund(t), leads)
		d.memory.Before(func(step string) {
			if step == "status" {
				d.memory.Before(nil)
				d.memory.Fail(errors.New("connection refused"))
			}
		})
		if err := d.say(h.ID, ann, true, ""); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		d.memory.Fail(nil)
		decided := time.Now()
		check(t, <-out, call.HoldAllow, call.ReasonApproved)
		if d := time.Since(decided); d > time.Second {
			t.Errorf("released after %s", d)
		}
	})
}

// A store that hangs keeps a call no longer than one step may take.
func TestStoreHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(storetest.NewMemory())
		d.memory.Before(func(step string) {
			if step == "ask" {
				time.Sleep(5*time.Second + 1)
			}
		})
		check(t, d.Hold(t.Context(), refund(t), leads), call.Deny, call.ReasonApprovalUnavailable)
	})
}

// asking is a store that something becomes of when it is asked.
type asking struct {
	approvals.Store
	ask func(context.Context) error
}

func (s asking) Ask(ctx context.Context, _ approvals.Hold) (approvals.Change, error) {
	return approvals.Change{}, s.ask(ctx)
}

// What is done for a caller ends when the caller hangs up.
func TestHangingUpEndsAStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(asking{storetest.NewMemory(), func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }})
		ctx, hangUp := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, hangUp)
		began := time.Now()
		check(t, d.Hold(ctx, refund(t), leads), call.Deny, call.ReasonCanceled)
		if took := time.Since(began); took != time.Second {
			t.Errorf("ended after %s", took)
		}
		check(t, d.Hold(ctx, refund(t), leads), call.Deny, call.ReasonCanceled) // nor does it begin
	})
}

// A fault while people are asked is the one's to deal with who has the call held.
func TestFaultWhileAsking(t *testing.T) {
	d := newDesk(asking{storetest.NewMemory(), func(context.Context) error { panic("boom") }})
	defer func() {
		if p := recover(); p != "boom" {
			t.Errorf("recovered %v", p)
		}
	}()
	d.Hold(t.Context(), refund(t), leads)
	t.Error("it was held")
}

// No step takes effect that is not on record.
func TestRecordAway(t *testing.T) {
	full := errors.New("spool: no space left")
	for _, step := range []string{"asked", "used", "approved", "expired"} {
		t.Run(step, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDesk(storetest.NewMemory())
				d.trail.fail[step] = full
				if step == "asked" {
					check(t, d.Hold(t.Context(), refund(t), leads), call.HoldDeny, call.ReasonAuditUnavailable)
					if holds, err := d.List(t.Context(), approvals.Filter{State: approvals.Open}, nil); err != nil || len(holds) > 0 || len(d.asked) > 0 {
						t.Errorf("somebody was asked: %v %v", holds, err)
					}
					return
				}
				h, out := d.hold(t.Context(), refund(t), leads)
				if step == "expired" {
					check(t, <-out, call.HoldExpired, call.ReasonApprovalExpired)
					return
				}
				err := d.say(h.ID, ann, true, "")
				if step == "used" {
					check(t, <-out, call.HoldDeny, call.ReasonAuditUnavailable)
					return
				}
				// The trail gets the step later, and the call's own event names the approver.
				if !errors.Is(err, full) || !strings.Contains(err.Error(), "the decision stands") {
					t.Errorf("got %v", err)
				}
				check(t, <-out, call.HoldAllow, call.ReasonApproved)
				d.trail.want(t, "held asked", "approved used")
			})
		})
	}
}

// The call that passes is the call that was shown.
func TestCallChangedWhileHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(storetest.NewMemory())
		c := refund(t)
		h, out := d.hold(t.Context(), c, leads)
		c.Request.Body = []byte(`{"amount":15000}`)
		if err := d.say(h.ID, ann, true, ""); err != nil {
			t.Fatal(err)
		}
		check(t, <-out, call.HoldDeny, call.ReasonInternal)
	})
}

func TestUsedElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(storetest.NewMemory())
		h, out := d.hold(t.Context(), refund(t), leads)
		d.memory.Before(func(step string) {
			if step == "use" {
				d.memory.Before(nil)
				if _, err := d.store.Use(t.Context(), h.ID, approvals.Use{Binding: h.Binding, At: time.Now()}); err != nil {
					t.Error(err)
				}
			}
		})
		if err := d.say(h.ID, ann, true, ""); err != nil {
			t.Fatal(err)
		}
		check(t, <-out, call.HoldDeny, call.ReasonInternal)
	})
}

func TestUnholdable(t *testing.T) {
	d := newDesk(storetest.NewMemory())
	c := refund(t)
	c.Identity = call.Identity{}
	check(t, d.Hold(t.Context(), c, leads), call.Deny, call.ReasonNoCredentials)
	nobody := leads
	nobody.Hold.Stages = []call.Stage{{}}
	check(t, d.Hold(t.Context(), refund(t), nobody), call.Deny, call.ReasonPolicyError)
	d.trail.want(t)
}

func TestComment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(storetest.NewMemory())
		h, out := d.hold(t.Context(), refund(t), leads)
		for _, bad := range []string{strings.Repeat("a", 5000), "\xff", "a\x1b[2Jb", "\x00"} {
			if err := d.say(h.ID, ann, true, bad); !errors.Is(err, approvals.ErrInvalid) {
				t.Errorf("%.10q: %v", bad, err)
			}
		}
		if err := d.say("apr_nope", ann, true, ""); !errors.Is(err, approvals.ErrNotFound) || !strings.Contains(err.Error(), "callgate approvals list") {
			t.Errorf("got %v", err)
		}
		if err := d.say(h.ID, ann, true, "two\nlines\tand ümlauts"); err != nil {
			t.Error(err)
		}
		<-out
	})
}

func TestListFor(t *testing.T) {
	d := newDesk(storetest.NewMemory())
	now := time.Now()
	for i := range 7 {
		h := storetest.NewHold(t, fmt.Sprintf("apr_%d", i), now.Add(time.Duration(i)))
		if i%2 == 0 {
			h.Terms.Stages = []call.Stage{{Approvers: call.Approvers{Groups: []string{"others"}}}}
		}
		if _, err := d.store.Ask(t.Context(), h); err != nil {
			t.Fatal(err)
		}
	}
	for limit, want := range map[int][]string{0: {"apr_5", "apr_3", "apr_1"}, 2: {"apr_5", "apr_3"}, 3: {"apr_5", "apr_3", "apr_1"}} {
		holds, err := d.List(t.Context(), approvals.Filter{Limit: limit}, &ann)
		var ids []string
		for _, h := range holds {
			ids = append(ids, h.ID)
		}
		if err != nil || !slices.Equal(ids, want) {
			t.Errorf("limit %d: %q %v", limit, ids, err)
		}
	}
}

// On the real store: concurrent holds, decided from a second process's handle.
func TestSQLite(t *testing.T) {
	file := filepath.Join(t.TempDir(), "approvals.db")
	var desks [2]*desk
	for i := range desks {
		s, err := sqlite.Open(t.Context(), file)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		desks[i] = newDesk(s)
	}
	defer desks[0].run(t)()
	type held struct {
		out  <-chan call.Decision
		want call.Outcome
	}
	var all []held
	for i := range 60 {
		h, out := desks[0].hold(t.Context(), refund(t), leads)
		want := []call.Outcome{call.HoldAllow, call.HoldDeny}[i%2]
		all = append(all, held{out, want})
		go func() {
			if err := desks[i/2%2].say(h.ID, ann, want == call.HoldAllow, ""); err != nil {
				t.Error(err)
			}
		}()
	}
	for _, h := range all {
		if got := <-h.out; got.Outcome != h.want {
			t.Errorf("got %+v", got)
		}
	}
}

// Whether the trail has a step of a process that died is asked until it can be
// told, and what it has is not recorded again.
func TestAskTheTrail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := storetest.NewMemory()
		for _, id := range []string{"apr_a", "apr_b"} {
			h := storetest.NewHold(t, id, time.Now())
			if _, err := m.Ask(t.Context(), h); err != nil {
				t.Fatal(err)
			}
		}
		d := newDesk(m)
		var away atomic.Bool
		away.Store(true)
		d.Service = approvals.New(approvals.Config{Store: m, Recorder: d.trail, Log: slog.New(slog.DiscardHandler), Metrics: approvals.NewMetrics(prometheus.NewRegistry()),
			Recorded: func(_ context.Context, id string, number int) (bool, error) {
				if away.Load() {
					return false, errors.New("ClickHouse is away")
				}
				return id == "apr_a" && number == 1, nil
			}})
		defer d.run(t)()
		time.Sleep(30 * time.Second)
		d.trail.want(t)
		away.Store(false)
		time.Sleep(15 * time.Second)
		d.trail.want(t, "held asked")
		if e := d.trail.events[0].Approval; e.ID != "apr_b" || e.Number != 1 {
			t.Errorf("%+v", e)
		}
	})
}

// endless has ever more holds, of which none concerns anybody.
type endless struct {
	*storetest.Memory
	looked int
	end    int
}

func (e *endless) List(_ context.Context, f approvals.Filter) ([]approvals.Hold, error) {
	out := make([]approvals.Hold, min(f.Size(), max(0, e.end-e.looked)))
	for i := range out {
		e.looked++
		out[i] = approvals.Hold{ID: fmt.Sprint("apr_", e.looked), AskedAt: f.Before.Add(-1)}
	}
	return out, nil
}

// Whom nothing concerns does not have all holds there ever were read.
func TestListEnds(t *testing.T) {
	store := &endless{Memory: storetest.NewMemory(), end: 1 << 30}
	d := newDesk(store)
	for name, list := range map[string]func() ([]approvals.Hold, error){
		"mine":      func() ([]approvals.Hold, error) { return d.Mine(t.Context(), approvals.Filter{}, ann) },
		"to decide": func() ([]approvals.Hold, error) { return d.List(t.Context(), approvals.Filter{Limit: 1000}, &ann) },
	} {
		store.looked = 0
		if got, err := list(); err != nil || len(got) != 0 || store.looked != 20_000 {
			t.Errorf("%s: %d, %v, after %d", name, len(got), err, store.looked)
		}
	}
	// But all are that wait for somebody.
	store.end = 50_000
	for name, f := range map[string]approvals.Filter{"open": {State: approvals.Open}, "unreviewed": {Unreviewed: true}} {
		store.looked = 0
		if _, err := d.Mine(t.Context(), f, ann); err != nil || store.looked != store.end {
			t.Errorf("%s: %v, after %d", name, err, store.looked)
		}
	}
}

// What waits, for how long, how long people take, and how it ends can be counted.
func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(storetest.NewMemory())
		defer d.run(t)()
		want := func(lines ...string) {
			t.Helper()
			for _, line := range lines {
				name, value, _ := strings.Cut(line, " ")
				if got, found := all(t, d.reg)[name]; !found || got != value {
					t.Errorf("%s is %q, want %s", name, got, value)
				}
			}
		}
		glass := leads
		glass.Hold.BreakGlass = call.Approvers{People: []string{"joe"}}
		c := refund(t)
		c.Identity.Actors = nil
		c.Request.Headers = append(c.Request.Headers, call.Header{Name: call.HeaderBreakGlass, Value: "fire"})
		check(t, d.Hold(t.Context(), c, glass), call.HoldAllow, call.ReasonBreakGlass)
		h, out := d.hold(t.Context(), refund(t), leads)
		time.Sleep(35 * time.Second)
		want("callgate_approvals_open 1", "callgate_approvals_oldest_open_seconds 30", "callgate_approvals_reviews_open 1", "callgate_approvals_waiting 1",
			"callgate_approvals_asked_total 1", `callgate_approvals_steps_total{step="broke_glass"} 1`, "callgate_approvals_decision_seconds_count 0")
		if err := d.say(h.ID, ann, true, ""); err != nil {
			t.Fatal(err)
		}
		check(t, <-out, call.HoldAllow, call.ReasonApproved)
		_, out = d.hold(t.Context(), refund(t), leads)
		check(t, <-out, call.HoldExpired, call.ReasonApprovalExpired)
		time.Sleep(time.Minute)
		want("callgate_approvals_open 0", "callgate_approvals_oldest_open_seconds 0", "callgate_approvals_waiting 0",
			"callgate_approvals_decision_seconds_count 1", "callgate_approvals_decision_seconds_sum 35", `callgate_approvals_steps_total{step="used"} 1`,
			`callgate_approvals_steps_total{step="expired"} 1`, `callgate_approvals_ended_total{reason="approval_expired"} 1`, "callgate_approvals_store_errors_total 0")
		d.memory.Fail(errors.New("away"))
		time.Sleep(time.Second)
		d.memory.Fail(nil)
		if all(t, d.reg)["callgate_approvals_store_errors_total"] == "0" {
			t.Error("a store that is away is not counted")
		}
	})
}

// all are the values of metrics, by name and labels.
func all(t *testing.T, reg *prometheus.Registry) map[string]string {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += fmt.Sprintf("{%s=%q}", l.GetName(), l.GetValue())
			}
			switch {
			case m.GetGauge() != nil:
				out[name] = fmt.Sprint(m.GetGauge().GetValue())
			case m.GetCounter() != nil:
				out[name] = fmt.Sprint(m.GetCounter().GetValue())
			case m.GetHistogram() != nil:
				out[name+"_count"], out[name+"_sum"] = fmt.Sprint(m.GetHistogram().GetSampleCount()), fmt.Sprint(m.GetHistogram().GetSampleSum())
			}
		}
	}
	return out
}
