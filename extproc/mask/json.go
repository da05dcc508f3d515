package mask

import (
	"errors"
	"fmt"
)

// doc is one JSON text on its way through the walker: the body, a window of it,
// or the content of a string. Its parser is strict RFC 8259: what another parser
// might read differently is refused. It keeps its place between any two tokens,
// so that a body larger than memory is read as one that is at hand.
type doc struct {
	w    *walker
	src  []byte // what is at hand
	i    int    // everything before is read
	off  int    // bytes of the text before src
	last bool   // nothing comes after src

	want   want
	open   []container
	root   container // the verdict and paths of the text itself
	mute   int       // > 0 inside a value that is hidden whole: only the grammar counts
	hole   hole
	resume int      // of a string that is not all there: where the search for its end goes on
	odd    oddities // what that string holds so far
	long   *long    // streams: how strings beyond the look-behind are read; nil: at once
}

// want is what may come next.
type want uint8

const (
	wantValue   want = iota
	wantElement      // an array's first value, or its end
	wantMember       // an object's first name, or its end
	wantName
	wantColon
	wantSign // a comma, or the end of an object or array
	wantText // the rest of a long string
	wantNothing
)

// container is an object or array that is open.
type container struct {
	object bool
	whole  bool // hidden as one value
	drop   bool // the element being read is cut out
	shared bool // rest is worked out
	live   liveStates
	v      verdict // hides all of it
	n      int     // the index of the element being read
	inner  verdict // of that element
	mark   int     // of the walker's states before that element

	// rest is where all members and elements lead that no path names.
	rest  liveStates
	restV verdict

	// Dropped elements are cut out with one comma, so that the rest stays valid
	// and otherwise untouched.
	sep  int  // where the element's bytes begin: at its comma, or after the brace
	kept bool // an element before it stays, so its own comma is at sep
}

// hole is a range that is hidden whole and not at its end yet.
type hole struct {
	from int
	open bool
}

// errMore says that the text at hand ends within a token.
var errMore = errors.New("more of the text is needed")

func (d *doc) fail(i int, what string) error {
	return fmt.Errorf("json at byte %d: %s: %w", d.off+i, what, ErrInvalid)
}

// short is what a text that ends at i means: more is to come, or it is cut off.
func (d *doc) short(what string) error {
	if !d.last {
		return errMore
	}
	return d.fail(len(d.src), what)
}

// parse walks a whole text.
func (d *doc) parse(live liveStates, v verdict) error {
	d.last, d.root = true, container{live: live, inner: v}
	w := d.w
	if n := len(w.spare); n > 0 {
		d.open, w.spare = w.spare[n-1], w.spare[:n-1]
	}
	err := d.run()
	w.spare = append(w.spare, d.open[:0])
	return err
}

// run reads on, to the end of the text or of what is at hand (errMore).
func (d *doc) run() error {
	for {
		if d.want != wantText {
			from := d.i
			if d.i = d.space(from); d.long != nil {
				if err := d.spaced(d.i - from); err != nil {
					return err
				}
			}
		}
		if d.i >= len(d.src) {
			if d.want == wantNothing && d.last {
				return nil
			}
			return d.short(d.want.missing(d.open))
		}
		var err error
		switch c := d.src[d.i]; d.want {
		case wantNothing:
			err = d.fail(d.i, "data after the end of the document")
		case wantText:
			err = d.text()
		case wantElement:
			if c == ']' {
				d.leave()
				continue
			}
			d.element()
			err = d.value()
		case wantValue:
			err = d.value()
		case wantMember, wantName:
			if c == '}' && d.want == wantMember {
				d.leave()
				continue
			}
			err = d.name()
		case wantColon:
			if c != ':' {
				return d.fail(d.i, "a colon should be here")
			}
			d.i, d.want = d.i+1, wantValue
		case wantSign:
			err = d.sign(c)
		}
		if err != nil {
			return err
		}
	}
}

