package approvals

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/callgate/callgate/call"
)

// defaultTimeout is how long a hold without a time-out of its own waits.
const defaultTimeout = 2 * time.Minute

// Hold asks people about c and waits for what they say: until they decide,
// the ruling's time-out has passed, or ctx ends because the caller hung up. It
// never fails; whatever goes wrong denies the call.
//
// Where the ruling has the caller come again it waits no longer than that says,
// and whoever makes the same call finds the same hold.
//
// Outcomes: hold→allow once people said yes and the approval was taken up for
// this very call; hold→deny when they said no, when they have not said yet and
// the caller is to come again, or when their answer can't be had or recorded;
// hold→expired when no answer came while the call waited; deny when nobody could
// be asked.
//
// Thousands of calls wait at once, so a waiting call's stack is kept small: all that
// is done before and after the waiting is done aside.
func (s *Service) Hold(ctx context.Context, c *call.Call, r *call.Ruling) *call.Decision {
	w := &waiter{c: c, r: r, started: time.Now(), wake: make(chan struct{}, 1)}
	defer s.leave(w)
	for w.aside(ctx, s.ask); w.d == nil; w.aside(ctx, s.look) {
		w.sleep(ctx)
	}
	return w.d
}

// waiter is one call that waits for what people say.
type waiter struct {
	c       *call.Call
	r       *call.Ruling
	h       held
	started time.Time
	until   time.Time // it waits no longer than that
	timer   *time.Timer
	wake    chan struct{}  // a send has it look
	counted bool           // as waiting
	taken   int            // approvals that another of the caller's calls took up
	d       *call.Decision // what became of it; nil: it waits
}

// held is what a waiting call keeps of its hold. The store has all of it, and its
// body and arguments stand in the call.
type held struct {
	ID               string
	CallID           call.ID
	PolicyVersion    string
	Message          string
	AskedAt, Expires time.Time
	Open             time.Duration
	Retry            bool
	Attempts         int
	status           *Status // nil: it is open, and nobody has decided yet
}

func (w *waiter) keep(h *Hold) {
	w.h = held{ID: h.ID, CallID: h.CallID, PolicyVersion: h.PolicyVersion, Message: h.Message, AskedAt: h.AskedAt, Expires: h.Expires,
		Open: h.Terms.Open, Retry: h.Terms.Wait == call.WaitRetry}
	w.h.is(h.Status)
}

// is takes note of how far the hold has come.
func (h *held) is(st Status) {
	h.Attempts, h.status = st.Attempts, nil
	if st.State != Open || len(st.Verdicts) > 0 {
		kept := st
		h.status = &kept
	}
}

func (h *held) state() State {
	if h.status == nil {
		return Open
	}
	return h.status.State
}

// last is the newest verdict, or an empty one.
func (h *held) last() (v Verdict) {
	if h.status != nil {
		v, _ = h.status.Last()
	}
	return v
}

// aside runs a part of what is done for a waiting call on a goroutine of its own
// and waits for it. The stack that a database needs for a moment goes with it,
// where the call would keep it for as long as it waits. What do begins under its
// context is told of ctx's end by the call itself: ctx need not keep a list.
func (w *waiter) aside(ctx context.Context, do func(context.Context, *waiter)) {
	done := make(chan any)
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	if ctx.Err() != nil {
		cancel()
	}
	go func() {
		defer func() { done <- recover() }()
		do(inner, w)
	}()
	select {
	case p := <-done:
		finish(cancel, p)
	case <-ctx.Done():
		cancel()
		finish(cancel, <-done)
	}
}

// finish frees a context and hands a panic on: it is the caller's to deal with.
func finish(cancel context.CancelFunc, panicked any) {
	cancel()
	if panicked != nil {
		panic(panicked)
	}
}

// sleep waits until there is something to look at.
func (w *waiter) sleep(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-w.wake:
	}
}

func (w *waiter) ring() {
	select {
	case w.wake <- struct{}{}:
	default: // already told
	}
}

// end says what became of the call, with its approval.
func (s *Service) end(w *waiter, d call.Decision) {
	h := &w.h
	d.Rule, d.PolicyVersion, d.Shadow = w.r.Rule, w.r.PolicyVersion, w.r.Shadow
	if d.Outcome != call.Deny {
		now := time.Now()
		d.Approval = &call.Approval{ID: h.ID, Comment: h.last().Comment, AskedAt: h.AskedAt, EndedAt: now, HeldFor: now.Sub(w.started),
			Expires: h.Expires, Attempts: h.Attempts}
		if h.status != nil {
			d.Approval.By = h.status.Deciders()
		}
		if d.Reason == call.ReasonApprovalPending {
			d.Approval.Again = s.again(h, now)
		}
	}
	s.cfg.Metrics.ended.WithLabelValues(string(d.Reason)).Inc()
	w.d = &d
}

