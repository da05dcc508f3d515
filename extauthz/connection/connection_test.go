package connection

import (
	"testing"

	"github.com/callgate/callgate/call"
)

func conn(name, path string, authorities ...string) *Connection {
	return &Connection{Name: name, Protocol: call.HTTP, Path: path, Authorities: authorities}
}

func set(t testing.TB, list ...*Connection) *Set {
	t.Helper()
	s, err := NewSet(list)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestNamed(t *testing.T) {
	s := set(t, conn("a", "/a"), conn("b", "/b"))
	if c := s.Named("b"); c == nil || c.Name != "b" {
		t.Errorf("%+v", c)
	}
	if c := s.Named(""); c != nil {
		t.Errorf("%+v", c)
	}
	if _, err := NewSet([]*Connection{conn("a", "/a"), conn("a", "/b")}); err == nil {
		t.Error("one name twice was taken")
	}
}

func TestMatch(t *testing.T) {
	s := set(t,
		conn("any", ""),
		conn("crm", "/crm"),
		conn("crm-v2", "/crm/v2/"),
		conn("exact", "/x", "API.example.com"),
		conn("wild", "/crm/v2/long", "*.example.com"),
		conn("wilder", "/w", "*.eu.example.com"),
		conn("own", "/crm", "own.test"),
		&Connection{Name: "grpc", Protocol: call.GRPC, Services: []string{"shop.v1.Orders", "shop.v1.Carts"}},
		conn("six", "/", "[::1]"),
		conn("only", "/only", "only.test"),
	)
	for _, c := range []struct{ authority, path, want string }{
		{"h", "/", "any"},
		{"h", "/crm", "crm"},
		{"h", "/crm/", "crm"},
		{"h", "/crm?x=/v2", "crm"},
		{"h", "/crm/x", "crm"},
		{"h", "/crmx", "any"},
		{"h", "/CRM", "any"},
		{"h", "/crm/v2", "crm-v2"},
		{"h", "/crm/v2x", "crm"},
		{"h", "/crm/v2/y/z", "crm-v2"},
		{"h", "*", ""},
		{"h", "", ""},
		{"api.example.com", "/x", "exact"},
		{"API.EXAMPLE.COM:8443", "/x/1", "exact"},
		// The exact host is the one looked into, however long a wildcard's path.
		{"api.example.com", "/crm/v2/long", "crm-v2"},
		{"b.example.com", "/crm/v2/long", "wild"},
		{"b.example.com", "/crm/v2/longer", "crm-v2"},
		{".example.com", "/crm/v2/long", "crm-v2"},
		{"example.com", "/crm/v2/long", "crm-v2"},
		{"api.example.com.evil.test", "/x", "any"},
		{"a.eu.example.com", "/w", "wilder"},
		// The longer wildcard is the one looked into.
		{"a.eu.example.com", "/crm/v2/long", "crm-v2"},
		{"own.test", "/crm", "own"},
		{"own.test:1", "/crm/v2", "crm-v2"},
		{"own.test:", "/crm", "crm"},
		{"own.test:http", "/crm", "crm"},
		{"h", "/shop.v1.Orders/Get", "grpc"},
		{"h", "/shop.v1.Carts/Get", "grpc"},
		{"h", "/shop.v1.Orders", "any"},
		{"h", "/shop.v1.OrdersX/Get", "any"},
		{"[::1]", "/", "six"},
		{"[::1]:80", "/", "six"},
		{"[::2]:80", "/", "any"},
		{"only.test", "/only", "only"},
	} {
		got := ""
		if m := s.Match(c.authority, c.path); m != nil {
			got = m.Name
		}
		if got != c.want {
			t.Errorf("%s %s: %q, want %q", c.authority, c.path, got, c.want)
		}
	}
}

func TestMatchDoesNotFallThroughToAnotherHost(t *testing.T) {
	s := set(t, conn("exact", "/a", "a.test"), conn("wild", "/b", "*.test"), conn("star", "/c", "*"))
	for _, c := range []struct{ authority, path string }{{"a.test", "/b"}, {"a.test", "/c"}, {"b.test", "/c"}, {"x", "/a"}} {
		if m := s.Match(c.authority, c.path); m != nil {
			t.Errorf("%s%s went to %s", c.authority, c.path, m.Name)
		}
	}
	if m := s.Match("x", "/c"); m == nil || m.Name != "star" {
		t.Errorf("%+v", m)
	}
	if m := set(t).Match("x", "/"); m != nil {
		t.Errorf("%+v", m)
	}
}

func FuzzMatch(f *testing.F) {
	s := set(f, conn("crm", "/crm", "api.test"), conn("wild", "/w", "*.test"),
		&Connection{Name: "grpc", Protocol: call.GRPC, Services: []string{"a.B"}})
	f.Add("api.test:80", "/crm/x?y")
	f.Add("[::1]:1", "/a.B/C")
	f.Fuzz(func(t *testing.T, authority, path string) {
		m := s.Match(authority, path)
		if m == nil {
			return
		}
		prefix := map[string]string{"crm": "/crm", "wild": "/w", "grpc": "/a.B/"}[m.Name]
		if len(path) < len(prefix) || path[:len(prefix)] != prefix {
			t.Errorf("%q went to %s", path, m.Name)
		}
	})
}
