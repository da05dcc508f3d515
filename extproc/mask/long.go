package mask

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"unicode/utf8"
)

// long reads texts that are longer than what is held of a body: a window at a
// time, each with the end of the one before as context.
type long struct {
	window int // bytes that are looked at together, the look-behind
	limit  int // bytes of what can only be read whole, such as JSON in a string

	before []byte // the end of what is settled
	buf    view
	gap    int  // white space read since the last token
	pair   bool // the last escape read may be the first half of a character
	hidden bool // the string is hidden whole
	blob   bool // since it is a file that is no text
	v      verdict
	sum    hash.Hash // of a string that is hidden by its hash
}

const (
	contextBytes = 256 // of settled text that detectors see before a window
	// aheadShare of a window is only looked at: what begins there is decided with
	// the next one. It is more than any value that has spaces in it.
	aheadShare = 4
)

// begin starts to read a string piece by piece of which n bytes are at hand, and
// reports whether it does.
func (d *doc) begin(v verdict, n int) (bool, error) {
	l := d.long
	v = d.w.leaf(v)
	l.before, l.hidden, l.blob, l.v, l.sum = l.before[:0], false, false, v, nil
	switch {
	case d.mute > 0:
		l.hidden, l.v = true, verdict{}
	case v.how != howNone:
		l.hidden = true
		if v.how == howHash {
			l.sum = hmac.New(sha256.New, d.w.m.hashKey)
		}
		d.mute++
		d.dig(d.i)
	case v.is&isBlob != 0 && !d.opens(l.window):
		l.hidden, l.blob = true, true
		d.mute++
		d.dig(d.i)
	case d.opens(l.window):
		if n > l.limit {
			return false, fmt.Errorf("json at byte %d: a document in a string of more than %d bytes: %w", d.off+d.i, l.limit, ErrTooLarge)
		}
		return false, nil
	}
	d.i, d.resume = d.i+1, 0
	d.want = wantText
	return true, nil
}

// opens tells whether the string at d.i may hold a document of its own.
func (d *doc) opens(n int) bool {
	const prefix = 1 << 10
	resume, odd := d.resume, d.odd
	d.resume = 0
	part, _, _, err := d.part(d.i+1, min(n, prefix))
	d.resume, d.odd = resume, odd
	if err != nil {
		return true // the error comes up again
	}
	text := d.src[d.i+1 : part]
	d.long.buf.unescape(text)
	return opensJSON(d.long.buf.b) || base64Opens(d.long.buf.b) && base64Text(d.long.buf.b)
}

// part returns the end of the part of a string that begins at i: its closing
// quote, or a place after size bytes where no character is cut in two.
func (d *doc) part(i, size int) (end int, odd oddities, closed bool, err error) {
	src, till, pair := d.src, i+size, false
	if d.resume > i {
		i, odd, pair = d.resume, d.odd, d.long.pair
	}
	defer func() {
		if d.resume = 0; err == errMore {
			d.resume, d.odd, d.long.pair = end, odd, pair
		}
	}()
	for i < len(src) {
		c := stringClass[src[i]]
		if i >= till && !pair && (c != 4 || utf8.RuneStart(src[i])) {
			return i, odd, false, nil
		}
		was := pair
		pair = false
		switch c {
		case 0:
			i++
		case 1:
			return i, odd, true, nil
		case 2:
			odd |= oddEscape
			n, err := d.escape(i)
			if err != nil {
				pair = was
				return i, odd, false, err
			}
			pair = !was && n == 6 && (src[i+2]|0x20) == 'd' && bytes.IndexByte([]byte("89abAB"), src[i+3]) >= 0
			i += n
		case 3:
			return i, odd, false, d.fail(i, "a control character inside a string")
		default:
			odd |= oddHigh
			i++
		}
	}
	return i, odd, false, d.short("the document ends inside a string")
}

