package lint_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/policies"
	"github.com/callgate/callgate/policies/lint"
)

var now = time.Date(2026, 11, 11, 12, 0, 0, 0, time.UTC)

// crm says what it offers, tools does not.
var connections = []lint.Connection{
	{Name: "crm", Protocol: call.HTTP, Credentialed: true, Functions: []lint.Function{{Name: "refunds.create"}, {Name: "refunds.list"}, {Name: "sql.run"}}},
	{Name: "tools", Protocol: call.MCP, Credentialed: true},
}

func compile(t testing.TB, conns []lint.Connection, rules []policies.Rule, grants ...policies.Grant) *policies.Set {
	t.Helper()
	cfg := policies.Config{Inspect: true, Grants: grants}
	for _, c := range conns {
		one := policies.Connection{Name: c.Name, Protocol: c.Protocol}
		for _, f := range c.Functions {
			one.Functions = append(one.Functions, f.Name)
		}
		cfg.Connections = append(cfg.Connections, one)
	}
	for i := range rules {
		if rules[i].Action == policies.Hold {
			rules[i].Hold = call.Hold{Timeout: time.Minute, Stages: []call.Stage{{Approvers: call.Approvers{Groups: []string{"a"}}}}}
		}
		if rules[i].Action == policies.Mask && rules[i].Mask.Keys == nil {
			rules[i].Mask.Keys = []string{"card"}
		}
		rules[i].Position = policies.Position{File: "rules.yaml", Line: i + 1, Column: 1}
	}
	set, err := policies.Compile(rules, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// all lets a member of group a call everything, so that only what a case is
// about is found.
var all = policies.Rule{Name: "all", Action: policies.Allow, When: `"a" in identity.groups`}

type rules = []policies.Rule

func TestFindings(t *testing.T) {
	crm, tools := []string{"crm"}, []string{"tools"}
	for name, c := range map[string]struct {
		rules  rules
		grants []policies.Grant
		want   string // check and rule, in order
	}{
		"nothing wrong":           {rules: rules{all}},
		"contradiction":           {rules: rules{all, {Name: "r", Action: policies.Deny, When: `call.args.x > 5 && call.args.x < 3`}}, want: "never-matches r"},
		"constant false":          {rules: rules{all, {Name: "r", Action: policies.Deny, When: `1 > 2 || false`}}, want: "never-matches r"},
		"contradiction in shadow": {rules: rules{all, {Name: "r", Shadow: true, Action: policies.Deny, When: `false`}}, want: "never-matches r"},
		"function excluded by the globs": {rules: rules{all, {Name: "r", Connections: crm, Functions: []string{"refunds.*"}, Action: policies.Deny, When: `call.function == "sql.run"`}},
			want: "never-matches r, unknown-name r"},
		"function of a connection that does not say": {rules: rules{all, {Name: "r", Connections: tools, Action: policies.Deny, When: `call.function == "anything"`}}},
		"connection excluded":                        {rules: rules{all, {Name: "r", Connections: crm, Action: policies.Deny, When: `connection.name == "tools"`}}, want: "never-matches r"},
		"connection unknown":                         {rules: rules{all, {Name: "r", Action: policies.Deny, When: `call.connection in ["crm", "erp"]`}}, want: "unknown-name r"},
		"kind unknown":                               {rules: rules{all, {Name: "r", Action: policies.Deny, When: `identity.kind in ["human", "robot"]`}}, want: "unknown-name r"},
		"every kind excluded":                        {rules: rules{all, {Name: "r", Action: policies.Deny, When: `identity.kind != "human" && !(identity.kind in ["ci", "agent", "workload", ""])`}}, want: "never-matches r"},
		"protocol unknown":                           {rules: rules{all, {Name: "r", Action: policies.Deny, When: `connection.protocol != "grpc"`}}, want: "unknown-name r"},
		"always true":                                {rules: rules{all, {Name: "r", Action: policies.Deny, Shadow: true, When: `1 + 1 == 2`}}, want: "constant r"},

		"weaker deny before":           {rules: rules{all, {Name: "a", Action: policies.Deny, When: `call.args.x > 1`}, {Name: "r", Action: policies.Deny, When: `call.args.x > 2`}}, want: "shadowed r"},
		"stronger deny before":         {rules: rules{all, {Name: "a", Action: policies.Deny, When: `call.args.x > 2`}, {Name: "r", Action: policies.Deny, When: `call.args.x > 1`}}},
		"weaker deny in shadow before": {rules: rules{all, {Name: "a", Shadow: true, Action: policies.Deny, When: `call.args.x > 1`}, {Name: "r", Action: policies.Deny, When: `call.args.x > 2`}}},
		"narrower scope before":        {rules: rules{all, {Name: "a", Connections: crm, Functions: []string{"refunds.*"}, Action: policies.Deny, When: `call.args.x > 1`}, {Name: "r", Connections: crm, Action: policies.Deny, When: `call.args.x > 2`}}},
		"wider globs before": {rules: rules{all, {Name: "a", Connections: tools, Functions: []string{"a*"}, Action: policies.Deny, When: `call.args.x > 1`},
			{Name: "r", Connections: tools, Functions: []string{"a?c*", "abc"}, Action: policies.Deny, When: `call.args.x > 2`}}, want: "shadowed r"},
		"other globs before": {rules: rules{all, {Name: "a", Connections: tools, Functions: []string{"a?"}, Action: policies.Deny, When: `call.args.x > 1`},
			{Name: "r", Connections: tools, Functions: []string{"a*"}, Action: policies.Deny, When: `call.args.x > 2`}}},
		"all functions by other names": {rules: rules{all, {Name: "a", Connections: crm, Functions: []string{"refunds.*", "sql.run"}, Action: policies.Deny, When: `call.args.x > 1`},
			{Name: "r", Connections: crm, Action: policies.Deny, When: `call.args.x > 2`}}, want: "shadowed r"},
		"the same twice":         {rules: rules{all, {Name: "a", Action: policies.Deny, When: `call.args.x > 1`}, {Name: "r", Action: policies.Deny, When: `1 < call.args["x"]`}}, want: "duplicate r"},
		"hold behind a deny":     {rules: rules{all, {Name: "r", Action: policies.Hold, When: `call.args.x > 2`}, {Name: "a", Action: policies.Deny, When: `call.args.x > 1`}}, want: "shadowed r"},
		"allow behind a deny":    {rules: rules{all, {Name: "r", Action: policies.Allow, When: `call.args.x > 2 && "b" in identity.groups`}, {Name: "a", Action: policies.Deny, When: `call.args.x > 1`}}, want: "shadowed r"},
		"allow behind a hold":    {rules: rules{{Name: "h", Action: policies.Hold}, all}, want: "shadowed all"},
		"a deny behind an allow": {rules: rules{all, {Name: "r", Action: policies.Deny, When: `"a" in identity.groups && call.args.x == 1`}}},
		"two denies that only together are wider": {rules: rules{all, {Name: "a", Action: policies.Deny, When: `call.args.x == 1`}, {Name: "b", Action: policies.Deny, When: `call.args.x == 2`},
			{Name: "r", Action: policies.Deny, When: `call.args.x in [1, 2]`}}}, // not told
		"mask behind a deny":  {rules: rules{all, {Name: "a", Action: policies.Deny, When: `call.args.x > 1`}, {Name: "r", Action: policies.Mask, When: `call.args.x > 2`}}},
		"the same mask twice": {rules: rules{all, {Name: "a", Action: policies.Mask}, {Name: "r", Action: policies.Mask, Connections: crm}}, want: "duplicate r"},
		"another mask":        {rules: rules{all, {Name: "a", Action: policies.Mask}, {Name: "r", Action: policies.Mask, Mask: call.MaskRule{Keys: []string{"iban"}}}}},
		"a mask over nothing": {rules: rules{{Name: "crm", Connections: crm, Action: policies.Allow, When: all.When}, {Name: "r", Action: policies.Mask, Connections: tools}}, want: "nothing-allowed tools, nothing-to-mask r"},

		"open":                        {rules: rules{{Name: "r", Action: policies.Allow}}, want: "open-to-all r"},
		"open but for a deny":         {rules: rules{{Name: "r", Action: policies.Allow}, {Name: "d", Action: policies.Deny, When: `!("a" in identity.groups)`}}},
		"open, and a deny elsewhere":  {rules: rules{{Name: "r", Action: policies.Allow}, {Name: "d", Connections: crm, Action: policies.Deny, When: `!("a" in identity.groups)`}}, want: "open-to-all r"},
		"no rules":                    {want: "nothing-allowed crm, nothing-allowed tools"},
		"only in shadow":              {rules: rules{{Name: "r", Shadow: true, Action: policies.Allow, When: all.When}}, want: "nothing-allowed crm, nothing-allowed tools"},
		"a function left out":         {rules: rules{{Name: "t", Connections: tools, Action: policies.Allow, When: all.When}, {Name: "r", Connections: crm, Functions: []string{"refunds.*"}, Action: policies.Allow, When: all.When}}, want: "nothing-allowed crm"},
		"a function left out by when": {rules: rules{{Name: "t", Connections: tools, Action: policies.Allow, When: all.When}, {Name: "r", Connections: crm, Action: policies.Allow, When: all.When + ` && call.function != "sql.run"`}}, want: "nothing-allowed crm"},
		"a function shut by a deny":   {rules: rules{all, {Name: "d", Connections: crm, Functions: []string{"sql.*"}, Action: policies.Deny}}, want: "nothing-allowed crm"},
		"held is allowed":             {rules: rules{{Name: "r", Action: policies.Hold, When: all.When}}},
		"granted is allowed":          {grants: []policies.Grant{{Name: "g", Groups: []string{"a"}, Connections: []string{"*"}, Functions: []string{"*"}}}},
		"granted for a time past":     {rules: rules{all}, grants: []policies.Grant{{Name: "g", Groups: []string{"a"}, Connections: []string{"*"}, Functions: []string{"*"}, Until: now}}, want: "ended-grant g"},
		"granted nowhere":             {rules: rules{all}, grants: []policies.Grant{{Name: "g", Groups: []string{"a"}, Connections: []string{"erp"}, Functions: []string{"*"}}}, want: "unknown-name g"},
	} {
		t.Run(name, func(t *testing.T) {
			found, err := lint.Run(context.Background(), lint.Input{Set: compile(t, connections, c.rules, c.grants...), Connections: connections, Now: now})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range found {
				_, subject, _ := strings.Cut(f.Subject, `"`)
				got = append(got, string(f.Check)+" "+strings.Trim(subject, `"`))
				if f.Text == "" || f.Fix == "" {
					t.Errorf("%v does not say what is wrong and what would be right", f)
				}
			}
			if all := strings.Join(got, ", "); all != c.want {
				t.Errorf("got  %s\nwant %s\n%v", all, c.want, found)
			}
		})
	}
}

// Who is named without an issuer is anybody's of that name, where there are two.
func TestOfAnyIssuer(t *testing.T) {
	people := []lint.People{{Subject: `rule "a"`, Names: []string{"support", "https://idp|finance"}, Position: policies.Position{Line: 7}}, {Subject: `grant "b"`, Names: []string{"a|https://b"}}}
	for n, issuers := range [][]string{nil, {"https://idp"}, {"https://idp", "https://other"}} {
		found, err := lint.Run(context.Background(), lint.Input{Set: compile(t, connections, rules{all}), Connections: connections, People: people, Issuers: issuers, Now: now})
		switch {
		case err != nil || n < 2 && len(found) > 0:
			t.Errorf("%v: %v, %v", issuers, found, err)
		case n == 2 && (len(found) != 2 || found[1].Check != lint.OfAnyIssuer || found[1].Position.Line != 7 || found[1].Fix != `write of which, such as "https://idp|support"`):
			t.Errorf("%v", found)
		}
	}
}

// What each server counts for itself is said where there are several.
func TestPerServer(t *testing.T) {
	list := rules{all, {Name: "many", Action: policies.Deny, When: `session.calls("*", duration("1m")) > 5`}, {Name: "identity", Action: policies.Deny, When: `identity.calls("*", duration("1m")) > 5`},
		{Name: "first", Action: policies.Deny, When: `identity.firstUse()`}, {Name: "named", Action: policies.Deny, When: `session.id == "x"`}}
	known := []policies.Connection{{Name: "crm", Protocol: call.MCP}}
	set, err := policies.Compile(list, policies.Config{Version: "v", Connections: known, Inspect: true, Replay: true})
	if err != nil {
		t.Fatal(err)
	}
	conns := []lint.Connection{{Name: "crm", Protocol: call.MCP, Credentialed: true}}
	for several, want := range map[bool]string{false: "", true: `rule "many" rule "identity" rule "first"`} {
		found, err := lint.Run(context.Background(), lint.Input{Set: set, Connections: conns, Several: several, Now: now})
		var got []string
		for _, f := range found {
			if f.Check == lint.PerServer {
				got = append(got, f.Subject)
			}
		}
		slices.SortFunc(got, func(a, b string) int { return strings.Index(want, a) - strings.Index(want, b) })
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%v, %v", got, err)
		}
	}
}

func TestNoCredential(t *testing.T) {
	conns := []lint.Connection{{Name: "crm", Protocol: call.MCP}}
	found, err := lint.Run(context.Background(), lint.Input{Set: compile(t, conns, rules{all}), Connections: conns, Now: now})
	if err != nil || len(found) != 1 || found[0].Check != lint.NoCredential {
		t.Errorf("%v, %v", found, err)
	}
}

// Where rules only note what they would have done, everything gets through.
func TestShadowConnection(t *testing.T) {
	conns := []lint.Connection{{Name: "crm", Protocol: call.MCP, Credentialed: true, Shadow: true}}
	set := compile(t, conns, rules{{Name: "d", Action: policies.Deny}, {Name: "m", Action: policies.Mask}})
	if found, err := lint.Run(context.Background(), lint.Input{Set: set, Connections: conns, Now: now}); err != nil || len(found) != 0 {
		t.Errorf("%v, %v", found, err)
	}
}

func TestEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := lint.Run(ctx, lint.Input{Set: compile(t, connections, rules{all}), Connections: connections, Now: now}); !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v", err)
	}
}

