package mask

// Texts quote each other: a URL in a message has jane%40example.com, a piece of HTML
// in it jane&#64;example.com, code in it "\x34111". What a text has in the writing of
// another is searched a second time, as that other one is read.

// maxSpelled bounds writings in each other: a URL that is a parameter of a URL.
const maxSpelled = 3

// spelling tells what the sequence at i stands for in the writing that it has the look
// of, and its length; 0: it is none. -1 stands for nothing.
func spelling(b []byte, i int) (r rune, n int) {
	switch text := b[i:]; text[0] {
	case '+':
		if joinedByPlus(b, i) {
			r, n = ' ', 1
		}
	case '%':
		r, n = percent(text)
	case '&':
		switch c := at(text, 1); {
		case c == '#':
			r, n = characterHTML(text)
		case !isLetter(c):
			return 0, 0
		}
		for i := range spelledNames {
			if hasPrefix(text[1:], spelledNames[i].name) {
				r, n = spelledNames[i].r, 1+len(spelledNames[i].name)
				break
			}
		}
	case '\\':
		r, n = backslash(text)
	}
	if n == 0 {
		return 0, 0
	}
	if f := foldRune(r); f != 0 {
		r = f
	}
	return r, n
}

// spelledNames are the references of HTML by which parts of values are written.
var spelledNames = []struct {
	name string
	r    rune
}{
	{"nbsp;", ' '}, {"commat;", '@'}, {"amp;", '&'}, {"quot;", '"'}, {"lt;", '<'}, {"gt;", '>'}, {"period;", '.'}, {"lowbar;", '_'}, {"plus;", '+'}, {"colon;", ':'},
	{"shy;", -1}, {"zwj;", -1}, {"zwnj;", -1}, {"NoBreak;", -1}, {"ensp;", ' '}, {"emsp;", ' '}, {"thinsp;", ' '}, {"hyphen;", '-'}, {"dash;", '-'}, {"ndash;", '-'}, {"mdash;", '-'},
}

// backslash reads an escape of a language of code, or of Markdown. Those of JSON are
// read wherever they stand.
func backslash(text []byte) (rune, int) {
	if len(text) < 2 {
		return 0, 0
	}
	switch c := text[1]; c {
	case '@', '.', '_', '-', '+':
		return rune(c), 2
	case 'x':
		if len(text) >= 4 && isHex(text[2]) && isHex(text[3]) {
			return codePoint(text[1:4]), 4
		}
	case 'u', 'U':
		from, end, most := 2, 2, 8
		if at(text, 2) == '{' {
			from, end = 3, 3
		} else if c == 'u' {
			return 0, 0 // of JSON
		}
		for end < len(text) && end-from < most && isHex(text[end]) {
			end++
		}
		switch {
		case end == from, from == 3 && at(text, end) != '}', from == 2 && end-from < most:
			return 0, 0
		}
		r := codePoint(append([]byte{'x'}, text[from:end]...))
		if from == 3 {
			end++
		}
		return r, end
	}
	return 0, 0
}

// joinedByPlus tells whether the plus at i stands for a blank, as in the query of a
// URL, between digits in groups. Times with a zone have fewer digits on a side.
func joinedByPlus(b []byte, i int) bool {
	if i < 4 || i+4 >= len(b) {
		return false
	}
	for k := 1; k <= 4; k++ {
		if !isDigit(b[i-k]) || !isDigit(b[i+k]) {
			return false
		}
	}
	return true
}

// respell searches the text as what it quotes is read.
func (s *scanner) respell() {
	if s.depth >= maxSpelled {
		return
	}
	if s.again == nil {
		s.again = &scanner{e: s.e, depth: s.depth + 1}
	}
	again, b := s.again, s.b
	again.w, again.names, again.values = s.w, s.names, s.values
	v := &again.read
	v.reset(len(b))
	for i := 0; i < len(b); {
		if s.e.class[b[i]]&classSpelled == 0 {
			i++
			continue
		}
		r, n := spelling(b, i)
		if n == 0 {
			i++
			continue
		}
		v.replace(b, i, r, n)
		i += n
	}
	v.copyTo(b, len(b))
	again.pass(v.b)
	if s.e.custom != nil {
		s.e.custom.search(again)
	}
	for _, m := range again.matches {
		if m.value == nil {
			m.value = append(make([]byte, 0, m.end-m.start), v.b[m.start:m.end]...)
		}
		m.start, m.end = v.at.start(m.start), v.at.end(m.end)
		s.insert(m)
	}
}

// in is the value that was recognised in a view.
func (f match) in(view []byte) []byte {
	if f.value != nil {
		return f.value
	}
	return view[f.start:f.end]
}
