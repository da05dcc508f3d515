package engine

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/ClickHouse/ch-go/compress"
	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
)

// reply writes a result. Nothing goes out before the first chunk or the end is
// there, so that what fails early fails with its own status; what fails later
// is told inside the body, as ClickHouse does it, and the connection is broken
// off, so that no client takes half a result for a whole.
type reply struct {
	w       http.ResponseWriter
	control *http.ResponseController
	begun   time.Time
	tag     string // of an exception inside the body
	started bool
	body    io.Writer    // through the encoding
	encoder encoder      // nil for none
	frames  *frameWriter // nil for none
	held    *spool       // nil unless the whole result is awaited
}

type encoder interface {
	io.WriteCloser
	Flush() error
}

// newReply prepares the answer's headers; r says how the client wants it.
func newReply(w http.ResponseWriter, r request, accept, format, tmp string) (*reply, error) {
	p := &reply{w: w, control: http.NewResponseController(w), begun: time.Now(), tag: rand.Text()[:16]}
	header := w.Header()
	header.Set("Content-Type", contentType(format))
	header.Set("X-ClickHouse-Format", format)
	header.Set("X-ClickHouse-Exception-Tag", p.tag)
	p.body = patientWriter{w, p.control}
	if r.compress {
		f, err := newFrameWriter(p.body, r.method, r.level)
		if err != nil {
			return nil, err
		}
		p.frames = f
		p.body = f
	} else if encoding := negotiate(accept); encoding != "" && !r.plain {
		header.Set("Content-Encoding", encoding)
		header.Add("Vary", "Accept-Encoding")
		e, err := newEncoder(p.body, encoding)
		if err != nil {
			return nil, err
		}
		p.encoder, p.body = e, e
	}
	if r.wait {
		p.held = &spool{dir: tmp}
	}
	return p, nil
}

// chunk sends a part of the result. An error means that the client is gone, or
// that a result that is awaited whole can't be held.
func (p *reply) chunk(data []byte, sofar progress) error {
	if p.held != nil {
		return p.held.add(data)
	}
	p.start(sofar)
	_, err := p.body.Write(data)
	return err
}

func (p *reply) start(sofar progress) {
	if !p.started {
		p.started = true
		p.w.Header().Set("X-ClickHouse-Summary", sofar.summary(time.Since(p.begun).Nanoseconds()))
		p.w.WriteHeader(http.StatusOK)
	}
}

// finish ends a result that is complete.
func (p *reply) finish(all progress) error {
	if !p.started && (p.held == nil || p.held.size == 0) {
		// Clients tell an empty answer by its length, in any encoding.
		p.w.Header().Del("Content-Encoding")
		p.w.Header().Set("Content-Length", "0")
		p.start(all)
		return nil
	}
	p.start(all)
	if p.held != nil {
		if err := p.held.copyTo(p.body); err != nil {
			return err
		}
	}
	if p.frames != nil {
		return p.frames.flush()
	}
	if p.encoder != nil {
		return p.encoder.Close()
	}
	return nil
}

// fail tells a client what went wrong. It does not return if a part of the
// result is out already.
func (p *reply) fail(e *exception, version string) {
	if !p.started {
		p.w.Header().Del("Content-Encoding")
		writeException(p.w, e, version)
		return
	}
	// The frame by which clients know an exception from data, then the break.
	text := exceptionText(e, version)
	const most = 8 << 10
	if len(text) > most {
		text = text[:most]
	}
	frame := fmt.Sprintf("\r\n__exception__\r\n%s\r\n%s\n%d %s\r\n__exception__\r\n", p.tag, text, len(text)+1, p.tag)
	switch {
	case p.frames != nil:
		// Not in a frame: that is how ClickHouse does it, and what clients
		// look for.
		if p.frames.flush() == nil {
			io.WriteString(p.frames.w, frame)
		}
	case p.encoder != nil:
		if _, err := io.WriteString(p.encoder, frame); err == nil {
			p.encoder.Flush()
		}
	default:
		io.WriteString(p.body, frame)
	}
	p.control.Flush()
	panic(http.ErrAbortHandler)
}

func (p *reply) close() {
	if p.held != nil {
		p.held.close()
	}
	if p.frames != nil {
		p.frames.buf = nil
	}
}

func exceptionText(e *exception, version string) string {
	text := strings.TrimRight(e.Error(), "\n")
	if strings.Contains(text, "(version ") {
		return text
	}
	return fmt.Sprintf("%s (version %s)", text, version)
}

