// Package sqlite keeps approvals in a SQLite file: the store of one machine.
// Several processes may have the file open. It holds request bodies, so it is
// readable for its owner alone.
package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/callgate/callgate/approvals"
	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/sqlitefile"
)

//go:embed schema.sql
var schema1 string

// versions are the steps from an empty file to today's schema. They are only
// ever added to.
func versions() []string { return []string{schema1} }

// Store implements [approvals.Store].
type Store struct {
	file string
	db   *sqlitefile.DB
}

// Open opens the store in file, and makes it where there is none.
func Open(ctx context.Context, file string) (*Store, error) {
	db, err := sqlitefile.Open(ctx, file, versions())
	if err != nil {
		return nil, fmt.Errorf("open approvals %s: %w", file, err)
	}
	return &Store{file: file, db: db}, nil
}

// Close closes the file. Holds that are open stay so.
func (s *Store) Close() error { return s.db.Close() }

// Create implements [approvals.Store].
func (s *Store) Create(ctx context.Context, h approvals.Hold) error {
	identity, err := json.Marshal(h.Identity)
	if err != nil {
		return fmt.Errorf("create approval %s: encode identity: %w", h.ID, err)
	}
	approvers, err := json.Marshal(h.Approvers)
	if err != nil {
		return fmt.Errorf("create approval %s: encode approvers: %w", h.ID, err)
	}
	_, err = s.db.Write.ExecContext(ctx, `INSERT INTO holds (id, call_id, binding, policy_version, rule, message, identity, approvers,
			connection, protocol, function, args, method, authority, path, content_type, content_encoding, body, asked_at, expires, state)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'open')`,
		h.ID, h.CallID.String(), h.Binding[:], h.PolicyVersion, h.Rule, h.Message, string(identity), string(approvers),
		h.Connection, string(h.Protocol), h.Function, []byte(h.ArgsJSON), h.Request.Method, h.Request.Authority, h.Request.Path,
		h.Request.ContentType, h.Request.ContentEncoding, h.Request.Body, nanos(h.AskedAt), nanos(h.Expires))
	if err != nil {
		return fmt.Errorf("create approval %s: %w", h.ID, err)
	}
	return nil
}

const (
	columns = `id, call_id, binding, policy_version, rule, message, identity, approvers, connection, protocol, function, args,
		method, authority, path, content_type, content_encoding, asked_at, expires, ` + statusColumns
	statusColumns = `state, decided_by, comment, decided_at, ended_at, used_at`
)

// Get implements [approvals.Store].
func (s *Store) Get(ctx context.Context, id string) (approvals.Hold, error) {
	var body []byte
	h, err := scanHold(s.db.Read.QueryRowContext(ctx, `SELECT `+columns+`, body FROM holds WHERE id = ?`, id), &body)
	if err != nil {
		return approvals.Hold{}, fmt.Errorf("read approval %s: %w", id, notFound(err))
	}
	h.Request.Body = body
	return h, nil
}

// Status implements [approvals.Store].
func (s *Store) Status(ctx context.Context, id string) (approvals.Status, error) {
	st, err := scanStatus(s.db.Read.QueryRowContext(ctx, `SELECT `+statusColumns+` FROM holds WHERE id = ?`, id))
	if err != nil {
		return approvals.Status{}, fmt.Errorf("read approval %s: %w", id, notFound(err))
	}
	return st, nil
}

