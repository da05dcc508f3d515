package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/callgate/callgate/approvals"
)

// Ask implements [approvals.Holds].
func (s *Store) Ask(ctx context.Context, h approvals.Hold) (approvals.Change, error) {
	var out approvals.Change
	err := s.within(ctx, func(tx *sql.Tx) (err error) {
		taken, found, err := taker(ctx, tx, &h)
		if err != nil {
			return err
		}
		if found {
			taken.Owner, taken.Attempts = h.Owner, taken.Attempts+1
			out.Hold = taken
			return update(ctx, tx, &taken, nil)
		}
		if h.Most > 0 {
			var open int
			if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM (SELECT 1 FROM holds WHERE state = 'open' AND issuer = ? AND subject = ? LIMIT ?)`,
				h.Identity.Issuer, h.Identity.Subject, h.Most).Scan(&open); err != nil {
				return err
			}
			if open >= h.Most {
				return approvals.ErrTooMany
			}
		}
		h.Most = 0
		out, err = begin(ctx, tx, h, approvals.Open)
		return err
	})
	if err != nil {
		return approvals.Change{}, fmt.Errorf("create approval %s: %w", h.ID, err)
	}
	return out, nil
}

// Break implements [approvals.Holds].
func (s *Store) Break(ctx context.Context, h approvals.Hold) (approvals.Change, error) {
	var out approvals.Change
	err := s.within(ctx, func(tx *sql.Tx) (err error) {
		out, err = begin(ctx, tx, h, approvals.BrokeGlass)
		return err
	})
	if err != nil {
		return approvals.Change{}, fmt.Errorf("note broken glass %s: %w", h.ID, err)
	}
	return out, nil
}

func begin(ctx context.Context, tx *sql.Tx, h approvals.Hold, state approvals.State) (approvals.Change, error) {
	h.State = state
	steps := h.Begin()
	if err := insert(ctx, tx, &h); err != nil {
		return approvals.Change{}, err
	}
	err := update(ctx, tx, &h, steps)
	h.Request.Body, h.Identity.Claims = nil, nil
	return approvals.Change{Hold: h, Steps: steps}, err
}

// taker finds the hold that the caller of h waits for already.
func taker(ctx context.Context, tx *sql.Tx, h *approvals.Hold) (approvals.Hold, bool, error) {
	rows, err := tx.QueryContext(ctx, `SELECT `+columns+`, body, coalesce((SELECT alive_until FROM replicas WHERE replicas.id = holds.owner), 0)
		FROM holds WHERE binding = ?1 AND state IN ('approved', 'open', 'refused') AND (expires > ?2 OR use_by >= ?2)
		ORDER BY state, asked_at DESC`, h.Binding[:], nanos(h.AskedAt))
	if err != nil {
		return approvals.Hold{}, false, err
	}
	defer func() { _ = rows.Close() }() // its error is in rows.Err
	for rows.Next() {
		var body []byte
		var alive int64
		one, err := scanHold(rows, &body, &alive)
		if err != nil {
			return approvals.Hold{}, false, err
		}
		if one.Takes(alive > nanos(h.AskedAt), h.AskedAt) {
			one.Request.Body = body
			return one, true, rows.Close()
		}
	}
	return approvals.Hold{}, false, rows.Err()
}

// Get implements [approvals.Holds].
func (s *Store) Get(ctx context.Context, id string) (approvals.Hold, error) {
	var body []byte
	h, err := scanHold(s.db.Read.QueryRowContext(ctx, `SELECT `+columns+`, body FROM holds WHERE id = ?`, id), &body)
	if err != nil {
		return approvals.Hold{}, fmt.Errorf("read approval %s: %w", id, notFound(err))
	}
	h.Request.Body = body
	return h, nil
}

// Status implements [approvals.Holds].
func (s *Store) Status(ctx context.Context, id string) (approvals.Status, error) {
	st, err := scanStatus(s.db.Read.QueryRowContext(ctx, `SELECT `+statusColumns+` FROM holds WHERE id = ?`, id))
	if err != nil {
		return approvals.Status{}, fmt.Errorf("read approval %s: %w", id, notFound(err))
	}
	return st, nil
}

// List implements [approvals.Holds].
func (s *Store) List(ctx context.Context, f approvals.Filter) ([]approvals.Hold, error) {
	query, args := `SELECT `+columns+` FROM holds WHERE 1 = 1`, []any(nil)
	for _, is := range []struct{ column, value string }{
		{"state", string(f.State)}, {"connection", f.Connection}, {"function", f.Function}, {"rule", f.Rule}, {"subject", f.Subject},
	} {
		if is.value != "" {
			query, args = query+` AND `+is.column+` = ?`, append(args, is.value)
		}
	}
	if f.Unreviewed {
		query += ` AND state = 'broke_glass' AND reviewed_at = 0`
	}
	if !f.Since.IsZero() {
		query, args = query+` AND asked_at >= ?`, append(args, nanos(f.Since))
	}
	if !f.Before.IsZero() {
		query, args = query+` AND (asked_at, id) < (?, ?)`, append(args, nanos(f.Before), f.BeforeID)
	}
	query += ` ORDER BY asked_at DESC, id DESC LIMIT ?`
	rows, err := s.db.Read.QueryContext(ctx, query, append(args, f.Size())...)
	if err != nil {
		return nil, fmt.Errorf("list approvals: %w", err)
	}
	return collect(rows)
}

// History implements [approvals.Holds].
func (s *Store) History(ctx context.Context, id string) ([]approvals.Step, error) {
	rows, err := s.db.Read.QueryContext(ctx, `SELECT step FROM steps WHERE hold = ? ORDER BY n`, id)
	if err != nil {
		return nil, fmt.Errorf("read steps of approval %s: %w", id, err)
	}
	defer func() { _ = rows.Close() }() // its error is in rows.Err
	var out []approvals.Step
	for rows.Next() {
		var text string
		var step approvals.Step
		if err := rows.Scan(&text); err != nil {
			return nil, fmt.Errorf("read steps of approval %s: %w", id, err)
		}
		if err := json.Unmarshal([]byte(text), &step); err != nil {
			return nil, fmt.Errorf("read steps of approval %s: %w", id, err)
		}
		out = append(out, step)
	}
	return out, rows.Err()
}

// LastApproved implements [approvals.Holds].
func (s *Store) LastApproved(ctx context.Context, h approvals.Hold) (approvals.Hold, error) {
	var body []byte
	last, err := scanHold(s.db.Read.QueryRowContext(ctx, `SELECT `+columns+`, body FROM holds
		WHERE issuer = ? AND subject = ? AND connection = ? AND function = ? AND state IN ('approved', 'used') AND asked_at <= ? AND id <> ?
		ORDER BY ended_at DESC LIMIT 1`, h.Identity.Issuer, h.Identity.Subject, h.Connection, h.Function, nanos(h.AskedAt), h.ID), &body)
	if err != nil {
		return approvals.Hold{}, fmt.Errorf("look for the approval before %s: %w", h.ID, notFound(err))
	}
	last.Request.Body = body
	return last, nil
}

// Counts implements [approvals.Holds].
func (s *Store) Counts(ctx context.Context) (approvals.Counts, error) {
	var c approvals.Counts
	var oldest int64
	err := s.db.Read.QueryRowContext(ctx, `SELECT count(*), coalesce(min(asked_at), 0),
		(SELECT count(*) FROM holds WHERE state = 'broke_glass' AND reviewed_at = 0) FROM holds WHERE state = 'open'`).Scan(&c.Open, &oldest, &c.Unreviewed)
	if err != nil {
		return c, fmt.Errorf("count approvals: %w", err)
	}
	c.Oldest = instant(oldest)
	return c, nil
}

// change takes one step of one hold.
func (s *Store) change(ctx context.Context, what, id string, do func(*approvals.Hold) ([]approvals.Step, error)) (approvals.Change, error) {
	var out approvals.Change
	err := s.within(ctx, func(tx *sql.Tx) error {
		h, err := scanHold(tx.QueryRowContext(ctx, `SELECT `+columns+` FROM holds WHERE id = ?`, id))
		if err != nil {
			return notFound(err)
		}
		steps, err := do(&h)
		if err != nil {
			return err
		}
		out = approvals.Change{Hold: h, Steps: steps}
		if len(steps) == 0 {
			return nil
		}
		return update(ctx, tx, &h, steps)
	})
	if err != nil {
		return approvals.Change{}, fmt.Errorf("%s approval %s: %w", what, id, err)
	}
	return out, nil
}

// Decide implements [approvals.Holds].
func (s *Store) Decide(ctx context.Context, id string, v approvals.Verdict) (approvals.Change, error) {
	return s.change(ctx, "decide", id, func(h *approvals.Hold) ([]approvals.Step, error) { return h.Decide(v) })
}

// Use implements [approvals.Holds].
func (s *Store) Use(ctx context.Context, id string, u approvals.Use) (approvals.Change, error) {
	return s.change(ctx, "use", id, func(h *approvals.Hold) ([]approvals.Step, error) { return h.Use(u) })
}

// End implements [approvals.Holds].
func (s *Store) End(ctx context.Context, id string, to approvals.State, at time.Time) (approvals.Change, error) {
	return s.change(ctx, "end", id, func(h *approvals.Hold) ([]approvals.Step, error) { return h.End(to, at) })
}

// Mark implements [approvals.Holds].
func (s *Store) Mark(ctx context.Context, id string, m approvals.Mark) (approvals.Change, error) {
	return s.change(ctx, "mark", id, func(h *approvals.Hold) ([]approvals.Step, error) { return h.Mark(m) })
}

// Judge implements [approvals.Holds].
func (s *Store) Judge(ctx context.Context, id string, r approvals.Review) (approvals.Change, error) {
	return s.change(ctx, "review", id, func(h *approvals.Hold) ([]approvals.Step, error) { return h.Judge(r) })
}

// overdue selects what [approvals.Hold.Overdue] tells of.
const overdue = ` FROM holds WHERE state = 'open' AND expires <= ?1 OR state = 'approved' AND use_by < ?1`

// Expire implements [approvals.Holds].
func (s *Store) Expire(ctx context.Context, at time.Time, limit int) ([]approvals.Change, error) {
	// The write lock is taken only when there is something to do.
	var one int
	err := s.db.Read.QueryRowContext(ctx, `SELECT 1`+overdue+` LIMIT 1`, nanos(at)).Scan(&one)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("expire approvals: %w", err)
	}
	var out []approvals.Change
	err = s.within(ctx, func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT `+columns+overdue+` LIMIT ?2`, nanos(at), limit)
		if err != nil {
			return err
		}
		holds, err := collect(rows)
		if err != nil {
			return err
		}
		for _, h := range holds {
			steps := h.Expire(at)
			if err := update(ctx, tx, &h, steps); err != nil {
				return err
			}
			out = append(out, approvals.Change{Hold: h, Steps: steps})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("expire approvals: %w", err)
	}
	return out, nil
}

// changesLimit bounds one answer of Changes.
const changesLimit = 1000

// Changes implements [approvals.Holds].
func (s *Store) Changes(ctx context.Context, after int64) ([]string, int64, error) {
	if after < 0 {
		var last int64
		// The sequence knows numbers whose steps were pruned.
		err := s.db.Read.QueryRowContext(ctx, `SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'steps'), 0)`).Scan(&last)
		if err != nil {
			return nil, after, fmt.Errorf("read approval changes: %w", err)
		}
		return nil, last, nil
	}
	rows, err := s.db.Read.QueryContext(ctx, `SELECT seq, hold FROM steps WHERE seq > ? ORDER BY seq LIMIT ?`, after, changesLimit)
	if err != nil {
		return nil, after, fmt.Errorf("read approval changes: %w", err)
	}
	defer func() { _ = rows.Close() }() // its error is in rows.Err
	var ids []string
	next := after
	for rows.Next() {
		var id string
		if err := rows.Scan(&next, &id); err != nil {
			return nil, after, fmt.Errorf("read approval changes: %w", err)
		}
		ids = append(ids, id)
	}
	if err := rows.Err(); err != nil {
		return nil, after, fmt.Errorf("read approval changes: %w", err)
	}
	return ids, next, nil
}
