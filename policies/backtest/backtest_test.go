package backtest

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/callgate/callgate/audit/clickhouse"
	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/call/protocol"
	"github.com/callgate/callgate/call/redact"
	"github.com/callgate/callgate/policies"
)

// refund is a call as tests need one; change says what is else.
func refund(args string, change ...func(*call.Call)) *call.Call {
	c := &call.Call{Time: noon, Session: "s1", Connection: "crm", Protocol: call.HTTP, Function: "refunds.create", ArgsJSON: json.RawMessage(args),
		Identity: call.Identity{Issuer: "https://idp", Subject: "ada", Kind: call.Human, Groups: []string{"support"}, Method: "oidc", Claims: map[string]any{"dept": "x"}},
		Request: call.Request{Method: "POST", Authority: "crm.example", Path: "/refunds", Body: []byte(args), Source: netip.MustParseAddrPort("10.0.0.7:999"),
			Headers: call.Headers{{Name: "user-agent", Value: "cli/1"}, {Name: "x-team", Value: "a"}}}}
	var err error
	if c.Args, err = protocol.Arguments(c.ArgsJSON); err != nil {
		panic(err)
	}
	for _, f := range change {
		f(c)
	}
	return c
}

// Each call was allowed by rule old; change is what the candidate makes of it:
// "" for nothing, "?" and why for one that can't be judged.
func TestRun(t *testing.T) {
	allowed := call.Decision{Outcome: call.Allow, Rule: "old", Reason: call.ReasonRule}
	allow := policies.Rule{Name: "all", Action: policies.Allow}
	deny := func(when string) []policies.Rule { return []policies.Rule{{Action: policies.Deny, When: when}, allow} }
	secret := func(c *call.Call) { c.Request.Path = "/refunds?api_key=sk_live_abcdefghijkl" }
	tests := []struct {
		name    string
		call    *call.Call
		decided call.Decision
		rules   []policies.Rule
		want    string
	}{
		{"the same", refund(`{"amount":50}`), allowed, []policies.Rule{allow}, ""},
		{"denied by arguments", refund(`{"amount":50}`), allowed, deny(`call.args.amount >= 50`), "allow→deny"},
		{"not denied by arguments", refund(`{"amount":50}`), allowed, deny(`call.args.amount > 50`), ""},
		{"a float stays one", refund(`{"amount":50.0}`), allowed, deny(`type(call.args.amount) == double`), "allow→deny"},
		{"no rule any more", refund(`{}`), allowed, nil, "allow→deny"},
		{"held now", refund(`{}`), allowed, []policies.Rule{{Action: policies.Hold}}, "allow→hold"},
		{"held then, too", refund(`{}`), call.Decision{Outcome: call.HoldDeny, Rule: "old", Reason: call.ReasonRefused}, []policies.Rule{{Action: policies.Hold}}, ""},
		{"held then", refund(`{}`), call.Decision{Outcome: call.HoldExpired, Rule: "old", Reason: call.ReasonApprovalExpired}, []policies.Rule{allow}, "hold→allow"},
		{"hung up while held", refund(`{}`), call.Decision{Outcome: call.HoldExpired, Rule: "old", Reason: call.ReasonCanceled}, nil, "hold→deny"},
		{"approvals were away", refund(`{}`), call.Decision{Outcome: call.Deny, Reason: call.ReasonApprovalUnavailable}, []policies.Rule{{Action: policies.Hold}}, ""},
		{"held in a batch, so denied, and still held", refund(`{}`), call.Decision{Outcome: call.Deny, Rule: "old", Reason: call.ReasonBatchHold}, []policies.Rule{{Action: policies.Hold}}, ""},
		{"held in a batch, so denied, and now allowed", refund(`{}`), call.Decision{Outcome: call.Deny, Rule: "old", Reason: call.ReasonBatchHold}, []policies.Rule{allow}, "hold→allow"},
		{"denied with its batch", refund(`{}`), call.Decision{Outcome: call.Deny, Rule: "old", Reason: call.ReasonBatchWhole}, []policies.Rule{allow}, ""},
		{"the service's credential was missing", refund(`{}`), call.Decision{Outcome: call.Deny, Rule: "old", Reason: call.ReasonCredentialMissing}, []policies.Rule{allow}, ""},
		{"allowed, held, and the credential was missing", refund(`{}`), call.Decision{Outcome: call.Deny, Rule: "old", Reason: call.ReasonCredentialMissing, Approval: &call.Approval{ID: "a"}},
			[]policies.Rule{allow}, "hold→allow"},
		{"denied then", refund(`{}`), call.Decision{Outcome: call.Deny, Reason: call.ReasonNoRule}, []policies.Rule{allow}, "deny→allow"},
		{"a rule failed then", refund(`{}`), call.Decision{Outcome: call.Deny, Rule: "old", Reason: call.ReasonPolicyError}, []policies.Rule{allow}, "deny→allow"},
		{"a rule fails now", refund(`{}`), allowed, deny(`call.args.amount > 50`), "allow→deny"},
		{"a bad token", refund(`{}`), call.Decision{Outcome: call.Deny, Reason: call.ReasonInvalidToken}, []policies.Rule{allow}, "!invalid_token"},
		{"a reason of later versions", refund(`{}`), call.Decision{Outcome: call.Deny, Reason: "revoked"}, []policies.Rule{allow}, "!revoked"},
		{"a body that can't be parsed", refund(`{}`), call.Decision{Outcome: call.Deny, Reason: call.ReasonMalformedRequest}, []policies.Rule{allow}, "!malformed_request"},
		{"claims", refund(`{}`), allowed, deny(`identity.claims.dept == "x"`), "?identity.claims.dept: claims"},
		{"claims that don't matter", refund(`{"amount":50}`), allowed, deny(`identity.claims.dept == "x" && call.args.amount > 50`), ""},
		{"claims that don't matter, since it is denied", refund(`{"amount":50}`), allowed, deny(`identity.claims.dept == "x" || call.args.amount == 50`), "allow→deny"},
		{"a header that is not recorded", refund(`{}`), allowed, deny(`call.headers["x-team"] == "a"`), "?call.headers.x-team: not recorded"},
		{"a header that is", refund(`{}`), allowed, deny(`call.headers["User-Agent"] == "cli/1"`), "allow→deny"},
		{"a header that is recorded and was not sent", refund(`{}`), allowed, deny(`"idempotency-key" in call.headers`), "?call.headers: not recorded"},
		{"the same by name", refund(`{}`), allowed, deny(`has(call.headers.accept)`), ""},
		{"a header that rules never see", refund(`{}`), allowed, deny(`has(call.headers.cookie)`), ""},
		{"a hidden argument", refund(`{"amount":50,"password":"hunter2"}`), allowed, deny(`call.args.password == "hunter2"`), "?call.args.password: holds a credential"},
		{"a hidden argument's presence", refund(`{"amount":50,"password":"hunter2"}`), allowed, deny(`has(call.args.password)`), "?call.args.password: holds a credential"},
		{"beside a hidden argument", refund(`{"amount":50,"password":"hunter2"}`), allowed, deny(`call.args.amount == 50`), "allow→deny"},
		{"in a hidden argument", refund(`{"a":{"b":[{"token":"xyzw-1234","api_key":"k"}],"c":1}}`), allowed, deny(`call.args.a.c == 1`), "?call.args.a: holds a credential"},
		{"all arguments, one hidden", refund(`{"amount":50,"password":"hunter2"}`), allowed, deny(`call.args.exists(k, k == "x")`), "?call.args: holds a credential"},
		{"a number that is hidden", refund(`{"password":1234}`), allowed, deny(`call.args.password == 1234`), "?call.args.password: holds a credential"},
		{"a text that only looks hidden", refund(`{"note":"hmac:0123456789abcdef0123456789abcdef"}`), allowed, deny(`call.args.note == "x"`), "?call.args.note: holds a credential"},
		{"a text that does not", refund(`{"note":"hmac:0123456789abcdef"}`), allowed, deny(`call.args.note == "hmac:0123456789abcdef"`), "allow→deny"},
		{"a credential in the path", refund(`{}`, secret), allowed, deny(`call.path.contains("sk_live")`), "?call.path: holds a credential"},
		{"a user in the authority", refund(`{}`, func(c *call.Call) { c.Request.Authority = "crm.example" }), allowed, deny(`call.authority == "crm.example"`), "allow→deny"},
		{"the time of the call", refund(`{}`), allowed, deny(`now.getHours() == 12`), "allow→deny"},
		{"and not another", refund(`{}`), allowed, deny(`now.getHours() == 13`), ""},
		{"its address", refund(`{}`), allowed, deny(`call.source_ip == "10.0.0.7"`), "allow→deny"},
		{"its body's length", refund(`{"a":1}`), allowed, deny(`call.body_size == 7`), "allow→deny"},
		{"its session", refund(`{}`), allowed, deny(`call.session == "s1" && call.method == "POST"`), "allow→deny"},
		{"its session, by the other name", refund(`{}`), allowed, deny(`session.id == "s1"`), "allow→deny"},
		{"groups", refund(`{}`), allowed, deny(`"support" in identity.groups && identity.method == "oidc"`), "allow→deny"},
		{"an actor", refund(`{}`, func(c *call.Call) { c.Identity.Actors = []call.Actor{{Issuer: "https://idp", Subject: "bot"}} }), allowed,
			deny(`identity.actors[0].issuer == "https://idp" && identity.acting == "bot"`), "allow→deny"},
		{"a connection that is gone", refund(`{}`, func(c *call.Call) { c.Connection = "old" }), allowed, []policies.Rule{allow}, `?connection "old" is not in`},
		{"a function that is gone", refund(`{}`, func(c *call.Call) { c.Function = "refunds.undo" }), allowed, []policies.Rule{allow}, `?connection "crm" has no function`},
		{"another protocol", refund(`{}`, func(c *call.Call) { c.Connection = "tools" }), allowed, []policies.Rule{allow}, `?connection "tools" speaks mcp`},
		{"a function's name that was repaired", refund(`{}`, func(c *call.Call) { c.Connection, c.Protocol, c.Function = "tools", call.MCP, "tools/call \uFFFD" }), allowed,
			[]policies.Rule{allow}, `?function: is not recorded as it came`},
		{"no arguments left", refund(`{}`, func(c *call.Call) { c.ArgsJSON = nil }), allowed, deny(`call.args.amount > 50`), "?call.args.amount: deleted"},
		{"no arguments left, and none looked at", refund(`{}`, func(c *call.Call) { c.ArgsJSON = nil }), allowed, []policies.Rule{allow}, ""},
		{"arguments that can't be read", refund(`{}`, func(c *call.Call) {
			c.Connection, c.Protocol, c.Function, c.ArgsJSON = "tools", call.MCP, "f", []byte(`{"a":1,"a":2}`)
		}), allowed,
			deny(`call.args.a > 50`), "?call.args.a: can't be read"},
		{"a grant of the policy then", refund(`{}`), call.Decision{Outcome: call.Allow, Rule: "grant:own", Reason: call.ReasonRule}, nil, "allow→deny"},
		{"a grant that was given", refund(`{}`), call.Decision{Outcome: call.Allow, Rule: "grant:grt_x", Reason: call.ReasonRule}, nil, "?grant.grt_x: was given while"},
		{"a grant that was given, and a rule that allows", refund(`{}`), call.Decision{Outcome: call.Allow, Rule: "grant:grt_x", Reason: call.ReasonRule}, []policies.Rule{allow}, ""},
		{"a grant that was given, and a rule that denies", refund(`{}`), call.Decision{Outcome: call.Allow, Rule: "grant:grt_x", Reason: call.ReasonRule}, deny("true"), "allow→deny"},
		{"a shadow rule", refund(`{}`), allowed, []policies.Rule{{Action: policies.Deny, Shadow: true}, allow}, ""},
	}
	// One trail for all, a day each: what is the same in two of them would show.
	db := database(t)
	var events []call.Event
	for i := range tests {
		tests[i].call.Time = noon.AddDate(0, 0, -i)
		e := recorded(t, tests[i].call, tests[i].decided)
		events = append(events, e)
	}
	store(t, db, events)
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := Config{Trail: db, Candidate: policy(t, tt.rules...)}
			cfg.Filter.Since, cfg.Filter.Until = tt.call.Time.Add(-time.Hour), tt.call.Time.Add(time.Hour)
			r, err := Run(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			text, _ := json.Marshal(r)
			if r.Calls != 1 {
				t.Fatalf("not one call: %s", text)
			}
			got, id := "", ""
			switch {
			case r.Different == 1 && len(r.Details) == 1:
				got, id = r.Details[0].From+"→"+r.Details[0].To, r.Details[0].Examples[0].ID
				if d := r.Details[0]; d.Subject != "ada" || d.Issuer != "https://idp" || d.Connection != "crm" || d.Function != "refunds.create" || !d.Examples[0].Time.Equal(tt.call.Time) {
					t.Errorf("%s", text)
				}
			case r.Unjudged == 1:
				got = "?" + r.Missing[0].Why
			case r.NotRuled == 1:
				got = "!" + r.Before[0].Reason
			case r.Same != 1:
				t.Fatalf("%s", text)
			}
			if got != tt.want && !(strings.HasPrefix(tt.want, "?") && strings.HasPrefix(got, tt.want)) {
				t.Errorf("%q, want %q: %s", got, tt.want, text)
			}
			if id != "" && id != events[i].CallID.String() {
				t.Errorf("example %s, want %s", id, events[i].CallID)
			}
		})
	}
}

