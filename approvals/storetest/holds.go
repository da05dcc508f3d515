package storetest

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/callgate/callgate/approvals"
	"github.com/callgate/callgate/call"
)

func testKeep(t *testing.T, open func(*testing.T) approvals.Store) {
	a := open(t)
	want, bare := NewHold(t, "apr_a", start), approvals.Hold{ID: "apr_b", AskedAt: start, Expires: start.Add(time.Second)}
	want.Identity.Claims = map[string]any{"secret": "of the token"}
	create(t, a, want, bare)
	want.Identity.Claims, want.Status = nil, approvals.Status{State: approvals.Open, Steps: 1, Attempts: 1}
	for _, s := range []approvals.Store{a, open(t)} {
		got, err := s.Get(t.Context(), want.ID)
		if err != nil {
			t.Fatal(err)
		}
		if !got.AskedAt.Equal(want.AskedAt) || !got.Expires.Equal(want.Expires) || !got.Identity.Expires.Equal(want.Identity.Expires) {
			t.Errorf("times: %v %v %v", got.AskedAt, got.Expires, got.Identity.Expires)
		}
		got.AskedAt, got.Expires, got.Identity.Expires = want.AskedAt, want.Expires, want.Identity.Expires
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
		if got, err := s.Get(t.Context(), bare.ID); err != nil || len(got.Request.Body) != 0 || len(got.ArgsJSON) != 0 || !got.Identity.Anonymous() {
			t.Errorf("bare: %+v %v", got, err)
		}
	}
	if _, err := a.Ask(t.Context(), approvals.Hold{ID: want.ID, Binding: [32]byte{1}, AskedAt: start, Expires: start.Add(time.Second)}); err == nil {
		t.Error("an id was taken twice")
	}
}

func testNotFound(t *testing.T, open func(*testing.T) approvals.Store) {
	s := open(t)
	_, err := s.Get(t.Context(), "apr_x")
	is(t, "get", err, approvals.ErrNotFound)
	_, err = s.Status(t.Context(), "apr_x")
	is(t, "status", err, approvals.ErrNotFound)
	is(t, "decide", decide(t.Context(), s, "apr_x", yes("ann", start)), approvals.ErrNotFound)
	is(t, "use", use(t.Context(), s, "apr_x", [32]byte{}, start), approvals.ErrNotFound)
	_, err = s.End(t.Context(), "apr_x", approvals.Expired, start)
	is(t, "end", err, approvals.ErrNotFound)
	_, err = s.Mark(t.Context(), "apr_x", approvals.Mark{Name: approvals.StepSeen, By: "ann", At: start})
	is(t, "mark", err, approvals.ErrNotFound)
	_, err = s.Judge(t.Context(), "apr_x", approvals.Review{})
	is(t, "judge", err, approvals.ErrNotFound)
	_, err = s.LastApproved(t.Context(), NewHold(t, "apr_x", start))
	is(t, "last approved", err, approvals.ErrNotFound)
	_, err = s.Undelegate(t.Context(), "dlg_x", "ann", start)
	is(t, "undelegate", err, approvals.ErrNotFound)
	if list, err := s.History(t.Context(), "apr_x"); err != nil || len(list) > 0 {
		t.Errorf("history: %v %v", list, err)
	}
	if holds, err := s.List(t.Context(), approvals.Filter{}); err != nil || len(holds) > 0 {
		t.Errorf("list: %v %v", holds, err)
	}
	if c, err := s.Counts(t.Context()); err != nil || c != (approvals.Counts{}) {
		t.Errorf("counts: %+v %v", c, err)
	}
}

