package suggest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/call/protocol"
	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/policies"
	"github.com/callgate/callgate/policies/backtest"
)

var connections = []policies.Connection{{Name: "crm", Protocol: call.HTTP}, {Name: "erp", Protocol: call.HTTP}}

// load reads a suggestion as a replica would.
func load(t testing.TB, text []byte) (backtest.Policy, config.Policy) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "suggested.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := config.CheckPolicy(file)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	var grants []policies.Grant
	for _, g := range p.Grants {
		grants = append(grants, policies.Grant{Name: g.Name, Identities: g.Identities, Groups: g.Groups, Actors: g.Actors, Connections: g.Connections, Functions: g.Functions,
			When: g.When, Until: g.Until})
	}
	set, err := policies.Compile(nil, policies.Config{Connections: connections, Grants: grants, Replay: true})
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return backtest.Policy{Set: set, Connections: connections}, p
}

// suggested runs the whole: what is suggested, loaded again and covered.
func suggested(t testing.TB, tr trail, change ...func(*Config)) (*Result, backtest.Policy, Coverage, string) {
	t.Helper()
	cfg := Config{Trail: tr, Filter: window()}
	for _, f := range change {
		f(&cfg)
	}
	r, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	if err := r.Write(&text); err != nil {
		t.Fatal(err)
	}
	policy, _ := load(t, text.Bytes())
	coverage, err := r.Cover(t.Context(), policy)
	if err != nil {
		t.Fatal(err)
	}
	if coverage.Denied+coverage.Widened > 0 {
		t.Errorf("%s\n%s", coverage, text.String())
	}
	text.Reset()
	if err := r.Write(&text); err != nil {
		t.Fatal(err)
	}
	load(t, text.Bytes()) // also with what is not covered
	return r, policy, coverage, text.String()
}

