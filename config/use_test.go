package config

import (
	"strings"
	"testing"
)

func TestUse(t *testing.T) {
	dir := t.TempDir()
	pol, err := CheckPolicy(write(t, dir, "p.yaml", `rules:
  - use: destructive-sql
    with: {argument: statement}
  - name: ask first
    use: amount-over
    with: {most: 50}
    when: call.function == "refunds.create" # only these
    action: hold
    message: ask somebody
`))
	if err != nil {
		t.Fatal(err)
	}
	a, b := pol.Rules[0], pol.Rules[1]
	if a.Name != "destructive-sql" || a.Action != "deny" || a.Message == "" || !strings.Contains(a.When, `call.args["statement"]`) {
		t.Errorf("%+v", a)
	}
	if b.Name != "ask first" || b.Action != "hold" || b.Message != "ask somebody" || b.Hold.Timeout == 0 ||
		!strings.Contains(b.When, "double(50)") || !strings.Contains(b.When, `&& (call.function == "refunds.create"`) {
		t.Errorf("%+v", b)
	}
	for want, text := range map[string]string{
		`p.yaml:2:10: rule "destructive-sqk": there is no guardrail "destructive-sqk"; did you mean "destructive-sql"?`: "rules:\n  - use: destructive-sqk\n",
		`has no parameter "argumnt"`:      "rules:\n  - {use: destructive-sql, with: {argumnt: x}}\n",
		"parameter most must be a number": "rules:\n  - {use: amount-over, with: {most: x}}\n",
		"needs parameter networks":        "rules:\n  - {use: outside-network}\n",
		"name it with use":                "rules:\n  - {name: a, action: deny, with: {a: b}}\n",
		"must be a mapping":               "rules:\n  - {use: amount-over, with: [a]}\n",
	} {
		if _, err := CheckPolicy(write(t, dir, "p.yaml", text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
