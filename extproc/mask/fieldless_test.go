package mask

import (
	"errors"
	"strings"
	"testing"
)

// What a field path names is hidden also where there are no fields, by its last name.
func TestFieldless(t *testing.T) {
	m := mustCompile(t, Spec{Rules: []Rule{
		{Name: "cards", Detect: []string{"card"}},
		{Name: "paths", Paths: []string{"customer.secret", "items[*].note", "tags.*"}},
		{Name: "own", Keys: []string{"password"}, How: Partial},
	}, Roots: []string{"result"}})
	for _, tt := range []struct{ contentType, in, want string }{
		{"text/plain", "secret: hunter2\nother: x", "secret: [redacted]\nother: x"},
		{"application/yaml", "customer:\n  secret: hunter2\n  name: x\n", "customer:\n  secret: [redacted]\n  name: x\n"},
		{"application/javascript", `cb({"customer":{"secret":"hunter2","name":"x"}})`, `cb({"customer":{"secret":"[redacted]","name":"x"}})`},
		{"application/json-seq", "\x1e{\"note\":\"hunter2\"}\n", "\x1e{\"note\":\"[redacted]\"}\n"},
		{"text/calendar", "SECRET:hun\r\n ter2\r\n", "SECRET:[redacted]\r\n \r\n"},
		{"text/html", "<pre>{ &quot;secret&quot;: &quot;hunter2&quot; }</pre>", "<pre>{ &quot;secret&quot;: &#34;[redacted]&#34; }</pre>"},
		{"text/html", `<input name=secret value=x><p title="secret" id=note data-note=x>`, `<input name=secret value=[redacted]><p title="secret" id=note data-note=[redacted]>`},
		{"text/html", `<script type="application/json">{"customer":{"secret":"x"},"secret":"y","password":"12345678"}</script>`, `<script type="application/json">{"customer":{"secret":"[redacted]"},"secret":"y","password":"****5678"}</script>`},
		// Where there are fields, only those that a path names.
		{"text/plain", `{"customer":{"secret":"x"},"secret":"y"}`, `{"customer":{"secret":"[redacted]"},"secret":"y"}`},
		{"application/xml", `<r><customer><secret>x</secret></customer><secret>y</secret></r>`, `<r><customer><secret>[redacted]</secret></customer><secret>y</secret></r>`},
		{"text/csv", "secret,note\n1,2\n", "secret,note\n1,2\n"},
	} {
		out, found, err := m.Whole(tt.contentType, []byte(tt.in))
		if err != nil || string(out) != tt.want || (tt.in != tt.want) != (len(found) > 0) {
			t.Errorf("%s %q became %q, %v %v; want %q", tt.contentType, tt.in, out, found, err, tt.want)
		}
	}
	b := m.NewText(small)
	out, err := b.Write([]byte(strings.Repeat("and so on ", 20) + "secret: hunter2\n"))
	rest, end := b.Close()
	if got := string(append(out, rest...)); err != nil || end != nil || !strings.HasSuffix(got, "secret: [redacted]\n") || len(b.Findings()) != 1 {
		t.Errorf("a stream: %q %v %v", got, err, end)
	}
}

// A path that leaves no name hides nothing that could be told in a text, so text is
// refused.
func TestFieldlessWithoutName(t *testing.T) {
	for _, path := range []string{"$", "*", "**", "[*]", `[" - "]`} {
		m := mustCompile(t, Spec{Rules: []Rule{{Name: "r", Paths: []string{path}}}})
		for _, contentType := range []string{"text/plain", "text/html", "text/calendar"} {
			if out, _, err := m.Whole(contentType, []byte("anything")); !errors.Is(err, ErrInvalid) {
				t.Errorf("%s, %s: %q, %v", path, contentType, out, err)
			}
		}
		if _, err := m.NewText(Limits{}).Close(); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
