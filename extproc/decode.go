package extproc

import (
	"bufio"
	"compress/flate"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"strings"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/extproc/mask"
)

// Bounds on content encodings: what decodes to more than maxRatio times its size
// is a bomb, once there is enough of it to tell.
const (
	maxCodings   = 3
	maxRatio     = 256
	freeDecoded  = 1 << 20  // bytes that any body may decode to
	decodeWindow = 8 << 20  // of zstd, bytes; what browsers take too (RFC 8878 §3.1.1.1.2)
	pieceSize    = 32 << 10 // bytes decoded at a time
	// stepSize is decoded of what arrives before it is handed on, so that memory is
	// bounded by it and not by what a message could decode to. It is more than
	// any body may decode to, so that a bomb is known before a part of it leaves.
	stepSize = freeDecoded + 4*pieceSize
)

// codings lists the content encodings of a response in the order in which they
// were applied (RFC 9110 §8.4).
func codings(h call.Headers) []string {
	var out []string
	for _, line := range h.Values("content-encoding") {
		for _, name := range strings.Split(line, ",") {
			if name = strings.ToLower(strings.TrimSpace(name)); name != "" && name != "identity" {
				out = append(out, name)
			}
		}
	}
	return out
}

// decoding undoes a response's content encodings as it streams by. The decoders
// pull, and a response is pushed: they run as a coroutine, which stops where it
// needs more input.
type decoding struct {
	next flow
	name string
	in   *encoded
	pull func() ([]byte, error, bool)
	stop func()
	memo int // bytes that the decoders may hold
	done bool
	more bool // there is more at hand than one step takes
}

// newDecoding puts decoders before next, which gets the content as it is.
func newDecoding(names []string, next flow) (*decoding, error) {
	if len(names) > maxCodings {
		return nil, fmt.Errorf("the response has %d content encodings, at most %d are undone", len(names), maxCodings)
	}
	d := &decoding{next: next, name: strings.Join(names, ", "), in: &encoded{}}
	for _, name := range names {
		switch name {
		case "gzip", "x-gzip", "deflate":
			d.memo += 64 << 10
		case "br":
			d.memo += 4 << 20
		case "zstd":
			d.memo += decodeWindow
		default:
			return nil, &unreadable{fmt.Sprintf("a response in content-encoding %q", name)}
		}
	}
	d.pull, d.stop = iter.Pull2(func(yield func([]byte, error) bool) {
		d.in.more = func() bool { return yield(nil, nil) }
		out, err := decoders(d.in, names)
		if err != nil {
			yield(nil, d.wrong(err))
			return
		}
		piece := make([]byte, pieceSize)
		for {
			n, err := out.Read(piece)
			if n > 0 && !yield(piece[:n], nil) {
				return
			}
			if err != nil {
				if !errors.Is(err, io.EOF) {
					yield(nil, d.wrong(err))
				}
				return
			}
		}
	})
	return d, nil
}

func (d *decoding) wrong(err error) error {
	if errors.Is(err, errBomb) {
		return err
	}
	return fmt.Errorf("the response is not what content-encoding %s says: %w", d.name, err)
}

func (d *decoding) write(p []byte) ([]byte, error) {
	d.in.p = p
	return d.step()
}

// step decodes a part of what is at hand. d.more then tells whether that is not
// all of it.
func (d *decoding) step() ([]byte, error) { return d.run(stepSize) }

func (d *decoding) close() ([]byte, error) {
	d.in.end = true
	out, err := d.run(math.MaxInt) // what the decoders still hold
	if err != nil {
		return nil, err
	}
	if !d.done {
		return nil, errors.New("the encoded response ends too early")
	}
	rest, err := d.next.close()
	return append(out[:len(out):len(out)], rest...), err
}

// run decodes what is at hand, most bytes of it or a little more.
func (d *decoding) run(most int) ([]byte, error) {
	var out []byte
	d.more = false
	for n := 0; !d.done; {
		if n >= most {
			d.more = true
			return out, nil
		}
		piece, err, more := d.pull()
		switch {
		case err != nil:
			return nil, err
		case !more:
			d.done = true
		case piece == nil:
			return out, nil // all of the input is used up
		default:
			n += len(piece)
			some, err := d.next.write(piece)
			if err != nil {
				return nil, behind(out, err)
			}
			out = append(out, some...)
		}
	}
	if len(d.in.p) > 0 {
		return nil, fmt.Errorf("data after the end of what content-encoding %s says", d.name)
	}
	return out, nil
}

func (d *decoding) findings() []mask.Finding { return d.next.findings() }
func (d *decoding) waits() bool              { return d.next.waits() }
func (d *decoding) held() int                { return d.memo + d.next.held() }

// encoded is what has arrived of an encoded response. It is read by the
// coroutine alone, and written while that waits.
type encoded struct {
	p    []byte
	end  bool
	read int64
	more func() bool
}

func (e *encoded) fill() error {
	for len(e.p) == 0 {
		switch {
		case e.end:
			return io.EOF
		case !e.more():
			return io.ErrClosedPipe
		}
	}
	return nil
}

func (e *encoded) Read(b []byte) (int, error) {
	if err := e.fill(); err != nil {
		return 0, err
	}
	n := copy(b, e.p)
	e.p, e.read = e.p[n:], e.read+int64(n)
	return n, nil
}

func (e *encoded) ReadByte() (byte, error) {
	if err := e.fill(); err != nil {
		return 0, err
	}
	c := e.p[0]
	e.p, e.read = e.p[1:], e.read+1
	return c, nil
}

// decoders undo the encodings, the last one first.
func decoders(in *encoded, names []string) (io.Reader, error) {
	var out io.Reader = in
	for i := len(names) - 1; i >= 0; i-- {
		next, err := decoder(names[i], out)
		if err != nil {
			return nil, err
		}
		out = &bounded{in: next, wire: in}
	}
	return out, nil
}

func decoder(name string, in io.Reader) (io.Reader, error) {
	switch name {
	case "deflate":
		// RFC 9110 §8.4.1.2 means the zlib format; some send raw deflate, and
		// all browsers take it.
		b := bufio.NewReader(in)
		head, err := b.Peek(2)
		if err != nil {
			return nil, err
		}
		if head[0]&0x0F == 8 && (uint(head[0])<<8|uint(head[1]))%31 == 0 {
			z, err := zlib.NewReader(b)
			return &deflated{z, b}, err
		}
		return &deflated{flate.NewReader(b), b}, nil
	case "br":
		return brotli.NewReader(in), nil
	case "zstd":
		return zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(decodeWindow))
	default:
		return gzip.NewReader(in)
	}
}

// deflated refuses what comes after the end, as the other decoders do.
type deflated struct {
	io.Reader
	in *bufio.Reader
}

func (d *deflated) Read(p []byte) (int, error) {
	n, err := d.Reader.Read(p)
	if errors.Is(err, io.EOF) && d.in.Buffered() > 0 {
		return n, errors.New("data after the end")
	}
	return n, err
}

var errBomb = fmt.Errorf("the response decodes to more than %d times its size", maxRatio)

// bounded stops a decoder whose output is out of proportion to its input.
type bounded struct {
	in   io.Reader
	wire *encoded
	out  int64
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.in.Read(p)
	if b.out += int64(n); b.out > freeDecoded && b.out/maxRatio > b.wire.read {
		return 0, errBomb
	}
	return n, err
}
