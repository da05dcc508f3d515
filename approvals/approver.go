package approvals

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/text/unicode/norm"

	"github.com/callgate/callgate/call"
)

// mayDecide tells whether by may decide about h, and if not, why not.
func mayDecide(h *Hold, by call.Identity) error {
	switch {
	case by.Anonymous():
		return fmt.Errorf("%w: log in first, an approval names who gave it", ErrNotApprover)
	case len(by.Actors) > 0:
		// An agent that acts for an approver is not the approver.
		return fmt.Errorf("%w: %q acts for %q, and only people decide; let %q log in and decide", ErrNotApprover, by.Acting(), by.Subject, by.Subject)
	case by.Kind != "" && by.Kind != call.Human:
		return fmt.Errorf("%w: %q is of kind %s, and only people decide", ErrNotApprover, by.Subject, by.Kind)
	}
	if ownCall(h.Identity, by) {
		return fmt.Errorf("%w: %q made this call or it was made for them; ask another approver (%s)", ErrSelfApproval, by.Subject, approvers(h.Approvers))
	}
	if !h.Approvers.Include(by) {
		return fmt.Errorf("%w: %q is in none of its groups and not named; those who may decide: %s", ErrNotApprover, by.Subject, approvers(h.Approvers))
	}
	return nil
}

// ownCall reports whether by has a part in the call: as its caller, as the one
// it is made for, or as anybody in the chain between.
func ownCall(caller, by call.Identity) bool {
	if same(caller.Issuer, caller.Subject, by.Issuer, by.Subject) {
		return true
	}
	return slices.ContainsFunc(caller.Actors, func(a call.Actor) bool { return same(a.Issuer, a.Subject, by.Issuer, by.Subject) })
}

// same reports whether two principals could be one person. It rather takes
// two for one: letters' case and Unicode forms don't tell people apart, an
// unknown issuer could be any, and an e-mail address is one person's whoever
// vouches for it.
func same(issuerA, subjectA, issuerB, subjectB string) bool {
	a, b := canonical(subjectA), canonical(subjectB)
	if a == "" || !strings.EqualFold(a, b) {
		return false
	}
	issuerA, issuerB = strings.TrimRight(canonical(issuerA), "/"), strings.TrimRight(canonical(issuerB), "/")
	return issuerA == "" || issuerB == "" || strings.EqualFold(issuerA, issuerB) || strings.Contains(a, "@")
}

func canonical(s string) string { return strings.TrimSpace(norm.NFKC.String(s)) }

func principal(i call.Identity) string { return i.Issuer + "|" + i.Subject }

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
