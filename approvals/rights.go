package approvals

import (
	"context"
	"fmt"
	"time"

	"github.com/callgate/callgate/call"
)

// Rights are what somebody may do about a hold as it is now.
type Rights struct {
	See     bool // what is asked
	Approve bool
	Refuse  bool
	Review  bool // a call that broke glass
	// For is who is an approver, where a delegate decides.
	For Person
	// WhyNot is why neither an approval nor a refusal is taken; nil where one
	// is, or where nobody is asked any more.
	WhyNot error
}

// Rights tells what by may do about a hold. [Service.Decide] asks again.
func (s *Service) Rights(ctx context.Context, h *Hold, by call.Identity) (Rights, error) {
	var r Rights
	now := time.Now()
	delegations, err := s.inForce(ctx, now)
	if err != nil {
		s.cfg.Metrics.storeErr.Inc()
		return Rights{}, fmt.Errorf("approval %s: the approval store is away, try again: %w", h.ID, err)
	}
	r.See = concerns(h, by, delegations)
	switch {
	case h.State == Open:
		yes, err := mayDecide(h, by, true, delegations, now)
		if err == nil && h.counted(yes.verdict(by)) {
			err = fmt.Errorf("%w, and you have", ErrTwice)
		}
		no, noErr := mayDecide(h, by, false, delegations, now)
		if noErr == nil && h.counted(no.verdict(by)) {
			// A no would be taken back of a yes; who has decided is not asked.
			noErr = fmt.Errorf("%w, and you have", ErrTwice)
		}
		r.Approve, r.Refuse, r.For = err == nil, noErr == nil, PersonOf(yes.from)
		if r.Refuse && !r.Approve {
			r.For = PersonOf(no.from)
		}
		if !r.Approve && !r.Refuse {
			r.WhyNot = err
		}
	case h.Unreviewed():
		r.Review = decides(h, by) == nil && h.Terms.Approvers().Include(by)
	}
	return r, nil
}
