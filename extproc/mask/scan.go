package mask

import (
	"bytes"
	"slices"
	"unicode"
	"unicode/utf8"
)

// detector numbers the kinds of value that can be recognised.
type detector uint8

const (
	detCard detector = iota
	detEmail
	detIBAN
	detSSN
	detAPIKey
	detPrivateKey
	detJWT
	detCount

	detKeyword = detCount // not a detector: name=value in text, from a rule's keys
)

// detSet is a set of detectors.
type detSet uint32

func (s detSet) has(d detector) bool { return s>>d&1 != 0 }

func setOf(ds ...detector) (s detSet) {
	for _, d := range ds {
		s |= 1 << d
	}
	return s
}

// typeOf is the name that findings and replacements give a detector.
func typeOf(d detector) string {
	return [...]string{"card", "email", "iban", "ssn", "api_key", "private_key", "jwt", typeKey}[d]
}

// detectorNames are the names that specs may use, groups among them.
func detectorNames() map[string]detSet {
	m := map[string]detSet{
		"secret": setOf(detAPIKey, detPrivateKey, detJWT),
		"all":    setOf(detCount) - 1,
	}
	for d := range detCount {
		m[typeOf(d)] = setOf(d)
	}
	return m
}

// Detectors lists the detector names that a spec may use: card, email, iban, ssn,
// api_key, private_key and jwt, "secret" for the last three, "all" for all.
func Detectors() []string {
	var names []string
	for n := range detectorNames() {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// engine is the compiled set of detectors: immutable.
type engine struct {
	on    detSet
	class [256]byteClass
	sec   *secretTable
}

// byteClass tells what may begin, or be anchored, at a byte.
type byteClass uint8

const (
	classDigit   byteClass = 1 << iota // card, IBAN, SSN
	classAt                            // e-mail
	classAssign                        // name=value
	classLiteral                       // first byte of a secret's literal
)

func (e *engine) init(on detSet, keywords bool) {
	e.on = on
	if on&setOf(detCard, detIBAN, detSSN) != 0 {
		for c := '0'; c <= '9'; c++ {
			e.class[c] |= classDigit
		}
	}
	if on.has(detEmail) {
		e.class['@'] |= classAt
	}
	if keywords {
		e.class['='] |= classAssign
		e.class[':'] |= classAssign
	}
	e.sec = secrets()
	for _, r := range e.sec.rules {
		if on.has(r.det) {
			e.class[r.literal[0]] |= classLiteral
		}
	}
}

// match is a recognised value in the scanned view.
type match struct {
	start, end int
	det        detector
	rule       int    // of detKeyword
	detail     string // of detAPIKey
}

// scanner runs the detectors over one view. The matches ascend and don't overlap.
type scanner struct {
	e       *engine
	keyword func(name []byte) int  // rule of a key name or -1; nil without keys
	names   []frame                // names around the value; nil for plain text
	strict  func(a, b match) match // which of two overlapping matches decides

	b       []byte
	matches []match
	run     int // start of a digit group that continues a run of groups, else -1
	noJWT   int // no signed token begins before here
}

// minMatch is the length of the shortest thing that any detector finds: a@b.co.
const minMatch = 6

func (s *scanner) scan(b []byte) []match {
	s.b, s.matches, s.run, s.noJWT = b, s.matches[:0], -1, 0
	if len(b) < minMatch && s.keyword == nil {
		return nil
	}
	class := &s.e.class
	for i := 0; i < len(b); {
		c := class[b[i]]
		if c == 0 {
			i++
			continue
		}
		next := i + 1
		if c&classLiteral != 0 && i+2 < len(b) && s.e.sec.bucket[trigram(b[i], b[i+1], b[i+2])] != 0 {
			next = s.secret(i)
		}
		if next == i+1 {
			switch {
			case c&classDigit != 0:
				next = s.digits(i)
			case c&classAt != 0:
				next = s.email(i)
			case c&classAssign != 0 && s.keyword != nil:
				next = s.assign(i)
			}
		}
		i = next
	}
	s.keyedSecret()
	return s.matches
}

// found records a match and returns where to go on. One that reaches back into
// the last match is merged with it.
func (s *scanner) found(m match) int {
	if n := len(s.matches); n > 0 && m.start < s.matches[n-1].end {
		last := &s.matches[n-1]
		start, end := min(last.start, m.start), max(last.end, m.end)
		*last = s.strict(*last, m)
		last.start, last.end = start, end
		return end
	}
	s.matches = append(s.matches, m)
	return m.end
}

// floor is where the last match ends: nothing reaches back further.
func (s *scanner) floor() int {
	if n := len(s.matches); n > 0 {
		return s.matches[n-1].end
	}
	return 0
}

// digits looks at the run of digit groups that begins at i: IBAN, SSN, card.
func (s *scanner) digits(i int) int {
	b := s.b
	continues := s.run == i
	s.run = -1
	if i >= 2 && s.e.on&setOf(detIBAN, detCard) != 0 {
		if from, to := ibanAt(b, i); to > 0 && from >= s.floor() {
			// Known to be an IBAN, it is no card either, whoever asked for which.
			if s.e.on.has(detIBAN) {
				return s.found(match{start: from, end: to, det: detIBAN})
			}
			return to
		}
	}
	end := i + 1
	for end < len(b) && isDigit(b[end]) {
		end++
	}
	if end-i > maxCard || end-i < 9 && groupAfter(b, end) < 0 {
		return end // the usual case: some number
	}
	g := readGroups(b, i)
	if g.total < 9 && !g.more {
		return g.end[g.n-1]
	}
	done := 0
	if s.e.on.has(detSSN) {
		if end := s.ssn(&g); end > 0 {
			done = s.found(match{start: i, end: end, det: detSSN})
		}
	}
	if done == 0 && s.e.on.has(detCard) {
		if end := s.card(&g, continues); end > 0 {
			done = s.found(match{start: i, end: end, det: detCard})
		}
	}
	// Go on with the next group: a card may follow another number.
	for k := range g.n {
		if g.start[k] >= max(done, i+1) {
			s.run = g.start[k]
			return g.start[k]
		}
	}
	if done > 0 {
		if q := groupAfter(b, done); q > 0 {
			s.run = q
		}
		return done
	}
	return g.end[g.n-1]
}

// groups is a run of digit groups with short separators between them, as far as
// it could be one number: reading stops with the group that exceeds maxCard digits.
type groups struct {
	start, end [maxCard + 1]int
	n          int
	total      int
	more       bool // reading stopped early
}

func readGroups(b []byte, i int) (g groups) {
	for {
		st := i
		for i < len(b) && isDigit(b[i]) && i-st <= maxCard {
			i++
		}
		g.start[g.n], g.end[g.n] = st, i
		g.n++
		g.total += i - st
		if g.total > maxCard {
			g.more = true
			return g
		}
		if i = groupAfter(b, i); i < 0 {
			return g
		}
	}
}

// groupAfter returns the start of the digit group that follows a separator at i,
// or -1. A separator is one of . _ / or up to three spaces and dashes; never a
// line end, since columns of numbers are not one number.
func groupAfter(b []byte, i int) int {
	if i >= len(b) {
		return -1
	}
	switch b[i] {
	case '.', '_', '/':
		i++
	case ' ', '-', '\t':
		for n := 0; n < 3 && i < len(b) && (b[i] == ' ' || b[i] == '-' || b[i] == '\t'); n++ {
			i++
		}
	default:
		return -1
	}
	if i < len(b) && isDigit(b[i]) {
		return i
	}
	return -1
}

func isDigit(c byte) bool  { return c-'0' <= 9 }
func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }
func isAlnum(c byte) bool  { return isDigit(c) || isLetter(c) }
func isHex(c byte) bool    { return isDigit(c) || c|0x20 >= 'a' && c|0x20 <= 'f' }

// alnumAt tells whether there is a letter or digit at i.
func alnumAt(b []byte, i int) bool { return i >= 0 && i < len(b) && isAlnum(b[i]) }

// inID tells whether groups 0..k are a part of a longer identifier of hexadecimal
// form: a hash, a trace id, a UUID. Those have runs of digits by chance.
func inID(b []byte, g *groups, k int) bool {
	least := 8 // digits in parts stand in short words only
	if k == 0 {
		least = 24 // or 16: "cc4111111111111111" is a card, and a span id is none
	}
	for _, n := range [...]int{0, k} {
		lo, hi := g.start[n], g.end[n]
		size := hi - lo
		for lo > 0 && hi-lo < maxID && isAlnum(b[lo-1]) {
			lo--
		}
		for hi < len(b) && hi-lo < 2*maxID && isAlnum(b[hi]) {
			hi++
		}
		if t := hi - lo; t > size && (t >= least || t == 16) && allHex(b[lo:hi]) {
			return true
		}
	}
	const uuid = 36
	lo, hi := g.start[0], g.end[k]
	for lo > 0 && hi-lo <= uuid && (isHex(b[lo-1]) || b[lo-1] == '-') {
		lo--
	}
	for hi < len(b) && hi-lo <= uuid && (isHex(b[hi]) || b[hi] == '-') {
		hi++
	}
	t := b[lo:hi]
	return len(t) == uuid && t[8] == '-' && t[13] == '-' && t[18] == '-' && t[23] == '-' &&
		allHex(t[:8]) && allHex(t[9:13]) && allHex(t[14:18]) && allHex(t[19:23]) && allHex(t[24:])
}

// maxID is more than the hexadecimal form of any usual hash has.
const maxID = 160

func allHex(b []byte) bool {
	for _, c := range b {
		if !isHex(c) {
			return false
		}
	}
	return true
}

// tells whether the value whose match begins at i is announced as a certain kind:
// by one of the three names around it, or by words shortly before it in the text.
func (s *scanner) tells(i int, kind func(word []byte) bool) bool {
	for n, k := 0, len(s.names)-1; k >= 0 && n < 3; k-- {
		if s.names[k].kind == frameKey {
			if kind(normalKey(nil, s.names[k].key)) {
				return true
			}
			n++
		}
	}
	from := max(0, i-32)
	before := s.b[from:i]
	if n := bytes.LastIndexByte(before, '\n'); n >= 0 {
		before = before[n+1:]
	}
	for _, w := range bytes.FieldsFunc(before, func(r rune) bool {
		return r < utf8.RuneSelf && !isAlnum(byte(r)) && r != '_' && r != '-'
	}) {
		if kind(normalKey(nil, w)) {
			return true
		}
	}
	return false
}

// isWordRune tells whether a character that is not ASCII may be a part of an
// address: a letter, or an accent on one, of the scripts that write words apart.
func isWordRune(r rune) bool { return r < 0x590 && (unicode.IsLetter(r) || unicode.IsMark(r)) }
