package condition_test

import (
	"testing"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/policies"
	"github.com/callgate/callgate/policies/condition"
)

// Whatever a condition says, it is read without harm, and what is concluded from
// it does not contradict itself.
func FuzzOf(f *testing.F) {
	for _, s := range []string{`call.args.x == 1 && !(call.args["x"] in [1, 2])`, `has(call.args.a.b) || "a" in call.args`, `call.args.l.exists(x, x > 1) ? true : 1 / 0 == 1`,
		`now < timestamp("2026-01-01T00:00:00Z") || identity.calls("*", duration("1m")) > 3`, `call.args.?x.orValue(1) == -1`, `call.headers["A"] != null`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, when string) {
		set, err := policies.Compile([]policies.Rule{{Name: "r", When: when, Action: policies.Allow}},
			policies.Config{Inspect: true, Connections: []policies.Connection{{Name: "crm", Protocol: call.HTTP}}})
		if err != nil {
			return
		}
		x := set.Inspect()[0]
		formula := condition.Of(x.Condition)
		condition.Names(x.Written)
		if formula.Always() && formula.Never() || formula.Never() && formula.NeverFalse() && x.Always() {
			t.Errorf("%q is always and never true", when)
		}
		if formula.Never() && !formula.Apart(formula) {
			t.Errorf("%q is never true, and may be true together with itself", when)
		}
	})
}
