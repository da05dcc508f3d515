package mask

import (
	"bytes"
	"math/bits"
)

// nationalForm is one spelling of one kind of number, prepared for the scan.
type nationalForm struct {
	id    detector
	form  string
	lead  int  // letters before the first digit
	prev  byte // what stands before it: a letter 'a', a blank, or 0
	next  byte // what follows the first run of digits, 'a' a letter or digit, 0 the end
	loose bool // separators may stand anywhere, or be missing
}

// nationalTable is the forms prepared for the scan.
type nationalTable struct {
	announced [nationalCount][]nationalForm
	plain     [plainRuns][]nationalForm // by the length of their first run of digits

	// What stands on both sides of a run of digits leaves hardly any form: side
	// numbers the bytes that forms tell apart, and before and after have a bit for
	// each form of plain that goes with one there.
	side          [256]uint8
	before, after [plainRuns][maxSides]uint32
}

const (
	plainRuns = 32 // more than maxCard
	maxSides  = 16
)

// fitsBefore and fitsAfter tell whether a form goes with a byte on that side of its
// first run of digits; 'a' is any letter.
func (f *nationalForm) fitsBefore(c byte) bool { return f.prev == c || f.prev == 0 && c != 'a' }
func (f *nationalForm) fitsAfter(c byte) bool  { return f.next == c || f.next == 0 && c != 'a' }

// sides fills in what plain forms are left by the bytes beside them.
func (t *nationalTable) sides() {
	known := []byte{0, 'a'} // anything else, a letter
	for c := range t.side {
		if isLetter(byte(c)) {
			t.side[c] = 1
		}
	}
	for _, forms := range t.plain {
		for _, f := range forms {
			for _, c := range []byte{f.prev, f.next} {
				if bytes.IndexByte(known, c) < 0 {
					t.side[c] = uint8(len(known))
					known = append(known, c)
				}
			}
		}
	}
	for run, forms := range t.plain {
		if len(forms) > 32 || len(known) > maxSides {
			panic("mask: too many forms of national numbers for their table")
		}
		for k := range forms {
			for n, c := range known {
				if forms[k].fitsBefore(c) {
					t.before[run][n] |= 1 << k
				}
				if forms[k].fitsAfter(c) {
					t.after[run][n] |= 1 << k
				}
			}
		}
	}
}

// nationalForms are all spellings: those that a name must announce by kind of
// number, the others by the length of their first run of digits. Constant data.
var nationalForms = func() (t nationalTable) {
	for i, n := range nationalIDs {
		for _, f := range n.forms {
			bare := make([]byte, 0, len(f))
			for _, c := range []byte(f) {
				if c == 'd' || c == 'a' || c == 'c' {
					bare = append(bare, c)
				}
			}
			t.announced[i] = append(t.announced[i], nationalForm{id: detNational + detector(i), form: string(bare), lead: lead(f), loose: true})
		}
		for _, f := range n.plain {
			end := lead(f)
			for end < len(f) && (f[end] == 'd' || isDigit(f[end])) {
				end++
			}
			run, form := end-lead(f), nationalForm{id: detNational + detector(i), form: f, lead: lead(f)}
			if form.lead > 0 {
				form.prev = f[form.lead-1]
			}
			switch {
			case end == len(f):
			case f[end] == 'a' || f[end] == 'c':
				form.next = 'a'
			default:
				form.next = f[end]
			}
			t.plain[run] = append(t.plain[run], form)
			if f[len(f)-1] == 'c' && end == len(f)-1 { // the last may be a digit too
				form.next = 0
				t.plain[run+1] = append(t.plain[run+1], form)
			}
		}
	}
	t.sides()
	return t
}()

func lead(form string) (n int) {
	for n < len(form) && form[n] != 'd' && !isDigit(form[n]) {
		n++
	}
	if n > 0 && form[0] != 'a' {
		return 0
	}
	for i := range n {
		if form[i] != 'a' {
			return i + 1 // aa dd: the letters, and what parts them from the digits
		}
	}
	return n
}

