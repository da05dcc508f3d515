package mask

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"unicode"
	"unicode/utf8"
)

// Definition is a detector of the user's own: a pattern, words, names of fields,
// or several of these. It is plain data.
type Definition struct {
	// Name is the type of its findings.
	Name string `json:"name"`
	// Pattern is RE2 syntax. Its first group, where it has one, is what is hidden.
	Pattern string `json:"pattern,omitempty"`
	// Words are words and phrases, found as whole words in any case.
	Words []string `json:"words,omitempty"`
	// MatchCase makes the case of words count.
	MatchCase bool `json:"match_case,omitempty"`
	// Keys are names as in [Rule].Keys.
	Keys []string `json:"keys,omitempty"`
}

// Bounds on definitions, so that one can't make masking slow by accident.
const (
	maxPattern  = 2048   // bytes
	maxProgram  = 20_000 // instructions that a pattern compiles to
	maxWords    = 200_000
	maxWordSize = 128 // bytes
)

// Custom is a definition made ready; immutable, and shared by all maskers.
type Custom struct {
	name     string
	keys     []string
	pattern  *regexp.Regexp
	literals []string // of which one is in every match of the pattern; none: not known
	fold     bool
	words    *dictionary
	analyzer Analyzer
}

// NewCustom checks a definition and prepares it.
func NewCustom(d Definition) (*Custom, error) {
	c := &Custom{name: d.Name, keys: d.Keys}
	if d.Pattern == "" && len(d.Words)+len(d.Keys) == 0 {
		return nil, errors.New("has no pattern, words or keys, so it would find nothing")
	}
	if d.Pattern != "" {
		if err := c.compile(d.Pattern); err != nil {
			return nil, err
		}
	}
	if len(d.Words) > 0 {
		var err error
		if c.words, err = newDictionary(d.Words, d.MatchCase); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *Custom) compile(pattern string) error {
	if len(pattern) > maxPattern {
		return fmt.Errorf("pattern has %d bytes, at most %d", len(pattern), maxPattern)
	}
	tree, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return fmt.Errorf("pattern is not RE2: %w", err)
	}
	program, err := syntax.Compile(tree.Simplify())
	if err != nil {
		return fmt.Errorf("pattern: %w", err)
	}
	if n := len(program.Inst); n > maxProgram {
		return fmt.Errorf("pattern compiles to %d instructions, at most %d; make its repetitions smaller", n, maxProgram)
	}
	if c.pattern, err = regexp.Compile(pattern); err != nil {
		return fmt.Errorf("pattern: %w", err)
	}
	if c.pattern.MatchString("") {
		return errors.New("pattern matches nothing at all as well, so it would match everywhere")
	}
	c.literals, c.fold = requiredLiterals(tree.Simplify())
	return nil
}

// requiredLiterals lists texts of which one is in every match of a pattern.
func requiredLiterals(re *syntax.Regexp) (texts []string, fold bool) {
	if texts, fold = literalsOf(re); len(texts) > 0 {
		return texts, fold
	}
	switch re.Op {
	case syntax.OpCapture, syntax.OpPlus:
		return requiredLiterals(re.Sub[0])
	case syntax.OpRepeat:
		if re.Min > 0 {
			return requiredLiterals(re.Sub[0])
		}
	case syntax.OpAlternate:
		for _, sub := range re.Sub {
			more, f := requiredLiterals(sub)
			if len(more) == 0 {
				return nil, false
			}
			texts, fold = append(texts, more...), fold || f
		}
		return texts, fold
	case syntax.OpConcat:
		for k := range re.Sub {
			tail := &syntax.Regexp{Op: syntax.OpConcat, Sub: re.Sub[k:]}
			if texts, fold = literalsOf(tail); len(texts) > 0 {
				return texts, fold
			}
		}
		for _, sub := range re.Sub {
			if texts, fold = requiredLiterals(sub); len(texts) > 0 {
				return texts, fold
			}
		}
	}
	return nil, false
}

// customTable is the custom detectors of one masker.
type customTable struct {
	dets     []ruledCustom
	literals literals
}

type ruledCustom struct {
	*Custom
	rule int
}

func (t *customTable) add(c *Custom, rule int) {
	for _, l := range c.literals {
		t.literals.add(l, c.fold, len(t.dets))
	}
	t.dets = append(t.dets, ruledCustom{c, rule})
}

func (t *customTable) mark(class *[256]byteClass) {
	for c, is := range t.literals.anchor {
		class[c] |= is
	}
}

// literal notes which patterns' literals stand around the anchor at i.
func (t *customTable) literal(s *scanner, i int) {
	upto, from := t.literals.candidates(s.b, i)
	for _, chain := range [2][]uint16{upto, from} {
		for _, n := range chain {
			l := &t.literals.list[n]
			if _, ok := l.stands(s.b, i); ok && !slices.Contains(s.present, l.rule) {
				s.present = append(s.present, l.rule)
			}
		}
	}
}

// search runs the patterns that may match somewhere in the view, and looks for
// the words.
func (t *customTable) search(s *scanner) {
	for i, d := range t.dets {
		if d.pattern != nil && (len(d.literals) == 0 || slices.Contains(s.present, i)) {
			for _, m := range d.pattern.FindAllSubmatchIndex(s.b, -1) {
				from, to := m[0], m[1]
				if len(m) > 2 && m[2] >= 0 {
					from, to = m[2], m[3]
				}
				if to > from {
					s.insert(match{start: from, end: to, det: detCustom, rule: d.rule, custom: d.name})
				}
			}
		}
		if d.words != nil {
			d.words.find(s.b, func(from, to int) {
				s.insert(match{start: from, end: to, det: detCustom, rule: d.rule, custom: d.name})
			})
		}
	}
}

