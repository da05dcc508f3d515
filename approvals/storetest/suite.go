// Package storetest is what every approval store must do, as a test suite, and
// a store in memory that does it.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/callgate/callgate/approvals"
	"github.com/callgate/callgate/call"
)

// start is the suite's time. Stores take every time from their caller.
var start = time.Date(2026, 11, 23, 12, 0, 0, 123456789, time.UTC)

// NewHold returns an open hold with every field set, asked for at start and
// open for a minute.
func NewHold(t testing.TB, id string, start time.Time) approvals.Hold {
	t.Helper()
	callID, err := call.NewID()
	if err != nil {
		t.Fatal(err)
	}
	return approvals.Hold{
		ID: id, CallID: callID, Binding: [32]byte{1, 2, 3, 31: 9}, PolicyVersion: "v7", Rule: "big-refunds", Message: "ask",
		Identity: call.Identity{Issuer: "https://idp", Subject: "agent-7", Kind: call.Agent, Groups: []string{"support"},
			Actors: []call.Actor{{Issuer: "https://idp", Subject: "bot"}}, Method: "oidc", TokenID: "jti-1", Expires: start.Add(time.Hour)},
		Approvers:  call.Approvers{Groups: []string{"leads"}, People: []string{"https://idp|ann"}},
		Connection: "crm", Protocol: call.HTTP, Function: "refunds.create", ArgsJSON: []byte(`{"amount":150}`),
		Request: approvals.Request{Method: "POST", Authority: "crm:8080", Path: "/refunds?x=%00", ContentType: "application/json",
			ContentEncoding: "gzip", Body: []byte("{\"amount\":150}\x00\xff\n")},
		AskedAt: start, Expires: start.Add(time.Minute), Status: approvals.Status{State: approvals.Open},
	}
}

// Run runs the suite. Open is called with a new store's place, and may be
// called several times with one place: then the stores are two processes'
// views of the same holds.
func Run(t *testing.T, place func(t *testing.T) (open func(t *testing.T) approvals.Store)) {
	for name, test := range map[string]func(*testing.T, func(*testing.T) approvals.Store){
		"Keep": testKeep, "NotFound": testNotFound, "Decide": testDecide, "DecideEnded": testDecideEnded, "Use": testUse, "End": testEnd,
		"Expire": testExpire, "List": testList, "Changes": testChanges, "Prune": testPrune, "Erase": testErase, "Canceled context": testContext,
		"Race to use": testRaceUse, "Race to decide": testRaceDecide, "Race of ends": testRaceEnds, "Race to expire": testRaceExpire,
	} {
		t.Run(name, func(t *testing.T) { test(t, place(t)) })
	}
}

func create(t *testing.T, s approvals.Store, holds ...approvals.Hold) {
	t.Helper()
	for _, h := range holds {
		if err := s.Create(t.Context(), h); err != nil {
			t.Fatal(err)
		}
	}
}

func state(t *testing.T, s approvals.Store, id string, want approvals.State) approvals.Status {
	t.Helper()
	st, err := s.Status(t.Context(), id)
	if err != nil || st.State != want {
		t.Errorf("%s is %q (%v), want %q", id, st.State, err, want)
	}
	return st
}

