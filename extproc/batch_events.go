package extproc

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/callgate/callgate/call/protocol"
	"github.com/callgate/callgate/extproc/mask"
)

// batchEvents is an answer that is a stream of events (WHATWG HTML §9.2), each
// of which holds one message or several. What denied calls are owed comes first.
type batchEvents struct {
	b     *batch
	limit int // bytes of an event

	begun bool
	line  []byte   // that has not ended
	cr    bool     // the last byte ended a line and may be half of its end
	rest  []string // the event's lines other than data
	data  []string
	event bool // a line of it has come
	size  int
}

func (f *batchEvents) write(p []byte) ([]byte, error) {
	var out bytes.Buffer
	f.begin(&out)
	for len(p) > 0 {
		if f.cr && p[0] == '\n' {
			p = p[1:]
		}
		f.cr = false
		n := bytes.IndexAny(p, "\r\n")
		if n < 0 {
			f.line = append(f.line, p...)
		} else {
			f.line = append(f.line, p[:n]...)
			f.cr = p[n] == '\r'
			if err := f.take(&out); err != nil {
				return nil, err
			}
			p = p[n+1:]
		}
		if f.size+len(f.line) > f.limit {
			return nil, fmt.Errorf("an event of over %d bytes can't be held; raise the connection's max_response", f.limit)
		}
		if n < 0 {
			break
		}
	}
	return out.Bytes(), nil
}

// begin tells the callers of denied calls.
func (f *batchEvents) begin(out *bytes.Buffer) {
	if f.begun {
		return
	}
	f.begun = true
	for _, e := range f.b.denied {
		fmt.Fprintf(out, "event: message\ndata: %s\n\n", e)
	}
}

// take takes a line that has ended.
func (f *batchEvents) take(out *bytes.Buffer) error {
	line := strings.TrimPrefix(string(f.line), "\ufeff") // a byte order mark may begin the stream
	f.size += len(f.line)
	f.line = f.line[:0]
	if line == "" {
		return f.end(out)
	}
	f.event = true
	name, value, _ := strings.Cut(line, ":")
	if name == "data" {
		f.data = append(f.data, strings.TrimPrefix(value, " "))
		return nil
	}
	if f.b.all != nil {
		text, _, err := f.b.all.String("", strings.TrimPrefix(value, " "))
		if err != nil {
			return err
		}
		line = name + ": " + strings.NewReplacer("\r", "", "\n", "").Replace(text)
	}
	f.rest = append(f.rest, line)
	return nil
}

// end takes the event whose lines have come.
func (f *batchEvents) end(out *bytes.Buffer) error {
	defer func() { f.rest, f.data, f.size, f.event = nil, nil, 0, false }()
	if !f.event {
		return nil
	}
	text := strings.Join(f.data, "\n")
	lines := f.rest
	switch {
	case f.data == nil:
	case strings.TrimSpace(text) == "":
		lines = append(lines, "data: ")
	default:
		list, isList, err := protocol.Replies([]byte(text))
		if err != nil {
			return err
		}
		kept, err := f.b.pass(list)
		if err != nil {
			return err
		}
		for i := range kept {
			// A line break between tokens would end the line.
			kept[i] = bytes.Map(func(r rune) rune {
				if r == '\n' || r == '\r' {
					return ' '
				}
				return r
			}, kept[i])
		}
		switch {
		case len(kept) == 0:
		case isList:
			lines = append(lines, "data: "+string(listOf(kept)))
		default:
			lines = append(lines, "data: "+string(kept[0]))
		}
	}
	if len(lines) > 0 {
		out.WriteString(strings.Join(lines, "\n") + "\n\n")
	}
	return nil
}

// close ends the stream. An event that was not ended is none, as for any reader.
func (f *batchEvents) close() ([]byte, error) {
	var out bytes.Buffer
	f.begin(&out)
	f.b.end()
	return out.Bytes(), nil
}

func (*batchEvents) findings() []mask.Finding { return nil } // the calls have them
func (*batchEvents) waits() bool              { return false }
func (f *batchEvents) held() int              { return 2 * (f.size + cap(f.line)) }
