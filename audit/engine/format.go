package engine

import (
	"bytes"
	"encoding/binary"
	"strings"
)

// The engine writes a streamed result in pieces of one block each, and every
// piece as if it were the whole: with the heading that its format has. joint says
// what makes one result of them.
type joint int

const (
	plainly  joint = iota // one after the other
	heading               // the first piece's heading is cut off the others
	together              // not at all: the format has a beginning and an end
)

// joins are the formats whose pieces can be put together; all others can't.
var joins = map[string]joint{
	"tabseparated": plainly, "tsv": plainly, "tabseparatedraw": plainly, "tsvraw": plainly, "raw": plainly, "csv": plainly, "tskv": plainly,
	"values": together, "jsoneachrow": plainly, "jsonlines": plainly, "ndjson": plainly, "jsonstringseachrow": plainly,
	"jsoncompacteachrow": plainly, "jsoncompactstringseachrow": plainly, "rowbinary": plainly, "native": plainly, "lineasstring": plainly,
	"rawblob": plainly, "msgpack": plainly, "bsoneachrow": plainly, "null": plainly,
}

// bases are the formats that have a WithNames and a WithNamesAndTypes.
var bases = []string{"tabseparated", "tsv", "tabseparatedraw", "tsvraw", "raw", "csv", "jsoncompacteachrow", "jsoncompactstringseachrow", "rowbinary"}

func joinOf(format string) joint {
	f := strings.ToLower(format)
	if j, ok := joins[f]; ok {
		return j
	}
	for _, base := range bases {
		if f == base+"withnames" || f == base+"withnamesandtypes" {
			return heading
		}
	}
	return together
}

// headingOf is how long the heading of a piece is: that of a format whose join is
// heading.
func headingOf(format string, piece []byte) int {
	f := strings.ToLower(format)
	lines := 1
	if strings.HasSuffix(f, "andtypes") {
		lines = 2
	}
	if strings.HasPrefix(f, "rowbinary") {
		return binaryHeading(piece, lines)
	}
	at := 0
	for range lines {
		at += line(piece[at:], strings.HasPrefix(f, "csv"))
	}
	return at
}

// line is how long the first line is, its end included. In CSV a quoted name may
// hold line ends.
func line(text []byte, csv bool) int {
	inside := false
	for i, c := range text {
		switch {
		case csv && c == '"':
			inside = !inside
		case c == '\n' && !inside:
			return i + 1
		}
	}
	return len(text)
}

// binaryHeading reads the number of columns, their names, and in a second part
// their types.
func binaryHeading(piece []byte, parts int) int {
	columns, n := binary.Uvarint(piece)
	if n <= 0 {
		return 0
	}
	at := n
	for range uint64(parts) * min(columns, uint64(len(piece))) {
		length, n := binary.Uvarint(piece[at:])
		if n <= 0 || length > uint64(len(piece)-at-n) {
			return 0 // not a heading; the first piece's is looked for, and not found
		}
		at += n + int(length)
	}
	return at
}

// joiner puts pieces together.
type joiner struct {
	format string
	join   joint
	head   []byte
	begun  bool
}

func newJoiner(format string) *joiner { return &joiner{format: format, join: joinOf(format)} }

// next is what of a piece goes on.
func (j *joiner) next(piece []byte) []byte {
	if j.join != heading {
		return piece
	}
	if !j.begun {
		j.begun = true
		j.head = bytes.Clone(piece[:headingOf(j.format, piece)])
		return piece
	}
	return bytes.TrimPrefix(piece, j.head)
}
