package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"github.com/callgate/callgate/approvals"
)

// Lease implements [approvals.Outbox].
func (s *Store) Lease(ctx context.Context, target string, at, until time.Time, limit int) ([]approvals.Notice, error) {
	var due bool
	// The write lock is taken only when there may be something to do.
	err := s.db.Read.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM notices WHERE target = ? AND due <= ?)`, target, nanos(at)).Scan(&due)
	if err != nil || !due {
		return nil, wrap("lease notices of "+target, err)
	}
	var out []approvals.Notice
	err = s.within(ctx, func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT a.hold, a.attempts, steps.step FROM notices a JOIN steps ON steps.hold = a.hold AND steps.n = a.n
			WHERE a.target = ?1 AND a.due <= ?2 AND NOT EXISTS (SELECT 1 FROM notices b WHERE b.hold = a.hold AND b.target = ?1 AND b.n < a.n)
			ORDER BY a.due LIMIT ?3`, target, nanos(at), limit)
		if err != nil {
			return err
		}
		defer func() { _ = rows.Close() }() // its error is in rows.Err
		for rows.Next() {
			n := approvals.Notice{Target: target}
			var text string
			if err := rows.Scan(&n.Hold, &n.Attempts, &text); err != nil {
				return err
			}
			if err := json.Unmarshal([]byte(text), &n.Step); err != nil {
				return fmt.Errorf("decode a step of %s: %w", n.Hold, err)
			}
			n.Attempts++
			out = append(out, n)
		}
		if err := rows.Err(); err != nil {
			return err
		}
		for _, n := range out {
			if _, err := tx.ExecContext(ctx, `UPDATE notices SET due = ?, attempts = ? WHERE hold = ? AND target = ? AND n = ?`,
				nanos(until), n.Attempts, n.Hold, target, n.Step.N); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, wrap("lease notices of "+target, err)
	}
	return out, nil
}

// Delivered implements [approvals.Outbox].
func (s *Store) Delivered(ctx context.Context, list ...approvals.Notice) error {
	if len(list) == 0 {
		return nil
	}
	return wrap("note notices as delivered", s.within(ctx, func(tx *sql.Tx) error {
		for _, n := range list {
			if _, err := tx.ExecContext(ctx, `DELETE FROM notices WHERE hold = ? AND target = ? AND n = ?`, n.Hold, n.Target, n.Step.N); err != nil {
				return err
			}
		}
		return nil
	}))
}

// Failed implements [approvals.Outbox].
func (s *Store) Failed(ctx context.Context, n approvals.Notice, next time.Time) error {
	_, err := s.db.Write.ExecContext(ctx, `UPDATE notices SET due = ? WHERE hold = ? AND target = ? AND n = ? AND attempts = ?`,
		nanos(next), n.Hold, n.Target, n.Step.N, n.Attempts)
	return wrap("note a notice as failed", err)
}

// Undelivered implements [approvals.Outbox].
func (s *Store) Undelivered(ctx context.Context, target string) (n int, err error) {
	err = s.db.Read.QueryRowContext(ctx, `SELECT count(*) FROM notices WHERE target = ?`, target).Scan(&n)
	return n, wrap("count notices of "+target, err)
}

func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}
