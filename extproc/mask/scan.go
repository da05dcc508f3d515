package mask

import (
	"math/bits"
	"slices"
	"unicode"
)

func trailingZeros(s detSet) int { return bits.TrailingZeros64(uint64(s)) }

// engine is the compiled set of detectors: immutable.
type engine struct {
	on      detSet
	class   [256]byteClass
	text    [256]oddities // stringClass and class in one, for strings of JSON
	sec     *secretTable
	regions []string // whose own ways of writing telephone numbers are known
	custom  *customTable
	byName  bool // names in text may announce what follows a sign
	any     bool // something looks at values for what they are
	short   bool // it may find less than minMatch bytes
}

// byteClass tells what may begin, or be anchored, at a byte.
type byteClass uint8

const (
	classDigit  byteClass = 1 << iota // numbers of all kinds
	classAt                           // e-mail
	classAssign                       // name=value
	classColon                        // IPv6
	classPlus                         // telephone
	classAnchor                       // the rarest byte of some literal
)

// Detectors that begin with a digit.
const (
	ofDigits = 1<<detCard | 1<<detIBAN | 1<<detSSN | 1<<detPhone | 1<<detIP | allNational
	ofIBANs  = 1<<detIBAN | 1<<detCard // an IBAN is no card
)

func (e *engine) init(on detSet, keywords bool) {
	e.on = on
	for c := range e.class {
		b := byte(c)
		if on&ofDigits != 0 && isDigit(b) {
			e.class[c] |= classDigit
		}
		if on.has(detIP) && b == ':' {
			e.class[c] |= classColon
		}
		if on.has(detPhone) && b == '+' {
			e.class[c] |= classPlus
		}
		if on.has(detEmail) && b == '@' {
			e.class[c] |= classAt
		}
	}
	e.any = on != 0 || e.custom != nil
	e.short = keywords || e.custom != nil
	e.byName = keywords || on&(byNameOnly|setOf(detAPIKey, detKeyedSecret)) != 0
	if e.byName {
		e.class['='] |= classAssign
		e.class[':'] |= classAssign
	}
	if on&setOf(detAPIKey, detPrivateKey, detJWT) != 0 {
		e.sec = secrets()
		for c, is := range e.sec.literals.anchor {
			if is {
				e.class[c] |= classAnchor
			}
		}
	}
	if e.custom != nil {
		e.custom.mark(&e.class)
	}
	for c := range e.text {
		e.text[c] = oddities(stringClass[c]) | oddities(e.class[c])<<oddClasses
	}
}

// match is a recognised value in the scanned view.
type match struct {
	start, end int
	det        detector
	rule       int    // of detKeyword and detCustom
	detail     string // which credential
	custom     string // of detCustom: the detector's name
}

// kind is what findings and replacements call it.
func (f match) kind() string {
	if f.det == detCustom {
		return f.custom
	}
	return typeOf(f.det)
}

// scanner runs the detectors over one view. The matches ascend and don't overlap.
type scanner struct {
	e      *engine
	w      *walker                // knows what names say; nil where there are none to ask
	names  []frame                // names around the value; nil for plain text
	values bool                   // names may stand before values in the text
	strict func(a, b match) match // which of two overlapping matches decides

	b       []byte
	matches []match
	run     int      // start of a digit group that continues a run of groups, else -1
	noJWT   int      // no signed token begins before here
	id      [24]byte // scratch
	groups  groups   // scratch
	present []int    // custom patterns whose literal was seen
	around  detSet
	known   bool // around is worked out
}

// minMatch is the length of the shortest thing that any detector finds: a@b.co,
// ::1.
const minMatch = 6

func (s *scanner) scan(b []byte) []match {
	s.b, s.matches, s.run, s.noJWT, s.known, s.present = b, s.matches[:0], -1, 0, false, s.present[:0]
	class := &s.e.class
	for i := 0; i < len(b); {
		c := class[b[i]]
		if c == 0 {
			i++
			continue
		}
		i = s.at(i, c)
	}
	s.whole()
	return s.matches
}

// at looks at a byte of some class and returns where to go on.
func (s *scanner) at(i int, c byteClass) int {
	if c&classAnchor != 0 {
		if next := s.literal(i); next > i+1 {
			return next
		}
	}
	next := i + 1
	switch {
	case c&classDigit != 0:
		next = s.digits(i)
	case c&classAt != 0:
		next = s.email(i)
	case c&classPlus != 0:
		next = s.international(i)
	case c&(classColon|classAssign) != 0:
		if c&classColon != 0 {
			next = s.ipv6(i)
		}
		if next == i+1 && c&classAssign != 0 && s.values {
			next = s.assign(i)
		}
	}
	return next
}

