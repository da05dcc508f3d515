package mask

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math"
	"mime"
	"strings"
)

// Stream masks a body that arrives in chunks, a unit at a time: an event of an
// event stream, a line of JSON Lines, a line of text (a private key is one unit
// from its first line to its last). What it returns doesn't depend on where the
// chunks are cut. It holds back at most one unit. Not safe for concurrent use.
type Stream struct {
	m     *Masker
	form  form
	limit int

	buf   []byte // bytes not yet released
	seen  int    // buf[:seen] holds no end of a line that was not dealt with
	line  int    // where the line around seen begins
	bom   bool   // nothing was masked yet: a byte order mark may come
	inKey bool   // text: inside a private key block
	cr    bool   // there was a carriage return, which ends lines too

	joined   joined  // events: what has pieces in several of them
	harmless []byte  // events: the last line with an event's name in which nothing was found
	w        *walker // collects the findings of all units
	err      error
}

// form is how a stream is cut into units.
type form uint8

const (
	formText form = iota
	formLines
	formEvents
)

// NewStream begins a stream. contentType is the value of the header: event
// streams and JSON Lines are known by it, all else is text, line by line. limit
// bounds a unit in bytes, and so the memory held: above it Write and Close fail
// with ErrTooLarge. Zero means 1 MiB.
func (m *Masker) NewStream(contentType string, limit int) *Stream {
	s := &Stream{m: m, limit: min(orDefault(limit, 1<<20), math.MaxInt32/2), bom: true, w: m.walker()}
	t, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		t, _, _ = strings.Cut(contentType, ";")
		t = strings.ToLower(strings.TrimSpace(t))
	}
	switch t {
	case "text/event-stream":
		s.form = formEvents
		s.w.done()
		events := *m
		events.paths = m.eventPaths
		s.m, s.w = &events, events.walker()
		s.joined = joined{w: s.w, limit: s.limit}
	case "application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines", "application/jsonlines":
		s.form = formLines
	}
	return s
}

// errClosed is returned by a stream that is used after Close.
var errClosed = errors.New("mask stream is closed")

// Write takes the next bytes of the body and returns those that may leave now; the
// result is the caller's. An error is final: withhold the rest.
func (s *Stream) Write(chunk []byte) ([]byte, error) {
	if s.err != nil {
		return nil, s.err
	}
	s.buf = append(s.buf, chunk...)
	s.cr = s.cr || bytes.IndexByte(chunk, '\r') >= 0
	out, err := s.drain(nil, false)
	if err != nil {
		s.fail(err)
		return nil, s.err
	}
	return out, nil
}

// Close ends the body and returns its last bytes.
func (s *Stream) Close() ([]byte, error) {
	if s.err != nil {
		return nil, s.err
	}
	out, err := s.drain(nil, true)
	if err != nil {
		s.fail(err)
		return nil, s.err
	}
	s.fail(errClosed)
	return out, nil
}

// Findings tells what was hidden so far.
func (s *Stream) Findings() []Finding { return s.w.findings }

// Held is how many bytes of the body are in memory.
func (s *Stream) Held() int { return cap(s.buf) + 2*s.joined.size }

func (s *Stream) fail(err error) {
	s.err = err
	s.buf = nil
}

// drain masks and appends to out all units that are complete; at the end, also
// the one that is not.
func (s *Stream) drain(out []byte, last bool) ([]byte, error) {
	from := 0
	for {
		end := s.unitEnd(from, last)
		if end < 0 {
			break
		}
		if out == nil {
			out = make([]byte, 0, len(s.buf)+len(s.buf)/32)
		}
		unit := s.buf[from:end]
		if s.oversized(unit) {
			return nil, s.tooLarge()
		}
		edits, err := s.mask(unit)
		if err = cmp.Or(err, s.w.fault); err != nil {
			return nil, err
		}
		if s.form == formEvents {
			some, err := s.joined.add(unit, edits, s.w.pieces)
			if err != nil {
				return nil, err
			}
			out = append(out, some...)
		} else {
			out = append(out, apply(unit, edits)...)
		}
		from = end
	}
	if last && s.form == formEvents {
		some, err := s.joined.end()
		if err != nil {
			return nil, err
		}
		out = append(out, some...)
	}
	rest := copy(s.buf, s.buf[from:])
	s.buf = s.buf[:rest]
	s.seen -= from
	s.line -= from
	if s.oversized(s.buf) {
		return nil, s.tooLarge()
	}
	return out, nil
}

