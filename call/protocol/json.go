package protocol

import (
	"math"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Bounds on a JSON document. They keep the cost of judging it in line with its
// size and stop documents made to exhaust a parser's stack.
const (
	maxDepth  = 64      // objects and lists inside each other
	maxNodes  = 100_000 // values
	maxNumber = 64      // characters of one number
)

// document reads one strict JSON document (RFC 8259): UTF-8, no key twice, not
// even in another case, no number that a decoder would round, nothing after it.
//
// It is a parser of its own because the ones at hand either take what must be
// refused here or need three times as long; its tests hold it against two of
// them.
func document(b []byte) (any, error) {
	r, err := newReader(b)
	if err != nil {
		return nil, err
	}
	return r.document()
}

type reader struct {
	text string
	at   int

	depth  int
	nodes  int
	values []any    // of the lists and objects that are open
	keys   []string // of the objects that are open

	// recorded says that the text was checked when it was recorded, and need
	// not be what all parsers read alike.
	recorded bool

	// member, if set, is told of each member of the outermost object, and of
	// the objects that are its members: the key above it ("" at the top), its
	// own key and where its value stands.
	member func(above, key string, start, end int)
	above  string
}

func newReader(b []byte) (*reader, error) {
	if !utf8.Valid(b) {
		return nil, malformed("the JSON body is not UTF-8, which parsers repair differently; send UTF-8")
	}
	// Texts without escapes are parts of this one copy.
	return &reader{text: string(b), values: make([]any, 0, 32), keys: make([]string, 0, 32)}, nil
}

func (r *reader) document() (any, error) {
	v, err := r.value()
	if err != nil {
		return nil, err
	}
	if r.space(); r.at < len(r.text) {
		return nil, malformed("the body goes on after the JSON document, at byte %d; send exactly one", r.at)
	}
	return v, nil
}

// syntax says where the text stops being JSON, without quoting it.
func (r *reader) syntax() error {
	if r.at >= len(r.text) {
		return malformed("the JSON body ends too early")
	}
	return malformed("the body is not valid JSON at byte %d; it must be one UTF-8 document (RFC 8259)", r.at)
}

func (r *reader) space() {
	for r.at < len(r.text) {
		switch r.text[r.at] {
		case ' ', '\t', '\n', '\r':
			r.at++
		default:
			return
		}
	}
}

// next skips space and returns the byte there, or 0 at the end.
func (r *reader) next() byte {
	r.space()
	if r.at >= len(r.text) {
		return 0
	}
	return r.text[r.at]
}

func (r *reader) value() (any, error) {
	if r.nodes++; r.nodes > maxNodes {
		return nil, malformed("the JSON body has more than %d values", maxNodes)
	}
	switch c := r.next(); c {
	case '{', '[':
		if r.depth++; r.depth > maxDepth {
			return nil, malformed("the JSON body is nested more than %d deep", maxDepth)
		}
		r.at++
		var v any
		var err error
		if c == '{' {
			v, err = r.object()
		} else {
			v, err = r.list()
		}
		r.depth--
		return v, err
	case '"':
		return r.str()
	case 't':
		return true, r.word("true")
	case 'f':
		return false, r.word("false")
	case 'n':
		return nil, r.word("null")
	default:
		if c == '-' || c >= '0' && c <= '9' {
			return r.number()
		}
		return nil, r.syntax()
	}
}

func (r *reader) word(w string) error {
	if !strings.HasPrefix(r.text[r.at:], w) {
		return r.syntax()
	}
	r.at += len(w)
	return nil
}

func (r *reader) list() (any, error) {
	if r.next() == ']' {
		r.at++
		return []any{}, nil
	}
	first := len(r.values)
	for {
		v, err := r.value()
		if err != nil {
			return nil, err
		}
		r.values = append(r.values, v)
		switch r.next() {
		case ',':
			r.at++
		case ']':
			r.at++
			list := make([]any, len(r.values)-first)
			copy(list, r.values[first:])
			r.values = r.values[:first]
			return list, nil
		default:
			return nil, r.syntax()
		}
	}
}

func (r *reader) object() (any, error) {
	if r.next() == '}' {
		r.at++
		return map[string]any{}, nil
	}
	firstKey, firstValue := len(r.keys), len(r.values)
	for {
		if r.next() != '"' {
			return nil, r.syntax()
		}
		key, err := r.str()
		if err != nil {
			return nil, err
		}
		if r.next() != ':' {
			return nil, r.syntax()
		}
		r.at++
		if r.depth == 1 {
			r.above = key
		}
		r.space()
		start := r.at
		v, err := r.value()
		if err != nil {
			return nil, err
		}
		switch {
		case r.member == nil:
		case r.depth == 1:
			r.member("", key, start, r.at)
		case r.depth == 2:
			r.member(r.above, key, start, r.at)
		}
		r.keys, r.values = append(r.keys, key), append(r.values, v)
		switch r.next() {
		case ',':
			r.at++
		case '}':
			r.at++
			keys, values := r.keys[firstKey:], r.values[firstValue:]
			r.keys, r.values = r.keys[:firstKey], r.values[:firstValue]
			object := make(map[string]any, len(keys))
			for i, k := range keys {
				object[k] = values[i]
			}
			if len(object) < len(keys) {
				return nil, malformed("the JSON body has a key twice in one object, which parsers read differently; send it once")
			}
			if !r.recorded && alike(keys) {
				return nil, malformed("the JSON body has two keys in one object that differ only in case, which parsers read differently; send one")
			}
			return object, nil
		default:
			return nil, r.syntax()
		}
	}
}

// alike reports whether two keys differ only in case: some decoders, Go's own
// among them, take them for the same.
func alike(keys []string) bool {
	lower := true
	for _, k := range keys {
		for i := 0; lower && i < len(k); i++ {
			lower = k[i] < utf8.RuneSelf && (k[i] < 'A' || k[i] > 'Z')
		}
	}
	if lower {
		return false // and no key stands twice
	}
	const few = 8
	if len(keys) <= few {
		for i, k := range keys {
			for _, other := range keys[:i] {
				if strings.EqualFold(k, other) {
					return true
				}
			}
		}
		return false
	}
	seen := make(map[string]struct{}, len(keys))
	for _, k := range keys {
		seen[fold(k)] = struct{}{}
	}
	return len(seen) < len(keys)
}

// fold maps texts that differ only in case to one text, as Unicode simple
// folding does.
func fold(s string) string {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return strings.Map(least, s)
		}
	}
	return strings.ToLower(s)
}

