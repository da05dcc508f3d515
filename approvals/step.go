package approvals

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/callgate/callgate/call"
)

// StepName says what happened to a hold.
type StepName string

// The steps. Each is an event of the audit trail.
const (
	StepAsked      StepName = "asked"       // by the caller
	StepNotified   StepName = "notified"    // a target was told that people are asked
	StepSeen       StepName = "seen"        // an approver opened it
	StepApproved   StepName = "approved"    // one person said yes
	StepRefused    StepName = "refused"     // one person said no
	StepStageDone  StepName = "stage_done"  // enough said yes; the next stage is asked now
	StepUsed       StepName = "used"        // the call went on
	StepExpired    StepName = "expired"     // nobody decided, or nobody came, in time
	StepCanceled   StepName = "canceled"    // the caller hung up
	StepBrokeGlass StepName = "broke_glass" // the call went on without an approval
	StepReviewed   StepName = "reviewed"    // somebody looked at that afterwards
	StepGranted    StepName = "granted"     // a grant came with the approval
)

// Step is one thing that happened to a hold.
type Step struct {
	N       int       `json:"n"` // 1 is the hold's first
	Name    StepName  `json:"name"`
	By      string    `json:"by,omitempty"`  // "issuer|subject", or the target that was told
	For     string    `json:"for,omitempty"` // the approver, where By is a delegate
	Comment string    `json:"comment,omitempty"`
	Stage   int       `json:"stage,omitempty"` // that it is about, from 1; 0: none
	State   State     `json:"state"`           // of the hold after it
	Call    call.ID   `json:"call,omitzero"`   // where it is not the hold's first
	At      time.Time `json:"at"`
	Until   time.Time `json:"until,omitzero"` // of StepGranted: when the grant ends
}

// maxMarks bounds how many marks a hold keeps; further ones are not made.
const maxMarks = 200

// What follows are the steps themselves, the same for every store: a store
// reads a hold, takes a step and writes the hold and what the step returned, all
// in one transaction that no other can come between. An error leaves the hold
// as it was.

func (h *Hold) step(s Step) Step {
	h.Steps++
	s.N, s.State = h.Steps, h.State
	return s
}

// Begin makes a new hold of h: open, or broken where it says so.
func (h *Hold) Begin() []Step {
	by := PersonOf(h.Identity).String()
	if h.State == BrokeGlass {
		h.Status = Status{State: BrokeGlass, Attempts: 1, EndedAt: h.AskedAt, UsedAt: h.AskedAt, UsedFor: h.CallID}
		return []Step{h.step(Step{Name: StepBrokeGlass, By: by, Comment: h.BreakGlass, At: h.AskedAt})}
	}
	h.Status = Status{State: Open, Attempts: 1}
	return []Step{h.step(Step{Name: StepAsked, By: by, Stage: 1, At: h.AskedAt})}
}

// Takes reports whether a caller that comes at at with the same call, after its
// binding, is to wait for h rather than ask anew. alive tells whether the
// owner of h is still there: then another caller waits for it.
func (h *Hold) Takes(alive bool, at time.Time) bool {
	switch {
	case alive:
		return false
	case h.State == Open:
		return at.Before(h.Expires)
	case h.State == Approved:
		return !at.After(h.UseBy)
	}
	// Who comes again is told the refusal, as often as it comes.
	return h.State == Refused && h.Owner == "" && at.Before(h.Expires)
}

// Decide takes one person's verdict. The error is ErrDecided, ErrExpired,
// ErrCanceled, ErrStage or ErrTwice.
func (h *Hold) Decide(v Verdict) ([]Step, error) {
	switch {
	case h.State == Canceled:
		return nil, ErrCanceled
	case h.State == Expired, h.State == Open && !v.At.Before(h.Expires):
		return nil, ErrExpired
	case h.State != Open:
		return nil, ErrDecided
	case !v.Approve:
		// Any approver's no ends it: of whichever stage, and also of somebody
		// who said yes before.
	case h.counted(v):
		return nil, ErrTwice
	case v.Stage != h.Stage || h.Stage >= len(h.Terms.Stages):
		return nil, ErrStage
	}
	h.Verdicts = append(h.Verdicts[:len(h.Verdicts):len(h.Verdicts)], v)
	out := Step{Name: StepRefused, By: v.By.String(), For: v.For.String(), Comment: v.Comment, Stage: v.Stage + 1, At: v.At}
	if !v.Approve {
		h.State, h.EndedAt = Refused, v.At
		return []Step{h.step(out)}, nil
	}
	out.Name = StepApproved
	if h.yes(v.Stage) < max(1, h.Terms.Stages[v.Stage].Need) {
		return []Step{h.step(out)}, nil
	}
	h.Stage++
	if h.Stage < len(h.Terms.Stages) {
		return []Step{h.step(out), h.step(Step{Name: StepStageDone, Stage: v.Stage + 1, At: v.At})}, nil
	}
	h.State, h.EndedAt, h.UseBy = Approved, v.At, h.Expires.Add(Grace)
	if h.Terms.Valid > 0 {
		h.UseBy = v.At.Add(h.Terms.Valid)
	}
	return []Step{h.step(out)}, nil
}

