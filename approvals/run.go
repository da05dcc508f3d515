package approvals

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/callgate/callgate/call"
)

const (
	sweepEvery = time.Second
	pruneEvery = time.Hour
	// sweepLag leaves a hold's own waiter the first chance to end it.
	sweepLag   = time.Second
	batch      = 500
	countEvery = 10 * time.Second
	// noteEvery is how often the store is told what the trail has.
	noteEvery = 200 * time.Millisecond
	// attendFor is how long the store takes this replica for being there
	// after it last said so, which it does every attendEvery.
	attendFor   = 15 * time.Second
	attendEvery = 5 * time.Second
)

// Run looks for decisions of other processes and ends holds that nobody waits
// for any more, until ctx ends. A store that is away is asked again.
func (s *Service) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		s.stopOnce.Do(func() { close(s.stopping) })
		s.wake(s.waiters()...)
	})
	defer stop()
	var g errgroup.Group
	if w, ok := s.cfg.Store.(Watcher); ok {
		g.Go(func() error {
			return w.Watch(ctx, func(ids ...string) {
				if len(ids) == 0 {
					ids = s.waiters()
				}
				s.wake(ids...)
			})
		})
	}
	g.Go(func() error { s.every(ctx, s.cfg.Poll, s.poller()); return nil })
	g.Go(func() error { s.every(ctx, sweepEvery, s.sweep); return nil })
	g.Go(func() error { s.every(ctx, pruneEvery, s.prune); return nil })
	g.Go(func() error { s.every(ctx, noteEvery, s.note); return nil })
	g.Go(func() error { s.every(ctx, countEvery, s.count); return nil })
	g.Go(func() error { s.every(ctx, s.cfg.TrailLag/2, s.catchUp); return nil })
	g.Go(func() error { s.every(ctx, attendEvery, s.attend); return nil })
	err := g.Wait()
	s.depart(ctx)
	return err
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
		ended, err := s.cfg.Store.Expire(ctx, time.Now().Add(-sweepLag), batch)
		if err != nil {
			return err
		}
		for _, c := range ended {
			s.ended(ctx, c)
			s.wake(c.Hold.ID)
		}
		if len(ended) < batch {
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

// note tells the store which steps the trail has.
func (s *Service) note(ctx context.Context) error {
	s.mu.Lock()
	list := s.recorded
	s.recorded = nil
	s.mu.Unlock()
	err := s.cfg.Store.Delivered(ctx, list...)
	if err != nil {
		s.mu.Lock()
		s.recorded = append(list, s.recorded...)
		s.mu.Unlock()
	}
	return err
}

// catchUp records steps whose process died, or had no room on its disk, before
// they were on record.
func (s *Service) catchUp(ctx context.Context) error {
	for {
		now := time.Now()
		list, err := s.cfg.Store.Lease(ctx, TrailTarget, now.Add(-s.cfg.TrailLag), now, batch)
		if err != nil || len(list) == 0 {
			return err
		}
		done := list[:0]
		for _, n := range list {
			there, err := s.onRecord(ctx, n)
			if err != nil { // nor can it be told of the others
				s.cfg.Log.WarnContext(ctx, "steps of approvals wait until it can be told whether they are on record", "approval", n.Hold, "step", n.Step.Name, "waiting", len(list)-len(done), "error", err)
				break
			}
			if !there {
				err = s.record(ctx, n)
			}
			if err != nil {
				s.cfg.Log.ErrorContext(ctx, "a step of an approval is not on record yet", "approval", n.Hold, "step", n.Step.Name, "error", err)
				continue
			}
			done = append(done, n)
		}
		if err := s.cfg.Store.Delivered(ctx, done...); err != nil || len(done) < len(list) {
			return err
		}
	}
}

// onRecord tells whether the trail has a step of a process that can't say itself.
func (s *Service) onRecord(ctx context.Context, n Notice) (bool, error) {
	if s.cfg.Recorded == nil {
		return false, nil
	}
	return s.cfg.Recorded(ctx, n.Hold, n.Step.N)
}

func (s *Service) record(ctx context.Context, n Notice) error {
	h, err := s.cfg.Store.Get(ctx, n.Hold)
	if err != nil {
		return err
	}
	return s.cfg.Recorder.Record(ctx, s.event(&h, n.Step))
}

// attend tells the store that this replica is there.
func (s *Service) attend(ctx context.Context) error {
	now := time.Now()
	s.mu.Lock()
	fresh := s.attended.Sub(now) > attendFor-attendEvery
	s.mu.Unlock()
	if fresh {
		return nil
	}
	until := now.Add(attendFor)
	if err := s.cfg.Store.Alive(ctx, s.name, until); err != nil {
		return err
	}
	s.mu.Lock()
	s.attended = until
	s.mu.Unlock()
	return nil
}

// depart leaves the callers that waited here to whatever replica they come to.
func (s *Service) depart(ctx context.Context) {
	ctx = context.WithoutCancel(ctx)
	err := step(ctx, s.note)
	if err == nil {
		err = step(ctx, func(ctx context.Context) error { return s.cfg.Store.Alive(ctx, s.name, time.Time{}) })
	}
	if err != nil {
		s.cfg.Log.WarnContext(ctx, "the approval store could not be told that this replica stops", "error", err)
	}
}

// count measures what waits for somebody.
func (s *Service) count(ctx context.Context) error {
	c, err := s.cfg.Store.Counts(ctx)
	if err != nil {
		return err
	}
	age := 0.0
	if c.Open > 0 {
		age = time.Since(c.Oldest).Seconds()
	}
	s.cfg.Metrics.open.Set(float64(c.Open))
	s.cfg.Metrics.oldest.Set(age)
	s.cfg.Metrics.reviews.Set(float64(c.Unreviewed))
	return nil
}

// Watch returns the open holds that concern by, the newest first, so many at most.
// What it returns beside them tells of each one whenever it takes a step, until the
// context ends or tell fails; of one that was asked for in the meantime, too.
func (s *Service) Watch(ctx context.Context, by call.Identity, most int) ([]Hold, func(context.Context, func(Hold) error) error, error) {
	// The place to go on from comes before the list: what is asked for between the
	// two is told twice then, and not never.
	_, cursor, err := s.cfg.Store.Changes(ctx, -1)
	if err != nil {
		s.cfg.Metrics.storeErr.Inc()
		return nil, nil, fmt.Errorf("watch approvals: the approval store is away, try again: %w", err)
	}
	open, err := s.Mine(ctx, Filter{State: Open, Limit: most}, by)
	if err != nil {
		return nil, nil, err
	}
	return open, func(ctx context.Context, tell func(Hold) error) error { return s.follow(ctx, by, cursor, tell) }, nil
}

func (s *Service) follow(ctx context.Context, by call.Identity, cursor int64, tell func(Hold) error) error {
	t := time.NewTicker(s.cfg.Poll)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.stopping:
			return nil
		case <-t.C:
		}
		changed, next, err := s.cfg.Store.Changes(ctx, cursor)
		if err != nil {
			s.cfg.Metrics.storeErr.Inc()
			return fmt.Errorf("watch approvals: the approval store is away, try again: %w", err)
		}
		cursor = next
		if len(changed) == 0 {
			continue
		}
		delegations, err := s.inForce(ctx, time.Now())
		if err != nil {
			return fmt.Errorf("watch approvals: the approval store is away, try again: %w", err)
		}
		slices.Sort(changed)
		for _, id := range slices.Compact(changed) {
			h, err := s.cfg.Store.Get(ctx, id)
			switch {
			case errors.Is(err, ErrNotFound):
				continue
			case err != nil:
				return fmt.Errorf("watch approvals: the approval store is away, try again: %w", err)
			}
			if !concerns(&h, by, delegations) {
				continue
			}
			if err := tell(h); err != nil {
				return err
			}
		}
	}
}