func (s *Service) newHold(c *call.Call, r *call.Ruling) *Hold {
	now := time.Now()
	path, args := s.hidden(c)
	h := &Hold{
		ID: newID(idPrefix), CallID: c.ID, Binding: c.Binding(r.PolicyVersion), PolicyVersion: r.PolicyVersion,
		Rule: r.Rule, Message: r.Message, Identity: c.Identity, Terms: r.Hold,
		Connection: c.Connection, Protocol: c.Protocol, Function: c.Function, ArgsJSON: args,
		Request: Request{Method: c.Request.Method, Authority: s.hide.Authority(c.Request.Authority), Path: path,
			ContentType: c.Request.Headers.Get("content-type"), ContentEncoding: c.Request.Headers.Get("content-encoding"),
			Body: c.Request.Body},
		Owner: s.name, Most: s.cfg.MaxOpen, AskedAt: now, Expires: now.Add(cmp.Or(max(r.Hold.Timeout, 0), defaultTimeout)),
	}
	if r.Hold.Wait == call.WaitRetry {
		h.Owner = ""
	}
	if s.cfg.Notifier != nil {
		h.Targets = s.cfg.Notifier.Targets(*h)
	}
	return h
}

// ask asks people about the call.
func (s *Service) ask(ctx context.Context, w *waiter) {
	c := w.c
	asks := s.newHold(c, w.r)
	w.keep(asks)
	h := &w.h
	switch {
	case c.Identity.Anonymous():
		// Nobody could be kept from approving a call of their own.
		s.end(w, call.Decision{Outcome: call.Deny, Reason: call.ReasonNoCredentials, Message: "a call without an identity can't be held for approval"})
		return
	case len(w.r.Hold.Stages) == 0 || slices.ContainsFunc(w.r.Hold.Stages, func(s call.Stage) bool { return s.Nobody() }):
		s.end(w, call.Decision{Outcome: call.Deny, Reason: call.ReasonPolicyError, Message: fmt.Sprintf("rule %q holds calls and names nobody who may approve them", w.r.Rule)})
		return
	}
	if len(c.Request.Headers.Values(call.HeaderBreakGlass)) > 0 {
		s.end(w, s.breakGlass(ctx, w, asks))
		return
	}
	s.enter(w)
	var asked Change
	if err := step(ctx, func(ctx context.Context) (err error) {
		if err := s.attend(ctx); err != nil {
			return err
		}
		asked, err = s.cfg.Store.Ask(ctx, *asks)
		return err
	}); err != nil {
		s.end(w, s.unasked(ctx, h, err))
		return
	}
	if len(asked.Steps) == 0 {
		// It came before, or waited and its replica is gone.
		s.leave(w)
		w.keep(&asked.Hold)
		s.enter(w)
		w.ring() // it may be decided already
		s.cfg.Log.InfoContext(ctx, "a call comes again for the approval that it asked for", "approval", h.ID, "call_id", c.ID, "asked_by", h.CallID, "attempts", h.Attempts)
	} else {
		w.keep(&asked.Hold)
		if err := step(ctx, func(ctx context.Context) error { return s.took(ctx, asked) }); err != nil {
			s.close(ctx, h, Canceled)
			if ctx.Err() != nil {
				s.end(w, s.canceled())
			} else {
				s.end(w, s.unrecorded(ctx, h, err))
			}
			return
		}
		s.cfg.Metrics.asked.Inc()
		s.cfg.Log.InfoContext(ctx, "approval asked for", "approval", h.ID, "call_id", h.CallID, "rule", asks.Rule, "connection", asks.Connection, "function", asks.Function, "expires", h.Expires)
	}
	s.cfg.Metrics.waiting.Inc()
	w.counted = true
	period := time.Until(h.Expires)
	if h.Retry {
		period = min(period, h.Open)
		if h.state() != Open {
			s.settle(ctx, w)
			return
		}
	}
	w.until = time.Now().Add(period)
	w.timer = time.AfterFunc(period, w.ring)
	if s.stops() {
		w.ring() // whoever stopped may have looked for waiters before
	}
}

