package mask

import "slices"

// match is a recognised value in the scanned view.
type match struct {
	start, end int
	det        detector
	rule       int    // of detKeyword and detCustom
	detail     string // which credential
	custom     string // of detCustom: the detector's name
	value      []byte // what it is, where the view has it spelled in another way
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

	b        []byte
	matches  []match
	run      int      // start of a digit group that continues a run of groups, else -1
	noJWT    int      // no signed token begins before here
	id       [24]byte // scratch
	groups   groups   // scratch
	present  []int    // custom patterns whose literal was seen
	around   detSet
	known    bool   // around is worked out
	hints    detSet // what the words before hintsAt announce
	hintsAt  int
	unclosed int      // elements of XML whose end is not in the text
	spelled  bool     // something is written as in another text
	depth    int      // of such texts in each other
	read     view     // the text, as the other one is read
	again    *scanner // which searches it
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
	s.b, s.matches, s.run, s.noJWT, s.known, s.hintsAt, s.present, s.spelled, s.unclosed = b, s.matches[:0], -1, 0, false, -1, s.present[:0], false, 0
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
	if s.spelled {
		s.respell()
	}
}

// at looks at a byte of some class and returns where to go on.
func (s *scanner) at(i int, c byteClass) int {
	next := i + 1
	if c&classSpelled != 0 && !s.spelled {
		_, n := spelling(s.b, i)
		s.spelled = n > 0
	}
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
