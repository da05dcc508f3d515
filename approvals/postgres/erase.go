package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/callgate/callgate/call"
)

// erasePart bounds what one statement erases.
const erasePart = 1000

// Erase implements [approvals.Holds]. PostgreSQL keeps the old row until it is
// vacuumed, which follows here, and its bytes until their place is used again; its
// log goes as the operator's settings and backups say.
func (s *Store) Erase(ctx context.Context, calls []call.ID, at time.Time) (int, error) {
	if err := s.ready(ctx); err != nil {
		return 0, wrap("erase approvals", err)
	}
	n, changed := 0, false
	for part := range slices.Chunk(calls, erasePart) {
		ids := make([][16]byte, len(part))
		for i, id := range part {
			ids[i] = id
		}
		err := s.on(ctx, func(c *pgxpool.Conn) error {
			tag, err := c.Exec(ctx, `UPDATE callgate.holds SET args = NULL, path = '', body = NULL, binding = decode(repeat('00', 32), 'hex')
			WHERE state <> 'open' AND (state <> 'approved' OR use_by < $1) AND binding <> decode(repeat('00', 32), 'hex') AND (call_id = ANY($2) OR used_for = ANY($2))`, nanos(at), ids)
			changed = changed || err != nil || tag.RowsAffected() > 0 // or may have, unanswered
			n += int(tag.RowsAffected())
			return err
		})
		if err != nil {
			s.unvacuumed.Store(true)
			return n, wrap("erase approvals", err)
		}
	}
	if !s.unvacuumed.Swap(false) && !changed {
		return n, nil
	}
	err := s.vacuum(ctx)
	if err != nil {
		s.unvacuumed.Store(true)
	}
	return n, wrap("erase approvals: clear away what is erased", err)
}

// vacuum frees the place of old rows, however long that takes.
func (s *Store) vacuum(ctx context.Context) error {
	return s.on(ctx, func(c *pgxpool.Conn) error {
		if _, err := c.Exec(ctx, `SET statement_timeout = 0`); err != nil {
			return err
		}
		_, err := c.Exec(ctx, `VACUUM callgate.holds`)
		_, back := c.Exec(ctx, fmt.Sprintf(`SET statement_timeout = %d`, statementTimeout.Milliseconds()))
		return errors.Join(err, back)
	})
}

// Prune implements [approvals.Holds]. Delegations go when they are over for as
// long.
func (s *Store) Prune(ctx context.Context, before time.Time, limit int) (int, error) {
	n, err := s.exec(ctx, `DELETE FROM callgate.holds WHERE id IN (SELECT id FROM callgate.holds
		WHERE ended_at > 0 AND ended_at < $1 AND (state <> 'broke_glass' OR reviewed_at > 0) ORDER BY ended_at LIMIT $2 FOR UPDATE SKIP LOCKED)`, nanos(before), limit)
	if err != nil {
		return 0, wrap("prune approvals", err)
	}
	_, err = s.exec(ctx, `DELETE FROM callgate.delegations WHERE until < $1 OR ended > 0 AND ended < $1`, nanos(before))
	return n, wrap("prune delegations", err)
}
