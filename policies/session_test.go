package policies

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/callgate/callgate/call"
)

// counter answers with fixed counts.
type counter struct {
	counted int
	first   bool
}

func (c *counter) Count(*call.Call) { c.counted++ }
func (c *counter) InSession(_ *call.Call, match func(string) bool, d time.Duration) int64 {
	if !match("refunds.create") {
		return 0
	}
	return int64(d / time.Minute)
}
func (c *counter) ByIdentity(_ *call.Call, match func(string) bool, _ time.Duration) int64 {
	if match("refunds.create") && match("other") {
		return 42
	}
	return 1
}
func (c *counter) First(*call.Call) bool { return c.first }

func TestSessionAndTime(t *testing.T) {
	count := &counter{first: true}
	for i, when := range []string{
		`session.id == "s1"`,
		`session.calls("refunds.create", duration("5m")) == 5`,
		`session.calls("refunds.*", duration("2m")) == 2 && session.calls("x", duration("2m")) == 0`,
		`identity.calls("*", duration("1h")) == 42`,
		`identity.firstUse()`,
		`time.hour() == 9 && time.hour("Europe/Berlin") == 10 && time.minute() == 30 && time.weekday() == 1 && time.date("UTC") == 23`,
		`time.between("09:00", "17:00") && !time.between("09:31", "17:00") && time.between("22:00", "09:31")`,
		`time.between("10:00", "11:00", "Europe/Berlin") && !time.between("10:00", "11:00")`,
		`text.containsAny(call.args.query, ["drop table"]) && sql.kind(call.args.query) == "ddl" && !sql.readonly(call.args.query)`,
		`json.strings(call.args).exists(s, text.matchesAny(s, ["(?i)drop"]))`,
		`json.path(call.args, "$.customer.id") == ["c1"]`,
	} {
		s, err := Compile([]Rule{{Name: "r", Action: Allow, When: when}}, Config{Version: "v", Connections: known, Counter: count})
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		got := s.Decide(t.Context(), refund(map[string]any{"query": "DROP  TABLE users", "customer": map[string]any{"id": "c1"}}))
		if got.Action != call.ActionAllow {
			t.Errorf("%s: %+v", when, got)
		}
		if count.counted != i+1 {
			t.Fatalf("%d calls counted after %d decisions", count.counted, i+1)
		}
	}
	// Where nothing counts, a rule that asks denies.
	s := compile(t, Rule{Name: "r", Action: Allow, When: `session.calls("*", duration("1m")) < 10`})
	if got := s.Decide(t.Context(), refund(nil)); got.Reason != call.ReasonPolicyError {
		t.Errorf("without a counter: %+v", got)
	}
	s, err := Compile([]Rule{{Name: "r", Action: Allow, When: `session.calls("*", duration("2h")) < 10`}}, Config{Version: "v", Connections: known, Counter: count})
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Decide(t.Context(), refund(nil)); got.Reason != call.ReasonPolicyError {
		t.Errorf("over the window: %+v", got)
	}
}

// What must be written in a rule can't come from a call, and is checked at load.
func TestConstantArguments(t *testing.T) {
	for when, want := range map[string]string{
		`text.matchesAny(call.path, call.args.patterns)`:  "the second argument of text.matchesAny must be written in the rule",
		`text.matchesAny(call.path, ["a", call.session])`: "the second argument of text.matchesAny must be written in the rule",
		`text.matchesAny(call.path, ["("])`:               "missing closing )",
		`text.containsAny(call.path, call.args.words)`:    "must be written in the rule",
		`net.inCIDR(call.source_ip, ["10.0.0.0/33"])`:     "10.0.0.0/33",
		`json.path(call.args, "$[") == []`:                "json.path",
		`glob.match(call.path, call.session)`:             "must be written in the rule",
		`glob.match(call.path, "[")`:                      "glob.match",
		`text.matchesAny(call.path, [])`:                  "",
	} {
		_, err := Compile([]Rule{{Name: "r", Action: Allow, When: when}}, Config{Connections: known})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", when, err, want)
		}
	}
}

// Functions over large values stay within an evaluation's bound.
func TestCostOfFunctions(t *testing.T) {
	long := strings.Repeat("a ", 400_000)
	list := make([]any, 1000)
	for i := range list {
		list[i] = strings.Repeat("b", 10_000)
	}
	for _, when := range []string{
		`text.decode(call.args.text).size() > 100000`,
		`json.strings(call.args).exists(s, text.decode(s).exists(d, text.matchesAny(d, ["(x+x+)+y"])))`,
		`call.args.list.exists(s, sql.kind(s) == "ddl")`,
	} {
		s := compile(t, Rule{Name: "r", Action: Allow, When: when})
		got := s.Decide(t.Context(), refund(map[string]any{"text": long, "list": list}))
		if got.Reason != call.ReasonPolicyError && got.Reason != call.ReasonNoRule {
			t.Errorf("%s: %+v", when, got)
		}
	}
}

