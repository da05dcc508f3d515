package approvals

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	sweepEvery = time.Second
	pruneEvery = time.Hour
	// sweepLag leaves a hold's own waiter the first chance to end it.
	sweepLag = time.Second
	batch    = 500
)

// Run looks for decisions of other processes and ends holds that nobody waits
// for any more, until ctx ends. A store that is away is asked again.
func (s *Service) Run(ctx context.Context) error {
	var g errgroup.Group
	g.Go(func() error { s.every(ctx, s.cfg.Poll, s.poller()); return nil })
	g.Go(func() error { s.every(ctx, sweepEvery, s.sweep); return nil })
	g.Go(func() error { s.every(ctx, pruneEvery, s.prune); return nil })
	return g.Wait()
}

func (s *Service) every(ctx context.Context, d time.Duration, do func(context.Context) error) {
	t := time.NewTicker(d)
	defer t.Stop()
	for failed := false; ; {
		err := do(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			s.cfg.Metrics.storeErr.Inc()
			if !failed {
				s.cfg.Log.ErrorContext(ctx, "approval store is away; holds wait on", "error", err)
			}
		} else if failed {
			s.cfg.Log.InfoContext(ctx, "approval store is back")
		}
		failed = err != nil
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// poller returns the one look-out that serves every waiting call.
func (s *Service) poller() func(context.Context) error {
	cursor := int64(-1)
	return func(ctx context.Context) error {
		if s.idle() {
			cursor = -1
			return nil
		}
		if cursor < 0 {
			_, next, err := s.cfg.Store.Changes(ctx, -1)
			if err != nil {
				return err
			}
			// What changed before the cursor was taken is seen by looking once.
			cursor = next
			s.wake(s.waiters()...)
			return nil
		}
		for {
			changed, next, err := s.cfg.Store.Changes(ctx, cursor)
			if err != nil {
				return err
			}
			s.wake(changed...)
			if next == cursor {
				return nil
			}
			cursor = next
		}
	}
}

func (s *Service) idle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.waiting) == 0
}

func (s *Service) waiters() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := make([]string, 0, len(s.waiting))
	for id := range s.waiting {
		ids = append(ids, id)
	}
	return ids
}

func (s *Service) sweep(ctx context.Context) error {
	for {
		holds, err := s.cfg.Store.Expire(ctx, time.Now().Add(-sweepLag), batch)
		if err != nil {
			return err
		}
		for i := range holds {
			s.ended(ctx, &holds[i])
			s.wake(holds[i].ID)
		}
		if len(holds) < batch {
			return nil
		}
	}
}

func (s *Service) prune(ctx context.Context) error {
	for {
		n, err := s.cfg.Store.Prune(ctx, time.Now().Add(-s.cfg.Keep), batch)
		if err != nil || n < batch {
			return err
		}
	}
}
