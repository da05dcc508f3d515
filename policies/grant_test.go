package policies

import (
	"strings"
	"testing"
	"time"

	"github.com/callgate/callgate/call"
)

func TestGrants(t *testing.T) {
	noon := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	crm := Grant{Name: "g", Identities: []string{"alice"}, Connections: []string{"crm"}, Functions: []string{"refunds.*"}}
	with := func(change func(*Grant)) Grant { g := crm; change(&g); return g }
	alice := call.Identity{Issuer: "https://idp", Subject: "alice"}
	agent := call.Identity{Issuer: "https://idp", Subject: "alice", Actors: []call.Actor{{Issuer: "https://idp", Subject: "bot"}}}
	for _, c := range []struct {
		name     string
		grant    Grant
		who      call.Identity
		function string
		allowed  bool
	}{
		{"by subject", crm, alice, "refunds.create", true},
		{"another function", crm, alice, "customers.get", false},
		{"another connection", with(func(g *Grant) { g.Connections = []string{"erp"} }), alice, "refunds.create", false},
		{"somebody else", crm, call.Identity{Issuer: "https://idp", Subject: "mallory"}, "refunds.create", false},
		{"nobody", crm, call.Identity{}, "refunds.create", false},
		{"by issuer and subject", with(func(g *Grant) { g.Identities = []string{"https://idp|alice"} }), alice, "refunds.create", true},
		{"another issuer's alice", with(func(g *Grant) { g.Identities = []string{"https://idp|alice"} }), call.Identity{Issuer: "https://evil", Subject: "alice"}, "refunds.create", false},
		{"a subject that looks like issuer and subject", with(func(g *Grant) { g.Identities = []string{"https://idp|alice"} }),
			call.Identity{Issuer: "https://evil", Subject: "https://idp|alice"}, "refunds.create", false},
		{"a subject with a bar", with(func(g *Grant) { g.Identities = []string{"auth0|7"} }), call.Identity{Issuer: "https://idp", Subject: "auth0|7"}, "refunds.create", true},
		{"by group", with(func(g *Grant) { g.Identities, g.Groups = nil, []string{"support"} }),
			call.Identity{Issuer: "https://idp", Subject: "bob", Groups: []string{"x", "support"}}, "refunds.create", true},
		{"by an issuer's group", with(func(g *Grant) { g.Identities, g.Groups = nil, []string{"https://idp|support"} }),
			call.Identity{Issuer: "https://idp", Subject: "bob", Groups: []string{"support"}}, "refunds.create", true},
		{"another issuer's group", with(func(g *Grant) { g.Identities, g.Groups = nil, []string{"https://idp|support"} }),
			call.Identity{Issuer: "https://evil", Subject: "bob", Groups: []string{"support", "https://idp|support"}}, "refunds.create", false},
		{"until later", with(func(g *Grant) { g.Until = noon.Add(time.Second) }), alice, "refunds.create", true},
		{"until now", with(func(g *Grant) { g.Until = noon }), alice, "refunds.create", false},
		{"an agent acting for her", crm, agent, "refunds.create", false},
		{"an agent that is named", with(func(g *Grant) { g.Actors = []string{"bot"} }), agent, "refunds.create", true},
		{"any agent", with(func(g *Grant) { g.Actors = []string{"*"} }), agent, "refunds.create", true},
		{"an agent that is spelt like another issuer's", with(func(g *Grant) { g.Actors = []string{"https://idp|bot"} }),
			call.Identity{Issuer: "https://idp", Subject: "alice", Actors: []call.Actor{{Issuer: "https://evil", Subject: "https://idp|bot"}}}, "refunds.create", false},
		{"one of two agents is not named", with(func(g *Grant) { g.Actors = []string{"bot"} }),
			call.Identity{Issuer: "https://idp", Subject: "alice", Actors: []call.Actor{{Subject: "bot"}, {Subject: "other"}}}, "refunds.create", false},
		{"a condition that holds", with(func(g *Grant) { g.When = "call.args.amount <= 100" }), alice, "refunds.create", true},
		{"a condition that does not", with(func(g *Grant) { g.When = "call.args.amount > 100" }), alice, "refunds.create", false},
		{"a condition that fails", with(func(g *Grant) { g.When = "call.args.none > 100" }), alice, "refunds.create", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			what := refund(map[string]any{"amount": int64(50)})
			what.Time, what.Identity, what.Function = noon, c.who, c.function
			own, err := Compile(nil, Config{Version: "v1", Connections: known, Grants: []Grant{c.grant}})
			if err != nil {
				t.Fatal(err)
			}
			none, err := Compile(nil, Config{Version: "v1", Connections: known})
			if err != nil {
				t.Fatal(err)
			}
			given, err := none.WithGrants([]Grant{c.grant})
			if err != nil {
				t.Fatal(err)
			}
			for how, s := range map[string]*Set{"the policy's own": own, "given": given} {
				got := s.Decide(t.Context(), what)
				if allowed := got.Action == call.ActionAllow; allowed != c.allowed {
					t.Errorf("%s: %+v, want allowed %v", how, got, c.allowed)
				} else if allowed && (got.Rule != "grant:g" || got.Reason != call.ReasonRule) {
					t.Errorf("%s: decided by %q (%s)", how, got.Rule, got.Reason)
				}
			}
			if got := none.Decide(t.Context(), what); got.Action == call.ActionAllow {
				t.Error("WithGrants changed the set it was called on")
			}
		})
	}
}

