package sqlite

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/callgate/callgate/approvals"
	"github.com/callgate/callgate/approvals/storetest"
	"github.com/callgate/callgate/sqlitefile"
)

// A file of the first schema keeps its holds, and those that are open can still
// be decided.
func TestMigrateFromVersion1(t *testing.T) {
	file := filepath.Join(t.TempDir(), "approvals.db")
	db, err := sqlitefile.Open(t.Context(), file, versions()[:1])
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for id, state := range map[string]string{"o": "open", "a": "approved", "r": "refused", "u": "used", "c": "canceled"} {
		by := map[bool]string{true: "https://idp|auth0|ann"}[state == "approved" || state == "refused" || state == "used"]
		h := storetest.NewHold(t, id, at)
		if _, err := db.Write.Exec(`INSERT INTO holds (id, call_id, binding, policy_version, rule, message, identity, approvers, connection, protocol, function, args,
				method, authority, path, content_type, content_encoding, body, asked_at, expires, state, decided_by, comment, decided_at, ended_at)
			VALUES (?, ?, ?, 'v7', 'big', '', ?, '{"groups":["leads"]}', 'crm', 'http', 'refunds.create', CAST('{}' AS BLOB), 'POST', 'crm', '/', '', '', CAST('body' AS BLOB), ?, ?, ?, ?, 'why', ?, ?)`,
			id, h.CallID.String(), h.Binding[:], encode(h.Identity), nanos(at), nanos(h.Expires), state, by, nanos(at), nanos(at)); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	s := open(t, file)
	for id, want := range map[string]approvals.State{"o": approvals.Open, "a": approvals.Approved, "r": approvals.Refused, "u": approvals.Used, "c": approvals.Canceled} {
		h, err := s.Get(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		decided := want == approvals.Approved || want == approvals.Refused || want == approvals.Used
		if h.State != want || h.Terms.Stages[0].Groups[0] != "leads" || h.Terms.Timeout != time.Minute || string(h.Request.Body) != "body" || (len(h.Verdicts) == 1) != decided {
			t.Errorf("%s: %+v", id, h)
		}
		if v, some := h.Last(); some && (v.By != approvals.Person{Issuer: "https://idp", Subject: "auth0|ann"} || v.Comment != "why" || !v.At.Equal(at) || v.Approve != (want != approvals.Refused)) {
			t.Errorf("%s: %+v", id, v)
		}
	}
	if _, err := s.Decide(t.Context(), "o", approvals.Verdict{Approve: true, By: storetest.Person("ann"), At: at}); err != nil {
		t.Error(err)
	}
	for _, id := range []string{"o", "a"} {
		if _, err := s.Use(t.Context(), id, approvals.Use{Binding: storetest.NewHold(t, id, at).Binding, At: at}); err != nil {
			t.Error(err)
		}
	}
}
