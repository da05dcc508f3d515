package mask

import "net/netip"

// ipv4 returns the end of the address that begins at i, or 0; a prefix length
// belongs to it. Versions of four parts have its form, so that one which is
// named or marked as a version is none.
func (s *scanner) ipv4(i int) int {
	b := s.b
	if i > 0 && (isAlnum(b[i-1]) || b[i-1] == '_' || b[i-1] == '-' && i > 1 && isAlnum(b[i-2]) || b[i-1] == '.' && i > 1 && isAlnum(b[i-2])) {
		return 0
	}
	j := i
	for part := range 4 {
		n, from := 0, j
		for j < len(b) && isDigit(b[j]) && j-from < 3 {
			n = n*10 + int(b[j]-'0')
			j++
		}
		if j == from || n > 255 || j-from > 1 && b[from] == '0' {
			return 0
		}
		if part < 3 {
			if j >= len(b) || b[j] != '.' {
				return 0
			}
			j++
		}
	}
	if j < len(b) {
		c := b[j]
		if isAlnum(c) || c == '_' || (c == '.' || c == '-' || c == '+') && alnumAt(b, j+1) {
			return 0
		}
		if c == '/' {
			if to := prefixEnd(b, j, 32); to > 0 {
				j = to
			}
		}
	}
	if s.version(i) {
		return 0
	}
	return j
}

// prefixEnd returns the end of the prefix length after the slash at i, or 0.
func prefixEnd(b []byte, i, most int) int {
	n, j := 0, i+1
	for j < len(b) && isDigit(b[j]) && j-i <= 3 {
		n = n*10 + int(b[j]-'0')
		j++
	}
	if j == i+1 || n > most || alnumAt(b, j) {
		return 0
	}
	return j
}

// version tells whether the text at i is announced as a version, and not as an
// address.
func (s *scanner) version(i int) bool {
	if s.w == nil || s.announced(i).has(detIP) {
		return false
	}
	for n, k := 0, len(s.names)-1; k >= 0 && n < 2; k-- {
		if s.names[k].kind == frameKey {
			if s.names[k].info.version {
				return true
			}
			n++
		}
	}
	end := i
	for end > 0 && !isNameByte(s.b[end-1]) && s.b[end-1] != '\n' && i-end < 4 {
		end--
	}
	start := end
	for start > 0 && isNameByte(s.b[start-1]) && end-start < 24 {
		start--
	}
	word := s.b[start:end]
	return len(word) == 1 && word[0]|0x20 == 'v' || len(word) > 2 && s.w.name(word).version
}

// ipv6 looks for an address around the colon at i.
func (s *scanner) ipv6(i int) int {
	b := s.b
	// The cheap cases first: a time, a URL, a name and its value.
	if i+1 >= len(b) || b[i+1] != ':' && !isHex(b[i+1]) {
		return i + 1
	}
	const longest = 45
	start, floor := i, max(s.floor(), i-5)
	for start > floor && isHex(b[start-1]) {
		start--
	}
	if start > 0 && (isAlnum(b[start-1]) || b[start-1] == '_' || b[start-1] == ':') {
		return i + 1
	}
	end, colons, double := start, 0, false
	for end < len(b) && end-start <= longest && (isHex(b[end]) || b[end] == ':' || b[end] == '.' && colons > 1) {
		if b[end] == ':' {
			colons++
			double = double || end > start && b[end-1] == ':'
		}
		end++
	}
	if b[end-1] == '.' {
		end--
	}
	// What is no address may hold something else, so that the scan goes on within it.
	if colons < 7 && (!double || colons < 2) || alnumAt(b, end) || at(b, end) == '_' || at(b, end) == ':' {
		return i + 1
	}
	addr, err := netip.ParseAddr(string(b[start:end]))
	if err != nil || !addr.Is6() {
		return i + 1
	}
	// ::1 and a::b are code; an address has more to it.
	if groups := end - start - colons; groups < 5 && !s.announced(start).has(detIP) {
		return i + 1
	}
	if at(b, end) == '/' {
		if to := prefixEnd(b, end, 128); to > 0 {
			end = to
		}
	}
	return s.found(match{start: start, end: end, det: detIP})
}
