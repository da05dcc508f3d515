package difference_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/policies"
	"github.com/callgate/callgate/policies/difference"
)

// Where no change is said to widen, no call gets through that did not; where
// none is said to narrow, none is stopped that was not. Rules that can't be
// evaluated are left out: failing denies, and is not told apart.
func TestEffectsHold(t *testing.T) {
	atoms := []string{`call.args.x == 1`, `call.args.x > 1`, `call.args.x < 2`, `call.args.x in [0, 1]`, `call.args.x != 2`, `call.args.y == 1`, `"a" in identity.groups`,
		`call.function == "f"`, `has(call.args.z)`, `true`, `false`}
	random := rand.New(rand.NewPCG(3, 4))
	pick := func(list ...string) string { return list[random.IntN(len(list))] }
	condition := func() string {
		switch random.IntN(5) {
		case 0:
			return ""
		case 1:
			return pick(atoms...) + " && " + pick(atoms...)
		case 2:
			return pick(atoms...) + " || " + pick(atoms...)
		case 3:
			return "!(" + pick(atoms...) + ")"
		}
		return pick(atoms...)
	}
	change := func(list []policies.Rule, i int) {
		r := &list[i]
		switch random.IntN(6) {
		case 0:
			r.Action = pick(policies.Deny, policies.Allow, policies.Hold)
		case 1:
			r.Shadow = !r.Shadow
		case 2:
			r.Functions = [][]string{nil, {"f"}, {"g"}, {"*"}, {"f", "g"}}[random.IntN(5)]
		default:
			r.When = condition()
		}
	}
	side := func(list []policies.Rule) difference.Side {
		s := difference.Side{}
		for i := range list {
			list[i].Hold = call.Hold{}
			if list[i].Action == policies.Hold {
				list[i].Hold = call.Hold{Timeout: 1, Stages: []call.Stage{{Approvers: call.Approvers{Groups: []string{"a"}}}}}
			}
			r := list[i]
			s.Policy.Rules = append(s.Policy.Rules, config.Rule{Name: r.Name, Functions: r.Functions, When: r.When, Action: r.Action, Shadow: r.Shadow})
		}
		set, err := policies.Compile(list, policies.Config{Inspect: true, Connections: []policies.Connection{{Name: "c", Protocol: call.MCP}}})
		if err != nil {
			t.Fatal(err)
		}
		s.Set = set
		return s
	}
	told := map[difference.Effect]int{}
	for range 200 {
		var was []policies.Rule
		for i := range 4 {
			was = append(was, policies.Rule{Name: fmt.Sprint(i), Action: pick(policies.Deny, policies.Allow, policies.Allow, policies.Hold), When: condition()})
		}
		is := slices.Clone(was)
		change(is, random.IntN(len(is)))
		if random.IntN(4) == 0 {
			i := random.IntN(len(is))
			is = slices.Delete(is, i, i+1)
		}
		before, after := side(was), side(is)
		changes, err := difference.Compare(t.Context(), before, after)
		if err != nil {
			t.Fatal(err)
		}
		wide, narrow := false, false
		for _, c := range changes {
			told[c.Effect]++
			wide = wide || c.Effect == difference.Widens || c.Effect == difference.Either
			narrow = narrow || c.Effect == difference.Narrows || c.Effect == difference.Either
		}
		for x := range int64(4) {
			for y := range int64(2) {
				for _, function := range []string{"f", "g"} {
					for _, groups := range [][]string{nil, {"a"}} {
						c := call.Call{Connection: "c", Function: function, Protocol: call.MCP, Identity: call.Identity{Subject: "s", Groups: groups}, Args: map[string]any{"x": x, "y": y}}
						old, now := before.Set.Decide(t.Context(), &c), after.Set.Decide(t.Context(), &c)
						if old.Reason == call.ReasonPolicyError || now.Reason == call.ReasonPolicyError {
							t.Fatalf("%+v %+v", old, now)
						}
						if a, b := strength(old), strength(now); b > a && !wide || b < a && !narrow {
							t.Fatalf("%v → %v for %+v\nchanges %+v\nwas %+v\nis  %+v", old.Action, now.Action, c, changes, was, is)
						}
					}
				}
			}
		}
	}
	for _, e := range []difference.Effect{difference.Widens, difference.Narrows, difference.Either, difference.Neither} {
		if told[e] < 10 {
			t.Errorf("%s is told %d times only", e, told[e])
		}
	}
}

func strength(r call.Ruling) int {
	return map[call.Action]int{call.ActionDeny: 0, call.ActionHold: 1, call.ActionAllow: 2}[r.Action]
}
