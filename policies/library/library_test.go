package library_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/policies"
	"github.com/callgate/callgate/policies/library"
)

// counter answers with what a case says.
type counter struct{ c *library.Case }

func (counter) Count(*call.Call) {}
func (k counter) InSession(*call.Call, func(string) bool, time.Duration) int64 {
	return int64(k.c.Calls)
}
func (k counter) ByIdentity(*call.Call, func(string) bool, time.Duration) int64 {
	return int64(k.c.Calls)
}
func (k counter) First(*call.Call) bool { return k.c.First }

// values are what the gateway's own parser makes of JSON: whole numbers are int64.
func values(v any) any {
	switch x := v.(type) {
	case int:
		return int64(x)
	case map[string]any:
		for k, e := range x {
			x[k] = values(e)
		}
	case []any:
		for i, e := range x {
			x[i] = values(e)
		}
	}
	return v
}

// Each guardrail finds what it says it finds, leaves alone what it says it
// leaves alone, and misses what it says it misses.
func TestGuardrails(t *testing.T) {
	if len(library.Names()) < 15 {
		t.Fatalf("there are only %v", library.Names())
	}
	for _, name := range library.Names() {
		g := library.Find(name)
		want := map[string]int{}
		for i := range g.Cases {
			c := &g.Cases[i]
			want[c.Want]++
			t.Run(fmt.Sprintf("%s/%d", name, i+1), func(t *testing.T) {
				when, err := g.Condition(c.With)
				if err != nil {
					t.Fatal(err)
				}
				set, err := policies.Compile([]policies.Rule{{Name: name, Action: policies.Deny, When: when}, {Name: "rest", Action: policies.Allow}},
					policies.Config{Version: "v", Connections: []policies.Connection{{Name: "crm"}}, Counter: counter{c}})
				if err != nil {
					t.Fatal(err)
				}
				what := &call.Call{Connection: "crm", Function: "refunds.create", Time: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC),
					Identity: call.Identity{Issuer: "https://idp", Subject: "ann"}, Request: call.Request{Method: "POST", Path: c.Path}}
				if c.Function != "" {
					what.Function = c.Function
				}
				if c.Method != "" {
					what.Request.Method = c.Method
				}
				if c.At != "" {
					if what.Time, err = time.Parse(time.RFC3339, c.At); err != nil {
						t.Fatal(err)
					}
				}
				if c.Source != "" {
					what.Request.Source = netip.AddrPortFrom(netip.MustParseAddr(c.Source), 7)
				}
				what.Args, _ = values(c.Args).(map[string]any)
				got := set.Decide(t.Context(), what)
				found := got.Action == call.ActionDeny
				switch {
				case c.Want == "missed" && c.Why == "":
					t.Error("does not say why it is missed")
				case found != (c.Want == "match"):
					t.Errorf("%v (%s): %+v", c.Args, c.Want, got)
				}
			})
		}
		if want["match"] == 0 || want["pass"] == 0 {
			t.Errorf("%s shows %v; it needs calls that it finds and calls that it leaves alone", name, want)
		}
		if g.Description == "" || g.Message == "" || g.Action == "" {
			t.Errorf("%s lacks a description, a message or an action", name)
		}
		for p, is := range g.Parameters {
			if is.Description == "" || !is.Required && is.Default == nil {
				t.Errorf("%s: parameter %s lacks a description or a default", name, p)
			}
			if !strings.Contains(g.When, "{{"+p+"}}") {
				t.Errorf("%s: parameter %s is not used", name, p)
			}
		}
	}
}

func TestParameters(t *testing.T) {
	g := library.Find("outside-network")
	for want, with := range map[string]map[string]any{
		"needs parameter networks":   nil,
		`has no parameter "netwoks"`: {"netwoks": []any{"10.0.0.0/8"}},
	} {
		if got, err := g.Condition(with); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %s, %v", with, got, err)
		}
	}
	if got, err := library.Find("amount-over").Condition(map[string]any{"most": "9) || (true"}); err == nil {
		t.Errorf("a text for a number: %s", got)
	}
	// A text stays a text, whatever it holds.
	got, err := library.Find("amount-over").Condition(map[string]any{"argument": `x" in call.args || true || "`})
	if err != nil || !strings.Contains(got, `"x\" in call.args || true || \"" in call.args`) {
		t.Errorf("%s, %v", got, err)
	}
}
