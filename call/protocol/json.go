package protocol

import (
	"bytes"
	"errors"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// Bounds on a JSON document. They keep the cost of judging it in line with its
// size and stop documents made to exhaust a parser's stack.
const (
	maxDepth = 64
	maxNodes = 100_000
	// maxDigits is what a float64 holds of any decimal (IEEE 754, 17
	// significant digits). A longer number is another to a decimal parser.
	maxDigits = 17
)

// document reads one strict JSON document (RFC 8259): UTF-8, no key twice, not
// even in another case, nothing after it.
func document(b []byte) (any, error) {
	r := newReader(b)
	v, err := r.value(0)
	if err != nil {
		return nil, err
	}
	return v, r.end()
}

type reader struct {
	dec   *jsontext.Decoder
	nodes int
}

func newReader(b []byte) *reader {
	return &reader{dec: jsontext.NewDecoder(bytes.NewReader(b))}
}

func (r *reader) end() error {
	if _, err := r.dec.ReadToken(); !errors.Is(err, io.EOF) {
		return malformed("the body goes on after the JSON document; send exactly one")
	}
	return nil
}

// syntax says what is wrong with the text, without quoting it.
func (r *reader) syntax(err error) error {
	if errors.Is(err, jsontext.ErrDuplicateName) {
		return malformed("the JSON body has a key twice in one object, which parsers read differently; send it once")
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return malformed("the JSON body ends too early")
	}
	return malformed("the body is not valid JSON at byte %d; it must be one UTF-8 document (RFC 8259)", r.dec.InputOffset())
}

func (r *reader) value(depth int) (any, error) {
	if r.nodes++; r.nodes > maxNodes {
		return nil, malformed("the JSON body has more than %d values", maxNodes)
	}
	if depth > maxDepth {
		return nil, malformed("the JSON body is nested more than %d deep", maxDepth)
	}
	tok, err := r.dec.ReadToken()
	if err != nil {
		return nil, r.syntax(err)
	}
	switch tok.Kind() {
	case 'n':
		return nil, nil
	case 't':
		return true, nil
	case 'f':
		return false, nil
	case '"':
		return tok.String(), nil
	case '0':
		return number(tok.String())
	case '[':
		list := []any{}
		for r.dec.PeekKind() != ']' {
			v, err := r.value(depth + 1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err := r.dec.ReadToken()
		return list, err
	case '{':
		object := map[string]any{}
		err := r.members(func(key string) error {
			v, err := r.value(depth + 1)
			object[key] = v
			return err
		})
		return object, err
	default:
		return nil, r.syntax(nil)
	}
}

// members reads the rest of an object, whose opening brace was read, and calls
// member for each key; member must read the value.
func (r *reader) members(member func(key string) error) error {
	var folded map[string]struct{}
	first := ""
	for n := 0; r.dec.PeekKind() != '}'; n++ {
		tok, err := r.dec.ReadToken()
		if err != nil {
			return r.syntax(err)
		}
		key := tok.String()
		// Some decoders, Go's own among them, match keys whatever their case.
		f := fold(key)
		switch {
		case n == 0:
			first = f
		case n == 1 && f != first:
			folded = map[string]struct{}{first: {}, f: {}}
		default:
			if _, twice := folded[f]; twice || n == 1 {
				return malformed("the JSON body has two keys in one object that differ only in case, which parsers read differently; send one")
			}
			folded[f] = struct{}{}
		}
		if err := member(key); err != nil {
			return err
		}
	}
	if _, err := r.dec.ReadToken(); err != nil {
		return r.syntax(err)
	}
	return nil
}

// fold maps keys that any decoder might take for the same to one text, as
// Unicode simple folding does.
func fold(s string) string {
	ascii := true
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			ascii = false
			break
		}
	}
	if ascii {
		return strings.ToLower(s)
	}
	return strings.Map(func(r rune) rune {
		least := r
		for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
			least = min(least, f)
		}
		if least >= 'A' && least <= 'Z' {
			least += 'a' - 'A'
		}
		return least
	}, s)
}

// number reads a JSON number as an int64 where it is written as a whole one,
// else as a float64.
func number(text string) (any, error) {
	if !strings.ContainsAny(text, ".eE") {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, malformed("the JSON body has a whole number outside 64 bits, which parsers read differently; send it as a string")
		}
		return n, nil
	}
	digits := 0
	mantissa, _, _ := strings.Cut(strings.ToLower(text), "e")
	for _, c := range strings.TrimLeft(mantissa, "-0.") {
		if c != '.' {
			digits++
		}
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsInf(f, 0) || digits > maxDigits {
		return nil, malformed("the JSON body has a number that 64-bit floating point can't hold, which parsers read differently; send it as a string")
	}
	return f, nil
}
