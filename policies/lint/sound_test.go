package lint_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/policies"
	"github.com/callgate/callgate/policies/lint"
)

// atoms are conditions that overlap in every way that package condition knows,
// and some that it doesn't.
var atoms = []string{
	`call.args.x == 1`, `call.args.x != 1`, `call.args.x == 2.0`, `call.args.x > 1`, `call.args.x >= 1`, `call.args.x < 2`, `call.args.x <= 0.5`, `2 > call.args.x`,
	`call.args.x in [1, 2]`, `call.args.x in ["a", 1]`, `call.args.x == "a"`, `call.args.x < "b"`, `call.args.x == true`, `call.args.x == null`,
	`has(call.args.x)`, `has(call.args.y)`, `call.args.y == 1`, `call.args["y"] > 0`, `call.args.y.z == 1`, `has(call.args.y.z)`, `"x" in call.args`, `"z" in call.args.y`,
	`"a" in identity.groups`, `identity.kind == "human"`, `identity.kind in ["ci", "agent"]`, `identity.kind != "workload"`,
	`call.function == "f"`, `call.function.startsWith("f")`, `call.connection == "c"`, `connection.name != "c"`, `call.args.x == call.args.y`,
	`call.session == ""`, `has(call.session)`, `true`, `false`, `1 > 2`, `call.args.list.exists(e, e == call.args.x)`,
}

// callsToTry are all combinations of values that the atoms tell apart.
func callsToTry() []call.Call {
	var out []call.Call
	missing := "missing"
	for _, x := range []any{missing, int64(0), int64(1), int64(2), 0.5, 1.5, "a", "c", true, nil} {
		for _, y := range []any{missing, int64(1), int64(-1), map[string]any{"z": int64(1)}} {
			for i, who := range []call.Identity{{Subject: "s", Kind: call.Human, Groups: []string{"a"}}, {Subject: "s", Kind: call.CI}, {Subject: "s", Kind: call.Workload}} {
				for _, at := range [][2]string{{"c", "f"}, {"c", "g"}, {"d", "f"}, {"d", "ff"}} {
					args := map[string]any{"list": []any{int64(1)}}
					if x != missing {
						args["x"] = x
					}
					if y != missing {
						args["y"] = y
					}
					c := call.Call{Identity: who, Connection: at[0], Function: at[1], Protocol: call.MCP, Args: args}
					if i == 1 {
						c.Session = "s"
					}
					out = append(out, c)
				}
			}
		}
	}
	return out
}

// What lint says of rules holds for every call: a rule that never matches does
// not, and no call that a shadowed rule matches is decided by it.
func TestSound(t *testing.T) {
	conns := []lint.Connection{{Name: "c", Protocol: call.MCP, Credentialed: true, Functions: []lint.Function{{Name: "f"}, {Name: "g"}}}, {Name: "d", Protocol: call.MCP, Credentialed: true}}
	calls := callsToTry()
	random := rand.New(rand.NewPCG(1, 2))
	pick := func(list []string) string { return list[random.IntN(len(list))] }
	var condition func(depth int) string
	condition = func(depth int) string {
		switch n := random.IntN(6); {
		case depth == 0 || n < 2:
			return pick(atoms)
		case n == 2:
			return "!(" + condition(depth-1) + ")"
		case n == 3:
			return "(" + condition(depth-1) + " || " + condition(depth-1) + ")"
		default:
			return "(" + condition(depth-1) + " && " + condition(depth-1) + ")"
		}
	}
	told := map[lint.Check]int{}
	for round := range 40 {
		var list rules
		for i := range 8 {
			r := policies.Rule{Name: fmt.Sprint(i), Action: pick([]string{policies.Deny, policies.Hold, policies.Allow}), When: condition(2)}
			if random.IntN(3) == 0 {
				r.Connections = []string{pick([]string{"c", "d", "?"})}
			}
			if random.IntN(3) == 0 {
				r.Functions = []string{pick([]string{"f", "f*", "*", "?"})}
			}
			list = append(list, r)
		}
		set := compile(t, conns, list)
		found, err := lint.Run(t.Context(), lint.Input{Set: set, Connections: conns, Now: now})
		if err != nil {
			t.Fatal(err)
		}
		var never, dead, shut []string
		for _, f := range found {
			name := strings.Trim(strings.TrimPrefix(f.Subject, "rule "), `"`)
			told[f.Check]++
			switch f.Check {
			case lint.NeverMatches:
				never = append(never, name)
			case lint.Shadowed, lint.Duplicate:
				dead = append(dead, name)
			case lint.Unallowed:
				shut = append(shut, f.Subject+" "+f.Text)
			}
		}
		for i := range calls {
			c := &calls[i]
			ruling, steps := set.Trace(t.Context(), c)
			for _, st := range steps {
				if st.Verdict != policies.Matched {
					continue
				}
				if slices.Contains(never, st.Rule.Name) || slices.Contains(dead, st.Rule.Name) && st.Decided {
					t.Fatalf("round %d: rule %s matches %+v:\n%v\n%+v", round, st.Rule.Name, c, found, list)
				}
			}
			if ruling.Action != call.ActionDeny {
				for _, s := range shut {
					whole := strings.HasPrefix(s, fmt.Sprintf("connection %q", c.Connection)) && !strings.Contains(s, "function")
					one := strings.HasPrefix(s, fmt.Sprintf("connection %q", c.Connection)) && strings.Contains(s, fmt.Sprintf("function %q", c.Function))
					if whole || one {
						t.Fatalf("round %d: %s, and %+v gets through by rule %s:\n%+v", round, s, c, ruling.Rule, list)
					}
				}
			}
		}
	}
	for _, c := range []lint.Check{lint.NeverMatches, lint.Shadowed, lint.Duplicate, lint.Unallowed} {
		if told[c] < 2 {
			t.Errorf("%s is told %d times only: the rules are too tame", c, told[c])
		}
	}
}
