package policies

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/callgate/callgate/call"
)

const paysSchema = `{"type":"object","required":["amount"],"additionalProperties":false,"properties":{"amount":{"type":"integer","minimum":1}}}`

func toolSet(t *testing.T, hold bool, pins map[string]Tool, rules ...Rule) *Set {
	t.Helper()
	p := &Pinning{}
	if hold {
		p.Hold = &call.Hold{Stages: []call.Stage{{Approvers: call.Approvers{Groups: []string{"security"}}}}, Timeout: time.Minute}
	}
	if rules == nil {
		rules = []Rule{{Name: "all", Action: Allow}}
	}
	s, err := Compile(rules, Config{Version: "v", Connections: []Connection{
		{Name: "mcp-a", Protocol: call.MCP, Pinning: p, Enforce: true}, {Name: "mcp-b", Protocol: call.MCP, Pinning: p, Enforce: true}, {Name: "mcp-off", Protocol: call.MCP}}})
	if err != nil {
		t.Fatal(err)
	}
	return s.WithTools(map[string]Tools{"mcp-a": CompileTools(pins)})
}

// Ways around what is pinned. A line more is a case more.
func TestTools(t *testing.T) {
	pins := map[string]Tool{
		"refund":  {Schema: json.RawMessage(paysSchema), Accepted: true},
		"plain":   {Accepted: true},
		"new":     {Schema: json.RawMessage(paysSchema), Changed: false},
		"changed": {Schema: json.RawMessage(paysSchema), Accepted: true, Changed: true},
		"remote":  {Schema: json.RawMessage(`{"$ref":"https://example.com/schema"}`), Accepted: true},
		"odd":     {Schema: json.RawMessage(`{"type":"object","pattern":"(?=x)"}`), Accepted: true},
	}
	good := map[string]any{"amount": int64(5)}
	for _, c := range []struct {
		connection, function string
		args                 map[string]any
		want                 call.Reason // of a denial; "": allowed
		says                 string
	}{
		{"mcp-a", "tools/call refund", good, "", ""},
		{"mcp-a", "tools/call plain", good, "", ""},
		{"mcp-a", "tools/list", nil, "", ""},
		{"mcp-a", "initialize", nil, "", ""},
		{"mcp-a", "prompts/get refund", nil, "", ""},
		{"mcp-a", "tools/call refund", nil, call.ReasonMalformedRequest, "input schema"},
		{"mcp-a", "tools/call refund", map[string]any{"amount": int64(0)}, call.ReasonMalformedRequest, "/amount: minimum"},
		{"mcp-a", "tools/call refund", map[string]any{"amount": "5"}, call.ReasonMalformedRequest, "/amount: type"},
		{"mcp-a", "tools/call refund", map[string]any{"amount": int64(5), "Amount": int64(9)}, call.ReasonMalformedRequest, "additionalProperties"},
		{"mcp-a", "tools/call Refund", good, call.ReasonToolUnknown, "no tool"},
		{"mcp-a", "tools/call refund ", good, call.ReasonToolUnknown, "no tool"},
		{"mcp-a", "tools/call none", good, call.ReasonToolUnknown, "no tool"},
		{"mcp-a", "tools/call new", good, call.ReasonToolChanged, "nobody has accepted"},
		{"mcp-a", "tools/call changed", good, call.ReasonToolChanged, "not described as it was"},
		{"mcp-a", "tools/call remote", good, call.ReasonToolUnknown, "can't be used"},
		{"mcp-a", "tools/call odd", good, call.ReasonToolUnknown, "can't be used"},
		{"mcp-b", "tools/call refund", good, call.ReasonToolUnknown, "not known yet"},
		{"mcp-off", "tools/call whatever", good, "", ""},
	} {
		got := toolSet(t, false, pins).Decide(t.Context(), &call.Call{Connection: c.connection, Protocol: call.MCP, Function: c.function, Args: c.args})
		if c.want == "" && got.Action == call.ActionAllow {
			continue
		}
		if c.want == "" || got.Action != call.ActionDeny || got.Reason != c.want || !strings.Contains(got.Message, c.says) {
			t.Errorf("%s on %s with %v: %s %s %q, want %s %q", c.function, c.connection, c.args, got.Action, got.Reason, got.Message, c.want, c.says)
		}
	}
}

