package postgres

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/callgate/callgate/approvals"
	"github.com/callgate/callgate/call"
)

// Ask implements [approvals.Holds].
func (s *Store) Ask(ctx context.Context, h approvals.Hold) (approvals.Change, error) {
	var out approvals.Change
	err := s.within(ctx, func(tx *transaction) error {
		// Callers of one binding come one after the other; each sees what the
		// one before has committed, since every statement looks anew.
		tx.exec(`SELECT pg_advisory_xact_lock($1)`, int64(binary.BigEndian.Uint64(h.Binding[:])))
		taken, found, err := tx.taker(ctx, &h)
		if err != nil {
			return err
		}
		if found {
			taken.Owner, taken.Attempts = h.Owner, taken.Attempts+1
			out.Hold = taken
			tx.update(&taken, nil)
			return nil
		}
		if h.Most > 0 {
			// Nor does any other call of the caller come between counting and asking.
			tx.exec(`SELECT pg_advisory_xact_lock($1)`, callerLock(h.Identity))
			open := 0
			if err := tx.query(ctx, func(rows pgx.Rows) error {
				for rows.Next() {
					open++
				}
				return nil
			}, `SELECT FROM callgate.holds WHERE state = 'open' AND issuer = $1 AND subject = $2 LIMIT $3`, bytesOf(h.Identity.Issuer), bytesOf(h.Identity.Subject), h.Most); err != nil {
				return err
			}
			if open >= h.Most {
				return approvals.ErrTooMany
			}
		}
		asked := h
		asked.Most = 0
		out = tx.begin(asked, approvals.Open)
		return nil
	})
	if err != nil {
		return approvals.Change{}, fmt.Errorf("create approval %s: %w", h.ID, err)
	}
	return out, nil
}

func callerLock(i call.Identity) int64 {
	sum := sha256.Sum256([]byte("caller\x00" + approvals.PersonOf(i).String()))
	return int64(binary.BigEndian.Uint64(sum[:]))
}

// Break implements [approvals.Holds].
func (s *Store) Break(ctx context.Context, h approvals.Hold) (approvals.Change, error) {
	var out approvals.Change
	err := s.within(ctx, func(tx *transaction) error {
		out = tx.begin(h, approvals.BrokeGlass)
		return nil
	})
	if err != nil {
		return approvals.Change{}, fmt.Errorf("note broken glass %s: %w", h.ID, err)
	}
	return out, nil
}

func (t *transaction) begin(h approvals.Hold, state approvals.State) approvals.Change {
	h.State = state
	steps := h.Begin()
	t.insert(&h)
	t.update(&h, steps)
	h.Request.Body, h.Identity.Claims = nil, nil
	return approvals.Change{Hold: h, Steps: steps}
}

// taker finds the hold that the caller of h waits for already, and locks it.
func (t *transaction) taker(ctx context.Context, h *approvals.Hold) (taken approvals.Hold, found bool, err error) {
	err = t.query(ctx, func(rows pgx.Rows) error {
		for rows.Next() {
			var body []byte
			var alive int64
			one, err := scanHold(rows, &body, &alive)
			if err != nil {
				return err
			}
			if !found && one.Takes(alive > nanos(h.AskedAt), h.AskedAt) {
				one.Request.Body = body
				taken, found = one, true
			}
		}
		return nil
	}, `SELECT `+columns+`, body, coalesce((SELECT alive_until FROM callgate.replicas WHERE replicas.id = holds.owner), 0)
		FROM callgate.holds WHERE binding = $1 AND state IN ('approved', 'open', 'refused') AND (expires > $2 OR use_by >= $2)
		ORDER BY state, asked_at DESC FOR UPDATE OF holds`, h.Binding[:], nanos(h.AskedAt))
	return taken, found, err
}

// one reads the row that a query should find.
func (s *Store) one(ctx context.Context, scan func(pgx.Row) error, sql string, args ...any) error {
	return s.rows(ctx, func(rows pgx.Rows) error {
		if !rows.Next() {
			return cmpErr(rows.Err(), approvals.ErrNotFound)
		}
		return scan(rows)
	}, sql, args...)
}