// unasked answers for a call that people could not be asked about.
func (s *Service) unasked(ctx context.Context, h *held, err error) call.Decision {
	switch {
	case ctx.Err() != nil:
		// It may be there all the same; nobody need decide about it.
		s.close(ctx, h, Canceled)
		return call.Decision{Outcome: call.Deny, Reason: call.ReasonCanceled, Message: "the caller hung up before an approval was asked for"}
	case errors.Is(err, ErrTooMany):
		return call.Decision{Outcome: call.Deny, Reason: call.ReasonApprovalLimit,
			Message: fmt.Sprintf("%d of your calls wait for approval already, and there may be no more; let people decide about them first", s.cfg.MaxOpen)}
	}
	s.away(ctx, h, "ask", err)
	return call.Decision{Outcome: call.Deny, Reason: call.ReasonApprovalUnavailable, Message: "this call needs approval, and approvals can't be taken now; try again later"}
}

// look looks how far the hold of a call is that was woken.
func (s *Service) look(ctx context.Context, w *waiter) {
	h := &w.h
	switch {
	case ctx.Err() != nil:
		if !h.Retry && !s.stops() {
			s.close(ctx, h, Canceled)
		}
		s.end(w, s.canceled())
		return
	case s.stops():
		s.end(w, s.pending(h))
		return
	case !time.Now().Before(w.until):
		if h.Retry && time.Now().Before(h.Expires) {
			s.end(w, s.pending(h))
		} else if s.close(ctx, h, Expired) { // unless a decision came first
			s.settle(ctx, w)
		} else {
			s.end(w, call.Decision{Outcome: call.HoldDeny, Reason: call.ReasonApprovalUnavailable, Message: "nobody's decision could be had; try again later"})
		}
		return
	}
	var st Status
	err := step(ctx, func(ctx context.Context) (err error) { st, err = s.cfg.Store.Status(ctx, h.ID); return err })
	switch {
	case err == nil:
		h.is(st)
		if st.State != Open {
			s.settle(ctx, w)
		}
	case ctx.Err() == nil:
		s.away(ctx, h, "status", err)
		time.AfterFunc(s.cfg.Poll, w.ring)
	}
}

// mostTaken is how often a call asks anew because another of the caller's same
// calls took its approval up.
const mostTaken = 3

// settle answers for a hold that has left Open.
func (s *Service) settle(ctx context.Context, w *waiter) {
	d := s.settled(ctx, w.c, &w.h)
	if d.Reason == reasonTaken && w.taken < mostTaken {
		// This call needs an approval of its own.
		w.taken++
		s.leave(w)
		s.ask(ctx, w)
		return
	}
	s.end(w, d)
}

// settled is what becomes of a call whose hold has left Open.
func (s *Service) settled(ctx context.Context, c *call.Call, h *held) call.Decision {
	switch h.state() {
	case Approved:
		return s.use(ctx, c, h)
	case Refused:
		msg := "an approver refused this call"
		if last := h.last(); last.Comment != "" {
			msg += ": " + last.Comment
		}
		return call.Decision{Outcome: call.HoldDeny, Reason: call.ReasonRefused, Message: msg}
	case Expired:
		return call.Decision{Outcome: call.HoldExpired, Reason: call.ReasonApprovalExpired,
			Message: fmt.Sprintf("nobody decided about this call within %s; make it again to ask again", h.Expires.Sub(h.AskedAt).Round(time.Second))}
	case Canceled:
		return s.canceled()
	case Used:
		if h.Retry {
			return call.Decision{Outcome: call.HoldDeny, Reason: reasonTaken}
		}
	}
	s.cfg.Log.ErrorContext(ctx, "approval in a state it can't be in", "approval", h.ID, "call_id", h.CallID, "state", h.state())
	return call.Decision{Outcome: call.HoldDeny, Reason: call.ReasonInternal, Message: "this call's approval was taken up elsewhere"}
}

