package approvals

import (
	"strings"
	"testing"

	"github.com/callgate/callgate/call"
)

// What differs is told, and of credentials only that they differ.
func TestDiffer(t *testing.T) {
	for _, c := range []struct {
		name, was, is string
		change        func(*Hold)
		want          []string // "what: was → is"
	}{
		{"the same", `{"a":1,"b":[1,{"c":null}]}`, `{"a":1,"b":[1,{"c":null}]}`, nil, nil},
		{"in another order", `{"a":1,"b":2}`, `{"b":2,"a":1}`, func(h *Hold) { h.Request.Body = []byte("x") }, []string{"body: 0 bytes → 1 bytes, which differ in what the arguments don't show"}},
		{"a number", `{"a":{"b":150}}`, `{"a":{"b":15000}}`, nil, []string{".a.b: 150 → 15000"}},
		{"a number written otherwise", `{"a":1}`, `{"a":1.0}`, nil, []string{".a: 1 → 1.0"}},
		{"added and taken away", `{"a":1}`, `{"b":"x"}`, nil, []string{".a: 1 → ", `.b:  → "x"`}},
		{"null is not absent", `{}`, `{"a":null}`, nil, []string{".a:  → null"}},
		{"another type", `{"a":{"b":1}}`, `{"a":[1]}`, nil, []string{`.a: {"b":1} → [1]`}},
		{"a list", `{"a":[1,2]}`, `{"a":[1,3,4]}`, nil, []string{".a[1]: 2 → 3", ".a[2]:  → 4"}},
		{"a secret", `{"password":"hunter2"}`, `{"password":"hunter3"}`, nil, []string{".password: [hidden] → [hidden]"}},
		{"below a secret", `{"secret":{"x":"hunter2"}}`, `{"secret":{"x":"hunter3","y":1}}`, nil, []string{".secret.x: [hidden] → [hidden]", ".secret.y:  → [hidden]"}},
		{"a secret in what is new", `{}`, `{"a":{"token":"hunter2"}}`, nil, []string{`.a:  → {"token":"[hidden]"}`}},
		{"a name that misleads", `{}`, "{\"a\u202e.b\":1}", nil, []string{`["a\u202e.b"]:  → 1`}},
		{"a value that misleads", `{"a":"x"}`, "{\"a\":\"\u202ex\"}", nil, []string{`.a: "x" → "\u{202e}x"`}},
		{"path and who acts", `{}`, `{}`, func(h *Hold) { h.Request.Path = "/b\x1b"; h.Identity.Actors = []call.Actor{{Subject: "bot"}} }, []string{"acting: joe → bot", `path:  → /b\u{001b}`}},
		{"no arguments", ``, ``, nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			was := Hold{ID: "apr_1", ArgsJSON: []byte(c.was), Identity: call.Identity{Subject: "joe"}}
			is := Hold{ArgsJSON: []byte(c.is), Identity: call.Identity{Subject: "joe"}}
			if c.change != nil {
				c.change(&is)
			}
			d := differ(&was, &is)
			var got []string
			for _, one := range d.Changes {
				got = append(got, one.What+": "+one.Was+" → "+one.Is)
			}
			if strings.Join(got, "\n") != strings.Join(c.want, "\n") || d.ID != "apr_1" {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
	var many strings.Builder
	for range 300 {
		many.WriteString("1,")
	}
	d := differ(&Hold{ArgsJSON: []byte("[]")}, &Hold{ArgsJSON: []byte("[" + many.String() + `"` + strings.Repeat("x", 1000) + `"]`)})
	if len(d.Changes) != maxChanges || d.More != 201 {
		t.Errorf("%d changes and %d more", len(d.Changes), d.More)
	}
	if s := clip(strings.Repeat("é", maxValue)); len(s) > maxValue+30 || !strings.HasSuffix(s, "bytes more)") {
		t.Errorf("got %q", s)
	}
}

func FuzzDiffer(f *testing.F) {
	f.Add(`{"a":1}`, `{"a":2}`)
	f.Add(`{"token":"hunter2","b":[1]}`, `{"token":"hunter3","b":{"c":1}}`)
	f.Add("[\"\u202e\"]", `[1e9]`)
	f.Fuzz(func(t *testing.T, a, b string) {
		was, is := Hold{ArgsJSON: []byte(a)}, Hold{ArgsJSON: []byte(b)}
		for _, c := range differ(&was, &is).Changes {
			if strings.ContainsFunc(c.What+c.Was+c.Is, misleading) {
				t.Errorf("shows %q", c)
			}
		}
		if len(differ(&is, &is).Changes) > 0 {
			t.Error("differs from itself")
		}
	})
}