// List implements [approvals.Store].
func (s *Store) List(ctx context.Context, f approvals.Filter) ([]approvals.Hold, error) {
	query, args := `SELECT `+columns+` FROM holds WHERE 1 = 1`, []any(nil)
	if f.State != "" {
		query, args = query+` AND state = ?`, append(args, string(f.State))
	}
	if f.Connection != "" {
		query, args = query+` AND connection = ?`, append(args, f.Connection)
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

// Decide implements [approvals.Store].
func (s *Store) Decide(ctx context.Context, id string, v approvals.Verdict) error {
	state := approvals.Refused
	if v.Approve {
		state = approvals.Approved
	}
	ok, err := s.change(ctx, `UPDATE holds SET state = ?1, decided_by = ?2, comment = ?3, decided_at = ?4, ended_at = ?4
		WHERE id = ?5 AND state = 'open' AND expires > ?4`, string(state), v.By, v.Comment, nanos(v.At), id)
	if err != nil || ok {
		return wrap("decide approval", id, err)
	}
	st, err := s.Status(ctx, id)
	switch {
	case err != nil:
		return err
	case st.State == approvals.Canceled:
		return wrap("decide approval", id, approvals.ErrCanceled)
	case st.State == approvals.Open, st.State == approvals.Expired:
		return wrap("decide approval", id, approvals.ErrExpired)
	}
	return wrap("decide approval", id, approvals.ErrDecided)
}

// Use implements [approvals.Store].
func (s *Store) Use(ctx context.Context, id string, binding [32]byte, at time.Time) error {
	ok, err := s.change(ctx, `UPDATE holds SET state = 'used', used_at = ?1
		WHERE id = ?2 AND state = 'approved' AND binding = ?3 AND expires >= ?4`, nanos(at), id, binding[:], nanos(at.Add(-approvals.Grace)))
	if err != nil || ok {
		return wrap("use approval", id, err)
	}
	h, err := s.Get(ctx, id)
	switch {
	case err != nil:
		return err
	case h.State == approvals.Used:
		return wrap("use approval", id, approvals.ErrUsed)
	case h.State != approvals.Approved:
		return wrap("use approval", id, approvals.ErrNotApproved)
	case h.Binding != binding:
		return wrap("use approval", id, approvals.ErrBinding)
	}
	return wrap("use approval", id, approvals.ErrExpired)
}

// End implements [approvals.Store].
func (s *Store) End(ctx context.Context, id string, to approvals.State, at time.Time) (approvals.Status, bool, error) {
	if to != approvals.Expired && to != approvals.Canceled {
		return approvals.Status{}, false, fmt.Errorf("end approval %s: a hold can't end as %q without a decision", id, to)
	}
	changed, err := s.change(ctx, `UPDATE holds SET state = ?, ended_at = ? WHERE id = ? AND state = 'open'`, string(to), nanos(at), id)
	if err != nil {
		return approvals.Status{}, false, wrap("end approval", id, err)
	}
	st, err := s.Status(ctx, id)
	return st, changed, err
}

// Expire implements [approvals.Store].
func (s *Store) Expire(ctx context.Context, at time.Time, limit int) ([]approvals.Hold, error) {
	// The write lock is taken only when there is something to do.
	var one int
	err := s.db.Read.QueryRowContext(ctx, `SELECT 1 FROM holds WHERE state = 'open' AND expires <= ? LIMIT 1`, nanos(at)).Scan(&one)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("expire approvals: %w", err)
	}
	rows, err := s.db.Write.QueryContext(ctx, `UPDATE holds SET state = 'expired', ended_at = ?1
		WHERE id IN (SELECT id FROM holds WHERE state = 'open' AND expires <= ?1 ORDER BY expires LIMIT ?2)
		RETURNING `+columns, nanos(at), limit)
	if err != nil {
		return nil, fmt.Errorf("expire approvals: %w", err)
	}
	return collect(rows)
}

// erasePart bounds the parameters of one statement.
const erasePart = 500

// Erase implements [approvals.Store]. SQLite overwrites what it deletes
// (secure_delete); the log that it writes ahead is emptied afterwards.
func (s *Store) Erase(ctx context.Context, calls []call.ID, at time.Time) (int, error) {
	n := 0
	for part := range slices.Chunk(calls, erasePart) {
		args := []any{nanos(at.Add(-approvals.Grace))}
		for _, id := range part {
			args = append(args, id.String())
		}
		res, err := s.db.Write.ExecContext(ctx, `UPDATE holds SET args = NULL, path = '', body = NULL, binding = zeroblob(32)
			WHERE state != 'open' AND (state != 'approved' OR expires < ?) AND binding != zeroblob(32) AND call_id IN (?`+strings.Repeat(", ?", len(part)-1)+`)`, args...)
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

// changesLimit bounds one answer of Changes.
const changesLimit = 1000

// Changes implements [approvals.Store].
func (s *Store) Changes(ctx context.Context, after int64) ([]string, int64, error) {
	if after < 0 {
		var last sql.NullInt64
		// The sequence knows numbers whose changes were pruned.
		err := s.db.Read.QueryRowContext(ctx, `SELECT max(seq) FROM (SELECT max(seq) AS seq FROM changes
			UNION ALL SELECT seq FROM sqlite_sequence WHERE name = 'changes')`).Scan(&last)
		if err != nil {
			return nil, after, fmt.Errorf("read approval changes: %w", err)
		}
		return nil, last.Int64, nil
	}
	rows, err := s.db.Read.QueryContext(ctx, `SELECT seq, hold FROM changes WHERE seq > ? ORDER BY seq LIMIT ?`, after, changesLimit)
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

// Prune implements [approvals.Store].
func (s *Store) Prune(ctx context.Context, before time.Time, limit int) (int, error) {
	res, err := s.db.Write.ExecContext(ctx, `DELETE FROM holds WHERE id IN
		(SELECT id FROM holds WHERE ended_at > 0 AND ended_at < ? ORDER BY ended_at LIMIT ?)`, nanos(before), limit)
	if err != nil {
		return 0, fmt.Errorf("prune approvals: %w", err)
	}
	n, err := res.RowsAffected()
	return int(n), err
}

// change runs one statement over one hold and reports whether it fitted.
func (s *Store) change(ctx context.Context, query string, args ...any) (bool, error) {
	res, err := s.db.Write.ExecContext(ctx, query, args...)
	if err != nil {
		return false, err
	}
	n, err := res.RowsAffected()
	return n > 0, err
}

type row interface{ Scan(...any) error }

func scanHold(r row, more ...any) (approvals.Hold, error) {
	var (
		h                   approvals.Hold
		callID              string
		binding, args       []byte
		identity, approvers string
		protocol, state     string
		asked, expires      int64
		decided, ended      int64
		used                int64
	)
	err := r.Scan(append([]any{&h.ID, &callID, &binding, &h.PolicyVersion, &h.Rule, &h.Message, &identity, &approvers,
		&h.Connection, &protocol, &h.Function, &args, &h.Request.Method, &h.Request.Authority, &h.Request.Path,
		&h.Request.ContentType, &h.Request.ContentEncoding, &asked, &expires,
		&state, &h.By, &h.Comment, &decided, &ended, &used}, more...)...)
	if err != nil {
		return h, err
	}
	if h.CallID, err = call.ParseID(callID); err != nil {
		return h, err
	}
	if len(binding) != len(h.Binding) {
		return h, fmt.Errorf("binding is %d bytes long, not %d", len(binding), len(h.Binding))
	}
	copy(h.Binding[:], binding)
	if err := json.Unmarshal([]byte(identity), &h.Identity); err != nil {
		return h, fmt.Errorf("decode identity: %w", err)
	}
	if err := json.Unmarshal([]byte(approvers), &h.Approvers); err != nil {
		return h, fmt.Errorf("decode approvers: %w", err)
	}
	h.Protocol, h.State, h.ArgsJSON = call.Protocol(protocol), approvals.State(state), args
	h.AskedAt, h.Expires = instant(asked), instant(expires)
	h.DecidedAt, h.EndedAt, h.UsedAt = instant(decided), instant(ended), instant(used)
	return h, nil
}

func scanStatus(r row) (approvals.Status, error) {
	var (
		st                   approvals.Status
		state                string
		decided, ended, used int64
	)
	if err := r.Scan(&state, &st.By, &st.Comment, &decided, &ended, &used); err != nil {
		return st, err
	}
	st.State = approvals.State(state)
	st.DecidedAt, st.EndedAt, st.UsedAt = instant(decided), instant(ended), instant(used)
	return st, nil
}

func collect(rows *sql.Rows) (holds []approvals.Hold, err error) {
	defer func() { err = cmp.Or(err, rows.Close()) }()
	for rows.Next() {
		h, err := scanHold(rows)
		if err != nil {
			return nil, fmt.Errorf("read approval: %w", err)
		}
		holds = append(holds, h)
	}
	return holds, rows.Err()
}

func notFound(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return approvals.ErrNotFound
	}
	return err
}

func wrap(what, id string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s: %w", what, id, err)
}

func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func instant(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}