var withSchema = []Connection{{Name: "crm", Protocol: call.HTTP, Functions: []string{"refunds.create", "refunds.list"}, Schemas: map[string]json.RawMessage{
	"refunds.create": json.RawMessage(`{"type":"object","required":["amount"],"additionalProperties":false,"properties":{
		"amount":{"type":"integer","minimum":1},"note":{"type":"string","maxLength":5},"customer":{"type":"object","additionalProperties":false,"properties":{"id":{"type":"string"}}}}}`)}}}

func TestSchema(t *testing.T) {
	s, err := Compile([]Rule{{Name: "r", Action: Allow, When: "schema.valid(call.args)"}}, Config{Version: "v", Connections: withSchema})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args map[string]any
		want bool
	}{
		{map[string]any{"amount": int64(5)}, true},
		{map[string]any{"amount": int64(5), "note": "hi", "customer": map[string]any{"id": "c"}}, true},
		{map[string]any{"amount": int64(0)}, false},
		{map[string]any{"amount": "5"}, false},
		{map[string]any{"amount": 5.5}, false},
		{map[string]any{"amount": int64(5), "note": "too long"}, false},
		{map[string]any{"amount": int64(5), "more": true}, false},
		{map[string]any{"amount": int64(5), "customer": map[string]any{"id": int64(7)}}, false},
		{map[string]any{}, false},
		{nil, false},
	} {
		if got := s.Decide(t.Context(), refund(c.args)); (got.Action == call.ActionAllow) != c.want {
			t.Errorf("%v: %+v", c.args, got)
		}
	}
	list := refund(map[string]any{})
	list.Function = "refunds.list" // has no schema
	if got := s.Decide(t.Context(), list); got.Action == call.ActionAllow {
		t.Error("what has no schema is valid")
	}
	why, err := Compile([]Rule{{Name: "r", Action: Allow, When: `schema.errors(call.args) == ["/amount: minimum", "/note: maxLength"]`}}, Config{Version: "v", Connections: withSchema})
	if err != nil {
		t.Fatal(err)
	}
	if got := why.Decide(t.Context(), refund(map[string]any{"amount": int64(0), "note": "very secret"})); got.Action != call.ActionAllow {
		t.Errorf("%+v", got)
	}
}

func TestSchemaChecksRules(t *testing.T) {
	for when, want := range map[string]string{
		`call.args.amount > 100`:         "",
		`call.args.customer.id == "x"`:   "",
		`has(call.args.anything)`:        "",
		`call.args.amuont > 100`:         `the schema has no argument "amuont"; did you mean "amount"?`,
		`call.args.customer.name == "x"`: `the schema has no argument "customer.name"`,
		`call.args.amount == "100"`:      `argument "amount" is of type integer by its schema, and is compared with a string`,
		`"x" < call.args.amount`:         `is compared with a string`,
		`call.args.note == 7`:            `argument "note" is of type string by its schema, and is compared with a number`,
	} {
		_, err := Compile([]Rule{{Name: "r", Action: Allow, Connections: []string{"crm"}, Functions: []string{"refunds.create"}, When: when}}, Config{Connections: withSchema})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", when, err, want)
		}
		// A rule that meets a function without a schema can't be told.
		if _, err := Compile([]Rule{{Name: "r", Action: Allow, When: when}}, Config{Connections: withSchema}); err != nil {
			t.Errorf("%s, everywhere: %v", when, err)
		}
	}
	for _, bad := range []string{`{"$ref": "http://127.0.0.1:1/x"}`, `{"$ref": "file:///etc/passwd"}`, `{"type": 7}`, `nope`} {
		if err := CompileSchema(json.RawMessage(bad)); err == nil {
			t.Errorf("%s is taken", bad)
		} else if strings.Contains(bad, "ref") && !errors.Is(err, errReference) && !strings.Contains(err.Error(), "may not refer") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// A connection that enforces its schemas denies what does not fit, whatever the
// rules say, and says where, not what.
func TestEnforcedSchema(t *testing.T) {
	conns := []Connection{withSchema[0]}
	conns[0].Enforce = true
	s, err := Compile([]Rule{{Name: "all", Action: Allow}}, Config{Version: "v", Connections: conns, Replay: true})
	if err != nil {
		t.Fatal(err)
	}
	good, bad := refund(map[string]any{"amount": int64(5)}), refund(map[string]any{"amount": int64(5), "note": "far too long"})
	if got := s.Decide(t.Context(), good); got.Action != call.ActionAllow {
		t.Errorf("%+v", got)
	}
	got := s.Decide(t.Context(), bad)
	if got.Reason != call.ReasonMalformedRequest || got.Message != "the arguments don't fit the function's schema: /note: maxLength" {
		t.Errorf("%+v", got)
	}
	for _, c := range []struct {
		what    *call.Call
		missing []Part
		known   bool
		action  call.Action
	}{
		{good, []Part{{Field: "identity.claims"}}, true, call.ActionAllow},
		{bad, []Part{{Field: "identity.claims"}}, true, call.ActionDeny},
		{good, []Part{{Field: "call.args", Key: "note"}}, false, ""},
	} {
		a, err := s.Assess(t.Context(), c.what, c.missing)
		if err != nil || a.Known != c.known || a.Known && a.Ruling.Action != c.action {
			t.Errorf("without %v: %+v, %v", c.missing, a, err)
		}
	}
}
