package policies

import (
	"context"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/callgate/callgate/call"
)

func refund(args map[string]any) *call.Call {
	return &call.Call{
		Time: time.Date(2026, 11, 23, 9, 30, 0, 0, time.UTC), Session: "s1",
		Identity: call.Identity{Issuer: "https://idp", Subject: "agent-7", Kind: call.Agent, Groups: []string{"support", "emea"},
			Actors: []call.Actor{{Issuer: "https://idp", Subject: "bot"}}, Claims: map[string]any{"tier": "gold", "level": float64(3)}},
		Connection: "crm", Protocol: call.HTTP, Function: "refunds.create", Args: args,
		Request: call.Request{Method: "POST", Authority: "crm", Path: "/refunds?x=1", Body: []byte(`{"amount":1}`),
			Source: netip.MustParseAddrPort("10.0.0.7:999"),
			Headers: call.Headers{{Name: "content-type", Value: "application/json"}, {Name: "x-team", Value: "a"}, {Name: "x-team", Value: "b"},
				{Name: "authorization", Value: "Bearer secret-token"}, {Name: "cookie", Value: "sid=1"}}},
	}
}

var known = []Connection{
	{Name: "crm", Protocol: call.HTTP, Functions: []string{"refunds.create", "refunds.list", "customers.get"}},
	{Name: "tools", Protocol: call.MCP},
	{Name: "erp", Protocol: call.HTTP, Functions: []string{"orders.list"}},
}

