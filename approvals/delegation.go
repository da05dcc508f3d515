package approvals

import (
	"time"

	"github.com/callgate/callgate/call"
)

// delegationPrefix makes a delegation's id recognisable.
const delegationPrefix = "dlg_"

// Delegation lets one person decide in another's place for a while.
type Delegation struct {
	ID string `json:"id"`
	// From is the approver, with the groups that it had when it delegated.
	From call.Identity `json:"from"`
	// To is the delegate, "issuer|subject".
	To      string    `json:"to"`
	Reason  string    `json:"reason,omitempty"`
	Created time.Time `json:"created"`
	Until   time.Time `json:"until"`
	// Ended is when it was taken back, and by whom.
	Ended   time.Time `json:"ended,omitzero"`
	EndedBy string    `json:"ended_by,omitempty"`
}

// Active reports whether it holds at a time.
func (d Delegation) Active(at time.Time) bool {
	return d.Ended.IsZero() && !at.Before(d.Created) && at.Before(d.Until)
}

// To reports whether somebody is the delegate, in person.
func (d Delegation) to(who call.Identity) bool {
	return len(who.Actors) == 0 && call.Approvers{People: []string{delegateOf(d.From, d.To)}}.Include(who)
}