func testDecide(t *testing.T, open func(*testing.T) approvals.Store) {
	a, b := open(t), open(t)
	h := NewHold(t, "yes", start)
	create(t, a, h, NewHold(t, "no", start))
	at := start.Add(time.Second)
	v := yes("ann", at)
	v.For, v.Grant = Person("eve"), approvals.Grant{For: time.Hour, Bounds: "args.amount <= 100"}
	c, err := a.Decide(t.Context(), "yes", v)
	if err != nil {
		t.Fatal(err)
	}
	steps(t, "yes", c, approvals.StepApproved)
	if s := c.Steps[0]; s.N != 2 || s.By != "https://idp|ann" || s.For != "https://idp|eve" || s.Comment != "fine ✓" || s.Stage != 1 || s.State != approvals.Approved || !s.At.Equal(at) {
		t.Errorf("got %+v", s)
	}
	if c.Hold.State != approvals.Approved || c.Hold.Rule != "big-refunds" || c.Hold.Request.Body != nil {
		t.Errorf("got %+v", c.Hold)
	}
	c, err = a.Decide(t.Context(), "no", no("bob", at))
	if err != nil {
		t.Fatal(err)
	}
	steps(t, "no", c, approvals.StepRefused)
	st := state(t, b, "yes", approvals.Approved)
	if len(st.Verdicts) != 1 || !st.EndedAt.Equal(at) || !st.UsedAt.IsZero() || !st.UseBy.Equal(h.Expires.Add(approvals.Grace)) || st.Stage != 1 {
		t.Fatalf("got %+v", st)
	}
	if got := st.Verdicts[0]; !got.At.Equal(at) || got.By != v.By || got.For != v.For || got.Grant != v.Grant || got.Comment != v.Comment || !got.Approve {
		t.Errorf("got %+v", got)
	}
	if st := state(t, b, "no", approvals.Refused); len(st.Verdicts) != 1 || st.Verdicts[0].Approve {
		t.Errorf("got %+v", st)
	}
	is(t, "approve again", decide(t.Context(), b, "yes", yes("joe", at)), approvals.ErrDecided)
	is(t, "refuse an approved one", decide(t.Context(), b, "yes", no("joe", at)), approvals.ErrDecided)
	is(t, "approve a refused one", decide(t.Context(), b, "no", yes("joe", at)), approvals.ErrDecided)
	if st := state(t, a, "yes", approvals.Approved); len(st.Verdicts) != 1 || st.Verdicts[0].By != Person("ann") {
		t.Errorf("the first decision was overwritten: %+v", st)
	}
	history, err := b.History(t.Context(), "yes")
	if err != nil || len(history) != 2 || history[0].Name != approvals.StepAsked || history[1].By != "https://idp|ann" || history[1].N != 2 || !history[1].At.Equal(at) {
		t.Errorf("history: %+v %v", history, err)
	}
}

func testDecideEnded(t *testing.T, open func(*testing.T) approvals.Store) {
	s := open(t)
	h := NewHold(t, "late", start)
	create(t, s, h, NewHold(t, "just", start), NewHold(t, "canceled", start), NewHold(t, "expired", start))
	// The sweeper has not come by: the time alone must do.
	is(t, "at the end", decide(t.Context(), s, "late", yes("ann", h.Expires)), approvals.ErrExpired)
	is(t, "after the end", decide(t.Context(), s, "late", yes("ann", h.Expires.Add(time.Hour))), approvals.ErrExpired)
	state(t, s, "late", approvals.Open)
	if err := decide(t.Context(), s, "just", yes("ann", h.Expires.Add(-1))); err != nil {
		t.Error(err)
	}
	end(t, s, "canceled", approvals.Canceled, start)
	end(t, s, "expired", approvals.Expired, start)
	is(t, "canceled", decide(t.Context(), s, "canceled", yes("ann", start)), approvals.ErrCanceled)
	is(t, "expired", decide(t.Context(), s, "expired", yes("ann", start)), approvals.ErrExpired)
}

