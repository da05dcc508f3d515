package mask

import "bytes"

// ssn returns the end of the US social security number that begins with the first
// group, or 0. Three groups with dashes are one by form; with other separators,
// or as nine plain digits, only where a name announces it.
func (s *scanner) ssn(g *groups) int {
	b := s.b
	i := g.start[0]
	if i > 0 && isLetter(b[i-1]) {
		return 0
	}
	size := func(k int) int { return g.end[k] - g.start[k] }
	switch {
	case g.n >= 3 && size(0) == 3 && size(1) == 2 && size(2) == 4:
		end := g.end[2]
		if isLetter(at(b, end)) {
			return 0
		}
		sep := b[g.end[0]:g.start[1]]
		if !bytes.Equal(sep, b[g.end[1]:g.start[2]]) {
			return 0
		}
		dashes := string(bytes.Trim(sep, " ")) == "-"
		if !ssnDigits(b[g.start[0]:g.end[0]], b[g.start[1]:g.end[1]], b[g.start[2]:end]) {
			return 0
		}
		// 1-123-45-6789 and ORD-123-45-6789 are some other identifier unless a name says otherwise.
		alone := !(at(b, i-1) == '-' && alnumAt(b, i-2)) && !(at(b, end) == '-' && alnumAt(b, end+1))
		if dashes && alone || s.announced(i).has(detSSN) {
			return end
		}
	case size(0) == 9:
		end := g.end[0]
		if !isLetter(at(b, end)) && ssnDigits(b[i:i+3], b[i+3:i+5], b[i+5:end]) && s.announced(i).has(detSSN) {
			return end
		}
	}
	return 0
}

// ssnDigits applies the rules of the Social Security Administration: no area 000,
// 666 or 900-999, no group 00, no serial 0000.
func ssnDigits(area, group, serial []byte) bool {
	return string(area) != "000" && string(area) != "666" && area[0] != '9' &&
		string(group) != "00" && string(serial) != "0000"
}

// at is b[i], or 0 outside of b.
func at(b []byte, i int) byte {
	if i < 0 || i >= len(b) {
		return 0
	}
	return b[i]
}
