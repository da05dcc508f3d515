package mask

import (
	"cmp"
	"fmt"
	"io"
	"iter"
)

// feed lets a parser that pulls read a body that is pushed: the parser runs as a
// coroutine, which stops where it needs more.
type feed struct {
	p    []byte
	last bool
	wait func() bool
	next func() (struct{}, bool)
	stop func()
	over bool
	shut bool // nothing more is to be read
	err  error
}

func newFeed(parse func(*feed) error) *feed {
	f := &feed{}
	f.next, f.stop = iter.Pull(func(yield func(struct{}) bool) {
		f.wait = func() bool { return yield(struct{}{}) }
		f.err = parse(f)
		f.over = true
	})
	return f
}

// write lets the parser read on, to the end of p. Its error is the parser's.
func (f *feed) write(p []byte, last bool) error {
	f.p, f.last = p, last
	if !f.over {
		f.next()
	}
	return f.err
}

func (f *feed) fill() error {
	for len(f.p) == 0 {
		switch {
		case f.last:
			return io.EOF
		case !f.wait():
			f.shut = true
			return io.ErrClosedPipe
		}
	}
	return nil
}

// Read implements [io.Reader].
func (f *feed) Read(b []byte) (int, error) {
	if err := f.fill(); err != nil {
		return 0, err
	}
	n := copy(b, f.p)
	f.p = f.p[n:]
	return n, nil
}

// ReadByte implements [io.ByteReader].
func (f *feed) ReadByte() (byte, error) {
	if err := f.fill(); err != nil {
		return 0, err
	}
	c := f.p[0]
	f.p = f.p[1:]
	return c, nil
}

// Document masks XML, HTML or a form that arrives in chunks, part by part. What it
// returns doesn't depend on where the chunks are cut. Not safe for concurrent use.
type Document struct {
	w     *walker
	src   []byte // what has not left
	limit int
	what  string
	err   error
	markup
	feed *feed // nil: markup reads src itself
}

// markup is what differs between the kinds of documents. Places are in the bytes
// that have not left.
type markup interface {
	// parse reads to the end, and tells of each part that it took.
	parse(*feed) error
	// settled is up to where nothing changes any more.
	settled() int
	// left takes note that the first n bytes have left.
	left(n int)
}

func (m *Masker) document(what string, limit int, make func(*Document) markup) *Document {
	d := &Document{w: m.walker(), what: what, limit: orDefault(limit, 1<<20)}
	d.markup = make(d)
	d.feed = newFeed(d.parse)
	return d
}

// NewDocument begins to mask a body of a type of kind [Markup] that is no
// multipart body; nil for others. limit bounds a part that can only be masked whole,
// in bytes: a tag, a text between tags that end one, an element that is hidden, a
// field. Zero means 1 MiB. What is not closed must be stopped.
func (m *Masker) NewDocument(media string, limit int) *Document {
	switch {
	case media == "application/x-www-form-urlencoded":
		return m.document("form", limit, newForm)
	case isXML(media):
		return m.document("xml", limit, newXML)
	case media == "text/html", media == "application/xhtml+xml":
		return m.document("html", limit, newPage)
	}
	return nil
}

// Findings tells what was hidden so far.
func (d *Document) Findings() []Finding { return d.w.findings }

// Held is how many bytes of the body are in memory, in the parser's buffer too.
func (d *Document) Held() int { return 2 * cap(d.src) }

// Write takes the next bytes of the body and returns those that may leave now; the
// result is the caller's. An error is final: withhold the rest.
func (d *Document) Write(chunk []byte) ([]byte, error) {
	if d.err != nil {
		return nil, d.err
	}
	d.src = append(d.src, chunk...)
	return d.take(chunk, false)
}

// Close ends the body and returns its last bytes.
func (d *Document) Close() ([]byte, error) {
	if d.err != nil {
		return nil, d.err
	}
	out, err := d.take(nil, true)
	d.Stop()
	if err == nil {
		d.err = errClosed
		d.w.done()
	}
	return out, err
}

// Stop ends a document that is not read to its end.
func (d *Document) Stop() { d.feed.stop() }

func (d *Document) take(p []byte, last bool) ([]byte, error) {
	err := cmp.Or(d.feed.write(p, last), d.w.fault)
	n := len(d.src)
	if err == nil && !last {
		if n = min(n, d.settled()); len(d.src)-n > d.limit {
			err = d.tooLarge()
		}
	}
	if err != nil {
		d.err, d.src = err, nil
		d.Stop()
		return nil, err
	}
	return d.leave(n), nil
}

func (d *Document) tooLarge() error {
	return fmt.Errorf("a part of the %s that can only be masked whole is over %d bytes: %w", d.what, d.limit, ErrTooLarge)
}

// leave returns the first n bytes, masked.
func (d *Document) leave(n int) []byte {
	if n <= 0 {
		return nil
	}
	w := d.w
	w.edits = ordered(w.edits)
	k := 0
	for k < len(w.edits) && w.edits[k].start < n {
		k++
	}
	out := apply(d.src[:n:n], w.edits[:k])
	if k == 0 { // out is what d.src holds
		out = append([]byte(nil), out...)
	}
	w.edits = append(w.edits[:0], w.edits[k:]...)
	for i := range w.edits {
		w.edits[i].start -= n
		w.edits[i].end -= n
	}
	d.src = append(d.src[:0], d.src[n:]...)
	if cap(d.src) > 64<<10 && len(d.src) < cap(d.src)/4 {
		d.src = append([]byte(nil), d.src...) // one long part needs no room for ever
	}
	d.left(n)
	return out
}

// everything masks a document that is at hand whole.
func (d *Document) everything(body []byte) (out []byte, found []Finding, err error) {
	defer d.Stop()
	if err := checkSize(body); err != nil {
		return nil, nil, err
	}
	d.src = body
	if err := cmp.Or(d.feed.write(body, true), d.w.fault); err != nil {
		return nil, nil, err
	}
	out = apply(body, ordered(d.w.edits))
	d.Stop()
	d.w.done()
	return out, d.w.findings, nil
}

// cut moves what was gathered to where it stands after the first n bytes left.
func (g *gathered) cut(n int) {
	g.raw -= n
	for i := range g.at {
		g.at[i].s -= int32(n)
	}
	for i := range g.parts {
		g.parts[i].start -= n
		g.parts[i].end -= n
	}
}
