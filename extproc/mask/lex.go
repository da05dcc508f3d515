package mask

import "unicode/utf8"

// oddities tell what a string holds besides plain ASCII, and from the eighth bit
// on the byteClasses in it: what is to be looked for shows while its end is.
type oddities uint16

const (
	oddEscape   oddities = 1 << iota
	oddHigh              // bytes of 0x80 and above
	_                    // stops take three bits
	oddNoBase64          // characters that base64 does not have

	oddClasses = 8 // bits before the classes
	stopBits   = 7
)

// plain tells that the string's bytes stand for themselves.
func (o oddities) plain() bool { return o&(oddEscape|oddHigh) == 0 }

// none tells that they do, and that no detector begins at any of them.
func (o oddities) none() bool { return o&^oddNoBase64 == 0 }

// stringClass marks the bytes at which the search for a string's end stops.
var stringClass = func() (t [256]uint8) {
	for c := range t {
		switch {
		case c == '"':
			t[c] = 1
		case c == '\\':
			t[c] = 2
		case c < 0x20:
			t[c] = 3
		case c >= 0x7F: // folding leaves DEL out
			t[c] = 4
		}
	}
	return t
}()

// stringEnd returns the position of the closing quote of the string whose content
// begins at i, and sets d.odd. With errMore it is where the search goes on.
func (d *doc) stringEnd(i int) (end int, err error) {
	src, text := d.src, &d.w.m.det.text
	start, odd := i, oddities(0)
	if d.resume > i {
		i, odd = d.resume, d.odd
	}
	seen := odd
	for i < len(src) {
		c := text[src[i]]
		if c&stopBits == 0 {
			seen |= c
			i++
			continue
		}
		switch c & stopBits {
		case 1:
			odd |= seen &^ stopBits
			d.resume, d.odd = i, odd
			if odd&oddHigh != 0 && !utf8.Valid(src[start:i]) {
				return i, d.fail(start, "a string that is not UTF-8")
			}
			return i, nil
		case 2:
			odd |= oddEscape
			seen |= c
			if i+1 < len(src) && src[i+1] == '"' { // of JSON in JSON most are
				i += 2
				continue
			}
			n, err := d.escape(i)
			if err != nil {
				d.resume, d.odd = i, odd|seen&^stopBits
				return i, err
			}
			i += n
		case 3:
			return i, d.fail(i, "a control character inside a string")
		default:
			seen |= c
			odd |= oddHigh
			i++
		}
	}
	d.resume, d.odd = i, odd|seen&^stopBits
	return i, d.short("the document ends inside a string")
}

// escape checks the escape at i and returns its length.
func (d *doc) escape(i int) (int, error) {
	src := d.src
	if i+1 >= len(src) {
		return 0, d.short("the document ends inside a string")
	}
	switch src[i+1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2, nil
	case 'u':
		if _, ok := hex4(src[i+2:]); ok {
			return 6, nil
		}
		if len(src) < i+6 && !d.last {
			return 0, errMore
		}
		return 0, d.fail(i, "a broken \\u escape")
	}
	return 0, d.fail(i, "an unknown escape")
}

// number returns the end of the number at i.
func (d *doc) number(i int) (int, error) {
	src := d.src
	digits := func() bool {
		from := i
		for i < len(src) && isDigit(src[i]) {
			i++
		}
		return i > from
	}
	if src[i] == '-' {
		i++
	}
	if at(src, i) == '0' {
		if i++; isDigit(at(src, i)) {
			return i, d.fail(i, "a number with a leading zero")
		}
	} else if !digits() {
		return i, d.fail(i, "a number without digits")
	}
	if at(src, i) == '.' {
		if i++; !digits() {
			return i, d.fail(i, "a number without digits after its point")
		}
	}
	if at(src, i)|0x20 == 'e' {
		if i++; at(src, i) == '+' || at(src, i) == '-' {
			i++
		}
		if !digits() {
			return i, d.fail(i, "a number without digits in its exponent")
		}
	}
	return i, nil
}
