package engine

import (
	"strings"
)

// scanner cuts a text into the tokens of ClickHouse's SQL, as far as they must
// be told apart to find where a statement ends and data begins: it knows
// strings, quoted names, comments and heredocs, so that nothing inside them is
// taken for a keyword. It never judges; the engine's parser does.
type scanner struct {
	sql string
	pos int
	// open counts the dollars that open no heredoc. Each costs a look through
	// the rest of the text, so there is an end to looking.
	open int
}

// maxOpen is far more than any statement has.
const maxOpen = 64

// maxTag bounds a heredoc's name.
const maxTag = 128

type kind int

const (
	end    kind = iota
	word        // unquoted identifier, keyword or number
	quoted      // 'string', "name", `name`, $heredoc$
	punct       // one byte of anything else
)

type token struct {
	kind       kind
	start, end int
}

func (s *scanner) text(t token) string { return s.sql[t.start:t.end] }

// is tells whether a token is a keyword, given in upper case.
func (s *scanner) is(t token, keyword string) bool {
	return t.kind == word && strings.EqualFold(s.text(t), keyword)
}

func (s *scanner) isPunct(t token, c byte) bool {
	return t.kind == punct && s.sql[t.start] == c
}

// next returns the next token; comments and white space count for nothing.
func (s *scanner) next() token {
	s.skip()
	start := s.pos
	if start >= len(s.sql) {
		return token{end, start, start}
	}
	switch c := s.sql[start]; {
	case c == '\'' || c == '"' || c == '`':
		s.pos = s.closing(start+1, c)
		return token{quoted, start, s.pos}
	case c == '$':
		if stop := s.heredoc(start); stop > 0 {
			s.pos = stop
			return token{quoted, start, stop}
		}
	case isWordByte(c):
		for s.pos < len(s.sql) && (isWordByte(s.sql[s.pos]) || s.sql[s.pos] == '$') {
			s.pos++
		}
		return token{word, start, s.pos}
	}
	s.pos++
	return token{punct, start, s.pos}
}

func isWordByte(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}

func isSpace(c byte) bool {
	return c == ' ' || c >= '\t' && c <= '\r'
}

// skip passes white space and comments.
func (s *scanner) skip() {
	for s.pos < len(s.sql) {
		rest := s.sql[s.pos:]
		switch {
		case isSpace(rest[0]):
			s.pos++
		case strings.HasPrefix(rest, "--"), strings.HasPrefix(rest, "# "), strings.HasPrefix(rest, "#!"):
			line := strings.IndexByte(rest, '\n')
			if line < 0 {
				s.pos = len(s.sql)
				return
			}
			s.pos += line + 1
		case strings.HasPrefix(rest, "/*"):
			s.pos = s.comment(s.pos)
		default:
			return
		}
	}
}

// comment returns where a comment ends; they nest.
func (s *scanner) comment(at int) int {
	depth := 0
	for at < len(s.sql) {
		switch {
		case strings.HasPrefix(s.sql[at:], "/*"):
			depth++
			at += 2
		case strings.HasPrefix(s.sql[at:], "*/"):
			depth--
			at += 2
			if depth == 0 {
				return at
			}
		default:
			at++
		}
	}
	return len(s.sql)
}

// closing returns where a quoted text ends: at its quote, unless that is
// escaped by a backslash or doubled.
func (s *scanner) closing(at int, quote byte) int {
	for at < len(s.sql) {
		switch s.sql[at] {
		case '\\':
			at++
		case quote:
			if at+1 >= len(s.sql) || s.sql[at+1] != quote {
				return at + 1
			}
			at++
		}
		at++
	}
	return len(s.sql)
}

// heredoc returns where a $tag$…$tag$ ends, or 0 if there is none.
func (s *scanner) heredoc(at int) int {
	n := 1
	for at+n < len(s.sql) && n <= maxTag && isWordByte(s.sql[at+n]) {
		n++
	}
	if at+n >= len(s.sql) || s.sql[at+n] != '$' {
		return 0
	}
	if s.open >= maxOpen {
		return 0
	}
	tag := s.sql[at : at+n+1]
	body := strings.Index(s.sql[at+len(tag):], tag)
	if body < 0 {
		s.open++
		return 0
	}
	return at + body + 2*len(tag)
}

