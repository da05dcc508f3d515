package mask

import (
	"fmt"
	"unicode/utf8"
)

// doc is one JSON text on its way through the walker: the body, or the content
// of a string. Its parser is strict RFC 8259: what another parser might read
// differently is refused.
type doc struct {
	w     *walker
	src   []byte
	depth int
	mute  int // > 0 inside a value that is hidden whole: only the grammar counts
}

// verdict is the rule that hides a value and why; the zero value is none.
type verdict struct {
	how  how
	rule int
	kind string // typePath or typeKey
}

func (d *doc) fail(i int, what string) error {
	return fmt.Errorf("json at byte %d: %s: %w", i, what, ErrInvalid)
}

// parse walks the whole text.
func (d *doc) parse(live liveStates, v verdict) error {
	i, err := d.value(d.space(0), live, v)
	if err != nil {
		return err
	}
	if i = d.space(i); i < len(d.src) {
		return d.fail(i, "data after the end of the document")
	}
	return nil
}

func (d *doc) space(i int) int {
	for i < len(d.src) {
		switch d.src[i] {
		case ' ', '\t', '\n', '\r':
			i++
		default:
			return i
		}
	}
	return i
}

// value walks the value at i and returns its end. v is what hides it, from its
// own name or from an object or array around it.
func (d *doc) value(i int, live liveStates, v verdict) (int, error) {
	if i >= len(d.src) {
		return i, d.fail(i, "the document ends where a value should be")
	}
	switch c := d.src[i]; {
	case c == '"':
		end, odd, err := d.stringEnd(i + 1)
		if err != nil || d.mute > 0 {
			return end + 1, err
		}
		return end + 1, d.w.stringValue(d, i+1, end, odd, live, v)
	case c == '{' || c == '[':
		if d.depth++; d.depth > d.w.m.maxDepth {
			return i, fmt.Errorf("json at byte %d: more than %d levels: %w", i, d.w.m.maxDepth, ErrTooDeep)
		}
		whole := v.how >= howRedact && d.mute == 0
		if whole {
			d.mute++
		}
		var end int
		var err error
		if c == '{' {
			end, err = d.object(i+1, live, v)
		} else {
			end, err = d.array(i+1, live, v)
		}
		d.depth--
		if whole && err == nil {
			d.mute--
			d.w.hideWhole(i, end, nil, v)
		}
		return end, err
	case c == 't':
		return d.literal(i, "true", v)
	case c == 'f':
		return d.literal(i, "false", v)
	case c == 'n':
		return d.literal(i, "null", verdict{})
	case c == '-' || isDigit(c):
		end, err := d.number(i)
		if err == nil && d.mute == 0 {
			d.w.numberValue(d.src, i, end, v)
		}
		return end, err
	default:
		return i, d.fail(i, "not a value")
	}
}

func (d *doc) literal(i int, word string, v verdict) (int, error) {
	if !hasPrefix(d.src[i:], word) {
		return i, d.fail(i, "not a value")
	}
	if d.mute == 0 && v.how != howNone {
		d.w.hideWhole(i, i+len(word), []byte(word), v)
	}
	return i + len(word), nil
}

// object walks the members of the object whose brace is before i.
func (d *doc) object(i int, live liveStates, v verdict) (int, error) {
	var cut cutter
	cut.begin(i)
	d.w.push()
	defer d.w.pop()
	if i = d.space(i); i < len(d.src) && d.src[i] == '}' {
		return i + 1, nil
	}
	for {
		if i >= len(d.src) || d.src[i] != '"' {
			return i, d.fail(i, "a member name should be here")
		}
		from := i + 1
		to, odd, err := d.stringEnd(from)
		if err != nil {
			return to, err
		}
		if i = d.space(to + 1); i >= len(d.src) || d.src[i] != ':' {
			return i, d.fail(i, "a colon should be here")
		}
		i = d.space(i + 1)

		inner, mark := v, d.w.mark()
		if d.mute == 0 {
			inner = d.w.enterKey(d, from, to, odd, live, v)
		}
		end, err := d.element(i, inner)
		if err != nil {
			return end, err
		}
		d.w.leave(mark)
		i = d.space(end)
		if i >= len(d.src) {
			return i, d.fail(i, "the document ends inside an object")
		}
		c := d.src[i]
		if c != ',' && c != '}' {
			return i, d.fail(i, "a comma or brace should be here")
		}
		if d.mute == 0 {
			cut.element(d.w, inner.how == howDrop, i, end, c == ',')
		}
		i++
		if c == '}' {
			return i, nil
		}
		i = d.space(i)
	}
}

