package console

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/callgate/callgate/approvals"
	"github.com/callgate/callgate/call"
)

const (
	// listMost bounds a listing.
	listMost = 200
	// maxComment bounds the body of a decision, in bytes.
	maxComment = 16 << 10
	// breath is how often a watcher is told that nothing happens.
	breath = 15 * time.Second
	// watchMost bounds what one person watches at once.
	watchMost = 5
)

func (s *Server) list(w http.ResponseWriter, r *http.Request, who call.Identity) {
	q := r.URL.Query()
	f := approvals.Filter{State: approvals.State(q.Get("state")), Connection: q.Get("connection"), Function: q.Get("function"), Rule: q.Get("rule"),
		Subject: q.Get("subject"), Unreviewed: q.Get("unreviewed") == "true", Limit: listMost}
	if f.State != "" && !slices.Contains(approvals.States, f.State) {
		refuse(w, http.StatusBadRequest, fmt.Sprintf("no approval is ever in state %q; the states are %s", f.State, words(approvals.States)))
		return
	}
	if text := q.Get("since"); text != "" {
		var err error
		if f.Since, err = time.Parse(time.RFC3339, text); err != nil {
			refuse(w, http.StatusBadRequest, "since must be a time such as 2026-12-24T18:00:00Z")
			return
		}
	}
	var holds []approvals.Hold
	var err error
	if q.Get("mine") == "true" {
		f.State = approvals.Open
		holds, err = s.cfg.Approvals.List(r.Context(), f, &who)
	} else {
		holds, err = s.cfg.Approvals.Mine(r.Context(), f, who)
	}
	if err != nil {
		s.failed(w, r, err)
		return
	}
	out := []Approval{}
	for _, h := range holds {
		out = append(out, summary(h))
	}
	answer(w, out)
}

func words(list []approvals.State) string {
	var out []string
	for _, s := range list {
		out = append(out, string(s))
	}
	return strings.Join(out, ", ")
}

// watch answers with a line of JSON for each approval that is open, and then for
// each that something happens to, for as long as the client listens and its
// token is good.
func (s *Server) watch(w http.ResponseWriter, r *http.Request, who call.Identity) {
	if !s.watches(who, 1) {
		refuse(w, http.StatusTooManyRequests, fmt.Sprintf("you watch %d times already; end one of them", watchMost))
		return
	}
	defer s.watches(who, -1)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	if !who.Expires.IsZero() {
		ctx, cancel = context.WithDeadline(ctx, who.Expires)
		defer cancel()
	}
	out := http.NewResponseController(w)
	if err := out.SetWriteDeadline(time.Time{}); err != nil && !errors.Is(err, http.ErrNotSupported) {
		s.failed(w, r, err)
		return
	}
	var mu sync.Mutex // over w, between what happens and the breath
	line := func(v any) error {
		mu.Lock()
		defer mu.Unlock()
		text := []byte("\n")
		if v != nil {
			data, err := json.Marshal(v)
			if err != nil {
				return err
			}
			text = append(data, '\n')
		}
		if _, err := w.Write(text); err != nil {
			return err
		}
		return out.Flush()
	}
	open, follow, err := s.cfg.Approvals.Watch(ctx, who, listMost)
	if err != nil {
		s.failed(w, r, err)
		return
	}
	w.Header().Set("content-type", "application/x-ndjson")
	var breathing sync.WaitGroup
	breathing.Go(func() {
		t := time.NewTicker(breath)
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-t.C:
				if s.cfg.Admit(who) != nil || line(nil) != nil {
					cancel()
					return
				}
			}
		}
	})
	defer breathing.Wait()
	defer cancel()
	tell := func(h approvals.Hold) error { return line(summary(h)) }
	for i := len(open) - 1; i >= 0; i-- {
		if tell(open[i]) != nil {
			return
		}
	}
	if err := line(nil); err != nil { // so that the client knows that it listens
		return
	}
	if err := follow(ctx, tell); err != nil && ctx.Err() == nil {
		s.cfg.Log.WarnContext(ctx, "somebody who watches approvals is not told further", "error", err)
	}
}

// watches counts what somebody watches up or down; false: it is too many.
func (s *Server) watches(who call.Identity, by int) bool {
	name := approvals.PersonOf(who).String()
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.watching[name] + by
	if n > watchMost {
		return false
	}
	if s.watching[name] = n; n == 0 {
		delete(s.watching, name)
	}
	return true
}

func (s *Server) show(w http.ResponseWriter, r *http.Request, who call.Identity) {
	v, err := s.cfg.Approvals.Look(r.Context(), r.PathValue("id"), who)
	if err != nil {
		s.failed(w, r, err)
		return
	}
	answer(w, full(v))
}

func (s *Server) decide(approve bool) func(http.ResponseWriter, *http.Request, call.Identity) {
	return func(w http.ResponseWriter, r *http.Request, who call.Identity) {
		var d Decision
		if !read(w, r, maxComment, &d, "comment, and with an approval grant and bounds, or {}") {
			return
		}
		id := r.PathValue("id")
		grant, err := grantOfDecision(d)
		if err != nil {
			s.failed(w, r, err)
			return
		}
		h, given, err := s.Decide(r.Context(), id, who, approvals.Answer{Approve: approve, Comment: d.Comment, Grant: grant})
		if err != nil {
			s.failed(w, r, err)
			return
		}
		// Not Look: who is told what was decided has not looked before deciding.
		v, err := s.cfg.Approvals.Show(r.Context(), h.ID)
		if err != nil {
			s.failed(w, r, err)
			return
		}
		out := full(v)
		out.Grant = strings.Join(given, ", ")
		answer(w, out)
	}
}

