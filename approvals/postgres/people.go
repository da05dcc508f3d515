package postgres

import (
	"context"
	"encoding/json"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/callgate/callgate/approvals"
)

// Delegate implements [approvals.Delegations].
func (s *Store) Delegate(ctx context.Context, d approvals.Delegation) error {
	d.From.Claims = nil
	err := s.within(ctx, func(tx *transaction) error {
		tx.exec(`INSERT INTO callgate.delegations (id, data, created, until) VALUES ($1, $2, $3, $4)`, plain(d.ID), encode(d), nanos(d.Created), nanos(d.Until))
		tx.provedBy(`SELECT FROM callgate.delegations WHERE id = $1 AND data = $2`, plain(d.ID), encode(d))
		return nil
	})
	return wrap("keep delegation "+d.ID, err)
}

// Undelegate implements [approvals.Delegations].
func (s *Store) Undelegate(ctx context.Context, id, by string, at time.Time) (approvals.Delegation, error) {
	var d approvals.Delegation
	err := s.within(ctx, func(tx *transaction) error {
		found := false
		d = approvals.Delegation{}
		err := tx.query(ctx, func(rows pgx.Rows) (err error) {
			var text string
			for rows.Next() {
				found = true
				if err = rows.Scan(&text); err == nil {
					err = json.Unmarshal([]byte(text), &d)
				}
			}
			return err
		}, `SELECT data FROM callgate.delegations WHERE id = $1 FOR UPDATE`, plain(id))
		switch {
		case err != nil:
			return err
		case !found || !d.Active(at):
			return approvals.ErrNotFound
		}
		d.Ended, d.EndedBy = at, by
		tx.exec(`UPDATE callgate.delegations SET data = $1, ended = $2 WHERE id = $3`, encode(d), nanos(at), plain(id))
		tx.provedBy(`SELECT FROM callgate.delegations WHERE id = $1 AND data = $2`, plain(id), encode(d))
		return nil
	})
	if err != nil {
		return approvals.Delegation{}, wrap("end delegation "+id, err)
	}
	return d, nil
}

// Delegations implements [approvals.Delegations].
func (s *Store) Delegations(ctx context.Context, at time.Time) (out []approvals.Delegation, err error) {
	query, args := `SELECT data FROM callgate.delegations`, []any(nil)
	if !at.IsZero() {
		query, args = query+` WHERE until > $1 AND created <= $1 AND ended = 0`, []any{nanos(at)}
	}
	err = s.rows(ctx, func(rows pgx.Rows) error {
		out = nil
		for rows.Next() {
			var text string
			var d approvals.Delegation
			if err := rows.Scan(&text); err != nil {
				return err
			}
			if err := json.Unmarshal([]byte(text), &d); err != nil {
				return err
			}
			out = append(out, d)
		}
		return nil
	}, query+` ORDER BY created DESC, id DESC`, args...)
	return out, wrap("read delegations", err)
}

// forgotten is after how long a replica that is gone is not remembered.
const forgotten = 24 * time.Hour

// Alive implements [approvals.Replicas]. A replica that is long gone is
// forgotten.
func (s *Store) Alive(ctx context.Context, replica string, until time.Time) error {
	if until.IsZero() {
		_, err := s.exec(ctx, `DELETE FROM callgate.replicas WHERE id = $1`, replica)
		return wrap("note that a replica is gone", err)
	}
	_, err := s.exec(ctx, `WITH gone AS (DELETE FROM callgate.replicas WHERE alive_until < $3 AND id <> $1)
		INSERT INTO callgate.replicas (id, alive_until) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET alive_until = $2`, replica, nanos(until), nanos(until.Add(-forgotten)))
	return wrap("note that a replica is there", err)
}

// NoteSession implements [approvals.Sessions].
func (s *Store) NoteSession(ctx context.Context, session [32]byte, at, until time.Time) error {
	_, err := s.exec(ctx, `WITH over AS (DELETE FROM callgate.sessions WHERE until <= $3 AND id <> $1)
		INSERT INTO callgate.sessions (id, until) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET until = greatest(sessions.until, $2)`, session[:], nanos(until), nanos(at))
	return wrap("note a session", err)
}

// NotedSession implements [approvals.Sessions].
func (s *Store) NotedSession(ctx context.Context, session [32]byte, at time.Time) (noted bool, err error) {
	err = s.one(ctx, func(r pgx.Row) error { return r.Scan(&noted) }, `SELECT EXISTS (SELECT 1 FROM callgate.sessions WHERE id = $1 AND until > $2)`, session[:], nanos(at))
	return noted, wrap("look for a session", err)
}