func TestGrantsComeLast(t *testing.T) {
	grant := Grant{Name: "g", Identities: []string{"agent-7"}, Actors: []string{"*"}, Connections: []string{"*"}, Functions: []string{"*"}}
	hold := Rule{Name: "ask", Action: Hold, Hold: call.Hold{Timeout: time.Minute, Stages: []call.Stage{{Approvers: call.Approvers{Groups: []string{"a"}}}}}}
	for _, c := range []struct {
		rules []Rule
		rule  string
		want  call.Action
	}{
		{nil, "grant:g", call.ActionAllow},
		{[]Rule{{Name: "no", Action: Deny}}, "no", call.ActionDeny},
		{[]Rule{hold}, "ask", call.ActionHold},
		{[]Rule{{Name: "yes", Action: Allow}}, "yes", call.ActionAllow},
		{[]Rule{{Name: "cards", Action: Mask, Mask: call.MaskRule{Keys: []string{"card"}}}}, "grant:g", call.ActionAllow},
	} {
		s, err := Compile(c.rules, Config{Version: "v1", Connections: known, Grants: []Grant{grant}})
		if err != nil {
			t.Fatal(err)
		}
		got := s.Decide(t.Context(), refund(nil))
		if got.Rule != c.rule || got.Action != c.want {
			t.Errorf("%+v: %+v", c.rules, got)
		}
		if len(c.rules) == 1 && c.rules[0].Action == Mask && len(got.Mask.Rules) != 1 {
			t.Error("a granted call's response is not masked")
		}
	}
}

func TestGrantErrors(t *testing.T) {
	for want, g := range map[string]Grant{
		"has no name":                         {Identities: []string{"a"}, Connections: []string{"*"}, Functions: []string{"*"}},
		"is given to nobody":                  {Name: "g", Connections: []string{"*"}, Functions: []string{"*"}},
		"that is empty":                       {Name: "g", Identities: []string{""}, Connections: []string{"*"}, Functions: []string{"*"}},
		"must name connections and functions": {Name: "g", Identities: []string{"a"}, Connections: []string{"*"}},
		"which globs here don't know":         {Name: "g", Identities: []string{"a"}, Connections: []string{"{a}"}, Functions: []string{"*"}},
		`there is no "cal"`:                   {Name: "g", Identities: []string{"a"}, Connections: []string{"*"}, Functions: []string{"*"}, When: "cal.x"},
	} {
		_, err := Compile(nil, Config{Version: "v1", Connections: known, Grants: []Grant{g}})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", g, err, want)
		}
		if s, err := compile(t).WithGrants([]Grant{g}); err == nil || s != nil {
			t.Errorf("%+v: given all the same", g)
		}
	}
}

