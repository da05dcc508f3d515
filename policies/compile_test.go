package policies

import (
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/callgate/callgate/call"
)

func TestCompileErrors(t *testing.T) {
	at, when := Position{"p.yaml", 10, 3}, Position{"p.yaml", 12, 9}
	cases := []struct {
		name string
		rule Rule
		want string
	}{
		{"no name", Rule{Action: Allow}, `p.yaml:10:3: rule "": has no name`},
		{"action", Rule{Name: "r", Action: "alow"}, `p.yaml:10:3: rule "r": action "alow" is not known; choose allow, deny, hold or mask; did you mean "allow"?`},
		{"no action", Rule{Name: "r"}, `action "" is not known`},
		{"hold without people", Rule{Name: "r", Action: Hold, Hold: call.Hold{Timeout: time.Minute}}, `names nobody who may approve`},
		{"hold with an empty one", Rule{Name: "r", Action: Hold, Hold: call.Hold{Timeout: time.Minute, Stages: []call.Stage{{Approvers: call.Approvers{Groups: []string{""}}}}}}, `an approver that is empty`},
		{"hold for ever", Rule{Name: "r", Action: Hold, Hold: call.Hold{Timeout: 2 * time.Hour, Stages: []call.Stage{{Approvers: call.Approvers{Groups: []string{"a"}}}}}}, `hold.timeout 2h0m0s is outside`},
		{"hold without time", Rule{Name: "r", Action: Hold, Hold: call.Hold{Stages: []call.Stage{{Approvers: call.Approvers{Groups: []string{"a"}}}}}}, `hold.timeout 0s is outside`},
		{"hold on allow", Rule{Name: "r", Action: Allow, Hold: call.Hold{Timeout: time.Minute}}, `hold is for action hold only`},
		{"mask of nothing", Rule{Name: "r", Action: Mask}, `hides nothing`},
		{"mask on deny", Rule{Name: "r", Action: Deny, Mask: call.MaskRule{Keys: []string{"a"}}}, `mask is for action mask only`},
		{"no such connection", Rule{Name: "r", Action: Allow, Connections: []string{"crn"}}, `there is no connection "crn", so the rule would never look at a call; did you mean "crm"?`},
		{"one of two", Rule{Name: "r", Action: Allow, Connections: []string{"crm", "x*"}}, `there is no connection "x*"`},
		{"no such function", Rule{Name: "r", Action: Allow, Connections: []string{"crm"}, Functions: []string{"refund.create"}}, `has a function "refund.create"; did you mean "refunds.create"?`},
		{"glob", Rule{Name: "r", Action: Allow, Functions: []string{"{a,b}"}}, `functions: "{a,b}" has '{', which globs here don't know`},
		{"glob backslash", Rule{Name: "r", Action: Allow, Connections: []string{`crm\`}}, `ends in a backslash`},
		{"glob empty", Rule{Name: "r", Action: Allow, Connections: []string{""}}, `connections: "" is empty`},
		{"glob long", Rule{Name: "r", Action: Allow, Functions: []string{strings.Repeat("a", 2000)}}, `longer than`},
		{"field", Rule{Name: "r", Action: Allow, When: "call.fnction == 'x'"}, `p.yaml:12:13: rule "r": when: call has no field "fnction"; did you mean "function"?`},
		{"field, far off", Rule{Name: "r", Action: Allow, When: "identity.zzzzzzzzzzzz == 'x'"}, `identity has no field "zzzzzzzzzzzz"; it has acting, actors, claims, groups`},
		{"field of actor", Rule{Name: "r", Action: Allow, When: "identity.actors[0].sub == 'x'"}, `has no field "sub"; it has issuer, subject`},
		{"variable", Rule{Name: "r", Action: Allow, When: "cal.function == 'x'"}, `p.yaml:12:9: rule "r": when: there is no "cal"; a rule can look at call, identity, connection, session, now; did you mean "call"?`},
		{"variable, line 2", Rule{Name: "r", Action: Allow, When: "true &&\n  idenity.subject == 'x'"}, `p.yaml:13:11: rule "r": when: there is no "idenity"`},
		{"bare field", Rule{Name: "r", Action: Allow, When: "function == 'x'"}, `did you mean "call.function"?`},
		{"function", Rule{Name: "r", Action: Allow, When: "call.path.startWith('x')"}, `there is no function "startWith"; did you mean "startsWith"?`},
		{"syntax", Rule{Name: "r", Action: Allow, When: "call.function =="}, `p.yaml:12:25: rule "r": when: Syntax error`},
		{"types", Rule{Name: "r", Action: Allow, When: "call.function > 3"}, `> can't be applied to (string, int)`},
		{"not a truth", Rule{Name: "r", Action: Allow, When: "call.function"}, `must be true or false, but is of type string`},
		{"perhaps a truth", Rule{Name: "r", Action: Allow, When: "call.args.flag"}, `depends on the call, so compare it`},
		{"regex", Rule{Name: "r", Action: Allow, When: "call.function.matches('(')"}, `p.yaml:12:31: rule "r": when: invalid matches argument`},
		{"regex by the caller", Rule{Name: "r", Action: Allow, When: "call.function.matches(call.args.p)"}, `the pattern of matches must be written in the rule`},
		{"regex by the caller, as function", Rule{Name: "r", Action: Allow, When: "matches(call.function, call.args.p)"}, `the pattern of matches must be written in the rule`},
		{"regex built", Rule{Name: "r", Action: Allow, When: "call.function.matches('a' + call.session)"}, `the pattern of matches must be written in the rule`},
		{"regex by the caller, extract", Rule{Name: "r", Action: Allow, When: "regex.extract(call.function, call.args.p).hasValue()"}, `the pattern of regex.extract must be written in the rule`},
		{"regex too large", Rule{Name: "r", Action: Allow, When: "call.function.matches('((a{1,90}){1,90}){1,90}')"}, `p.yaml:12:31: rule "r": when: invalid matches argument`},
		{"regex too large, program", Rule{Name: "r", Action: Allow, When: "call.function.matches('(((((abcdefghi){1,9}){1,9}){1,9}){1,1})')"}, `regex program size`},
		{"nesting", Rule{Name: "r", Action: Allow, When: "[1].exists(a, [1].exists(b, [1].exists(c, a==b && b==c)))"}, `comprehension exceeds nesting limit`},
		{"long", Rule{Name: "r", Action: Allow, When: strings.Repeat("1", 20000) + " == 1"}, `p.yaml:12:9: rule "r": when: expression code point size exceeds limit`},
		{"deep", Rule{Name: "r", Action: Allow, When: strings.Repeat("(", 500) + "true" + strings.Repeat(")", 500)}, `recursion limit`},
		{"made object", Rule{Name: "r", Action: Allow, When: "callgate.Call{function: 'x'} == call && has(identity.nothing)"}, `identity has no field "nothing"`},
		{"duration", Rule{Name: "r", Action: Allow, When: "now - now < duration('1 year')"}, `invalid duration argument`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			c.rule.Position, c.rule.WhenPosition = at, when
			s, err := Compile([]Rule{c.rule}, Config{Connections: known})
			if s != nil || err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
		})
	}
}

// All faults of all rules come at once, each where it stands.
func TestCompileReportsAll(t *testing.T) {
	_, err := Compile([]Rule{
		{Name: "a", Action: Allow, Position: Position{"p", 1, 1}},
		{Name: "a", Action: Allow, Position: Position{"p", 2, 1}},
		{Name: "b", Action: "x", When: "cal.x == idntity.y", Position: Position{"p", 3, 1}, WhenPosition: Position{"p", 4, 1}},
		{Name: "c", Action: Allow, When: "cal.x == idntity.y", Position: Position{"q", 5, 1}, WhenPosition: Position{"q", 6, 1}},
	}, Config{Connections: known})
	var errs Errors
	if !errors.As(err, &errs) {
		t.Fatalf("got %v", err)
	}
	var places []string
	for _, e := range errs {
		places = append(places, e.Position.String())
	}
	// The shared expression is reported for each rule that has it.
	if want := []string{"p:2:1", "p:3:1", "p:4:1", "p:4:10", "q:6:1", "q:6:10"}; !slices.Equal(places, want) {
		t.Errorf("got %q, want %q in\n%v", places, want, err)
	}
	if !strings.Contains(err.Error(), "stands twice, first at p:1:1") {
		t.Error(err)
	}
	if _, err := Compile(nil, Config{Connections: []Connection{{Name: "a"}, {Name: "a"}}}); err == nil {
		t.Error("a connection that stands twice was taken")
	}
}

func FuzzExpression(f *testing.F) {
	for _, s := range []string{"call.function == 'x'", "call.args.a > 1 || has(call.args.b)", "", "(((", "[1].exists(a, a == 1)",
		"call.function.matches('(')", "regex.extract('a', 'a')", "call.?args.a", "'\x00\xff'", "identity.actors[0].x", "1.0e400 == 2", "{}[1]", "a{b:c}",
		"optional.none().orValue(true)", "math.least(1, 2) == 1", "lists.range(9999999999).size() == 1"} {
		f.Add(s)
	}
	v, err := newVocabulary()
	if err != nil {
		f.Fatal(err)
	}
	env, err := newEnv(v, nil)
	if err != nil {
		f.Fatal(err)
	}
	c := refund(map[string]any{"a": int64(1), "b": "x"})
	f.Fuzz(func(t *testing.T, when string) {
		comp := &compiler{cfg: Config{CostLimit: 10_000}, vocabulary: v, env: env}
		got := comp.expression(when)
		if (got.program == nil) == (len(got.faults) == 0) {
			t.Fatalf("%q: program %v, faults %v", when, got.program, got.faults)
		}
		for _, fault := range got.faults {
			if strings.Contains(fault.text, "can't be compiled: ") {
				t.Errorf("%q panicked: %s", when, fault.text)
			}
			if at := fault.in(when, Position{"f", 5, 5}); at.Line < 5 || at.Column < 5 {
				t.Errorf("%q: fault at %s", when, at)
			}
		}
		if got.program != nil {
			in := v.acquire(c)
			defer v.release(in)
			j := judge{ctx: t.Context(), in: in}
			if _, err := j.matches(&rule{when: got.program}); err != nil && explain(err) == "" {
				t.Error("an error without words")
			}
		}
	})
}

// The matcher must agree with the regular expression that says the same.
func FuzzGlob(f *testing.F) {
	for _, s := range [][2]string{{"a*b", "axxb"}, {"*", ""}, {"**a?", "bab"}, {`\*a`, "*a"}, {"a*b*c", "abbbc"}, {"?", "é"}, {"*?", "\xff"},
		{"refunds.*", "refunds.create"}, {"tools/call *", "tools/call search"}, {"a*a*a*a*b", "aaaaaaaaaaaa"}} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, pattern, s string) {
		g, err := parseGlob(pattern)
		if err != nil {
			return
		}
		var re strings.Builder
		for i, esc := 0, false; i < len(pattern); i++ {
			switch c := pattern[i]; {
			case esc:
				re.WriteString(regexp.QuoteMeta(pattern[i : i+1]))
				esc = false
			case c == '\\':
				esc = true
			case c == '*':
				re.WriteString(`.*`)
			case c == '?':
				re.WriteString(`.`)
			case c < 0x80:
				re.WriteString(regexp.QuoteMeta(string(c)))
			default:
				re.WriteByte(c)
			}
		}
		want, err := regexp.Compile(`(?s)^(?:` + re.String() + `)$`)
		if err != nil {
			return
		}
		if got := g.match(s); got != want.MatchString(s) {
			t.Errorf("%q on %q: %v", pattern, s, got)
		}
	})
}
