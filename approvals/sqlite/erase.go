package sqlite

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/callgate/callgate/call"
)

// erasePart bounds the parameters of one statement.
const erasePart = 500

// Erase implements [approvals.Holds]. SQLite overwrites what it deletes
// (secure_delete); the log that it writes ahead is emptied afterwards.
func (s *Store) Erase(ctx context.Context, calls []call.ID, at time.Time) (int, error) {
	n := 0
	for part := range slices.Chunk(calls, erasePart) {
		args := []any{nanos(at)}
		for range 2 { // the two lists
			for _, id := range part {
				args = append(args, id.String())
			}
		}
		list := `(?` + strings.Repeat(", ?", len(part)-1) + `)`
		res, err := s.db.Write.ExecContext(ctx, `UPDATE holds SET args = NULL, path = '', body = NULL, binding = zeroblob(32)
			WHERE state != 'open' AND (state != 'approved' OR use_by < ?) AND binding != zeroblob(32) AND (call_id IN `+list+` OR used_for IN `+list+`)`, args...)
		if err != nil {
			return n, fmt.Errorf("erase approvals: %w", err)
		}
		erased, err := res.RowsAffected()
		if err != nil {
			return n, fmt.Errorf("erase approvals: %w", err)
		}
		n += int(erased)
	}
	var busy, pages, moved int
	if err := s.db.Write.QueryRowContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &pages, &moved); err != nil {
		return n, fmt.Errorf("erase approvals: empty the write-ahead log: %w", err)
	}
	if busy != 0 {
		return n, errors.New("erase approvals: another process reads the file, so its write-ahead log can't be emptied now")
	}
	return n, nil
}

// Prune implements [approvals.Holds]. Delegations go when they are over for as
// long.
func (s *Store) Prune(ctx context.Context, before time.Time, limit int) (int, error) {
	res, err := s.db.Write.ExecContext(ctx, `DELETE FROM holds WHERE id IN (SELECT id FROM holds
		WHERE ended_at > 0 AND ended_at < ? AND (state <> 'broke_glass' OR reviewed_at > 0) ORDER BY ended_at LIMIT ?)`, nanos(before), limit)
	if err != nil {
		return 0, fmt.Errorf("prune approvals: %w", err)
	}
	n, err := res.RowsAffected()
	if err != nil {
		return 0, fmt.Errorf("prune approvals: %w", err)
	}
	if _, err := s.db.Write.ExecContext(ctx, `DELETE FROM delegations WHERE until < ?1 OR ended > 0 AND ended < ?1`, nanos(before)); err != nil {
		return int(n), fmt.Errorf("prune delegations: %w", err)
	}
	return int(n), nil
}
