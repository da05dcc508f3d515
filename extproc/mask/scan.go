package mask

import (
	"math/bits"
	"slices"
	"unicode"
)

func trailingZeros(s detSet) int { return bits.TrailingZeros64(uint64(s)) }

// engine is the compiled set of detectors: immutable.
type engine struct {
	on       detSet
	class    [256]byteClass
	text     [256]oddities     // stringClass and class in one, for strings of JSON
	inner    [256]uint8        // see rest
	some     [8192 / 32]uint32 // which three bytes begin or end with an anchor of some literal
	sec      *secretTable
	regions  []string // whose own ways of writing telephone numbers are known
	custom   *customTable
	byName   bool      // names in text may announce what follows a sign
	any      bool      // something looks at values for what they are
	joint    [256]bool // digits and what parts them, where literals have their anchors there
	inGroups bool      // some of what parts digits is one
	inDigits bool      // some digit is one
	short    bool      // it may find less than minMatch bytes
}

// byteClass tells what may begin, or be anchored, at a byte.
type byteClass uint8

const (
	classDigit  byteClass = 1 << iota // numbers of all kinds
	classAt                           // e-mail
	classAssign                       // name=value
	classColon                        // IPv6
	classPlus                         // telephone
	classUpto                         // the rarest byte of some literal, known by what is before it
	classFrom                         // or by what is after it

	classAnchor = classUpto | classFrom
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
			e.class[c] |= is
		}
	}
	if e.sec != nil {
		e.some = e.sec.literals.bits
	}
	if e.custom != nil {
		e.custom.mark(&e.class)
		for h, some := range e.custom.literals.bits {
			e.some[h] |= some
		}
	}
	for c := range e.class {
		switch b := byte(c); {
		case e.class[c] == classDigit:
			e.inner[c] = innerDigit
		case e.class[c] == 0 && isLetter(b) && !isN(b):
			e.inner[c] = innerLetter
		}
	}
	e.joints()
	for c := range e.text {
		e.text[c] = oddities(stringClass[c]) | oddities(e.class[c])<<oddClasses
		if !base64Class[c] && stringClass[c] == 0 {
			e.text[c] |= oddNoBase64
		}
	}
}

// maybe tells whether some literal's anchor may be b[i]: nearly none is.
func (e *engine) maybe(b []byte, i int) bool {
	c := e.class[b[i]]
	if c&classUpto != 0 && i > 1 {
		if h := trigram(b[i-2], b[i-1], b[i]); e.some[h/32]>>(h%32)&1 != 0 {
			return true
		}
	}
	if c&classFrom != 0 && i+2 < len(b) {
		if h := trigram(b[i], b[i+1], b[i+2]); e.some[h/32]>>(h%32)&1 != 0 {
			return true
		}
	}
	return false
}