// statement is what the front has to know of a text before the engine sees it.
type statement struct {
	// first is the first keyword in upper case, past comments and brackets.
	first string
	// format is the format that a FORMAT clause names, or "Values".
	format string
	// data is, for an INSERT that carries its own data, where they begin, and
	// head where the statement itself ends; otherwise data is -1.
	head, data int
	// file is the client-side clause that reads or writes files: "INTO OUTFILE"
	// or "FROM INFILE".
	file string
	// late tells of a SETTINGS clause between FORMAT and the data.
	late bool
}

// inspect reads a text, or as much of one as has arrived.
func inspect(sql string) statement {
	st := statement{data: -1}
	s := &scanner{sql: sql}
	t := s.next()
	for s.isPunct(t, '(') {
		t = s.next()
	}
	if t.kind == word {
		st.first = strings.ToUpper(s.text(t))
	}
	if st.first == "INSERT" {
		st.insert(s)
		return st
	}
	for previous := t; t.kind != end; previous = t {
		t = s.next()
		switch {
		case s.is(previous, "INTO") && s.is(t, "OUTFILE"):
			st.file = "INTO OUTFILE"
		case s.is(previous, "FROM") && s.is(t, "INFILE"):
			st.file = "FROM INFILE"
		case s.is(previous, "FORMAT") && t.kind == word:
			st.format = s.text(t)
		}
	}
	return st
}

// insert reads on after INSERT: past the table's name, so that a table may be
// called «format», to the clause that says where the rows come from.
func (st *statement) insert(s *scanner) {
	t := s.next()
	if s.is(t, "INTO") {
		t = s.next()
	}
	if s.is(t, "TABLE") || s.is(t, "FUNCTION") {
		// Not if it is the name itself, as in «INSERT INTO table VALUES».
		mark := s.pos
		if after := s.next(); after.kind == word && !s.is(after, "VALUES") && !s.is(after, "FORMAT") || after.kind == quoted || s.isPunct(after, '{') {
			t = after
		} else {
			s.pos = mark
		}
	}
	depth := 0
	if s.isPunct(t, '{') {
		depth = 1
	}
	dot := false
	for {
		previous := t
		t = s.next()
		switch {
		case t.kind == end:
			return
		case s.isPunct(t, '(') || s.isPunct(t, '{') || s.isPunct(t, '['):
			depth++
		case s.isPunct(t, ')') || s.isPunct(t, '}') || s.isPunct(t, ']'):
			depth--
		case s.is(previous, "INTO") && s.is(t, "OUTFILE"):
			st.file = "INTO OUTFILE"
			return
		case depth != 0 || dot:
		case s.is(t, "SELECT") || s.is(t, "WITH") || s.is(t, "WATCH"):
			for u := s.next(); u.kind != end; t, u = u, s.next() {
				if s.is(t, "INTO") && s.is(u, "OUTFILE") {
					st.file = "INTO OUTFILE"
				}
			}
			return
		case s.is(t, "FROM"):
			if s.is(s.next(), "INFILE") {
				st.file = "FROM INFILE"
				return
			}
		case s.is(t, "VALUES"):
			st.format, st.head, st.data = "Values", t.start, t.end
			return
		case s.is(t, "FORMAT"):
			name := s.next()
			if name.kind != word {
				return
			}
			st.format, st.head = s.text(name), t.start
			st.data = afterFormat(s.sql, name.end)
			mark := s.pos
			st.late = s.is(s.next(), "SETTINGS")
			s.pos = mark
			return
		}
		dot = s.isPunct(t, '.')
	}
}

// afterFormat returns where data begin after a format's name: past blanks and
// one line end, since more of them may be data.
func afterFormat(sql string, at int) int {
	for at < len(sql) && (sql[at] == ' ' || sql[at] == '\t' || sql[at] == '\f') {
		at++
	}
	if at < len(sql) && sql[at] == '\r' {
		at++
	}
	if at < len(sql) && sql[at] == '\n' {
		at++
	}
	return at
}

// keepsState tells statements that mean something only to later ones of their
// session.
func keepsState(sql string) bool {
	s := &scanner{sql: sql}
	t := s.next()
	switch {
	case s.is(t, "SET"), s.is(t, "USE"):
		return true
	case s.is(t, "CREATE"):
		t = s.next()
		if s.is(t, "OR") {
			s.next()
			t = s.next()
		}
		return s.is(t, "TEMPORARY")
	}
	return false
}
