package mask

// uuidSize is the length of a UUID as text (RFC 9562 §4).
const uuidSize = 36

// uuidParts are where its parts begin and end.
var uuidParts = [5][2]int{{0, 8}, {9, 13}, {14, 18}, {19, 23}, {24, 36}}

// nothingInUUID tells that a text is a UUID in which no detector finds anything,
// as the scan would come to know in four times the time. Where digits go on over a
// whole part, they are less than seven, which are too few for any number. Elsewhere
// there are letters in each part, which leave no number as long as one part or
// longer but for cards, and those are not looked for in UUIDs (inID). What is left
// are IBANs, whose country's letters begin a part, and literals.
func (s *scanner) nothingInUUID(b []byte) bool {
	if len(b) != uuidSize || b[8] != '-' || b[13] != '-' || b[18] != '-' || b[23] != '-' {
		return false
	}
	e := s.e
	if e.inDigits || e.joint['-'] || len(e.regions) > 0 || e.custom != nil {
		return false
	}
	run, over := 0, false // digits up to here, and whether they go over a whole part
	for _, p := range uuidParts {
		letters := 0
		for _, c := range b[p[0]:p[1]] {
			switch hexKind[c] {
			case hexDigit:
				run++
			case hexLetter:
				letters++
				run, over = 0, false
			default:
				return false
			}
			if over && run > 6 {
				return false
			}
		}
		if letters == 0 {
			if over = true; run > 6 {
				return false
			}
		}
		if at := p[0]; letters > 1 && hexKind[b[at]]&hexKind[b[at+1]] == hexLetter && hexKind[b[at+2]]&hexKind[b[at+3]] == hexDigit {
			return false
		}
	}
	for i, c := range b {
		if e.class[c]&classAnchor != 0 && e.maybe(b, i) && e.sec.literals.some(b, i) {
			return false
		}
	}
	s.known = false
	return s.nameHints() == 0
}

const (
	hexDigit  = 1
	hexLetter = 2
)

var hexKind = func() (t [256]uint8) {
	for c := range t {
		switch {
		case isDigit(byte(c)):
			t[c] = hexDigit
		case isHex(byte(c)):
			t[c] = hexLetter
		}
	}
	return t
}()
