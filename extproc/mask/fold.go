package mask

import (
	"bytes"
	"encoding/binary"
	"slices"
	"unicode"
	"unicode/utf8"
)

// view is a transformed copy of some text, with the way back. Its buffers are
// reused from one text to the next.
type view struct {
	b   []byte
	at  viewMap
	raw int // the source up to here is in the view
}

func (v *view) reset(size int) {
	v.b, v.at, v.raw = slices.Grow(v.b[:0], size), v.at[:0], 0
}

// shrink gives up buffers of more than so many bytes.
func (v *view) shrink(most int) {
	if cap(v.b) > most || cap(v.at) > most/segSize {
		*v = view{}
	}
}

// copyTo takes the source up to i as it is.
func (v *view) copyTo(src []byte, i int) {
	v.b = append(v.b, src[v.raw:i]...)
	v.raw = i
}

// put stands the next n source bytes in as rune r.
func (v *view) put(r rune, n int) {
	was := len(v.b)
	if r < utf8.RuneSelf {
		v.b = append(v.b, byte(r))
	} else {
		v.b = utf8.AppendRune(v.b, r)
	}
	v.at = append(v.at, seg{int32(was), int32(v.raw), int32(len(v.b) - was), int32(n)})
	v.raw += n
}

// skip leaves the next n source bytes out.
func (v *view) skip(n int) {
	v.at = append(v.at, seg{int32(len(v.b)), int32(v.raw), 0, int32(n)})
	v.raw += n
}

// replace takes the source up to i as it is, and stands the next n bytes in as rune r,
// or leaves them out (-1).
func (v *view) replace(src []byte, i int, r rune, n int) {
	v.copyTo(src, i)
	if r < 0 {
		v.skip(n)
	} else {
		v.put(r, n)
	}
}

// unescape makes v the decoded form of the inside of a JSON string that the
// walker has already found to be well formed.
func (v *view) unescape(src []byte) {
	v.reset(len(src))
	v.decode(src)
}

// decode adds the rest of src, decoded. It is never longer than src.
func (v *view) decode(src []byte) {
	i, n := v.raw, len(v.b)
	v.at = slices.Grow(v.at, bytes.Count(src[i:], []byte{'\\'}))
	v.b = slices.Grow(v.b, len(src)-i+wordSize)
	b := v.b[:cap(v.b)]
	for i < len(src) {
		// Escapes are often a few bytes apart: eight are copied at once, and those
		// behind an escape are written over.
		if i+wordSize <= len(src) {
			w := wordAt(src[i:])
			binary.LittleEndian.PutUint64(b[n:], uint64(w))
			k := w.index('\\')
			i, n = i+k, n+k
			if k == wordSize {
				continue
			}
		} else if src[i] != '\\' {
			b[n] = src[i]
			i, n = i+1, n+1
			continue
		}
		r, size := escape(src[i:])
		was := n
		if r < utf8.RuneSelf {
			b[n] = byte(r)
			n++
		} else {
			n += utf8.EncodeRune(b[n:], r)
		}
		v.at = append(v.at, seg{int32(was), int32(i), int32(n - was), int32(size)})
		i += size
	}
	v.b, v.raw = b[:n], i
}

// escape decodes the JSON escape that s begins with; a lone surrogate is U+FFFD.
func escape(s []byte) (rune, int) {
	switch s[1] {
	case 'b':
		return '\b', 2
	case 'f':
		return '\f', 2
	case 'n':
		return '\n', 2
	case 'r':
		return '\r', 2
	case 't':
		return '\t', 2
	case 'u':
		r, _ := hex4(s[2:])
		switch {
		case r >= 0xDC00 && r < 0xE000:
			return utf8.RuneError, 6
		case r >= 0xD800 && r < 0xDC00:
			if len(s) >= 12 && s[6] == '\\' && s[7] == 'u' {
				if lo, ok := hex4(s[8:]); ok && lo >= 0xDC00 && lo < 0xE000 {
					return (r-0xD800)<<10 + (lo - 0xDC00) + 0x10000, 12
				}
			}
			return utf8.RuneError, 6
		}
		return r, 6
	}
	return rune(s[1]), 2
}

// hex4 reads four hexadecimal digits.
func hex4(s []byte) (rune, bool) {
	if len(s) < 4 {
		return 0, false
	}
	var r rune
	for _, c := range s[:4] {
		switch {
		case '0' <= c && c <= '9':
			r = r<<4 | rune(c-'0')
		case 'a' <= c && c <= 'f':
			r = r<<4 | rune(c-'a'+10)
		case 'A' <= c && c <= 'F':
			r = r<<4 | rune(c-'A'+10)
		default:
			return 0, false
		}
	}
	return r, true
}

// fold returns text as the detectors read it and the map back: src itself where
// folding changes nothing, else v. A value is caught in whatever characters it
// is spelled; also as \uXXXX in text that is not JSON, such as a log line that
// quotes some.
func (v *view) fold(src []byte) ([]byte, viewMap) {
	i := 0
	for i < len(src) {
		if foldClass[src[i]] == 0 {
			for i++; i+wordSize <= len(src) && wordAt(src[i:]).plain(); {
				i += wordSize
			}
			continue
		}
		_, n, changes := foldAt(src[i:])
		if changes {
			break
		}
		i += n
	}
	if i == len(src) {
		return src, nil
	}
	v.reset(len(src))
	for i < len(src) {
		if foldClass[src[i]] == 0 {
			i++
			continue
		}
		r, n, changes := foldAt(src[i:])
		if changes {
			v.replace(src, i, r, n)
		}
		i += n
	}
	v.copyTo(src, len(src))
	return v.b, v.at
}

