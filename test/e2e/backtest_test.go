package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/callgate/callgate/policies/backtest"
)

// What the gateway recorded of calls as they really came: the policy that
// decided them agrees with itself, another one does not, and what is suggested
// from them can be loaded and fits.
func TestBacktest(t *testing.T) {
	began := time.Now().UTC()
	time.Sleep(2 * time.Millisecond)
	c := http2()
	var last string
	for _, query := range []string{"select 1", "select 2", "drop table x", "select name from customers"} {
		last = shared.call(t, c, shared.alice, "POST", "/crm/sql", `{"query":"`+query+`"}`).id()
	}
	allowed := []string{}
	for range 6 {
		a := shared.call(t, c, shared.alice, "GET", "/crm/customers/c-1?api_key=sk_live_abcdefghijkl", "")
		if a.status == 200 {
			allowed = append(allowed, a.id())
		}
		last = a.id()
	}
	shared.call(t, c, shared.stale, "GET", "/crm/customers/c-1", "")
	shared.row(t, last)
	for _, id := range allowed {
		shared.row(t, id)
	}
	run := func(wantErr bool, args ...string) backtest.Report {
		t.Helper()
		out, err := shared.cli(t, "", append([]string{"policy", "backtest", "--json", "--since", began.Format(time.RFC3339Nano)}, args...)...)
		if (err != nil) != wantErr {
			t.Fatalf("%v: %s", err, out)
		}
		var r backtest.Report
		if err := json.NewDecoder(strings.NewReader(out)).Decode(&r); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return r
	}
	if r := run(false); r.Different != 0 || r.OtherRule != 0 || r.Unjudged != 0 || r.Same < 9 || r.NotRuled < 1 {
		t.Errorf("the policy in force: %+v", r)
	}
	dir := t.TempDir()
	rules := filepath.Join(dir, "rules.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(rules, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("rules:\n  - {name: all, action: allow}\n  - {name: customers, action: deny, functions: [\"customers.*\"], when: 'call.args.id == \"c-1\"'}\n")
	r := run(true, "--policy", dir)
	deny, allow := false, false
	for _, d := range r.Details {
		switch {
		case d.From == "allow" && d.To == "deny" && d.Function == "customers.get" && d.Rule == "customers" && d.Subject == "alice" && d.Calls >= 6:
			deny = true
		case d.From == "deny" && d.To == "allow" && d.Function == "sql.run" && d.Was == "no destructive SQL":
			allow = true
		default:
			t.Errorf("%+v", d)
		}
	}
	if !deny || !allow {
		t.Errorf("%+v", r)
	}
	write("rules:\n  - {name: all, action: allow}\n  - {name: key, action: deny, when: 'has(call.args.api_key)'}\n")
	if r := run(true, "--policy", dir); r.Unjudged < 6 || len(r.Missing) != 1 || !strings.Contains(r.Missing[0].Why, "call.args.api_key") {
		t.Errorf("a credential: %+v", r)
	}

	file := filepath.Join(dir, "suggested.yaml")
	out, err := shared.cli(t, "", "policy", "suggest", "--since", began.Format(time.RFC3339Nano), "-o", file)
	if err != nil || !strings.Contains(out, "are covered") {
		t.Fatalf("%v: %s", err, out)
	}
	text, err := os.ReadFile(file)
	if err != nil || !strings.Contains(string(text), "customers.get") || strings.Contains(string(text), "sk_live") || strings.Contains(string(text), "hmac") {
		t.Errorf("%v: %s", err, text)
	}
	if out, err := shared.cli(t, "", "policy", "check", file); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := shared.cli(t, "", "policy", "suggest", "-o", file); err == nil || !strings.Contains(out, "exists") {
		t.Errorf("it was written over: %v: %s", err, out)
	}
}