// array walks the elements of the array whose bracket is before i.
func (d *doc) array(i int, live liveStates, v verdict) (int, error) {
	var cut cutter
	cut.begin(i)
	d.w.push()
	defer d.w.pop()
	if i = d.space(i); i < len(d.src) && d.src[i] == ']' {
		return i + 1, nil
	}
	for n := 0; ; n++ {
		inner, mark := v, d.w.mark()
		if d.mute == 0 {
			inner = d.w.enterIndex(n, live, v)
		}
		end, err := d.element(i, inner)
		if err != nil {
			return end, err
		}
		d.w.leave(mark)
		if i = d.space(end); i >= len(d.src) {
			return i, d.fail(i, "the document ends inside an array")
		}
		c := d.src[i]
		if c != ',' && c != ']' {
			return i, d.fail(i, "a comma or bracket should be here")
		}
		if d.mute == 0 {
			cut.element(d.w, inner.how == howDrop, i, end, c == ',')
		}
		i++
		if c == ']' {
			return i, nil
		}
		i = d.space(i)
	}
}

// element walks a member's value or an array element, which the walker has
// entered. One that is dropped is only checked: its container cuts it out.
func (d *doc) element(i int, v verdict) (int, error) {
	if d.mute == 0 && v.how == howDrop {
		d.mute++
		end, err := d.value(i, liveStates{}, verdict{})
		d.mute--
		if err == nil {
			d.w.report(v.rule, v.kind, "")
		}
		return end, err
	}
	return d.value(i, d.w.live(), v)
}

// cutter cuts dropped members and elements out, each with one comma, so that the
// rest stays valid and otherwise untouched.
type cutter struct {
	sep  int  // where the pending element's bytes begin: at its comma, or after the brace
	kept bool // an element before it stays, so its own comma is at sep
}

func (c *cutter) begin(i int) { c.sep = i }

// element settles the element that ends at end and is followed by the sign at i.
func (c *cutter) element(w *walker, dropped bool, i, end int, comma bool) {
	switch {
	case !dropped:
		c.kept, c.sep = true, i
	case c.kept || !comma:
		w.edits = append(w.edits, edit{start: c.sep, end: end})
		c.sep = i
	default:
		w.edits = append(w.edits, edit{start: c.sep, end: i + 1})
		c.sep = i + 1
	}
}

// What a string holds besides plain ASCII.
const (
	oddEscape = 1 << iota
	oddHigh   // bytes of 0x80 and above
)

// stringClass marks the bytes at which the search for a string's end stops.
var stringClass = func() (t [256]uint8) {
	for c := range t {
		switch {
		case c == '"':
			t[c] = 1
		case c == '\\':
			t[c] = 2
		case c < 0x20:
			t[c] = 3
		case c >= 0x80:
			t[c] = 4
		}
	}
	return t
}()

// stringEnd returns the position of the closing quote of the string whose content
// begins at i.
func (d *doc) stringEnd(i int) (end int, odd uint8, err error) {
	src := d.src
	start := i
	for i < len(src) {
		switch stringClass[src[i]] {
		case 0:
			i++
		case 1:
			if odd&oddHigh != 0 && !utf8.Valid(src[start:i]) {
				return i, odd, d.fail(start, "a string that is not UTF-8")
			}
			return i, odd, nil
		case 2:
			odd |= oddEscape
			if i+1 >= len(src) {
				return i, odd, d.fail(i, "the document ends inside a string")
			}
			switch src[i+1] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
				i += 2
			case 'u':
				if _, ok := hex4(src[i+2:]); !ok {
					return i, odd, d.fail(i, "a broken \\u escape")
				}
				i += 6
			default:
				return i, odd, d.fail(i, "an unknown escape")
			}
		case 3:
			return i, odd, d.fail(i, "a control character inside a string")
		default:
			odd |= oddHigh
			i++
		}
	}
	return i, odd, d.fail(i, "the document ends inside a string")
}

// number returns the end of the number at i.
func (d *doc) number(i int) (int, error) {
	src := d.src
	digits := func() bool {
		from := i
		for i < len(src) && isDigit(src[i]) {
			i++
		}
		return i > from
	}
	if src[i] == '-' {
		i++
	}
	if at(src, i) == '0' {
		if i++; isDigit(at(src, i)) {
			return i, d.fail(i, "a number with a leading zero")
		}
	} else if !digits() {
		return i, d.fail(i, "a number without digits")
	}
	if at(src, i) == '.' {
		if i++; !digits() {
			return i, d.fail(i, "a number without digits after its point")
		}
	}
	if at(src, i)|0x20 == 'e' {
		if i++; at(src, i) == '+' || at(src, i) == '-' {
			i++
		}
		if !digits() {
			return i, d.fail(i, "a number without digits in its exponent")
		}
	}
	return i, nil
}