// Each trail is suggested from; then more calls are tried against it.
func TestSuggest(t *testing.T) {
	ada := made{who: "ada", groups: []string{"support"}}
	with := func(m made, args string) made { m.args = args; return m }
	numbered := func(args string, values ...any) (list []made) {
		for _, v := range values {
			list = append(list, with(ada, fmt.Sprintf(args, v)))
		}
		return list
	}
	for name, tt := range map[string]struct {
		seen    []made
		change  func(*Config)
		pass    []made
		stop    []made
		says    []string // in the file
		silent  []string // nowhere in it
		covered uint64
	}{
		"an identity and function": {seen: times(5, ada), pass: []made{ada},
			stop: []made{{who: "bob"}, {who: "https://evil|ada"}, {who: "ada", function: "refunds.delete"}, {who: "ada", connection: "erp"}, with(ada, `{"x":1}`),
				{who: "ada", actors: []string{"https://idp|bot"}}},
			says: []string{"# 5 calls on 1 day, from 2026-11-01 to 2026-11-01", `https://idp|ada`, "refunds.create"}, covered: 5},
		"too seldom": {seen: append(times(4, ada), times(6, made{who: "bob"})...), pass: []made{{who: "bob"}}, stop: []made{ada},
			says: []string{"# - ada, refunds.create on crm: 4 calls, fewer than 5 calls"}, covered: 6},
		"seldom, but enough": {seen: times(1, ada), change: func(c *Config) { c.MinCalls = 1 }, pass: []made{ada}, covered: 1},
		"denied calls count for nothing": {seen: append(times(5, ada), times(9, made{who: "eve", denied: true})...), pass: []made{ada}, stop: []made{{who: "eve"}},
			silent: []string{"|eve"}, covered: 5},
		"held ones are told": {seen: times(5, made{who: "ada", held: true}), pass: []made{ada}, says: []string{"# 5 of them were held"}, covered: 5},
		"a few values": {seen: slices.Concat(times(20, with(ada, `{"state":"open"}`)), times(20, with(ada, `{"state":"done"}`))), pass: []made{with(ada, `{"state":"done"}`)},
			stop: []made{with(ada, `{"state":"gone"}`), with(ada, `{"state":"Open"}`), with(ada, `{}`), with(ada, `{"state":["open"]}`), with(ada, `{"state":null}`), with(ada, `{"state":"open","x":1}`)},
			says: []string{`call.args.state in ["done", "open"]`}, covered: 40},
		"no values": {seen: times(40, with(ada, `{"state":"secretive","n":7,"on":true}`)), change: func(c *Config) { c.NoValues = true },
			pass: []made{with(ada, `{"state":"other","n":7,"on":false}`)}, stop: []made{with(ada, `{"state":"too long to be","n":7,"on":true}`), with(ada, `{"state":"a","n":8,"on":true}`)},
			silent: []string{"secretive", "personal"}, covered: 40},
		"numbers": {seen: times(97, with(ada, `{"amount":1%d}`)), pass: []made{with(ada, `{"amount":10}`), with(ada, `{"amount":200}`), with(ada, `{"amount":13.5}`)},
			stop: []made{with(ada, `{"amount":9}`), with(ada, `{"amount":201}`), with(ada, `{"amount":-1}`), with(ada, `{"amount":"50"}`), with(ada, `{"amount":1e9}`)},
			says: []string{"call.args.amount >= 10", "call.args.amount <= 200"}, covered: 97},
		"numbers and one far away": {seen: append(times(97, with(ada, `{"amount":1%d}`)), with(ada, `{"amount":1000000}`), with(ada, `{"amount":-5000}`)),
			pass: []made{with(ada, `{"amount":150}`)}, stop: []made{with(ada, `{"amount":1000000}`), with(ada, `{"amount":201}`), with(ada, `{"amount":-5000}`)},
			says: []string{"2 calls, a value lies far from all others"}, covered: 97},
		"a text's beginning and length": {seen: times(50, with(ada, `{"id":"cust-%d"}`)), pass: []made{with(ada, `{"id":"cust-77"}`)},
			stop: []made{with(ada, `{"id":"prod-77"}`), with(ada, `{"id":"cust-7777777"}`), with(ada, `{"id":7}`)}, says: []string{`startsWith("cust-")`, "size(call.args.id) <= 7"}, covered: 50},
		"optional": {seen: append(times(30, with(ada, `{"n":5}`)), times(30, with(ada, `{}`))...), pass: []made{with(ada, `{}`), with(ada, `{"n":5}`)},
			stop: []made{with(ada, `{"n":6}`), with(ada, `{"m":5}`)}, covered: 60},
		"nested": {seen: times(30, with(ada, `{"customer":{"id":"c-1","tags":["a","b"],"deep":{"x":{"y":{"z":1}}}}}`)),
			pass: []made{with(ada, `{"customer":{"id":"c-1","tags":["b"],"deep":{"x":{"y":{"z":1}}}}}`)},
			stop: []made{with(ada, `{"customer":{"id":"c-2","tags":["b"],"deep":{"x":{"y":{"z":1}}}}}`), with(ada, `{"customer":{"id":"c-1","tags":["c"],"deep":{"x":{"y":{"z":1}}}}}`),
				with(ada, `{"customer":{"id":"c-1","tags":["a","b","a"],"deep":{"x":{"y":{"z":1}}}}}`), with(ada, `{"customer":"c-1"}`), with(ada, `{"customer":{"id":"c-1"}}`),
				with(ada, `{"customer":{"id":"c-1","tags":["b"],"deep":{"x":{"w":{"z":1}}}}}`)}, covered: 30},
		"a list of objects": {seen: times(30, with(ada, `{"lines":[{"sku":"a","n":1},{"sku":"a","n":1}]}`)), pass: []made{with(ada, `{"lines":[]}`), with(ada, `{"lines":[{"sku":"a","n":1}]}`)},
			stop: []made{with(ada, `{"lines":[{"sku":"b","n":1}]}`), with(ada, `{"lines":[{"sku":"a","n":1,"x":1}]}`), with(ada, `{"lines":[{"sku":"a"}]}`), with(ada, `{"lines":[1]}`)}, covered: 30},
		"several types": {seen: slices.Concat(times(20, with(ada, `{"v":1}`)), times(20, with(ada, `{"v":"x"}`)), times(20, with(ada, `{"v":null}`)), times(20, with(ada, `{"v":[true]}`))),
			pass: []made{with(ada, `{"v":1}`), with(ada, `{"v":"x"}`), with(ada, `{"v":null}`), with(ada, `{"v":[true]}`)},
			stop: []made{with(ada, `{"v":2}`), with(ada, `{"v":"y"}`), with(ada, `{"v":[false]}`), with(ada, `{"v":{}}`), with(ada, `{"v":true}`)}, covered: 80},
		"names that are no words": {seen: times(30, with(ada, `{"a-b":1,"in":2,"x\"y\\\n":3,"ü":4,"":5}`)), pass: []made{with(ada, `{"a-b":1,"in":2,"x\"y\\\n":3,"ü":4,"":5}`)},
			stop: []made{with(ada, `{"a-b":2,"in":2,"x\"y\\\n":3,"ü":4,"":5}`), with(ada, `{"a-b":1,"in":3,"x\"y\\\n":3,"ü":4,"":5}`), with(ada, `{}`)}, covered: 30},
		"a credential is never written": {seen: append(times(30, with(ada, `{"password":"hunter2","n":5}`)), times(30, made{who: "bob", args: `{"key":"ghp_abcdefghijklmnopqrstuvwxyz0123"}`})...),
			pass: []made{with(ada, `{"password":"other","n":5}`)}, stop: []made{with(ada, `{"password":"other","n":6}`)}, silent: []string{"hunter2", "hmac", "ghp_"}, covered: 60},
		"nor one that was recorded": {seen: slices.Concat(times(30, made{who: "ada", raw: true, args: `{"text":"ghp_abcdefghijklmnopqrstuvwxyz0123","pin":12345,"password":"hunter2"}`}),
			times(30, made{who: "ada", function: "f", raw: true, args: `{"list":["Bearer abcdefgh1234"],"deep":{"api_key":7777}}`})), silent: []string{"ghp_", "hunter2", "Bearer", "7777"}, covered: 60},
		"functions like patterns": {seen: slices.Concat(times(5, made{who: "ada", function: "a*"}), times(5, made{who: "ada", function: `r[1]{2}\?`})),
			pass: []made{{who: "ada", function: "a*"}, {who: "ada", function: `r[1]{2}\?`}}, stop: []made{{who: "ada", function: "ab"}, {who: "ada", function: `r[1]{2}\x`}}, covered: 10},
		"through an agent": {seen: times(5, made{who: "ada", actors: []string{"https://idp|bot"}}), pass: []made{{who: "ada", actors: []string{"https://idp|bot"}}},
			stop: []made{{who: "ada"}, {who: "ada", actors: []string{"https://idp|cron"}}, {who: "ada", actors: []string{"https://evil|bot"}}, {who: "bot"},
				{who: "ada", actors: []string{"https://idp|bot", "https://idp|bot"}}}, covered: 5},
		"through two agents": {seen: times(5, made{who: "ada", actors: []string{"https://idp|bot", "|cron"}}), pass: []made{{who: "ada", actors: []string{"https://idp|bot", "|cron"}}},
			stop: []made{{who: "ada"}, {who: "ada", actors: []string{"https://idp|bot"}}, {who: "ada", actors: []string{"|cron", "https://idp|bot"}}}, covered: 5},
		"an issuer that is no URL": {seen: times(5, made{who: "spiffe:x|ada"}), pass: []made{{who: "spiffe:x|ada"}}, stop: []made{{who: "ada"}}, covered: 5},
		"a group that did the same": {seen: slices.Concat(times(5, made{who: "ada", groups: []string{"all", "support"}}), times(5, made{who: "bob", groups: []string{"all", "support"}}),
			times(5, made{who: "eve", groups: []string{"all"}, function: "other"})), says: []string{"groups:\n", "- support"}, silent: []string{"|bob"},
			pass: []made{{who: "ada", groups: []string{"support"}}}, stop: []made{{who: "ada"}, {who: "eve", groups: []string{"all"}}}, covered: 15},
		"a group of which one did not": {seen: slices.Concat(times(5, made{who: "ada", groups: []string{"support"}}), times(5, made{who: "bob", groups: []string{"support"}}),
			times(5, made{who: "eve", groups: []string{"support"}, denied: true})), silent: []string{"groups:"}, says: []string{"https://idp|bob"}, stop: []made{{who: "eve", groups: []string{"support"}}}, covered: 10},
		"functions used alike":         {seen: slices.Concat(times(5, made{who: "ada", function: "a"}), times(5, made{who: "ada", function: "b"})), says: []string{"functions:\n      - a\n      - b\n"}, covered: 10},
		"no identity":                  {seen: times(9, made{who: ""}), says: []string{"# - nobody, refunds.create on crm: 9 calls, nobody was identified"}, stop: []made{{who: ""}}},
		"nothing at all":               {says: []string{"grants: []"}},
		"a connection that is gone":    {seen: times(9, made{who: "ada", connection: "old"}), change: func(c *Config) { c.Connections = []string{"crm"} }, says: []string{"has no such connection"}},
		"a name that breaks lines":     {seen: times(4, made{who: "ada\ngrants: [everything]\n#"}), silent: []string{"\ngrants: [everything]"}},
		"a function that breaks lines": {seen: times(9, made{who: "ada\n- x: y", function: "f\n  when: true"}), pass: []made{{who: "ada\n- x: y", function: "f\n  when: true"}}, stop: []made{{who: "ada", function: "f"}}, covered: 9},
		"numbers of any size":          {change: func(c *Config) { c.MinCalls = 1 }, seen: numbered(`{"n":%v}`, 0.125, 1, 12345, 999999, "9223372036854775807", "-9223372036854775808", 0, "1e300", "0.1", 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17), covered: 21},
	} {
		t.Run(name, func(t *testing.T) {
			var change []func(*Config)
			if tt.change != nil {
				change = append(change, tt.change)
			}
			_, policy, coverage, text := suggested(t, record(t, tt.seen...), change...)
			if coverage.Covered != tt.covered || coverage.Unjudged > 0 {
				t.Errorf("%+v, want %d covered", coverage, tt.covered)
			}
			for _, s := range tt.says {
				if !strings.Contains(text, s) {
					t.Errorf("does not say %q", s)
				}
			}
			for _, s := range tt.silent {
				if strings.Contains(text, s) {
					t.Errorf("says %q", s)
				}
			}
			for want, list := range map[call.Action][]made{call.ActionAllow: tt.pass, call.ActionDeny: tt.stop} {
				for _, m := range list {
					c := m.call(t, 0)
					var err error
					if c.Args, err = protocol.Arguments(c.ArgsJSON); err != nil {
						t.Fatal(err)
					}
					r := policy.Set.Decide(t.Context(), c)
					if r.Action != want || r.Reason == call.ReasonPolicyError {
						t.Errorf("%+v: %s (%s), want %s", m, r.Action, r.Message, want)
					}
				}
			}
			if t.Failed() {
				t.Log(text)
			}
		})
	}
}

