package suite_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/callgate/callgate/app"
	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/policies/suite"
)

const policy = `
connections:
  - name: crm
    protocol: http
    match: {path: /crm, authorities: [api.example.com]}
    upstream: {url: "https://crm.internal"}
    max_body: 1KiB
    functions: [{name: refunds.create, method: POST, path: "/customers/{id}/refunds"}, {name: refunds.list, method: GET, path: /refunds}]
  - {name: tools, protocol: mcp, match: {path: /mcp}, upstream: {url: "https://tools.internal"}}
  - {name: orders, protocol: grpc, match: {services: [x.Orders]}, upstream: {url: "https://orders.internal"}}
rules:
  - {name: support, action: allow, when: '"support" in identity.groups'}
  - {name: large, functions: [refunds.create], action: hold, when: call.args.amount > 100, hold: {approvers: {groups: [leads, boss], people: [carol]}}}
  - {name: often, functions: [refunds.create], action: deny, when: 'session.calls("refunds.*", duration("1m")) > 3', message: too often}
  - {name: new, connections: [tools], action: deny, when: 'identity.firstUse() && identity.kind == "agent"'}
  - {name: customers, functions: [refunds.create], action: deny, when: call.args.id == "blocked"}
  - {name: cards, action: mask, mask: {detect: [card]}}
  - {name: noted, shadow: true, action: deny, when: call.source_ip == "10.0.0.1"}
  - {name: mine, connections: [crm], functions: [refunds.list], action: allow, when: 'identity.claims.dept == "refunds" && call.headers["x-mine"] == "yes"'}
  - {name: acting, action: deny, when: 'identity.actors.exists(a, a.subject == "evil")'}
`