// conditions are what the rules of the property test look at: all that is
// recorded, and what is not.
var conditions = []string{
	"", `call.args.amount > 50`, `has(call.args.note)`, `call.args.note.startsWith("r")`, `call.args.password == "a"`, `has(call.args.password) && call.args.amount < 20`,
	`identity.kind == "agent"`, `"support" in identity.groups`, `identity.subject == "ada"`, `identity.actors.size() > 0`, `identity.acting == "bot"`,
	`identity.claims.dept == "x"`, `has(identity.claims.dept)`, `call.session == "s1"`, `now.getHours() < 12`, `now.getHours() == 3 && call.args.amount > 10`,
	`call.headers["x-team"] == "a"`, `call.headers["user-agent"] == "cli/1"`, `has(call.headers.accept)`, `call.path.contains("?")`, `call.body_size > 30`,
	`call.function == "refunds.create"`, `connection.protocol == "mcp"`, `call.source_ip == "10.0.0.7"`, `call.args.exists(k, k == "note")`, `type(call.args.amount) == double`,
}

func randomRules(rnd *rand.Rand) []policies.Rule {
	var rules []policies.Rule
	for i := range 1 + rnd.IntN(6) {
		r := policies.Rule{Name: fmt.Sprintf("r%d", i), Action: []string{policies.Deny, policies.Hold, policies.Allow, policies.Allow}[rnd.IntN(4)], When: conditions[rnd.IntN(len(conditions))]}
		if rnd.IntN(2) == 0 {
			r.Connections = []string{connections[rnd.IntN(2)].Name}
		}
		if other := conditions[rnd.IntN(len(conditions))]; r.When != "" && other != "" && rnd.IntN(2) == 0 {
			r.When = fmt.Sprintf("(%s) %s (%s)", r.When, []string{"&&", "||"}[rnd.IntN(2)], other)
		}
		rules = append(rules, r)
	}
	return rules
}

