package clickhouse

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/callgate/callgate/call"
)

// granted is what a block of SQL in the guide grants, without to whom.
func granted(t *testing.T, title string) []string {
	t.Helper()
	guide, err := os.ReadFile("../../docs/guide/clickhouse.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, ok := strings.Cut(string(guide), "```sql\n-- "+title+"\n")
	if !ok {
		t.Fatalf("the guide has no block %q", title)
	}
	block, _, _ = strings.Cut(block, "```")
	var list []string
	for _, m := range regexp.MustCompile(`(?m)^(GRANT .+) TO [^;]+;$`).FindAllStringSubmatch(block, -1) {
		list = append(list, m[1])
	}
	if len(list) == 0 {
		t.Fatalf("nothing is granted in %q", title)
	}
	return list
}

// engineWith is an engine at path whose user has just these grants.
func engineWith(t *testing.T, path string, grants []string) (db *DB, stop func()) {
	t.Helper()
	file := filepath.Join(path, "callgate-config", "users.d", "grants.xml")
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	text := "<clickhouse><users><default><grants replace=\"replace\"><query>" + strings.Join(grants, "</query><query>") + "</query></grants></default></users></clickhouse>"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	proc, err := startEngine(path, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { proc.Stop() })
	return openDB(t, Config{URL: "http://" + proc.Addr(), Password: func() (string, error) { return password, nil }}), func() { proc.Stop() }
}

// The grants that the guide names are enough, and not more than enough.
func TestGrants(t *testing.T) {
	t.Parallel()
	ctx, log := context.Background(), slog.New(slog.DiscardHandler)
	path := t.TempDir()
	admin, stop := engineWith(t, path, granted(t, "migrate"))
	if err := admin.Migrate(ctx, log); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.MigrateSchema(ctx, log, true); err != nil {
		t.Fatal(err)
	}
	for _, title := range []string{"migrate", "serve", "read", "cluster", "test"} {
		for _, sql := range granted(t, title) {
			var formatted string
			if err := admin.conn.QueryRow(ctx, "SELECT formatQuery(?)", sql+" TO somebody").Scan(&formatted); err != nil {
				t.Errorf("%s: %v", sql, err)
			}
		}
	}
	stop()

	serve, stop := engineWith(t, path, granted(t, "serve"))
	r := ship(t, serve, newSpool(t, t.TempDir()), 20*time.Millisecond)
	d := decided(t, call.Answered, call.Finished)
	r.append(d)
	eventually(t, serve, "unknown", "SELECT toString(answered) FROM calls")
	r.append(answered(d, "late"), finished(d))
	eventually(t, serve, "seen seen", "SELECT concat(toString(answered), ' ', toString(finished)) FROM calls")
	r.stop()
	if err := serve.Erase(ctx, []uuid.UUID{d.CallID}); err != nil {
		t.Error(err)
	}
	eventually(t, serve, "0", "SELECT toString(length(response_body)) FROM calls")
	for _, sql := range []string{"DROP TABLE calls", "TRUNCATE TABLE events", "CREATE TABLE x (a UInt8) ENGINE = MergeTree ORDER BY a", "ALTER TABLE calls ADD COLUMN x UInt8"} {
		if err := serve.conn.Exec(ctx, sql); err == nil || !strings.Contains(err.Error(), "ACCESS_DENIED") && !strings.Contains(err.Error(), "Not enough privileges") {
			t.Errorf("serve may %s: %v", sql, err)
		}
	}
	if _, err := serve.MigrateSchema(ctx, log, true); err == nil || !strings.Contains(err.Error(), "docs/guide/clickhouse.md") {
		t.Errorf("serve may make the schema: %v", err)
	}
	stop()

	read, _ := engineWith(t, path, granted(t, "read"))
	eventually(t, read, "1", "SELECT toString(sum(calls)) FROM who_used_what(days = 1)")
	if err := read.conn.Exec(ctx, "INSERT INTO approvals (approval_id) VALUES ('x')"); err == nil {
		t.Error("a reader may insert")
	}
}
