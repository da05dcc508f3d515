package pages

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/callgate/callgate/approvals"
	"github.com/callgate/callgate/approvals/link"
	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/console/login"
)

// link takes a link of a message to the page that it names. It tells nobody who
// is not logged in whether there is such a call.
func (s *Server) link(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	switch err := s.cfg.Links.Check(id, r.URL.Query(), s.cfg.Now()); {
	case errors.Is(err, link.ErrExpired):
		s.problem(w, r, http.StatusGone, "The link has expired", "What it led to was decided or has ended long ago. The approvals list all.")
	case err != nil:
		s.problem(w, r, http.StatusNotFound, "This is no link of this gateway", "It was changed on its way, or made by somebody else. Don't trust the message that it came in.")
	default:
		http.Redirect(w, r, "/approvals/"+url.PathEscape(id), http.StatusSeeOther)
	}
}

// row is one call in a list.
type row struct {
	ID, Function, Connection, Message string
	State                             approvals.State
	Identity                          call.Identity
	AskedAt, Expires                  time.Time
	Yours                             bool
}

type listPage struct {
	frame
	All   bool
	Calls []row
	Most  int // of them there may be more
	Empty string
}

// listMost bounds a list.
const listMost = 200

func (s *Server) list(w http.ResponseWriter, r *http.Request, ses login.Session) {
	p := listPage{frame: s.frame(ses, "approvals", "Approvals"), All: r.URL.Query().Get("show") == "all", Empty: "Nothing waits for you."}
	f := approvals.Filter{State: approvals.Open, Limit: listMost}
	if p.All {
		f.State, p.Empty = "", "No call that concerns you has been held."
	}
	holds, err := s.cfg.Desk.Mine(r.Context(), f, ses.Identity)
	s.listed(w, r, ses, "list", p, holds, err)
}

func (s *Server) reviews(w http.ResponseWriter, r *http.Request, ses login.Session) {
	p := listPage{frame: s.frame(ses, "reviews", "Reviews"), Empty: "No call waits for a review."}
	holds, err := s.cfg.Desk.Mine(r.Context(), approvals.Filter{Unreviewed: true, Limit: listMost}, ses.Identity)
	s.listed(w, r, ses, "reviews", p, holds, err)
}

func (s *Server) listed(w http.ResponseWriter, r *http.Request, ses login.Session, page string, p listPage, holds []approvals.Hold, err error) {
	if err != nil {
		s.failed(w, r, err)
		return
	}
	if len(holds) == listMost {
		p.Most = listMost
	}
	for i := range holds {
		h := &holds[i]
		rights, err := s.cfg.Desk.Rights(r.Context(), h, ses.Identity)
		if err != nil {
			s.failed(w, r, err)
			return
		}
		if rights.See {
			p.Calls = append(p.Calls, row{ID: h.ID, Function: approvals.Visible(h.Function), Connection: approvals.Visible(h.Connection), Message: approvals.Visible(h.Message),
				State: h.State, Identity: h.Identity, AskedAt: h.AskedAt, Expires: h.Expires, Yours: rights.Approve || rights.Refuse})
		}
	}
	s.render(w, r, http.StatusOK, page, p)
}

type notice struct{ Kind, Text string }

type approvalPage struct {
	frame
	Call      shown
	Notice    *notice
	Urgent    bool
	MayDecide bool
	MayReview bool
	WhyNot    string
	For       string // whom a delegate decides for
	FormToken string
	Shown     string
	Comment   string
	Grants    []grantChoice
	Grant     string
	Bounds    string
	// Of the page that confirms:
	Approve   bool
	Effect    string
	GrantText string
}

type grantChoice struct{ Value, Text string }

// open reads a hold for somebody who may see it; else it answers as if there were
// none.
func (s *Server) open(w http.ResponseWriter, r *http.Request, ses login.Session) (h approvals.Hold, p approvalPage, ok bool) {
	h, err := s.cfg.Desk.Get(r.Context(), r.PathValue("id"))
	var v approvals.View
	if err == nil {
		v, err = s.cfg.Desk.Show(r.Context(), h.ID)
	}
	var rights approvals.Rights
	if err == nil {
		rights, err = s.cfg.Desk.Rights(r.Context(), &h, ses.Identity)
	}
	if err == nil && !rights.See {
		err = approvals.ErrNotFound
	}
	if err != nil {
		s.failed(w, r, err)
		return h, p, false
	}
	p = approvalPage{frame: s.frame(ses, "approvals", v.Function), Call: show(&h, v), MayDecide: rights.Approve || rights.Refuse, MayReview: rights.Review && s.cfg.Review != nil,
		FormToken: ses.Token("decide " + h.ID), Shown: digest(v), Urgent: h.Expires.Sub(s.cfg.Now()) < time.Minute}
	if h.State == approvals.BrokeGlass && s.cfg.Review != nil {
		p.Nav = "reviews"
	}
	if rights.WhyNot != nil {
		p.WhyNot = "You can't decide about this call: " + rights.WhyNot.Error() + "."
		if by(&h, ses.Identity, true) {
			p.WhyNot = "You have approved this call. Others must approve too before it goes on."
		}
	}
	if rights.For != (approvals.Person{}) {
		p.For = person(rights.For.String())
	}
	if s.cfg.Grants != nil && rights.Approve {
		p.Grants = grantChoices(s.cfg.Grants(&h, ses.Identity))
	}
	return h, p, true
}

