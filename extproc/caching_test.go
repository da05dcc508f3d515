package extproc

import (
	"slices"
	"testing"

	"github.com/callgate/callgate/call"
)

// What callers get differs by who they are, so no cache may mix them up, whatever
// the function says.
func TestPrivate(t *testing.T) {
	for name, tt := range map[string]struct {
		in            []string // headers of the function
		control, vary string   // what the caller gets; "": as it came
		gone          string
	}{
		"nothing said":       {nil, "private", "authorization", ""},
		"public":             {[]string{"cache-control", "public, max-age=60, s-maxage=600"}, "private, max-age=60", "authorization", ""},
		"in capitals":        {[]string{"cache-control", "Public,S-MaxAge=5"}, "private", "authorization", ""},
		"on two lines":       {[]string{"cache-control", "max-age=60", "cache-control", "public"}, "private, max-age=60", "authorization", ""},
		"private already":    {[]string{"cache-control", "private", "vary", "Authorization"}, "", "", ""},
		"private but for":    {[]string{"cache-control", `private="x-a, public", max-age=1`}, "private, max-age=1", "authorization", ""},
		"a quoted comma":     {[]string{"cache-control", `no-cache="set-cookie, x", public`}, `private, no-cache="set-cookie, x"`, "authorization", ""},
		"not stored":         {[]string{"cache-control", "no-store"}, "private, no-store", "authorization", ""},
		"varies":             {[]string{"vary", "accept"}, "private", "accept, authorization", ""},
		"varies by all":      {[]string{"vary", "*"}, "private", "", ""},
		"for some caches":    {[]string{"cdn-cache-control", "public, max-age=600"}, "private", "authorization", "cdn-cache-control"},
		"for some surrogate": {[]string{"surrogate-control", "max-age=600"}, "private", "authorization", "surrogate-control"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, masked := range []bool{false, true} { // some callers are shown all
				for _, end := range []bool{false, true} {
					b := start(t)
					m := decided(call.HTTP)
					if masked {
						m = decided(call.HTTP, cards)
					}
					m.Response.Private = true
					x := exchange{mode: duplex, meta: m, headers: append([]string{"content-type", "application/json"}, tt.in...), headersEnd: end, status: "304"}
					if !end {
						x.chunks = []string{"{}"}
					}
					got := b.run(t, x)
					if got.set["cache-control"] != tt.control || got.set["vary"] != tt.vary || tt.gone != "" && !slices.Contains(got.removed, tt.gone) {
						t.Errorf("set %v, removed %v", got.set, got.removed)
					}
					if a := b.one(t); tt.control != "" && a.Headers.Get("cache-control") != tt.control {
						t.Errorf("recorded %v", a.Headers)
					}
				}
			}
		})
	}
	b := start(t)
	if got := b.run(t, exchange{mode: duplex, meta: decided(call.HTTP, cards), headers: jsonType, chunks: []string{"{}"}}); len(got.set) != 0 {
		t.Errorf("where all get the same: %v", got.set)
	}
}

// Digests of the function's own bytes leave neither before nor after the body.
func TestDigestsInTrailers(t *testing.T) {
	b := start(t)
	got := b.run(t, exchange{mode: duplex, meta: decided(call.HTTP, cards), headers: jsonType, chunks: []string{`{"a":"` + card + `"}`},
		trailers: []string{"repr-digest", "sha-256=:x:", "etag", `"x"`, "x-a", "b"}})
	for _, name := range validators {
		if n := len(slices.DeleteFunc(slices.Clone(got.removed), func(s string) bool { return s != name })); n != 2 {
			t.Errorf("%s is removed %d times", name, n)
		}
	}
	if slices.Contains(got.removed, "x-a") {
		t.Errorf("removed %v", got.removed)
	}
}