// missing says what a text that ends here lacks.
func (w want) missing(open []container) string {
	switch {
	case w == wantText:
		return "the document ends inside a string"
	case w == wantValue && len(open) == 0:
		return "the document ends where a value should be"
	case len(open) > 0 && !open[len(open)-1].object:
		return "the document ends inside an array"
	}
	return "the document ends inside an object"
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

// top is the object or array around the value being read.
func (d *doc) top() *container {
	if n := len(d.open); n > 0 {
		return &d.open[n-1]
	}
	return &d.root
}

// value reads the value at d.i, or what it begins with. The verdict on it comes
// from its own name or from an object or array around it.
func (d *doc) value() error {
	v := d.top().inner
	switch c := d.src[d.i]; {
	case c == '"':
		return d.stringValue(v)
	case c == '{' || c == '[':
		if len(d.open) >= d.w.m.maxDepth {
			return fmt.Errorf("json at byte %d: more than %d levels: %w", d.off+d.i, d.w.m.maxDepth, ErrTooDeep)
		}
		in := container{object: c == '{', live: d.live(), v: v, inner: v, whole: v.how >= howRedact && d.mute == 0, sep: d.i + 1}
		if in.whole {
			d.mute++
			d.dig(d.i)
		}
		d.open = append(d.open, in)
		d.w.push()
		d.i++
		if d.want = wantElement; in.object {
			d.want = wantMember
		}
		return nil
	case c == 't':
		return d.literal("true", v)
	case c == 'f':
		return d.literal("false", v)
	case c == 'n':
		return d.literal("null", verdict{})
	case c == '-' || isDigit(c):
		end, err := d.number(d.i)
		if long := d.tooLong(d.i, end); long != nil {
			return long
		}
		if end >= len(d.src) && !d.last {
			return errMore
		}
		if err == nil && d.mute == 0 {
			d.w.numberValue(d.src, d.i, end, v)
		}
		d.i = end
		d.after()
		return err
	default:
		return d.fail(d.i, "not a value")
	}
}

func (d *doc) literal(word string, v verdict) error {
	end := d.i + len(word)
	switch {
	case hasPrefix(d.src[d.i:], word):
	case end > len(d.src) && !d.last && word[:len(d.src)-d.i] == string(d.src[d.i:]):
		return errMore
	default:
		return d.fail(d.i, "not a value")
	}
	if d.mute == 0 && v.how != howNone {
		d.w.hideWhole(d.i, end, []byte(word), v)
	}
	d.i = end
	d.after()
	return nil
}

func (d *doc) stringValue(v verdict) error {
	end, err := d.stringEnd(d.i + 1)
	if n := end - d.i - 1; d.long != nil && (err == errMore || err == nil) && n > d.long.window {
		if begun, longErr := d.begin(v, n); begun || longErr != nil {
			return longErr
		}
	}
	if err != nil {
		return err
	}
	if d.mute == 0 && !d.w.plainString(d.src[d.i+1:end], d.i+1, d.odd, v) {
		if err := d.w.stringValue(d, d.i+1, end, d.odd, d.live(), v); err != nil {
			return err
		}
	}
	d.i = end + 1
	d.after()
	return nil
}

// live are the path states alive at the value being read.
func (d *doc) live() liveStates {
	if len(d.open) == 0 {
		return d.root.live
	}
	return d.w.live()
}

// name reads the name of a member, and decides what becomes of it.
func (d *doc) name() error {
	if d.src[d.i] != '"' {
		return d.fail(d.i, "a member name should be here")
	}
	from := d.i + 1
	var to int
	var err error
	info := d.w.guess(d.src[from:])
	if info != nil {
		to = from + len(info.raw)
		d.resume, d.odd = to, 0
		if info.clean && info.simple && d.mute == 0 && len(d.w.m.aliases) == 0 && (d.long == nil || to-from <= d.long.window) {
			d.simpleName(info)
			return d.named(to)
		}
	} else {
		to, err = d.stringEnd(from)
	}
	if d.long != nil {
		if long := d.tooLong(from, to); long != nil {
			return long
		}
	}
	if err != nil {
		return err
	}
	c := d.top()
	c.inner = c.v
	if d.mute == 0 {
		d.w.enterKey(d, from, to, info, c)
	} else {
		c.mark = d.w.mark()
	}
	d.enter(c)
	return d.named(to)
}

// simpleName enters the member with a name that decides nothing.
func (d *doc) simpleName(info *nameInfo) {
	c, w := &d.open[len(d.open)-1], d.w
	w.stack[len(w.stack)-1] = frame{info: info, kind: frameKey}
	c.inner, c.mark = c.v, len(w.states)
	if len(w.m.paths.steps) > 0 {
		w.step(c, info.raw, false)
		d.enter(c)
	}
}

// named goes on after the name that ends at to.
func (d *doc) named(to int) error {
	d.i, d.want = to+1, wantColon
	// Mostly the colon and the value follow at once.
	if d.i+1 < len(d.src) && d.src[d.i] == ':' && d.src[d.i+1] > ' ' {
		d.i, d.want = d.i+1, wantValue
		return d.value()
	}
	return nil
}

// element enters the array element that begins here.
func (d *doc) element() {
	c := d.top()
	c.inner = c.v
	if d.mute == 0 {
		d.w.stack[len(d.w.stack)-1] = frame{kind: frameIndex}
		d.w.step(c, nil, d.w.m.paths.indexed)
	} else {
		c.mark = d.w.mark()
	}
	d.enter(c)
	d.want = wantValue
}

// enter opens the hole that a dropped element leaves.
func (d *doc) enter(c *container) {
	if c.drop = d.mute == 0 && c.inner.how == howDrop; c.drop {
		d.mute++
		d.dig(c.sep)
	}
}

// dig begins a hole. What was to be changed within it goes with it.
func (d *doc) dig(from int) {
	edits := d.w.edits
	for len(edits) > 0 && edits[len(edits)-1].start >= from {
		edits = edits[:len(edits)-1]
	}
	d.w.edits = edits
	d.hole = hole{from: from, open: true}
}

// fill ends a hole that leaves nothing behind.
func (d *doc) fill(end int) {
	d.w.edits = append(d.w.edits, edit{start: d.hole.from, end: end})
	d.hole.open = false
}

// after is called with d.i after a value.
func (d *doc) after() {
	d.resume, d.odd = 0, 0
	if len(d.open) == 0 {
		d.want = wantNothing
		return
	}
	c := d.top()
	d.w.leave(c.mark)
	d.want = wantSign
	if c.drop {
		d.mute--
		d.w.report(int(c.inner.rule), c.inner.kind(), "")
		if c.kept {
			d.fill(d.i)
		}
	}
}

// sign reads the comma or the end after an element.
func (d *doc) sign(sign byte) error {
	c := d.top()
	end, name := byte(']'), "a comma or bracket should be here"
	if c.object {
		end, name = '}', "a comma or brace should be here"
	}
	if sign != ',' && sign != end {
		return d.fail(d.i, name)
	}
	switch {
	case !c.drop:
		c.kept, c.sep = true, d.i
	case c.kept:
		c.sep = d.i
	case sign == ',': // the first ones take the comma after them
		c.sep = d.i + 1
		d.fill(c.sep)
	default:
		d.fill(d.i)
	}
	c.drop = false
	if sign == end {
		d.leave()
		return nil
	}
	d.i++
	if d.want = wantName; !c.object {
		c.n++
		d.element()
	}
	// Mostly what it parts follows at once.
	switch {
	case d.i >= len(d.src) || d.src[d.i] <= ' ':
		return nil
	case c.object:
		return d.name()
	}
	return d.value()
}

// leave ends the object or array whose last sign is at d.i.
func (d *doc) leave() {
	c := &d.open[len(d.open)-1]
	d.open = d.open[:len(d.open)-1]
	d.w.pop()
	d.i++
	if c.whole {
		d.mute--
		d.hole.open = false
		d.w.hideWhole(d.hole.from, d.i, nil, c.v)
	}
	d.after()
}