// randomArgs are arguments of all kinds.
func randomArgs(rnd *rand.Rand, level int) any {
	switch n := rnd.IntN(10); {
	case n < 2:
		return rnd.IntN(300) - 50
	case n == 2:
		return rnd.Float64() * 100
	case n < 5:
		return []string{"", "open", "done", "cust-" + fmt.Sprint(rnd.IntN(1000)), "käse \u2028 \x01", "hmac:x", strings.Repeat("x", rnd.IntN(100)), "Bearer abcdef123456"}[rnd.IntN(8)]
	case n == 5:
		return rnd.IntN(2) == 0
	case n == 6:
		return nil
	case level > 4:
		return 1e6 * float64(rnd.IntN(2))
	case n == 7:
		list := []any{}
		for range rnd.IntN(3) {
			list = append(list, randomArgs(rnd, level+1))
		}
		return list
	default:
		m := map[string]any{}
		for range rnd.IntN(3) {
			m[[]string{"a", "b", "x-y", "in", "token", "note", fmt.Sprint("k", rnd.IntN(60))}[rnd.IntN(7)]] = randomArgs(rnd, level+1)
		}
		return m
	}
}

// Whatever was seen: the grants load, let all of it pass that they say they
// cover, nothing that they say they don't, and never fail.
func TestAlwaysCovers(t *testing.T) {
	rnd := rand.New(rand.NewPCG(9, 9))
	for round := range 15 {
		var calls []made
		for range 200 {
			m := made{who: []string{"ada", "bob", "urn:x|eve"}[rnd.IntN(3)], function: []string{"f", "g*", "h"}[rnd.IntN(3)], groups: []string{"staff"}, held: rnd.IntN(5) == 0, denied: rnd.IntN(9) == 0}
			if rnd.IntN(3) == 0 {
				m.actors = []string{"https://idp|bot"}
			}
			args := map[string]any{}
			for _, k := range []string{"amount", "note", "when"} {
				if rnd.IntN(2+round%3) > 0 {
					args[k] = randomArgs(rnd, 0)
				}
			}
			text, err := json.Marshal(args)
			if err != nil {
				t.Fatal(err)
			}
			m.args = string(text)
			calls = append(calls, m)
		}
		_, policy, coverage, text := suggested(t, record(t, calls...), func(c *Config) { c.NoValues, c.MinCalls, c.Workers = round%4 == 0, 1+round%7, 1+round%3 })
		if coverage.Calls == 0 || coverage.Covered < coverage.Calls/2 {
			t.Errorf("%s", coverage)
		}
		if strings.Contains(text, "Bearer") || strings.Contains(text, "hmac:0") {
			t.Errorf("a credential is written")
		}
		for i := range 200 { // of others it makes denials, and never a failure
			c := calls[rnd.IntN(len(calls))].call(t, i)
			c.Args = map[string]any{"amount": plain(t, randomArgs(rnd, 0)), "note": plain(t, randomArgs(rnd, 0)), "when": plain(t, randomArgs(rnd, 0))}
			if r := policy.Set.Decide(t.Context(), c); r.Reason == call.ReasonPolicyError {
				t.Fatalf("%s\n%v\n%s", r.Message, c.Args, text)
			}
		}
	}
}

