package mask

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"sync"
	"unicode"
	"unicode/utf8"
)

// hidden is what stands for a value that a path or key hides.
const hidden = "[redacted]"

// conceal returns what the caller sees in place of a match; value is the matched
// part of the folded view. The text needs escaping before it goes into JSON: it
// holds no control characters, but may hold quotes.
func (m *Masker) conceal(h how, f match, value []byte) []byte {
	d := f.det
	switch h {
	case howDrop:
		return nil
	case howHash:
		return m.hash(canonical(d, value))
	case howToken:
		if d != detPrivateKey {
			if t := m.token(d, value); t != nil {
				return t
			}
		}
	case howPartial:
		switch {
		case d == detPrivateKey: // ends in dashes, or in the last of the key
		case d == detEmail:
			return append([]byte("***"), value[lastIndexByte(value, '@'):]...)
		case d == detIP: // most of it are its last four characters
		case d == detCard, d == detSSN, d == detIBAN, d == detPhone, allNational.has(d):
			return lastFour(canonical(d, value))
		default:
			return lastFour(value)
		}
	}
	if d == detKeyword {
		return []byte(hidden)
	}
	return []byte("[redacted:" + f.kind() + "]")
}

// concealWhole is conceal for a whole value that a path or key hides. A value
// that is wholly of a known kind is hashed in that kind's canonical form, so that
// it joins with the hash of the same value found by a detector.
func (m *Masker) concealWhole(h how, value []byte) []byte {
	switch h {
	case howHash, howToken:
		v := view{}
		folded, _ := v.fold(value)
		s := scanner{e: everyDetector()}
		d := detCount
		if f := s.scan(folded); len(f) == 1 && f[0].start == 0 && f[0].end == len(folded) {
			d = f[0].det
		}
		switch {
		case h == howToken:
			if t := m.token(d, folded); t != nil {
				return t
			}
		case d != detCount:
			return m.hash(canonical(d, folded))
		default:
			return m.hash(value)
		}
	case howPartial:
		return lastFour(value)
	}
	return []byte(hidden)
}

// everyDetector serves to classify single values; constant.
var everyDetector = sync.OnceValue(func() *engine {
	e := new(engine)
	e.init(setOf(detCard, detEmail, detIBAN, detSSN, detPhone)|allNational, false)
	return e
})

// canonical returns the form of a value in which all its spellings are equal.
func canonical(d detector, value []byte) []byte {
	switch {
	case d == detCard, d == detSSN:
		return keep(value, isDigit, 0)
	case d == detPhone:
		return keep(value, func(c byte) bool { return isDigit(c) || c == '+' }, 0)
	case d == detIBAN, allNational.has(d):
		return keep(value, isAlnum, 'A')
	case d == detEmail:
		return keep(value, func(byte) bool { return true }, 'a')
	}
	return value
}

// keep copies the bytes that ok accepts, and puts ASCII letters into the case of
// letter ('a' or 'A').
func keep(b []byte, ok func(byte) bool, letter byte) []byte {
	out := make([]byte, 0, len(b))
	for _, c := range b {
		if !ok(c) {
			continue
		}
		if letter != 0 && isLetter(c) {
			c = c&^0x20 | letter&0x20
		}
		out = append(out, c)
	}
	return out
}

// hash is 128 bits of HMAC-SHA256. It says nothing of the kind of value: the
// column it is joined on does, and equal values must be equal text.
func (m *Masker) hash(value []byte) []byte {
	mac := hmac.New(sha256.New, m.hashKey)
	mac.Write(value)
	return []byte("[hash:" + hex.EncodeToString(mac.Sum(nil)[:16]) + "]")
}

// lastFour shows the last four characters of a value that has at least eight:
// of a shorter one they would be most of it.
func lastFour(value []byte) []byte {
	out := []byte("****")
	if utf8.RuneCount(value) < 8 {
		return out
	}
	i := len(value)
	for range 4 {
		_, n := utf8.DecodeLastRune(value[:i])
		i -= n
	}
	for i < len(value) {
		r, n := utf8.DecodeRune(value[i:])
		i += n
		if !unicode.IsPrint(r) || r == utf8.RuneError {
			r = '*'
		}
		out = utf8.AppendRune(out, r)
	}
	return out
}

func lastIndexByte(b []byte, c byte) int {
	for i := len(b) - 1; i >= 0; i-- {
		if b[i] == c {
			return i
		}
	}
	return 0
}

// quote returns text, free of control characters, as it stands inside a JSON
// string.
func quote(text []byte) []byte {
	n := 0
	for _, c := range text {
		if c == '"' || c == '\\' {
			n++
		}
	}
	if n == 0 {
		return text
	}
	out := make([]byte, 0, len(text)+n)
	for _, c := range text {
		if c == '"' || c == '\\' {
			out = append(out, '\\')
		}
		out = append(out, c)
	}
	return out
}
