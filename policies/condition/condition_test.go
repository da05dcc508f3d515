package condition_test

import (
	"testing"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/policies"
	"github.com/callgate/callgate/policies/condition"
)

// of compiles a condition as rules have it.
func of(t testing.TB, when string) condition.Formula {
	t.Helper()
	set, err := policies.Compile([]policies.Rule{{Name: "r", When: when, Action: policies.Allow}},
		policies.Config{Inspect: true, Connections: []policies.Connection{{Name: "crm", Protocol: call.HTTP}}})
	if err != nil {
		t.Fatalf("%s: %v", when, err)
	}
	return condition.Of(set.Inspect()[0].Condition)
}

func TestNever(t *testing.T) {
	for when, want := range map[string]bool{
		`false`:                                true,
		`1 > 2`:                                true,
		`"a" in ["b"]`:                         true,
		`true`:                                 false,
		`call.args.x == 1`:                     false,
		`call.args.x == 1 && call.args.x == 2`: true,
		`call.args.x == 1 && call.args["x"] == 2`:                                            true,
		`call.args.x == 1 && call.args.x == 1.0`:                                             false,
		`call.args.x == 1 && call.args.x == "1"`:                                             true,
		`call.args.x > 5 && call.args.x < 5`:                                                 true,
		`call.args.x > 5 && call.args.x <= 5`:                                                true,
		`call.args.x >= 5 && call.args.x <= 5`:                                               false,
		`call.args.x >= 5 && call.args.x <= 5 && call.args.x != 5`:                           true,
		`call.args.x > 5 && call.args.x < 6`:                                                 false, // 5.5
		`call.args.x > 5 && call.args.x < "z"`:                                               true,  // one of the two fails
		`5 < call.args.x && call.args.x < 5`:                                                 true,
		`call.args.x in [1, 2] && call.args.x > 2`:                                           true,
		`call.args.x in [1, 2] && call.args.x in [2, 3]`:                                     false,
		`call.args.x in [1, 2] && !(call.args.x in [1, 2, 3])`:                               true,
		`call.args.x == 1 && call.args.y == 2`:                                               false,
		`!has(call.args.x) && call.args.x == 1`:                                              true,
		`!has(call.args.x) && call.args.x.y == 1`:                                            true,
		`!has(call.args.x) || call.args.x == 1`:                                              false,
		`!has(call.session) && call.session == ""`:                                           false, // a field has an empty value
		`has(call.args.x) && !has(call.args.x)`:                                              true,
		`"a" in identity.groups && !("a" in identity.groups)`:                                true,
		`"a" in identity.groups && !("b" in identity.groups)`:                                false,
		`!("x" in call.args) && call.args.x == 1`:                                            true,
		`"x" in call.args && !has(call.args.x)`:                                              true,
		`!("X-A" in call.headers) && call.headers["x-a"] == "1"`:                             true,
		`!("x" in call.args.y) && call.args.y.x == 1`:                                        false, // y may be a list
		`call.headers["X-A"] == "1" && call.headers["x-a"] == "2"`:                           true,
		`call.args["X"] == "1" && call.args["x"] == "2"`:                                     false,
		`now > timestamp("2026-01-02T00:00:00Z") && now < timestamp("2026-01-01T00:00:00Z")`: true,
		`now > timestamp("2026-01-01T00:00:00Z") && now < timestamp("2026-01-02T00:00:00Z")`: false,
		`call.args.x.startsWith("a") && !call.args.x.startsWith("a")`:                        true,
		`call.args.x.startsWith("a") && !call.args.x.startsWith("b")`:                        false,
		`(call.args.x == 1 || call.args.x == 2) && call.args.x == 3`:                         true,
		`(call.args.x == 1 || call.args.y == 2) && call.args.x == 3`:                         false,
		`!(call.args.x != 1) && call.args.x != 1`:                                            true,
		`call.args.x == true && call.args.x == false`:                                        true,
		`call.args.x == null && call.args.x == 0`:                                            true,
		`call.args.x == 9007199254740993 && call.args.x == 9007199254740992`:                 false, // beyond what is understood
		`call.args.list.exists(x, x == 1) && call.args.list.exists(x, x == 2)`:               false,
		`call.args.list.all(x, x == 1) && !call.args.list.all(x, x == 1)`:                    true,
		`connection.name == "crm" && call.connection == "erp"`:                               true,
		`(call.args.x == 1 ? call.args.y == 1 : call.args.y == 2) && call.args.y == 3`:       false, // silent
	} {
		if got := of(t, when).Never(); got != want {
			t.Errorf("%s: never is %v", when, got)
		}
	}
}

// Within is about what a rule is good for behind another: it can't match where
// it is true only where the other is true, or fails.
func TestWithin(t *testing.T) {
	for _, c := range []struct {
		narrow, wide string
		want         bool
	}{
		{`call.args.x > 500`, `call.args.x > 100`, true},
		{`call.args.x > 100`, `call.args.x > 500`, false},
		{`call.args.x > 100`, ``, true},
		{``, `call.args.x > 100`, false},
		{``, `true || call.args.x > 100`, true},
		{`call.args.x == 3`, `call.args.x in [1, 2, 3]`, true},
		{`call.args.x == 4`, `call.args.x in [1, 2, 3]`, false},
		{`call.args.x == 3 && call.args.y == 1`, `call.args.x == 3`, true},
		{`call.args.x == 3`, `call.args.x == 3 || call.args.y == 1`, true},
		{`call.args.x == 3 || call.args.y == 1`, `call.args.x == 3`, false},
		{`"a" in identity.groups && call.args.x > 1`, `"a" in identity.groups`, true},
		{`"a" in identity.groups`, `"b" in identity.groups`, false},
		// The other fails where x is no number, which decides the call too.
		{`call.args.x == "text"`, `call.args.x < 5`, true},
		{`!has(call.args.x)`, `call.args.x < 5`, true},
		{`!has(call.args.x)`, `has(call.args.x) && call.args.x < 5`, false},
	} {
		if got := of(t, c.narrow).Within(of(t, c.wide)); got != c.want {
			t.Errorf("%q within %q is %v", c.narrow, c.wide, got)
		}
	}
}

func TestAlways(t *testing.T) {
	for when, want := range map[string]bool{``: true, `true`: true, `1 < 2 || call.args.x == 1`: true, `call.args.x == 1`: false, `false`: false} {
		if got := of(t, when).Always(); got != want {
			t.Errorf("%q: always is %v", when, got)
		}
	}
	if f := of(t, `call.args.x == 1 || call.args.x != 1`); f.Always() || !f.NeverFalse() {
		t.Error("a condition that is true or fails passes for one that is true, or can be false")
	}
}

// A condition too large to reason about says nothing.
func TestTooLarge(t *testing.T) {
	when := ``
	for i := range 12 {
		if i > 0 {
			when += ` && `
		}
		when += `(call.args.a` + string(rune('a'+i)) + ` == 1 || call.args.b` + string(rune('a'+i)) + ` == 2)`
	}
	if f := of(t, when); f.Never() || f.Within(of(t, `call.args.q == 1`)) {
		t.Error("something is concluded from a condition of 4096 alternatives")
	}
}