// grantChoices are the grants that somebody can give with an approval, up to most.
func grantChoices(most time.Duration) []grantChoice {
	var out []grantChoice
	for _, d := range []time.Duration{15 * time.Minute, time.Hour, 8 * time.Hour, 24 * time.Hour, 7 * 24 * time.Hour} {
		if d <= most {
			out = append(out, grantChoice{d.String(), "for " + words(d)})
		}
	}
	if len(out) == 0 {
		return nil
	}
	return append([]grantChoice{{"", "no: ask each time"}}, out...)
}

func words(d time.Duration) string {
	switch {
	case d < time.Hour:
		return period(d)[:len(period(d))-1] + " minutes"
	case d == time.Hour:
		return "an hour"
	case d < 24*time.Hour:
		return period(d)[:len(period(d))-1] + " hours"
	case d == 24*time.Hour:
		return "a day"
	}
	return "a week"
}

func (s *Server) approval(w http.ResponseWriter, r *http.Request, ses login.Session) {
	h, p, ok := s.open(w, r, ses)
	if !ok {
		return
	}
	if p.MayDecide || p.MayReview {
		if err := s.cfg.Desk.Seen(r.Context(), h.ID, ses.Identity); err != nil {
			s.cfg.Log.WarnContext(r.Context(), "that an approval was looked at is not on record", "approval", h.ID, "error", err)
		}
	}
	// What the address says was done is only told where it was.
	done := r.URL.Query().Get("done")
	switch {
	case done == "approved" && by(&h, ses.Identity, true):
		p.Notice = &notice{"good", "Your approval is recorded."}
		if h.State == approvals.Open {
			p.Notice.Text += " Others must approve too before the call goes on."
		}
	case done == "refused" && by(&h, ses.Identity, false):
		p.Notice = &notice{"good", "Your refusal is recorded. The call was not made."}
	case done == "reviewed" && h.Review.By == approvals.PersonOf(ses.Identity):
		p.Notice = &notice{"good", "Your review is recorded."}
	}
	s.render(w, r, http.StatusOK, "approval", p)
}

// by reports whether somebody has said yes, or no, to a call.
func by(h *approvals.Hold, who call.Identity, yes bool) bool {
	return slices.ContainsFunc(h.Verdicts, func(v approvals.Verdict) bool { return v.By == approvals.PersonOf(who) && v.Approve == yes })
}

// answered reads the decision form. It shows the page again where something of it
// is missing or has changed; ok tells whether it is whole.
func (s *Server) answered(w http.ResponseWriter, r *http.Request, ses login.Session) (h approvals.Hold, p approvalPage, a approvals.Answer, ok bool) {
	h, p, ok = s.open(w, r, ses)
	if !ok {
		return h, p, a, false
	}
	if err := r.ParseForm(); err != nil {
		s.problem(w, r, http.StatusBadRequest, "Nothing was decided", "The form can't be read. Open the page again and decide there.")
		return h, p, a, false
	}
	form := r.PostForm
	if !ses.Holds("decide "+h.ID, form.Get("token")) {
		s.problem(w, r, http.StatusForbidden, "Nothing was decided", "The form is of another login. Open the page again and decide there.")
		return h, p, a, false
	}
	p.Comment, p.Grant, p.Bounds = strings.ReplaceAll(form.Get("comment"), "\r\n", "\n"), form.Get("grant"), strings.TrimSpace(form.Get("bounds"))
	p.Approve = form.Get("decision") == "approve"
	a = approvals.Answer{Approve: p.Approve, Comment: strings.TrimSpace(p.Comment)}
	again := func(text string) {
		p.Notice = &notice{"bad", text}
		s.render(w, r, http.StatusUnprocessableEntity, "approval", p)
	}
	switch {
	case h.State != approvals.Open && by(&h, ses.Identity, p.Approve):
		s.done(w, r, h.ID, p.Approve) // pressed twice
		return h, p, a, false
	case h.State != approvals.Open:
		p.Notice = &notice{"bad", "Your decision was not taken: this call is already decided or has ended (" + state(h.State) + ")."}
		s.render(w, r, http.StatusConflict, "approval", p)
		return h, p, a, false
	case form.Get("decision") != "approve" && form.Get("decision") != "deny":
		again("Nothing was decided: choose to approve or to refuse.")
		return h, p, a, false
	case form.Get("shown") != p.Shown:
		again("Nothing was decided: this is not the request that you were shown. Look at it again.")
		return h, p, a, false
	case p.Call.ReasonRequired && a.Comment == "":
		again("Nothing was decided: the rule wants a reason.")
		return h, p, a, false
	}
	if p.Grant != "" && a.Approve {
		for _, c := range p.Grants {
			if c.Value == p.Grant {
				a.Grant.For, _ = time.ParseDuration(p.Grant)
				a.Grant.Bounds = p.Bounds
				p.GrantText = "the same function for the same caller, " + c.Text
				if p.Bounds != "" {
					p.GrantText += ", while " + p.Bounds
				}
			}
		}
		if a.Grant.For == 0 {
			again("Nothing was decided: you can't give that grant.")
			return h, p, a, false
		}
	}
	return h, p, a, true
}

