package postgres

import (
	"context"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/jackc/pgx/v5"
)

// channel is where holds are named that have left Open, one a notification.
const channel = "callgate_approvals"

// silence is how long nothing may come before the connection is tried.
const silence = 20 * time.Second

// Watch calls changed with the ids of holds as they are decided or end, whoever
// does that, and without any after a time in which it could not listen: then all
// may have. It goes on until ctx ends, on a connection of its own, which behind
// a pooler must keep its session; where it can't listen, polling covers it.
func (s *Store) Watch(ctx context.Context, changed func(ids ...string)) error {
	wait := backoff.NewExponentialBackOff()
	wait.InitialInterval, wait.MaxInterval = 50*time.Millisecond, 2*time.Second
	for told := false; ; {
		heard, err := s.listen(ctx, changed)
		if ctx.Err() != nil {
			return nil
		}
		if heard {
			wait.Reset()
			told = false
		}
		if !told {
			s.log.WarnContext(ctx, "notifications of approvals are interrupted; they are polled for until they come again", "error", err)
			told = true
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait.NextBackOff()):
		}
	}
}

// listen listens until that fails, and tells whether it did at all.
func (s *Store) listen(ctx context.Context, changed func(ids ...string)) (heard bool, err error) {
	cfg := s.cfg.Copy()
	if err := s.pool.Config().BeforeConnect(ctx, cfg); err != nil {
		return false, err
	}
	dial, cancel := context.WithTimeout(ctx, dialTimeout)
	conn, err := pgx.ConnectConfig(dial, cfg)
	if err == nil {
		defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // it is over either way
		_, err = conn.Exec(dial, "LISTEN "+channel)
	}
	cancel()
	if err != nil {
		return false, err
	}
	s.log.DebugContext(ctx, "listening for notifications of approvals")
	changed()
	for {
		quiet, cancel := context.WithTimeout(ctx, silence)
		n, err := conn.WaitForNotification(quiet)
		timedOut := quiet.Err() != nil
		cancel()
		switch {
		case err == nil:
			changed(n.Payload)
		case ctx.Err() != nil || !timedOut || conn.IsClosed():
			return true, err
		default:
			ping, cancel := context.WithTimeout(ctx, dialTimeout)
			err := conn.Ping(ping)
			cancel()
			if err != nil {
				return true, err
			}
		}
	}
}
