package mask

import "math/bits"

func trailingZeros(s detSet) int { return bits.TrailingZeros64(uint64(s)) }

// engine is the compiled set of detectors: immutable.
type engine struct {
	on       detSet
	class    [256]byteClass
	text     [256]oddities     // stringClass and class in one, for strings of JSON
	inner    [256]uint8        // see rest
	some     [8192 / 32]uint32 // which three bytes begin or end with an anchor of some literal
	sec      *secretTable
	regions  []string // whose own ways of writing telephone numbers are known
	custom   *customTable
	byName   bool      // names in text may announce what follows a sign
	any      bool      // something looks at values for what they are
	joint    [256]bool // digits and what parts them, where literals have their anchors there
	inGroups bool      // some of what parts digits is one
	inDigits bool      // some digit is one
	short    bool      // it may find less than minMatch bytes
}

// byteClass tells what may begin, or be anchored, at a byte.
type byteClass uint8

const (
	classDigit   byteClass = 1 << iota // numbers of all kinds
	classAt                            // e-mail
	classAssign                        // name=value
	classColon                         // IPv6
	classPlus                          // telephone
	classUpto                          // the rarest byte of some literal, known by what is before it
	classFrom                          // or by what is after it
	classSpelled                       // what is written as in a URL, in markup, in code

	classAnchor = classUpto | classFrom
)

// Detectors that begin with a digit.
const (
	ofDigits = 1<<detCard | 1<<detIBAN | 1<<detSSN | 1<<detPhone | 1<<detIP | allNational
	ofIBANs  = 1<<detIBAN | 1<<detCard // an IBAN is no card
)

func (e *engine) init(on detSet, keywords bool) {
	e.on = on
	for c := range e.class {
		b := byte(c)
		if on&ofDigits != 0 && isDigit(b) {
			e.class[c] |= classDigit
		}
		if on.has(detIP) && b == ':' {
			e.class[c] |= classColon
		}
		if on.has(detPhone) && b == '+' {
			e.class[c] |= classPlus
		}
		if on.has(detEmail) && b == '@' {
			e.class[c] |= classAt
		}
	}
	e.any = on != 0 || e.custom != nil
	e.short = keywords || e.custom != nil
	e.byName = keywords || on&(byNameOnly|setOf(detAPIKey, detKeyedSecret)) != 0
	if e.any || keywords {
		for _, c := range []byte(`%&+\`) {
			e.class[c] |= classSpelled
		}
	}
	if e.byName {
		e.class['='] |= classAssign
		e.class[':'] |= classAssign
		e.class['>'] |= classAssign
	}
	if on&setOf(detAPIKey, detPrivateKey, detJWT) != 0 {
		e.sec = secrets()
		for c, is := range e.sec.literals.anchor {
			e.class[c] |= is
		}
	}
	if e.sec != nil {
		e.some = e.sec.literals.bits
	}
	if e.custom != nil {
		e.custom.mark(&e.class)
		for h, some := range e.custom.literals.bits {
			e.some[h] |= some
		}
	}
	for c := range e.class {
		switch b := byte(c); {
		case e.class[c] == classDigit:
			e.inner[c] = innerDigit
		case e.class[c] == 0 && isLetter(b) && !isN(b):
			e.inner[c] = innerLetter
		}
	}
	e.joints()
	for c := range e.text {
		e.text[c] = oddities(stringClass[c]) | oddities(e.class[c])<<oddClasses
		if !base64Class[c] && stringClass[c] == 0 {
			e.text[c] |= oddNoBase64
		}
	}
}

// maybe tells whether some literal's anchor may be b[i]: nearly none is.
func (e *engine) maybe(b []byte, i int) bool {
	c := e.class[b[i]]
	if c&classUpto != 0 && i > 1 {
		if h := trigram(b[i-2], b[i-1], b[i]); e.some[h/32]>>(h%32)&1 != 0 {
			return true
		}
	}
	if c&classFrom != 0 && i+2 < len(b) {
		if h := trigram(b[i], b[i+1], b[i+2]); e.some[h/32]>>(h%32)&1 != 0 {
			return true
		}
	}
	return false
}

// joints sets joint: numbers are read as a whole, and what begins within one is to
// be found all the same.
func (e *engine) joints() {
	number := func(l *literal, i int) bool {
		return i < 0 || i >= len(l.text) || isDigit(l.text[i]) || separates[l.text[i]] != 0
	}
	var tables []*literals
	if e.sec != nil {
		tables = append(tables, &e.sec.literals)
	}
	if e.custom != nil {
		tables = append(tables, &e.custom.literals)
	}
	for _, t := range tables {
		for k := range t.list {
			l := &t.list[k]
			switch c := l.text[l.at]; {
			case isDigit(c):
				e.joint[c], e.inDigits = true, true
			case separates[c] != 0 && number(l, l.at-1) && number(l, l.at+1):
				e.joint[c], e.inGroups = true, true
			}
		}
	}
}
