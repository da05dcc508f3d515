package mask

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