// A grant that came with an approval is for the chain that people were asked
// about, no longer and no shorter.
func TestSettlingGrantIsForItsChain(t *testing.T) {
	idp := func(names ...string) (out []call.Actor) {
		for _, n := range names {
			out = append(out, call.Actor{Issuer: "https://idp", Subject: n})
		}
		return out
	}
	for _, c := range []struct {
		name    string
		actors  []string
		chain   []call.Actor
		settled bool
	}{
		{"nobody between", nil, nil, true},
		{"an agent where there was none", nil, idp("x"), false},
		{"the agent", []string{"https://idp|x"}, idp("x"), true},
		{"its owner in person", []string{"https://idp|x"}, nil, false},
		{"another agent", []string{"https://idp|x"}, idp("y"), false},
		{"another issuer's", []string{"https://idp|x"}, []call.Actor{{Issuer: "https://evil", Subject: "x"}}, false},
		{"one that is spelt like it", []string{"https://idp|x"}, []call.Actor{{Issuer: "https://evil", Subject: "https://idp|x"}}, false},
		{"one more", []string{"https://idp|x"}, idp("x", "y"), false},
		{"the same twice", []string{"https://idp|x"}, idp("x", "x"), false},
		{"one less", []string{"https://idp|x", "https://idp|y"}, idp("x"), false},
		{"in another order", []string{"https://idp|x", "https://idp|y"}, idp("y", "x"), false},
		{"both", []string{"https://idp|x", "https://idp|y"}, idp("x", "y"), true},
	} {
		s, err := Compile([]Rule{{Name: "ask", Action: Hold, Hold: call.Hold{Timeout: time.Minute, Stages: []call.Stage{{Approvers: call.Approvers{Groups: []string{"a"}}}}}}},
			Config{Version: "v1", Connections: known})
		if err != nil {
			t.Fatal(err)
		}
		if s, err = s.WithGrants([]Grant{{Name: "g", Identities: []string{"https://idp|ann"}, Actors: c.actors, Connections: []string{"crm"}, Functions: []string{"*"}, Settles: []string{"ask"}}}); err != nil {
			t.Fatal(err)
		}
		what := refund(nil)
		what.Identity = call.Identity{Issuer: "https://idp", Subject: "ann", Actors: c.chain}
		if got := s.Decide(t.Context(), what); (got.Action == call.ActionAllow) != c.settled {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
}

// A grant that came with an approval spares the same calls being held by the
// same rule, and nothing else.
func TestSettlingGrant(t *testing.T) {
	ask := func(name string) Rule {
		return Rule{Name: name, Action: Hold, When: "call.args.amount > 100", Hold: call.Hold{Timeout: time.Minute, Stages: []call.Stage{{Approvers: call.Approvers{Groups: []string{"a"}}}}}}
	}
	grant := Grant{Name: "g", Identities: []string{"agent-7"}, Actors: []string{"*"}, Connections: []string{"crm"}, Functions: []string{"refunds.create"}, Settles: []string{"ask"}}
	for _, c := range []struct {
		name  string
		rules []Rule
		grant Grant
		want  call.Action
		rule  string
	}{
		{"the rule that was settled", []Rule{ask("ask")}, grant, call.ActionAllow, "grant:g"},
		{"another rule", []Rule{ask("ask"), ask("other")}, grant, call.ActionHold, "other"},
		{"a rule that denies", []Rule{ask("ask"), {Name: "no", Action: Deny}}, grant, call.ActionDeny, "no"},
		{"a grant that settles nothing", []Rule{ask("ask")}, func() Grant { g := grant; g.Settles = nil; return g }(), call.ActionHold, "ask"},
		{"a grant of somebody else's", []Rule{ask("ask")}, func() Grant { g := grant; g.Identities = []string{"x"}; return g }(), call.ActionHold, "ask"},
		{"a grant that is over", []Rule{ask("ask")}, func() Grant { g := grant; g.Until = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC); return g }(), call.ActionHold, "ask"},
		{"a grant whose condition fails", []Rule{ask("ask")}, func() Grant { g := grant; g.When = "call.args.none == 1"; return g }(), call.ActionHold, "ask"},
	} {
		s, err := Compile(c.rules, Config{Version: "v1", Connections: known, Replay: true})
		if err != nil {
			t.Fatal(err)
		}
		if s, err = s.WithGrants([]Grant{c.grant}); err != nil {
			t.Fatal(err)
		}
		what := refund(map[string]any{"amount": int64(500)})
		if got := s.Decide(t.Context(), what); got.Action != c.want || got.Rule != c.rule {
			t.Errorf("%s: %+v", c.name, got)
		}
		if a, err := s.Assess(t.Context(), what, []Part{{Field: "identity.claims"}}); err != nil || !a.Known || a.Ruling.Action != c.want {
			t.Errorf("%s, assessed: %+v, %v", c.name, a, err)
		}
	}
}
