package mask

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math"
	"unicode/utf8"
)

// Body masks one body that arrives in chunks: a JSON document, or text. What it
// returns doesn't depend on where the chunks are cut, and is what [Masker.JSON]
// and [Masker.Text] return as long as no string or line is longer than the
// look-behind. It holds back at most about twice the look-behind, and up to the
// limit what can only be read whole: a document in a string, text that turns out
// to be JSON. Nothing leaves before as much as the look-behind has been searched,
// so that a body which fits in it is refused before any of it left. Not safe for
// concurrent use.
type Body struct {
	w    *walker
	long long
	text bool // any text, else JSON
	kind bodyKind

	buf []byte
	doc doc
	off int // text: bytes released
	err error
}

type bodyKind uint8

const (
	bodyNew bodyKind = iota // not known yet
	bodyJSON
	bodyText
)

// Limits bound what a body makes its masker hold.
type Limits struct {
	// LookBehind is how many bytes are searched together, so that a value cut
	// in two is found. Zero means 64 KiB.
	LookBehind int
	// Whole bounds what can only be masked whole, in bytes. Zero means 8 MiB.
	Whole int
}

func (l Limits) long() long {
	window := min(orDefault(l.LookBehind, 64<<10), math.MaxInt32/4)
	return long{window: window, limit: max(window, min(orDefault(l.Whole, 8<<20), math.MaxInt32/4))}
}

// NewJSON begins a body that is one JSON document.
func (m *Masker) NewJSON(l Limits) *Body { return m.body(l, false) }

// NewText begins a body of any textual type; as with [Masker.Text], what turns
// out to be JSON is masked as JSON.
func (m *Masker) NewText(l Limits) *Body { return m.body(l, true) }

func (m *Masker) body(l Limits, text bool) *Body {
	return &Body{w: m.walker(), long: l.long(), text: text}
}

// Findings tells what was hidden so far.
func (b *Body) Findings() []Finding { return b.w.findings }

// Held is how many bytes of the body are in memory.
func (b *Body) Held() int { return cap(b.buf) }

// Write takes the next bytes of the body and returns those that may leave now; the
// result is the caller's. An error is final: withhold the rest.
func (b *Body) Write(chunk []byte) ([]byte, error) {
	if b.err != nil {
		return nil, b.err
	}
	b.buf = append(b.buf, chunk...)
	return b.done(b.advance(false))
}

// Close ends the body and returns its last bytes.
func (b *Body) Close() ([]byte, error) {
	if b.err != nil {
		return nil, b.err
	}
	out, err := b.done(b.advance(true))
	if err == nil {
		b.err, b.buf = errClosed, nil
		b.w.done()
	}
	return out, err
}

func (b *Body) done(out []byte, err error) ([]byte, error) {
	if err = cmp.Or(err, b.w.fault); err != nil {
		b.err, b.buf = err, nil
		return nil, err
	}
	return out, nil
}

func (b *Body) advance(last bool) ([]byte, error) {
	if b.kind == bodyNew {
		if ready, err := b.begin(last); !ready || err != nil {
			return nil, err
		}
	}
	if b.kind == bodyText {
		return b.advanceText(last)
	}
	return b.advanceJSON(last)
}

// begin finds out what the body is, and reports whether enough of it is at hand.
func (b *Body) begin(last bool) (bool, error) {
	if len(b.buf) <= b.long.window && !last {
		return false, nil
	}
	if b.text {
		if bytes.HasPrefix(b.buf, []byte("\xFF\xFE")) || bytes.HasPrefix(b.buf, []byte("\xFE\xFF")) {
			return false, fmt.Errorf("text is UTF-16, only UTF-8 can be masked: %w", ErrInvalid)
		}
		if !opensJSON(b.buf) || len(bytes.TrimSpace(b.buf)) == 0 && last {
			b.startText()
			return true, nil
		}
	}
	if b.text && !last && len(b.buf) <= b.long.limit {
		return false, nil // whether it is JSON shows at its end, or at the limit
	}
	b.startJSON()
	if !b.text {
		return true, nil
	}
	found := len(b.w.findings)
	b.doc.src = b.buf[:min(len(b.buf), b.long.limit)]
	b.doc.last = last && len(b.doc.src) == len(b.buf)
	if err := b.doc.run(); err != nil && err != errMore {
		if !errors.Is(err, ErrInvalid) {
			return false, err
		}
		if b.w.m.hasPaths && claimsJSON(b.buf) {
			return false, fmt.Errorf("begins like json but is not, and field paths may name a part of it: %w", ErrInvalid)
		}
		b.w.reset()
		b.w.findings = b.w.findings[:found]
		b.startText()
	}
	return true, nil
}