// plain is v as a call's arguments have it.
func plain(t testing.TB, v any) any {
	t.Helper()
	text, err := json.Marshal(map[string]any{"v": v})
	if err != nil {
		t.Fatal(err)
	}
	args, err := protocol.Arguments(text)
	if err != nil {
		t.Fatal(err)
	}
	return args["v"]
}

// The same calls give the same file, in whatever pieces they are read.
func TestSameAgain(t *testing.T) {
	rnd := rand.New(rand.NewPCG(2, 2))
	var calls []made
	for range 1500 {
		calls = append(calls, made{who: fmt.Sprint("u", rnd.IntN(9)), function: fmt.Sprint("f", rnd.IntN(4)), groups: []string{fmt.Sprint("g", rnd.IntN(2))},
			args: fmt.Sprintf(`{"n":%d,"s":"x-%d"}`, rnd.IntN(1000)*rnd.IntN(1000), rnd.IntN(30))})
	}
	tr := record(t, calls...)
	_, _, _, first := suggested(t, tr)
	for range 3 {
		rnd.Shuffle(len(tr), func(i, j int) { tr[i], tr[j] = tr[j], tr[i] })
		if _, _, _, again := suggested(t, tr, func(c *Config) { c.Workers = 1 + rnd.IntN(4) }); again != first {
			t.Fatalf("%s\n\n%s", first, again)
		}
	}
}

// The guide's example is one that loads.
func TestGuide(t *testing.T) {
	text, err := os.ReadFile("../../docs/guide/backtest.md")
	if err != nil {
		t.Fatal(err)
	}
	_, example, _ := strings.Cut(string(text), "```yaml\n")
	example, _, found := strings.Cut(example, "```")
	if _, p := load(t, []byte(example)); !found || len(p.Grants) != 1 {
		t.Errorf("%d grants in %q", len(p.Grants), example)
	}
}