// A changed tool's calls wait for people only where the rules would let them
// through, and only for those that the connection names.
func TestToolHold(t *testing.T) {
	pins := map[string]Tool{"changed": {Schema: json.RawMessage(paysSchema), Accepted: true, Changed: true}, "new": {}}
	decide := func(tool string, args map[string]any, rules ...Rule) call.Ruling {
		return toolSet(t, true, pins, rules...).Decide(t.Context(), &call.Call{Connection: "mcp-a", Protocol: call.MCP, Function: "tools/call " + tool, Args: args})
	}
	good := map[string]any{"amount": int64(5)}
	for _, tool := range []string{"changed", "new"} {
		r := decide(tool, good)
		if r.Action != call.ActionHold || r.Hold.Approvers().Groups[0] != "security" || r.Reason != call.ReasonToolChanged || r.Rule == "" {
			t.Errorf("%s: %+v", tool, r)
		}
	}
	if r := decide("changed", map[string]any{}); r.Action != call.ActionDeny || r.Reason != call.ReasonMalformedRequest {
		t.Errorf("arguments that don't fit what was accepted: %+v", r)
	}
	if r := decide("changed", good, Rule{Name: "no", Action: Deny}); r.Action != call.ActionDeny || r.Rule != "no" {
		t.Errorf("a rule denies: %+v", r)
	}
	if r := decide("changed", good, Rule{Name: "nobody", Action: Allow, When: "false"}); r.Action != call.ActionDeny || r.Reason != call.ReasonNoRule {
		t.Errorf("nothing allows: %+v", r)
	}
	people := call.Hold{Stages: []call.Stage{{Approvers: call.Approvers{Groups: []string{"finance"}}}}, Timeout: time.Second}
	if r := decide("changed", good, Rule{Name: "ask", Action: Hold, Hold: people}); r.Action != call.ActionDeny || r.Reason != call.ReasonToolChanged {
		t.Errorf("a rule holds as well: %+v", r)
	}
	if d, held := toolSet(t, true, nil).Holds("mcp-a"); !held || d != time.Minute {
		t.Errorf("the connection's longest hold: %s %v", d, held)
	}
}

// One rule looks at many servers by glob, each with its own tools.
func TestToolsOfManyServers(t *testing.T) {
	s := toolSet(t, false, nil, Rule{Name: "agents search", Connections: []string{"mcp-?"}, Functions: []string{"tools/call search*"}, Action: Allow},
		Rule{Name: "no shells anywhere", Connections: []string{"mcp-*"}, Functions: []string{"tools/call *exec*"}, Action: Deny})
	s = s.WithTools(map[string]Tools{"mcp-a": CompileTools(map[string]Tool{"search": {Accepted: true}, "exec": {Accepted: true}}),
		"mcp-b": CompileTools(map[string]Tool{"search_b": {Accepted: true}})})
	for call1, want := range map[string]string{
		"mcp-a search": "agents search", "mcp-b search_b": "agents search", "mcp-a search_b": "", "mcp-b search": "",
		"mcp-a exec": "no shells anywhere", "mcp-off exec": "no shells anywhere", "mcp-off search": "",
	} {
		connection, tool, _ := strings.Cut(call1, " ")
		r := s.Decide(t.Context(), &call.Call{Connection: connection, Protocol: call.MCP, Function: "tools/call " + tool})
		if r.Rule != want {
			t.Errorf("%s: rule %q (%s), want %q", call1, r.Rule, r.Message, want)
		}
	}
}

