package policies

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/callgate/callgate/call"
)

// held holds what a rule of the tests looks at.
func held(when string) Rule {
	return Rule{Name: "hold", Action: Hold, When: when, Hold: call.Hold{Timeout: time.Minute, Stages: []call.Stage{{Approvers: call.Approvers{Groups: []string{"a"}}}}}}
}

func TestAssess(t *testing.T) {
	allow := func(when string) Rule { return Rule{Name: "allow", Action: Allow, When: when} }
	deny := func(when string) Rule { return Rule{Name: "deny", Action: Deny, When: when} }
	token, claims, args, headers := Part{"call.args", "token"}, Part{"identity.claims", ""}, Part{"call.args", ""}, Part{"call.headers", ""}
	const unknown = call.Action("")
	for name, c := range map[string]struct {
		rules   []Rule
		missing []Part
		want    call.Action
		needs   []Part
	}{
		"nothing missing":                           {[]Rule{allow(`call.args.amount == 50`)}, nil, call.ActionAllow, nil},
		"missing and not looked at":                 {[]Rule{allow(`call.args.amount == 50`)}, []Part{token, claims}, call.ActionAllow, nil},
		"looked at":                                 {[]Rule{allow(`call.args.token == "x"`)}, []Part{token}, unknown, []Part{token}},
		"presence looked at":                        {[]Rule{allow(`has(call.args.token)`)}, []Part{token}, unknown, []Part{token}},
		"by index":                                  {[]Rule{allow(`call.args["token"] == "x"`)}, []Part{token}, unknown, []Part{token}},
		"by an optional":                            {[]Rule{allow(`call.args[?"token"].orValue("") == "x"`)}, []Part{token}, unknown, []Part{token}},
		"by a key that the call gives":              {[]Rule{allow(`call.args[call.args.key] == "x"`)}, []Part{token}, unknown, []Part{args}},
		"the key is another one":                    {[]Rule{allow(`call.args[call.args.key + "2"] == "x"`)}, []Part{token}, call.ActionDeny, nil},
		"by all keys":                               {[]Rule{allow(`call.args.exists(k, k == "amount")`)}, []Part{token}, unknown, []Part{args}},
		"by one key in a loop":                      {[]Rule{allow(`["token"].exists(k, has(call.args.token))`)}, []Part{token}, unknown, []Part{token}},
		"by the whole":                              {[]Rule{allow(`size(call.args) == 3`)}, []Part{token}, unknown, []Part{args}},
		"by the whole call":                         {[]Rule{allow(`[call].exists(c, c.args.token == "x")`)}, []Part{token}, unknown, []Part{{"call", ""}}},
		"through dyn":                               {[]Rule{allow(`dyn(call).args.token == "x"`)}, []Part{token}, unknown, []Part{{"call", ""}}},
		"by a condition's branch":                   {[]Rule{allow(`(call.args.amount == 50 ? call.args : call.args).token == "x"`)}, []Part{token}, unknown, []Part{args}},
		"in the branch not taken":                   {[]Rule{allow(`call.args.amount == 50 ? true : call.args.token == "x"`)}, []Part{token}, call.ActionAllow, nil},
		"behind what is false":                      {[]Rule{allow(`call.args.amount > 50 && call.args.token == "x"`)}, []Part{token}, call.ActionDeny, nil},
		"before what is true":                       {[]Rule{allow(`call.args.token == "x" || call.args.amount == 50`)}, []Part{token}, call.ActionAllow, nil},
		"a local of the same name":                  {[]Rule{allow(`[{"args": {"token": "x"}}].exists(call, call.args.token == "x")`)}, []Part{token}, call.ActionAllow, nil},
		"an unknown deny before a certain one":      {[]Rule{deny(`call.args.token == "x"`), {Name: "d2", Action: Deny}}, []Part{token}, call.ActionDeny, nil},
		"an unknown deny where nothing allows":      {[]Rule{deny(`call.args.token == "x"`)}, []Part{token}, call.ActionDeny, nil},
		"an unknown deny before an allow":           {[]Rule{deny(`call.args.token == "x"`), allow("")}, []Part{token}, unknown, []Part{token}},
		"an unknown allow after a certain deny":     {[]Rule{allow(`call.args.token == "x"`), deny("")}, []Part{token}, call.ActionDeny, nil},
		"an unknown allow after a hold":             {[]Rule{allow(`call.args.token == "x"`), held("")}, []Part{token}, call.ActionHold, nil},
		"an unknown hold before an allow":           {[]Rule{held(`call.args.token == "x"`), allow("")}, []Part{token}, unknown, []Part{token}},
		"an unknown hold before a hold might fail":  {[]Rule{held(`call.args.token == "x"`), {Name: "h2", Action: Hold, Hold: held("").Hold}}, []Part{token}, unknown, []Part{token}},
		"an unknown allow before one might fail":    {[]Rule{allow(`call.args.token == "x"`), {Name: "a2", Action: Allow}}, []Part{token}, unknown, []Part{token}},
		"an unknown allow after one":                {[]Rule{{Name: "a1", Action: Allow}, allow(`call.args.token == "x"`)}, []Part{token}, call.ActionAllow, nil},
		"an unknown mask might fail":                {[]Rule{allow(""), {Name: "m", Action: Mask, When: `call.args.token == "x"`, Mask: call.MaskRule{Keys: []string{"a"}}}}, []Part{token}, unknown, []Part{token}},
		"an unknown mask of a denied call":          {[]Rule{{Name: "m", Action: Mask, When: `call.args.token == "x"`, Mask: call.MaskRule{Keys: []string{"a"}}}}, []Part{token}, call.ActionDeny, nil},
		"a rule in shadow":                          {[]Rule{allow(""), {Name: "s", Action: Deny, Shadow: true, When: `call.args.token == "x"`}}, []Part{token}, call.ActionAllow, nil},
		"claims":                                    {[]Rule{allow(`identity.claims.dept == "x"`)}, []Part{claims}, unknown, []Part{{"identity.claims", "dept"}}},
		"claims as a whole":                         {[]Rule{allow(`"dept" in identity.claims`)}, []Part{claims}, unknown, []Part{claims}},
		"a header in another case":                  {[]Rule{allow(`call.headers["X-A"] == "x"`)}, []Part{{"call.headers", "x-a"}}, unknown, []Part{{"call.headers", "X-A"}}},
		"another header":                            {[]Rule{allow(`!("x-b" in call.headers) && call.headers["x-c"] == "c"`)}, []Part{{"call.headers", "x-a"}}, unknown, []Part{headers}},
		"another header by name":                    {[]Rule{allow(`call.headers["x-c"] == "c"`)}, []Part{{"call.headers", "x-a"}}, call.ActionAllow, nil},
		"the time":                                  {[]Rule{allow(`now > timestamp("2020-01-01T00:00:00Z")`)}, []Part{{"now", ""}}, unknown, []Part{{"now", ""}}},
		"a function's argument":                     {[]Rule{allow(`"a".startsWith(call.args.token)`)}, []Part{token}, unknown, []Part{token}},
		"what fails anyway":                         {[]Rule{allow(`call.args.none == call.args.token`)}, []Part{token}, call.ActionDeny, nil},
		"what fails before":                         {[]Rule{deny(`call.args.none == 1`), allow(`call.args.token == "x"`)}, []Part{token}, call.ActionDeny, nil},
		"all arguments missing, identity looked at": {[]Rule{allow(`identity.subject == "agent-7"`)}, []Part{args}, call.ActionAllow, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := Compile(c.rules, Config{Version: "v1", Connections: known, Replay: true})
			if err != nil {
				t.Fatal(err)
			}
			what := refund(map[string]any{"amount": int64(50), "token": "hmac:?", "key": "token"})
			what.Request.Headers = call.Headers{{Name: "x-c", Value: "c"}}
			got, err := s.Assess(t.Context(), what, c.missing)
			if err != nil {
				t.Fatal(err)
			}
			if got.Known != (c.want != unknown) || got.Ruling.Action != c.want || !slices.Equal(got.Needs, c.needs) {
				t.Errorf("%+v, want %q, needs %v", got, c.want, c.needs)
			}
		})
	}
}

