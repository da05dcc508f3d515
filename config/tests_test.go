package config

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func TestLoadTests(t *testing.T) {
	dir := t.TempDir()
	file := write(t, dir, "rules_test.yaml", `
now: 2026-11-11T12:00:00Z
tests:
  - name: one
    call:
      connection: crm
      function: refunds.create
      args: {amount: 1, share: 1.0, small: 1e-7, big: 0x10, on: 2026-01-01, yes: true, none: ~, text: "1", list: [1, {a: b}]}
      headers: {x-a: [b, c], x-n: 1}
    identity: {subject: alice}
    expect: {decision: allow, rule: ""}
  - name: two
    now: 2026-11-12T12:00:00Z
    call: {request: {path: /refunds, json: [1]}}
    identity: {subject: alice, kind: ci}
    grants: [{name: g, groups: [a], connections: [crm], functions: ["*"]}]
    expect: {decision: hold, mask: []}
`)
	tests, err := LoadTests(file)
	if err != nil {
		t.Fatal(err)
	}
	one, two := tests[0], tests[1]
	if want := `{"amount":1,"share":1.0,"small":1e-07,"big":16,"on":"2026-01-01","yes":true,"none":null,"text":"1","list":[1,{"a":"b"}]}`; string(one.Call.Args) != want {
		t.Errorf("args %s\nwant %s", one.Call.Args, want)
	}
	if len(one.Call.Headers) != 3 || one.Call.Headers[1] != (TestHeader{"x-a", "c"}) || one.Call.Headers[2].Value != "1" {
		t.Errorf("headers %v", one.Call.Headers)
	}
	if one.Identity.Kind != "human" || *one.Expect.Rule != "" || one.Expect.Mask != nil || one.Now.Day() != 11 || one.Position.Line != 4 {
		t.Errorf("%+v", one)
	}
	if r := two.Call.Request; r.Method != "POST" || r.Headers[0].Value != "application/json" || two.Now != time.Date(2026, 11, 12, 12, 0, 0, 0, time.UTC) ||
		two.Expect.Mask == nil || two.Grants[0].Position.Line != 16 {
		t.Errorf("%+v", two)
	}
}

// A slip in a test is an error with its place: a test that tests something else
// than it seems to is worse than none.
func TestLoadTestsStrictly(t *testing.T) {
	dir := t.TempDir()
	const rest = "identity: {subject: a}, expect: {decision: deny}"
	for text, want := range map[string]string{
		"- {name: a, cal: {}, " + rest + "}":                                                                                          `x_test.yaml:2:13: unknown key "cal" in tests[0]; did you mean "call"?`,
		"- {call: {connection: a, function: b}, " + rest + "}":                                                                        "name is missing",
		"- {name: a, " + rest + "}":                                                                                                   "call needs a connection and a function, or a request",
		"- {name: a, call: {connection: a, function: b, request: {path: /}}, " + rest + "}":                                           "a request says function",
		"- {name: a, call: {request: {path: x}}, " + rest + "}":                                                                       `x_test.yaml:2:36: test "a": call.request.path must start with /`,
		"- {name: a, call: {request: {path: /, body: a, json: 1}}, " + rest + "}":                                                     "set one of body",
		"- {name: a, call: {connection: a, function: b, args: [1]}, " + rest + "}":                                                    "call.args must be a mapping",
		"- {name: a, call: {connection: a, function: b, args: {a: .nan}}, " + rest + "}":                                              "x_test.yaml:2:58: tests[0].call.args: \".nan\" is no number",
		"- {name: a, call: {connection: a, function: b, args: {a: 1, a: 2}}, " + rest + "}":                                           "key \"a\" twice",
		"- {name: a, call: {connection: a, function: b, args: {a: 99999999999999999999}}, " + rest + "}":                              "64 bits",
		"- {name: a, call: {connection: a, function: b, args: {a: !!binary YQ==}}, " + rest + "}":                                     "which JSON does not have",
		"- {name: a, call: {connection: a, function: b, headers: {X: a}}, " + rest + "}":                                              "lower-case",
		"- {name: a, call: {connection: a, function: b, source: here}, " + rest + "}":                                                 "no IP address",
		"- {name: a, call: {connection: a, function: b}, expect: {decision: deny}}":                                                   "identity.subject is missing",
		"- {name: a, call: {connection: a, function: b}, identity: {subject: a, kind: robot}, expect: {decision: deny}}":              `identity.kind "robot" is not known`,
		"- {name: a, call: {connection: a, function: b}, identity: {subject: a}}":                                                     "expect.decision is missing",
		"- {name: a, call: {connection: a, function: b}, identity: {subject: a}, expect: {decision: refuse}}":                         `"refuse" is not known`,
		"- {name: a, call: {connection: a, function: b}, identity: {subject: a}, expect: {decision: deny, mask: []}}":                 "a denied one has no response",
		"- {name: a, call: {connection: a, function: b}, identity: {subject: a}, expect: {decision: deny, approvers: {groups: [a]}}}": "for decision hold only",
		"- {name: a, call: {connection: a, function: b}, grants: [{name: g}], " + rest + "}":                                          "is given to nobody",
		"- &a {name: a, call: {connection: a, function: b}, " + rest + "}\n- *a":                                                      "stands twice",
	} {
		_, err := LoadTests(write(t, dir, "x_test.yaml", "tests:\n"+text+"\n"))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\ngot  %v\nwant %s", text, err, want)
		}
	}
}

func TestTestFilesAreNoPolicy(t *testing.T) {
	dir := t.TempDir()
	rules := write(t, dir, "rules.yaml", "rules: []\n")
	tests := write(t, dir, "rules_test.yml", "tests: []\n")
	write(t, dir, "_test.yaml.bak", "")
	for _, paths := range [][]string{{dir}, {rules, tests}} {
		if got, err := PolicyFiles(paths...); err != nil || len(got) != 1 || got[0] != rules {
			t.Errorf("policy of %v: %v %v", paths, got, err)
		}
		if got, err := TestFiles(paths...); err != nil || len(got) != 1 || got[0] != tests {
			t.Errorf("tests of %v: %v %v", paths, got, err)
		}
	}
	if IsTestFile("latest.yaml") || IsTestFile("a_test.json") || !IsTestFile("x/a_test.yaml") {
		t.Error("the name of a test file is taken for another, or another for one")
	}
}

func FuzzTests(f *testing.F) {
	f.Add([]byte("tests: [{name: a, call: {connection: c, function: f, args: {a: 1.0, b: [~, x]}}, identity: {subject: s, claims: {a: 1}}, expect: {decision: deny}}]"))
	f.Add([]byte("tests: [{name: a, call: {request: {path: /x, headers: {a: [b]}, json: 1}}, identity: {subject: s}, expect: {decision: hold, approvers: {groups: [a]}}}]"))
	f.Add([]byte("a: &a [x,x]\nb: &b [*a,*a]\ntests: [{name: a, call: {args: *b}}]"))
	f.Add([]byte("tests: [{name: a, call: &c {args: {a: *c}}}]"))
	f.Add([]byte("tests: [{name: a, call: {args: {<<: {a: b}}}}]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var p problems
		for _, one := range readTests("x_test.yaml", data, &p) {
			if len(p.list) > 0 {
				return
			}
			for _, doc := range []JSON{one.Call.Args, one.Identity.Claims} {
				if doc != nil && !json.Valid(doc) {
					t.Errorf("%q is no JSON", doc)
				}
			}
			if one.Name == "" || one.Identity.Subject == "" || one.Expect.Decision == "" {
				t.Errorf("%+v is let through", one)
			}
		}
	})
}
