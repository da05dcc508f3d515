package mask

// maxCard is the greatest number of digits of a card number (ISO/IEC 7812).
const maxCard = 19

// issuer is a range of card prefixes and the lengths in use. Lengths that only
// hint cards have are those where unrelated numbers pass too often: 13 digits are
// epoch milliseconds and EAN codes, 19 are random 63-bit ids. Printed in groups,
// they need no hint.
type issuer struct {
	lo, hi int    // first six digits
	plain  uint32 // bit n: n digits are a card
	hinted uint32 // bit n: n digits are one if a name or the grouping says so
}

func digitsOf(ns ...int) (m uint32) {
	for _, n := range ns {
		m |= 1 << n
	}
	return m
}

// issuers follow the ranges that the schemes publish, rounded out where a range
// is shared: a superset costs one in ten random numbers of that prefix, a gap
// shows a card.
func issuers() []issuer {
	var (
		only16  = digitsOf(16)
		to19    = digitsOf(16, 17, 18, 19)
		maestro = digitsOf(16, 18, 19)
		short   = digitsOf(12, 13, 14, 15, 17)
	)
	return []issuer{
		{220000, 220499, to19, 0},                          // Mir
		{222100, 272099, only16, 0},                        // Mastercard, 2-series
		{300000, 305999, digitsOf(14), digitsOf(16)},       // Diners Club
		{309500, 309599, digitsOf(14), digitsOf(16)},       // Diners Club
		{340000, 349999, digitsOf(15), 0},                  // American Express
		{352800, 358999, only16, digitsOf(17, 18, 19)},     // JCB
		{360000, 369999, digitsOf(14), digitsOf(16, 19)},   // Diners Club
		{370000, 379999, digitsOf(15), 0},                  // American Express
		{380000, 399999, digitsOf(14), digitsOf(16, 19)},   // Diners Club
		{400000, 499999, only16, digitsOf(13, 18, 19)},     // Visa, Elo
		{500000, 509999, maestro, short},                   // Maestro, Elo, Verve, RuPay, Dankort
		{510000, 559999, only16, 0},                        // Mastercard
		{560000, 589999, maestro, short},                   // Maestro
		{601100, 601199, to19, 0},                          // Discover
		{604000, 605999, only16, digitsOf(19)},             // Hipercard, Maestro
		{606985, 608500, only16, 0},                        // RuPay
		{620000, 629999, to19, 0},                          // UnionPay
		{630000, 639999, only16, short | digitsOf(18, 19)}, // Maestro, Elo, InstaPayment
		{644000, 659999, only16, digitsOf(17, 18, 19)},     // Discover, RuPay, Troy
		{670000, 679999, maestro, short},                   // Maestro, Bancontact
		{810000, 829999, only16, digitsOf(17, 18, 19)},     // UnionPay, RuPay
		{979200, 979299, only16, 0},                        // Troy
	}
}

// issuerAt returns the lengths for a number with these first six digits.
func issuerAt(six int) (plain, hinted uint32) {
	if !issuing[six/1000] {
		return 0, 0
	}
	for _, r := range cardIssuers {
		if six <= r.hi {
			if six >= r.lo {
				return r.plain, r.hinted
			}
			return 0, 0
		}
	}
	return 0, 0
}

// cardIssuers is constant data.
var cardIssuers = issuers()

// issuing has the first three digits of all that is in cardIssuers.
var issuing = func() (t [1000]bool) {
	for _, r := range cardIssuers {
		for n := r.lo / 1000; n <= r.hi/1000; n++ {
			t[n] = true
		}
	}
	return t
}()

// mayIssue tells whether cards may begin with the first three of these digits.
func mayIssue(b []byte) bool {
	return issuing[int(b[0]-'0')*100+int(b[1]-'0')*10+int(b[2]-'0')]
}

// card returns the end of the card number that begins with the first group, or 0.
// Of several it takes the longest, which hides the others too.
func (s *scanner) card(g *groups, continues bool) int {
	if g.total < 12 {
		return 0
	}
	b := s.b
	first := g.end[0] - g.start[0]
	if first > 8 && g.start[0] >= 2 && b[g.start[0]-1] == '.' && isDigit(b[g.start[0]-2]) {
		return 0 // the digits after a decimal point
	}
	var d [maxCard + 1]byte
	var cut [maxCard + 1]bool // a group ends after that many digits
	n, best := 0, 0
	var plain, hinted uint32
	for k := range g.n {
		for i := g.start[k]; i < g.end[k]; i++ {
			if n == maxCard {
				return best
			}
			d[n] = b[i] - '0'
			n++
			if n == 6 {
				six := 0
				for _, c := range d[:6] {
					six = six*10 + int(c)
				}
				if plain, hinted = issuerAt(six); plain|hinted == 0 {
					return 0
				}
			}
		}
		bit := uint32(1) << n
		if (plain|hinted)&bit != 0 && luhn(d[:n]) {
			whole := !continues && k == g.n-1 && !g.more
			form := cardForm(g, k, &cut, n, whole)
			if form == formCard && n == 12 { // three parts of four are other numbers too
				form = formNumber
			}
			if !inID(b, g, k) && !(k == 0 && s.ordinal(g.start[0])) && (form == formCard || form == formNumber && plain&bit != 0 || s.announced(g.start[0]).has(detCard)) {
				best = g.end[k]
			}
		}
		cut[n] = true
	}
	return best
}

