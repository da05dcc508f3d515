package mask

import (
	"regexp"
	"sync"
)

// secretTable is the rules for secrets prepared for the scan: immutable, and
// shared by all maskers.
type secretTable struct {
	rules    []secretRule
	literals literals
	keyed    []keyedRule
	// keyedWords are the words in names that keyed rules ask for, normalised.
	keyedWords map[string][]uint16
}

// secretRule recognises one kind of credential. The scan compares literals, and
// only where one stands does the pattern run; so a rule costs nothing in text
// that doesn't hold its literal.
type secretRule struct {
	det  detector
	name string // the finding's detail

	// literals are how the match begins, each at least three bytes. Before says
	// that it begins earlier: the pattern then runs, unanchored, over that many
	// bytes before the literal too.
	literals []string
	fold     bool // the literals' case doesn't count
	before   int

	// pattern is RE2, anchored at the literal unless before is set. group is what
	// of it is hidden, 0 all. Empty for forms that have code of their own.
	pattern string
	group   int

	// bounded demands that no letter, digit, '_' or '-' stands before the literal:
	// for literals short enough to end a word by chance, and for open-ended
	// patterns, which would otherwise be tried at each byte of a repeated literal.
	bounded bool

	// needs is a byte that must follow within the pattern's reach: a cheap test
	// before the pattern where the literal is common. With noBlank there is no
	// blank before it.
	needs   byte
	noBlank bool

	entropy float64 // least, in bits a character, of what is hidden
	re      func() *regexp.Regexp
}

// keyedRule recognises a credential that has no form of its own by what it is
// filed under and what it is made of.
type keyedRule struct {
	name    string
	words   []string // normalised, of which one must be in the name
	pattern string   // RE2, of the whole value
	entropy float64
	re      func() *regexp.Regexp
}

// secrets is built at its first use. Patterns are compiled when their literal is
// first met: most never are.
var secrets = sync.OnceValue(func() *secretTable {
	t := &secretTable{keyedWords: map[string][]uint16{}}
	rules, keyed := gitleaksRules()
	for _, r := range append(secretRules(), rules...) {
		if r.pattern != "" {
			source := r.pattern
			if r.before == 0 {
				source = `\A(?:` + source + `)`
			}
			r.re = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(source) })
		}
		for _, l := range r.literals {
			t.literals.add(l, r.fold, len(t.rules))
		}
		t.rules = append(t.rules, r)
	}
	for _, r := range append(keyedRules(), keyed...) {
		r.re = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(r.pattern) })
		for _, w := range r.words {
			t.keyedWords[w] = append(t.keyedWords[w], uint16(len(t.keyed)))
		}
		t.keyed = append(t.keyed, r)
	}
	return t
})