// whole looks at the view as a whole: for patterns of the user's own that have no
// literal, and for secrets that only their name tells.
func (s *scanner) whole() {
	if s.e.custom != nil {
		s.e.custom.search(s)
	}
	if len(s.names) > 0 && len(s.matches) == 0 && s.values {
		s.keyedValue()
	}
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

// insert is found for a match that is not the last: custom patterns and words are
// searched for after the pass.
func (s *scanner) insert(m match) {
	i := len(s.matches)
	for i > 0 && s.matches[i-1].end > m.start {
		i--
	}
	j := i
	for j < len(s.matches) && s.matches[j].start < m.end {
		start, end := min(s.matches[j].start, m.start), max(s.matches[j].end, m.end)
		m = s.strict(s.matches[j], m)
		m.start, m.end = start, end
		j++
	}
	s.matches = slices.Replace(s.matches, i, j, m)
}

// floor is where the last match ends: nothing reaches back further.
func (s *scanner) floor() int {
	if n := len(s.matches); n > 0 {
		return s.matches[n-1].end
	}
	return 0
}

// digits looks at the run of digit groups that begins at i: addresses, IBAN,
// national numbers, SSN, card, telephone.
func (s *scanner) digits(i int) int {
	b := s.b
	on := s.e.on
	continues := s.run == i
	s.run = -1
	if i >= 2 && on&ofIBANs != 0 && i+1 < len(b) && isDigit(b[i+1]) {
		if p := b[i-1]; isLetter(p) || p == ' ' || p == '-' {
			if from, to := ibanAt(b, i); to > 0 && from >= s.floor() {
				// Known to be an IBAN, it is no card either, whoever asked for which.
				if on.has(detIBAN) {
					return s.found(match{start: from, end: to, det: detIBAN})
				}
				return to
			}
		}
	}
	end := i + 1
	for end < len(b) && isDigit(b[end]) {
		end++
	}
	if end-i <= 3 && on.has(detIP) && end+1 < len(b) && b[end] == '.' && !continues {
		if to := s.ipv4(i); to > 0 {
			return s.found(match{start: i, end: to, det: detIP})
		}
	}
	if end-i > maxCard {
		return end
	}
	var announced detSet
	if on&allNational != 0 {
		if end-i >= 6 || end-i == 4 && i > 0 && isLetter(b[i-1]) && isLetter(at(b, end)) {
			announced = s.announced(i)
		}
		if from, to, det := s.national(i, end, announced); to > 0 {
			return s.found(match{start: from, end: to, det: det})
		}
	}
	if end-i < 9 && groupAfter(b, end) < 0 {
		area := at(b, end) == ')' && at(b, i-1) == '(' // (415) 555-2671
		if (end-i >= 7 && s.announced(i).has(detPhone) || area) && on.has(detPhone) {
			if from, to := s.telephone(i); to > 0 {
				return s.found(match{start: from, end: to, det: detPhone})
			}
		}
		return end // the usual case: some number
	}
	g := &s.groups
	g.read(b, i)
	if g.total < 7 && !g.more {
		return g.end[g.n-1]
	}
	if end-i < 6 && g.total >= 8 && on&allNational != 0 && !continues {
		if announced = s.announced(i); announced&allNational != 0 {
			if from, to, det := s.national(i, end, announced); to > 0 {
				return s.found(match{start: from, end: to, det: det})
			}
		}
	}
	done := 0
	if on.has(detSSN) && g.total >= 9 {
		if end := s.ssn(g); end > 0 {
			done = s.found(match{start: i, end: end, det: detSSN})
		}
	}
	if done == 0 && on.has(detCard) {
		if end := s.card(g, continues); end > 0 {
			done = s.found(match{start: i, end: end, det: detCard})
		}
	}
	if done == 0 && on.has(detPhone) && !continues {
		if from, to := s.telephone(i); to > 0 {
			done = s.found(match{start: from, end: to, det: detPhone})
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

func (g *groups) read(b []byte, i int) {
	g.n, g.total, g.more = 0, 0, false
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
			return
		}
		if i = groupAfter(b, i); i < 0 {
			return
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

// announced tells which detectors' values the value at i is announced as: by one
// of the three names around it, or by words shortly before it in the text.
func (s *scanner) announced(i int) detSet {
	if s.w == nil {
		return 0
	}
	if i == 0 {
		return s.nameHints()
	}
	return s.nameHints() | s.before(i)
}

// nameHints is what the three names around the value announce.
func (s *scanner) nameHints() detSet {
	if !s.known {
		s.known, s.around = true, 0
		for n, k := 0, len(s.names)-1; k >= 0 && n < 3; k-- {
			if s.names[k].kind == frameKey {
				s.around |= s.names[k].info.hints
				n++
			}
		}
	}
	return s.around
}

// wordReach is how far before a value a word may announce it.
const wordReach = 40

// before asks the words before i, single and in pairs ("codice fiscale").
func (s *scanner) before(i int) (hints detSet) {
	b, from := s.b, max(0, i-wordReach)
	end, last := i, 0
	for end > from && isLetter(b[end-1]) && i-end < 6 {
		end-- // the letters that a number begins with
	}
	if end > 0 && isAlnum(b[end-1]) {
		return 0 // in the middle of some identifier
	}
	for n := 0; n < 5; n++ {
		for end > from && !isNameByte(b[end-1]) {
			if end--; b[end] == '\n' {
				return hints
			}
		}
		start := end
		for start > from && isNameByte(b[start-1]) {
			start--
		}
		if start == end {
			break
		}
		if numbered(b[start:end]) {
			end, last = start, 0
			continue // an identifier, a time
		}
		hints |= s.w.name(b[start:end]).hints
		if last > 0 && b[end] == ' ' {
			hints |= s.w.name(b[start:last]).hints
		}
		end, last = start, end
	}
	return hints
}

// numbered tells whether a word has digits in it, other than as in ipv4.
func numbered(w []byte) bool {
	n := 0
	for _, c := range w {
		if isDigit(c) {
			n++
		}
	}
	return n > 1 || n == 1 && len(w) != 4
}

func isNameByte(c byte) bool { return isLetter(c) || isDigit(c) || c == '_' || c == '-' || c >= 0x80 }

// isWordRune tells whether a character that is not ASCII may be a part of an
// address: a letter, or an accent on one, of the scripts that write words apart.
func isWordRune(r rune) bool { return r < 0x590 && (unicode.IsLetter(r) || unicode.IsMark(r)) }
