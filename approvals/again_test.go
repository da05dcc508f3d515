package approvals_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/callgate/callgate/approvals"
	"github.com/callgate/callgate/approvals/storetest"
	"github.com/callgate/callgate/call"
)

// again has callers come again, after being kept open for a while.
func again(open time.Duration) call.Ruling {
	r := leads
	r.Hold.Wait, r.Hold.Open, r.Hold.Timeout, r.Hold.Valid = call.WaitRetry, open, time.Hour, 10*time.Minute
	return r
}

func TestComeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(storetest.NewMemory())
		defer d.run(t)()
		r := again(0)
		first := d.Hold(t.Context(), refund(t), r)
		check(t, first, call.HoldDeny, call.ReasonApprovalPending)
		h := <-d.asked
		if first.Approval.ID != h.ID || first.Approval.Again.After != 2*time.Second || !strings.Contains(first.Message, h.ID) {
			t.Errorf("%+v", first.Approval)
		}
		// However often it comes, there is one hold, and people are asked once.
		for i := range 5 {
			time.Sleep(time.Minute)
			d := d.Hold(t.Context(), refund(t), r)
			check(t, d, call.HoldDeny, call.ReasonApprovalPending)
			if d.Approval.ID != h.ID || d.Approval.Attempts != i+2 {
				t.Errorf("attempt %d: %+v", i+2, d.Approval)
			}
			if want := min(time.Duration(i+1)*6*time.Second, 30*time.Second); d.Approval.Again.After != want {
				t.Errorf("come again after %s, want %s", d.Approval.Again.After, want)
			}
		}
		// A byte of difference, another caller, another policy: another hold.
		for _, differ := range []func(*call.Call, *call.Ruling){
			func(c *call.Call, _ *call.Ruling) { c.Request.Body = append(slices.Clone(c.Request.Body), ' ') },
			func(c *call.Call, _ *call.Ruling) { c.Request.Path += "&y=2" },
			func(c *call.Call, _ *call.Ruling) { c.Identity.Subject = "eve" },
			func(c *call.Call, _ *call.Ruling) { c.Identity.Actors = nil },
			func(c *call.Call, _ *call.Ruling) { c.Connection = "erp" },
			func(_ *call.Call, r *call.Ruling) { r.PolicyVersion = "v8" },
		} {
			c, r := refund(t), again(0)
			differ(c, &r)
			if other := d.Hold(t.Context(), c, r); other.Approval.ID == h.ID || other.Reason != call.ReasonApprovalPending {
				t.Errorf("%+v", other)
			}
			<-d.asked
		}
		if err := d.say(h.ID, ann, true, "fine"); err != nil {
			t.Fatal(err)
		}
		c := refund(t)
		passed := d.Hold(t.Context(), c, r)
		check(t, passed, call.HoldAllow, call.ReasonApproved)
		if passed.Approval.ID != h.ID || !slices.Equal(passed.Approval.By, []string{"https://idp|ann"}) {
			t.Errorf("%+v", passed.Approval)
		}
		if got, err := d.Get(t.Context(), h.ID); err != nil || got.State != approvals.Used || got.UsedFor != c.ID {
			t.Errorf("%+v %v", got.Status, err)
		}
		// Once: the next asks anew.
		next := d.Hold(t.Context(), refund(t), r)
		check(t, next, call.HoldDeny, call.ReasonApprovalPending)
		if next.Approval.ID == h.ID {
			t.Error("an approval passed twice")
		}
		h2 := <-d.asked
		if err := d.say(h2.ID, ann, false, "no more"); err != nil {
			t.Fatal(err)
		}
		// Who comes again after a no is told so, until the time is over.
		for range 2 {
			no := d.Hold(t.Context(), refund(t), r)
			check(t, no, call.HoldDeny, call.ReasonRefused)
			if no.Approval.ID != h2.ID || !strings.Contains(no.Message, "no more") {
				t.Errorf("%+v", no)
			}
		}
	})
}

// Kept open for a while, a caller gets its answer if it comes in that time.
func TestOpenThenComeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(storetest.NewMemory())
		defer d.run(t)()
		began := time.Now()
		h, done := d.hold(t.Context(), refund(t), again(20*time.Second))
		pending := <-done
		check(t, pending, call.HoldDeny, call.ReasonApprovalPending)
		if took := time.Since(began); took != 20*time.Second || pending.Approval.HeldFor != took {
			t.Errorf("told after %s", took)
		}
		answers := make(chan call.Decision, 1)
		go func() { answers <- d.Hold(t.Context(), refund(t), again(20*time.Second)) }()
		time.Sleep(5 * time.Second)
		if err := d.say(h.ID, ann, true, ""); err != nil {
			t.Fatal(err)
		}
		check(t, <-answers, call.HoldAllow, call.ReasonApproved)
	})
}

// Two of the caller's calls wait for one approval: it passes one, and the other
// asks for its own.
func TestTwoComeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(storetest.NewMemory())
		defer d.run(t)()
		h, one := d.hold(t.Context(), refund(t), again(30*time.Second))
		two := make(chan call.Decision, 1)
		go func() { two <- d.Hold(t.Context(), refund(t), again(30*time.Second)) }()
		time.Sleep(time.Second)
		if err := d.say(h.ID, ann, true, ""); err != nil {
			t.Fatal(err)
		}
		got := map[call.Reason]string{}
		for range 2 {
			var dec call.Decision
			select {
			case dec = <-one:
			case dec = <-two:
			}
			got[dec.Reason] = dec.Approval.ID
		}
		if got[call.ReasonApproved] != h.ID || got[call.ReasonApprovalPending] == "" || got[call.ReasonApprovalPending] == h.ID {
			t.Errorf("%v", got)
		}
	})
}

