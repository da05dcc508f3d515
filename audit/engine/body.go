package engine

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

const (
	// maxQuery bounds a statement's text; an INSERT's data are not part of it.
	maxQuery = 4 << 20
	// headSize is how much of a body is looked at to find where an INSERT's
	// data begin.
	headSize = 64 << 10
	// maxHTTPWindow bounds what unpacking a ZSTD body may take.
	maxHTTPWindow = 32 << 20
	// stall is how long a client may neither send nor take a byte.
	stall = 5 * time.Minute
)

// decoded is a request's body without its encodings.
type decoded struct {
	io.Reader
	closers []func()
}

func (d *decoded) Close() {
	for i := len(d.closers) - 1; i >= 0; i-- {
		d.closers[i]()
	}
}

// patient reads a body, and gives up when nothing comes for too long.
type patient struct {
	r       io.Reader
	control *http.ResponseController
}

func (p patient) Read(b []byte) (int, error) {
	// A transport that can't have deadlines has none.
	if err := p.control.SetReadDeadline(time.Now().Add(stall)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return 0, err
	}
	return p.r.Read(b)
}

// decodeBody takes the encodings off a body: HTTP's first, then ClickHouse's
// own frames where the client says so.
func decodeBody(body io.Reader, encoding string, frames bool) (*decoded, error) {
	d := &decoded{Reader: body}
	switch encoding = strings.ToLower(strings.TrimSpace(encoding)); encoding {
	case "", "identity":
	case "gzip":
		z, err := gzip.NewReader(body)
		if errors.Is(err, io.EOF) {
			d.Reader = http.NoBody // an empty body is empty in any encoding
			break
		}
		if err != nil {
			return nil, undecodable(encoding, err)
		}
		d.Reader = z
	case "deflate":
		z, err := zlib.NewReader(body)
		if err != nil {
			return nil, undecodable(encoding, err)
		}
		d.Reader = z
	case "br":
		d.Reader = brotli.NewReader(body)
	case "zstd":
		z, err := zstd.NewReader(body, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxHTTPWindow))
		if err != nil {
			return nil, undecodable(encoding, err)
		}
		d.Reader, d.closers = z, append(d.closers, z.Close)
	case "lz4": // LZ4's own frames, at most 4 MiB a block
		d.Reader = lz4.NewReader(body)
	default:
		return nil, refuse(codeNotImplemented, "Unknown Content-Encoding %q: gzip, deflate, br, zstd and lz4 are known", encoding)
	}
	if d.Reader != body {
		d.Reader = encoded{d.Reader, encoding}
	}
	if frames {
		f := newFrameReader(d.Reader)
		d.Reader, d.closers = f, append(d.closers, func() { f.Close() })
	}
	return d, nil
}

// encoded gives the errors of a decoder a number.
type encoded struct {
	r        io.Reader
	encoding string
}

func (e encoded) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = undecodable(e.encoding, err)
	}
	return n, err
}

func undecodable(encoding string, err error) error {
	return refuse(codeDecompress, "Cannot decode the %s body: %v", encoding, err)
}

// input is what a request asks to run: a statement, and for an INSERT that
// brings its own, the data.
type input struct {
	sql  string
	st   statement
	data io.Reader // nil if there is none
}

// readInput puts the URL's part of the statement and the body together, and
// finds where the statement ends and data begin. Data are never held.
func readInput(query string, body io.Reader) (input, error) {
	if query != "" {
		// An INSERT whose FORMAT stands in the URL: the body is all data.
		if st := inspect(query); st.data >= 0 && st.data == len(query) && st.format != "Values" {
			return input{sql: query[:st.head], st: st, data: body}, nil
		}
		query += "\n"
	}
	text := []byte(query)
	for size := len(text) + headSize; ; size = maxQuery {
		more, err := io.ReadAll(io.LimitReader(body, int64(max(size-len(text), 0))))
		text = append(text, more...)
		if err != nil {
			return input{}, unreadable(err)
		}
		whole := len(text) < size
		st := inspect(string(text))
		if st.data >= 0 && (whole || st.data < len(text)) {
			return input{sql: string(text[:st.head]), st: st, data: io.MultiReader(strings.NewReader(string(text[st.data:])), body)}, nil
		}
		if whole {
			return input{sql: strings.TrimRight(string(text), "\n"), st: st}, nil
		}
		if size >= maxQuery {
			return input{}, refuse(codeTooLarge, "The statement is longer than %d bytes: send an INSERT's data after its FORMAT clause", maxQuery)
		}
	}
}

// unreadable gives the failure to read a body a number.
func unreadable(err error) error {
	var e *exception
	if errors.As(err, &e) {
		return err
	}
	return refuse(codeCannotReadAllData, "Cannot read the request's body: %v", fmt.Errorf("%w", err))
}
