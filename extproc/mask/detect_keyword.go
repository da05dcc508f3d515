package mask

import "bytes"

// assign looks at the = or : at i: what the name before it says of the value after
// it. This is how key rules and names that tell of secrets reach form data, log
// lines, configuration, and JSON that is cut off or embedded in prose.
func (s *scanner) assign(i int) int {
	b := s.b
	if b[i] == '>' {
		return s.element(i)
	}
	if i+1 < len(b) && (isDigit(b[i+1]) && i > 0 && isDigit(b[i-1]) || b[i] == ':' && b[i+1] == '/') {
		return i + 1 // a time, a URL
	}
	end := trimBack(b, i)
	var info, said *nameInfo
	// Up to three words may form the name: "Card number: ...".
	for words, start := 0, end; words < 3 && info == nil; words++ {
		next, more := s.wordBefore(start, end)
		if !more || next < s.floor() || words > 0 && numbered(b[next:start]) {
			break // no name: what was found before, or an id, a hash, a file in base64
		}
		start = next
		n := s.w.name(b[start:end])
		if n.rule < 0 && words == 0 {
			if dot := bytes.LastIndexByte(b[start:end], '.'); dot >= 0 { // user.password=
				if last := s.w.name(b[start+dot+1 : end]); last.rule >= 0 || last.byName != detCount {
					n = last
				}
			}
		}
		if n.rule >= 0 {
			info = n
		} else if said == nil && (n.byName != detCount || n.telling || n.secrets != nil) {
			said = n
		}
	}
	if info == nil && said == nil {
		return i + 1
	}
	if info == nil && said.byName == detCount {
		b = b[:min(len(b), i+maxSecret+16)] // a longer one is none, and must not be read at each sign
	}
	from, to := assigned(b, i)
	if info != nil && from == to {
		from, to = below(b, from)
	}
	if from >= to {
		return i + 1
	}
	if info != nil {
		to = block(b, end, from, to)
		return s.found(match{start: from, end: to, det: detKeyword, rule: info.rule})
	}
	if said.byName != detCount {
		return s.found(match{start: from, end: to, det: said.byName})
	}
	end = from
	for end < to && isSecretByte(b[end]) {
		end++
	}
	if det, detail, ok := s.keyedFor(said, b[from:end]); ok && from >= s.floor() {
		return s.found(match{start: from, end: end, det: det, detail: detail})
	}
	return i + 1
}

// element looks at the end of a tag at i, in text that quotes XML: what the name of
// the element says of what is in it.
func (s *scanner) element(i int) int {
	const most = 256 // bytes of a tag
	b := s.b
	tag := b[max(0, i-most, s.floor()):i]
	open := bytes.LastIndexByte(tag, '<')
	if open < 0 || b[i-1] == '/' || b[i-1] == '>' {
		return i + 1
	}
	tag = tag[open+1:]
	name := tag
	if n := bytes.IndexAny(tag, " \t\r\n"); n >= 0 {
		name = tag[:n]
	}
	local := name[bytes.LastIndexByte(name, ':')+1:]
	if len(local) == 0 || !isName(name[0]) {
		return i + 1 // the end of an element, a comment
	}
	n := s.w.name(local)
	if n.rule < 0 && n.byName == detCount && !n.telling && n.secrets == nil {
		return i + 1
	}
	from, to := i+1, len(b)
	if end := bytes.IndexByte(b[from:], '<'); end >= 0 {
		to = from + end
	}
	closing := append([]byte("</"), name...)
	ends := bytes.HasPrefix(b[to:], closing)
	switch {
	case n.rule >= 0:
		if end := bytes.Index(b[to:], closing); end >= 0 {
			to += end
		} else if s.unclosed++; s.unclosed > 16 { // so that the search stays linear
			to = len(b)
		}
		if from < to {
			return s.found(match{start: from, end: to, det: detKeyword, rule: n.rule})
		}
	case from == to || !ends:
	case n.byName != detCount && len(bytes.TrimSpace(b[from:to])) > 0:
		return s.found(match{start: from, end: to, det: n.byName})
	default:
		if det, detail, ok := s.keyedFor(n, b[from:to]); ok {
			return s.found(match{start: from, end: to, det: det, detail: detail})
		}
	}
	return i + 1
}

// isSecretByte tells whether c may be a part of a secret in text.
func isSecretByte(c byte) bool {
	switch c {
	case '"', '\'', '`', ';', ',', '&', '<', '>', '\\', ')', ']', '}':
		return false
	}
	return c > ' ' && c < 0x7F
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

// below returns the range of a value that begins on a line after that of its name,
// whose end is at i: one in quotes, a structure, or the next line if it is indented.
func below(b []byte, i int) (from, to int) {
	next := i
	for next < len(b) && isSpace(b[next]) {
		next++
	}
	if next == i || next == len(b) {
		return i, i
	}
	switch b[next] {
	case '"', '\'', '`', '{', '[':
		return assigned(b, next-1)
	}
	if !inside(b, next, column(b, i-1)) {
		return i, i
	}
	return next, lineUpTo(b, next)
}

// block returns the end of a value that goes on in lines further in than that of its
// name, as in YAML: text in lines, a list, a structure. end is that of the name.
func block(b []byte, end, from, to int) int {
	if c := b[from-1]; c == '"' || c == '\'' || c == '`' || b[from] == '{' || b[from] == '[' || to == len(b) || b[to] != '\n' && b[to] != '\r' {
		return to
	}
	in := column(b, end-1)
	for to < len(b) && (b[to] == '\n' || b[to] == '\r') {
		next := to
		for next < len(b) && isSpace(b[next]) {
			next++
		}
		if next == len(b) || !inside(b, next, in) {
			break
		}
		to = lineUpTo(b, next)
	}
	return to
}

// inside tells whether the line that begins at i, white space apart, belongs to a
// name that stands so far in: elements of its list may stand as far.
func inside(b []byte, i, in int) bool {
	at := i - bytes.LastIndexByte(b[:i], '\n') - 1
	return at > in || at == in && item(b, i)
}

// column is how far in the text of the line begins on which i stands, the dashes
// of lists apart.
func column(b []byte, i int) int {
	start := bytes.LastIndexByte(b[:i+1], '\n') + 1
	n := start
	for n < len(b) && (b[n] == ' ' || b[n] == '\t' || item(b, n)) {
		n++
	}
	return n - start
}

// item tells whether an element of a list begins at i.
func item(b []byte, i int) bool { return b[i] == '-' && (i+1 == len(b) || isSpace(b[i+1])) }

// lineUpTo is where the line ends that i stands on.
func lineUpTo(b []byte, i int) int {
	if n := bytes.IndexAny(b[i:], "\r\n"); n >= 0 {
		return i + n
	}
	return len(b)
}

// wordBefore is where a name of several words that stands from start to end begins
// with one word more before it; false where there is none.
func (s *scanner) wordBefore(start, end int) (int, bool) {
	if start < end { // it is not the first
		if start == 0 || s.b[start-1] != ' ' {
			return start, false
		}
		start--
	}
	from := start
	for start > 0 && end-start < maxKeyLength && isName(s.b[start-1]) {
		start--
	}
	return start, start < from
}