// oversized leaves line ends out, since whether the last one is here depends on
// where chunks are cut.
func (s *Stream) oversized(unit []byte) bool {
	return len(unit) > s.limit && len(bytes.TrimRight(unit, "\r\n")) > s.limit
}

func (s *Stream) tooLarge() error {
	unit := [...]string{"line", "line", "event"}[s.form]
	return fmt.Errorf("%s of more than %d bytes: %w", unit, s.limit, ErrTooLarge)
}

// unitEnd returns the end of the unit that begins at from, or -1 if it has not
// all arrived. It goes on where the last call stopped, so that a body in chunks
// of one byte costs no more than a whole one.
func (s *Stream) unitEnd(from int, last bool) int {
	for {
		n := lineEnd(s.buf[s.seen:], s.cr)
		if n < 0 {
			s.seen = len(s.buf)
			break
		}
		s.seen += n
		line, end := s.buf[s.line:s.seen], s.seen+1
		ends, inKey := s.ends(line)
		if s.buf[s.seen] == '\r' {
			if end < len(s.buf) && s.buf[end] == '\n' {
				end++
			} else if end == len(s.buf) && !ends && !last {
				// A \n may follow, and must not count as a line of its own. After the
				// last line of a unit it may: an empty line there hides nothing.
				return -1
			}
		}
		s.inKey = inKey
		s.seen, s.line = end, end
		if ends {
			return end
		}
	}
	if last && from < len(s.buf) {
		s.line = s.seen
		return len(s.buf)
	}
	return -1
}

// ends tells whether a unit ends with this line, and if not, whether that is for
// a private key block.
func (s *Stream) ends(line []byte) (ends, inKey bool) {
	switch s.form {
	case formEvents:
		return len(line) == 0, false
	case formLines:
		return true, false
	}
	if s.m.det.on.has(detPrivateKey) {
		inKey = keyBlockOpen(line, s.inKey)
	}
	return !inKey, inKey
}

// keyBlockOpen tells whether a private key block is open after the line.
func keyBlockOpen(line []byte, before bool) bool {
	var v view
	line, _ = v.fold(line)
	if before {
		return !contains(line, "-----END") && !contains(line, "Private-MAC:")
	}
	if i := bytes.LastIndex(line, []byte("-----BEGIN")); i >= 0 && contains(line[i:], "PRIVATE KEY") {
		return !contains(line[i:], "-----END")
	}
	return contains(line, "PuTTY-User-Key-File")
}

// mask returns the edits of one unit.
func (s *Stream) mask(unit []byte) ([]edit, error) {
	s.w.reset()
	base := 0
	if s.bom {
		s.bom = false
		if bytes.HasPrefix(unit, []byte("\xEF\xBB\xBF")) {
			base = 3
		}
	}
	switch s.form {
	case formEvents:
		return s.event(unit, base)
	case formLines:
		if len(bytes.TrimSpace(unit[base:])) == 0 {
			return nil, nil
		}
		if err := s.w.document(unit[base:]); err != nil {
			return nil, err
		}
	default:
		if err := s.w.anything(unit[base:], nil, 0); err != nil {
			return nil, err
		}
	}
	for i := range s.w.edits {
		s.w.edits[i].start += base
		s.w.edits[i].end += base
	}
	return s.w.edits, nil
}