// Several decide, in order: who is asked later can't decide earlier, nobody
// counts twice, and any no ends it.
func testStages(t *testing.T, open func(*testing.T) approvals.Store) {
	a, b := open(t), open(t)
	for _, id := range []string{"all", "refused", "changed"} {
		h := NewHold(t, id, start)
		h.Terms = Terms(2, 1)
		create(t, a, h)
	}
	second := func(v approvals.Verdict) approvals.Verdict { v.Stage = 1; return v }
	is(t, "the second stage first", decide(t.Context(), a, "all", second(yes("own", start))), approvals.ErrStage)
	take := func(s approvals.Store, id string, v approvals.Verdict, want ...approvals.StepName) approvals.Change {
		t.Helper()
		c, err := s.Decide(t.Context(), id, v)
		if err != nil {
			t.Fatal(err)
		}
		steps(t, id, c, want...)
		return c
	}
	take(a, "all", yes("sec1", start), approvals.StepApproved)
	is(t, "one person twice", decide(t.Context(), b, "all", yes("sec1", start)), approvals.ErrTwice)
	is(t, "in other letters", decide(t.Context(), b, "all", yes("SEC1", start)), approvals.ErrTwice)
	delegate := yes("delegate", start)
	delegate.For = Person("sec1")
	is(t, "through a delegate", decide(t.Context(), b, "all", delegate), approvals.ErrTwice)
	c := take(b, "all", yes("sec2", start), approvals.StepApproved, approvals.StepStageDone)
	if s := c.Steps[1]; s.Stage != 1 || s.State != approvals.Open || s.N != c.Steps[0].N+1 {
		t.Errorf("got %+v", s)
	}
	is(t, "the first stage again", decide(t.Context(), a, "all", yes("sec3", start)), approvals.ErrStage)
	is(t, "in both stages", decide(t.Context(), a, "all", second(yes("sec1", start))), approvals.ErrTwice)
	c = take(a, "all", second(yes("own", start)), approvals.StepApproved)
	if c.Steps[0].State != approvals.Approved || c.Steps[0].Stage != 2 {
		t.Errorf("got %+v", c.Steps[0])
	}
	if st := state(t, b, "all", approvals.Approved); !slices.Equal(st.Deciders(), []string{"https://idp|sec1", "https://idp|sec2", "https://idp|own"}) || st.Stage != 2 || st.Steps != 5 {
		t.Errorf("got %+v", st)
	}
	take(a, "refused", yes("sec1", start), approvals.StepApproved)
	take(b, "refused", second(no("own", start)), approvals.StepRefused)
	is(t, "after the no", decide(t.Context(), a, "refused", yes("sec2", start)), approvals.ErrDecided)
	take(a, "changed", yes("sec1", start), approvals.StepApproved)
	take(a, "changed", no("sec1", start), approvals.StepRefused)
	state(t, b, "changed", approvals.Refused)
}

func testUse(t *testing.T, open func(*testing.T) approvals.Store) {
	a, b := open(t), open(t)
	h := NewHold(t, "h", start)
	late, valid := NewHold(t, "late", start), NewHold(t, "valid", start)
	valid.Terms.Valid = 10 * time.Minute
	create(t, a, h, late, valid, NewHold(t, "refused", start), NewHold(t, "open", start))
	for _, id := range []string{"h", "late", "valid"} {
		if err := decide(t.Context(), a, id, yes("ann", start)); err != nil {
			t.Fatal(err)
		}
	}
	if err := decide(t.Context(), a, "refused", no("ann", start)); err != nil {
		t.Fatal(err)
	}
	other := h.Binding
	other[31]++
	is(t, "another call", use(t.Context(), b, "h", other, start), approvals.ErrBinding)
	is(t, "open", use(t.Context(), b, "open", NewHold(t, "open", start).Binding, start), approvals.ErrNotApproved)
	is(t, "refused", use(t.Context(), b, "refused", NewHold(t, "refused", start).Binding, start), approvals.ErrNotApproved)
	is(t, "too late", use(t.Context(), b, "late", late.Binding, late.Expires.Add(approvals.Grace+1)), approvals.ErrExpired)
	is(t, "past its time", use(t.Context(), b, "valid", valid.Binding, start.Add(10*time.Minute+1)), approvals.ErrExpired)
	at := h.Expires.Add(approvals.Grace)
	by, err := call.NewID()
	if err != nil {
		t.Fatal(err)
	}
	c, err := b.Use(t.Context(), "h", approvals.Use{Call: by, Binding: h.Binding, At: at})
	if err != nil {
		t.Fatal(err)
	}
	steps(t, "use", c, approvals.StepUsed)
	if c.Steps[0].Call != by {
		t.Errorf("used for %s, want %s", c.Steps[0].Call, by)
	}
	if st := state(t, a, "h", approvals.Used); !st.UsedAt.Equal(at) || st.UsedFor != by || len(st.Verdicts) != 1 {
		t.Errorf("got %+v", st)
	}
	is(t, "twice", use(t.Context(), a, "h", h.Binding, start), approvals.ErrUsed)
	is(t, "decide a used one", decide(t.Context(), a, "h", no("joe", start)), approvals.ErrDecided)
	if err := use(t.Context(), b, "valid", valid.Binding, start.Add(10*time.Minute)); err != nil {
		t.Error(err)
	}
}