// counted reports whether one of those behind v has decided already, in this
// stage or in an earlier one, in person or through a delegate.
func (h *Hold) counted(v Verdict) bool {
	return slices.ContainsFunc(h.Verdicts, func(before Verdict) bool { return same(before.names(), v.names()) })
}

// yes is how many said yes in a stage.
func (h *Hold) yes(stage int) int {
	n := 0
	for _, v := range h.Verdicts {
		if v.Approve && v.Stage == stage {
			n++
		}
	}
	return n
}

// Missing is how many more must say yes in the stage that is asked.
func (h *Hold) Missing() int {
	if h.State != Open || h.Stage >= len(h.Terms.Stages) {
		return 0
	}
	return max(1, h.Terms.Stages[h.Stage].Need) - h.yes(h.Stage)
}

// Use is a call that takes an approval up.
type Use struct {
	Call    call.ID
	Binding [32]byte
	At      time.Time
}

// Use takes an approval up. The error is ErrUsed, ErrNotApproved, ErrBinding or
// ErrExpired.
func (h *Hold) Use(u Use) ([]Step, error) {
	switch {
	case h.State == Used:
		return nil, ErrUsed
	case h.State == Expired:
		return nil, ErrExpired
	case h.State != Approved:
		return nil, ErrNotApproved
	case h.Binding != u.Binding:
		return nil, ErrBinding
	case u.At.After(h.UseBy):
		return nil, ErrExpired
	}
	h.State, h.UsedAt, h.UsedFor = Used, u.At, u.Call
	s := Step{Name: StepUsed, By: PersonOf(h.Identity).String(), At: u.At}
	if u.Call != h.CallID {
		s.Call = u.Call
	}
	return []Step{h.step(s)}, nil
}

// End brings an open hold to Expired or Canceled. One that is not open stays as
// it is.
func (h *Hold) End(to State, at time.Time) ([]Step, error) {
	name, ok := map[State]StepName{Expired: StepExpired, Canceled: StepCanceled}[to]
	if !ok {
		return nil, fmt.Errorf("a hold can't end as %q without a decision", to)
	}
	if h.State != Open {
		return nil, nil
	}
	h.State, h.EndedAt = to, at
	return []Step{h.step(Step{Name: name, At: at})}, nil
}

// Overdue reports whether a hold has waited too long at at: for people to
// decide, or for its approval to be taken up.
func (h *Hold) Overdue(at time.Time) bool {
	return h.State == Open && !h.Expires.After(at) || h.State == Approved && h.UseBy.Before(at)
}

// Expire ends a hold that is overdue at at; others stay as they are.
func (h *Hold) Expire(at time.Time) []Step {
	if !h.Overdue(at) {
		return nil
	}
	h.State, h.EndedAt = Expired, at
	return []Step{h.step(Step{Name: StepExpired, At: at})}
}

// Mark notes m, once for each target, person or grant.
func (h *Hold) Mark(m Mark) ([]Step, error) {
	switch {
	case m.Name == StepGranted && m.By != "" && m.Grant != "":
		if h.Granted(m.Grant) {
			return nil, nil
		}
	case m.Name != StepNotified && m.Name != StepSeen || m.By == "":
		return nil, errors.New("a mark is that a target was notified, that somebody has seen a hold, or that a grant was given")
	case h.Marked(m.Name, m.By) || len(h.Marks) >= maxMarks:
		return nil, nil
	}
	h.Marks = append(h.Marks[:len(h.Marks):len(h.Marks)], m)
	return []Step{h.step(Step{Name: m.Name, By: m.By, Comment: m.Grant, At: m.At, Until: m.Until})}, nil
}

// Judge takes the review of a call that broke glass. The error is ErrNoReview or
// ErrDecided.
func (h *Hold) Judge(r Review) ([]Step, error) {
	switch {
	case h.State != BrokeGlass:
		return nil, ErrNoReview
	case !h.Unreviewed():
		return nil, ErrDecided
	}
	h.Review = r
	verdict := "justified"
	if !r.Justified {
		verdict = "not justified"
	}
	return []Step{h.step(Step{Name: StepReviewed, By: r.By.String(), Comment: verdict + ": " + r.Comment, At: r.At})}, nil
}