// How much the grouping of digits looks like a card number.
const (
	formOdd    = iota // in parts that cards are not written in: only if a name says card
	formNumber        // without parts, or in equal ones: if the length is usual
	formCard          // as cards are printed, as few other numbers are
)

// cardForm judges the grouping of groups 0..k. Printed cards have parts of four,
// or of four, six and the rest. A part of six and the rest, or equal parts of up
// to four or of eight, count only if the groups are the whole run: in lists of
// numbers some neighbours always look like a card.
func cardForm(g *groups, k int, cut *[maxCard + 1]bool, n int, whole bool) int {
	if k == 0 {
		return formNumber
	}
	size := g.end[0] - g.start[0]
	fours, amex, bin, equal := true, true, true, size <= 4 || size == 8
	for c := 1; c < n; c++ {
		fours = fours && cut[c] == (c%4 == 0)
		amex = amex && cut[c] == (c == 4 || c == 10)
		bin = bin && cut[c] == (c == 6)
		equal = equal && cut[c] == (c%size == 0)
	}
	switch {
	case fours || amex:
		return formCard
	case whole && (bin || equal):
		return formNumber
	}
	return formOdd
}

// luhn checks the check digit of ISO/IEC 7812-1.
func luhn(d []byte) bool {
	sum, zero := 0, true
	for i := range d {
		c := int(d[len(d)-1-i])
		zero = zero && c == 0
		if i&1 == 1 {
			if c *= 2; c > 9 {
				c -= 9
			}
		}
		sum += c
	}
	return sum%10 == 0 && !zero
}

func contains(b []byte, s string) bool {
	for i := 0; i+len(s) <= len(b); i++ {
		if string(b[i:i+len(s)]) == s {
			return true
		}
	}
	return false
}

// ordinal tells whether the number at i stands under a name such as order_id, or
// after one in text, whose numbers pass for cards one time in ten of those that
// begin as cards do. What speaks of cards as well is none.
func (s *scanner) ordinal(i int) bool {
	if s.w == nil || s.nameHints().has(detCard) {
		return false
	}
	if i > 0 {
		return s.ordinalBefore(i)
	}
	// The name itself, or "id" in an order. An array's elements have its name.
	k := len(s.names) - 1
	for k >= 0 && s.names[k].kind == frameIndex {
		k--
	}
	if k < 0 || s.names[k].kind != frameKey {
		return false
	}
	switch of := s.names[k].info.ordinal; {
	case of&(wordOrdinal|wordOrdinalName) != 0:
		return true
	case of&wordID == 0:
		return false
	}
	for k--; k >= 0 && s.names[k].kind == frameIndex; k-- {
	}
	return k >= 0 && s.names[k].kind == frameKey && s.names[k].info.ordinal&wordOrdinalParent != 0
}

// ordinalBefore looks at the word before i, or at up to three of which the last one
// announces a number: "order_id ", "order no. ", "Invoice: ", "order #". What only
// names a thing needs a sign: people write all sorts of things after the word order.
func (s *scanner) ordinalBefore(i int) bool {
	b := s.b
	end, sign := trimBack(b, i), false
	if end > 0 && (b[end-1] == '=' || b[end-1] == ':' || b[end-1] == '#') {
		end, sign = trimBack(b, end-1), true
	}
	for words, start := 0, end; words < 3; words++ {
		var more bool
		if start, more = s.wordBefore(start, end); !more {
			break
		}
		n := s.w.name(b[start:end])
		switch {
		case n.hints.has(detCard):
			return false
		case sign && n.ordinal&wordOrdinal != 0:
			return true
		case n.ordinal&wordOrdinal != 0, sign && n.ordinal&wordOrdinalName != 0:
			return !s.announced(i).has(detCard) // nothing before it speaks of cards
		case words == 0 && n.ordinal&wordNumber == 0:
			return false
		}
	}
	return false
}
