package mask

import (
	"bytes"
	"cmp"
	"fmt"
	"unicode/utf8"
)

// CSV masks a table of RFC 4180 that arrives in chunks, record by record. The
// fields of the first record name the columns, for key rules and for field paths:
// "card" and "[*].card" are the column, "[0].card" is that field of the first
// record after the names. A field is searched by itself. What is not hidden stays
// as it is, its quotes included. Not safe for concurrent use.
type CSV struct {
	w     *walker
	limit int
	comma byte

	buf    []byte
	scan   int // buf[:scan] is known to hold no end of a record
	quoted bool
	n      int      // records read
	names  []string // of the columns
	plain  bool     // the first record holds no names
	said   bool     // the first line was "sep=;"
	live   liveStates
	root   verdict
	err    error
}

// NewCSV begins a table. A record of more than limit bytes is refused; zero means
// 1 MiB. comma separates fields; zero: whichever of , ; tab and | stands most
// often in the first record. plain says that the first record names nothing.
func (m *Masker) NewCSV(comma byte, plain bool, limit int) *CSV {
	c := &CSV{w: m.walker(), comma: comma, plain: plain, limit: orDefault(limit, 1<<20)}
	c.root = c.w.arrive(verdict{})
	c.live = c.w.cur
	return c
}

// Findings tells what was hidden so far.
func (c *CSV) Findings() []Finding { return c.w.findings }

// Held is how many bytes of the body are in memory.
func (c *CSV) Held() int { return cap(c.buf) }

// Write takes the next bytes of the body and returns those that may leave now; the
// result is the caller's. An error is final: withhold the rest.
func (c *CSV) Write(chunk []byte) ([]byte, error) {
	if c.err != nil {
		return nil, c.err
	}
	c.buf = append(c.buf, chunk...)
	return c.drain(false)
}

// Close ends the body and returns its last bytes.
func (c *CSV) Close() ([]byte, error) {
	if c.err != nil {
		return nil, c.err
	}
	out, err := c.drain(true)
	if err == nil {
		c.err, c.buf = errClosed, nil
		c.w.done()
	}
	return out, err
}

func (c *CSV) drain(last bool) (out []byte, err error) {
	from := 0
	for err == nil {
		end, ok := c.recordEnd(last)
		if !ok && last && !c.quoted && from < len(c.buf) {
			end, ok = len(c.buf), true // the last record needs no line end
		}
		if !ok {
			break
		}
		if end-from > c.limit {
			err = c.tooLong()
			break
		}
		c.w.edits = c.w.edits[:0]
		record := c.buf[from:end]
		if err = cmp.Or(c.record(record), c.w.fault); err == nil {
			out = append(out, apply(record, c.w.edits)...)
			from = end
		}
	}
	if err == nil && len(c.buf)-from > c.limit {
		err = c.tooLong()
	}
	if err == nil && last && c.quoted {
		err = fmt.Errorf("csv record %d: a quoted field does not end: %w", c.n+1, ErrInvalid)
	}
	if err != nil {
		c.err, c.buf = err, nil
		return nil, err
	}
	rest := copy(c.buf, c.buf[from:])
	c.buf, c.scan = c.buf[:rest], c.scan-from
	return out, nil
}

func (c *CSV) tooLong() error {
	return fmt.Errorf("csv record %d is of more than %d bytes: %w", c.n+1, c.limit, ErrTooLarge)
}

// recordEnd looks for the line end after the record at hand. A line end within
// quotes is none.
func (c *CSV) recordEnd(last bool) (int, bool) {
	for ; c.scan < len(c.buf); c.scan++ {
		switch b := c.buf[c.scan]; {
		case b == '"':
			c.quoted = !c.quoted
		case c.quoted || b != '\n' && b != '\r':
		case b == '\r' && c.scan+1 == len(c.buf) && !last:
			return 0, false // a \n may follow
		case b == '\r' && c.scan+1 < len(c.buf) && c.buf[c.scan+1] == '\n':
			c.scan += 2
			return c.scan, true
		default:
			c.scan++
			return c.scan, true
		}
	}
	return c.scan, false
}