// A caller that hangs up while it is kept open comes again; its hold stays.
func TestHangsUpAndComesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(storetest.NewMemory())
		defer d.run(t)()
		ctx, hangUp := context.WithCancel(t.Context())
		h, done := d.hold(ctx, refund(t), again(30*time.Second))
		hangUp()
		check(t, <-done, call.HoldExpired, call.ReasonCanceled)
		if err := d.say(h.ID, ann, true, ""); err != nil {
			t.Fatal(err)
		}
		check(t, d.Hold(t.Context(), refund(t), again(0)), call.HoldAllow, call.ReasonApproved)
	})
}

// An approval that nobody comes for ends, and so does a hold that nobody decides.
func TestComesTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(storetest.NewMemory())
		defer d.run(t)()
		first := d.Hold(t.Context(), refund(t), again(0))
		if err := d.say(first.Approval.ID, ann, true, ""); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10*time.Minute + time.Second)
		late := d.Hold(t.Context(), refund(t), again(0))
		check(t, late, call.HoldDeny, call.ReasonApprovalPending)
		if late.Approval.ID == first.Approval.ID {
			t.Error("an approval outlived its time")
		}
		time.Sleep(time.Hour)
		if next := d.Hold(t.Context(), refund(t), again(0)); next.Approval.ID == late.Approval.ID || next.Reason != call.ReasonApprovalPending {
			t.Errorf("%+v", next)
		}
		if err := d.say(late.Approval.ID, ann, true, ""); !errors.Is(err, approvals.ErrExpired) {
			t.Errorf("decided after its time: %v", err)
		}
	})
}

// A replica that stops lets its callers go, and leaves their holds as they are:
// approved meanwhile, the call passes at the next replica.
func TestStopLeavesHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := storetest.NewMemory()
		old := newDesk(store)
		stop := old.run(t)
		h, done := old.hold(t.Context(), refund(t), leads)
		stop()
		gone := <-done
		check(t, gone, call.HoldDeny, call.ReasonApprovalPending)
		if gone.Approval.Again.After <= 0 || !strings.Contains(gone.Message, "restarts") {
			t.Errorf("%+v", gone)
		}
		next := newDesk(store)
		defer next.run(t)()
		if err := next.say(h.ID, ann, true, ""); err != nil {
			t.Fatal(err)
		}
		passed := next.Hold(t.Context(), refund(t), leads)
		check(t, passed, call.HoldAllow, call.ReasonApproved)
		if passed.Approval.ID != h.ID {
			t.Errorf("%+v", passed.Approval)
		}
	})
}

// Two replicas, one caller, its calls at both at the same moment: one hold, and
// one of them passes.
func TestComesToTwoReplicas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := storetest.NewMemory()
		desks := []*desk{newDesk(store), newDesk(store)}
		for _, d := range desks {
			defer d.run(t)()
		}
		both := func() (out []call.Decision) {
			var mu sync.Mutex
			var wg sync.WaitGroup
			for _, d := range desks {
				c := refund(t)
				wg.Go(func() {
					got := d.Hold(t.Context(), c, again(0))
					mu.Lock()
					defer mu.Unlock()
					out = append(out, got)
				})
			}
			wg.Wait()
			return out
		}
		asked := both()
		if asked[0].Approval.ID != asked[1].Approval.ID {
			t.Fatalf("two holds: %+v", asked)
		}
		if err := desks[0].say(asked[0].Approval.ID, ann, true, ""); err != nil {
			t.Fatal(err)
		}
		passed := 0
		for _, d := range both() {
			if d.Outcome.Allowed() {
				passed++
			}
		}
		if passed != 1 {
			t.Errorf("%d calls passed on one approval", passed)
		}
	})
}

func TestStanding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(storetest.NewMemory())
		defer d.run(t)()
		c := refund(t)
		id := d.Hold(t.Context(), c, again(0)).Approval.ID
		st, err := d.Standing(t.Context(), id, c.Identity)
		if err != nil || st.State != approvals.Open || st.RetryAfter != 2*time.Second || time.Until(st.Expires) != time.Hour {
			t.Errorf("%+v %v", st, err)
		}
		for _, who := range []call.Identity{ann, {}, {Issuer: "https://other", Subject: "joe"}, {Issuer: "https://idp", Subject: "Joe"}} {
			if st, err := d.Standing(t.Context(), id, who); !errors.Is(err, approvals.ErrNotFound) {
				t.Errorf("%s is told: %+v %v", who.Subject, st, err)
			}
		}
		if err := d.say(id, ann, false, "not today"); err != nil {
			t.Fatal(err)
		}
		if st, err := d.Standing(t.Context(), id, c.Identity); err != nil || st.State != approvals.Refused || st.Comment != "not today" || st.RetryAfter != 0 {
			t.Errorf("%+v %v", st, err)
		}
	})
}

// A caller may not ask for ever more, whether it comes again or waits with its
// request open.
func TestTooManyWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(storetest.NewMemory())
		defer d.run(t)()
		numbered := func(n int) *call.Call {
			c := refund(t)
			c.Request.Path += fmt.Sprintf("&n=%d", n)
			return c
		}
		for n := range 100 {
			check(t, d.Hold(t.Context(), numbered(n), again(0)), call.HoldDeny, call.ReasonApprovalPending)
		}
		too := d.Hold(t.Context(), numbered(100), again(0))
		check(t, too, call.Deny, call.ReasonApprovalLimit)
		if too.Approval != nil || !strings.Contains(too.Message, "100 of your calls") {
			t.Errorf("%+v", too)
		}
		check(t, d.Hold(t.Context(), numbered(99), again(0)), call.HoldDeny, call.ReasonApprovalPending)
		check(t, d.Hold(t.Context(), numbered(101), leads), call.Deny, call.ReasonApprovalLimit)
	})
}
