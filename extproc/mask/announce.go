package mask

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
