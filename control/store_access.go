package control

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/callgate/callgate/xds/policyv1"
)

// nanos is a time as the store has it; 0 is none.
func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func fromNanos(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}

func (s *Store) addGrant(ctx context.Context, g Grant) error {
	data, err := proto.Marshal(g.Grant)
	if err != nil {
		return fmt.Errorf("store grant %s: %w", g.GetId(), err)
	}
	var until time.Time
	if g.GetUntil() != nil {
		until = g.GetUntil().AsTime()
	}
	if _, err := s.db.Write.ExecContext(ctx, `INSERT INTO grants (id, content, author, reason, created, until) VALUES (?, ?, ?, ?, ?, ?)`,
		g.GetId(), data, g.Author, g.Reason, nanos(g.Created), nanos(until)); err != nil {
		return fmt.Errorf("store grant %s: %w", g.GetId(), err)
	}
	return nil
}

func (s *Store) endGrant(ctx context.Context, id string, at time.Time) error {
	r, err := s.db.Write.ExecContext(ctx, `UPDATE grants SET revoked = ? WHERE id = ? AND revoked = 0`, nanos(at), id)
	if err != nil {
		return fmt.Errorf("end grant %s: %w", id, err)
	}
	if n, err := r.RowsAffected(); err != nil || n == 0 {
		return fmt.Errorf("%q: %w", id, ErrUnknownGrant)
	}
	return nil
}

func (s *Store) grants(ctx context.Context, all bool, now time.Time) ([]Grant, error) {
	rows, err := s.db.Read.QueryContext(ctx, `SELECT content, author, reason, created, revoked FROM grants
		WHERE ? OR (revoked = 0 AND (until = 0 OR until > ?)) ORDER BY created DESC`, all, nanos(now))
	if err != nil {
		return nil, fmt.Errorf("list grants: %w", err)
	}
	return readGrants(rows)
}

// grant returns one grant, also one that is over; without a [policyv1.Grant]
// where there is none.
func (s *Store) grant(ctx context.Context, id string) (Grant, error) {
	rows, err := s.db.Read.QueryContext(ctx, `SELECT content, author, reason, created, revoked FROM grants WHERE id = ?`, id)
	if err != nil {
		return Grant{}, fmt.Errorf("look for grant %s: %w", id, err)
	}
	list, err := readGrants(rows)
	if err != nil || len(list) == 0 {
		return Grant{}, err
	}
	return list[0], nil
}

func readGrants(rows *sql.Rows) ([]Grant, error) {
	defer rows.Close()
	var out []Grant
	for rows.Next() {
		g := Grant{Grant: new(policyv1.Grant)}
		var data []byte
		var created, revoked int64
		if err := rows.Scan(&data, &g.Author, &g.Reason, &created, &revoked); err != nil {
			return nil, fmt.Errorf("list grants: %w", err)
		}
		if err := proto.Unmarshal(data, g.Grant); err != nil {
			return nil, fmt.Errorf("read a grant: %w", err)
		}
		g.Created, g.Revoked = fromNanos(created), fromNanos(revoked)
		out = append(out, g)
	}
	return out, rows.Err()
}

func (s *Store) addRevocation(ctx context.Context, r Revocation) error {
	data, err := proto.Marshal(r.Revocation)
	if err != nil {
		return fmt.Errorf("store revocation %s: %w", r.GetId(), err)
	}
	if _, err := s.db.Write.ExecContext(ctx, `INSERT INTO revocations (id, content, author, reason, created, expires) VALUES (?, ?, ?, ?, ?, ?)`,
		r.GetId(), data, r.Author, r.Reason, nanos(r.Created), nanos(r.Expires)); err != nil {
		return fmt.Errorf("store revocation %s: %w", r.GetId(), err)
	}
	return nil
}

func (s *Store) endRevocation(ctx context.Context, id string, at time.Time) error {
	r, err := s.db.Write.ExecContext(ctx, `UPDATE revocations SET lifted = ? WHERE id = ? AND lifted = 0`, nanos(at), id)
	if err != nil {
		return fmt.Errorf("lift revocation %s: %w", id, err)
	}
	if n, err := r.RowsAffected(); err != nil || n == 0 {
		return fmt.Errorf("%q: %w", id, ErrUnknownRevocation)
	}
	return nil
}

func (s *Store) revocations(ctx context.Context, all bool, now time.Time) ([]Revocation, error) {
	rows, err := s.db.Read.QueryContext(ctx, `SELECT content, author, reason, created, expires, lifted FROM revocations
		WHERE ? OR (lifted = 0 AND (expires = 0 OR expires > ?)) ORDER BY created DESC`, all, nanos(now))
	if err != nil {
		return nil, fmt.Errorf("list revocations: %w", err)
	}
	defer rows.Close()
	var out []Revocation
	for rows.Next() {
		r := Revocation{Revocation: new(policyv1.Revocation)}
		var data []byte
		var created, expires, lifted int64
		if err := rows.Scan(&data, &r.Author, &r.Reason, &created, &expires, &lifted); err != nil {
			return nil, fmt.Errorf("list revocations: %w", err)
		}
		if err := proto.Unmarshal(data, r.Revocation); err != nil {
			return nil, fmt.Errorf("read a revocation: %w", err)
		}
		r.Created, r.Expires, r.Lifted = fromNanos(created), fromNanos(expires), fromNanos(lifted)
		out = append(out, r)
	}
	return out, rows.Err()
}