// Who comes again with the same call waits for what was asked before, unless
// somebody else waits for it.
func testAskAgain(t *testing.T, open func(*testing.T) approvals.Store) {
	a, b := open(t), open(t)
	mine := func(id string, owner string) approvals.Hold {
		h := NewHold(t, id, start)
		h.Binding, h.Owner, h.Terms.Valid = [32]byte{7}, owner, 10*time.Minute
		return h
	}
	ask := func(s approvals.Store, h approvals.Hold, want string, attempts int) approvals.Hold {
		t.Helper()
		c, err := s.Ask(t.Context(), h)
		if err != nil {
			t.Fatal(err)
		}
		if c.Hold.ID != want || c.Hold.Attempts != attempts || (len(c.Steps) > 0) != (want == h.ID) {
			t.Fatalf("%s asked and got %s, attempt %d, %+v; want %s, attempt %d", h.ID, c.Hold.ID, c.Hold.Attempts, c.Steps, want, attempts)
		}
		if want != h.ID && string(c.Hold.Request.Body) != string(h.Request.Body) {
			t.Errorf("without its body: %+v", c.Hold)
		}
		return c.Hold
	}
	ask(a, mine("h1", ""), "h1", 1)
	ask(b, mine("h2", ""), "h1", 2)
	other := mine("other", "")
	other.Binding = [32]byte{8}
	ask(b, other, "other", 1)
	if err := decide(t.Context(), a, "h1", yes("ann", start)); err != nil {
		t.Fatal(err)
	}
	if h := ask(b, mine("h3", ""), "h1", 3); h.State != approvals.Approved {
		t.Errorf("got %+v", h)
	}
	if err := use(t.Context(), b, "h1", [32]byte{7}, start); err != nil {
		t.Fatal(err)
	}
	// It is used up; the next asks anew, and is told of a refusal until its time is over.
	ask(b, mine("h4", ""), "h4", 1)
	if err := decide(t.Context(), a, "h4", no("ann", start)); err != nil {
		t.Fatal(err)
	}
	if h := ask(b, mine("h5", ""), "h4", 2); h.State != approvals.Refused {
		t.Errorf("got %+v", h)
	}
	late := mine("h6", "")
	late.AskedAt, late.Expires = late.Expires, late.Expires.Add(time.Minute)
	ask(a, late, "h6", 1)
	end(t, a, "h6", approvals.Canceled, late.AskedAt)

	// Two that wait with their requests open have a hold each, while they are there.
	alive := func(s approvals.Store, replica string, until time.Time) {
		t.Helper()
		if err := s.Alive(t.Context(), replica, until); err != nil {
			t.Fatal(err)
		}
	}
	held := func(id, owner string, after time.Duration) approvals.Hold {
		h := mine(id, owner)
		h.AskedAt, h.Expires = late.Expires.Add(after), late.Expires.Add(time.Hour)
		return h
	}
	alive(a, "r1", late.Expires.Add(10*time.Second))
	alive(a, "r2", late.Expires.Add(time.Hour))
	ask(a, held("w1", "r1", 0), "w1", 1)
	ask(b, held("w2", "r1", time.Second), "w2", 1)
	// The replica is gone: its callers come elsewhere.
	ask(b, held("w3", "r2", 11*time.Second), "w2", 2)
	ask(b, held("w4", "r2", 12*time.Second), "w1", 2)
	ask(b, held("w5", "r2", 13*time.Second), "w5", 1)
	alive(b, "r2", time.Time{})
	ask(a, held("w6", "r3", 14*time.Second), "w5", 2)
	if h, err := b.Get(t.Context(), "w5"); err != nil || h.Owner != "r3" || h.Attempts != 2 {
		t.Errorf("got %+v %v", h, err)
	}
}