func randomCall(rnd *rand.Rand) *call.Call {
	pick := func(list ...string) string { return list[rnd.IntN(len(list))] }
	args := map[string]any{}
	for _, k := range []string{"amount", "note", "password"} {
		if rnd.IntN(3) > 0 {
			args[k] = []any{rnd.IntN(100), json.Number("12.0"), "a", "refund", "ghp_abcdefghijklmnopqrstuvwxyz", nil, []any{1}, map[string]any{"token": "abcdefgh"}}[rnd.IntN(8)]
		}
	}
	text, err := json.Marshal(args)
	if err != nil {
		panic(err)
	}
	return refund(string(text), func(c *call.Call) {
		c.Time = noon.Add(time.Duration(rnd.IntN(30*24*60)) * -time.Minute)
		if rnd.IntN(2) == 0 {
			c.Connection, c.Protocol, c.Function = "tools", call.MCP, pick("tools/call a", "tools/call b")
		}
		c.Identity.Subject, c.Identity.Kind = pick("ada", "bob"), call.Kind(pick("human", "agent"))
		c.Identity.Groups = [][]string{nil, {"support"}, {"a", "support"}}[rnd.IntN(3)]
		if rnd.IntN(2) == 0 {
			c.Identity.Actors = []call.Actor{{Issuer: "https://idp", Subject: pick("bot", "cron")}}
		}
		c.Identity.Claims = []map[string]any{nil, {"dept": "x"}, {"dept": "y"}}[rnd.IntN(3)]
		c.Session, c.Request.Path = pick("s1", ""), pick("/refunds", "/refunds?x=1", "/refunds?token=abcdefgh")
		c.Request.Headers = call.Headers{{Name: "x-team", Value: pick("a", "b")}}
		if rnd.IntN(2) == 0 {
			c.Request.Headers = append(c.Request.Headers, call.Header{Name: "user-agent", Value: pick("cli/1", "cli/2")})
		}
	})
}

