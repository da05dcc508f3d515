package mask

import "bytes"

// event returns the edits of one event of an event stream, as the HTML standard
// frames it: the data lines joined by line ends are one text; other lines are
// searched one by one, since the caller receives them too. The first base bytes
// are left out.
func (s *Stream) event(unit []byte, base int) ([]edit, error) {
	w := s.w
	var data view // joined, once there is a second line
	w.pieces = w.pieces[:0]
	lines, first, firstEnd := 0, 0, 0
	for i := base; i < len(unit); {
		start, end := i, len(unit)
		if n := bytes.IndexAny(unit[i:], "\r\n"); n >= 0 {
			end = i + n
		}
		if i = end + 1; end+1 < len(unit) && unit[end] == '\r' && unit[end+1] == '\n' {
			i++
		}
		from, ok := dataLine(unit[start:end])
		if !ok {
			w.text(unit[start:end], nil, start, false, true)
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
	var err error
	switch lines {
	case 0:
	case 1:
		w.joins, w.pieces = true, w.pieces[:0]
		err = w.anything(unit[first:firstEnd], nil, first)
		w.joins = false
		for i := range w.pieces {
			w.pieces[i].start += first
			w.pieces[i].end += first
		}
		channelsOf(unit, w.pieces)
	default:
		err = w.anything(data.b, data.at, 0)
	}
	if err != nil {
		return nil, err
	}
	return untangle(w.edits), nil
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
