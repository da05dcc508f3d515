package e2e

import (
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/callgate/callgate/audit/ledger"
)

// exits runs the command line and wants an exit code.
func (w *world) exits(t *testing.T, code int, token string, args ...string) string {
	t.Helper()
	out, err := w.cli(t, token, args...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	if got != code {
		t.Fatalf("callgate %s: exit code %d, want %d\n%s", strings.Join(args, " "), got, code, out)
	}
	return out
}

// signed waits until a checkpoint covers a call.
func (w *world) signed(t *testing.T, id string, key ...string) {
	t.Helper()
	args := []string{"verify", id}
	for _, k := range key {
		args = append(args, "--key", k)
	}
	var out string
	var err error
	for range 100 {
		if out, err = w.cli(t, "", args...); err == nil {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("no checkpoint covers call %s: %s", id, out)
}

// The trail that all these tests leave verifies, over a change of keys and an
// erasure, with the key that an auditor had from the first.
func TestTrailVerifies(t *testing.T) {
	w := shared
	first := w.call(t, http1(), w.alice, "GET", "/crm/customers/c-1", "")
	w.row(t, first.id(), "decision", "allow")
	w.signed(t, first.id())
	keys := filepath.Join(t.TempDir(), "auditor.keys")
	if err := os.WriteFile(keys, []byte(w.exits(t, 0, "", "audit", "keys", "export")), 0o600); err != nil {
		t.Fatal(err)
	}
	witness := filepath.Join(filepath.Dir(w.ConfigFile), "checkpoints.witness")
	w.exits(t, 0, "", "verify", "--key", keys, "--witness", witness)

	w.exits(t, 0, "", "audit", "keys", "rotate")
	second := w.call(t, http1(), w.alice, "GET", "/crm/customers/c-2", "")
	w.row(t, second.id(), "decision", "allow")
	for range 100 {
		if !strings.Contains(w.exits(t, 0, "", "audit", "keys", "list"), "next") {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	time.Sleep(1100 * time.Millisecond) // one more checkpoint, by the new key alone
	out := w.exits(t, 0, "", "verify", "--key", keys, "--witness", witness)
	if strings.Contains(out, "not trusted") || !strings.Contains(out, "OK: what was checked") {
		t.Errorf("with the first key, after the second took over:\n%s", out)
	}

	proof := filepath.Join(t.TempDir(), "call.proof")
	w.exits(t, 0, "", "verify", "--export", first.id(), "-o", proof)
	if out := w.exits(t, 0, "", "verify", "--proof", proof, "--key", keys); !strings.Contains(out, "content: proved") {
		t.Errorf("the proof:\n%s", out)
	}

	w.exits(t, 1, w.alice, "audit", "erase", first.id(), "--reason", "mine", "--yes")
	w.exits(t, 2, w.bob, "audit", "erase", first.id(), "--reason", "asked for")
	w.exits(t, 0, w.bob, "audit", "erase", first.id(), "--dry-run")
	w.row(t, first.id(), "args", `{"id":"c-1"}`)
	w.exits(t, 0, w.bob, "audit", "erase", first.id(), "--reason", "asked for", "--yes")
	w.row(t, first.id(), "args", "", "response_body", "", "subject", "alice", "decision", "allow", "function", "customers.get")
	w.signed(t, second.id())
	if out := w.exits(t, 0, "", "verify", "--key", keys); !strings.Contains(out, "1 were erased on request") {
		t.Errorf("after an erasure:\n%s", out)
	}
	if out := w.exits(t, 0, "", "verify", "--proof", proof, "--key", keys); !strings.Contains(out, "content: proved") {
		t.Errorf("a proof from before the erasure:\n%s", out)
	}

	// Somebody with the database's password changes a row, and takes it back.
	change := func(sql string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+w.Addrs.ClickHouse+"/?database=callgate&mutations_sync=2", strings.NewReader(sql))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range w.Environment() {
			if password, ok := strings.CutPrefix(e, "CALLGATE_DEMO_CLICKHOUSE_PASSWORD="); ok {
				req.SetBasicAuth("default", password)
			}
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if text, _ := io.ReadAll(res.Body); res.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s %s", sql, res.Status, text)
		}
	}
	edit := "ALTER TABLE calls UPDATE rule = concat('x', rule) WHERE call_id = '" + second.id() + "'"
	change(edit)
	w.row(t, second.id(), "decision", "allow")
	if out := w.exits(t, 1, "", "verify", "--key", keys); !strings.Contains(out, "FIRST EDITED calls") || !strings.Contains(out, second.id()) || strings.Contains(out, first.id()) {
		t.Errorf("after an edit:\n%s", out)
	}
	if out := w.exits(t, 1, "", "verify", "--key", keys, "--json"); !strings.Contains(out, second.id()) {
		t.Errorf("after an edit:\n%s", out)
	}
	change("ALTER TABLE calls UPDATE rule = substring(rule, 2) WHERE call_id = '" + second.id() + "'")
	w.exits(t, 0, "", "verify", "--key", keys)

	// The proof holds under the key that signed it, and under no other.
	other, err := ledger.NewKey("callgate/demo", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	w.exits(t, 1, "", "verify", "--proof", proof, "--key", other.Verifier)
	w.exits(t, 1, "", "verify", "--key", other.Verifier)

	if out, _ := w.cli(t, "", "audit", "completeness", "--since", "1h", "--until", "0s"); strings.Contains(out, "BYPASS") || strings.Contains(out, "MISSING events") ||
		strings.Contains(out, "DOUBLED") || strings.Contains(out, "UNEXPLAINED") {
		t.Errorf("completeness:\n%s", out)
	}
}
