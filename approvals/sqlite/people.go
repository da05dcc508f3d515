package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"time"

	"github.com/callgate/callgate/approvals"
)

// Delegate implements [approvals.Delegations].
func (s *Store) Delegate(ctx context.Context, d approvals.Delegation) error {
	d.From.Claims = nil
	_, err := s.db.Write.ExecContext(ctx, `INSERT INTO delegations (id, data, created, until) VALUES (?, ?, ?, ?)`,
		d.ID, encode(d), nanos(d.Created), nanos(d.Until))
	return wrap("keep delegation "+d.ID, err)
}

// Undelegate implements [approvals.Delegations].
func (s *Store) Undelegate(ctx context.Context, id, by string, at time.Time) (approvals.Delegation, error) {
	var d approvals.Delegation
	err := s.within(ctx, func(tx *sql.Tx) error {
		var text string
		if err := tx.QueryRowContext(ctx, `SELECT data FROM delegations WHERE id = ?`, id).Scan(&text); err != nil {
			return notFound(err)
		}
		if err := json.Unmarshal([]byte(text), &d); err != nil {
			return err
		}
		if !d.Active(at) {
			return approvals.ErrNotFound
		}
		d.Ended, d.EndedBy = at, by
		_, err := tx.ExecContext(ctx, `UPDATE delegations SET data = ?, ended = ? WHERE id = ?`, encode(d), nanos(at), id)
		return err
	})
	if err != nil {
		return approvals.Delegation{}, wrap("end delegation "+id, err)
	}
	return d, nil
}

// Delegations implements [approvals.Delegations].
func (s *Store) Delegations(ctx context.Context, at time.Time) (out []approvals.Delegation, err error) {
	query, args := `SELECT data FROM delegations`, []any(nil)
	if !at.IsZero() {
		query, args = query+` WHERE until > ?1 AND created <= ?1 AND ended = 0`, []any{nanos(at)}
	}
	rows, err := s.db.Read.QueryContext(ctx, query+` ORDER BY created DESC, id DESC`, args...)
	if err != nil {
		return nil, wrap("read delegations", err)
	}
	defer func() { _ = rows.Close() }() // its error is in rows.Err
	for rows.Next() {
		var text string
		var d approvals.Delegation
		if err := rows.Scan(&text); err != nil {
			return nil, wrap("read delegations", err)
		}
		if err := json.Unmarshal([]byte(text), &d); err != nil {
			return nil, wrap("read delegations", err)
		}
		out = append(out, d)
	}
	return out, wrap("read delegations", rows.Err())
}

// Alive implements [approvals.Replicas]. A replica that is long gone is
// forgotten.
func (s *Store) Alive(ctx context.Context, replica string, until time.Time) error {
	if until.IsZero() {
		_, err := s.db.Write.ExecContext(ctx, `DELETE FROM replicas WHERE id = ?`, replica)
		return wrap("note that a replica is gone", err)
	}
	err := s.within(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `DELETE FROM replicas WHERE alive_until < ?`, nanos(until.Add(-forgotten))); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO replicas (id, alive_until) VALUES (?1, ?2) ON CONFLICT (id) DO UPDATE SET alive_until = ?2`, replica, nanos(until))
		return err
	})
	return wrap("note that a replica is there", err)
}

// forgotten is after how long a replica that is gone is not remembered.
const forgotten = 24 * time.Hour

// NoteSession implements [approvals.Sessions].
func (s *Store) NoteSession(ctx context.Context, session [32]byte, at, until time.Time) error {
	err := s.within(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `DELETE FROM sessions WHERE until <= ?`, nanos(at)); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO sessions (id, until) VALUES (?1, ?2) ON CONFLICT (id) DO UPDATE SET until = max(until, ?2)`, session[:], nanos(until))
		return err
	})
	return wrap("note a session", err)
}

// NotedSession implements [approvals.Sessions].
func (s *Store) NotedSession(ctx context.Context, session [32]byte, at time.Time) (noted bool, err error) {
	err = s.db.Read.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM sessions WHERE id = ? AND until > ?)`, session[:], nanos(at)).Scan(&noted)
	return noted, wrap("look for a session", err)
}