// use takes the approval up for c as it is now, and writes that down before
// the call goes on.
func (s *Service) use(ctx context.Context, c *call.Call, h *held) call.Decision {
	var used Change
	switch err := step(ctx, func(ctx context.Context) (err error) {
		used, err = s.cfg.Store.Use(ctx, h.ID, Use{Call: c.ID, Binding: c.Binding(h.PolicyVersion), At: time.Now()})
		return err
	}); {
	case err == nil:
	case ctx.Err() != nil:
		return s.canceled()
	case errors.Is(err, ErrExpired):
		return call.Decision{Outcome: call.HoldExpired, Reason: call.ReasonApprovalExpired, Message: "the approval came too late; make the call again"}
	case errors.Is(err, ErrUsed) && h.Retry:
		return call.Decision{Outcome: call.HoldDeny, Reason: reasonTaken}
	case errors.Is(err, ErrUsed), errors.Is(err, ErrBinding), errors.Is(err, ErrNotApproved), errors.Is(err, ErrNotFound):
		s.cfg.Log.ErrorContext(ctx, "approval refused for the call it was given for", "approval", h.ID, "call_id", h.CallID, "error", err)
		return call.Decision{Outcome: call.HoldDeny, Reason: call.ReasonInternal, Message: "this call's approval can't be used: " + err.Error()}
	default:
		s.away(ctx, h, "use", err)
		return call.Decision{Outcome: call.HoldDeny, Reason: call.ReasonApprovalUnavailable, Message: "the call was approved, but the approval could not be taken up; make it again to ask again"}
	}
	h.is(used.Hold.Status)
	// It is used up, so that must be written even if the caller goes now.
	if err := step(context.WithoutCancel(ctx), func(ctx context.Context) error { return s.took(ctx, used) }); err != nil {
		return s.unrecorded(ctx, h, err)
	}
	return call.Decision{Outcome: call.HoldAllow, Reason: call.ReasonApproved, Message: "approved"}
}

// close brings h to its end without a decision, even if its caller is gone, and
// reads what it has come to. It reports whether the store could be reached.
func (s *Service) close(ctx context.Context, h *held, to State) bool {
	ctx = context.WithoutCancel(ctx)
	var ended Change
	if err := step(ctx, func(ctx context.Context) (err error) {
		ended, err = s.cfg.Store.End(ctx, h.ID, to, time.Now())
		return err
	}); err != nil {
		if !errors.Is(err, ErrNotFound) {
			s.away(ctx, h, "end", err) // the sweeper will end it
		}
		return false
	}
	h.is(ended.Hold.Status)
	s.ended(ctx, ended)
	return true
}

// ended writes down that a hold ended without a decision. The call is denied
// either way and its own event says why, so a failure here is only logged.
func (s *Service) ended(ctx context.Context, c Change) {
	if err := step(ctx, func(ctx context.Context) error { return s.took(ctx, c) }); err != nil {
		s.cfg.Log.ErrorContext(ctx, "end of an approval not recorded", "approval", c.Hold.ID, "call_id", c.Hold.CallID, "state", c.Hold.State, "error", err)
	}
}

// step bounds one step that depends on a disk or another machine.
func step(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	return do(ctx)
}

func (s *Service) canceled() call.Decision {
	return call.Decision{Outcome: call.HoldExpired, Reason: call.ReasonCanceled, Message: "the caller hung up while the call waited for approval"}
}

func (s *Service) unrecorded(ctx context.Context, h *held, err error) call.Decision {
	s.cfg.Log.ErrorContext(ctx, "approval step not recorded; the call is denied", "approval", h.ID, "call_id", h.CallID, "error", err)
	return call.Decision{Outcome: call.HoldDeny, Reason: call.ReasonAuditUnavailable, Message: "the approval could not be recorded, so the call is denied; try again later"}
}

func (s *Service) away(ctx context.Context, h *held, step string, err error) {
	s.cfg.Metrics.storeErr.Inc()
	s.cfg.Log.ErrorContext(ctx, "approval store is away", "approval", h.ID, "call_id", h.CallID, "step", step, "error", err)
}

func (s *Service) enter(w *waiter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting[w.h.ID] = append(s.waiting[w.h.ID], w)
}

// leave ends the waiting for a hold. It may be called again.
func (s *Service) leave(w *waiter) {
	if w.counted {
		s.cfg.Metrics.waiting.Dec()
		w.counted = false
	}
	if w.timer != nil {
		w.timer.Stop()
		w.timer = nil
	}
	if w.h.ID == "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	left := slices.DeleteFunc(s.waiting[w.h.ID], func(other *waiter) bool { return other == w })
	if len(left) == 0 {
		delete(s.waiting, w.h.ID)
		return
	}
	s.waiting[w.h.ID] = left
}

// wake makes the waiting calls of these holds, if they are here, look.
func (s *Service) wake(ids ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		for _, w := range s.waiting[id] {
			w.ring()
		}
	}
}