func is(t *testing.T, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func yes(by string, at time.Time) approvals.Verdict {
	return approvals.Verdict{Approve: true, By: by, Comment: "fine ✓", At: at}
}

func testKeep(t *testing.T, open func(*testing.T) approvals.Store) {
	a := open(t)
	want, bare := NewHold(t, "apr_a", start), approvals.Hold{ID: "apr_b", AskedAt: start, Expires: start.Add(time.Second), Status: approvals.Status{State: approvals.Open}}
	create(t, a, want, bare)
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
	if err := a.Create(t.Context(), want); err == nil {
		t.Error("an id was taken twice")
	}
}

func testNotFound(t *testing.T, open func(*testing.T) approvals.Store) {
	s := open(t)
	_, err := s.Get(t.Context(), "apr_x")
	is(t, "get", err, approvals.ErrNotFound)
	_, err = s.Status(t.Context(), "apr_x")
	is(t, "status", err, approvals.ErrNotFound)
	is(t, "decide", s.Decide(t.Context(), "apr_x", yes("ann", start)), approvals.ErrNotFound)
	is(t, "use", s.Use(t.Context(), "apr_x", [32]byte{}, start), approvals.ErrNotFound)
	_, _, err = s.End(t.Context(), "apr_x", approvals.Expired, start)
	is(t, "end", err, approvals.ErrNotFound)
	if holds, err := s.List(t.Context(), approvals.Filter{}); err != nil || len(holds) > 0 {
		t.Errorf("list: %v %v", holds, err)
	}
}

func testDecide(t *testing.T, open func(*testing.T) approvals.Store) {
	a, b := open(t), open(t)
	create(t, a, NewHold(t, "yes", start), NewHold(t, "no", start))
	at := start.Add(time.Second)
	if err := a.Decide(t.Context(), "yes", yes("https://idp|ann", at)); err != nil {
		t.Fatal(err)
	}
	if err := a.Decide(t.Context(), "no", approvals.Verdict{By: "https://idp|bob", At: at}); err != nil {
		t.Fatal(err)
	}
	st := state(t, b, "yes", approvals.Approved)
	if st.By != "https://idp|ann" || st.Comment != "fine ✓" || !st.DecidedAt.Equal(at) || !st.EndedAt.Equal(at) || !st.UsedAt.IsZero() {
		t.Errorf("got %+v", st)
	}
	state(t, b, "no", approvals.Refused)
	is(t, "approve again", b.Decide(t.Context(), "yes", yes("eve", at)), approvals.ErrDecided)
	is(t, "approve a refused one", b.Decide(t.Context(), "no", yes("eve", at)), approvals.ErrDecided)
	if st := state(t, a, "yes", approvals.Approved); st.By != "https://idp|ann" {
		t.Errorf("the first decision was overwritten: %+v", st)
	}
}

func testDecideEnded(t *testing.T, open func(*testing.T) approvals.Store) {
	s := open(t)
	h := NewHold(t, "late", start)
	create(t, s, h, NewHold(t, "just", start), NewHold(t, "canceled", start), NewHold(t, "expired", start))
	// The sweeper has not come by: the time alone must do.
	is(t, "at the end", s.Decide(t.Context(), "late", yes("ann", h.Expires)), approvals.ErrExpired)
	is(t, "after the end", s.Decide(t.Context(), "late", yes("ann", h.Expires.Add(time.Hour))), approvals.ErrExpired)
	state(t, s, "late", approvals.Open)
	if err := s.Decide(t.Context(), "just", yes("ann", h.Expires.Add(-1))); err != nil {
		t.Error(err)
	}
	for id, to := range map[string]approvals.State{"canceled": approvals.Canceled, "expired": approvals.Expired} {
		if _, changed, err := s.End(t.Context(), id, to, start); err != nil || !changed {
			t.Fatal(changed, err)
		}
	}
	is(t, "canceled", s.Decide(t.Context(), "canceled", yes("ann", start)), approvals.ErrCanceled)
	is(t, "expired", s.Decide(t.Context(), "expired", yes("ann", start)), approvals.ErrExpired)
}

func testUse(t *testing.T, open func(*testing.T) approvals.Store) {
	a, b := open(t), open(t)
	h := NewHold(t, "h", start)
	late, refused, openHold := NewHold(t, "late", start), NewHold(t, "refused", start), NewHold(t, "open", start)
	create(t, a, h, late, refused, openHold)
	for _, id := range []string{"h", "late"} {
		if err := a.Decide(t.Context(), id, yes("ann", start)); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Decide(t.Context(), "refused", approvals.Verdict{At: start}); err != nil {
		t.Fatal(err)
	}
	other := h.Binding
	other[31]++
	is(t, "another call", b.Use(t.Context(), "h", other, start), approvals.ErrBinding)
	is(t, "open", b.Use(t.Context(), "open", h.Binding, start), approvals.ErrNotApproved)
	is(t, "refused", b.Use(t.Context(), "refused", h.Binding, start), approvals.ErrNotApproved)
	is(t, "too late", b.Use(t.Context(), "late", h.Binding, late.Expires.Add(approvals.Grace+1)), approvals.ErrExpired)
	at := h.Expires.Add(approvals.Grace)
	if err := b.Use(t.Context(), "h", h.Binding, at); err != nil {
		t.Fatal(err)
	}
	if st := state(t, a, "h", approvals.Used); !st.UsedAt.Equal(at) || st.By != "ann" {
		t.Errorf("got %+v", st)
	}
	is(t, "twice", a.Use(t.Context(), "h", h.Binding, start), approvals.ErrUsed)
	is(t, "decide a used one", a.Decide(t.Context(), "h", approvals.Verdict{At: start}), approvals.ErrDecided)
}

func testEnd(t *testing.T, open func(*testing.T) approvals.Store) {
	s := open(t)
	create(t, s, NewHold(t, "a", start), NewHold(t, "b", start))
	st, changed, err := s.End(t.Context(), "a", approvals.Canceled, start.Add(1))
	if err != nil || !changed || st.State != approvals.Canceled || !st.EndedAt.Equal(start.Add(1)) {
		t.Errorf("got %+v %v %v", st, changed, err)
	}
	st, changed, err = s.End(t.Context(), "a", approvals.Expired, start.Add(2))
	if err != nil || changed || st.State != approvals.Canceled {
		t.Errorf("again: %+v %v %v", st, changed, err)
	}
	if err := s.Decide(t.Context(), "b", yes("ann", start)); err != nil {
		t.Fatal(err)
	}
	st, changed, err = s.End(t.Context(), "b", approvals.Expired, start.Add(time.Hour))
	if err != nil || changed || st.State != approvals.Approved || st.By != "ann" {
		t.Errorf("an approval was ended: %+v %v %v", st, changed, err)
	}
	for _, to := range []approvals.State{approvals.Open, approvals.Approved, approvals.Used, approvals.Refused, ""} {
		if _, changed, err := s.End(t.Context(), "a", to, start); err == nil || changed {
			t.Errorf("a hold could end as %q", to)
		}
	}
}

func testExpire(t *testing.T, open func(*testing.T) approvals.Store) {
	s := open(t)
	var ids []string
	for i := range 5 {
		h := NewHold(t, fmt.Sprintf("h%d", i), start)
		h.Expires = start.Add(time.Duration(i) * time.Second)
		create(t, s, h)
		ids = append(ids, h.ID)
	}
	if err := s.Decide(t.Context(), "h1", yes("ann", start)); err != nil {
		t.Fatal(err)
	}
	var got []string
	for {
		holds, err := s.Expire(t.Context(), start.Add(3*time.Second), 2)
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range holds {
			if h.State != approvals.Expired || h.Rule != "big-refunds" || h.Request.Body != nil || h.EndedAt.IsZero() {
				t.Errorf("got %+v", h)
			}
			got = append(got, h.ID)
		}
		if len(holds) < 2 {
			break
		}
	}
	slices.Sort(got)
	if want := []string{"h0", "h2", "h3"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	state(t, s, "h1", approvals.Approved)
	state(t, s, ids[4], approvals.Open)
}

func testList(t *testing.T, open func(*testing.T) approvals.Store) {
	s := open(t)
	for i := range 6 {
		// Two at each time, so that the id must tell them apart.
		h := NewHold(t, fmt.Sprintf("h%d", i), start.Add(time.Duration(i/2)*time.Second))
		if i == 3 {
			h.Connection = "erp"
		}
		create(t, s, h)
	}
	if err := s.Decide(t.Context(), "h4", yes("ann", start)); err != nil {
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
	if _, _, err := a.End(t.Context(), "h0", approvals.Canceled, start); err != nil {
		t.Fatal(err)
	}
	ids, cursor, err := b.Changes(t.Context(), -1)
	if err != nil || len(ids) > 0 || cursor < 0 {
		t.Fatal(ids, cursor, err)
	}
	if ids, next, err := b.Changes(t.Context(), cursor); err != nil || len(ids) > 0 || next != cursor {
		t.Fatal(ids, next, err)
	}
	if err := a.Decide(t.Context(), "h1", yes("ann", start)); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Expire(t.Context(), start.Add(time.Hour), 10); err != nil {
		t.Fatal(err)
	}
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
	for _, id := range []string{"h1", "h2"} {
		if !slices.Contains(seen, id) {
			t.Errorf("the change of %s was not seen: %q", id, seen)
		}
	}
	if slices.Contains(seen, "h0") {
		t.Errorf("an old change came again: %q", seen)
	}
	// A cursor outlives the changes it was taken after.
	if n, err := a.Prune(t.Context(), start.Add(2*time.Hour), 100); err != nil || n != 3 {
		t.Fatal(n, err)
	}
	create(t, a, NewHold(t, "h3", start))
	if _, _, err := a.End(t.Context(), "h3", approvals.Canceled, start); err != nil {
		t.Fatal(err)
	}
	if ids, _, err := b.Changes(t.Context(), cursor); err != nil || !slices.Equal(ids, []string{"h3"}) {
		t.Errorf("after pruning: %q %v", ids, err)
	}
}

func testPrune(t *testing.T, open func(*testing.T) approvals.Store) {
	s := open(t)
	for i := range 4 {
		create(t, s, NewHold(t, fmt.Sprintf("h%d", i), start))
	}
	for i := range 3 {
		if _, _, err := s.End(t.Context(), fmt.Sprintf("h%d", i), approvals.Canceled, start.Add(time.Duration(i)*time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := s.Prune(t.Context(), start.Add(2*time.Hour), 1); err != nil || n != 1 {
		t.Errorf("limited: %d %v", n, err)
	}
	if n, err := s.Prune(t.Context(), start.Add(2*time.Hour), 100); err != nil || n != 1 {
		t.Errorf("rest: %d %v", n, err)
	}
	state(t, s, "h2", approvals.Canceled)
	state(t, s, "h3", approvals.Open)
}

func testErase(t *testing.T, open func(*testing.T) approvals.Store) {
	s := open(t)
	var calls []call.ID
	for _, id := range []string{"open", "approved", "used", "refused", "other"} {
		h := NewHold(t, id, start)
		create(t, s, h)
		if id != "other" {
			calls = append(calls, h.CallID)
		}
	}
	for _, id := range []string{"approved", "used", "refused", "other"} {
		v := yes("ann", start)
		v.Approve = id != "refused"
		if err := s.Decide(t.Context(), id, v); err != nil {
			t.Fatal(err)
		}
	}
	before, err := s.Get(t.Context(), "used")
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"used", "other"} {
		if err := s.Use(t.Context(), id, before.Binding, start); err != nil {
			t.Fatal(err)
		}
	}
	erase := func(at time.Time, want int, gone ...string) {
		t.Helper()
		if n, err := s.Erase(t.Context(), calls, at); err != nil || n != want {
			t.Errorf("erased %d, %v; want %d", n, err, want)
		}
		for _, id := range []string{"open", "approved", "used", "refused", "other"} {
			h, err := s.Get(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			empty := len(h.ArgsJSON) == 0 && h.Request.Path == "" && len(h.Request.Body) == 0 && h.Binding == [32]byte{}
			whole := len(h.ArgsJSON) > 0 && h.Request.Path != "" && len(h.Request.Body) > 0 && h.Binding == before.Binding
			if is := slices.Contains(gone, id); empty != is || whole == is || h.Function != before.Function || h.Identity.Subject != before.Identity.Subject {
				t.Errorf("%s: %+v", id, h)
			}
		}
	}
	erase(start, 2, "used", "refused")
	erase(start, 0, "used", "refused")
	// What can still be used is not taken from under it, and no longer.
	is(t, "approved", s.Use(t.Context(), "used", before.Binding, start), approvals.ErrUsed)
	erase(start.Add(time.Hour), 1, "used", "refused", "approved")
	is(t, "erased", s.Use(t.Context(), "approved", [32]byte{}, start.Add(time.Hour)), approvals.ErrExpired)
	state(t, s, "open", approvals.Open)
}

func testContext(t *testing.T, open func(*testing.T) approvals.Store) {
	s := open(t)
	create(t, s, NewHold(t, "h", start))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Decide(ctx, "h", yes("ann", start)); err == nil {
		t.Error("decided for a caller that is gone")
	}
	if _, err := s.Get(ctx, "h"); err == nil {
		t.Error("read for a caller that is gone")
	}
	state(t, s, "h", approvals.Open)
}

const rounds, racers = 10, 4

func race(n int, do func(i int)) {
	var wg sync.WaitGroup
	gate := make(chan struct{})
	for i := range n {
		wg.Go(func() { <-gate; do(i) })
	}
	close(gate)
	wg.Wait()
}

// Two uses of one approval: one passes.
func testRaceUse(t *testing.T, open func(*testing.T) approvals.Store) {
	stores := []approvals.Store{open(t), open(t)}
	for r := range rounds {
		h := NewHold(t, fmt.Sprintf("h%d", r), start)
		create(t, stores[0], h)
		if err := stores[0].Decide(t.Context(), h.ID, yes("ann", start)); err != nil {
			t.Fatal(err)
		}
		var passed atomic.Int32
		race(racers, func(i int) {
			switch err := stores[i%2].Use(t.Context(), h.ID, h.Binding, start); {
			case err == nil:
				passed.Add(1)
			case !errors.Is(err, approvals.ErrUsed):
				t.Errorf("use: %v", err)
			}
		})
		if passed.Load() != 1 {
			t.Fatalf("%d uses of one approval passed", passed.Load())
		}
	}
}

func testRaceDecide(t *testing.T, open func(*testing.T) approvals.Store) {
	stores := []approvals.Store{open(t), open(t)}
	for r := range rounds {
		h := NewHold(t, fmt.Sprintf("h%d", r), start)
		create(t, stores[0], h)
		var won atomic.Int32
		winner := atomic.Pointer[approvals.Verdict]{}
		race(racers, func(i int) {
			v := approvals.Verdict{Approve: i%2 == 0, By: fmt.Sprint(i), At: start}
			switch err := stores[i/2%2].Decide(t.Context(), h.ID, v); {
			case err == nil:
				won.Add(1)
				winner.Store(&v)
			case !errors.Is(err, approvals.ErrDecided):
				t.Errorf("decide: %v", err)
			}
		})
		st, err := stores[1].Status(t.Context(), h.ID)
		if err != nil || won.Load() != 1 || st.By != winner.Load().By || (st.State == approvals.Approved) != winner.Load().Approve {
			t.Fatalf("%d decisions won; %+v is what stands: %v", won.Load(), st, err)
		}
	}
}

// Approve against expire against cancel: one of them happens.
func testRaceEnds(t *testing.T, open func(*testing.T) approvals.Store) {
	stores := []approvals.Store{open(t), open(t)}
	for r := range rounds {
		h := NewHold(t, fmt.Sprintf("h%d", r), start)
		create(t, stores[0], h)
		var won atomic.Int32
		var wonAs [4]approvals.State
		race(4, func(i int) {
			ok := false
			switch i {
			case 0:
				err := stores[0].Decide(t.Context(), h.ID, yes("ann", start))
				if ok = err == nil; ok {
					wonAs[i] = approvals.Approved
				} else if !errors.Is(err, approvals.ErrExpired) && !errors.Is(err, approvals.ErrCanceled) {
					t.Errorf("decide: %v", err)
				}
			case 1, 2:
				to := []approvals.State{approvals.Expired, approvals.Canceled}[i-1]
				_, changed, err := stores[1].End(t.Context(), h.ID, to, start)
				if err != nil {
					t.Errorf("end: %v", err)
				}
				if ok = changed; ok {
					wonAs[i] = to
				}
			case 3:
				holds, err := stores[0].Expire(t.Context(), h.Expires, 10)
				if err != nil {
					t.Errorf("expire: %v", err)
				}
				if ok = len(holds) > 0; ok {
					wonAs[i] = approvals.Expired
				}
			}
			if ok {
				won.Add(1)
			}
		})
		st, err := stores[1].Status(t.Context(), h.ID)
		if err != nil || won.Load() != 1 || !slices.Contains(wonAs[:], st.State) {
			t.Fatalf("%d ends %q won; %q is what stands: %v", won.Load(), wonAs, st.State, err)
		}
	}
}

// Two sweepers: each hold expires in one of them.
func testRaceExpire(t *testing.T, open func(*testing.T) approvals.Store) {
	stores := []approvals.Store{open(t), open(t)}
	for i := range 20 {
		create(t, stores[0], NewHold(t, fmt.Sprintf("h%02d", i), start))
	}
	var mu sync.Mutex
	count := map[string]int{}
	race(2, func(i int) {
		for {
			holds, err := stores[i].Expire(t.Context(), start.Add(time.Hour), 3)
			if err != nil {
				t.Errorf("expire: %v", err)
			}
			if len(holds) == 0 {
				return
			}
			mu.Lock()
			for _, h := range holds {
				count[h.ID]++
			}
			mu.Unlock()
		}
	})
	for id, n := range count {
		if n != 1 {
			t.Errorf("%s expired %d times", id, n)
		}
	}
	if len(count) != 20 {
		t.Errorf("%d of 20 expired", len(count))
	}
}
