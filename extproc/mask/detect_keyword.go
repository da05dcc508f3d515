package mask

import "bytes"

// assign looks at the = or : at i: if a rule's key name stands before it, the
// value after it is hidden. This is how key rules reach form data, log lines,
// configuration, and JSON that is cut off or embedded in prose.
func (s *scanner) assign(i int) int {
	b := s.b
	end := trimBack(b, i)
	rule := -1
	// Up to three words may form the name: "Card number: ...".
	for words, start := 0, end; words < 3 && rule < 0; words++ {
		if words > 0 {
			if start == 0 || b[start-1] != ' ' {
				break
			}
			start--
		}
		from := start
		for start > 0 && end-start < maxKeyLength && isName(b[start-1]) {
			start--
		}
		if start == from {
			break
		}
		if rule = s.keyword(b[start:end]); rule < 0 && words == 0 {
			if dot := bytes.LastIndexByte(b[start:end], '.'); dot >= 0 { // user.password=
				rule = s.keyword(b[start+dot+1 : end])
			}
		}
	}
	if rule < 0 {
		return i + 1
	}
	from, to := assigned(b, i)
	if from >= to {
		return i + 1
	}
	return s.found(match{start: from, end: to, det: detKeyword, rule: rule})
}

func isName(c byte) bool { return isAlnum(c) || c == '_' || c == '-' || c == '.' || c >= 0x80 }

// trimBack returns the end of the name before the sign at i, without quotes and
// the backslashes of an outer string.
func trimBack(b []byte, i int) int {
	for n := 0; n < 8 && i > 0; n++ {
		switch b[i-1] {
		case ' ', '\t', '"', '\'', '\\', ']':
			i--
			continue
		}
		break
	}
	return i
}

// assigned returns the range of the value after the sign at i. It rather takes
// too much than too little: up to the closing quote if there is one; up to white
// space or & after =; the rest of the line after :, where prose and header lines
// have values of several words; and the rest of the text if a structure begins.
func assigned(b []byte, i int) (from, to int) {
	sign := b[i]
	for i++; i < len(b) && (b[i] == ' ' || b[i] == '\t' || b[i] == '\\' || b[i] == '=' || b[i] == '>'); i++ {
	}
	if i == len(b) {
		return i, i
	}
	switch c := b[i]; c {
	case '"', '\'', '`':
		from = i + 1
		for to = from; to < len(b) && b[to] != c; to++ {
			if b[to] == '\\' && to+1 < len(b) {
				if b[to+1] == c && b[i-1] == '\\' {
					break // the value's own quotes are escaped ones
				}
				to++
			}
		}
		return from, min(to, len(b))
	case '{', '[':
		return i, len(b)
	}
	for to = i; to < len(b); to++ {
		switch c := b[to]; {
		case c == '\n' || c == '\r':
			return i, to
		case sign == '=' && (c == ' ' || c == '\t' || c == '&' || c == '"' || c == '\''):
			return i, to
		}
	}
	return i, to
}
