package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/callgate/callgate/approvals"
)

// Lease implements [approvals.Outbox]. Notices that another replica leases at
// the same moment are left to it, and so are those whose lease was lost with the
// answer: they are due when it ends.
func (s *Store) Lease(ctx context.Context, target string, at, until time.Time, limit int) (out []approvals.Notice, err error) {
	err = s.rows(ctx, func(rows pgx.Rows) error {
		out = nil
		for rows.Next() {
			n := approvals.Notice{Target: target}
			var text string
			if err := rows.Scan(&n.Hold, &n.Attempts, &text); err != nil {
				return err
			}
			if err := json.Unmarshal([]byte(text), &n.Step); err != nil {
				return fmt.Errorf("decode a step of %s: %w", n.Hold, err)
			}
			out = append(out, n)
		}
		return nil
	}, `WITH free AS (
			SELECT hold, n, due FROM callgate.notices a
			WHERE target = $1 AND due <= $2 AND NOT EXISTS (SELECT 1 FROM callgate.notices b WHERE b.hold = a.hold AND b.target = $1 AND b.n < a.n)
			ORDER BY due, hold LIMIT $4 FOR UPDATE SKIP LOCKED
		), leased AS (
			UPDATE callgate.notices a SET due = $3, attempts = a.attempts + 1 FROM free
			WHERE a.target = $1 AND a.hold = free.hold AND a.n = free.n RETURNING a.hold, a.n, a.attempts, free.due
		)
		SELECT leased.hold, leased.attempts, steps.step FROM leased JOIN callgate.steps ON steps.hold = leased.hold AND steps.n = leased.n ORDER BY leased.due, leased.hold`,
		plain(target), nanos(at), nanos(until), limit)
	return out, wrap("lease notices of "+target, err)
}

// Delivered implements [approvals.Outbox].
func (s *Store) Delivered(ctx context.Context, list ...approvals.Notice) error {
	if len(list) == 0 {
		return nil
	}
	holds, targets, steps := make([]string, len(list)), make([]string, len(list)), make([]int, len(list))
	for i, n := range list {
		holds[i], targets[i], steps[i] = plain(n.Hold), plain(n.Target), n.Step.N
	}
	_, err := s.exec(ctx, `DELETE FROM callgate.notices USING unnest($1::text[], $2::text[], $3::int[]) AS gone (hold, target, n)
		WHERE notices.hold = gone.hold AND notices.target = gone.target AND notices.n = gone.n`, holds, targets, steps)
	return wrap("note notices as delivered", err)
}

// Failed implements [approvals.Outbox].
func (s *Store) Failed(ctx context.Context, n approvals.Notice, next time.Time) error {
	_, err := s.exec(ctx, `UPDATE callgate.notices SET due = $1 WHERE hold = $2 AND target = $3 AND n = $4 AND attempts = $5`,
		nanos(next), plain(n.Hold), plain(n.Target), n.Step.N, n.Attempts)
	return wrap("note a notice as failed", err)
}

// Undelivered implements [approvals.Outbox].
func (s *Store) Undelivered(ctx context.Context, target string) (n int, err error) {
	err = s.one(ctx, func(r pgx.Row) error { return r.Scan(&n) }, `SELECT count(*) FROM callgate.notices WHERE target = $1`, plain(target))
	return n, wrap("count notices of "+target, err)
}