func least(r rune) rune {
	low := r
	for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
		low = min(low, f)
	}
	if low >= 'A' && low <= 'Z' {
		low += 'a' - 'A'
	}
	return low
}

// str reads a string; the quote that opens it is next.
func (r *reader) str() (string, error) {
	r.at++
	start := r.at
	for r.at < len(r.text) {
		switch c := r.text[r.at]; {
		case c == '"':
			s := r.text[start:r.at]
			r.at++
			return s, nil
		case c == '\\':
			return r.escaped(start)
		case c < ' ':
			return "", r.syntax()
		}
		r.at++
	}
	return "", r.syntax()
}

// escaped reads a string from its first backslash on.
func (r *reader) escaped(start int) (string, error) {
	out := make([]byte, 0, r.at-start+32)
	out = append(out, r.text[start:r.at]...)
	for r.at < len(r.text) {
		switch c := r.text[r.at]; {
		case c == '"':
			r.at++
			return string(out), nil
		case c < ' ':
			return "", r.syntax()
		case c != '\\':
			out = append(out, c)
			r.at++
		default:
			char, err := r.escape()
			if err != nil {
				return "", err
			}
			out = utf8.AppendRune(out, char)
		}
	}
	return "", r.syntax()
}

// escape reads one escape, or the two of a surrogate pair.
func (r *reader) escape() (rune, error) {
	if r.at+1 >= len(r.text) {
		r.at = len(r.text)
		return 0, r.syntax()
	}
	c := r.text[r.at+1]
	if c != 'u' {
		plain := strings.IndexByte(`"\/bfnrt`, c)
		if plain < 0 {
			return 0, r.syntax()
		}
		r.at += 2
		return rune("\"\\/\b\f\n\r\t"[plain]), nil
	}
	char, err := r.unit()
	switch {
	case err != nil:
		return 0, err
	case char == 0 && !r.recorded:
		return 0, malformed(`the JSON body has the character \u0000, which some parsers take for the end of a text; leave it out`)
	case utf16.IsSurrogate(char):
		low := rune(-1)
		if strings.HasPrefix(r.text[r.at:], `\u`) {
			if low, err = r.unit(); err != nil {
				return 0, err
			}
		}
		if char = utf16.DecodeRune(char, low); char == utf8.RuneError {
			return 0, malformed(`the JSON body has half of a surrogate pair (\ud800 to \udfff), which parsers repair differently; send whole characters`)
		}
	}
	return char, nil
}