// writeException is the answer of a request that failed before any result.
func writeException(w http.ResponseWriter, e *exception, version string) {
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=UTF-8")
	h.Set("X-ClickHouse-Exception-Code", fmt.Sprint(e.code))
	h.Set("X-Content-Type-Options", "nosniff")
	status := e.httpStatus()
	if status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Basic realm="ClickHouse server HTTP API"`)
	}
	w.WriteHeader(status)
	io.WriteString(w, exceptionText(e, version)+"\n")
}

// patientWriter gives up on a client that takes nothing for too long: it holds
// one of the engine's few connections.
type patientWriter struct {
	w       io.Writer
	control *http.ResponseController
}

func (p patientWriter) Write(b []byte) (int, error) {
	if err := p.control.SetWriteDeadline(time.Now().Add(stall)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return 0, err
	}
	return p.w.Write(b)
}

// contentType is what ClickHouse calls a format's content.
func contentType(format string) string {
	lower := strings.ToLower(format)
	switch {
	case lower == "jsoneachrow" || lower == "jsonlines" || lower == "ndjson" || lower == "jsoncompacteachrow":
		return "application/x-ndjson; charset=UTF-8"
	case strings.HasPrefix(lower, "json"):
		return "application/json; charset=UTF-8"
	case strings.HasPrefix(lower, "csv"):
		return "text/csv; charset=UTF-8; header=" + map[bool]string{true: "present", false: "absent"}[strings.Contains(lower, "names")]
	case strings.HasPrefix(lower, "tsv") || strings.HasPrefix(lower, "tabseparated"):
		return "text/tab-separated-values; charset=UTF-8"
	case lower == "xml":
		return "application/xml; charset=UTF-8"
	case lower == "native" || lower == "parquet" || lower == "orc" || lower == "avro" || strings.HasPrefix(lower, "arrow") || strings.HasPrefix(lower, "rowbinary"):
		return "application/octet-stream"
	}
	return "text/plain; charset=UTF-8"
}

// negotiate picks the first encoding of the client's that is known; a weight
// of zero refuses one.
func negotiate(accept string) string {
	for part := range strings.SplitSeq(accept, ",") {
		name, weight, _ := strings.Cut(part, ";")
		weight = strings.ReplaceAll(weight, " ", "")
		if strings.HasPrefix(weight, "q=0") && strings.Trim(weight[3:], ".0") == "" {
			continue
		}
		switch name = strings.ToLower(strings.TrimSpace(name)); name {
		case "gzip", "deflate", "br", "zstd":
			return name
		}
	}
	return ""
}

func newEncoder(w io.Writer, encoding string) (encoder, error) {
	switch encoding {
	case "deflate":
		return zlib.NewWriterLevel(w, zlib.BestSpeed)
	case "br":
		return brotli.NewWriterLevel(w, brotli.BestSpeed), nil
	case "zstd":
		return zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	}
	return gzip.NewWriterLevel(w, gzip.BestSpeed)
}

// frameWriter packs what is written into ClickHouse's own frames.
type frameWriter struct {
	w   io.Writer
	z   *compress.Writer
	buf []byte
}

// frameSize is what ClickHouse packs into a frame.
const frameSize = 1 << 20

func newFrameWriter(w io.Writer, method string, level int) (*frameWriter, error) {
	m := map[string]compress.Method{"": compress.LZ4, "LZ4": compress.LZ4, "LZ4HC": compress.LZ4HC, "ZSTD": compress.ZSTD, "NONE": compress.None}[method]
	if m == compress.LZ4HC {
		level = int(compress.LevelLZ4HCDefault)
	}
	return &frameWriter{w: w, z: compress.NewWriter(compress.Level(level), m)}, nil
}

func (f *frameWriter) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		k := min(len(p), frameSize-len(f.buf))
		f.buf = append(f.buf, p[:k]...)
		p, n = p[k:], n+k
		if len(f.buf) == frameSize {
			if err := f.flush(); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

func (f *frameWriter) flush() error {
	if len(f.buf) == 0 {
		return nil
	}
	if err := f.z.Compress(f.buf); err != nil {
		return fmt.Errorf("compress: %w", err)
	}
	f.buf = f.buf[:0]
	_, err := f.w.Write(f.z.Data)
	return err
}

// spool holds a result that is awaited whole: in memory while it is small,
// then in a file without a name.
type spool struct {
	dir  string
	mem  []byte
	file *os.File
	size int64
}

const (
	spoolMemory = 1 << 20
	spoolMost   = 1 << 30
)

func (s *spool) add(data []byte) error {
	if s.size += int64(len(data)); s.size > spoolMost {
		return refuse(codeTooLarge, "The result is larger than the %d bytes that can be held back: leave out wait_end_of_query", spoolMost)
	}
	if s.file == nil && len(s.mem)+len(data) <= spoolMemory {
		s.mem = append(s.mem, data...)
		return nil
	}
	if s.file == nil {
		f, err := os.CreateTemp(s.dir, "result-")
		if err != nil {
			return fmt.Errorf("hold the result: %w", err)
		}
		s.file = f
		// Nameless from here on: a crash leaves nothing behind.
		if err := os.Remove(f.Name()); err != nil {
			return fmt.Errorf("hold the result: %w", err)
		}
		if _, err := f.Write(s.mem); err != nil {
			return fmt.Errorf("hold the result: %w", err)
		}
		s.mem = nil
	}
	if _, err := s.file.Write(data); err != nil {
		return fmt.Errorf("hold the result: %w", err)
	}
	return nil
}

func (s *spool) copyTo(w io.Writer) error {
	if s.file == nil {
		_, err := w.Write(s.mem)
		return err
	}
	if _, err := s.file.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("read the held result: %w", err)
	}
	// Not io.Copy: it would hand a plain response writer the file to send in
	// one piece, past the deadlines.
	buf := make([]byte, 256<<10)
	for {
		n, err := s.file.Read(buf)
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the held result: %w", err)
		}
	}
}

func (s *spool) close() {
	if s.file != nil {
		s.file.Close()
	}
}
