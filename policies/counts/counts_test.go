package counts

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/callgate/callgate/call"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// one is a call in a session of its token.
func one(t testing.TB, subject, session, function string, after time.Duration) *call.Call {
	t.Helper()
	id, err := call.NewID()
	if err != nil {
		t.Fatal(err)
	}
	return &call.Call{ID: id, Time: noon.Add(after), Identity: call.Identity{Issuer: "https://idp", Subject: subject, Claims: map[string]any{"sid": session}}, Connection: "crm", Function: function}
}

func all(string) bool { return true }

func TestWindows(t *testing.T) {
	c := New()
	for i := range 10 {
		c.Count(one(t, "ann", "s1", "get", time.Duration(i)*10*time.Second))
	}
	c.Count(one(t, "ann", "s2", "get", 95*time.Second))
	c.Count(one(t, "bob", "s1", "get", 95*time.Second)) // bob's s1 is not ann's
	c.Count(one(t, "ann", "s1", "put", 95*time.Second))
	now := one(t, "ann", "s1", "get", 100*time.Second)
	get := func(f string) bool { return f == "get" }
	for _, w := range []struct {
		what string
		got  int64
		want int64
	}{
		{"a minute of get in the session", c.InSession(now, get, time.Minute), 5},
		{"all of get in the session", c.InSession(now, get, time.Hour), 10},
		{"all in the session", c.InSession(now, all, time.Hour), 11},
		{"of the identity", c.ByIdentity(now, get, time.Hour), 11},
		{"of a session that nobody saw", c.InSession(one(t, "ann", "s9", "get", 0), all, time.Hour), 0},
		{"of an agent of ann's", c.ByIdentity(func() *call.Call {
			x := one(t, "ann", "s1", "get", 0)
			x.Identity.Actors = []call.Actor{{Subject: "bot"}}
			return x
		}(), all, time.Hour), 0},
	} {
		if w.got != w.want {
			t.Errorf("%s: %d, want %d", w.what, w.got, w.want)
		}
	}
}

// Where a header names sessions, calls count by it, within their identity and the
// token's session: nobody can spend another's count.
func TestNamedSessions(t *testing.T) {
	c := New()
	named := func(subject, sid, name string) *call.Call {
		x := one(t, subject, sid, "get", time.Second)
		x.SessionName = name
		return x
	}
	for range 3 {
		c.Count(named("ann", "s1", "run-1"))
	}
	for what, w := range map[string]struct {
		of   *call.Call
		want int64
	}{
		"the run":                     {named("ann", "s1", "run-1"), 3},
		"another run":                 {named("ann", "s1", "run-2"), 0},
		"without the header":          {named("ann", "s1", ""), 0},
		"the same name in another":    {named("ann", "s2", "run-1"), 0},
		"somebody else's by its name": {named("bob", "s1", "run-1"), 0},
		"names that run together":     {named("ann", "s1\x00\x00run-1", ""), 0},
	} {
		if got := c.InSession(w.of, all, time.Hour); got != w.want {
			t.Errorf("%s: %d, want %d", what, got, w.want)
		}
	}
	if got := c.ByIdentity(named("ann", "s1", "run-9"), all, time.Hour); got != 3 {
		t.Errorf("by identity: %d", got)
	}
}

// Sessions that a caller can choose, such as one for each call, begin no count anew.
func TestChosenSessionsCountTogether(t *testing.T) {
	c := New()
	var last *call.Call
	for i := range 5 {
		last = one(t, "ann", "", "get", time.Duration(i)*time.Second)
		last.Identity.Claims, last.Session = nil, fmt.Sprint("trace-", i)
		c.Count(last)
	}
	if n := c.InSession(last, all, time.Hour); n != 5 {
		t.Errorf("%d calls, want 5", n)
	}
	signed := one(t, "ann", "s1", "get", 5*time.Second)
	signed.Session = "trace-0"
	c.Count(signed)
	if n := c.InSession(signed, all, time.Hour); n != 1 {
		t.Errorf("%d calls of the token's session, want 1", n)
	}
}

// However many calls a session makes, none is lost from the count of a window,
// and what is kept stays small.
func TestManyCalls(t *testing.T) {
	c := New()
	const n = 10_000
	for i := range n {
		c.Count(one(t, "ann", "s", fmt.Sprint("f", i%3), time.Duration(i)*time.Millisecond))
	}
	now := one(t, "ann", "s", "f0", n*time.Millisecond)
	if got := c.InSession(now, all, time.Minute); got != n {
		t.Errorf("%d of %d calls", got, n)
	}
	if h, _ := c.sessions.Get(session(now)); len(h.entries) > entriesMost {
		t.Errorf("%d entries", len(h.entries))
	}
	if got := c.InSession(one(t, "ann", "s", "f0", 3*time.Hour), all, time.Hour); got != 0 {
		t.Errorf("%d calls of hours ago", got)
	}
}

func TestFirst(t *testing.T) {
	c := New()
	first, second := one(t, "ann", "s", "get", 0), one(t, "ann", "s", "get", time.Second)
	c.Count(first)
	if !c.First(first) {
		t.Error("the first call is not the first")
	}
	c.Count(second)
	if c.First(second) {
		t.Error("the second call is the first")
	}
}

func TestConcurrent(t *testing.T) {
	c := New()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				c.Count(one(t, "ann", "s", "get", 0))
				c.InSession(one(t, "ann", "s", "get", 0), all, time.Minute)
			}
		})
	}
	wg.Wait()
	if got := c.InSession(one(t, "ann", "s", "get", 0), all, time.Minute); got != 1600 {
		t.Errorf("%d calls", got)
	}
}
