package trace_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/call/protocol"
	"github.com/callgate/callgate/policies"
	"github.com/callgate/callgate/policies/trace"
)

const secret = "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY"

func explain(t *testing.T, c call.Call, rules ...policies.Rule) trace.Explanation {
	t.Helper()
	c.Connection, c.Protocol = "crm", call.HTTP
	set, err := policies.Compile(rules, policies.Config{Inspect: true, Replay: true, Connections: []policies.Connection{{Name: "crm", Protocol: call.HTTP}}})
	if err != nil {
		t.Fatal(err)
	}
	ruling, steps := set.Trace(t.Context(), &c)
	if got := set.Decide(t.Context(), &c); got.Action != ruling.Action || got.Rule != ruling.Rule || got.Reason != ruling.Reason {
		t.Errorf("traced %+v, decided %+v", ruling, got)
	}
	e, err := trace.Explain(&c, ruling, steps)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func args(t *testing.T, doc string) call.Call {
	t.Helper()
	values, err := protocol.Arguments([]byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	return call.Call{Function: "f", Args: values, ArgsJSON: []byte(doc)}
}

// Whatever a condition does with a credential, the explanation does not show it.
func TestHidesCredentials(t *testing.T) {
	for when, doc := range map[string]string{
		`call.args.password == "x"`:                         `{"password":"` + secret + `"}`,
		`call.args["api_key"] == "x"`:                       `{"api_key":"` + secret + `"}`,
		`call.args.password.lowerAscii() == "x"`:            `{"password":"` + secret + `"}`,
		`("x" + call.args.password).endsWith("q")`:          `{"password":"` + secret + `"}`,
		`call.args.login.password == "x"`:                   `{"login":{"password":"` + secret + `"}}`,
		`call.args.credentials.value == "x"`:                `{"credentials":{"value":"` + secret + `"}}`,
		`call.args.login == {}`:                             `{"login":{"password":"` + secret + `"}}`,
		`call.args.login.map(k, call.args.login[k]) == []`:  `{"login":{"password":"` + secret + `"}}`,
		`call.args.list.exists(x, x.password == "y")`:       `{"list":[{"password":"` + secret + `"}]}`,
		`call.args.list.filter(x, x.password != "y") == []`: `{"list":[{"password":"` + secret + `"}]}`,
		`call.args.list[0].password == "x"`:                 `{"list":[{"password":"` + secret + `"}]}`,
		`call.args == {}`:                                   `{"password":"` + secret + `"}`,
		`call.args.note.contains("x")`:                      `{"note":"Authorization: Bearer ` + secret + `"}`,
		`call.args.note.split(" ")[2] == "x"`:               `{"note":"Authorization: Bearer ` + secret + `"}`,
	} {
		c := args(t, doc)
		shown(t, when, explain(t, c, policies.Rule{Name: "r", When: when, Action: policies.Deny}))
	}
	c := args(t, `{}`)
	c.Request.Path = "/x?access_token=" + secret
	c.Request.Headers = call.Headers{{Name: "authorization", Value: "Bearer " + secret}, {Name: "x-api-key", Value: secret}, {Name: "accept", Value: "*/*"}}
	c.Identity = call.Identity{Subject: "alice", Claims: map[string]any{"client_secret": secret, "dept": "x"}}
	for _, when := range []string{`call.path.contains("q")`, `call.path.split("=")[1] == "x"`, `call.headers["x-api-key"] == "y"`, `call.headers["X-API-Key"].lowerAscii() == "y"`,
		`call.headers == {}`, `identity.claims.client_secret == "x"`, `identity.claims == {}`} {
		shown(t, when, explain(t, c, policies.Rule{Name: "r", When: when, Action: policies.Deny}))
	}
}

func shown(t *testing.T, when string, e trace.Explanation) {
	t.Helper()
	doc, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := e.Write(&b, true); err != nil {
		t.Fatal(err)
	}
	for _, out := range []string{string(doc), b.String()} {
		if strings.Contains(strings.ToLower(out), strings.ToLower(secret)) {
			t.Errorf("%s: the secret is shown:\n%s", when, out)
		}
	}
	if len(e.Rules[0].Parts) == 0 {
		t.Errorf("%s: nothing is told of it", when)
	}
}

func TestTellsEveryRule(t *testing.T) {
	e := explain(t, args(t, `{"amount":500}`),
		policies.Rule{Name: "allow", Action: policies.Allow},
		policies.Rule{Name: "elsewhere", Functions: []string{"g"}, Action: policies.Deny},
		policies.Rule{Name: "small", When: `call.args.amount < 5`, Action: policies.Deny},
		policies.Rule{Name: "shadow", Shadow: true, Action: policies.Deny},
		policies.Rule{Name: "late", When: `call.args.note == "x"`, Action: policies.Allow},
		policies.Rule{Name: "mask", Action: policies.Mask, Mask: call.MaskRule{Keys: []string{"k"}}})
	var got []string
	for _, r := range e.Rules {
		got = append(got, r.Name+" "+string(r.Verdict))
		if r.Why == "" {
			t.Errorf("%s: does not say why", r.Name)
		}
	}
	if want := "elsewhere elsewhere, small false, allow true, late error, mask true, shadow true"; strings.Join(got, ", ") != want {
		t.Errorf("got  %s\nwant %s", strings.Join(got, ", "), want)
	}
	if e.Decision != call.ActionAllow || e.Rule != "allow" || !e.Rules[2].Decided || e.Rules[3].Asked || !e.Rules[4].Asked || e.Mask[0] != "mask" || e.Shadow[0] != "shadow" {
		t.Errorf("%+v", e)
	}
}

func TestUnknownConnection(t *testing.T) {
	set, err := policies.Compile([]policies.Rule{{Name: "r", Action: policies.Allow}}, policies.Config{Inspect: true, Connections: []policies.Connection{{Name: "crm"}}})
	if err != nil {
		t.Fatal(err)
	}
	c := call.Call{Connection: "erp", Function: "f"}
	ruling, steps := set.Trace(t.Context(), &c)
	if ruling.Reason != call.ReasonUnknownConnection || steps[0].Verdict != policies.Elsewhere {
		t.Errorf("%+v %+v", ruling, steps)
	}
}

// What was sent by others can't move a terminal's cursor.
func TestPrintable(t *testing.T) {
	c := args(t, "{\"a\":\"\\u001b[2Jx\\u202e\"}")
	c.Function = "f\x1b[2J"
	e := explain(t, c, policies.Rule{Name: "r", When: `call.args.a == "x"`, Action: policies.Deny})
	var b strings.Builder
	if err := e.Write(&b, true); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(b.String(), "\x1b\u202e") {
		t.Errorf("%q", b.String())
	}
}