func testBreakGlass(t *testing.T, open func(*testing.T) approvals.Store) {
	a, b := open(t), open(t)
	h := NewHold(t, "fire", start)
	h.BreakGlass = "the shop is on fire"
	c, err := a.Break(t.Context(), h)
	if err != nil {
		t.Fatal(err)
	}
	steps(t, "break", c, approvals.StepBrokeGlass)
	if s := c.Steps[0]; s.By != "https://idp|agent-7" || s.Comment != h.BreakGlass || s.State != approvals.BrokeGlass {
		t.Errorf("got %+v", s)
	}
	create(t, a, NewHold(t, "plain", start))
	got, err := b.Get(t.Context(), "fire")
	if err != nil || got.State != approvals.BrokeGlass || got.BreakGlass != h.BreakGlass || got.UsedFor != h.CallID || !got.UsedAt.Equal(start) || !got.EndedAt.Equal(start) || !got.Unreviewed() {
		t.Errorf("got %+v %v", got, err)
	}
	is(t, "decide", decide(t.Context(), a, "fire", yes("ann", start)), approvals.ErrDecided)
	is(t, "use", use(t.Context(), a, "fire", h.Binding, start), approvals.ErrNotApproved)
	// It is no approval for the next call to be compared with or to pass by.
	_, err = a.LastApproved(t.Context(), NewHold(t, "next", start))
	is(t, "last approved", err, approvals.ErrNotFound)
	again := NewHold(t, "again", start)
	again.Binding, again.Owner = h.Binding, ""
	create(t, a, again)
	if n, err := a.Prune(t.Context(), start.Add(time.Hour), 10); err != nil || n != 0 {
		t.Errorf("pruned %d before anybody looked: %v", n, err)
	}
	counts := func(open, unreviewed int) {
		t.Helper()
		if c, err := b.Counts(t.Context()); err != nil || c.Open != open || c.Unreviewed != unreviewed || open > 0 && !c.Oldest.Equal(start) {
			t.Errorf("got %+v %v, want %d and %d", c, err, open, unreviewed)
		}
	}
	counts(2, 1)
	if list, err := b.List(t.Context(), approvals.Filter{Unreviewed: true}); err != nil || len(list) != 1 || list[0].ID != "fire" {
		t.Errorf("got %+v %v", list, err)
	}
	r := approvals.Review{By: Person("ann"), Justified: true, Comment: "it was", At: start.Add(time.Minute)}
	_, err = a.Judge(t.Context(), "plain", r)
	is(t, "review what did not break glass", err, approvals.ErrNoReview)
	c, err = a.Judge(t.Context(), "fire", r)
	if err != nil {
		t.Fatal(err)
	}
	steps(t, "review", c, approvals.StepReviewed)
	_, err = b.Judge(t.Context(), "fire", r)
	is(t, "review twice", err, approvals.ErrDecided)
	st := state(t, b, "fire", approvals.BrokeGlass)
	if !st.Review.At.Equal(r.At) || st.Review.By != r.By || !st.Review.Justified || st.Review.Comment != r.Comment || st.Unreviewed() {
		t.Errorf("got %+v", st.Review)
	}
	counts(2, 0)
	if n, err := a.Prune(t.Context(), start.Add(time.Hour), 10); err != nil || n != 1 {
		t.Errorf("pruned %d: %v", n, err)
	}
}

func testMarks(t *testing.T, open func(*testing.T) approvals.Store) {
	a, b := open(t), open(t)
	create(t, a, NewHold(t, "h", start))
	mark := func(s approvals.Store, name approvals.StepName, by string, want ...approvals.StepName) {
		t.Helper()
		c, err := s.Mark(t.Context(), "h", approvals.Mark{Name: name, By: by, At: start.Add(time.Second)})
		if err != nil {
			t.Fatal(err)
		}
		steps(t, by, c, want...)
	}
	mark(a, approvals.StepNotified, "hook", approvals.StepNotified)
	mark(b, approvals.StepNotified, "hook")
	mark(b, approvals.StepSeen, "https://idp|ann", approvals.StepSeen)
	mark(a, approvals.StepSeen, "https://idp|ann")
	mark(a, approvals.StepSeen, "https://idp|bob", approvals.StepSeen)
	st := state(t, b, "h", approvals.Open)
	if len(st.Marks) != 3 || st.Steps != 4 || !st.Marked(approvals.StepSeen, "https://idp|bob") || st.Marked(approvals.StepSeen, "hook") || !st.Marks[0].At.Equal(start.Add(time.Second)) {
		t.Errorf("got %+v", st)
	}
	for _, m := range []approvals.Mark{{Name: approvals.StepApproved, By: "eve"}, {Name: approvals.StepSeen}} {
		if _, err := a.Mark(t.Context(), "h", m); err == nil {
			t.Errorf("%+v was marked", m)
		}
	}
}

