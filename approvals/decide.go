package approvals

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/callgate/callgate/call"
)

// Answer is what somebody says about a held call.
type Answer struct {
	Approve bool
	Comment string
	Grant   Grant // with an approval
}

// rereads is how often a decision is looked at again because others decided
// in between.
const rereads = 5

// Decide approves or refuses a hold in by's name, and returns what it has come
// to. The error is ErrNotFound, ErrNotApprover, ErrSelfApproval, ErrDecided,
// ErrTwice, ErrExpired, ErrCanceled or ErrInvalid, with its cause, or tells that
// the store or the record is away.
func (s *Service) Decide(ctx context.Context, id string, by call.Identity, a Answer) (Hold, error) {
	if err := checkComment(a.Comment); err != nil {
		return Hold{}, fmt.Errorf("decide about %s: %w", id, err)
	}
	for try := 0; ; try++ {
		h, err := s.Get(ctx, id)
		if err != nil {
			return Hold{}, err
		}
		v, err := s.verdict(ctx, &h, by, a)
		if err != nil {
			return Hold{}, err
		}
		c, err := s.cfg.Store.Decide(ctx, h.ID, v)
		if errors.Is(err, ErrStage) && try < rereads {
			continue // others were quicker, and somebody else is asked now
		}
		if err != nil {
			return Hold{}, s.undecidable(ctx, h, by, err)
		}
		return c.Hold, s.decided(ctx, c, v)
	}
}

// verdict is what by says, if by may.
func (s *Service) verdict(ctx context.Context, h *Hold, by call.Identity, a Answer) (Verdict, error) {
	if h.Terms.Reason && strings.TrimSpace(a.Comment) == "" {
		return Verdict{}, fmt.Errorf("decide about %s: %w: rule %q wants a reason; give one with --comment", h.ID, ErrInvalid, h.Rule)
	}
	now := time.Now()
	delegations, err := s.inForce(ctx, now)
	if err != nil {
		s.cfg.Metrics.storeErr.Inc()
		return Verdict{}, fmt.Errorf("decide about %s: the approval store is away, try again: %w", h.ID, err)
	}
	by.Claims = nil
	right, err := mayDecide(h, by, a.Approve, delegations, now)
	if err != nil {
		return Verdict{}, fmt.Errorf("decide about %s: %w", h.ID, err)
	}
	v := right.verdict(by)
	v.Approve, v.Comment, v.At, v.Grant = a.Approve, a.Comment, now, a.Grant
	return v, nil
}

// decided tells of a decision that stands.
func (s *Service) decided(ctx context.Context, c Change, v Verdict) error {
	h := &c.Hold
	if h.State != Open {
		s.cfg.Metrics.decision.Observe(v.At.Sub(h.AskedAt).Seconds())
	}
	s.cfg.Log.InfoContext(ctx, "approval decided", "approval", h.ID, "call_id", h.CallID, "decision", c.Steps[0].Name, "state", h.State, "by", v.By.String())
	// The decision stands now; who made it must be known even if the
	// decider's connection breaks.
	err := step(context.WithoutCancel(ctx), func(ctx context.Context) error { return s.took(ctx, c) })
	s.wake(h.ID)
	if err != nil {
		return fmt.Errorf("decide about %s: the decision stands, but its audit event could not be written: %w", h.ID, err)
	}
	return nil
}

// undecidable puts the store's refusal into words.
func (s *Service) undecidable(ctx context.Context, h Hold, by call.Identity, err error) error {
	if st, statusErr := s.cfg.Store.Status(ctx, h.ID); statusErr == nil {
		h.Status = st
	}
	last, some := h.Last()
	switch {
	case errors.Is(err, ErrTwice):
		return fmt.Errorf("decide about %s: %w, and %q has, in person or through a delegate; %d more must say yes: %s", h.ID, ErrTwice, by.Subject, h.Missing(), approvers(h.Asked()))
	case errors.Is(err, ErrDecided) && h.State == BrokeGlass:
		return fmt.Errorf("decide about %s: %w: its caller broke glass; 'callgate approvals review %s' looks at that", h.ID, ErrDecided, h.ID)
	case errors.Is(err, ErrDecided) && some:
		verdict := StepApproved
		if !last.Approve {
			verdict = StepRefused
		}
		return fmt.Errorf("decide about %s: %w: %s by %s at %s; that decision stands", h.ID, ErrDecided, verdict, last.By, last.At.UTC().Format(time.RFC3339))
	case errors.Is(err, ErrExpired):
		return fmt.Errorf("decide about %s: %w at %s; the caller must make the call again", h.ID, ErrExpired, h.Expires.UTC().Format(time.RFC3339))
	case errors.Is(err, ErrCanceled):
		return fmt.Errorf("decide about %s: %w before a decision; the caller must make the call again", h.ID, ErrCanceled)
	case errors.Is(err, ErrDecided), errors.Is(err, ErrNotFound), errors.Is(err, ErrStage):
		return fmt.Errorf("decide about %s: %w", h.ID, err)
	}
	s.cfg.Metrics.storeErr.Inc()
	return fmt.Errorf("decide about %s: the approval store is away, and whether the decision was taken is not known; look with 'callgate approvals show %s': %w", h.ID, h.ID, err)
}

// checkComment refuses what does not fit, or could not be shown.
func checkComment(comment string) error {
	switch {
	case len(comment) > maxComment:
		return fmt.Errorf("%w: its comment is %d bytes long, at most %d fit; shorten it", ErrInvalid, len(comment), maxComment)
	case !utf8.ValidString(comment):
		return fmt.Errorf("%w: its comment is not UTF-8", ErrInvalid)
	}
	for _, r := range comment {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return fmt.Errorf("%w: its comment holds the control character %U; leave it out", ErrInvalid, r)
		}
	}
	return nil
}

// Granted notes that a grant was given that came with an approval, once.
func (s *Service) Granted(ctx context.Context, id, by, grant string, until time.Time) error {
	c, err := s.cfg.Store.Mark(ctx, id, Mark{Name: StepGranted, By: by, Grant: grant, Until: until, At: time.Now()})
	if err != nil {
		return fmt.Errorf("note that grant %s came with approval %s: %w", grant, id, err)
	}
	return s.took(context.WithoutCancel(ctx), c)
}
