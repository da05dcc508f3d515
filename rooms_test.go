// Package callgate_test checks the whole tree: which room may import which.
package callgate_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/callgate/callgate/"

// rooms says which project packages each room may import; a room's own
// sub-rooms are listed apart. "*" means any. ARCHITECTURE.md draws it.
var rooms = map[string][]string{
	"call":                     {},
	"call/protocol":            {"call", "call/sql"},
	"call/redact":              {"call"},
	"call/tool":                {},
	"call/sql":                 {},
	"call/protocol/descriptor": {"call"},
	"discovery":                {"call/tool"},
	"config":                   {"policies/library"},
	"parts":                    {},
	"extauthz":                 {"call", "call/protocol", "call/redact", "extauthz/identity", "extauthz/connection", "extauthz/credential"},
	"extauthz/identity":        {"call"},
	"extauthz/identity/saml":   {"call", "extauthz/identity"},
	"tokens/postgres":          {"tokens"},
	"tokens":                   {"call", "extauthz/identity", "extauthz/identity/saml", "sqlitefile"},
	"extauthz/connection":      {"call", "call/protocol"},
	"extauthz/credential":      {"call"},
	"policies":                 {"call", "policies/functions"},
	"policies/functions":       {"call/sql"},
	"policies/library":         {},
	"policies/counts":          {"call"},
	"policies/condition":       {},
	"policies/lint":            {"call", "policies", "policies/condition"},
	"policies/difference":      {"call", "config", "policies", "policies/condition"},
	"policies/suggest":         {"audit/clickhouse", "call", "call/redact", "policies", "policies/backtest"},
	"policies/suite":           {"call", "call/protocol", "config", "policies", "policies/counts"},
	"policies/trace":           {"call", "call/redact", "policies"},
	"policies/backtest":        {"audit/clickhouse", "call", "call/protocol", "call/redact", "policies"},
	"approvals":                {"call", "call/redact"},
	"approvals/link":           {},
	"approvals/notify":         {"call", "approvals"},
	"approvals/sqlite":         {"call", "approvals", "sqlitefile"},
	"approvals/postgres":       {"call", "approvals"},
	"approvals/postgres/local": {"parts"},
	"sqlitefile":               {},
	"control":                  {"call", "call/tool", "config", "sqlitefile", "xds", "xds/policyv1"},
	"approvals/storetest":      {"call", "approvals"},
	"extproc":                  {"call", "call/protocol", "call/redact", "extproc/mask", "extproc/sealed", "proto/callgate"},
	"proto/callgate":           {},
	"extproc/sealed":           {},
	"extproc/mask":             {"extproc/mask/ff1"},
	"extproc/mask/ff1":         {},
	"extproc/mask/quality":     {"extproc/mask"},
	"extproc/analyzer":         {"extproc/mask"},
	"accesslog":                {"call"},
	"audit":                    {"call", "audit/ledger"},
	"audit/ledger":             {},
	"audit/clickhouse":         {"audit", "audit/ledger", "call"},
	"audit/verify":             {"audit", "audit/clickhouse", "audit/ledger", "call"},
	"audit/engine":             {"parts"},
	"envoy":                    {"config"},
	"envoy/local":              {"envoy", "parts"},
	"xds":                      {"config", "envoy", "xds/policyv1"},
	"xds/policyv1":             {},
	"console":                  {"call/tool", "config", "control", "xds", "xds/policyv1", "call", "approvals", "audit", "audit/clickhouse", "extauthz/identity"},
	"console/apiclient":        {},
	"console/login":            {"call"},
	"console/pages":            {"call", "approvals", "approvals/link", "console/login"},
	"demo/issuer":              {},
	"demo/endpoint":            {"demo/endpoint/ordersv1"},
	"demo/endpoint/ordersv1":   {},
	"demo":                     {"*"},
	"app":                      {"*"},
	"cmd/callgate":             {"*"},
}

func TestRooms(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
		room, ours := strings.CutPrefix(p.ImportPath, module)
		if !ours || strings.HasPrefix(room, "test/") || strings.HasPrefix(room, "bench") {
			continue
		}
		allowed, known := rooms[room]
		if !known {
			t.Errorf("%s is not in the plan of rooms; add it here and to ARCHITECTURE.md", room)
		}
		for _, i := range p.Imports {
			other, ours := strings.CutPrefix(i, module)
			if ours && !slices.Contains(allowed, "*") && !slices.Contains(allowed, other) {
				t.Errorf("%s imports %s, which it must not know", room, other)
			}
		}
	}
}