// dictionary finds thousands of words and phrases in one pass: at the start of
// each word, those that begin with the same characters are compared. Scripts
// that write no spaces have a word begin at every character.
type dictionary struct {
	byStart   map[uint32][]string // longest first; by the first two characters
	first     [256]bool           // bytes that some word begins with, in either case
	matchCase bool
}

func newDictionary(words []string, matchCase bool) (*dictionary, error) {
	d := &dictionary{byStart: map[uint32][]string{}, matchCase: matchCase}
	if len(words) > maxWords {
		return nil, fmt.Errorf("has %d words, at most %d", len(words), maxWords)
	}
	for _, w := range words {
		norm := normalWord(w, matchCase)
		switch {
		case utf8.RuneCountInString(norm) < 2:
			return nil, fmt.Errorf("word %q is shorter than two characters", w)
		case len(norm) > maxWordSize:
			return nil, fmt.Errorf("word %.20q… is longer than %d bytes", w, maxWordSize)
		}
		k := startOf([]byte(norm), true)
		if !slices.Contains(d.byStart[k], norm) {
			d.byStart[k] = append(d.byStart[k], norm)
		}
		r, _ := utf8.DecodeRuneInString(norm)
		for _, r := range []rune{r, unicode.ToUpper(r), unicode.ToTitle(r)} {
			var b [utf8.UTFMax]byte
			utf8.EncodeRune(b[:], r)
			d.first[b[0]] = true
		}
	}
	for _, l := range d.byStart {
		slices.SortFunc(l, func(a, b string) int { return len(b) - len(a) })
	}
	return d, nil
}

// normalWord folds a word as text is folded, and its white space to single blanks.
func normalWord(w string, matchCase bool) string {
	var v view
	folded, _ := v.fold([]byte(w))
	var out []byte
	for _, r := range string(folded) {
		switch {
		case unicode.IsSpace(r):
			if len(out) > 0 && out[len(out)-1] != ' ' {
				out = append(out, ' ')
			}
			continue
		case !matchCase:
			r = unicode.ToLower(r)
		}
		out = utf8.AppendRune(out, r)
	}
	for len(out) > 0 && out[len(out)-1] == ' ' {
		out = out[:len(out)-1]
	}
	return string(out)
}

// startOf hashes the first two characters; lower says that they need no folding.
func startOf(b []byte, lower bool) uint32 {
	r, n := utf8.DecodeRune(b)
	q, _ := utf8.DecodeRune(b[n:])
	if !lower {
		r, q = unicode.ToLower(r), unicode.ToLower(q)
	}
	if unicode.IsSpace(q) {
		q = ' '
	}
	return uint32(r)<<11 ^ uint32(q)
}

// find calls found for each word in a view, the longest at each place.
func (d *dictionary) find(b []byte, found func(from, to int)) {
	for i := 0; i < len(b); {
		if !d.first[b[i]] || !startsWord(b, i) {
			i++
			continue
		}
		end := 0
		for _, w := range d.byStart[startOf(b[i:], d.matchCase)] {
			if end = d.stands(b, i, w); end > 0 {
				break
			}
		}
		if end > 0 {
			found(i, end)
			i = end
			continue
		}
		i++
	}
}

// stands returns where the word ends that stands at i, or 0.
func (d *dictionary) stands(b []byte, i int, word string) int {
	var last rune
	for k := 0; k < len(word); {
		if i >= len(b) {
			return 0
		}
		want, n := utf8.DecodeRuneInString(word[k:])
		k += n
		got, m := utf8.DecodeRune(b[i:])
		i += m
		if want == ' ' {
			if !unicode.IsSpace(got) {
				return 0
			}
			for blanks := 0; i < len(b) && blanks < 8 && (b[i] == ' ' || b[i] == '\t' || b[i] == '\n' || b[i] == '\r'); blanks++ {
				i++
			}
			continue
		}
		if !d.matchCase {
			got = unicode.ToLower(got)
		}
		if got != want {
			return 0
		}
		last = got
	}
	if i < len(b) && spaced(last) {
		if r, _ := utf8.DecodeRune(b[i:]); isWordChar(r) && spaced(r) {
			return 0
		}
	}
	return i
}

// startsWord tells whether a word may begin at i.
func startsWord(b []byte, i int) bool {
	if !utf8.RuneStart(b[i]) {
		return false
	}
	if i == 0 {
		return true
	}
	if b[i] < utf8.RuneSelf && b[i-1] < utf8.RuneSelf {
		return !isAlnum(b[i-1]) || !isAlnum(b[i])
	}
	r, _ := utf8.DecodeRune(b[i:])
	before, _ := utf8.DecodeLastRune(b[:i])
	return !isWordChar(before) || !isWordChar(r) || !spaced(r) || !spaced(before)
}

func isWordChar(r rune) bool { return unicode.IsLetter(r) || unicode.IsMark(r) || unicode.IsDigit(r) }

// spaced tells whether a character's script writes words apart.
func spaced(r rune) bool {
	return !unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar)
}