// record masks one.
func (c *CSV) record(b []byte) error {
	text := bytes.TrimRight(b, "\r\n")
	start := 0
	if c.n == 0 {
		if bytes.HasPrefix(text, []byte("\xEF\xBB\xBF")) {
			start = 3
		}
		if sep, ok := saysSeparator(text[start:]); ok && !c.said {
			c.comma, c.said = sep, true
			return nil // the names come after it
		}
		if c.comma == 0 {
			c.comma = separator(text)
		}
	}
	if !utf8.Valid(text) {
		return fmt.Errorf("csv record %d is not UTF-8: %w", c.n+1, ErrInvalid)
	}
	header := c.n == 0 && !c.plain
	if c.n++; len(text) == 0 {
		return nil
	}
	w := c.w
	index := c.n - 1
	if !c.plain {
		index--
	}
	mark := w.mark()
	defer w.leave(mark)
	// A record is a document of its own, and one of a list of them.
	w.states = append(w.states, w.states[c.live.from:c.live.to]...)
	if len(w.m.paths.steps) > 0 {
		w.states = w.m.paths.advance(w.states, c.live.from, c.live.to, nil, index)
	}
	live := liveStates{mark, len(w.states)}
	w.push()
	defer w.pop()
	for column := 0; ; column++ {
		from, to, next, err := c.field(text, start)
		if err != nil {
			return err
		}
		quoted := from > start
		form := func(repl []byte) []byte {
			switch {
			case quoted:
				return bytes.ReplaceAll(repl, []byte(`"`), []byte(`""`))
			case bytes.ContainsAny(repl, "\"\r\n") || bytes.IndexByte(repl, c.comma) >= 0:
				return []byte(hidden)
			}
			return repl
		}
		v := c.root
		fieldMark := w.mark()
		if header {
			c.names = append(c.names, string(bytes.ReplaceAll(text[from:to], []byte(`""`), []byte(`"`))))
			w.stack[len(w.stack)-1] = frame{kind: frameIndex}
		} else if column < len(c.names) {
			v = w.enterName(live, v, -1, c.names[column])
		} else {
			w.stack[len(w.stack)-1] = frame{kind: frameIndex}
		}
		sign := ""
		if quoted {
			sign = `"`
		}
		err = w.value(text, from, to, v, sign, doubled, form)
		w.leave(fieldMark)
		if err != nil {
			return err
		}
		if next < 0 {
			return nil
		}
		start = next
	}
}

// doubled reads the quote that two stand for.
func doubled(text []byte) (rune, int) {
	if len(text) > 1 && text[1] == '"' {
		return '"', 2
	}
	return 0, 0
}

// field finds the content of the field that begins at i, and where the next one
// begins; -1: there is none.
func (c *CSV) field(text []byte, i int) (from, to, next int, err error) {
	if i < len(text) && text[i] == '"' {
		from = i + 1
		for to = from; ; to++ {
			n := bytes.IndexByte(text[to:], '"')
			if n < 0 {
				return 0, 0, 0, fmt.Errorf("csv record %d: a quoted field does not end: %w", c.n, ErrInvalid)
			}
			to += n
			if to+1 < len(text) && text[to+1] == '"' {
				to++
				continue
			}
			break
		}
		switch {
		case to+1 == len(text):
			return from, to, -1, nil
		case text[to+1] != c.comma:
			return 0, 0, 0, fmt.Errorf("csv record %d: text after a quoted field: %w", c.n, ErrInvalid)
		}
		return from, to, to + 2, nil
	}
	n := bytes.IndexByte(text[i:], c.comma)
	if n < 0 {
		n = len(text) - i
	}
	if bytes.IndexByte(text[i:i+n], '"') >= 0 {
		// Readers differ in whether it opens a quoted part.
		return 0, 0, 0, fmt.Errorf("csv record %d: a quote within a field that has none around it: %w", c.n, ErrInvalid)
	}
	if i+n == len(text) {
		return i, len(text), -1, nil
	}
	return i, i + n, i + n + 1, nil
}

// saysSeparator reads the line by which spreadsheets are told what parts fields.
func saysSeparator(line []byte) (byte, bool) {
	line = bytes.Trim(line, `"`)
	if len(line) == 5 && bytes.EqualFold(line[:4], []byte("sep=")) && line[4] < utf8.RuneSelf {
		return line[4], true
	}
	return 0, false
}

// separator guesses what parts the fields of a table by its first record.
func separator(text []byte) byte {
	best, most := byte(','), 0
	for _, c := range []byte(",;\t|") {
		n, quoted := 0, false
		for _, b := range text {
			if b == '"' {
				quoted = !quoted
			}
			if b == c && !quoted {
				n++
			}
		}
		if n > most {
			best, most = c, n
		}
	}
	return best
}
