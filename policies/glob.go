package policies

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// maxGlob bounds a pattern's length, and with it the time a match can take.
const maxGlob = 1024

// glob is a parsed pattern: literal text, any-one and any-run tokens.
type glob struct {
	literal string // the whole, where exact
	exact   bool   // no wildcard in it
	tokens  []token
}

type token struct {
	kind tokenKind
	char byte
}

type tokenKind uint8

const (
	one  tokenKind = iota // exactly char
	any1                  // any one character
	run                   // any characters, none too
)

func parseGlob(pattern string) (glob, error) {
	switch {
	case pattern == "":
		return glob{}, errors.New("is empty; leave the list out to mean everywhere")
	case len(pattern) > maxGlob:
		return glob{}, fmt.Errorf("is longer than %d bytes", maxGlob)
	case !utf8.ValidString(pattern):
		return glob{}, errors.New("is not valid UTF-8")
	}
	g := glob{exact: true}
	var literal strings.Builder
	for i := 0; i < len(pattern); i++ {
		switch c := pattern[i]; c {
		case '*':
			g.exact = false
			if n := len(g.tokens); n == 0 || g.tokens[n-1].kind != run {
				g.tokens = append(g.tokens, token{kind: run})
			}
		case '?':
			g.exact = false
			g.tokens = append(g.tokens, token{kind: any1})
		case '[', ']', '{', '}':
			return glob{}, fmt.Errorf("has %q, which globs here don't know (only * and ?); write one glob a choice, or \\%c for the character itself", c, c)
		case '\\':
			if i++; i == len(pattern) {
				return glob{}, errors.New("ends in a backslash; write \\\\ for the character itself")
			}
			fallthrough
		default:
			g.tokens = append(g.tokens, token{kind: one, char: pattern[i]})
			literal.WriteByte(pattern[i])
		}
	}
	g.literal = literal.String()
	return g, nil
}

// match reports whether the whole of s fits. Upper and lower case differ, as
// they do for the services behind. It takes at most len(s)·len(pattern) steps.
func (g *glob) match(s string) bool {
	if g.exact {
		return s == g.literal
	}
	t, i := 0, 0
	back, from := -1, 0 // the last run seen, and where in s it was tried up to
	for i < len(s) {
		if t < len(g.tokens) {
			switch tok := g.tokens[t]; tok.kind {
			case run:
				back, from = t, i
				t++
				continue
			case any1:
				_, n := utf8.DecodeRuneInString(s[i:])
				t, i = t+1, i+n
				continue
			case one:
				if s[i] == tok.char {
					t, i = t+1, i+1
					continue
				}
			}
		}
		if back < 0 {
			return false
		}
		_, n := utf8.DecodeRuneInString(s[from:])
		from += n
		t, i = back+1, from
	}
	for t < len(g.tokens) && g.tokens[t].kind == run {
		t++
	}
	return t == len(g.tokens)
}