func testLastApproved(t *testing.T, open func(*testing.T) approvals.Store) {
	a, b := open(t), open(t)
	for i, change := range []func(*approvals.Hold){
		func(*approvals.Hold) {},
		func(h *approvals.Hold) { h.ArgsJSON = []byte(`{"amount":2}`) },
		func(h *approvals.Hold) { h.Identity.Subject = "agent-8" },
		func(h *approvals.Hold) { h.Identity.Issuer = "https://other" },
		func(h *approvals.Hold) { h.Connection = "erp" },
		func(h *approvals.Hold) { h.Function = "refunds.delete" },
	} {
		h := NewHold(t, fmt.Sprintf("h%d", i), start)
		change(&h)
		create(t, a, h)
		if err := decide(t.Context(), a, h.ID, yes("ann", start.Add(time.Duration(i+1)*time.Second))); err != nil {
			t.Fatal(err)
		}
	}
	create(t, a, NewHold(t, "refused", start), NewHold(t, "open", start))
	if err := decide(t.Context(), a, "refused", no("ann", start.Add(20*time.Second))); err != nil {
		t.Fatal(err)
	}
	next := NewHold(t, "next", start.Add(30*time.Second))
	for range 2 {
		last, err := b.LastApproved(t.Context(), next)
		if err != nil || last.ID != "h1" || string(last.ArgsJSON) != `{"amount":2}` || len(last.Request.Body) == 0 {
			t.Errorf("got %+v %v", last, err)
		}
		if err := use(t.Context(), a, "h1", NewHold(t, "h1", start).Binding, start); last.State == approvals.Approved && err != nil {
			t.Fatal(err)
		}
	}
	if last, err := b.LastApproved(t.Context(), NewHold(t, "h1", start)); err != nil || last.ID != "h0" {
		t.Errorf("before itself: %+v %v", last, err)
	}
	_, err := b.LastApproved(t.Context(), NewHold(t, "early", start.Add(-time.Second)))
	is(t, "before all", err, approvals.ErrNotFound)
}

func testEnd(t *testing.T, open func(*testing.T) approvals.Store) {
	s := open(t)
	create(t, s, NewHold(t, "a", start), NewHold(t, "b", start))
	c, err := s.End(t.Context(), "a", approvals.Canceled, start.Add(1))
	if err != nil || c.Hold.State != approvals.Canceled || !c.Hold.EndedAt.Equal(start.Add(1)) {
		t.Errorf("got %+v %v", c, err)
	}
	steps(t, "cancel", c, approvals.StepCanceled)
	c, err = s.End(t.Context(), "a", approvals.Expired, start.Add(2))
	if err != nil || c.Hold.State != approvals.Canceled {
		t.Errorf("again: %+v %v", c, err)
	}
	steps(t, "expire", c)
	if err := decide(t.Context(), s, "b", yes("ann", start)); err != nil {
		t.Fatal(err)
	}
	c, err = s.End(t.Context(), "b", approvals.Expired, start.Add(time.Hour))
	if err != nil || c.Hold.State != approvals.Approved || len(c.Hold.Verdicts) != 1 {
		t.Errorf("an approval was ended: %+v %v", c, err)
	}
	steps(t, "expire", c)
	for _, to := range []approvals.State{approvals.Open, approvals.Approved, approvals.Used, approvals.Refused, approvals.BrokeGlass, ""} {
		if _, err := s.End(t.Context(), "a", to, start); err == nil {
			t.Errorf("a hold could end as %q", to)
		}
	}
}

