package protocol

import (
	"encoding/json"
	"strconv"
)

// answer is what a JSON-RPC message says of itself.
type answer struct {
	id      string // as written
	method  bool   // it has one: it is no answer
	result  bool
	isError bool // result.isError
	failed  bool // it has an error
	code    int64
	message string
}

// scanner follows one JSON text that comes in pieces, and remembers of it only
// what makes an answer. It does not check the text: what it finds is for the
// record, and decides nothing.
type scanner struct {
	answer answer
	ended  bool // nothing after the first message counts

	depth   int
	kind    [3]byte   // what the outermost two containers are, from 1
	key     [3]string // the key that is being read in each
	wantKey bool      // the next string at this depth is a key
	quoted  bool      // inside a string
	escaped bool      // after a backslash
	scalar  bool      // inside a number or a word
	over    bool      // the token is too long to keep
	token   []byte
}

// maxToken bounds a key or value that is kept, in bytes.
const maxToken = 2 * maxDetail

// write takes the next bytes and returns how many it used, and whether they
// end a message.
func (s *scanner) write(p []byte) (used int, done bool) {
	if s.ended {
		return len(p), false
	}
	for i := 0; i < len(p); i++ {
		c := p[i]
		if s.quoted {
			if s.depth > 2 && !s.escaped {
				for i < len(p) && p[i] != '"' && p[i] != '\\' {
					i++
				}
				if i == len(p) {
					break
				}
				c = p[i]
			}
			s.text(c)
			continue
		}
		switch c {
		case '"':
			s.quoted, s.over, s.token = true, false, append(s.token[:0], c)
		case '{', '[':
			s.word()
			s.value(c)
			if s.depth++; s.depth < len(s.kind) {
				s.kind[s.depth], s.key[s.depth] = c, ""
			}
			s.wantKey = c == '{'
		case '}', ']':
			s.word()
			s.wantKey = false
			if s.depth--; s.depth <= 0 {
				return i + 1, true
			}
		case ',':
			s.word()
			s.wantKey = s.depth > 0 && s.depth < len(s.kind) && s.kind[s.depth] == '{'
		case ':':
			s.wantKey = false
		case ' ', '\t', '\r', '\n':
			s.word()
		default:
			if !s.scalar {
				s.scalar, s.over, s.token = true, false, s.token[:0]
			}
			s.keep(c)
		}
	}
	return len(p), false
}

// keep adds to the token, if it is one that may count.
func (s *scanner) keep(c byte) {
	if s.depth > 2 {
		return
	}
	if len(s.token) >= maxToken {
		s.over = true
		return
	}
	s.token = append(s.token, c)
}

// text takes a byte of a string.
func (s *scanner) text(c byte) {
	s.keep(c)
	switch {
	case s.escaped:
		s.escaped = false
	case c == '\\':
		s.escaped = true
	case c == '"':
		s.quoted = false
		if s.wantKey && s.depth < len(s.key) {
			s.key[s.depth] = s.str()
		} else {
			s.value('"')
		}
	}
}

// word ends a number or a word.
func (s *scanner) word() {
	if s.scalar {
		s.scalar = false
		s.value('0')
	}
}

func (s *scanner) str() string {
	var text string
	if s.over || json.Unmarshal(s.token, &text) != nil {
		return ""
	}
	return text
}

// value takes a value of the given kind; that of a string, number or word is in
// the token.
func (s *scanner) value(kind byte) {
	if s.depth < 1 || s.depth >= len(s.kind) || s.kind[1] != '{' {
		return
	}
	a, word := &s.answer, kind == '0' && !s.over
	if s.depth == 1 {
		switch s.key[1] {
		case "id":
			a.id = ""
			if !s.over && (word || kind == '"') {
				a.id = string(s.token)
			}
		case "method":
			a.method = true
		case "result":
			a.result = true
		case "error":
			a.failed = !word || string(s.token) != "null"
		}
		return
	}
	switch s.key[1] + "." + s.key[2] { // in a list the latter is empty
	case "error.code":
		if n, err := strconv.ParseInt(string(s.token), 10, 64); word && err == nil {
			a.code = n
		}
	case "error.message":
		if kind == '"' {
			a.message = s.str()
		}
	case "result.isError":
		a.isError = word && string(s.token) == "true"
	}
}