// confirm shows what exactly would be decided, and decides nothing.
func (s *Server) confirm(w http.ResponseWriter, r *http.Request, ses login.Session) {
	h, p, _, ok := s.answered(w, r, ses)
	if !ok {
		return
	}
	if !p.MayDecide {
		http.Redirect(w, r, "/approvals/"+url.PathEscape(h.ID), http.StatusSeeOther)
		return
	}
	p.Effect = "It goes on at once, exactly as below."
	switch {
	case h.Missing() > 1 || h.Stage+1 < len(h.Terms.Stages):
		p.Effect = "Others must approve too; then it goes on, exactly as below."
	case h.Terms.Wait == call.WaitRetry:
		p.Effect = "It goes on, exactly as below, when the caller makes it again."
	}
	s.render(w, r, http.StatusOK, "confirm", p)
}

func (s *Server) decide(w http.ResponseWriter, r *http.Request, ses login.Session) {
	h, p, a, ok := s.answered(w, r, ses)
	if !ok {
		return
	}
	if err := s.cfg.Decide(r.Context(), h.ID, ses.Identity, a); err != nil {
		// Pressed twice, or taken although not all that follows was done: it stands.
		if now, getErr := s.cfg.Desk.Get(r.Context(), h.ID); getErr != nil || !by(&now, ses.Identity, a.Approve) {
			s.refused(w, r, ses, h.ID, p.Comment, err)
			return
		}
		s.cfg.Log.WarnContext(r.Context(), "a decision stands that was made on a page, with an error", "approval", h.ID, "error", err)
	}
	s.done(w, r, h.ID, a.Approve)
}

// done goes back to the page of a call that somebody has decided about.
func (s *Server) done(w http.ResponseWriter, r *http.Request, id string, approve bool) {
	done := "refused"
	if approve {
		done = "approved"
	}
	http.Redirect(w, r, "/approvals/"+url.PathEscape(id)+"?done="+done, http.StatusSeeOther)
}

func (s *Server) review(w http.ResponseWriter, r *http.Request, ses login.Session) {
	h, p, ok := s.open(w, r, ses)
	if !ok {
		return
	}
	verdict := r.PostFormValue("verdict")
	if !ses.Holds("decide "+h.ID, r.PostFormValue("token")) || verdict != "justified" && verdict != "unjustified" {
		s.problem(w, r, http.StatusForbidden, "Nothing was recorded", "The form is of another login. Open the page again and decide there.")
		return
	}
	p.Comment = strings.TrimSpace(strings.ReplaceAll(r.PostFormValue("comment"), "\r\n", "\n"))
	if err := s.cfg.Review(r.Context(), h.ID, ses.Identity, verdict == "justified", p.Comment); err != nil {
		s.refused(w, r, ses, h.ID, p.Comment, err)
		return
	}
	http.Redirect(w, r, "/approvals/"+url.PathEscape(h.ID)+"?done=reviewed", http.StatusSeeOther)
}

// refused says why a decision or a review was not taken.
func (s *Server) refused(w http.ResponseWriter, r *http.Request, ses login.Session, id, comment string, err error) {
	if !known(err) {
		s.failed(w, r, err)
		return
	}
	_, p, ok := s.open(w, r, ses) // as it is now
	if !ok {
		return
	}
	p.Notice, p.Comment = &notice{"bad", "Your decision was not taken: " + err.Error() + "."}, comment
	s.render(w, r, http.StatusConflict, "approval", p)
}

func known(err error) bool {
	for _, e := range []error{approvals.ErrNotApprover, approvals.ErrSelfApproval, approvals.ErrDecided, approvals.ErrTwice, approvals.ErrStage,
		approvals.ErrExpired, approvals.ErrCanceled, approvals.ErrNoReview, approvals.ErrInvalid} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// failed says that a call can't be shown.
func (s *Server) failed(w http.ResponseWriter, r *http.Request, err error) {
	switch {
	case errors.Is(err, approvals.ErrNotFound):
		s.problem(w, r, http.StatusNotFound, "There is no such approval", "It may have been removed after its time, or it does not concern you: approvals are shown to those who are asked and to whoever made the call.")
	case errors.Is(err, context.Canceled):
	default:
		s.cfg.Log.ErrorContext(r.Context(), "a page could not be shown", "path", r.URL.Path, "error", err)
		s.problem(w, r, http.StatusServiceUnavailable, "Approvals can't be read or decided now", "Try again in a while; the log of the service says why.")
	}
}