func cmpErr(err, other error) error {
	if err != nil {
		return err
	}
	return other
}

// Get implements [approvals.Holds].
func (s *Store) Get(ctx context.Context, id string) (h approvals.Hold, err error) {
	err = s.one(ctx, func(r pgx.Row) (err error) {
		var body []byte
		h, err = scanHold(r, &body)
		h.Request.Body = body
		return err
	}, `SELECT `+columns+`, body FROM callgate.holds WHERE id = $1`, plain(id))
	return h, wrap("read approval "+id, err)
}

// Status implements [approvals.Holds].
func (s *Store) Status(ctx context.Context, id string) (st approvals.Status, err error) {
	err = s.one(ctx, func(r pgx.Row) (err error) {
		var row statusRow
		if err = r.Scan(row.into()...); err == nil {
			st, err = row.status()
		}
		return err
	}, `SELECT `+statusColumns+` FROM callgate.holds WHERE id = $1`, plain(id))
	return st, wrap("read approval "+id, err)
}

// List implements [approvals.Holds].
func (s *Store) List(ctx context.Context, f approvals.Filter) (out []approvals.Hold, err error) {
	var where []string
	var args []any
	also := func(condition string, values ...any) {
		for _, v := range values {
			args = append(args, v)
			condition = strings.Replace(condition, "?", fmt.Sprintf("$%d", len(args)), 1)
		}
		where = append(where, condition)
	}
	for _, is := range []struct{ column, value string }{{"state", string(f.State)}, {"connection", f.Connection}, {"rule", f.Rule}} {
		if is.value != "" {
			also(is.column+" = ?", plain(is.value))
		}
	}
	for _, is := range []struct{ column, value string }{{"function", f.Function}, {"subject", f.Subject}} {
		if is.value != "" {
			also(is.column+" = ?", []byte(is.value))
		}
	}
	if f.Unreviewed {
		also("state = 'broke_glass' AND reviewed_at = 0")
	}
	if !f.Since.IsZero() {
		also("asked_at >= ?", nanos(f.Since))
	}
	if !f.Before.IsZero() {
		also("(asked_at, id) < (?, ?)", nanos(f.Before), plain(f.BeforeID))
	}
	query := `SELECT ` + columns + ` FROM callgate.holds`
	if len(where) > 0 {
		query += ` WHERE ` + strings.Join(where, " AND ")
	}
	args = append(args, f.Size())
	err = s.rows(ctx, collect(&out), fmt.Sprintf(`%s ORDER BY asked_at DESC, id DESC LIMIT $%d`, query, len(args)), args...)
	return out, wrap("list approvals", err)
}

// collect reads holds without their bodies.
func collect(out *[]approvals.Hold) func(pgx.Rows) error {
	return func(rows pgx.Rows) error {
		*out = nil
		for rows.Next() {
			h, err := scanHold(rows)
			if err != nil {
				return fmt.Errorf("read approval: %w", err)
			}
			*out = append(*out, h)
		}
		return nil
	}
}

// History implements [approvals.Holds].
func (s *Store) History(ctx context.Context, id string) (out []approvals.Step, err error) {
	err = s.rows(ctx, func(rows pgx.Rows) error {
		out = nil
		for rows.Next() {
			var text string
			var step approvals.Step
			if err := rows.Scan(&text); err != nil {
				return err
			}
			if err := json.Unmarshal([]byte(text), &step); err != nil {
				return err
			}
			out = append(out, step)
		}
		return nil
	}, `SELECT step FROM callgate.steps WHERE hold = $1 ORDER BY n`, plain(id))
	return out, wrap("read steps of approval "+id, err)
}

// LastApproved implements [approvals.Holds].
func (s *Store) LastApproved(ctx context.Context, h approvals.Hold) (last approvals.Hold, err error) {
	err = s.one(ctx, func(r pgx.Row) (err error) {
		var body []byte
		last, err = scanHold(r, &body)
		last.Request.Body = body
		return err
	}, `SELECT `+columns+`, body FROM callgate.holds
		WHERE issuer = $1 AND subject = $2 AND connection = $3 AND function = $4 AND state IN ('approved', 'used') AND asked_at <= $5 AND id <> $6
		ORDER BY ended_at DESC LIMIT 1`, bytesOf(h.Identity.Issuer), bytesOf(h.Identity.Subject), plain(h.Connection), bytesOf(h.Function), nanos(h.AskedAt), h.ID)
	return last, wrap("look for the approval before "+h.ID, err)
}

