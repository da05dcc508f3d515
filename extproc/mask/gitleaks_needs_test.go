package mask

import (
	"regexp/syntax"
	"strings"
	"testing"
)

// What a pattern needs is told of no pattern that may do without it.
func TestNeededBy(t *testing.T) {
	for _, c := range []struct {
		pattern, literal string
		needs            byte
		noBlank          bool
	}{
		{`https?://([a-f0-9]{8}:[a-f0-9]{8})@(?:a.b|c.d)`, "http", '@', true},
		{`key[^@]{0,9}@x`, "key", '@', false}, // [^@] may be a blank
		{`key.?@x`, "key", '@', false},
		{`key a-@x`, "key", '@', false},
		{`key@ ?x`, "key", '@', true},
		{`key(?:@)?x`, "key", 0, false},
		{`key(?:@|#)x`, "key", 0, false},
		{`key@*x`, "key", 0, false},
		{`key(?:_a)+x`, "key", '_', true},
		{`key@x`, "key@", 0, false}, // that it is there is known already
		{`keyabc`, "key", 0, false},
	} {
		tree, err := syntax.Parse(c.pattern, syntax.Perl)
		if err != nil {
			t.Fatal(err)
		}
		if needs, noBlank := neededBy(tree.Simplify(), []string{c.literal}); needs != c.needs || needs != 0 && noBlank != c.noBlank {
			t.Errorf("%s needs %q, no blank before it: %v", c.pattern, needs, noBlank)
		}
	}
	for _, r := range secrets().rules {
		if r.needs != 0 && strings.IndexByte(strings.Join(r.literals, ""), r.needs) >= 0 {
			t.Errorf("%s: what it needs is in its literals", r.name)
		}
	}
}
