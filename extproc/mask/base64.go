package mask

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"unicode/utf8"
)

// base64Class marks the characters of base64, both alphabets (RFC 4648 §4, §5),
// and the line ends that MIME puts between.
var base64Class = func() (t [256]bool) {
	for c := range t {
		t[c] = isAlnum(byte(c)) || c == '+' || c == '/' || c == '-' || c == '_' || c == '=' || c == '\r' || c == '\n'
	}
	return t
}()

// minBase64 is the shortest text that is worth decoding: a@b.co has eight.
const minBase64 = 8

// plainText decodes text that is base64 of text, and tells with which alphabet.
// That most text is none shows in its first characters.
func plainText(text []byte) ([]byte, *base64.Encoding) {
	if len(text) < minBase64 || !base64Opens(text) {
		return nil, nil
	}
	for _, c := range text {
		if !base64Class[c] {
			return nil, nil
		}
	}
	if bytes.IndexByte(text, '\n') >= 0 {
		text = bytes.ReplaceAll(bytes.ReplaceAll(text, []byte("\n"), nil), []byte("\r"), nil)
	}
	enc, bare := base64.StdEncoding, base64.RawStdEncoding
	if bytes.ContainsAny(text, "-_") {
		enc, bare = base64.URLEncoding, base64.RawURLEncoding
	}
	if len(text)%4 != 0 {
		enc = bare
	}
	out := make([]byte, enc.DecodedLen(len(text)))
	n, err := enc.Decode(out, text)
	if err != nil || !printable(out[:n]) || !utf8.Valid(out[:n]) {
		return nil, nil
	}
	return out[:n], enc
}

// base64Opens tells whether text could be the beginning of base64 of text. Of
// words and ids, which have the same characters, hardly any decodes to UTF-8.
func base64Opens(text []byte) bool {
	if len(text) < minBase64 {
		return false
	}
	const most = 32
	// Mostly one of the first bytes can't stand in text. It must not be among the
	// last three, since a character may be cut there.
	a, b, c, d := base64Value[text[0]], base64Value[text[1]], base64Value[text[2]], base64Value[text[3]]
	for n, state := 4, 0; n+4 <= min(len(text), most); n += 4 {
		e, f, g, h := base64Value[text[n]], base64Value[text[n+1]], base64Value[text[n+2]], base64Value[text[n+3]]
		if a|b|c|d|e|f|g|h > 63 {
			break
		}
		for _, x := range [3]uint8{a<<2 | b>>4, b<<4 | c>>2, c<<6 | d} {
			if state = int(textStates[state][x]); state == neverText {
				return false
			}
		}
		a, b, c, d = e, f, g, h
	}
	var out [most / 4 * 3]byte
	n, k, bits := 0, 0, uint32(0)
	for ; n < len(text) && n < most; n++ {
		v := base64Value[text[n]]
		if v > 63 {
			break
		}
		bits = bits<<6 | uint32(v)
		if n%4 == 3 {
			out[k], out[k+1], out[k+2] = byte(bits>>16), byte(bits>>8), byte(bits)
			k += 3
		}
	}
	if n < minBase64-2 || n < len(text) && n < most && !base64Class[text[n]] {
		return false
	}
	return isPrefix(out[:k])
}

// neverText is the state after a byte that can't stand in text where it stands.
const neverText = 4

// textStates has, for how many more bytes a character has, how many it has after
// the next byte. It lets more pass than utf8.Valid does.
var textStates = func() (t [4][256]uint8) {
	for state := range t {
		for c := range t[state] {
			next := uint8(neverText)
			switch {
			case state > 0:
				if c&0xC0 == 0x80 {
					next = uint8(state - 1)
				}
			case c < utf8.RuneSelf:
				if printable([]byte{byte(c)}) {
					next = 0
				}
			case c >= 0xC2 && c <= 0xDF:
				next = 1
			case c >= 0xE0 && c <= 0xEF:
				next = 2
			case c >= 0xF0 && c <= 0xF4:
				next = 3
			}
			t[state][c] = next
		}
	}
	return t
}()

