package approvals

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/text/unicode/norm"

	"github.com/callgate/callgate/call"
)

// authority is what somebody decides by: the stage that they are asked in, and
// the approver in whose place, if not their own.
type authority struct {
	stage int
	from  call.Identity
}

// mayDecide tells by what authority by may approve or refuse h, and if by may
// not, why not.
func mayDecide(h *Hold, by call.Identity, approve bool, delegations []Delegation, at time.Time) (authority, error) {
	if err := decides(h, by); err != nil {
		return authority{}, err
	}
	// A refusal can come from whoever is asked at any time. Of one that is over
	// all are told that it is; the store says how it ended.
	stages := []int{h.Stage}
	if !approve || h.State != Open {
		for i := range h.Terms.Stages {
			if i != h.Stage {
				stages = append(stages, i)
			}
		}
	}
	var spent *authority
	for _, i := range stages {
		if i >= len(h.Terms.Stages) {
			continue
		}
		if h.Terms.Stages[i].Include(by) {
			return authority{stage: i}, nil
		}
		for _, d := range delegations {
			if !d.Active(at) || !d.to(by) || !h.Terms.Stages[i].Include(d.From) || ownCall(h.Identity, d.From) {
				continue
			}
			right := authority{i, d.From}
			if !approve || !h.counted(right.verdict(call.Identity{})) {
				return right, nil
			}
			spent = &right // of somebody who has decided; the store says so
		}
	}
	if spent != nil {
		return *spent, nil
	}
	return authority{}, fmt.Errorf("%w: %s", ErrNotApprover, h.whyNot(by, delegations, at))
}

// verdict is one of by, by this authority.
func (a authority) verdict(by call.Identity) Verdict {
	v := Verdict{By: PersonOf(by), For: PersonOf(a.from), Stage: a.stage}
	for _, email := range []string{by.Email, a.from.Email} {
		if email != "" {
			v.Emails = append(v.Emails, email)
		}
	}
	return v
}

// decides refuses those who never decide about h, whoever is asked.
func decides(h *Hold, by call.Identity) error {
	switch {
	case by.Anonymous():
		return fmt.Errorf("%w: log in first, an approval names who gave it", ErrNotApprover)
	case len(by.Actors) > 0:
		// An agent that acts for an approver is not the approver.
		return fmt.Errorf("%w: %q acts for %q, and only people decide; let %q log in and decide", ErrNotApprover, by.Acting(), by.Subject, by.Subject)
	case by.Kind != "" && by.Kind != call.Human:
		return fmt.Errorf("%w: %q is of kind %s, and only people decide", ErrNotApprover, by.Subject, by.Kind)
	case ownCall(h.Identity, by):
		return fmt.Errorf("%w: %q made this call or it was made for them; ask another approver (%s)", ErrSelfApproval, by.Subject, approvers(h.Asked()))
	}
	return nil
}

// whyNot tells why by is not asked now.
func (h *Hold) whyNot(by call.Identity, delegations []Delegation, at time.Time) string {
	for i, s := range h.Terms.Stages {
		if i != h.Stage && s.Include(by) {
			return fmt.Sprintf("%q is asked in stage %d of %d, and stage %d is asked now: %s", by.Subject, i+1, len(h.Terms.Stages), h.Stage+1, approvers(h.Asked()))
		}
	}
	all := h.Terms.Approvers()
	for _, d := range delegations {
		if d.Active(at) && d.to(by) && all.Include(d.From) && ownCall(h.Identity, d.From) {
			return fmt.Sprintf("%q decides in the place of %q, who made this call or for whom it was made; ask another approver (%s)", by.Subject, d.From.Subject, approvers(h.Asked()))
		}
	}
	return fmt.Sprintf("%q is in none of its groups and not named; those who may decide: %s", by.Subject, approvers(h.Asked()))
}

// Asked are those who are asked now.
func (h *Hold) Asked() call.Approvers {
	if h.Stage < len(h.Terms.Stages) {
		return h.Terms.Stages[h.Stage].Approvers
	}
	return h.Terms.Approvers()
}

// ownCall reports whether by has a part in the call: as its caller, as the one
// it is made for, or as anybody in the chain between.
func ownCall(caller, by call.Identity) bool {
	part := []string{caller.Subject, caller.Email}
	for _, a := range caller.Actors {
		part = append(part, a.Subject)
	}
	return same(part, []string{by.Subject, by.Email})
}

// same reports whether one of some subjects and verified e-mail addresses could
// name the same person as one of others. It rather takes two for one: neither
// letters' case and Unicode forms tell people apart, nor who vouches for them,
// since one person may well be known to several issuers.
func same(one, others []string) bool {
	return slices.ContainsFunc(one, func(a string) bool {
		a = canonical(a)
		return a != "" && slices.ContainsFunc(others, func(b string) bool { return strings.EqualFold(a, canonical(b)) })
	})
}

func canonical(s string) string { return strings.TrimSpace(norm.NFKC.String(s)) }

func approvers(a call.Approvers) string {
	var parts []string
	if len(a.Groups) > 0 {
		parts = append(parts, "groups "+strings.Join(a.Groups, ", "))
	}
	if len(a.People) > 0 {
		parts = append(parts, strings.Join(a.People, ", "))
	}
	return strings.Join(parts, "; ")
}