// run runs tests against the policy.
func run(t *testing.T, tests string, pattern *regexp.Regexp) suite.Report {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"p.yaml": policy, "p_test.yaml": tests, "body.json": `{"amount": 1}`} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p, err := config.CheckPolicy(filepath.Join(dir, "p.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	set, err := app.InspectPolicy(p, config.Approvers{})
	if err != nil {
		t.Fatal(err)
	}
	list, err := config.LoadTests(filepath.Join(dir, "p_test.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := app.SuiteOf(t.Context(), p, set)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Run = pattern
	report, err := suite.Run(t.Context(), cfg, list)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// Each case is a test of one line, and what differs, if anything.
func TestCases(t *testing.T) {
	const alice = ", identity: {subject: alice, groups: [support]}"
	const refund = "call: {connection: crm, function: refunds.create, args: {id: '1', amount: 5}}" + alice
	for text, want := range map[string]string{
		refund + ", expect: {decision: allow, rule: support, reason: rule, mask: [cards], shadow: []}": "",
		refund + ", expect: {decision: deny}":                   "decision: want deny, got allow",
		refund + ", expect: {decision: allow, rule: ''}":        `rule: want "", got support`,
		refund + ", expect: {decision: allow, mask: []}":        "mask: want [], got [cards]",
		refund + ", expect: {decision: allow, shadow: [noted]}": "shadow: want [noted], got []",
		"call: {connection: crm, function: refunds.create, args: {id: '1', amount: 5}, source: 10.0.0.1}" + alice + ", expect: {decision: allow, shadow: [noted]}": "",

		// A request is read as the gateway reads it.
		"call: {request: {host: api.example.com, path: /crm/customers/7/refunds, json: {amount: 101}}}" + alice + ", expect: {decision: hold, approvers: {groups: [boss, leads], people: [carol]}}":                  "",
		"call: {request: {host: api.example.com, path: /crm/customers/7/refunds, json: {amount: 101}}}" + alice + ", expect: {decision: hold, approvers: {groups: [boss]}}":                                          "approvers.groups: want [boss], got [boss, leads]; approvers.people: want [], got [carol]",
		"call: {request: {host: api.example.com, path: /crm/customers/blocked/refunds, json: {amount: 1}}}" + alice + ", expect: {decision: deny, rule: customers}":                                                  "",
		"call: {request: {host: api.example.com, path: /crm/customers/7/refunds, body_file: body.json, headers: {content-type: application/json}}}" + alice + ", expect: {decision: allow}":                          "",
		"call: {request: {host: api.example.com, path: /crm/customers/7/refunds, json: {amount: 1, id: blocked}}}" + alice + ", expect: {decision: deny, reason: malformed_request}":                                 "",
		"call: {request: {host: api.example.com, path: /crm/customers/7/../refunds}}" + alice + ", expect: {decision: deny, reason: malformed_request}":                                                              "",
		"call: {request: {host: api.example.com, path: /crm/nothing}}" + alice + ", expect: {decision: deny, reason: unknown_function}":                                                                              "",
		"call: {request: {host: api.example.com, path: /crm/refunds, headers: {x-http-method-override: POST}}}" + alice + ", expect: {decision: deny, reason: malformed_request}":                                    "",
		"call: {request: {host: other.example.com, path: /crm/refunds}}" + alice + ", expect: {decision: deny, reason: unknown_connection}":                                                                          "",
		"call: {connection: crm, request: {host: other.example.com, path: /crm/refunds}}" + alice + ", expect: {decision: allow}":                                                                                    "",
		"call: {request: {host: api.example.com, path: /crm/customers/7/refunds, json: {note: " + strings.Repeat("x", 2000) + "}}}" + alice + ", expect: {decision: deny, reason: body_too_large}":                   "",
		"call: {request: {path: /mcp, headers: {accept: 'application/json, text/event-stream'}, json: {jsonrpc: '2.0', id: 1, method: tools/call, params: {name: search}}}}" + alice + ", expect: {decision: allow}": "",

		// Counts, claims, headers, actors, grants, time.
		refund + ", before: [{times: 2}], expect: {decision: allow}":                                                                                                                                                                                                    "",
		refund + ", before: [{times: 3}], expect: {decision: deny, rule: often, message: too often}":                                                                                                                                                                    "",
		refund + ", before: [{times: 3, ago: 2m}], expect: {decision: allow}":                                                                                                                                                                                           "",
		refund + ", before: [{times: 3, session: other}], expect: {decision: allow}":                                                                                                                                                                                    "",
		refund + ", before: [{times: 3, function: refunds.list}], expect: {decision: deny}":                                                                                                                                                                             "",
		"call: {connection: tools, function: tools/call x}, identity: {subject: a, kind: agent, groups: [support]}, expect: {decision: deny, rule: new}":                                                                                                                "",
		"call: {connection: tools, function: tools/call x}, identity: {subject: a, kind: agent, groups: [support]}, before: [{}], expect: {decision: allow}":                                                                                                            "",
		"call: {connection: crm, function: refunds.list, headers: {x-mine: 'yes'}}, identity: {subject: bob, claims: {dept: refunds}}, expect: {decision: allow, rule: mine}":                                                                                           "",
		"call: {connection: crm, function: refunds.list}, identity: {subject: bob, groups: [support], actors: [{subject: evil}]}, expect: {decision: deny, rule: acting}":                                                                                               "",
		"call: {connection: crm, function: refunds.list, headers: {x-mine: 'yes'}}, identity: {subject: bob, claims: {dept: other}}, grants: [{name: g, identities: [bob], connections: [crm], functions: [refunds.list]}], expect: {decision: allow, rule: 'grant:g'}": "",
		"now: 2026-01-02T00:00:00Z, call: {connection: crm, function: refunds.list, headers: {x-mine: 'no'}}, identity: {subject: bob, claims: {dept: other}}, grants: [{name: g, identities: [bob], connections: [crm], functions: [refunds.list], until: 2026-01-01T00:00:00Z}], expect: {decision: deny, rule: ''}": "",

		// What can't be run as it is written.
		"call: {connection: crm, function: refunds.crate}" + alice + ", expect: {decision: deny}":                                         `error: connection "crm" has no function "refunds.crate"; it has refunds.create, refunds.list`,
		"call: {connection: erp, function: x}" + alice + ", expect: {decision: deny}":                                                     `error: the policy has no connection "erp"`,
		"call: {connection: orders, request: {path: /x.Orders/Get}}" + alice + ", expect: {decision: deny}":                               "error: a request of this connection can't be read without its service; set grpc.descriptors, or give function and args instead",
		"call: {connection: crm, function: refunds.list, args: {A: 1, a: 2}}" + alice + ", expect: {decision: allow}":                     "",
		"call: {connection: crm, request: {path: /crm/customers/1/refunds, body_file: none.json}}" + alice + ", expect: {decision: deny}": "error: call.request.body_file",
		refund + ", grants: [{name: g, identities: [bob], connections: ['['], functions: ['*']}], expect: {decision: allow}":              "error: the grants of the test",
	} {
		r := run(t, "tests:\n  - {name: one, "+text+"}\n", nil).Results[0]
		var got []string
		if r.Err != nil {
			got = append(got, "error: "+r.Err.Error())
		}
		for _, d := range r.Differences {
			got = append(got, d.String())
		}
		if all := strings.Join(got, "; "); all != want && !(strings.HasPrefix(want, "error: ") && strings.HasPrefix(all, want)) {
			t.Errorf("%s\ngot  %s\nwant %s\n%+v", text, all, want, r.Ruling)
		}
	}
}

const three = `tests:
  - {name: passes, call: {connection: crm, function: refunds.list}, identity: {subject: a, groups: [support]}, expect: {decision: allow}}
  - {name: fails <&>, call: {connection: crm, function: refunds.list}, identity: {subject: a, groups: [support]}, expect: {decision: deny}}
  - {name: errs, call: {connection: erp, function: refunds.list}, identity: {subject: a}, expect: {decision: deny}}
`

func TestCoverage(t *testing.T) {
	c := run(t, three, nil).Coverage
	by := map[string]suite.RuleCoverage{}
	for _, r := range c.Rules {
		by[r.Name] = r
	}
	if r := by["support"]; !r.Covered() || r.Decided != 2 || len(r.Untried) != 1 || !r.Untried[0].Only {
		t.Errorf("%+v", r)
	}
	if r := by["cards"]; !r.Covered() || r.Decided != 0 {
		t.Errorf("a mask that was added: %+v", r)
	}
	if r := by["noted"]; r.Covered() || r.Missed != 2 {
		t.Errorf("a rule in shadow that never matched: %+v", r)
	}
	if r := by["mine"]; r.Covered() || r.Matched+r.Missed+r.Failed != 0 {
		t.Errorf("a rule behind the one that decided: %+v", r)
	}
	if len(c.Rules) != 9 || c.Covered() != 2 || c.Percent() < 22 || c.Percent() > 23 {
		t.Errorf("%d of %d, %f", c.Covered(), len(c.Rules), c.Percent())
	}
}

func TestRunPicks(t *testing.T) {
	r := run(t, three, regexp.MustCompile("^pass"))
	if len(r.Results) != 1 || r.Failed() != 0 {
		t.Errorf("%+v", r.Results)
	}
}

func TestJUnit(t *testing.T) {
	r := run(t, three, nil)
	var b bytes.Buffer
	if err := r.WriteJUnit(&b); err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Tests    int `xml:"tests,attr"`
		Failures int `xml:"failures,attr"`
		Errors   int `xml:"errors,attr"`
		Suites   []struct {
			Cases []struct {
				Name    string `xml:"name,attr"`
				Line    int    `xml:"line,attr"`
				Failure *struct {
					Message string `xml:"message,attr"`
				} `xml:"failure"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(b.Bytes(), &doc); err != nil {
		t.Fatalf("%v\n%s", err, b.String())
	}
	if doc.Tests != 3 || doc.Failures != 1 || doc.Errors != 1 || len(doc.Suites) != 1 {
		t.Errorf("%s", b.String())
	}
	if c := doc.Suites[0].Cases[1]; c.Name != "fails <&>" || c.Line != 3 || c.Failure == nil || c.Failure.Message != "decision: want deny, got allow" {
		t.Errorf("%+v", c)
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestJUnitDiskFull(t *testing.T) {
	if err := run(t, three, nil).WriteJUnit(broken{}); err == nil {
		t.Error("a report that could not be written is taken for one that was")
	}
}
