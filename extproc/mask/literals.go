package mask

// literals finds which of many short texts stand in a view. Each is known by its
// rarest byte, its anchor: only there are the three bytes up to it, or from it on,
// looked up in a table of hashes, and only on a hit are texts compared. Letters
// are looked up without their case, so that one table serves both kinds of text.
type literals struct {
	list   []literal
	upto   [8192]uint16      // by the hash of the anchor and what is before it: 1 + index into chains
	from   [8192]uint16      // of the anchor and what follows
	bits   [8192 / 32]uint32 // of both that are set: most lookups end here
	chains [][]uint16
	anchor [256]byteClass // classUpto and classFrom
}

// literal is a text of at least three bytes.
type literal struct {
	text string // in lower case with fold
	fold bool   // the case of letters doesn't count
	at   int    // of the anchor
	rule int    // what it belongs to
}

// rarity orders bytes by how little it costs to look at each of them: the
// greater, the better an anchor.
func rarity(c byte) int {
	switch {
	case c == ' ':
		return 0
	case isDigit(c):
		return 1
	case c >= 'A' && c <= 'Z':
		return 40 + letterRarity(c|0x20)
	case isLetter(c):
		return letterRarity(c)
	case c == '-', c == '_', c == ':', c == '.':
		return 22 // not rare, but one of them costs as much as all that have it
	}
	return 30
}

func letterRarity(c byte) int {
	const byFrequency = "etaoinsrhldcumfpgwybvkxjqz"
	for i := range byFrequency {
		if byFrequency[i] == c {
			return i
		}
	}
	return 0
}

func trigram(a, b, c byte) uint32 {
	return (uint32(a|0x20) | uint32(b|0x20)<<8 | uint32(c|0x20)<<16) * 0x9E3779B1 >> 19
}

// add takes a text in. The rule is told by the index that it is given.
func (t *literals) add(text string, fold bool, rule int) {
	l := literal{text: text, fold: fold, rule: rule}
	if fold {
		l.text = string(keep([]byte(text), func(byte) bool { return true }, 'a'))
	}
	best := -1
	for i := range len(text) {
		if i < 2 && i > len(text)-3 {
			continue // the window of three bytes would reach beyond the text
		}
		r := rarity(l.text[i])
		if fold && isLetter(l.text[i]) {
			r = letterRarity(l.text[i])
		}
		if r > best {
			best, l.at = r, i
		}
	}
	table, w, side := &t.from, l.at, classFrom
	if l.at >= 2 {
		table, w, side = &t.upto, l.at-2, classUpto
	}
	c := l.text[l.at]
	t.anchor[c] |= side
	if fold && isLetter(c) {
		t.anchor[c&^0x20] |= side
	}
	slot := &table[trigram(l.text[w], l.text[w+1], l.text[w+2])]
	if *slot == 0 {
		h := trigram(l.text[w], l.text[w+1], l.text[w+2])
		t.bits[h/32] |= 1 << (h % 32)
		t.chains = append(t.chains, nil)
		*slot = uint16(len(t.chains))
	}
	chain := &t.chains[*slot-1]
	*chain = append(*chain, uint16(len(t.list)))
	t.list = append(t.list, l)
}

// candidates are the chains of texts whose anchor may be b[i].
func (t *literals) candidates(b []byte, i int) (upto, from []uint16) {
	if i >= 2 {
		if n := t.upto[trigram(b[i-2], b[i-1], b[i])]; n != 0 {
			upto = t.chains[n-1]
		}
	}
	if i+2 < len(b) {
		if n := t.from[trigram(b[i], b[i+1], b[i+2])]; n != 0 {
			from = t.chains[n-1]
		}
	}
	return upto, from
}

// some tells whether some text stands around its anchor at b[i].
func (t *literals) some(b []byte, i int) bool {
	upto, from := t.candidates(b, i)
	for _, chain := range [2][]uint16{upto, from} {
		for _, n := range chain {
			if _, ok := t.list[n].stands(b, i); ok {
				return true
			}
		}
	}
	return false
}

// stands tells whether the text stands around its anchor at b[i], and where it
// begins.
func (l *literal) stands(b []byte, i int) (at int, ok bool) {
	at = i - l.at
	if at < 0 || at+len(l.text) > len(b) {
		return 0, false
	}
	w := b[at : at+len(l.text)]
	if !l.fold {
		return at, string(w) == l.text
	}
	for k, c := range w {
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		if c != l.text[k] {
			return 0, false
		}
	}
	return at, true
}
