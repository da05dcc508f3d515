package mask

import (
	"bytes"
	"cmp"
	"html"
	"slices"
	"strconv"
	"unicode/utf8"
)

// gathered is text whose parts do not stand together in the bytes: the markup
// between them is left out of the view, and stays as it is.
type gathered struct {
	view
	parts []part
}

type part struct{ start, end int }

func (g *gathered) clear() {
	g.reset(0)
	g.parts = g.parts[:0]
}

// add takes src[start:end], decoded by next, which tells what the sequence that
// text begins with stands for, and its length; 0 means for itself.
func (g *gathered) add(src []byte, start, end int, sign string, next func(text []byte) (rune, int)) {
	if start >= end {
		return
	}
	if g.raw < start {
		g.skip(start - g.raw)
	}
	g.parts = append(g.parts, part{start, end})
	for g.raw < end {
		n := bytes.IndexAny(src[g.raw:end], sign)
		if n < 0 || sign == "" {
			break
		}
		g.copyTo(src, g.raw+n)
		r, k := next(src[g.raw:end])
		if k == 0 {
			g.copyTo(src, g.raw+1)
			continue
		}
		g.put(r, k)
	}
	g.copyTo(src, end)
}

// split divides the edits made since from among the parts that they reach over:
// the first takes the replacement. form writes it as it must stand there.
func (w *walker) split(from int, parts []part, form func([]byte) []byte) {
	var out []edit
	for _, e := range w.edits[from:] {
		repl := form(e.repl)
		for _, p := range parts {
			start, end := max(e.start, p.start), min(e.end, p.end)
			if start < end {
				out = append(out, edit{start, end, repl, e.kind})
				repl = nil
			}
		}
	}
	w.edits = append(w.edits[:from], out...)
}

// finish returns body with all edits done, in whatever order they were found.
func (w *walker) finish(body []byte) ([]byte, error) {
	if w.fault != nil {
		return nil, w.fault
	}
	return apply(body, ordered(w.edits)), nil
}

// ordered sorts edits that were found in any order, and merges those that overlap.
func ordered(edits []edit) []edit {
	slices.SortStableFunc(edits, func(a, b edit) int {
		// Of two that begin together the longer one holds the other.
		return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(b.end, a.end))
	})
	return untangle(edits)
}

// enterName moves to what has one of several names, as an element of XML that
// may or may not have a prefix. With index >= 0 it is also that element of a list
// of this name.
func (w *walker) enterName(live liveStates, v verdict, index int, names ...string) verdict {
	w.stack[len(w.stack)-1] = frame{info: w.name([]byte(names[0])), kind: frameKey}
	if len(w.m.paths.steps) > 0 {
		from := len(w.states)
		for _, name := range names {
			w.states = w.m.paths.advance(w.states, live.from, live.to, []byte(name), 0)
		}
		if index >= 0 {
			w.states = w.m.paths.advance(w.states, from, len(w.states), nil, index)
		}
		w.cur = liveStates{from, len(w.states)}
		v = w.arrive(v)
	}
	for _, name := range names {
		if r := w.name([]byte(name)).rule; r >= 0 {
			v = w.m.stricterVerdict(v, w.m.by(r, detKeyword))
		}
	}
	return v
}

// tells tells whether a name is itself something to hide, and no other name can
// stand in its place.
func (w *walker) tells(name []byte) bool {
	info := w.name(name)
	if info.clean || !w.m.det.any || len(name) < minMatch {
		return false
	}
	n := len(w.edits)
	w.text(name, nil, 0, false, false)
	info.clean = len(w.edits) == n
	w.edits = w.edits[:n]
	return !info.clean
}

// hide replaces src[start:end], whose text is given, by the verdict. form writes
// the replacement as it must stand there.
func (w *walker) hide(start, end int, text []byte, v verdict, form func([]byte) []byte) {
	var repl []byte
	switch {
	case v.how == howDrop:
	case v.how == howPartial && w.exposes(text):
		repl = []byte(hidden)
	default:
		repl = form(w.m.concealWhole(v.how, text))
	}
	w.edits = append(w.edits, edit{start, end, repl, v.kind()})
	w.report(int(v.rule), v.kind(), "")
}

// escapeMarkup writes text so that it is text in XML and HTML, in elements and in
// attributes.
func escapeMarkup(text []byte) []byte {
	if !bytes.ContainsAny(text, `&<>"'`) {
		return text
	}
	return []byte(html.EscapeString(string(text)))
}

// reference reads a character reference of XML.
func reference(text []byte) (rune, int) {
	end := bytes.IndexByte(text[:min(len(text), 16)], ';')
	if end < 2 {
		return 0, 0
	}
	if text[1] == '#' {
		return codePoint(text[2:end]), end + 1
	}
	switch string(text[1:end]) {
	case "lt":
		return '<', end + 1
	case "gt":
		return '>', end + 1
	case "amp":
		return '&', end + 1
	case "quot":
		return '"', end + 1
	case "apos":
		return '\'', end + 1
	}
	return 0, 0
}

// codePoint reads the digits of a numeric reference; what is no character is U+FFFD.
func codePoint(digits []byte) rune {
	base := 10
	if len(digits) > 0 && digits[0]|0x20 == 'x' {
		base, digits = 16, digits[1:]
	}
	n, err := strconv.ParseUint(string(digits), base, 32)
	if err != nil || n > utf8.MaxRune || n == 0 {
		return utf8.RuneError
	}
	return rune(n)
}

// characterHTML reads a character reference of HTML, which may lack its semicolon.
func characterHTML(text []byte) (rune, int) {
	if len(text) < 3 {
		return 0, 0
	}
	if text[1] == '#' {
		end := 2
		if text[2]|0x20 == 'x' {
			end++
		}
		from := end
		for end < len(text) && end < 24 && (isDigit(text[end]) || from == 3 && isHex(text[end])) {
			end++
		}
		if end == from {
			return 0, 0
		}
		r := codePoint(text[2:end])
		if end < len(text) && text[end] == ';' {
			end++
		}
		return r, end
	}
	end := 1
	for end < len(text) && end < 33 && isAlnum(text[end]) {
		end++
	}
	name := string(text[:end])
	if end < len(text) && text[end] == ';' {
		end++
	} else if name != "&nbsp" && name != "&shy" && name != "&amp" && name != "&lt" && name != "&gt" && name != "&quot" {
		return 0, 0
	}
	if name == "&shy" {
		return '\u00AD', end
	}
	s := html.UnescapeString(name + ";")
	if s == name+";" {
		return 0, 0
	}
	r, _ := utf8.DecodeRuneInString(s)
	return r, end
}

// percent reads a percent-encoded byte of a URL, or the plus of a form.
func percent(text []byte) (rune, int) {
	if text[0] == '+' {
		return ' ', 1
	}
	if len(text) < 3 || !isHex(text[1]) || !isHex(text[2]) {
		return 0, 0
	}
	n, _ := strconv.ParseUint(string(text[1:3]), 16, 8) // both are hexadecimal
	if n < utf8.RuneSelf {
		return rune(n), 3
	}
	// A character of several bytes.
	var raw []byte
	for i := 0; i+2 < len(text) && text[i] == '%' && len(raw) < utf8.UTFMax; i += 3 {
		b, err := strconv.ParseUint(string(text[i+1:i+3]), 16, 8)
		if err != nil {
			break
		}
		raw = append(raw, byte(b))
	}
	r, size := utf8.DecodeRune(raw)
	if r == utf8.RuneError {
		size = 1
	}
	return r, 3 * size
}