// A large policy is looked at in the time in which one goes for it.
func BenchmarkTenThousandRules(b *testing.B) {
	var conns []lint.Connection
	var list rules
	for i := range 1000 {
		name := fmt.Sprintf("c%d", i)
		conns = append(conns, lint.Connection{Name: name, Protocol: call.MCP, Credentialed: true})
		for j := range 10 {
			action := []string{policies.Deny, policies.Hold, policies.Allow}[j%3]
			list = append(list, policies.Rule{Name: fmt.Sprintf("%s %d", name, j), Connections: []string{name}, Action: action,
				When: fmt.Sprintf(`call.args.amount > %d && "g%d" in identity.groups`, j, i%50)})
		}
	}
	set := compile(b, conns, list)
	b.ResetTimer()
	for range b.N {
		if _, err := lint.Run(context.Background(), lint.Input{Set: set, Connections: conns, Now: now}); err != nil {
			b.Fatal(err)
		}
	}
}

func TestMaskPaths(t *testing.T) {
	conns := []lint.Connection{
		{Name: "orders", Protocol: call.GRPC, Credentialed: true, Functions: []lint.Function{{Name: "Get"}, {Name: "List"}},
			Masks: []lint.Mask{{Name: "m", Paths: []string{"card", "crad"}}}, Reaches: func(function, path string) bool { return path == "card" || path == "items" && function == "List" }},
		{Name: "tools", Protocol: call.MCP, Credentialed: true},
	}
	mask := func(name string, connections, functions []string, paths ...string) policies.Rule {
		return policies.Rule{Name: name, Action: policies.Mask, Connections: connections, Functions: functions, Mask: call.MaskRule{Paths: paths, Keys: []string{"k"}}}
	}
	set := compile(t, conns, rules{all,
		mask("fine", []string{"orders"}, nil, "card", "items"),
		mask("wrong", []string{"orders"}, nil, "card", "item"),
		mask("of another function", []string{"orders"}, []string{"Get"}, "items"),
		mask("who knows", nil, nil, "item")})
	found, err := lint.Run(context.Background(), lint.Input{Set: set, Connections: conns, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range found {
		got = append(got, string(f.Check)+" "+f.Subject)
	}
	if want := `unknown-path connection "orders", unknown-path rule "wrong", unknown-path rule "of another function"`; strings.Join(got, ", ") != want {
		t.Errorf("%v", found)
	}
}

// The worst case: every rule looks at everything, and each at the same thing.
func BenchmarkRulesOverEverything(b *testing.B) {
	var list rules
	for i := range 3000 {
		list = append(list, policies.Rule{Name: fmt.Sprint(i), Action: policies.Deny, When: fmt.Sprintf(`call.args.amount == %d && "g%d" in identity.groups`, i, i)})
	}
	set := compile(b, connections, list)
	b.ResetTimer()
	for range b.N {
		if _, err := lint.Run(context.Background(), lint.Input{Set: set, Connections: connections, Now: now}); err != nil {
			b.Fatal(err)
		}
	}
}