// Counts implements [approvals.Holds].
func (s *Store) Counts(ctx context.Context) (c approvals.Counts, err error) {
	var oldest int64
	err = s.one(ctx, func(r pgx.Row) error { return r.Scan(&c.Open, &oldest, &c.Unreviewed) }, `SELECT count(*), coalesce(min(asked_at), 0),
		(SELECT count(*) FROM callgate.holds WHERE state = 'broke_glass' AND reviewed_at = 0) FROM callgate.holds WHERE state = 'open'`)
	c.Oldest = instant(oldest)
	return c, wrap("count approvals", err)
}

// change takes one step of one hold.
func (s *Store) change(ctx context.Context, what, id string, do func(*approvals.Hold) ([]approvals.Step, error)) (approvals.Change, error) {
	var out approvals.Change
	err := s.within(ctx, func(tx *transaction) error {
		var h approvals.Hold
		found := false
		err := tx.query(ctx, func(rows pgx.Rows) (err error) {
			for rows.Next() {
				h, err = scanHold(rows)
				found = true
			}
			return err
		}, `SELECT `+columns+` FROM callgate.holds WHERE id = $1 FOR UPDATE`, plain(id))
		switch {
		case err != nil:
			return err
		case !found:
			return approvals.ErrNotFound
		}
		steps, err := do(&h)
		if err != nil {
			return err
		}
		out = approvals.Change{Hold: h, Steps: steps}
		if len(steps) > 0 {
			tx.update(&h, steps)
		}
		return nil
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

// Expire implements [approvals.Holds]. Holds that another replica is about to
// change are left for later.
func (s *Store) Expire(ctx context.Context, at time.Time, limit int) ([]approvals.Change, error) {
	// Mostly there is nothing to do, and then one look is enough.
	const overdue = ` FROM callgate.holds WHERE state = 'open' AND expires <= $1 OR state = 'approved' AND use_by < $1`
	err := s.one(ctx, func(r pgx.Row) error { return r.Scan(new(int)) }, `SELECT 1`+overdue+` LIMIT 1`, nanos(at))
	switch {
	case errors.Is(err, approvals.ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, wrap("expire approvals", err)
	}
	var out []approvals.Change
	err = s.within(ctx, func(tx *transaction) error {
		var holds []approvals.Hold
		if err := tx.query(ctx, collect(&holds), `SELECT `+columns+overdue+` ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED`, nanos(at), limit); err != nil {
			return err
		}
		out = nil
		for _, h := range holds {
			steps := h.Expire(at)
			tx.update(&h, steps)
			out = append(out, approvals.Change{Hold: h, Steps: steps})
		}
		return nil
	})
	if err != nil {
		return nil, wrap("expire approvals", err)
	}
	return out, nil
}

// Changes implements [approvals.Holds].
func (s *Store) Changes(ctx context.Context, after int64) (ids []string, next int64, err error) {
	var snapshot string
	if after < 0 {
		err = s.one(ctx, func(r pgx.Row) error { return r.Scan(&snapshot) }, `SELECT pg_current_snapshot()::text`)
	} else {
		err = s.one(ctx, func(r pgx.Row) error { return r.Scan(&snapshot, &ids) }, `SELECT pg_current_snapshot()::text,
			array(SELECT DISTINCT hold FROM callgate.steps WHERE xid >= pg_snapshot_xmin($1::pg_snapshot) AND NOT pg_visible_in_snapshot(xid, $1::pg_snapshot))`, s.seen.get(after))
	}
	if err != nil {
		return nil, after, wrap("read approval changes", err)
	}
	if after >= 0 && len(ids) == 0 {
		return nil, after, nil
	}
	return ids, s.seen.put(snapshot), nil
}
