package approvals

import (
	"context"
	"fmt"
	"time"

	"github.com/callgate/callgate/call"
)

// Notified notes that a target was told of a hold, the first time.
func (s *Service) Notified(ctx context.Context, id, target string) error {
	c, err := s.cfg.Store.Mark(ctx, id, Mark{Name: StepNotified, By: target, At: time.Now()})
	if err != nil {
		return fmt.Errorf("note that %s was told of approval %s: %w", target, id, err)
	}
	return s.took(ctx, c)
}

// Visible spells out what a terminal, a page or a message would obey, hide or
// turn round.
func Visible(s string) string { return visible(s) }

// Seen notes that somebody who is asked has looked at a hold, the first time.
func (s *Service) Seen(ctx context.Context, id string, by call.Identity) error {
	c, err := s.cfg.Store.Mark(ctx, id, Mark{Name: StepSeen, By: PersonOf(by).String(), At: time.Now()})
	if err != nil {
		return fmt.Errorf("note that approval %s was looked at: %w", id, err)
	}
	return s.took(ctx, c)
}
