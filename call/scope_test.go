package call

import (
	"strings"
	"testing"
)

func TestScope(t *testing.T) {
	for _, c := range []struct {
		scope, connection, function string
		want                        bool
	}{
		{"crm", "crm", "refunds.create", true},
		{"crm", "crm2", "refunds.create", false},
		{"crm", "CRM", "refunds.create", false},
		{"crm:refunds.create", "crm", "refunds.create", true},
		{"crm:refunds.create", "crm", "refunds.create2", false},
		{"crm:refunds.create", "crm", "refunds.delete", false},
		{"crm:refunds.create", "tools", "refunds.create", false},
		{"crm:refunds.*", "crm", "refunds.delete", true},
		{"crm:refunds.*", "crm", "customers.get", false},
		{"crm:*.get", "crm", "customers.get", true},
		{"crm:*.get", "crm", "customers.get.all", false},
		{"crm:a*b*c", "crm", "abc", true},
		{"crm:ab*ba", "crm", "aba", false},
		{"tools:tools/call%20search", "tools", "tools/call search", true},
		{"tools:tools/call%20*", "tools", "tools/call search", true},
		{"tools:tools/call%20*", "tools", "tools/list", false},
		{"orders:shop.Orders/*", "orders", "shop.Orders/Get", true},
		{"crm orders", "orders", "x", true},
		{"crm", "crm", "", true}, // a function that nobody could name is refused elsewhere
		{"crm:x", "crm", "", false},
		{"crm", "", "x", false},
	} {
		s, err := ParseScope(c.scope)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Covers(c.connection, c.function); got != c.want {
			t.Errorf("%q covers %s %s: %v", c.scope, c.connection, c.function, got)
		}
	}
	if !(Scope)(nil).Covers("any", "thing") {
		t.Error("a token that is not narrowed is")
	}
	for _, bad := range []string{"", " ", "*", "*:x", "crm:", ":x", "crm/x", "Crm", "crm:%zz", strings.Repeat("a ", 65), strings.Repeat("a", 5000), "-a"} {
		if s, err := ParseScope(bad); err == nil {
			t.Errorf("%q is %v", bad, s)
		}
	}
}

func TestScopeIncludes(t *testing.T) {
	for _, c := range []struct {
		has, wants string
		ok         bool
	}{
		{"crm", "crm", true}, {"crm", "crm:x", true}, {"crm", "crm:*", true}, {"crm:*", "crm", true},
		{"crm:x", "crm", false}, {"crm:x", "crm:*", false}, {"crm:x.*", "crm:x.y", true}, {"crm:x.*", "crm:x.*", true}, {"crm:x.*", "crm:*", false},
		{"crm:x.*", "crm:*.y", false}, {"crm:x.*", "crm:x*", false}, {"crm tools", "tools", true}, {"crm", "crm tools", false},
		{"crm:*.get", "crm:a.*.get", true}, {"crm:a%2A", "crm:ab", true},
	} {
		has, err := ParseScope(c.has)
		if err != nil {
			t.Fatal(err)
		}
		wants, err := ParseScope(c.wants)
		if err != nil {
			t.Fatal(err)
		}
		if got := has.Includes(wants); got != c.ok {
			t.Errorf("%q includes %q: %v", c.has, c.wants, got)
		}
	}
	some, _ := ParseScope("crm")
	if some.Includes(nil) || !(Scope)(nil).Includes(some) {
		t.Error("not narrowed is within narrowed, or the other way round")
	}
}

// Whatever is within a scope that another includes is within that one too.
func FuzzScope(f *testing.F) {
	f.Add("crm:a.*", "crm:a.b*", "a.bc")
	f.Add("crm tools:x%20*", "tools:x%20y", "x y")
	f.Add("crm:*a*b*", "crm:a*b", "axb")
	f.Fuzz(func(t *testing.T, has, wants, function string) {
		a, err1 := ParseScope(has)
		b, err2 := ParseScope(wants)
		if err1 != nil || err2 != nil {
			return
		}
		if !a.Narrowed() || !b.Narrowed() {
			t.Fatal("a scope that was parsed narrows nothing")
		}
		for _, c := range []string{"crm", "tools"} {
			if a.Includes(b) && b.Covers(c, function) && !a.Covers(c, function) {
				t.Errorf("%q includes %q, but %s %q is in the second alone", has, wants, c, function)
			}
		}
	})
}
