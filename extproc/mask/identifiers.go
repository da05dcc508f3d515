package mask

// inID tells whether groups 0..k are a part of a longer identifier of hexadecimal
// form: a hash, a trace id, a UUID. Those have runs of digits by chance.
func inID(b []byte, g *groups, k int) bool {
	least := 8 // digits in parts stand in short words only
	if k == 0 {
		least = 24 // or 16: "cc4111111111111111" is a card, and a span id is none
	}
	for _, n := range [...]int{0, k} {
		lo, hi := g.start[n], g.end[n]
		size := hi - lo
		for lo > 0 && hi-lo < maxID && isAlnum(b[lo-1]) {
			lo--
		}
		for hi < len(b) && hi-lo < 2*maxID && isAlnum(b[hi]) {
			hi++
		}
		if t := hi - lo; t > size && (t >= least || t == 16) && allHex(b[lo:hi]) {
			return true
		}
	}
	const uuid = 36
	lo, hi := g.start[0], g.end[k]
	for lo > 0 && hi-lo <= uuid && (isHex(b[lo-1]) || b[lo-1] == '-') {
		lo--
	}
	for hi < len(b) && hi-lo <= uuid && (isHex(b[hi]) || b[hi] == '-') {
		hi++
	}
	t := b[lo:hi]
	return len(t) == uuid && t[8] == '-' && t[13] == '-' && t[18] == '-' && t[23] == '-' &&
		allHex(t[:8]) && allHex(t[9:13]) && allHex(t[14:18]) && allHex(t[19:23]) && allHex(t[24:])
}

// maxID is more than the hexadecimal form of any usual hash has.
const maxID = 160

func allHex(b []byte) bool {
	for _, c := range b {
		if !isHex(c) {
			return false
		}
	}
	return true
}

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