// some tells whether some plain form goes with the first of the digits [i, end)
// and with what stands on both sides of them.
func (t *nationalTable) some(b []byte, i, end int) bool {
	left := t.left(b, i, end)
	return left != 0 && t.opens(left, end-i, b[i])
}

// left has a bit for each plain form that goes with what stands on both sides of
// the digits [i, end), of which there are maxCard at most.
func (t *nationalTable) left(b []byte, i, end int) uint32 {
	run := (end - i) & (plainRuns - 1)
	return t.before[run][t.side[at(b, i-1)]&(maxSides-1)] & t.after[run][t.side[at(b, end)]&(maxSides-1)]
}

// opens tells whether one of these forms begins with a digit.
func (t *nationalTable) opens(left uint32, run int, digit byte) bool {
	for ; left != 0; left &= left - 1 {
		f := &t.plain[run][bits.TrailingZeros32(left)]
		if c := f.form[f.lead]; c == 'd' || c == digit {
			return true
		}
	}
	return false
}

// national looks for a personal number around the run of digits [i, end), of
// which announced are announced by names; to == 0 means none.
func (s *scanner) national(i, end int, announced detSet) (from, to int, det detector) {
	on := s.e.on
	t := &nationalForms
	for left := t.left(s.b, i, end); left != 0; left &= left - 1 {
		f := &t.plain[end-i][bits.TrailingZeros32(left)]
		if !on.has(f.id) {
			continue
		}
		if from, to = f.match(s, i); to > 0 && from >= s.floor() {
			return from, to, f.id
		}
	}
	for set := announced & on & allNational; set != 0; set &= set - 1 {
		det := detector(trailingZeros(set))
		for k := range nationalForms.announced[det-detNational] {
			f := &nationalForms.announced[det-detNational][k]
			if from, to = f.match(s, i); to > 0 && from >= s.floor() {
				return from, to, det
			}
		}
	}
	return 0, 0, 0
}

// match compares the form with the text whose first digit is at i.
func (f *nationalForm) match(s *scanner, i int) (from, to int) {
	b, id := s.b, s.id[:]
	from = i
	for k := f.lead - 1; k >= 0; k-- {
		if f.loose {
			if from > 1 && isSeparator(b[from-1]) && isAlnum(b[from-2]) {
				from--
			}
		}
		if from--; from < 0 || !fits(f.form[k], b[from]) {
			return 0, 0
		}
	}
	if from > 0 && (isAlnum(b[from-1]) || b[from-1] == '_') {
		return 0, 0
	}
	n, j := 0, from
	for k := range len(f.form) {
		if f.loose && k > 0 && j+1 < len(b) && isSeparator(b[j]) {
			j++
			if j+1 < len(b) && b[j] == ' ' && b[j-1] != ' ' { // "12345678 - Z"
				j++
			}
		}
		if j >= len(b) || !fits(f.form[k], b[j]) {
			return 0, 0
		}
		if c := b[j]; isAlnum(c) {
			if isLetter(c) {
				c &^= 0x20
			}
			id[n] = c
			n++
		}
		j++
	}
	if j < len(b) {
		// More of the same makes it some other number: 123.456.789-09.1
		if isAlnum(b[j]) || b[j] == '_' || (b[j] == '-' || b[j] == '.' || b[j] == '/') && j+1 < len(b) && isDigit(b[j+1]) {
			return 0, 0
		}
	}
	if !f.loose && from > 1 && (b[from-1] == '-' || b[from-1] == '.' || b[from-1] == '/' || b[from-1] == '+') && isAlnum(b[from-2]) {
		return 0, 0
	}
	if !nationalIDs[f.id-detNational].check(id[:n]) {
		return 0, 0
	}
	return from, j
}

func isSeparator(c byte) bool { return c == ' ' || c == '-' || c == '.' || c == '/' || c == '+' }

// fits tells whether a byte is what the form has in its place.
func fits(form, c byte) bool {
	switch form {
	case 'd':
		return isDigit(c)
	case 'a':
		return isLetter(c)
	case 'c':
		return isAlnum(c)
	}
	return c == form
}