func (b *Body) startText() {
	b.kind, b.w = bodyText, b.w.leaveFields()
}

func (b *Body) startJSON() {
	b.kind = bodyJSON
	b.w.reset()
	b.doc = doc{w: b.w, long: &b.long}
	v := b.w.arrive(verdict{})
	b.doc.root = container{live: b.w.cur, inner: v}
	if bytes.HasPrefix(b.buf, []byte("\xEF\xBB\xBF")) {
		b.doc.i = 3 // RFC 8259 lets readers skip a byte order mark, and they do
	}
}

func (b *Body) advanceJSON(last bool) ([]byte, error) {
	d := &b.doc
	d.src, d.last = b.buf, last
	b.w.ahead(b.buf)
	err := d.run()
	if err != nil && err != errMore {
		return nil, err
	}
	out := b.release()
	return out, nil
}

// spaced counts white space where it must be held, since the element that comes
// may be cut out with it.
func (d *doc) spaced(n int) error {
	l := d.long
	if l.gap += n; l.gap > l.window && (d.want == wantName || d.want == wantMember || d.want == wantElement) {
		return d.tooLong(d.i-l.gap, d.i)
	}
	if d.i < len(d.src) {
		l.gap = 0
	}
	return nil
}

// tooLong refuses a name, a number or white space that a stream can't hold.
func (d *doc) tooLong(from, to int) error {
	if d.long == nil || to-from <= d.long.window {
		return nil
	}
	return fmt.Errorf("json at byte %d: a name, a number or white space of more than %d bytes: %w", d.off+from, d.long.window, ErrTooLarge)
}

// release lets go of what is settled, and moves the window on.
func (b *Body) release() []byte {
	d := &b.doc
	n := d.i
	switch d.want {
	case wantName, wantMember, wantElement: // what comes may be cut out, and this with it
		if len(d.open) > 0 && !d.hole.open {
			n = min(n, d.top().sep)
		}
	}
	settled := n
	if d.hole.open {
		settled = d.hole.from
	}
	if n == 0 || d.off == 0 && n < b.long.window && !d.last {
		return nil // the first bytes leave once much is known to be well
	}
	k := 0
	for k < len(b.w.edits) && b.w.edits[k].end <= settled {
		k++
	}
	out := apply(b.buf[:settled], b.w.edits[:k])
	if k == 0 {
		out = bytes.Clone(out)
	}
	b.w.edits = append(b.w.edits[:0], b.w.edits[k:]...)
	for i := range b.w.edits {
		b.w.edits[i].start -= n
		b.w.edits[i].end -= n
	}
	d.i, d.off = d.i-n, d.off+n
	if d.resume > 0 {
		d.resume -= n
	}
	if d.hole.open {
		d.hole.from = 0
	}
	if len(d.open) > 0 {
		d.top().sep -= n
	}
	b.drop(n)
	d.src = b.buf
	return out
}

// drop forgets the first n bytes, and memory that is not needed any more.
func (b *Body) drop(n int) {
	rest := b.buf[n:]
	if cap(b.buf) > 8*b.long.window && len(rest) < b.long.window {
		b.buf = append(make([]byte, 0, 2*b.long.window), rest...)
		return
	}
	b.buf = b.buf[:copy(b.buf, rest)]
}

func (b *Body) advanceText(last bool) ([]byte, error) {
	var out []byte
	for len(b.buf) > b.long.window || last && len(b.buf) > 0 {
		end, final := len(b.buf), true
		if end > b.long.window {
			final = false
			for end = b.long.window; end > b.long.window-utf8.UTFMax && !utf8.RuneStart(b.buf[end]); end-- {
			}
		}
		raw := b.buf[:end]
		if !utf8.Valid(raw) {
			return nil, fmt.Errorf("text after byte %d is not UTF-8: %w", b.off, ErrInvalid)
		}
		n, err := b.w.window(&b.long, raw, 0, false, final)
		if err != nil {
			return nil, fmt.Errorf("text at byte %d: %w", b.off, err)
		}
		out = append(out, apply(raw[:n], b.w.edits)...)
		b.w.edits = b.w.edits[:0]
		b.off += n
		b.drop(n)
	}
	return out, nil
}
