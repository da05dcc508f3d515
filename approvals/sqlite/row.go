package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"

	"github.com/callgate/callgate/approvals"
	"github.com/callgate/callgate/call"
)

const (
	columns = `id, call_id, binding, policy_version, rule, message, identity, terms, connection, protocol, function, args,
		method, authority, path, content_type, content_encoding, break_glass, owner, targets, asked_at, expires, ` + statusColumns
	statusColumns = `state, stage, verdicts, marks, steps, attempts, ended_at, use_by, used_at, used_for, review`
)

type row interface{ Scan(...any) error }

// statusRow is what of a row tells how far a hold has come.
type statusRow struct {
	state, verdicts, marks, usedFor, review string
	stage, steps, attempts                  int
	ended, useBy, used                      int64
}

func (r *statusRow) into() []any {
	return []any{&r.state, &r.stage, &r.verdicts, &r.marks, &r.steps, &r.attempts, &r.ended, &r.useBy, &r.used, &r.usedFor, &r.review}
}

func (r *statusRow) status() (approvals.Status, error) {
	st := approvals.Status{State: approvals.State(r.state), Stage: r.stage, Steps: r.steps, Attempts: r.attempts,
		EndedAt: instant(r.ended), UseBy: instant(r.useBy), UsedAt: instant(r.used)}
	if err := decode(r.verdicts, &st.Verdicts); err != nil {
		return st, fmt.Errorf("decode verdicts: %w", err)
	}
	if err := decode(r.marks, &st.Marks); err != nil {
		return st, fmt.Errorf("decode marks: %w", err)
	}
	if err := decode(r.review, &st.Review); err != nil {
		return st, fmt.Errorf("decode review: %w", err)
	}
	if r.usedFor == "" {
		return st, nil
	}
	var err error
	st.UsedFor, err = call.ParseID(r.usedFor)
	return st, err
}

func decode(text string, into any) error {
	if text == "" || text == "[]" || text == "null" {
		return nil
	}
	return json.Unmarshal([]byte(text), into)
}

// encode is for values that can always be encoded.
func encode(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // none of them holds what JSON has no form for
	}
	return string(text)
}

func scanStatus(r row) (approvals.Status, error) {
	var st statusRow
	if err := r.Scan(st.into()...); err != nil {
		return approvals.Status{}, err
	}
	return st.status()
}

func scanHold(r row, more ...any) (approvals.Hold, error) {
	var (
		h                        approvals.Hold
		callID, protocol         string
		binding, args            []byte
		identity, terms, targets string
		asked, expires           int64
		st                       statusRow
	)
	into := append([]any{&h.ID, &callID, &binding, &h.PolicyVersion, &h.Rule, &h.Message, &identity, &terms,
		&h.Connection, &protocol, &h.Function, &args, &h.Request.Method, &h.Request.Authority, &h.Request.Path,
		&h.Request.ContentType, &h.Request.ContentEncoding, &h.BreakGlass, &h.Owner, &targets, &asked, &expires}, st.into()...)
	err := r.Scan(append(into, more...)...)
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
	for what, field := range map[string]struct {
		text string
		into any
	}{"identity": {identity, &h.Identity}, "terms": {terms, &h.Terms}, "targets": {targets, &h.Targets}} {
		if err := decode(field.text, field.into); err != nil {
			return h, fmt.Errorf("decode %s: %w", what, err)
		}
	}
	h.Protocol, h.ArgsJSON, h.AskedAt, h.Expires = call.Protocol(protocol), args, instant(asked), instant(expires)
	h.Status, err = st.status()
	return h, err
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

// insert writes a new hold.
func insert(ctx context.Context, tx *sql.Tx, h *approvals.Hold) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO holds (id, call_id, binding, policy_version, rule, message, identity, issuer, subject, terms,
			connection, protocol, function, args, method, authority, path, content_type, content_encoding, body, break_glass, owner, targets,
			asked_at, expires, state) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		h.ID, h.CallID.String(), h.Binding[:], h.PolicyVersion, h.Rule, h.Message, encode(h.Identity), h.Identity.Issuer, h.Identity.Subject, encode(h.Terms),
		h.Connection, string(h.Protocol), h.Function, []byte(h.ArgsJSON), h.Request.Method, h.Request.Authority, h.Request.Path,
		h.Request.ContentType, h.Request.ContentEncoding, h.Request.Body, h.BreakGlass, h.Owner, encode(h.Targets),
		nanos(h.AskedAt), nanos(h.Expires), string(h.State))
	return err
}

// update writes how far a hold has come, and the steps that brought it there
// with a notice of each to those who are told.
func update(ctx context.Context, tx *sql.Tx, h *approvals.Hold, steps []approvals.Step) error {
	review, usedFor := "", ""
	if !h.Review.At.IsZero() {
		review = encode(h.Review)
	}
	if h.UsedFor != (call.ID{}) {
		usedFor = h.UsedFor.String()
	}
	_, err := tx.ExecContext(ctx, `UPDATE holds SET owner = ?, state = ?, stage = ?, verdicts = ?, marks = ?, steps = ?, attempts = ?, ended_at = ?,
			use_by = ?, used_at = ?, used_for = ?, review = ?, reviewed_at = ? WHERE id = ?`,
		h.Owner, string(h.State), h.Stage, encode(h.Verdicts), encode(h.Marks), h.Steps, h.Attempts, nanos(h.EndedAt),
		nanos(h.UseBy), nanos(h.UsedAt), usedFor, review, nanos(h.Review.At), h.ID)
	if err != nil {
		return err
	}
	for _, s := range steps {
		if _, err := tx.ExecContext(ctx, `INSERT INTO steps (hold, n, step) VALUES (?, ?, ?)`, h.ID, s.N, encode(s)); err != nil {
			return err
		}
		for _, target := range h.Told(s) {
			if _, err := tx.ExecContext(ctx, `INSERT OR IGNORE INTO notices (hold, target, n, due) VALUES (?, ?, ?, ?)`, h.ID, target, s.N, nanos(s.At)); err != nil {
				return err
			}
		}
	}
	return nil
}