func compile(t testing.TB, rules ...Rule) *Set {
	t.Helper()
	s, err := Compile(rules, Config{Version: "v1", Connections: known})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Each expression is true of refund's call.
func TestExpressions(t *testing.T) {
	args := map[string]any{"amount": int64(150), "rate": 1.5, "query": "DROP  Table users", "tags": []any{"a", "b"},
		"customer": map[string]any{"id": "c1", "vip": true}, "nothing": nil}
	for _, when := range []string{
		`call.function == "refunds.create"`,
		`call.id.size() == 36 && call.session == "s1" && call.protocol == "http" && call.method == "POST"`,
		`call.authority == "crm" && call.path.startsWith("/refunds") && call.source_ip == "10.0.0.7" && call.body_size == 12`,
		`call.args.amount > 100 && call.args.amount >= 150.0 && call.args.rate < 2`,
		`call.args.query.lowerAscii().matches("drop\\s+table")`,
		`call.args.query.lowerAscii().contains("drop")`,
		`call.args.customer.vip == true && call.args["customer"]["id"] == "c1"`,
		`"a" in call.args.tags && call.args.tags.size() == 2 && sets.contains(call.args.tags, ["b"])`,
		`call.args.tags.exists(t, t == "b")`,
		`!has(call.args.missing) && has(call.args.amount) && call.args.nothing == null`,
		`call.args.?missing.orValue(7) == 7`,
		`!("missing" in call.args)`,
		`call.headers["x-team"] == "a, b" && call.headers["X-Team"] == "a, b" && "X-TEAM" in call.headers`,
		`!("authorization" in call.headers) && !has(call.headers.cookie)`,
		`identity.issuer == "https://idp" && identity.subject == "agent-7" && identity.kind == "agent"`,
		`"support" in identity.groups && identity.groups.size() == 2`,
		`identity.acting == "bot" && identity.actors.size() == 1 && identity.actors[0].subject == "bot"`,
		`identity.actors.exists(a, a.issuer == "https://idp")`,
		`identity.claims.tier == "gold" && identity.claims.level == 3`,
		`connection.name == "crm" && connection.protocol == "http" && call.connection == connection.name`,
		`has(call.session) && !has(identity.method)`,
		`now.getHours() == 9 && now < timestamp("2026-11-24T00:00:00Z")`,
		`math.greatest(call.args.amount, 3) == 150`,
		`regex.extract(call.path, "x=(.*)") == optional.of("1")`,
		`dyn(call).function == "refunds.create" && type(call) == type(call) && call == call`,
		`call.args.tags.map(t, t + "!").size() == 2`,
	} {
		s := compile(t, Rule{Name: "r", Action: Allow, When: when})
		if r := s.Decide(t.Context(), refund(args)); r.Action != call.ActionAllow {
			t.Errorf("%s: %s", when, r.Message)
		}
	}
}

func TestOrder(t *testing.T) {
	people := call.Hold{Stages: []call.Stage{{Approvers: call.Approvers{Groups: []string{"leads"}}}}, Timeout: time.Minute}
	allow := Rule{Name: "allow", Action: Allow}
	allow2 := Rule{Name: "allow2", Action: Allow}
	hold := Rule{Name: "hold", Action: Hold, Hold: people}
	deny := Rule{Name: "deny", Action: Deny, Message: "no refunds"}
	deny2 := Rule{Name: "deny2", Action: Deny}
	mask := Rule{Name: "mask", Action: Mask, Mask: call.MaskRule{Detect: []string{"card"}, How: "redact"}}
	no := func(r Rule) Rule { r.Name += "-no"; r.When = "false"; return r }
	shadow := func(r Rule) Rule { r.Name += "-shadow"; r.Shadow = true; return r }
	masks := call.Mask{Rules: []call.MaskRule{{Name: "mask", Detect: []string{"card"}, How: "redact"}}}
	cases := []struct {
		name  string
		rules []Rule
		want  call.Ruling
	}{
		{"nothing", nil, call.Ruling{Action: call.ActionDeny, Reason: call.ReasonNoRule, Message: `no rule allows "refunds.create" on connection "crm" to this caller`}},
		{"no match", []Rule{no(allow), no(deny), no(hold)}, call.Ruling{Action: call.ActionDeny, Reason: call.ReasonNoRule, Message: `no rule allows "refunds.create" on connection "crm" to this caller`}},
		{"allow", []Rule{no(deny), allow, allow2}, call.Ruling{Action: call.ActionAllow, Rule: "allow", Reason: call.ReasonRule}},
		{"deny after allow and hold", []Rule{allow, hold, deny, deny2}, call.Ruling{Action: call.ActionDeny, Rule: "deny", Reason: call.ReasonRule, Message: "no refunds"}},
		{"default message", []Rule{deny2}, call.Ruling{Action: call.ActionDeny, Rule: "deny2", Reason: call.ReasonRule, Message: `denied by rule "deny2"`}},
		{"hold after allow", []Rule{allow, hold}, call.Ruling{Action: call.ActionHold, Rule: "hold", Reason: call.ReasonRule, Hold: people}},
		{"mask adds to allow", []Rule{mask, allow, no(mask)}, call.Ruling{Action: call.ActionAllow, Rule: "allow", Reason: call.ReasonRule, Mask: masks}},
		{"mask adds to hold", []Rule{hold, mask}, call.Ruling{Action: call.ActionHold, Rule: "hold", Reason: call.ReasonRule, Hold: people, Mask: masks}},
		{"mask alone allows nothing", []Rule{mask}, call.Ruling{Action: call.ActionDeny, Reason: call.ReasonNoRule, Message: `no rule allows "refunds.create" on connection "crm" to this caller`}},
		{"shadow decides nothing", []Rule{shadow(deny), allow, no(shadow(hold))}, call.Ruling{Action: call.ActionAllow, Rule: "allow", Reason: call.ReasonRule, Shadow: []string{"deny-shadow"}}},
		{"shadow allow opens nothing", []Rule{shadow(allow), shadow(mask)}, call.Ruling{Action: call.ActionDeny, Reason: call.ReasonNoRule, Message: `no rule allows "refunds.create" on connection "crm" to this caller`, Shadow: []string{"allow-shadow", "mask-shadow"}}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			c.want.PolicyVersion = "v1"
			if got := compile(t, c.rules...).Decide(t.Context(), refund(nil)); !reflect.DeepEqual(got, c.want) {
				t.Errorf("got  %+v\nwant %+v", got, c.want)
			}
		})
	}
}

