package storetest

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/callgate/callgate/approvals"
	"github.com/callgate/callgate/call"
)

func lease(t *testing.T, s approvals.Store, target string, at time.Time, limit int) []approvals.Notice {
	t.Helper()
	list, err := s.Lease(t.Context(), target, at, at.Add(time.Minute), limit)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// want checks which notices were handed out, as "hold step", in any order.
func want(t *testing.T, list []approvals.Notice, names ...string) {
	t.Helper()
	var got []string
	for _, n := range list {
		got = append(got, fmt.Sprintf("%s %s", n.Hold, n.Step.Name))
	}
	slices.Sort(got)
	if !slices.Equal(got, names) {
		t.Errorf("got %q, want %q", got, names)
	}
}

// Each target of a hold gets each step, in order, and the trail gets them all.
func testOutbox(t *testing.T, open func(*testing.T) approvals.Store) {
	a, b := open(t), open(t)
	h, other := NewHold(t, "h", start), NewHold(t, "other", start)
	h.Targets, other.Targets = []string{"hook", "mail"}, nil
	create(t, a, h, other)
	if _, err := a.Mark(t.Context(), "h", approvals.Mark{Name: approvals.StepSeen, By: "ann", At: start}); err != nil {
		t.Fatal(err)
	}
	if err := decide(t.Context(), a, "h", yes("ann", start)); err != nil {
		t.Fatal(err)
	}
	if err := use(t.Context(), a, "h", h.Binding, start); err != nil {
		t.Fatal(err)
	}
	granted := yes("ann", start)
	granted.Grant = approvals.Grant{For: time.Hour}
	if err := decide(t.Context(), a, "other", granted); err != nil {
		t.Fatal(err)
	}
	given := approvals.Mark{Name: approvals.StepGranted, By: "ann", Grant: "grt_1", Until: start.Add(time.Hour), At: start}
	for i := range 2 { // noted once
		c, err := b.Mark(t.Context(), "other", given)
		if err != nil || len(c.Steps) != 1-i {
			t.Errorf("%+v %v", c.Steps, err)
		}
	}
	if st, err := a.Status(t.Context(), "other"); err != nil || !st.Granted("grt_1") || !st.Marks[0].Until.Equal(given.Until) || st.Granted("grt_2") {
		t.Errorf("%+v %v", st.Marks, err)
	}
	drain := func(target string) (got []string) {
		t.Helper()
		for {
			list := lease(t, b, target, start, 100)
			if len(list) == 0 {
				return got
			}
			for _, n := range list {
				if n.Target != target || n.Attempts != 1 || n.Step.N == 0 || n.Step.At.IsZero() {
					t.Errorf("got %+v", n)
				}
				if n.Hold == "h" || target == approvals.GrantTarget {
					got = append(got, string(n.Step.Name))
				}
			}
			if err := b.Delivered(t.Context(), list...); err != nil {
				t.Fatal(err)
			}
		}
	}
	for target, steps := range map[string][]string{
		"hook": {"asked", "approved", "used"}, "mail": {"asked", "approved", "used"}, "nobody": nil, approvals.GrantTarget: {"approved"},
		approvals.TrailTarget: {"asked", "seen", "approved", "used"},
	} {
		if got := drain(target); !slices.Equal(got, steps) {
			t.Errorf("%s was told %q, want %q", target, got, steps)
		}
		if n, err := a.Undelivered(t.Context(), target); err != nil || n != 0 {
			t.Errorf("%s: %d left, %v", target, n, err)
		}
	}
}

// A notice that is leased or was put off keeps those behind it from going ahead.
func testOutboxLeases(t *testing.T, open func(*testing.T) approvals.Store) {
	a, b := open(t), open(t)
	create(t, a, NewHold(t, "h1", start), NewHold(t, "h2", start))
	end(t, a, "h1", approvals.Canceled, start)
	first := lease(t, a, "hook", start, 100)
	want(t, first, "h1 asked", "h2 asked")
	want(t, lease(t, b, "hook", start.Add(time.Second), 100))
	if n, err := b.Undelivered(t.Context(), "hook"); err != nil || n != 3 {
		t.Errorf("%d %v", n, err)
	}
	one := slices.IndexFunc(first, func(n approvals.Notice) bool { return n.Hold == "h1" })
	if err := a.Failed(t.Context(), first[one], start.Add(10*time.Second)); err != nil {
		t.Fatal(err)
	}
	want(t, lease(t, b, "hook", start.Add(9*time.Second), 100))
	again := lease(t, b, "hook", start.Add(10*time.Second), 100)
	want(t, again, "h1 asked")
	if again[0].Attempts != 2 {
		t.Errorf("got %+v", again[0])
	}
	// Whoever had it before can't put it off any more, and can have delivered it.
	if err := a.Failed(t.Context(), first[one], start); err != nil {
		t.Fatal(err)
	}
	want(t, lease(t, b, "hook", start.Add(11*time.Second), 100))
	for range 2 {
		if err := a.Delivered(t.Context(), first[one]); err != nil {
			t.Fatal(err)
		}
	}
	want(t, lease(t, b, "hook", start.Add(12*time.Second), 1), "h1 canceled")
	// A lease ends.
	want(t, lease(t, b, "hook", start.Add(2*time.Minute), 100), "h1 canceled", "h2 asked")
}

func testDelegations(t *testing.T, open func(*testing.T) approvals.Store) {
	a, b := open(t), open(t)
	d := approvals.Delegation{ID: "dlg_a", From: call.Identity{Issuer: "https://idp", Subject: "ann", Kind: call.Human, Groups: []string{"leads"}, Claims: map[string]any{"x": 1}},
		To: "https://idp|bob", Reason: "away", Created: start, Until: start.Add(time.Hour)}
	later := d
	later.ID, later.Created = "dlg_b", start.Add(time.Minute)
	for _, one := range []approvals.Delegation{d, later} {
		if err := a.Delegate(t.Context(), one); err != nil {
			t.Fatal(err)
		}
	}
	active := func(at time.Time, ids ...string) []approvals.Delegation {
		t.Helper()
		list, err := b.Delegations(t.Context(), at)
		var got []string
		for _, d := range list {
			got = append(got, d.ID)
		}
		if err != nil || !slices.Equal(got, ids) {
			t.Errorf("at %s: %q %v, want %q", at, got, err, ids)
		}
		return list
	}
	active(start.Add(-1))
	got := active(start, "dlg_a")
	if len(got) == 1 && (got[0].To != d.To || got[0].From.Subject != "ann" || !slices.Equal(got[0].From.Groups, d.From.Groups) || got[0].From.Claims != nil || got[0].Reason != "away" || !got[0].Until.Equal(d.Until)) {
		t.Errorf("got %+v", got[0])
	}
	active(start.Add(time.Minute), "dlg_b", "dlg_a")
	active(d.Until)
	active(time.Time{}, "dlg_b", "dlg_a")
	ended, err := a.Undelegate(t.Context(), "dlg_a", "https://idp|ann", start.Add(2*time.Minute))
	if err != nil || !ended.Ended.Equal(start.Add(2*time.Minute)) || ended.EndedBy != "https://idp|ann" || ended.To != d.To {
		t.Errorf("got %+v %v", ended, err)
	}
	active(start.Add(3*time.Minute), "dlg_b")
	_, err = b.Undelegate(t.Context(), "dlg_a", "https://idp|ann", start.Add(3*time.Minute))
	is(t, "end it twice", err, approvals.ErrNotFound)
	_, err = b.Undelegate(t.Context(), "dlg_b", "https://idp|ann", start.Add(2*time.Hour))
	is(t, "end what is over", err, approvals.ErrNotFound)
	active(time.Time{}, "dlg_b", "dlg_a")
	if _, err := a.Prune(t.Context(), start.Add(4*time.Minute), 10); err != nil {
		t.Fatal(err)
	}
	active(time.Time{}, "dlg_b")
}

func testSessions(t *testing.T, open func(*testing.T) approvals.Store) {
	one, other := open(t), open(t) // two replicas
	a, b := sha256.Sum256([]byte("a")), sha256.Sum256([]byte("b"))
	noted := func(session [32]byte, at time.Time, want bool) {
		t.Helper()
		for name, s := range map[string]approvals.Store{"one": one, "other": other} {
			if got, err := s.NotedSession(t.Context(), session, at); err != nil || got != want {
				t.Errorf("%s: %t, %v; want %t", name, got, err, want)
			}
		}
	}
	note := func(session [32]byte, at time.Time, period time.Duration) {
		t.Helper()
		if err := one.NoteSession(t.Context(), session, at, at.Add(period)); err != nil {
			t.Fatal(err)
		}
	}
	noted(a, start, false)
	note(a, start, time.Hour)
	note(a, start, time.Minute) // an earlier end takes nothing away
	noted(a, start.Add(time.Hour-1), true)
	noted(a, start.Add(time.Hour), false)
	noted(b, start, false)
	// Noting is what forgets.
	note(b, start.Add(time.Hour), time.Hour)
	noted(a, start, false)
	noted(b, start.Add(time.Hour), true)
	// One that is over begins anew.
	note(b, start.Add(3*time.Hour), time.Hour)
	noted(b, start.Add(4*time.Hour-1), true)
}