func testExpire(t *testing.T, open func(*testing.T) approvals.Store) {
	s := open(t)
	for i := range 5 {
		h := NewHold(t, fmt.Sprintf("h%d", i), start)
		h.Expires = start.Add(time.Duration(i) * time.Second)
		create(t, s, h)
	}
	if err := decide(t.Context(), s, "h1", yes("ann", start)); err != nil {
		t.Fatal(err)
	}
	expire := func(at time.Time, want ...string) {
		t.Helper()
		var got []string
		for {
			list, err := s.Expire(t.Context(), at, 2)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range list {
				steps(t, c.Hold.ID, c, approvals.StepExpired)
				if h := c.Hold; h.State != approvals.Expired || h.Rule != "big-refunds" || h.Request.Body != nil || !h.EndedAt.Equal(at) {
					t.Errorf("got %+v", h)
				}
				got = append(got, c.Hold.ID)
			}
			if len(list) < 2 {
				break
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	expire(start.Add(3*time.Second), "h0", "h2", "h3")
	state(t, s, "h4", approvals.Open)
	// An approval that nobody comes for ends when it can't be taken up any more.
	useBy := state(t, s, "h1", approvals.Approved).UseBy
	expire(useBy, "h4")
	state(t, s, "h1", approvals.Approved)
	expire(useBy.Add(1), "h1")
	is(t, "use", use(t.Context(), s, "h1", NewHold(t, "h1", start).Binding, start), approvals.ErrExpired)
}

func testList(t *testing.T, open func(*testing.T) approvals.Store) {
	s := open(t)
	for i := range 6 {
		// Two at each time, so that the id must tell them apart.
		h := NewHold(t, fmt.Sprintf("h%d", i), start.Add(time.Duration(i/2)*time.Second))
		if i == 3 {
			h.Connection, h.Function, h.Rule, h.Identity.Subject = "erp", "orders.delete", "orders", "agent-8"
		}
		create(t, s, h)
	}
	if err := decide(t.Context(), s, "h4", yes("ann", start)); err != nil {
		t.Fatal(err)
	}
	list := func(f approvals.Filter) (ids []string, last approvals.Hold) {
		t.Helper()
		holds, err := s.List(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range holds {
			if h.Request.Body != nil || h.Function == "" || len(h.ArgsJSON) == 0 {
				t.Errorf("got %+v", h)
			}
			ids, last = append(ids, h.ID), h
		}
		return ids, last
	}
	for _, c := range []struct {
		filter approvals.Filter
		want   []string
	}{
		{approvals.Filter{}, []string{"h5", "h4", "h3", "h2", "h1", "h0"}},
		{approvals.Filter{State: approvals.Open}, []string{"h5", "h3", "h2", "h1", "h0"}},
		{approvals.Filter{State: approvals.Approved}, []string{"h4"}},
		{approvals.Filter{Connection: "erp"}, []string{"h3"}},
		{approvals.Filter{Function: "orders.delete"}, []string{"h3"}},
		{approvals.Filter{Rule: "orders"}, []string{"h3"}},
		{approvals.Filter{Subject: "agent-8"}, []string{"h3"}},
		{approvals.Filter{Subject: "agent-7", Since: start.Add(time.Second)}, []string{"h5", "h4", "h2"}},
		{approvals.Filter{Unreviewed: true}, nil},
		{approvals.Filter{Connection: "crm", State: approvals.Open, Limit: 2}, []string{"h5", "h2"}},
		{approvals.Filter{Connection: "x' OR 1=1 --"}, nil},
	} {
		if got, _ := list(c.filter); !slices.Equal(got, c.want) {
			t.Errorf("%+v: got %q, want %q", c.filter, got, c.want)
		}
	}
	var paged []string
	for f := (approvals.Filter{Limit: 1}); len(paged) < 10; {
		ids, last := list(f)
		if len(ids) == 0 {
			break
		}
		paged = append(paged, ids...)
		f.Before, f.BeforeID = last.AskedAt, last.ID
	}
	if want := []string{"h5", "h4", "h3", "h2", "h1", "h0"}; !slices.Equal(paged, want) {
		t.Errorf("paged %q, want %q", paged, want)
	}
}

func testChanges(t *testing.T, open func(*testing.T) approvals.Store) {
	a, b := open(t), open(t)
	create(t, a, NewHold(t, "h0", start), NewHold(t, "h1", start), NewHold(t, "h2", start))
	end(t, a, "h0", approvals.Canceled, start)
	ids, cursor, err := b.Changes(t.Context(), -1)
	if err != nil || len(ids) > 0 || cursor < 0 {
		t.Fatal(ids, cursor, err)
	}
	if ids, next, err := b.Changes(t.Context(), cursor); err != nil || len(ids) > 0 || next != cursor {
		t.Fatal(ids, next, err)
	}
	if err := decide(t.Context(), a, "h1", yes("ann", start)); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Expire(t.Context(), start.Add(time.Hour), 10); err != nil {
		t.Fatal(err)
	}
	create(t, a, NewHold(t, "h3", start))
	var seen []string
	for {
		ids, next, err := b.Changes(t.Context(), cursor)
		if err != nil {
			t.Fatal(err)
		}
		if next == cursor {
			break
		}
		seen, cursor = append(seen, ids...), next
	}
	for _, id := range []string{"h1", "h2", "h3"} {
		if !slices.Contains(seen, id) {
			t.Errorf("the change of %s was not seen: %q", id, seen)
		}
	}
	if slices.Contains(seen, "h0") {
		t.Errorf("an old change came again: %q", seen)
	}
	// A cursor outlives the changes it was taken after.
	end(t, a, "h3", approvals.Canceled, start)
	if _, cursor, err = b.Changes(t.Context(), -1); err != nil {
		t.Fatal(err)
	}
	if n, err := a.Prune(t.Context(), start.Add(2*time.Hour), 100); err != nil || n != 4 {
		t.Fatal(n, err)
	}
	create(t, a, NewHold(t, "h4", start))
	if ids, _, err := b.Changes(t.Context(), cursor); err != nil || !slices.Equal(ids, []string{"h4"}) {
		t.Errorf("after pruning: %q %v", ids, err)
	}
}

func testPrune(t *testing.T, open func(*testing.T) approvals.Store) {
	s := open(t)
	for i := range 4 {
		create(t, s, NewHold(t, fmt.Sprintf("h%d", i), start))
	}
	for i := range 3 {
		end(t, s, fmt.Sprintf("h%d", i), approvals.Canceled, start.Add(time.Duration(i)*time.Hour))
	}
	if n, err := s.Prune(t.Context(), start.Add(2*time.Hour), 1); err != nil || n != 1 {
		t.Errorf("limited: %d %v", n, err)
	}
	if n, err := s.Prune(t.Context(), start.Add(2*time.Hour), 100); err != nil || n != 1 {
		t.Errorf("rest: %d %v", n, err)
	}
	state(t, s, "h2", approvals.Canceled)
	state(t, s, "h3", approvals.Open)
	if steps, err := s.History(t.Context(), "h1"); err != nil || len(steps) > 0 {
		t.Errorf("left behind: %+v %v", steps, err)
	}
	if n, err := s.Undelivered(t.Context(), "hook"); err != nil || n != 3 {
		t.Errorf("%d notices, of h2 and h3: %v", n, err)
	}
}

func testErase(t *testing.T, open func(*testing.T) approvals.Store) {
	s := open(t)
	ids := []string{"open", "approved", "used", "taken", "refused", "other"}
	taken, err := call.NewID()
	if err != nil {
		t.Fatal(err)
	}
	calls := []call.ID{taken}
	for _, id := range ids {
		h := NewHold(t, id, start)
		create(t, s, h)
		if id != "other" && id != "taken" {
			calls = append(calls, h.CallID)
		}
	}
	for _, id := range ids[1:] {
		v := yes("ann", start)
		v.Approve = id != "refused"
		if err := decide(t.Context(), s, id, v); err != nil {
			t.Fatal(err)
		}
	}
	before, err := s.Get(t.Context(), "used")
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"used", "other", "taken"} {
		u := approvals.Use{Binding: NewHold(t, id, start).Binding, At: start}
		if id == "taken" {
			u.Call = taken
		}
		if _, err := s.Use(t.Context(), id, u); err != nil {
			t.Fatal(err)
		}
	}
	erase := func(at time.Time, want int, gone ...string) {
		t.Helper()
		if n, err := s.Erase(t.Context(), calls, at); err != nil || n != want {
			t.Errorf("erased %d, %v; want %d", n, err, want)
		}
		for _, id := range ids {
			h, err := s.Get(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			empty := len(h.ArgsJSON) == 0 && h.Request.Path == "" && len(h.Request.Body) == 0 && h.Binding == [32]byte{}
			whole := len(h.ArgsJSON) > 0 && h.Request.Path != "" && len(h.Request.Body) > 0 && h.Binding == NewHold(t, id, start).Binding
			if is := slices.Contains(gone, id); empty != is || whole == is || h.Function != before.Function || h.Identity.Subject != before.Identity.Subject {
				t.Errorf("%s: %+v", id, h)
			}
		}
	}
	erase(start, 3, "used", "taken", "refused")
	erase(start, 0, "used", "taken", "refused")
	// What can still be used is not taken from under it, and no longer.
	is(t, "approved", use(t.Context(), s, "used", before.Binding, start), approvals.ErrUsed)
	erase(start.Add(time.Hour), 1, "used", "taken", "refused", "approved")
	is(t, "erased", use(t.Context(), s, "approved", [32]byte{}, start.Add(time.Hour)), approvals.ErrExpired)
	state(t, s, "open", approvals.Open)
}

func testContext(t *testing.T, open func(*testing.T) approvals.Store) {
	s := open(t)
	create(t, s, NewHold(t, "h", start))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := decide(ctx, s, "h", yes("ann", start)); err == nil {
		t.Error("decided for a caller that is gone")
	}
	if _, err := s.Get(ctx, "h"); err == nil {
		t.Error("read for a caller that is gone")
	}
	state(t, s, "h", approvals.Open)
}
