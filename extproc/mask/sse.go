package mask

import (
	"bytes"
	"fmt"
	"slices"
)

// event returns the edits of one event of an event stream, as the HTML standard
// frames it: the data lines joined by line ends are one text; other lines are
// searched one by one, since the caller receives them too. The first base bytes
// are left out.
func (s *Stream) event(unit []byte, base int) ([]edit, error) {
	w := s.w
	var data view // joined, once there is a second line
	w.pieces = w.pieces[:0]
	lines, first, firstEnd := 0, 0, 0
	var name []byte
	for i := base; i < len(unit); {
		start, end := i, len(unit)
		if n := lineEnd(unit[i:], s.cr); n >= 0 {
			end = i + n
		}
		if i = end + 1; end+1 < len(unit) && unit[end] == '\r' && unit[end+1] == '\n' {
			i++
		}
		from, ok := dataLine(unit[start:end])
		if !ok {
			if v, is := bytes.CutPrefix(unit[start:end], []byte("event:")); is {
				name = v
			}
			if OpensJSON(unit[start:end]) {
				// No reader of events takes that for one, but others may read it all.
				return nil, fmt.Errorf("a line of the events begins like json: %w", ErrInvalid)
			}
			s.otherLine(unit[start:end], start)
			continue
		}
		from += start
		switch lines++; lines {
		case 1:
			first, firstEnd = from, end
		case 2:
			data.skip(first)
			data.copyTo(unit, firstEnd)
			fallthrough
		default:
			data.put('\n', from-data.raw) // the line end, and all up to the next data
			data.copyTo(unit, end)
		}
	}
	if lines == 0 {
		return untangle(w.edits), nil
	}
	text, at, offset := data.b, data.at, 0
	if lines == 1 {
		text, at, offset = unit[first:firstEnd], nil, first
	}
	if err := s.data(unit, text, at, offset, name); err != nil {
		return nil, err
	}
	return untangle(w.edits), nil
}

// data masks an event's data, which at maps to the bytes of the event that begin at
// offset. What is a piece of a longer text is left to where that is put together.
func (s *Stream) data(unit, text []byte, at viewMap, offset int, name []byte) error {
	w := s.w
	w.joins, w.pieces = true, w.pieces[:0]
	defer func() { w.joins = false }()
	switch {
	case !s.m.plainEvents:
		if err := w.content(text, at, offset); err != nil {
			return err
		}
	case looksJSON(text):
		edits, ok, err := w.attempt(text, w.arrive(verdict{}))
		if err != nil {
			return err
		}
		if ok {
			w.adopt(edits, at, offset, false)
			break
		}
		fallthrough
	case !bytes.Equal(text, []byte("[DONE]")):
		w.pieces = append(w.pieces, piece{channel: plainData + " " + string(name), text: bytes.Clone(text), at: slices.Clone(at), start: offset, end: offset + len(text), plain: true})
		return nil
	}
	for i := range w.pieces {
		w.pieces[i].start += offset
		w.pieces[i].end += offset
		w.pieces[i].data = slices.Clone(at)
	}
	channelsOf(unit, w.pieces)
	return nil
}

// otherLine searches a line that is no data. Most events of a stream have the same
// name, which is looked at once.
func (s *Stream) otherLine(line []byte, start int) {
	if len(line) == 0 || bytes.Equal(line, s.harmless) {
		return
	}
	before := len(s.w.edits)
	s.w.text(line, nil, start, false, true)
	if len(s.w.edits) == before && len(line) <= maxKeyLength && hasPrefix(line, "event:") && s.m.det.custom == nil {
		s.harmless = append(s.harmless[:0], line...)
	}
}

// lineEnd returns where the first line end in b is, or -1. cr tells that carriage
// returns may be in b. It then looks at a stretch at a time, so that in text with one
// kind of line end the search for the other one doesn't go to the end each time.
func lineEnd(b []byte, cr bool) int {
	if !cr {
		return bytes.IndexByte(b, '\n')
	}
	const stretch = 256
	for i := 0; i < len(b); i += stretch {
		part := b[i:min(i+stretch, len(b))]
		n := bytes.IndexByte(part, '\n')
		if n >= 0 {
			part = part[:n]
		}
		if r := bytes.IndexByte(part, '\r'); r >= 0 {
			n = r
		}
		if n >= 0 {
			return i + n
		}
	}
	return -1
}

// dataLine returns where the value of a data line begins.
func dataLine(line []byte) (int, bool) {
	const name = "data"
	switch {
	case !hasPrefix(line, name):
		return 0, false
	case len(line) == len(name):
		return len(name), true
	case line[len(name)] != ':':
		return 0, false
	case len(line) > len(name)+1 && line[len(name)+1] == ' ':
		return len(name) + 2, true
	}
	return len(name) + 1, true
}
