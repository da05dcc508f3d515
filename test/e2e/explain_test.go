package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A recorded call is explained by its own policy and by another, and what is
// not in its record is not guessed at.
func TestExplain(t *testing.T) {
	w := shared
	said := w.call(t, http1(), w.alice, "POST", "/crm/refunds", `{"customer":"c-1","amount":20,"api_key":"k-1234567890abcdef"}`)
	w.row(t, said.id(), "decision", "allow")

	out := w.exits(t, 0, "", "policy", "explain", "--call", said.id())
	for _, want := range []string{"refunds.create on crm by ", "recorded at ", `by rule "support uses the CRM" of policy `, "call.args.amount > 100", "= false", `✓ allow "support uses the CRM"`} {
		if !strings.Contains(out, want) {
			t.Errorf("it does not say %q:\n%s", want, out)
		}
	}
	if strings.Contains(out, "k-1234567890abcdef") {
		t.Errorf("the credential is shown:\n%s", out)
	}

	rules := filepath.Join(t.TempDir(), "rules.yaml")
	err := os.WriteFile(rules, []byte(`rules:
  - {name: keys, functions: [refunds.create], when: 'call.args.api_key == "x"', action: deny}
  - {name: departments, functions: [refunds.create], when: 'identity.claims.department == "x" && call.args.amount > 1000', action: deny}
  - {name: all, action: allow}
`), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	cmd := []string{"policy", "explain", "--call", said.id(), "--policy", rules}
	if out := w.exits(t, 1, "", cmd...); !strings.Contains(out, "can't be told") {
		t.Errorf("it is told what can't be:\n%s", out)
	}
	out = w.exits(t, 1, "", append(cmd, "--json")...)
	var e struct {
		Decision string
		Notes    []string
		Rules    []struct{ Name, Verdict string }
	}
	if err := json.NewDecoder(strings.NewReader(out)).Decode(&e); err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	if e.Decision != "unknown" || e.Rules[0].Verdict != "unknown" || e.Rules[1].Verdict != "unknown" || e.Rules[2].Verdict != "true" ||
		!slices.ContainsFunc(e.Notes, func(s string) bool { return strings.Contains(s, "call.args.api_key: holds a credential") }) {
		t.Errorf("%s", out)
	}
}