func TestReads(t *testing.T) {
	for when, want := range map[string][]Part{
		`true`:                                   nil,
		`call.args.a.b == 1 && call.args.c == 2`: {{"call.args", "a"}, {"call.args", "c"}},
		`call.args[call.method] == 1`:            {{"call.args", ""}, {"call.method", ""}},
		`has(identity.claims.x)`:                 {{"identity.claims", "x"}},
		`identity.groups.exists(g, g == "a")`:    {{"identity.groups", ""}},
		`["a"].exists(call, call == "a")`:        nil,
		`["a"].exists(k, call.args[?k] == optional.none()) || now > now`: {{"call.args", ""}, {"now", ""}},
		`[identity].exists(i, i.subject == "a")`:                         {{"identity", ""}},
		`call.headers["X-A"] == "1"`:                                     {{"call.headers", "X-A"}},
		`{"a": call.session}.a == connection.name`:                       {{"call.session", ""}, {"connection.name", ""}},
	} {
		s, err := Compile([]Rule{{Name: "r", Action: Allow, When: when}}, Config{Connections: known, Replay: true})
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Reads("crm", "refunds.create"); !slices.Equal(got, want) {
			t.Errorf("%s reads %v, want %v", when, got, want)
		}
	}
}

// Whatever a missing part holds, what Assess is sure of is what Decide says.
func TestAssessIsSound(t *testing.T) {
	conditions := []string{
		`call.args.a == 1`, `call.args.a > 1`, `has(call.args.a)`, `!has(call.args.b)`, `call.args.exists(k, k == "b")`, `call.args.a + call.args.b > 3`,
		`call.args[?"a"].orValue(0) == 1`, `size(call.args) > 1`, `call.args.c.x == "y"`, `call.args == {"a": 1}`, `call.args.c in ["s", 1]`,
		`[1, 2].exists(x, x == call.args.a)`, `call.args.a in [1, 2] || call.args.b == 2`, `(call.method == "POST" ? call.args.a : call.args.b) == 1`,
		`identity.claims.dept == "x"`, `has(identity.claims.dept) && call.args.a == 1`, `"dept" in identity.claims || true`, `call.session == "s"`,
		`call.args.map(k, call.args[k]).size() == 2`, `type(call.args.a) == int`, `string(call.args.a) == "1"`, `[call.args].exists(m, m == {"a": 1})`,
		`call.args.c.exists(i, i == 1)`, `call.args.?c.x.orValue("") == "y"`, `dyn(call.args.a) == dyn(call.args.b)`, `call.headers["X-H"] == "1"`, `"x-h" in call.headers`,
	}
	values := []any{int64(1), int64(2), 1.5, "s", nil, true, []any{int64(1)}, map[string]any{"x": "y"}, struct{}{}} // the last: absent
	rnd := rand.New(rand.NewPCG(3, 3))
	args := func(from map[string]any, keys ...string) map[string]any {
		out := map[string]any{}
		for k, v := range from {
			out[k] = v
		}
		for _, k := range keys {
			delete(out, k)
			v := values[rnd.IntN(len(values))]
			if _, absent := v.(struct{}); !absent {
				out[k] = v
			}
		}
		return out
	}
	known, told := 0, 0
	for range 1000 {
		var rules []Rule
		for i := range 1 + rnd.IntN(5) {
			r := Rule{Name: fmt.Sprint(i), When: conditions[rnd.IntN(len(conditions))], Action: []string{Deny, Hold, Allow, Allow, Mask}[rnd.IntN(5)]}
			if rnd.IntN(3) == 0 {
				r.When = fmt.Sprintf("(%s) %s (%s)", r.When, []string{"&&", "||"}[rnd.IntN(2)], conditions[rnd.IntN(len(conditions))])
			}
			switch r.Action {
			case Hold:
				r.Hold = held("").Hold
			case Mask:
				r.Mask = call.MaskRule{Keys: []string{"k"}}
			}
			rules = append(rules, r)
		}
		s, err := Compile(rules, Config{Connections: []Connection{{Name: "crm", Protocol: call.HTTP}}, Replay: true})
		if err != nil {
			t.Fatal(err)
		}
		base := refund(args(nil, "a", "b", "c"))
		var missing []Part
		var keys []string
		claims, header, session := rnd.IntN(3) == 0, rnd.IntN(3) == 0, rnd.IntN(3) == 0
		for _, k := range []string{"a", "b", "c"} {
			if rnd.IntN(2) == 0 {
				keys, missing = append(keys, k), append(missing, Part{"call.args", k})
			}
		}
		if rnd.IntN(4) == 0 {
			keys, missing = []string{"a", "b", "c"}, []Part{{"call.args", ""}}
		}
		if claims {
			missing = append(missing, Part{"identity.claims", ""})
		}
		if header {
			missing = append(missing, Part{"call.headers", "x-h"})
		}
		if session {
			missing = append(missing, Part{"call.session", ""})
		}
		got, err := s.Assess(t.Context(), base, missing)
		if err != nil {
			t.Fatal(err)
		}
		told++
		if !got.Known {
			continue
		}
		known++
		for range 30 {
			filled := *base
			filled.Args = args(base.Args, keys...)
			if claims {
				filled.Identity.Claims = []map[string]any{nil, {"dept": "x"}, {"dept": int64(1)}}[rnd.IntN(3)]
			}
			if header {
				filled.Request.Headers = []call.Headers{nil, {{Name: "x-h", Value: "1"}}}[rnd.IntN(2)]
			}
			if session {
				filled.Session = []string{"", "s"}[rnd.IntN(2)]
			}
			if want := s.Decide(t.Context(), &filled); want.Action != got.Ruling.Action || got.Ruling.Rule != "" && got.Ruling.Rule != want.Rule {
				t.Fatalf("rules %+v\nmissing %v\nassessed %+v\nwith %v it is %+v", rules, missing, got.Ruling, filled.Args, want)
			}
		}
	}
	if known < told/10 || known == told {
		t.Errorf("%d of %d are known: this tests little", known, told)
	}
}