// base64Value is what a character of either alphabet stands for; over 63: nothing.
var base64Value = func() (t [256]uint8) {
	for c := range t {
		t[c] = 64
	}
	for i, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/") {
		t[c] = uint8(i)
	}
	t['-'], t['_'] = 62, 63
	return t
}()

// isPrefix tells whether b is a text, or the beginning of one that is cut within a
// character.
func isPrefix(b []byte) bool {
	if !printable(b) {
		return false
	}
	for n := 0; n < utf8.UTFMax && len(b) > 0; n++ {
		if utf8.Valid(b) {
			return true
		}
		b = b[:len(b)-1]
	}
	return len(b) == 0
}

// printable tells whether there is no byte that text does not have.
func printable(b []byte) bool {
	for _, c := range b {
		if c < 0x20 && c != '\n' && c != '\r' && c != '\t' || c == 0x7F {
			return false
		}
	}
	return true
}

// encoded masks text that is base64 of other text, and reports whether something
// was hidden in it: then it is encoded again. Edits are mapped back to the bytes
// that begin at base.
func (w *walker) encoded(text []byte, at viewMap, base int, live liveStates) (bool, error) {
	plain, enc := plainText(text)
	if enc == nil {
		return false, nil
	}
	if w.level >= w.m.maxNested {
		return false, fmt.Errorf("base64 is nested more than %d times: %w", w.m.maxNested, ErrTooDeep)
	}
	outer, level := w.edits, w.level
	defer func() { w.level = level }()
	w.edits = nil
	done, err := false, error(nil)
	if looksJSON(plain) {
		done, err = w.nested(plain, nil, 0, live, false)
	}
	w.level++
	if !done && err == nil {
		done, err = w.encoded(plain, nil, 0, live)
	}
	if !done && err == nil {
		w.text(plain, nil, 0, false, true)
	}
	inner := w.edits
	w.edits = outer
	if err != nil || len(inner) == 0 {
		return false, err
	}
	repl := enc.EncodeToString(apply(plain, inner))
	w.edits = append(w.edits, edit{base + at.start(0), base + at.end(len(text)), []byte(repl), inner[0].kind})
	return true, nil
}

// content masks a value that stands by itself: base64 of text, JSON, or text that at
// maps to the bytes which begin at base.
func (w *walker) content(text []byte, at viewMap, base int) error {
	if done, err := w.encodedIn(text, at, base, w.cur); done || err != nil {
		return err
	}
	return w.anything(text, at, base)
}

// encodedIn is encoded for a text in which base64 may have white space around it, or
// be that of a URL (RFC 2397).
func (w *walker) encodedIn(text []byte, at viewMap, base int, live liveStates) (bool, error) {
	from, to := dataURL(text), len(text)
	for from < to && isSpace(text[from]) {
		from++
	}
	for to > from && isSpace(text[to-1]) {
		to--
	}
	if to == len(text) && from == 0 {
		return w.encoded(text, at, base, live)
	}
	n := len(w.edits)
	done, err := w.encoded(text[from:to], nil, 0, live)
	for i := n; i < len(w.edits); i++ {
		e := &w.edits[i]
		e.start, e.end = base+at.start(from+e.start), base+at.end(from+e.end)
	}
	return done, err
}

// dataURL returns where the base64 of a data URL begins; 0: it is none.
func dataURL(text []byte) int {
	const most = 256 // bytes before it
	if len(text) < len("data:;base64,") || !hasPrefix(text, "data:") {
		return 0
	}
	head := text[:min(len(text), most)]
	n := bytes.IndexByte(head, ',')
	if n < 0 || !bytes.HasSuffix(head[:n], []byte(";base64")) {
		return 0
	}
	return n + 1
}

// base64Text tells whether a first part of a text is base64 of text.
func base64Text(part []byte) bool {
	if n := bytes.IndexAny(part, "\r\n="); n >= 0 {
		part = part[:n]
	}
	// The last character may be cut in two.
	for cut := 0; cut <= 8; cut += 4 {
		if n := len(part)/4*4 - cut; n > 0 {
			if plain, _ := plainText(part[:n]); len(plain) > 0 {
				return true
			}
		}
	}
	return false
}