// A rule that is asked and can't answer must deny, whatever stands beside it.
func TestFailClosed(t *testing.T) {
	leads := call.Hold{Stages: []call.Stage{{Approvers: call.Approvers{Groups: []string{"leads"}}}}, Timeout: time.Minute}
	allow := Rule{Name: "allow", Action: Allow}
	cards := call.MaskRule{Detect: []string{"card"}}
	big := map[string]any{"text": strings.Repeat("a", 1<<20), "list": make([]any, 5000)}
	for name, c := range map[string]struct {
		rule Rule
		args map[string]any
		says string
	}{
		"absent argument, deny":  {Rule{Action: Deny, When: "call.args.amount > 100"}, nil, `there is no "amount" in this call`},
		"absent argument, hold":  {Rule{Action: Hold, When: "call.args.amount > 100", Hold: leads}, map[string]any{}, `there is no "amount" in this call`},
		"absent argument, allow": {Rule{Action: Allow, When: "call.args.amount < 100"}, nil, `guard it with has`},
		"absent argument, mask":  {Rule{Action: Mask, When: "call.args.amount < 100", Mask: cards}, nil, `"amount"`},
		"absent below absent":    {Rule{Action: Deny, When: "call.args.a.b.c == 1"}, nil, `there is no "a"`},
		"string for a number":    {Rule{Action: Deny, When: "call.args.amount > 100"}, map[string]any{"amount": "1000"}, "of a type that the rule doesn't expect"},
		"list for a number":      {Rule{Action: Deny, When: "call.args.amount > 100"}, map[string]any{"amount": []any{int64(1000)}}, "type"},
		"null for a number":      {Rule{Action: Deny, When: "call.args.amount > 100"}, map[string]any{"amount": nil}, "type"},
		"not a truth":            {Rule{Action: Deny, When: "call.args.a && true"}, map[string]any{"a": "true"}, "type"},
		"conversion":             {Rule{Action: Deny, When: "int(call.args.a) > 1"}, map[string]any{"a": "hunter2-secret"}, "not as the rule expects"},
		"division":               {Rule{Action: Deny, When: "1 / call.args.a > 1"}, map[string]any{"a": int64(0)}, "arithmetic"},
		"overflow":               {Rule{Action: Deny, When: "call.args.a + 9223372036854775807 < 0"}, map[string]any{"a": int64(9)}, "arithmetic"},
		"index":                  {Rule{Action: Deny, When: "call.args.a[3] == 1"}, map[string]any{"a": []any{}}, "arithmetic"},
		"unknown native type":    {Rule{Action: Deny, When: "call.args.a == 1"}, map[string]any{"a": make(chan int)}, "not as the rule expects"},
		"cost, regex":            {Rule{Action: Deny, When: `call.args.text.matches("(a+a+)+b(a+a+)+b(a+a+)+b(a+a+)+b(a+a+)+b(a+a+)+b(a+a+)+b(a+a+)+b(a+a+)+b(a+a+)+b(a+a+)+b(a+a+)+b(a+a+)+b(a+a+)+b(a+a+)+b(a+a+)+b(a+a+)+b(a+a+)+b(a+a+)+b(a+a+)+b(a+a+)+b(a+a+)+b")`}, big, "costs more"},
		"cost, loops":            {Rule{Action: Deny, When: `call.args.list.exists(a, call.args.list.exists(b, a == b && a == 1))`}, big, "costs more"},
		"cost, growth":           {Rule{Action: Deny, When: `call.args.text.replace("a", "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb").contains("x")`}, big, "costs more"},
	} {
		t.Run(name, func(t *testing.T) {
			c.rule.Name = "broken"
			got := compile(t, c.rule, allow).Decide(t.Context(), refund(c.args))
			if got.Action != call.ActionDeny || got.Reason != call.ReasonPolicyError || got.Rule != "broken" || len(got.Mask.Rules) > 0 {
				t.Errorf("got %+v", got)
			}
			if !strings.Contains(got.Message, c.says) || strings.Contains(got.Message, "hunter2") {
				t.Errorf("message %q", got.Message)
			}
		})
	}
	t.Run("error absorbed where the answer is certain", func(t *testing.T) {
		got := compile(t, Rule{Name: "r", Action: Deny, When: `call.args.amount > 100 || call.function == "refunds.create"`}, allow).Decide(t.Context(), refund(nil))
		if got.Reason != call.ReasonRule {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("shadow error lets through and is seen", func(t *testing.T) {
		got := compile(t, Rule{Name: "r", Action: Deny, Shadow: true, When: `call.args.amount > 100`}, allow).Decide(t.Context(), refund(nil))
		if got.Action != call.ActionAllow || !reflect.DeepEqual(got.Shadow, []string{"r: policy_error"}) {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("a rule not reached does not count", func(t *testing.T) {
		got := compile(t, Rule{Name: "d", Action: Deny}, Rule{Name: "r", Action: Allow, When: `call.args.amount > 100`}).Decide(t.Context(), refund(nil))
		if got.Rule != "d" {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("time is up", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		got := compile(t, allow).Decide(ctx, refund(nil))
		if got.Action != call.ActionDeny || got.Reason != call.ReasonPolicyError || !strings.Contains(got.Message, "no time left") {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("unknown connection", func(t *testing.T) {
		c := refund(nil)
		c.Connection = "elsewhere"
		got := compile(t, allow).Decide(t.Context(), c)
		if got.Action != call.ActionDeny || got.Reason != call.ReasonUnknownConnection {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("unknown time", func(t *testing.T) {
		c := refund(nil)
		c.Time = time.Time{}
		got := compile(t, Rule{Name: "r", Action: Deny, When: "now.getHours() > 20"}, allow).Decide(t.Context(), c)
		if got.Reason != call.ReasonPolicyError {
			t.Errorf("got %+v", got)
		}
	})
}

// Which rules a call meets is decided by the index; it must agree with asking
// every rule in turn.
func TestScope(t *testing.T) {
	rules := []Rule{
		{Name: "everywhere"},
		{Name: "all of crm", Connections: []string{"crm"}},
		{Name: "exact", Connections: []string{"crm"}, Functions: []string{"refunds.create"}},
		{Name: "twice", Connections: []string{"c*", "crm"}, Functions: []string{"refunds.create", "refunds.create"}},
		{Name: "glob", Functions: []string{"refunds.*"}},
		{Name: "mixed", Functions: []string{"orders.list", "ref*create"}},
		{Name: "other function", Connections: []string{"crm"}, Functions: []string{"refunds.list"}},
		{Name: "other connection", Connections: []string{"tools"}},
		{Name: "any connection", Connections: []string{"*"}, Functions: []string{"refunds.create"}},
		{Name: "exact everywhere", Functions: []string{"refunds.create"}},
	}
	for i := range rules {
		rules[i].Action, rules[i].Shadow = Allow, true
	}
	got := compile(t, rules...).Decide(t.Context(), refund(nil)).Shadow
	want := []string{"everywhere", "all of crm", "exact", "twice", "glob", "mixed", "any connection", "exact everywhere"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

func TestHolds(t *testing.T) {
	hold := func(name, conn string, d time.Duration, shadow bool) Rule {
		return Rule{Name: name, Connections: []string{conn}, Action: Hold, Shadow: shadow,
			Hold: call.Hold{Stages: []call.Stage{{Approvers: call.Approvers{People: []string{"ann"}}}}, Timeout: d}}
	}
	s := compile(t, hold("a", "crm", time.Minute, false), hold("b", "c*", 2*time.Minute, false), hold("c", "erp", time.Minute, true))
	if d, ok := s.Holds("crm"); d != 2*time.Minute || !ok {
		t.Errorf("crm: %s %v", d, ok)
	}
	for _, conn := range []string{"tools", "erp", "unknown"} {
		if d, ok := s.Holds(conn); ok {
			t.Errorf("%s: %s", conn, d)
		}
	}
	if s.Len() != 3 || s.Version() != "v1" {
		t.Errorf("%d rules of %s", s.Len(), s.Version())
	}
}

func TestConcurrent(t *testing.T) {
	s := compile(t, Rule{Name: "d", Action: Deny, When: `call.args.n == 1 && identity.subject == "one" && call.headers["x-team"] == "a, b"`},
		Rule{Name: "a", Action: Allow, When: `call.args.n == 2 && identity.subject == "two" && "support" in identity.groups`})
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			c, want := refund(map[string]any{"n": int64(1)}), call.ActionDeny
			c.Identity.Subject = "one"
			if g%2 == 0 {
				c, want = refund(map[string]any{"n": int64(2)}), call.ActionAllow
				c.Identity.Subject = "two"
			}
			for range 500 {
				if r := s.Decide(context.Background(), c); r.Action != want || r.Reason != call.ReasonRule {
					t.Errorf("want %s, got %+v", want, r)
					return
				}
			}
		})
	}
	wg.Wait()
}

func ExampleErrors() {
	_, err := Compile([]Rule{
		{Name: "big-refunds", Action: "hold", When: "call.fnction == 'refunds.create' &&\n  call.args.amount",
			Position: Position{"refunds.yaml", 3, 5}, WhenPosition: Position{"refunds.yaml", 5, 7}},
	}, Config{Connections: known})
	fmt.Println(err)
	// Output:
	// refunds.yaml:3:5: rule "big-refunds": holds calls and names nobody who may approve them; set hold.approvers.groups or hold.approvers.people
	// refunds.yaml:5:11: rule "big-refunds": when: call has no field "fnction"; did you mean "function"?
}
