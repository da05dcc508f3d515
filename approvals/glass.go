package approvals

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/callgate/callgate/call"
)

// breakGlass lets a call pass without an approval, if the rule lets its caller, and
// the caller says why. It is on record, people are told, and somebody must
// review it, before it passes. An agent that acts for somebody can't: the one
// who answers for it must call in person.
func (s *Service) breakGlass(ctx context.Context, w *waiter, h *Hold) call.Decision {
	c := w.c
	refuse := func(format string, args ...any) call.Decision {
		return call.Decision{Outcome: call.Deny, Reason: call.ReasonBreakGlassRefused, Message: fmt.Sprintf(format, args...)}
	}
	reasons := c.Request.Headers.Values(call.HeaderBreakGlass)
	reason := strings.TrimSpace(strings.Join(reasons, ""))
	switch without := "send the call without " + call.HeaderBreakGlass + " and people are asked"; {
	case len(c.Identity.Actors) > 0:
		return refuse("%q acts for %q, and only who answers for a call breaks glass; %s", c.Identity.Acting(), c.Identity.Subject, without)
	case !h.Terms.BreakGlass.Include(c.Identity):
		return refuse("rule %q does not let %q break glass (hold.break_glass names who may); %s", h.Rule, c.Identity.Subject, without)
	case len(reasons) > 1:
		return refuse("%s stands more than once; send it once", call.HeaderBreakGlass)
	case reason == "":
		return refuse("%s says nothing; it must hold the reason, which is recorded and reviewed", call.HeaderBreakGlass)
	}
	if err := checkComment(reason); err != nil {
		return refuse("%s can't be recorded: %v", call.HeaderBreakGlass, err)
	}
	h.BreakGlass, h.Owner = reason, ""
	var broken Change
	if err := step(ctx, func(ctx context.Context) (err error) { broken, err = s.cfg.Store.Break(ctx, *h); return err }); err != nil {
		s.away(ctx, &w.h, "break glass", err)
		return call.Decision{Outcome: call.Deny, Reason: call.ReasonApprovalUnavailable, Message: "glass can't be broken now, since it can't be kept for review; try again later"}
	}
	w.h.is(broken.Hold.Status)
	s.cfg.Log.WarnContext(ctx, "glass was broken: a call passes without approval", "approval", h.ID, "call_id", h.CallID, "by", PersonOf(h.Identity).String(),
		"rule", h.Rule, "connection", h.Connection, "function", h.Function)
	// It stands in the store and will be told of; so must the trail be.
	if err := step(context.WithoutCancel(ctx), func(ctx context.Context) error { return s.took(ctx, broken) }); err != nil {
		return s.unrecorded(ctx, &w.h, err)
	}
	return call.Decision{Outcome: call.HoldAllow, Reason: call.ReasonBreakGlass, Message: "glass was broken: " + reason}
}

// Review takes what somebody says of a call that broke glass: an approver of
// the rule's, of any stage, who had no part in it. Its errors are those of
// [Service.Decide], and ErrNoReview.
func (s *Service) Review(ctx context.Context, id string, by call.Identity, justified bool, comment string) (Hold, error) {
	if err := checkComment(comment); err != nil {
		return Hold{}, fmt.Errorf("review %s: %w", id, err)
	}
	if strings.TrimSpace(comment) == "" {
		return Hold{}, fmt.Errorf("review %s: %w: a review says what was found; give it with --comment", id, ErrInvalid)
	}
	h, err := s.Get(ctx, id)
	if err != nil {
		return Hold{}, err
	}
	if err := decides(&h, by); err != nil {
		if errors.Is(err, ErrSelfApproval) {
			err = fmt.Errorf("%w: %q broke glass; an approver who did not must review it (%s)", ErrSelfApproval, by.Subject, approvers(h.Terms.Approvers()))
		}
		return Hold{}, fmt.Errorf("review %s: %w", h.ID, err)
	}
	if !h.Terms.Approvers().Include(by) {
		return Hold{}, fmt.Errorf("review %s: %w: %q is not among those who review it: %s", h.ID, ErrNotApprover, by.Subject, approvers(h.Terms.Approvers()))
	}
	c, err := s.cfg.Store.Judge(ctx, h.ID, Review{By: PersonOf(by), Justified: justified, Comment: comment, At: time.Now()})
	switch {
	case errors.Is(err, ErrNoReview):
		return Hold{}, fmt.Errorf("review %s: %w: its caller did not break glass, it is %s", h.ID, ErrNoReview, h.State)
	case errors.Is(err, ErrDecided):
		return Hold{}, fmt.Errorf("review %s: %w: %s has reviewed it; that stands", h.ID, ErrDecided, h.Review.By)
	case errors.Is(err, ErrNotFound):
		return Hold{}, fmt.Errorf("review %s: %w", h.ID, err)
	case err != nil:
		s.cfg.Metrics.storeErr.Inc()
		return Hold{}, fmt.Errorf("review %s: the approval store is away, look whether it was taken: %w", h.ID, err)
	}
	s.cfg.Log.InfoContext(ctx, "broken glass reviewed", "approval", h.ID, "call_id", h.CallID, "justified", justified, "by", PersonOf(by).String())
	if err := step(context.WithoutCancel(ctx), func(ctx context.Context) error { return s.took(ctx, c) }); err != nil {
		return c.Hold, fmt.Errorf("review %s: the review stands, but its audit event could not be written: %w", h.ID, err)
	}
	return c.Hold, nil
}
