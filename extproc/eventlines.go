package extproc

import (
	"bytes"
	"strings"
)

// eventLines reads a stream of events (WHATWG HTML §9.2) as it comes, and writes
// it anew with the data of each event replaced.
type eventLines struct {
	begun bool   // the first bytes are through, which may be a byte-order mark
	line  []byte // of which the end has not come
	cr    bool   // the line ended with a carriage return, which may be half of its end
	other []byte // the event's lines that are not data
	data  []string
	size  int // of data
}

func (e *eventLines) held() int { return cap(e.line) + cap(e.other) + e.size }

// write takes the next bytes and returns the events that are whole.
func (e *eventLines) write(p []byte, replace func([]byte) ([]byte, error)) ([]byte, error) {
	var out bytes.Buffer
	for _, c := range p {
		if e.cr {
			if e.cr = false; c == '\n' {
				continue
			}
		}
		if c != '\n' && c != '\r' {
			e.line = append(e.line, c)
			continue
		}
		e.cr = c == '\r'
		if err := e.end(&out, replace); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), nil
}

// end takes a line that is whole.
func (e *eventLines) end(out *bytes.Buffer, replace func([]byte) ([]byte, error)) error {
	line := string(e.line)
	e.line = e.line[:0]
	if !e.begun {
		e.begun = true
		line = strings.TrimPrefix(line, "\ufeff")
	}
	if line == "" {
		if err := e.flush(out, replace); err != nil {
			return err
		}
		out.WriteByte('\n')
		return nil
	}
	name, value, _ := strings.Cut(line, ":")
	if name == "data" {
		value = strings.TrimPrefix(value, " ")
		e.data = append(e.data, value)
		e.size += len(value)
		return nil
	}
	e.other = append(append(e.other, line...), '\n')
	return nil
}

// flush writes the event that has come so far.
func (e *eventLines) flush(out *bytes.Buffer, replace func([]byte) ([]byte, error)) error {
	out.Write(e.other)
	e.other = e.other[:0]
	if e.data == nil {
		return nil
	}
	text := strings.Join(e.data, "\n")
	e.data, e.size = nil, 0
	if strings.TrimSpace(text) != "" {
		kept, err := replace([]byte(text))
		if err != nil {
			return err
		}
		text = string(kept)
	}
	for line := range strings.SplitSeq(text, "\n") {
		out.WriteString("data: " + line + "\n")
	}
	return nil
}

// close returns what stood at the end without an empty line behind it. Some
// clients take it for an event all the same.
func (e *eventLines) close(replace func([]byte) ([]byte, error)) ([]byte, error) {
	var out bytes.Buffer
	if len(e.line) > 0 {
		if err := e.end(&out, replace); err != nil {
			return nil, err
		}
	}
	err := e.flush(&out, replace)
	return out.Bytes(), err
}
