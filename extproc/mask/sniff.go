package mask

import (
	"bytes"
	"strings"
)

// looksJSON tells whether trying to read text as JSON is worth it: an object, an
// array, or a string in quotes.
func looksJSON(text []byte) bool {
	if !opensJSON(text) {
		return false
	}
	for len(text) > 0 && isSpace(text[0]) {
		text = text[1:]
	}
	for len(text) > 0 && isSpace(text[len(text)-1]) {
		text = text[:len(text)-1]
	}
	return len(text) >= 2 && (text[0] != '"' || text[len(text)-1] == '"')
}

// isSpace tells whether c may stand between the tokens of JSON.
func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }

// opensJSON tells whether text could be the beginning of such a document.
func opensJSON(text []byte) bool {
	if len(text) < 2 || text[0] > ' ' && text[0] != '{' && text[0] != '[' && text[0] != '"' {
		return false
	}
	text = bytes.TrimLeft(text, " \t\r\n")
	if len(text) == 0 {
		return false
	}
	switch text[0] {
	case '"':
		return true
	case '{', '[':
		next := bytes.TrimLeft(text[1:], " \t\r\n")
		if len(next) == 0 {
			return true
		}
		if text[0] == '{' {
			return next[0] == '"' || next[0] == '}'
		}
		return strings.IndexByte(`"{[]-0123456789tfn`, next[0]) >= 0
	}
	return false
}

// claimsJSON tells whether text can hardly be anything but JSON, even cut off.
func claimsJSON(text []byte) bool {
	text = bytes.TrimLeft(text, " \t\r\n")
	for len(text) > 0 && text[0] == '[' {
		text = bytes.TrimLeft(text[1:], " \t\r\n")
		if len(text) > 0 && text[0] == '{' {
			break
		}
	}
	if len(text) < 2 || text[0] != '{' {
		return false
	}
	next := bytes.TrimLeft(text[1:], " \t\r\n")
	return len(next) == 0 || next[0] == '"'
}