// Schemas by which a server could make the gateway work without end, or not
// work at all. A line more is a case more.
func TestForeignSchemas(t *testing.T) {
	doubling := `{"$defs":{"d0":{"type":"string"}`
	for i := 1; i <= 40; i++ {
		doubling += fmt.Sprintf(`,"d%d":{"allOf":[{"$ref":"#/$defs/d%d"},{"$ref":"#/$defs/d%d"}]}`, i, i-1, i-1)
	}
	doubling += `},"$ref":"#/$defs/d40"}`
	for name, c := range map[string]struct{ schema, want string }{
		"plain":                    {paysSchema, ""},
		"true":                     {`true`, ""},
		"draft 7":                  {`{"$schema":"http://json-schema.org/draft-07/schema#","type":"object","definitions":{"a":{"type":"string"}},"properties":{"x":{"$ref":"#/definitions/a"}}}`, ""},
		"a tree":                   {`{"$defs":{"n":{"type":"object","properties":{"l":{"$ref":"#/$defs/n"},"r":{"$ref":"#/$defs/n"},"all":{"type":"array","items":{"$ref":"#/$defs/n"}}}}},"$ref":"#/$defs/n"}`, ""},
		"any JSON":                 {`{"$defs":{"j":{"anyOf":[{"type":"string"},{"type":"number"},{"type":"object","additionalProperties":{"$ref":"#/$defs/j"}},{"type":"array","items":{"$ref":"#/$defs/j"}}]}},"$ref":"#/$defs/j"}`, ""},
		"doubling at one place":    {doubling, "fan out"},
		"doubling at every step":   {`{"properties":{"a":{"allOf":[{"$ref":"#"},{"$ref":"#"}]}}}`, "fan out"},
		"doubling by names":        {`{"properties":{"a":{"$ref":"#"}},"patternProperties":{"^a":{"$ref":"#"}}}`, "fan out"},
		"doubling by if":           {`{"additionalProperties":{"if":{"$ref":"#"},"then":{"$ref":"#"}}}`, "fan out"},
		"a circle":                 {`{"$ref":"#"}`, ""},
		"elsewhere":                {`{"$ref":"https://example.com/x"}`, "another document"},
		"a file":                   {`{"$ref":"file:///etc/passwd"}`, "another document"},
		"an unknown draft":         {`{"$schema":"https://example.com/draft"}`, "another document"},
		"deep":                     {strings.Repeat(`{"not":`, 100) + `true` + strings.Repeat(`}`, 100), "deeper"},
		"large":                    {`{"description":"` + strings.Repeat("x", maxForeignSize) + `"}`, "over"},
		"a number without end":     {`{"properties":{"a":{"multipleOf":1e-999999999}}}`, "too exact"},
		"a number beyond any":      {`{"maximum":1e999999999}`, "too large"},
		"a long pattern":           {`{"pattern":"` + strings.Repeat("a", 2000) + `"}`, "patterns"},
		"a pattern of look-aheads": {`{"pattern":"^(?!x).*$"}`, "does not compile"},
		"a pattern in a pattern":   {`{"patternProperties":{"(((((a{500}){2})":{}}}`, "does not compile"},
		"no schema":                {`[]`, "does not compile"},
	} {
		_, err := compileForeign(json.RawMessage(c.schema))
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// Nor can a schema of the configuration's own, or of an OpenAPI document that came
// with a push: there it is an error. A line more is a case more.
func TestSchemasThatCannotBeChecked(t *testing.T) {
	for text, want := range map[string]string{
		`{"properties":{"a":{"multipleOf":1e-999999999}}}`: "too exact",
		`{"multipleOf":1e-301}`:                            "too exact",
		`{"multipleOf":0}`:                                 "multipleOf",
		`{"maximum":1e999999999}`:                          "too large",
		`{"const":` + strings.Repeat("9", 60) + `}`:        "too large",
		`{"enum":[1,{"a":[-1e-500]}]}`:                     "too exact",
		`{"multipleOf":0.01}`:                              "",
		`{"minimum":-1e300,"maximum":0e-999}`:              "",
	} {
		if err := CompileSchema(json.RawMessage(text)); want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func FuzzSchema(f *testing.F) {
	for _, seed := range []string{paysSchema, `{"multipleOf":1e-999999999}`, `{"multipleOf":1e-18,"maximum":1e18}`, `{"$ref":"#/$defs/a","$defs":{"a":{"$ref":"#"}}}`, `{"format":"date","contentMediaType":"application/json"}`} {
		f.Add(seed, `{"amount":5.5}`)
	}
	f.Fuzz(func(t *testing.T, text, value string) {
		if len(text) > 4096 {
			return // the operator's own may take what time they take
		}
		s, err := compileSchema(json.RawMessage(text))
		var v any
		if err != nil || json.Unmarshal([]byte(value), &v) != nil {
			return
		}
		_ = s.faults(v)
	})
}

func FuzzForeignSchema(f *testing.F) {
	f.Add(paysSchema, `{"amount":5}`)
	f.Add(`{"$ref":"#"}`, `{}`)
	f.Add(`{"$dynamicRef":"#x","$defs":{"a":{"$dynamicAnchor":"x","allOf":[true]}}}`, `{"a":{}}`)
	f.Fuzz(func(t *testing.T, text, value string) {
		s, err := compileForeign(json.RawMessage(text))
		var v any
		if err != nil || json.Unmarshal([]byte(value), &v) != nil {
			return
		}
		_ = s.faults(v)
	})
}