// text reads on in a long string.
func (d *doc) text() error {
	l := d.long
	end, odd, closed, err := d.part(d.i, l.window)
	if err != nil {
		return err
	}
	raw := d.src[d.i:end]
	if odd&oddHigh != 0 && !utf8.Valid(raw) {
		return d.fail(d.i, "a string that is not UTF-8")
	}
	if l.hidden {
		if l.sum != nil {
			l.buf.unescape(raw)
			l.sum.Write(l.buf.b)
		}
		d.i = end
	} else {
		n, err := d.w.window(l, raw, d.i, true, closed)
		if err != nil {
			return fmt.Errorf("json at byte %d: %w", d.off+d.i, err)
		}
		d.i += n
	}
	if !closed || d.i < end {
		return nil
	}
	d.i++
	switch {
	case l.blob:
		d.mute--
		d.hole.open = false
		d.w.hideBlob(d.hole.from, d.i)
	case l.hidden && l.v.how != howNone:
		d.mute--
		d.hole.open = false
		d.w.hideLong(d.hole.from, d.i, l)
	}
	d.after()
	return nil
}

// hideLong replaces a string that was not held whole. Its last characters are
// not shown: nothing could tell what they belong to.
func (w *walker) hideLong(from, to int, l *long) {
	repl := []byte(`"` + hidden + `"`)
	switch {
	case l.sum != nil:
		repl = quoted([]byte("[hash:" + hex.EncodeToString(l.sum.Sum(nil)[:16]) + "]"))
	case l.v.how == howDrop:
		repl = []byte("null")
	}
	w.edits = append(w.edits, edit{from, to, repl, l.v.kind()})
	w.report(int(l.v.rule), l.v.kind(), "")
}

// window searches the next part of a long text, which begins at base, and
// returns how much of it is settled.
func (w *walker) window(l *long, raw []byte, base int, inJSON, last bool) (int, error) {
	v := &l.buf
	v.reset(len(l.before) + len(raw))
	from := len(l.before)
	if from > 0 {
		v.b = append(v.b, l.before...)
		v.at = append(v.at, seg{vn: int32(from)})
	}
	if inJSON {
		v.decode(raw)
	} else {
		v.copyTo(raw, len(raw))
	}
	text, to := v.b, len(v.b)
	if !last {
		to = calm(text, from)
	}
	if w.m.det.any || len(w.m.keys) > 0 {
		seen, fold := w.folded.fold(text)
		for _, f := range w.matches(seen, true) {
			start, end := max(fold.start(f.start), from), fold.end(f.end)
			if end <= from {
				continue
			}
			if start >= to {
				break
			}
			if end > to {
				// It goes on where nothing is decided yet.
				if to = start; to == from {
					return 0, fmt.Errorf("a value of more than %d bytes: %w", len(raw)*(aheadShare-1)/aheadShare, ErrTooLarge)
				}
				break
			}
			repl := w.m.conceal(w.ruleHow(f), f, f.in(seen))
			if inJSON {
				repl = quote(repl)
			}
			w.edits = append(w.edits, edit{base + v.at.start(start), base + v.at.end(end), repl, f.kind()})
			w.report(w.rule(f), f.kind(), f.detail)
		}
	}
	n := len(raw)
	if to < len(text) {
		n = v.at.start(to)
	}
	keep := max(0, to-contextBytes)
	for keep > 0 && keep < to && !utf8.RuneStart(text[keep]) {
		keep++
	}
	l.before = append(l.before[:0], text[keep:to]...)
	return n, nil
}

// calm returns a place in text, well before its end, to stop at: best between
// words.
func calm(text []byte, from int) int {
	to := len(text) - (len(text)-from)/aheadShare
	least := from + (len(text)-from)/aheadShare
	if n := bytes.LastIndexAny(text[least:to], " \n\t"); n >= 0 {
		return least + n
	}
	for to > least && !utf8.RuneStart(text[to]) {
		to--
	}
	return to
}
