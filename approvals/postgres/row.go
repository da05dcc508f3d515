package postgres

import (
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/callgate/callgate/approvals"
	"github.com/callgate/callgate/call"
)

const (
	columns = `id, call_id, binding, policy_version, rule, message, identity, terms, connection, protocol, function, args,
		method, authority, path, content_type, content_encoding, break_glass, owner, targets, asked_at, expires, ` + statusColumns
	statusColumns = `state, stage, verdicts, marks, steps, attempts, ended_at, use_by, used_at, used_for, review`
)

// statusRow is what of a row tells how far a hold has come.
type statusRow struct {
	state, verdicts, marks, review string
	stage, steps, attempts         int
	ended, useBy, used             int64
	usedFor                        *[16]byte
}

func (r *statusRow) into() []any {
	return []any{&r.state, &r.stage, &r.verdicts, &r.marks, &r.steps, &r.attempts, &r.ended, &r.useBy, &r.used, &r.usedFor, &r.review}
}

func (r *statusRow) status() (approvals.Status, error) {
	st := approvals.Status{State: approvals.State(r.state), Stage: r.stage, Steps: r.steps, Attempts: r.attempts,
		EndedAt: instant(r.ended), UseBy: instant(r.useBy), UsedAt: instant(r.used)}
	if r.usedFor != nil {
		st.UsedFor = *r.usedFor
	}
	if err := decode(r.verdicts, &st.Verdicts); err != nil {
		return st, fmt.Errorf("decode verdicts: %w", err)
	}
	if err := decode(r.marks, &st.Marks); err != nil {
		return st, fmt.Errorf("decode marks: %w", err)
	}
	if err := decode(r.review, &st.Review); err != nil {
		return st, fmt.Errorf("decode review: %w", err)
	}
	return st, nil
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

// scanHold reads a row of columns and what stands after them.
func scanHold(r pgx.Row, more ...any) (approvals.Hold, error) {
	var (
		h                                                            approvals.Hold
		callID                                                       [16]byte
		protocol, identity, terms, targets                           string
		binding, args, function, method, authority, path, kind, code []byte
		breakGlass                                                   []byte
		asked, expires                                               int64
		st                                                           statusRow
	)
	into := append([]any{&h.ID, &callID, &binding, &h.PolicyVersion, &h.Rule, &h.Message, &identity, &terms,
		&h.Connection, &protocol, &function, &args, &method, &authority, &path, &kind, &code, &breakGlass, &h.Owner, &targets, &asked, &expires}, st.into()...)
	if err := r.Scan(append(into, more...)...); err != nil {
		return h, err
	}
	if len(binding) != len(h.Binding) {
		return h, fmt.Errorf("binding is %d bytes long, not %d", len(binding), len(h.Binding))
	}
	copy(h.Binding[:], binding)
	for _, field := range []struct {
		what, text string
		into       any
	}{{"identity", identity, &h.Identity}, {"terms", terms, &h.Terms}, {"targets", targets, &h.Targets}} {
		if err := decode(field.text, field.into); err != nil {
			return h, fmt.Errorf("decode %s: %w", field.what, err)
		}
	}
	h.CallID, h.Protocol, h.Function, h.ArgsJSON = callID, call.Protocol(protocol), string(function), args
	h.Request = approvals.Request{Method: string(method), Authority: string(authority), Path: string(path), ContentType: string(kind), ContentEncoding: string(code)}
	h.BreakGlass, h.AskedAt, h.Expires = string(breakGlass), instant(asked), instant(expires)
	var err error
	h.Status, err = st.status()
	return h, err
}

// insert writes a new hold.
func (t *transaction) insert(h *approvals.Hold) {
	t.exec(`INSERT INTO callgate.holds (id, call_id, binding, policy_version, rule, message, identity, issuer, subject, terms,
			connection, protocol, function, args, method, authority, path, content_type, content_encoding, body, break_glass, owner, targets,
			asked_at, expires, state) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26)`,
		h.ID, [16]byte(h.CallID), h.Binding[:], plain(h.PolicyVersion), plain(h.Rule), plain(h.Message), encode(h.Identity), bytesOf(h.Identity.Issuer), bytesOf(h.Identity.Subject), encode(h.Terms),
		plain(h.Connection), string(h.Protocol), bytesOf(h.Function), []byte(h.ArgsJSON), bytesOf(h.Request.Method), bytesOf(h.Request.Authority), bytesOf(h.Request.Path),
		bytesOf(h.Request.ContentType), bytesOf(h.Request.ContentEncoding), h.Request.Body, bytesOf(h.BreakGlass), h.Owner, encode(h.Targets),
		nanos(h.AskedAt), nanos(h.Expires), string(h.State))
}

func bytesOf(s string) []byte { return append([]byte{}, s...) } // never nil, which would be NULL

// update writes how far a hold has come, and the steps that brought it there with
// a notice of each to those who are told. Replicas hear of it when it has left
// Open.
func (t *transaction) update(h *approvals.Hold, steps []approvals.Step) {
	review := ""
	if !h.Review.At.IsZero() {
		review = encode(h.Review)
	}
	var usedFor *[16]byte
	if h.UsedFor != (call.ID{}) {
		id := [16]byte(h.UsedFor)
		usedFor = &id
	}
	t.exec(`UPDATE callgate.holds SET owner = $1, state = $2, stage = $3, verdicts = $4, marks = $5, steps = $6, attempts = $7, ended_at = $8,
			use_by = $9, used_at = $10, used_for = $11, review = $12, reviewed_at = $13 WHERE id = $14`,
		h.Owner, string(h.State), h.Stage, encode(h.Verdicts), encode(h.Marks), h.Steps, h.Attempts, nanos(h.EndedAt),
		nanos(h.UseBy), nanos(h.UsedAt), usedFor, review, nanos(h.Review.At), h.ID)
	told := false
	for _, s := range steps {
		text := encode(s)
		t.exec(`INSERT INTO callgate.steps (hold, n, step) VALUES ($1, $2, $3)`, h.ID, s.N, text)
		// It is somebody's, at an instant, so no other step has its text.
		t.provedBy(`SELECT FROM callgate.steps WHERE hold = $1 AND n = $2 AND step = $3`, h.ID, s.N, text)
		t.exec(`INSERT INTO callgate.notices (hold, target, n, due) SELECT $1, unnest($2::text[]), $3, $4 ON CONFLICT DO NOTHING`, h.ID, h.Told(s), s.N, nanos(s.At))
		told = told || wakes(s)
	}
	if told {
		t.exec(`SELECT pg_notify('`+channel+`', $1)`, h.ID)
	}
}

// wakes reports whether a call may wait for a step.
func wakes(s approvals.Step) bool {
	switch s.Name {
	case approvals.StepApproved, approvals.StepRefused, approvals.StepExpired, approvals.StepCanceled:
		return s.State != approvals.Open
	}
	return false
}