// A policy agrees with what it decided; and what is said of another one is what
// it would have decided of the calls as they came, with all that is not recorded.
func TestSound(t *testing.T) {
	db := database(t)
	rnd := rand.New(rand.NewPCG(11, 4))
	const rounds, each = 5, 150
	var all [rounds][]*call.Call
	var made [rounds]Policy
	var events []call.Event
	for i := range rounds {
		made[i] = policy(t, randomRules(rnd)...)
		for range each {
			c := randomCall(rnd)
			c.Time = c.Time.AddDate(0, 0, -31*i) // rounds are told apart by time
			all[i] = append(all[i], c)
			events = append(events, recorded(t, c, outcome(made[i].Set.Decide(t.Context(), c))))
		}
	}
	store(t, db, events)
	judged, different := uint64(0), uint64(0)
	for i := range rounds {
		cfg := Config{Trail: db, Candidate: made[i], Examples: each, Workers: 1 + i%3}
		cfg.Filter.Until = noon.AddDate(0, 0, -31*i).Add(time.Minute)
		cfg.Filter.Since = cfg.Filter.Until.AddDate(0, 0, -31)
		r, err := Run(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		if text, _ := json.Marshal(r); r.Different > 0 || r.OtherRule > 0 || r.Calls != each || r.NotRuled > 0 {
			t.Fatalf("a policy disagrees with itself: %s", text)
		}
		judged += r.Same
		for range 4 {
			rules := randomRules(rnd)
			other := policy(t, rules...)
			truth := map[string]string{}
			for _, c := range all[i] {
				if from, to := made[i].Set.Decide(t.Context(), c).Action, other.Set.Decide(t.Context(), c).Action; from != to {
					truth[c.ID.String()] = string(from + "→" + to)
				}
			}
			for _, baseline := range []*Policy{nil, &made[i]} {
				cfg.Candidate, cfg.Baseline = other, baseline
				r, err := Run(t.Context(), cfg)
				if err != nil {
					t.Fatal(err)
				}
				told := uint64(0)
				for _, d := range r.Details {
					for _, e := range d.Examples {
						if truth[e.ID] != d.From+"→"+d.To {
							t.Fatalf("%+v\ncall %s: %q is told, %q is true", rules, e.ID, d.From+"→"+d.To, truth[e.ID])
						}
						told++
					}
				}
				if told != r.Different || r.Different > uint64(len(truth)) || r.Different+r.Unjudged < uint64(len(truth)) || r.Calls != each {
					t.Fatalf("%+v\n%d are different: %d told, %+v", rules, len(truth), told, r)
				}
				judged, different = judged+r.Same+r.Different, different+r.Different
			}
		}
	}
	if judged < rounds*9*each/2 || different < rounds*each {
		t.Errorf("%d judged, %d different: this tests little", judged, different)
	}
	if _, err := Run(t.Context(), Config{Trail: db, Candidate: made[0]}); err != nil { // without times
		t.Error(err)
	}
}

func TestGroupedAndByRowAgree(t *testing.T) {
	db := database(t)
	rnd := rand.New(rand.NewPCG(5, 5))
	var events []call.Event
	for range 300 {
		events = append(events, recorded(t, randomCall(rnd), call.Decision{Outcome: call.Allow, Rule: "old", Reason: call.ReasonRule}))
	}
	store(t, db, events)
	deny := policies.Rule{Action: policies.Deny, When: `identity.kind == "agent" && !("support" in identity.groups)`}
	var reports []*Report
	for _, more := range []string{"", ` && call.args.size() >= 0`} { // which makes it by row
		deny.When += more
		r, err := Run(t.Context(), Config{Trail: db, Candidate: policy(t, deny, policies.Rule{Action: policies.Allow}), Examples: 4})
		if err != nil {
			t.Fatal(err)
		}
		r.Until = time.Time{}
		reports = append(reports, r)
	}
	// What is by row can't be told of calls with hidden arguments.
	a, b := reports[0], reports[1]
	if a.Unjudged != 0 || b.Unjudged == 0 || a.Different == 0 || a.Different < b.Different || a.Different > b.Different+b.Unjudged {
		t.Errorf("%+v\n%+v", a, b)
	}
	for _, d := range a.Details {
		if len(d.Examples) != int(min(d.Calls, 4)) || !slices.IsSortedFunc(d.Examples, func(x, y Example) int { return y.Time.Compare(x.Time) }) {
			t.Errorf("%+v", d)
		}
	}
}

// A grant lets a call through only at the times at which it was in force.
func TestGiven(t *testing.T) {
	grant := policies.Grant{Name: "grt_1", Identities: []string{"ada"}, Connections: []string{"crm"}, Functions: []string{"*"}}
	hour := func(n int) time.Time { return noon.Add(time.Duration(n) * time.Hour) }
	for name, tt := range map[string]struct {
		when          string
		from, revoked time.Time
		until         time.Time
		allowed       []int // hours from noon, of -2 to 3
	}{
		"for good":                      {allowed: []int{-2, -1, 0, 1, 2, 3}},
		"from then on":                  {from: hour(0), allowed: []int{0, 1, 2, 3}},
		"until then":                    {from: hour(-1), until: hour(2), allowed: []int{-1, 0, 1}},
		"taken back":                    {from: hour(-1), revoked: hour(1), allowed: []int{-1, 0}},
		"taken back before its end":     {revoked: hour(1), until: hour(3), allowed: []int{-2, -1, 0}},
		"taken back after its end":      {revoked: hour(3), until: hour(1), allowed: []int{-2, -1, 0}},
		"with a condition":              {from: hour(0), when: `call.args.amount > 5 || call.args.amount == 1`, allowed: []int{0, 1, 2, 3}},
		"with a condition that is not":  {from: hour(0), when: `call.args.amount > 5`},
		"with a condition and a remark": {from: hour(0), when: "call.args.amount == 1 // fine", allowed: []int{0, 1, 2, 3}},
	} {
		t.Run(name, func(t *testing.T) {
			g := grant
			g.When, g.Until = tt.when, tt.until
			set, err := policy(t).Set.WithGrants([]policies.Grant{Given(g, tt.from, tt.revoked)})
			if err != nil {
				t.Fatal(err)
			}
			for n := -2; n <= 3; n++ {
				c := refund(`{"amount":1}`, func(c *call.Call) { c.Time = hour(n) })
				a, err := set.Assess(t.Context(), c, []policies.Part{{Field: "identity.claims"}})
				if err != nil {
					t.Fatal(err)
				}
				if allowed := a.Ruling.Action == call.ActionAllow; allowed != slices.Contains(tt.allowed, n) || !a.Known {
					t.Errorf("hour %d: %+v", n, a)
				}
			}
		})
	}
}

// Whatever a row holds: reading it ends without a panic, says of each part
// whether it is known, and never takes what stands for a secret as what was sent.
func FuzzFromRow(f *testing.F) {
	f.Add("{\"a\":1}", "/refunds", "allow", "rule", "old", "10.0.0.7:1", "", "x-a", "1", "call.args", "a")
	f.Add("{\"a\":{\"b\":\"hmac:0123456789abcdef0123456789abcdef\"}}", "/x?t=hmac:0123456789abcdef0123456789abcdef", "hold→deny", "refused", "r", "[::1]:9", "body", "user-agent", "hmac:0123456789abcdef0123456789abcdef", "call.headers", "User-Agent")
	f.Add("{\"hmac:0123456789abcdef0123456789abcdef\":1,\"A\":1,\"a\":2}", "", "deny", "credential_missing", "", "nowhere", "b", "cookie", "\ufffd", "session.count", "")
	f.Add("[1]", "\xff", "?", "?", "?", "?", "?", "?", "?", "?", "?")
	f.Fuzz(func(t *testing.T, args, path, decision, reason, rule, source, body, header, value, field, key string) {
		row := &clickhouse.Row{Args: args, Path: path, Decision: decision, Reason: reason, Rule: rule, Source: source, RequestBody: body, RequestBodyBytes: uint64(len(body)) + uint64(len(value)%3),
			RequestHeaders: map[string]string{header: value}, ActorSubjects: []string{rule, path}, ActorIssuers: []string{source}, Time: noon}
		rec := FromRow(row)
		gaps := rec.Gaps([]policies.Part{{Field: field, Key: key}, {Field: "call.args"}, {Field: "call.path"}, {Field: "call.headers", Key: header}, {Field: "identity.claims"}, {Field: "call.body_size"}})
		why := map[string]string{}
		for _, g := range gaps {
			if g.Why == "" {
				t.Fatal("a gap without a reason")
			}
			why[g.Part.Field] = g.Why
		}
		if why["identity.claims"] == "" {
			t.Fatal("claims are known")
		}
		if why["call.path"] == "" && (path == "" || redact.Stands(path)) {
			t.Fatalf("path %q is known", path)
		}
		if why["call.headers"] == "" && redact.Stands(value) && !policies.HeaderHidden(strings.ToLower(header)) && strings.ToLower(header) == header {
			t.Fatalf("header %q is known", value)
		}
		if why["call.args"] == "" {
			if rec.Call.Args == nil || !json.Valid([]byte(args)) {
				t.Fatalf("arguments %q are known", args)
			}
			if again, err := json.Marshal(rec.Call.Args); err != nil || redact.Stands(string(again)) {
				t.Fatalf("arguments %s are known: %v", again, err)
			}
		}
		if rec.Action == "" && rec.Reason == call.ReasonRule {
			t.Fatal("a rule decided, and what is not told")
		}
	})
}