func (s *Server) review(w http.ResponseWriter, r *http.Request, who call.Identity) {
	var in Review
	if !read(w, r, maxComment, &in, "justified and comment") {
		return
	}
	h, err := s.cfg.Approvals.Review(r.Context(), r.PathValue("id"), who, in.Justified, in.Comment)
	if err != nil {
		s.failed(w, r, err)
		return
	}
	answer(w, summary(h))
}

func (s *Server) delegate(w http.ResponseWriter, r *http.Request, who call.Identity) {
	var in Delegate
	if !read(w, r, maxComment, &in, "to, until, and reason") {
		return
	}
	d, err := s.cfg.Approvals.Delegate(r.Context(), who, in.To, in.Until, in.Reason)
	s.answerDelegation(w, r, d, err)
}

func (s *Server) undelegate(w http.ResponseWriter, r *http.Request, who call.Identity) {
	end := s.cfg.Approvals.Undelegate
	if len(who.Actors) == 0 && s.cfg.Controllers.Include(who) {
		end = s.cfg.Approvals.EndDelegation
	}
	d, err := end(r.Context(), r.PathValue("id"), who)
	s.answerDelegation(w, r, d, err)
}

func (s *Server) answerDelegation(w http.ResponseWriter, r *http.Request, d approvals.Delegation, err error) {
	if err != nil {
		s.failed(w, r, err)
		return
	}
	answer(w, delegationOf(d))
}

func (s *Server) delegations(w http.ResponseWriter, r *http.Request, who call.Identity) {
	q := r.URL.Query()
	all := q.Get("all") == "true"
	var list []approvals.Delegation
	var err error
	switch {
	case q.Get("everyone") != "true":
		list, err = s.cfg.Approvals.Delegations(r.Context(), who, all)
	case len(who.Actors) > 0 || !s.cfg.Controllers.Include(who):
		refuse(w, http.StatusForbidden, "everybody's delegations are shown to those in control.administrators; leave everyone out for your own")
		return
	default:
		list, err = s.cfg.Approvals.EveryDelegation(r.Context(), all)
	}
	if err != nil {
		s.failed(w, r, err)
		return
	}
	out := []Delegation{}
	for _, d := range list {
		out = append(out, delegationOf(d))
	}
	answer(w, out)
}

func delegationOf(d approvals.Delegation) Delegation {
	return Delegation{ID: d.ID, From: approvals.PersonOf(d.From).String(), To: d.To, Reason: d.Reason, Created: d.Created, Until: d.Until, Ended: d.Ended, EndedBy: d.EndedBy}
}

func summary(h approvals.Hold) Approval {
	last, _ := h.Last()
	out := Approval{ID: h.ID, State: string(h.State), CallID: h.CallID.String(), Connection: h.Connection, Function: h.Function,
		Method: h.Request.Method, Path: h.Request.ShownPath(), Rule: h.Rule, Message: h.Message, Requester: h.Identity, Approvers: h.Asked(),
		PolicyVersion: h.PolicyVersion, AskedAt: h.AskedAt, Expires: h.Expires, Attempts: h.Attempts,
		Missing: h.Missing(), DecidedBy: strings.Join(h.Deciders(), ", "), DecidedAt: last.At, Comment: last.Comment, UsedAt: h.UsedAt, BreakGlass: h.BreakGlass}
	out.terms(h.Terms, h.Stage, h.State)
	out.decisions(h.Verdicts, h.Review)
	return out
}

func full(v approvals.View) Approval {
	a := Approval{ID: v.ID, State: string(v.State), CallID: v.CallID, Connection: v.Connection, Function: v.Function,
		Method: v.Method, Authority: v.Authority, Path: v.Path, Type: v.Type, Encoding: v.Encoding, Body: v.Body, BodyLength: v.BodyLength, Rule: v.Rule, Message: v.Message, Requester: v.Identity, Approvers: v.Approvers,
		PolicyVersion: v.Policy, AskedAt: v.AskedAt, Expires: v.Expires, Attempts: v.Attempts,
		Missing: v.Missing, DecidedBy: strings.Join(v.By, ", "), DecidedAt: v.DecidedAt, Comment: v.Comment, UsedAt: v.UsedAt, BreakGlass: v.BreakGlass,
		BodyForm: v.BodyForm, BodySHA256: v.BodySHA256, Hidden: v.Hidden, LastApproved: v.Last, History: v.History}
	a.terms(v.Terms, v.Stage, v.State)
	a.decisions(v.Verdicts, v.Review)
	if json.Valid([]byte(v.Arguments)) {
		a.Arguments = json.RawMessage(v.Arguments)
	}
	return a
}

func (a *Approval) terms(t call.Hold, stage int, state approvals.State) {
	a.Asks, a.Stages, a.ReasonRequired, a.MaxGrant = t.Asks(), len(t.Stages), t.Reason, int(t.Grant/time.Second)
	if state == approvals.Open {
		a.Stage = stage + 1
	}
}

func (a *Approval) decisions(list []approvals.Verdict, r approvals.Review) {
	for _, v := range list {
		a.Decisions = append(a.Decisions, Decided{By: v.By.String(), InPlaceOf: v.For.String(), Approved: v.Approve, Stage: v.Stage + 1, Comment: v.Comment, At: v.At})
	}
	if !r.At.IsZero() {
		a.Review = &Reviewed{By: r.By.String(), Justified: r.Justified, Comment: r.Comment, At: r.At}
	}
}