// foldClass marks bytes at which folding may have something to do: escapes,
// control characters, and everything that is not ASCII.
var foldClass = func() (t [256]uint8) {
	for c := range t {
		if c < 0x20 && c != '\n' && c != '\r' && c != '\t' || c >= 0x7F || c == '\\' {
			t[c] = 1
		}
	}
	return t
}()

// foldAt folds the character that s begins with: its stand-in, -1 for one without
// a trace, how many bytes it takes, and whether folding changes it.
func foldAt(s []byte) (r rune, n int, changes bool) {
	if s[0] == '\\' {
		if len(s) < 6 || s[1] != 'u' {
			return 0, 1, false
		}
		if _, ok := hex4(s[2:]); !ok {
			return 0, 1, false
		}
		r, n = escape(s)
		if f := foldRune(r); f != 0 {
			return f, n, true
		}
		return r, n, true
	}
	r, n = utf8.DecodeRune(s)
	if r == utf8.RuneError && n == 1 {
		// A byte that is no UTF-8: many readers drop it, so it must not part a value.
		return -1, 1, true
	}
	if f := foldRune(r); f != 0 {
		return f, n, true
	}
	return r, n, false
}

// foldRune is the ASCII stand-in of r, -1 if r is invisible, 0 if it stands for
// itself.
func foldRune(r rune) rune {
	switch {
	case r < 0x20:
		if r == '\n' || r == '\r' || r == '\t' {
			return 0
		}
		return -1
	case r < 0x7F:
		return 0
	case r < 0xA0:
		return -1 // delete and the C1 controls
	case r == 0xA0:
		return ' '
	case r == 0xAD:
		return -1 // soft hyphen
	case r == 0xB2 || r == 0xB3:
		return '2' + (r - 0xB2)
	case r == 0xB9:
		return '1'
	case r < 0x300:
		return 0
	case r == 0x34F || r == 0x61C || r == 0x115F || r == 0x1160 || r == 0x3164 || r == 0xFFA0 || r == 0x20E3:
		return -1 // joiners and fillers that print nothing
	case r >= 0xFF01 && r <= 0xFF5E:
		return r - 0xFF01 + '!' // full-width ASCII
	case r >= 0x2000 && r <= 0x206F:
		switch {
		case r <= 0x200A || r == 0x202F || r == 0x205F:
			return ' '
		case r >= 0x2010 && r <= 0x2015:
			return '-'
		case r == 0x2024:
			return '.'
		case r <= 0x200F || r >= 0x202A && r <= 0x202E || r >= 0x2060:
			return -1 // zero-width and direction marks
		}
		return 0
	case r == 0x1680 || r == 0x3000:
		return ' '
	case r == 0x2212 || r == 0xFE58 || r == 0xFE63 || r == 0x2E3A || r == 0x2E3B:
		return '-'
	case r == 0xFE6B:
		return '@'
	case r == 0xFE52:
		return '.'
	case r >= 0xFE00 && r <= 0xFE0F || r == 0xFEFF || r >= 0xE0000 && r <= 0xE01EF:
		return -1 // variation selectors, byte order mark, tags
	case r >= 0x2080 && r <= 0x2089:
		return r - 0x2080 + '0' // subscripts
	case r == 0x2070 || r >= 0x2074 && r <= 0x2079:
		return r - 0x2070 + '0' // superscripts
	case r >= 0x2460 && r <= 0x2468:
		return r - 0x2460 + '1' // circled
	case r == 0x24EA:
		return '0'
	case r >= 0x2776 && r <= 0x277E:
		return r - 0x2776 + '1'
	case r >= 0x2780 && r <= 0x2788:
		return r - 0x2780 + '1'
	case r >= 0x278A && r <= 0x2792:
		return r - 0x278A + '1'
	}
	return foldDigit(r)
}

// foldDigit maps the decimal digits of all scripts (Unicode's Nd, in runs of ten
// that begin with zero) and 0 for everything else.
func foldDigit(r rune) rune {
	if !unicode.Is(unicode.Nd, r) {
		return 0
	}
	if r <= 0xFFFF {
		for _, t := range unicode.Nd.R16 {
			if rune(t.Lo) <= r && r <= rune(t.Hi) {
				return '0' + (r-rune(t.Lo))%10
			}
		}
	}
	for _, t := range unicode.Nd.R32 {
		if rune(t.Lo) <= r && r <= rune(t.Hi) {
			return '0' + (r-rune(t.Lo))%10
		}
	}
	return 0
}

// normalKey appends the form in which key names are compared: lower case,
// without the characters that naming conventions differ in.
func normalKey(dst, key []byte) []byte {
	for i := 0; i < len(key); {
		c := key[i]
		switch {
		case c >= 'A' && c <= 'Z':
			dst = append(dst, c+'a'-'A')
		case c == '_' || c == '-' || c == '.' || c == ' ':
		case c < 0x20 || c == 0x7F:
		case c < 0x80:
			dst = append(dst, c)
		default:
			r, n := utf8.DecodeRune(key[i:])
			i += n
			switch f := foldRune(r); {
			case f < 0:
			case f > 0:
				dst = normalKey(dst, []byte{byte(f)})
			case r == 'ſ': // folds to s in readers that ignore case, Go's among them
				dst = append(dst, 's')
			default:
				dst = utf8.AppendRune(dst, unicode.ToLower(r))
			}
			continue
		}
		i++
	}
	return dst
}
