package postgres

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/callgate/callgate/approvals"
	"github.com/callgate/callgate/approvals/storetest"
)

// Replicas may start together on an empty database.
func TestOpenTogether(t *testing.T) {
	cfg := database(t, server)
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			if err := open(t, cfg).Check(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// must runs SQL as the owner.
func must(t *testing.T, s *Store, sql string, args ...any) {
	t.Helper()
	if _, err := s.pool.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func TestNewerSchema(t *testing.T) {
	cfg := database(t, server)
	s := open(t, cfg)
	if err := s.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	must(t, s, `UPDATE callgate.schema_version SET version = 99`)
	if err := open(t, cfg).Check(t.Context()); err == nil || !strings.Contains(err.Error(), "a newer callgate has used the database") {
		t.Errorf("got %v", err)
	}
}

// A migration that fails leaves nothing behind.
func TestMigrationFails(t *testing.T) {
	cfg := database(t, server)
	s := open(t, cfg)
	if err := s.migrate(t.Context(), append(migrations(), "CREATE TABLE callgate.half (x int); SELECT nonsense")); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("migrate to schema version %d", len(migrations())+1)) {
		t.Fatalf("got %v", err)
	}
	var there bool
	if err := s.pool.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'callgate')`).Scan(&there); err != nil || there {
		t.Errorf("half a migration is left: %v %v", there, err)
	}
	if err := s.Check(t.Context()); err != nil {
		t.Error(err)
	}
}

// A role without the right to make the schema is told what to do; once an owner
// has made it, the role needs no more than to read and write.
func TestLeastRights(t *testing.T) {
	cfg := database(t, server)
	owner := open(t, cfg)
	must(t, owner, `DROP ROLE IF EXISTS gate`)
	must(t, owner, `CREATE ROLE gate LOGIN PASSWORD 'gate'`)
	poor := cfg
	poor.URL = strings.Replace(cfg.URL, "callgate@", "gate@", 1)
	poor.Password = func() (string, error) { return "gate", nil }
	s := open(t, poor)
	if err := s.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "GRANT CREATE ON DATABASE") {
		t.Fatalf("got %v", err)
	}
	if err := owner.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	must(t, owner, `GRANT USAGE ON SCHEMA callgate TO gate; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA callgate TO gate`)
	s.failed = nil
	if _, err := s.Ask(t.Context(), storetest.NewHold(t, "apr_a", time.Now())); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Expire(t.Context(), time.Now().Add(time.Hour), 10); err != nil {
		t.Fatal(err)
	}
	s.Close()
	must(t, owner, `DROP OWNED BY gate; DROP ROLE gate`)
}

// Numbers of transactions start anew in another server. Steps that were restored
// into it must not be taken for new ones for ever.
func TestRestored(t *testing.T) {
	cfg := database(t, server)
	s := open(t, cfg)
	if _, err := s.Ask(t.Context(), storetest.NewHold(t, "apr_a", time.Now())); err != nil {
		t.Fatal(err)
	}
	must(t, s, `UPDATE callgate.steps SET xid = '999999999999'`)
	again := open(t, cfg)
	_, cursor, err := again.Changes(t.Context(), -1)
	if err != nil {
		t.Fatal(err)
	}
	if ids, next, err := again.Changes(t.Context(), cursor); err != nil || len(ids) > 0 || next != cursor {
		t.Errorf("an old step is new: %q %v", ids, err)
	}
}

// A step whose transaction began first and was committed last is not left out.
func TestChangesOutOfOrder(t *testing.T) {
	cfg := database(t, server)
	s := open(t, cfg)
	for _, id := range []string{"apr_a", "apr_b"} {
		if _, err := s.Ask(t.Context(), storetest.NewHold(t, id, time.Now())); err != nil {
			t.Fatal(err)
		}
	}
	slow, err := s.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = slow.Rollback(context.Background()) }()
	if _, err := slow.Exec(t.Context(), `INSERT INTO callgate.steps (hold, n, step) VALUES ('apr_a', 2, '{}')`); err != nil {
		t.Fatal(err)
	}
	_, cursor, err := s.Changes(t.Context(), -1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.End(t.Context(), "apr_b", approvals.Canceled, time.Now()); err != nil {
		t.Fatal(err)
	}
	ids, next, err := s.Changes(t.Context(), cursor)
	if err != nil || len(ids) != 1 || ids[0] != "apr_b" {
		t.Fatalf("%q %v", ids, err)
	}
	if err := slow.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if ids, _, err := s.Changes(t.Context(), next); err != nil || len(ids) != 1 || ids[0] != "apr_a" {
		t.Errorf("the earlier transaction's step was left out: %q %v", ids, err)
	}
	// A cursor that is long forgotten names too much rather than too little.
	if ids, _, err := s.Changes(t.Context(), 1<<40); err != nil || len(ids) != 2 {
		t.Errorf("an unknown cursor: %q %v", ids, err)
	}
}

// What callers write need not be text.
func TestBytes(t *testing.T) {
	cfg := database(t, server)
	s := open(t, cfg)
	h := storetest.NewHold(t, "apr_a", time.Now())
	h.Request.Path, h.Request.Authority, h.Identity.Subject, h.Function, h.BreakGlass = "/\xff\x00", "a\xfe", "s\x00", "f\xff", "\x00"
	h.Rule = "r\x00\xff"
	if _, err := s.Ask(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	got, err := s.Get(t.Context(), h.ID)
	if err != nil || got.Request.Path != h.Request.Path || got.Request.Authority != h.Request.Authority || got.Function != h.Function || got.Identity.Subject != h.Identity.Subject {
		t.Errorf("%+v %v", got, err)
	}
	if list, err := s.List(t.Context(), approvals.Filter{Subject: h.Identity.Subject, Function: h.Function}); err != nil || len(list) != 1 {
		t.Errorf("%v %v", list, err)
	}
	for _, id := range []string{"\x00", "\xff", "'; DROP TABLE callgate.holds; --"} {
		if _, err := s.Get(t.Context(), id); err == nil {
			t.Errorf("%q is found", id)
		}
	}
}