// unit reads \uXXXX.
func (r *reader) unit() (rune, error) {
	if len(r.text)-r.at < 6 {
		r.at = len(r.text)
		return 0, r.syntax()
	}
	var char rune
	for _, c := range []byte(r.text[r.at+2 : r.at+6]) {
		n, ok := nibble(c)
		if !ok {
			return 0, r.syntax()
		}
		char = char<<4 | rune(n)
	}
	r.at += 6
	return char, nil
}

// number reads an int64 where it is written as a whole number, else a float64.
func (r *reader) number() (any, error) {
	start := r.at
	if r.text[r.at] == '-' {
		r.at++
	}
	whole := r.at
	if !r.digits() {
		return nil, r.syntax()
	}
	if r.text[whole] == '0' && r.at > whole+1 {
		r.at = whole // leading zeros make an octal number of it to some
		return nil, r.syntax()
	}
	integer := true
	if r.at < len(r.text) && r.text[r.at] == '.' {
		integer = false
		r.at++
		if !r.digits() {
			return nil, r.syntax()
		}
	}
	if r.at < len(r.text) && r.text[r.at]|0x20 == 'e' {
		integer = false
		r.at++
		if r.at < len(r.text) && (r.text[r.at] == '+' || r.text[r.at] == '-') {
			r.at++
		}
		if !r.digits() {
			return nil, r.syntax()
		}
	}
	text := r.text[start:r.at]
	if len(text) > maxNumber {
		return nil, malformed("the JSON body has a number of more than %d characters, which parsers round differently; send it as a string", maxNumber)
	}
	if integer {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, malformed("the JSON body has a whole number outside 64 bits, which parsers read differently; send it as a string")
		}
		return n, nil
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || !exact(text, f) {
		return nil, malformed("the JSON body has a number that 64-bit floating point would round, which parsers read differently; send fewer digits, or a string")
	}
	return f, nil
}

func (r *reader) digits() bool {
	start := r.at
	for r.at < len(r.text) && r.text[r.at] >= '0' && r.text[r.at] <= '9' {
		r.at++
	}
	return r.at > start
}

// exact reports whether f, written with as many digits as text, is text again:
// then a decoder to decimals judges as one to floats does.
func exact(text string, f float64) bool {
	var buf, back [maxNumber + 8]byte
	want := mantissa(buf[:0], text)
	f = math.Abs(f)
	switch {
	case len(want) == 0 || f == 0:
		return len(want) == 0 && f == 0
	case len(want) <= 15 && f > 1e-290:
		return true // always so of normal numbers (C's DBL_DIG)
	}
	got := strconv.AppendFloat(nil, f, 'e', len(want)-1, 64)
	return string(mantissa(back[:0], string(got))) == string(want)
}

// mantissa appends the significant digits of a number.
func mantissa(out []byte, text string) []byte {
	for _, c := range []byte(text) {
		if c|0x20 == 'e' {
			break
		}
		if c >= '1' && c <= '9' || c == '0' && len(out) > 0 {
			out = append(out, c)
		}
	}
	for len(out) > 0 && out[len(out)-1] == '0' {
		out = out[:len(out)-1]
	}
	return out
}