// joints sets joint: numbers are read as a whole, and what begins within one is to
// be found all the same.
func (e *engine) joints() {
	number := func(l *literal, i int) bool {
		return i < 0 || i >= len(l.text) || isDigit(l.text[i]) || separates[l.text[i]] != 0
	}
	var tables []*literals
	if e.sec != nil {
		tables = append(tables, &e.sec.literals)
	}
	if e.custom != nil {
		tables = append(tables, &e.custom.literals)
	}
	for _, t := range tables {
		for k := range t.list {
			l := &t.list[k]
			switch c := l.text[l.at]; {
			case isDigit(c):
				e.joint[c], e.inDigits = true, true
			case separates[c] != 0 && number(l, l.at-1) && number(l, l.at+1):
				e.joint[c], e.inGroups = true, true
			}
		}
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
	w      *walker // knows what names say; nil where there are none to ask
	names  []frame // names around the value; nil for plain text
	values bool    // names may stand before values in the text

	b       []byte
	matches []match
	run     int      // start of a digit group that continues a run of groups, else -1
	noJWT   int      // no signed token begins before here
	id      [24]byte // scratch
	groups  groups   // scratch
	present []int    // custom patterns whose literal was seen
	around  detSet
	known   bool   // around is worked out
	hints   detSet // what the words before hintsAt announce
	hintsAt int
}

// minMatch is the length of the shortest thing that any detector finds: a@b.co,
// ::1.
const minMatch = 6

func (s *scanner) scan(b []byte) []match {
	s.pass(b)
	s.whole()
	return s.matches
}

// pass is the one that finds all but what only the view as a whole tells.
func (s *scanner) pass(b []byte) {
	s.b, s.matches, s.run, s.noJWT, s.known, s.hintsAt, s.present = b, s.matches[:0], -1, 0, false, -1, s.present[:0]
	class := &s.e.class
	for i := 0; i < len(b); {
		c := class[b[i]]
		if c&classAnchor != 0 && s.e.maybe(b, i) {
			if next := s.literal(i); next > i+1 {
				i = next
				continue
			}
		}
		switch c &^= classAnchor; c {
		case 0:
			i++
		case classDigit:
			i = s.digits(i)
		default:
			i = s.at(i, c)
		}
	}
}

// at looks at a byte of some class and returns where to go on.
func (s *scanner) at(i int, c byteClass) int {
	next := i + 1
	switch {
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
		*last = s.stricter(*last, m)
		last.start, last.end = start, end
		return end
	}
	s.matches = append(s.matches, m)
	return m.end
}

// stricter tells which of two overlapping matches decides.
func (s *scanner) stricter(a, b match) match {
	if s.w != nil && s.w.ruleHow(b) > s.w.ruleHow(a) {
		return b
	}
	return a
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
		m = s.stricter(s.matches[j], m)
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
	end := i + 1
	for end < len(b) && isDigit(b[end]) {
		end++
	}
	size := end - i
	if size > 1 && i > 1 && on&ofIBANs != 0 && afterTwoLetters(b, i) {
		if from, to := ibanAt(b, i); to > 0 && from >= s.floor() {
			// Known to be an IBAN, it is no card either, whoever asked for which.
			if on.has(detIBAN) {
				return s.found(match{start: from, end: to, det: detIBAN})
			}
			return to
		}
	}
	if size <= 3 && on.has(detIP) && end+1 < len(b) && b[end] == '.' && !continues {
		if to := s.ipv4(i); to > 0 {
			return s.found(match{start: i, end: to, det: detIP})
		}
	}
	if s.e.inDigits {
		if to := s.within(i+1, end); to > 0 {
			return to
		}
	}
	if size > maxCard {
		return end
	}
	if on&allNational != 0 {
		var announced detSet
		if size >= 6 || size == 4 && i > 0 && isLetter(b[i-1]) && isLetter(at(b, end)) {
			announced = s.announced(i) & allNational
		}
		if left := nationalForms.left(b, i, end); announced != 0 || left != 0 && nationalForms.opens(left, size, b[i]) {
			if from, to, det := s.national(i, end, announced); to > 0 {
				return s.found(match{start: from, end: to, det: det})
			}
		}
	}
	if size == 4 && !continues && s.date(i) {
		return s.rest(i + dateSize)
	}
	if size < 9 && groupAfter(b, end) < 0 {
		area := at(b, end) == ')' && at(b, i-1) == '(' // (415) 555-2671
		if area && s.mayPhone(i) || size >= 7 && on.has(detPhone) && s.announced(i).has(detPhone) {
			if from, to := s.telephone(i); to > 0 {
				return s.found(match{start: from, end: to, det: detPhone})
			}
		}
		return s.rest(end) // the usual case: some number
	}
	g := &s.groups
	g.read(b, i, end)
	for k := 1; k < g.n && s.e.inGroups; k++ {
		if to := s.within(g.end[k-1], g.start[k]); to > 0 {
			return to
		}
	}
	if s.e.inDigits {
		if to := s.within(end, g.end[g.n-1]); to > 0 {
			return to
		}
	}
	if g.total < 7 && !g.more {
		return s.rest(g.end[g.n-1])
	}
	if size < 6 && g.total >= 8 && on&allNational != 0 && !continues {
		if announced := s.announced(i); announced&allNational != 0 {
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
	if done == 0 && on.has(detCard) && g.total >= 12 {
		if end := s.card(g, continues); end > 0 {
			done = s.found(match{start: i, end: end, det: detCard})
		}
	}
	if done == 0 && !continues && s.mayPhone(i) {
		if from, to := s.telephone(i); to > 0 {
			done = s.found(match{start: from, end: to, det: detPhone})
		}
	}
	if done == 0 && g.hollow(b) {
		return s.rest(g.end[g.n-1])
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

// within looks for literals that have their anchor in a part of a number, and
// returns where what it found ends, or 0.
func (s *scanner) within(i, end int) int {
	for ; i < end; i++ {
		if s.e.joint[s.b[i]] && s.e.maybe(s.b, i) {
			if to := s.literal(i); to > i+1 {
				return to
			}
		}
	}
	return 0
}

const dateSize = len("2026-11-23")

// date tells whether the four digits at i begin a date as machines write it, and
// nothing says that it is something else. It is the usual case of groups of digits
// of which too few are together for anything.
func (s *scanner) date(i int) bool {
	b, end := s.b, i+dateSize
	if end > len(b) || b[i+4] != '-' || b[i+7] != '-' || !isDigit(b[i+5]) || !isDigit(b[i+6]) || !isDigit(b[i+8]) || !isDigit(b[i+9]) {
		return false
	}
	if c := at(b, end); isDigit(c) || isSeparator(c) || separates[c] != 0 {
		return false
	}
	return !s.e.joint['-'] && !s.e.inDigits && len(s.e.regions) == 0 && s.announced(i) == 0
}

// afterTwoLetters tells whether two letters stand before i, as before an IBAN's
// check digits: perhaps with a blank or dash between.
func afterTwoLetters(b []byte, i int) bool {
	if p := b[i-1]; p == ' ' || p == '-' {
		i--
	}
	return i > 1 && isLetter(b[i-1]) && isLetter(b[i-2])
}

// rest returns where to go on after the digit before i. In the rest of the word
// that it stands in few digits begin nothing: whatever has so few must stand at the
// beginning of a word, but for an IBAN that is glued to its name.
func (s *scanner) rest(i int) int {
	const few = 8
	b, inner := s.b, &s.e.inner
	for run := 0; ; run = 0 {
		for i < len(b) && inner[b[i]] != innerNot {
			if run = (run + 1) * int(inner[b[i]]>>1); run > few {
				return i + 1 - run
			}
			i++
		}
		switch {
		case run > 0 && (isDigit(at(b, i)) || groupAfter(b, i) >= 0):
			return i - run
		case i < len(b) && s.e.class[b[i]]&^classAnchor == 0 && isLetter(b[i]) && !isN(b[i]) && !s.e.maybe(b, i):
			i++
		default:
			return i
		}
	}
}

// What bytes are to rest: letters and digits that go on with a word in which
// nothing begins, or others.
const (
	innerNot    = iota
	innerLetter // of no other class; and none that may be the n of IBAN
	innerDigit
)

func isN(c byte) bool { return c|0x20 == 'n' }

// mayPhone tells whether the number at i may be a telephone number without its
// country code.
func (s *scanner) mayPhone(i int) bool {
	return s.e.on.has(detPhone) && (len(s.e.regions) > 0 || s.announced(i).has(detPhone))
}

// groups is a run of digit groups with short separators between them, as far as
// it could be one number: reading stops with the group that exceeds maxCard digits.
type groups struct {
	start, end [maxCard + 1]int
	n          int
	total      int
	more       bool // reading stopped early
}

// hollow tells that nothing begins at the second group or after it: what they have
// together are too few digits for anything but the forms of national numbers, and
// none of those stands after a sign that joins it to other digits.
func (g *groups) hollow(b []byte) bool {
	if g.n < 2 || g.more || g.total-(g.end[0]-g.start[0]) >= 7 {
		return false
	}
	p := b[g.start[1]-1]
	return p != ' ' && p != '\t' && g.start[1] == g.end[0]+1 && !isSeparator(at(b, g.end[g.n-1]))
}

// read reads the run of groups of which the first is [i, end).
func (g *groups) read(b []byte, i, end int) {
	g.n, g.total, g.more = 0, 0, false
	for {
		g.start[g.n], g.end[g.n] = i, end
		g.n++
		g.total += end - i
		if g.total > maxCard {
			g.more = true
			return
		}
		if i = groupAfter(b, end); i < 0 {
			return
		}
		for end = i + 1; end < len(b) && isDigit(b[end]) && end-i <= maxCard; {
			end++
		}
	}
}

// groupAfter returns the start of the digit group that follows a separator at i,
// or -1. A separator is one of . _ / or up to three spaces and dashes; never a
// line end, since columns of numbers are not one number.
func groupAfter(b []byte, i int) int {
	if i >= len(b) || separates[b[i]] == 0 {
		return -1
	}
	return nextGroup(b, i)
}

// separates tells which bytes may part groups of digits: 1 alone, 2 up to three.
var separates = [256]uint8{'.': 1, '_': 1, '/': 1, ' ': 2, '-': 2, '\t': 2}

func nextGroup(b []byte, i int) int {
	end := i + 1
	if separates[b[i]] == 2 {
		for end < len(b) && end-i < 3 && separates[b[end]] == 2 {
			end++
		}
	}
	if end < len(b) && isDigit(b[end]) {
		return end
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
	if s.hintsAt != i {
		s.hintsAt, s.hints = i, s.before(i)
	}
	return s.nameHints() | s.hints
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
