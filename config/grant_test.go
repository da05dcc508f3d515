package config

import (
	"strings"
	"testing"
	"time"
)

func TestGrant(t *testing.T) {
	dir := t.TempDir()
	pol, err := CheckPolicy(write(t, dir, "g.yaml", `
grants:
  - name: on call
    identities: [alice]
    groups: [sre]
    connections: [crm]
    functions: ["refunds.*"]
    when: call.args.amount < 100
    until: 2026-12-24T18:00:00+01:00
`))
	if err != nil {
		t.Fatal(err)
	}
	g := pol.Grants[0]
	if !g.Until.Equal(time.Date(2026, 12, 24, 17, 0, 0, 0, time.UTC)) || g.WhenPosition.Line != 8 || g.WhenPosition.Column != 11 {
		t.Errorf("%+v", g)
	}
	for want, text := range map[string]string{
		"g.yaml:2:5: grant \"\": name is missing": "grants:\n  - {groups: [a], connections: [a], functions: [a]}\n",
		"is given to nobody":                      "grants:\n  - {name: a, connections: [a], functions: [a]}\n",
		"connections is missing":                  "grants:\n  - {name: a, groups: [a], functions: [a]}\n",
		"functions is missing":                    "grants:\n  - {name: a, groups: [a], connections: [a]}\n",
		"names one that is empty":                 "grants:\n  - {name: a, groups: [''], connections: [a], functions: [a]}\n",
		"a time such as":                          "grants:\n  - {name: a, groups: [a], connections: [a], functions: [a], until: tomorrow}\n",
		"stands twice":                            "grants:\n  - {name: a, groups: [a], connections: [a], functions: [a]}\n  - {name: a, groups: [a], connections: [a], functions: [a]}\n",
	} {
		if _, err := CheckPolicy(write(t, dir, "g.yaml", text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
