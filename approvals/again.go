package approvals

import (
	"context"
	"fmt"
	"time"

	"github.com/callgate/callgate/call"
)

// How long a caller that comes again is told to wait: a fraction of the time
// that people have had, since who has not answered in an hour does not in the
// next second.
const (
	soonest  = 2 * time.Second
	latest   = 30 * time.Second
	fraction = 10
)

// reasonTaken is of decisions that don't leave this package.
const reasonTaken call.Reason = "taken"

// pending answers a caller that is to come again.
func (s *Service) pending(h *held) call.Decision {
	message := h.Message
	if message == "" {
		message = "this call needs a person's approval"
	}
	message += fmt.Sprintf("; people are asked (%s). Make the very same call again to learn what they said; it passes once they have approved it", h.ID)
	if s.stops() && !h.Retry {
		message = "the gateway restarts while the call waits for approval; make the very same call again, the approval goes on"
	}
	return call.Decision{Outcome: call.HoldDeny, Reason: call.ReasonApprovalPending, Message: message}
}

func (s *Service) again(h *held, now time.Time) call.Again {
	out := call.Again{After: retryAfter(h.AskedAt, h.Expires, now)}
	if s.stops() {
		out.After = soonest
	}
	if s.cfg.StatusURL != nil {
		out.StatusURL = s.cfg.StatusURL(h.ID)
	}
	if s.cfg.PageURL != nil {
		out.PageURL = s.cfg.PageURL(h.ID, h.Expires)
	}
	return out
}

func retryAfter(asked, expires, now time.Time) time.Duration {
	return max(min(now.Sub(asked)/fraction, latest, expires.Sub(now)), soonest)
}

// stops reports whether this replica is about to stop: then holds are left to
// whichever replica their callers come to.
func (s *Service) stops() bool {
	select {
	case <-s.stopping:
		return true
	default:
		return false
	}
}

// Standing is how far an approval is, for whoever asked for it.
type Standing struct {
	ID      string
	State   State
	Comment string // of who refused
	Expires time.Time
	UseBy   time.Time // of an approval
	// RetryAfter is when it is of use to ask, or to make the call, again; 0:
	// nothing will change any more, or the call can be made now.
	RetryAfter time.Duration
}

// Standing tells by how far its approval is. Whose approval it is not gets
// ErrNotFound.
func (s *Service) Standing(ctx context.Context, id string, by call.Identity) (Standing, error) {
	h, err := s.Get(ctx, id)
	if err != nil {
		return Standing{}, err
	}
	if h.Identity.Anonymous() || PersonOf(h.Identity) != PersonOf(by) || !by.Scope.Covers(h.Connection, h.Function) {
		return Standing{}, fmt.Errorf("approval %q: %w of yours", id, ErrNotFound)
	}
	out := Standing{ID: h.ID, State: h.State, Expires: h.Expires, UseBy: h.UseBy}
	now := time.Now()
	if h.Overdue(now) {
		out.State = Expired
	}
	if out.State == Open {
		out.RetryAfter = retryAfter(h.AskedAt, h.Expires, now)
	}
	if last, ok := h.Last(); ok && h.State == Refused {
		out.Comment = last.Comment
	}
	return out, nil
}
