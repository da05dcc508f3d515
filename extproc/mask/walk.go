package mask

import (
	"bytes"
	"errors"
	"fmt"
	"hash/maphash"
	"math"
	"slices"
)

// walker holds the state of one call to the masker: where it is in the body,
// which path rules are alive there, what it has found and what it will change.
// It is used once, by one goroutine.
type walker struct {
	m        *Masker
	findings []Finding
	last     int // index of the finding counted last

	scratch
	kept *scratch // where it goes when the call is over

	cur    liveStates
	level  int     // JSON in strings around here
	joins  bool    // pieces of longer texts are left to be searched together
	pieces []piece // found in the event

	scan scanner
	prev uint16 // the slot of the last member's name

	analyzed map[string][]match // what analyzers said, by text
	fault    error              // an analyzer could not say: withhold the response
}

// scratch is memory that calls hand on to each other.
type scratch struct {
	names   *nameCache
	edits   []edit  // of the text being walked, in its coordinates
	states  []int   // live path states, a stretch per depth
	stack   []frame // names from the body's root to here
	spare   [][]container
	decoded []view // by level
	folded  view
	path    []byte
}

// liveStates is the stretch of walker.states that holds the path states alive at
// a value: what its members' names continue.
type liveStates struct{ from, to int }

// frame is one name on the way from the root.
type frame struct {
	info  *nameInfo // a member's name, and what it says
	kind  frameKind
	guard bool // the name itself was masked, or is not to be shown
}

type frameKind uint8

const (
	frameNone frameKind = iota // inside a container, before its first element
	frameKey
	frameIndex
	frameNested // a document in a string begins here
)

func (m *Masker) walker() *walker {
	kept, _ := m.scratch.Get().(*scratch)
	if kept == nil {
		kept = &scratch{names: &nameCache{seed: maphash.MakeSeed()}, spare: [][]container{make([]container, 0, 8)}}
	}
	w := &walker{m: m, scratch: *kept, kept: kept}
	w.scan.e, w.scan.w = &m.det, w
	w.states = append(w.states[:0], m.paths.init...)
	w.reset()
	return w
}

// done gives back what other calls can use. The walker can't walk any more, but has
// its findings.
func (w *walker) done() {
	const most = 64 << 10 // of a buffer that is kept
	clear(w.edits)
	if cap(w.edits) > most/64 {
		w.edits = nil
	}
	clear(w.stack[:cap(w.stack)])
	for i := range w.decoded {
		if cap(w.decoded[i].b) > most {
			w.decoded[i] = view{}
		}
	}
	if cap(w.folded.b) > most {
		w.folded = view{}
	}
	*w.kept = w.scratch
	w.m.scratch.Put(w.kept)
	w.scratch, w.kept, w.scan = scratch{}, nil, scanner{}
}

// reset makes the walker ready for another body whose findings add to the same list.
func (w *walker) reset() {
	w.edits, w.stack, w.states = w.edits[:0], w.stack[:0], w.states[:len(w.m.paths.init)]
	w.cur = liveStates{0, len(w.states)}
}

func (w *walker) push() { w.stack = append(w.stack, frame{}) }
func (w *walker) pop()  { w.stack = w.stack[:len(w.stack)-1] }

// mark and leave bracket the walk of one member or element.
func (w *walker) mark() int      { return len(w.states) }
func (w *walker) leave(mark int) { w.states = w.states[:mark] }
func (w *walker) live() liveStates {
	return w.cur
}

// enterKey moves to the member of c whose name is src[from:to]: the name is
// searched by the detectors, and c.inner becomes the verdict on the value.
// info is what the name says, where that is known.
func (w *walker) enterKey(d *doc, from, to int, info *nameInfo, c *container) {
	key := d.src[from:to]
	var at viewMap
	if d.odd&oddEscape != 0 {
		var kv view // names with escapes are rare, and outlive the shared buffers
		kv.unescape(key)
		key, at = kv.b, kv.at
	}
	if info == nil {
		info = w.member(key)
	}
	if d.long != nil {
		key = info.raw // the window moves on
	}
	top := &w.stack[len(w.stack)-1]
	*top = frame{info: info, kind: frameKey, guard: true} // a finding in the name must not show it
	hit := false
	if !info.clean && (!w.m.det.any || len(key) < minMatch) {
		info.clean = true
	}
	if !info.clean {
		// A name that announces a secret is no assignment, and has no names around it.
		n := len(w.edits)
		w.text(key, at, from, true, false)
		hit = len(w.edits) > n
		info.clean = !hit
	}
	top.guard = hit

	w.step(c, key, info.inPaths || len(w.m.aliases) > 0)
	if r := info.rule; r >= 0 {
		c.inner = w.m.stricterVerdict(c.inner, w.m.by(r, detKeyword))
	}
	if len(w.m.aliases) > 0 {
		c.inner = w.enterAlias(w.m.aliases[string(key)], c.live, c.inner)
	}
}

// step moves to a member (key) or element (no key) of c. All that no path names
// lead to the same states, which are worked out once for the container.
func (w *walker) step(c *container, key []byte, named bool) {
	switch {
	case len(w.m.paths.steps) == 0:
		c.mark = len(w.states)
	case c.live.from == c.live.to: // no path leads here
		c.mark = len(w.states)
		w.cur, c.inner.is = liveStates{c.mark, c.mark}, 0
	case named:
		c.mark = len(w.states)
		c.inner = w.advance(c.live, key, c.n, c.inner)
	default:
		if !c.shared {
			c.shared = true
			c.restV = w.advance(c.live, key, c.n, c.v)
			c.rest = w.cur
		}
		w.cur, c.inner, c.mark = c.rest, c.restV, len(w.states)
	}
}

// enterAlias moves to a member also by the names that its name is an alias of.
func (w *walker) enterAlias(names []string, live liveStates, v verdict) verdict {
	for _, name := range names {
		if len(w.m.paths.steps) > 0 {
			w.states = w.m.paths.advance(w.states, live.from, live.to, []byte(name), 0)
			w.cur.to = len(w.states)
			v = w.arrive(v)
		}
		info := *w.name([]byte(name))
		info.raw = w.stack[len(w.stack)-1].info.raw // findings have the name as it stands
		w.stack[len(w.stack)-1].info = &info
		if r := info.rule; r >= 0 {
			v = w.m.stricterVerdict(v, w.m.by(r, detKeyword))
		}
	}
	return v
}

// Renamed returns a masker for a body whose members may have other names than the
// rules have for them, as GraphQL's aliases are: by such a name, those it may
// stand for.
func (m *Masker) Renamed(aliases map[string][]string) *Masker {
	if len(aliases) == 0 {
		return m
	}
	renamed := *m
	renamed.aliases = aliases
	return &renamed
}

// leaf is the verdict on a string or number: what its name makes of it counts too.
func (w *walker) leaf(v verdict) verdict {
	k := len(w.stack) - 1
	if k < 0 || w.stack[k].kind == frameKey && !w.stack[k].info.leafy {
		return v // the usual case
	}
	if w.m.det.on&byNameOnly == 0 {
		return v
	}
	for k >= 0 && w.stack[k].kind == frameIndex {
		k--
	}
	if k < 0 || w.stack[k].kind != frameKey {
		return v
	}
	info := w.stack[k].info
	det := info.byName
	if info.bare {
		for k--; k >= 0 && w.stack[k].kind == frameIndex; k-- {
		}
		if k >= 0 && w.stack[k].kind == frameKey && w.stack[k].info.person {
			det = detPerson
		}
	}
	if det == detCount {
		return v
	}
	r := w.m.detRule[det]
	return w.m.stricterVerdict(v, w.m.by(r, det))
}

// enterIndex moves to an array element.
func (w *walker) enterIndex(n int, live liveStates, v verdict) verdict {
	w.stack[len(w.stack)-1] = frame{kind: frameIndex}
	return w.advance(live, nil, n, v)
}

// advance makes the states that live reach over one name the current ones.
func (w *walker) advance(live liveStates, key []byte, index int, v verdict) verdict {
	if len(w.m.paths.steps) == 0 {
		return v
	}
	from := len(w.states)
	w.states = w.m.paths.advance(w.states, live.from, live.to, key, index)
	w.cur = liveStates{from, len(w.states)}
	return w.arrive(v)
}

// arrive applies the paths that end at the current states.
func (w *walker) arrive(v verdict) verdict {
	root := false
	v.is = 0
	for _, s := range w.states[w.cur.from:w.cur.to] {
		st := &w.m.paths.steps[s]
		switch {
		case st.kind != stepDone:
		case st.rule == rootRule:
			root = true
		case st.rule == blobRule:
			v.is |= isBlob
		case st.rule == deltaRule:
			v.is |= isDelta
		default:
			v = w.m.stricterVerdict(v, w.m.by(st.rule, detPath))
		}
	}
	if root {
		v = w.restart(v)
	}
	return v
}

// restart lets the paths begin anew at the current value, beside those that are
// under way: the function's own document begins here.
func (w *walker) restart(v verdict) verdict {
	for _, s := range w.m.paths.start {
		w.states = w.m.paths.reach(w.states, w.cur.from, s)
	}
	w.cur.to = len(w.states)
	for _, s := range w.m.paths.init {
		if st := &w.m.paths.steps[s]; st.kind == stepDone && st.rule >= 0 { // the path $
			v = w.m.stricterVerdict(v, w.m.by(st.rule, detPath))
		}
	}
	return v
}

func (m *Masker) stricterVerdict(a, b verdict) verdict {
	b.is = a.is
	if b.how > a.how || b.how == a.how && b.rule < a.rule {
		return b
	}
	return a
}

func (w *walker) rule(f match) int {
	if f.det >= detCount {
		return f.rule
	}
	return w.m.detRule[f.det]
}

func (w *walker) ruleHow(f match) how { return w.m.hows[w.rule(f)] }

// plainString masks the string text, which is at base, if that is the usual case,
// and reports whether it was: no rule says anything of the string, its bytes stand
// for themselves, and it is no document.
func (w *walker) plainString(text []byte, base int, odd oddities, v verdict) bool {
	if v != (verdict{}) || !odd.plain() || w.m.det.custom != nil {
		return false
	}
	k := len(w.stack) - 1
	for k >= 0 && w.stack[k].kind == frameIndex {
		k--
	}
	if k >= 0 && w.stack[k].kind == frameKey && !w.stack[k].info.quiet {
		return false
	}
	if len(text) > 0 && (text[0] <= ' ' || text[0] == '{' || text[0] == '[') || odd&oddNoBase64 == 0 && base64Opens(text) {
		return false
	}
	if odd.none() || len(text) < minMatch && !w.m.det.short {
		return true
	}
	w.scan.names, w.scan.values = w.stack, true
	if w.scan.nothingInUUID(text) {
		return true
	}
	w.scan.pass(text)
	if len(w.scan.matches) > 0 {
		w.hideFound(text, nil, nil, base, true, true)
	}
	return true
}

// stringValue masks the string whose content is src[from:to].
func (w *walker) stringValue(d *doc, from, to int, odd oddities, live liveStates, v verdict) error {
	text := d.src[from:to]
	var at viewMap
	if odd&oddEscape != 0 {
		for len(w.decoded) <= w.level {
			w.decoded = append(w.decoded, view{})
		}
		dv := &w.decoded[w.level]
		dv.unescape(text)
		text, at = dv.b, dv.at
	}
	if len(text) > 0 {
		v = w.leaf(v)
	}
	if v.how != howNone {
		w.hideWhole(from-1, to+1, text, v)
		return nil
	}
	if v.is&isDelta != 0 && w.joins && w.level == 0 && len(text) > 0 {
		w.path = w.appendPath(w.path[:0])
		w.pieces = append(w.pieces, piece{channel: string(w.path), text: bytes.Clone(text), at: slices.Clone(at), start: from, end: to})
		return nil
	}
	if v.is&isBlob != 0 && len(text) > 0 {
		if plain, enc := plainText(text); enc == nil || len(plain) == 0 {
			w.hideBlob(from-1, to+1)
			return nil
		}
	}
	if len(text) < minMatch && !w.m.hasPaths && !w.m.det.short {
		return nil
	}
	if looksJSON(text) {
		done, err := w.nested(text, at, from, live, true)
		if done || err != nil {
			return err
		}
	}
	if odd&(oddNoBase64|oddEscape) != oddNoBase64 {
		if done, err := w.encoded(text, at, from, live); done || err != nil {
			return err
		}
	}
	if odd.none() && w.m.det.custom == nil && !w.telling() {
		return nil
	}
	if odd.plain() {
		w.hideMatches(text, nil, nil, from, true, true)
		return nil
	}
	w.text(text, at, from, true, true)
	return nil
}

// telling tells whether the name of the value tells that it may be a secret
// whatever it looks like.
func (w *walker) telling() bool {
	if len(w.stack) == 0 {
		return false
	}
	f := &w.stack[len(w.stack)-1]
	return f.kind == frameKey && (f.info.telling || f.info.secrets != nil)
}

// hideBlob replaces a file that is no text, which can't be searched.
func (w *walker) hideBlob(from, to int) {
	w.edits = append(w.edits, edit{from, to, []byte(`"` + hidden + `"`), typeBinary})
	w.report(0, typeBinary, "")
}

// nested walks text as a JSON document that a string holds, and reports whether
// it is settled. Edits are mapped back to the bytes that begin at base, which are
// the inside of a JSON string or else the plain text.
func (w *walker) nested(text []byte, at viewMap, base int, live liveStates, inJSON bool) (done bool, err error) {
	if w.level >= w.m.maxNested {
		return false, fmt.Errorf("json in strings is nested more than %d times: %w", w.m.maxNested, ErrTooDeep)
	}
	states, cur := len(w.states), w.cur
	// The paths under way go on inside, and all begin anew.
	w.cur.from = len(w.states)
	w.states = append(w.states, w.states[live.from:live.to]...)
	v := w.restart(verdict{})

	w.stack = append(w.stack, frame{kind: frameNested})
	w.level++
	inner, done, err := w.attempt(text, v)
	w.level--
	w.stack = w.stack[:len(w.stack)-1]
	w.states, w.cur = w.states[:states], cur

	if err != nil {
		return false, err
	}
	if done {
		w.adopt(inner, at, base, inJSON)
		return true, nil
	}
	if w.m.hasPaths && claimsJSON(text) {
		// Cut off or broken, and paths may name a part of it.
		w.adopt([]edit{{0, len(text), []byte(hidden), typeUnreadable}}, at, base, inJSON)
		w.report(w.m.pathRule, typeUnreadable, "")
		return true, nil
	}
	return false, nil
}

// attempt walks text as a document at the current states, and returns its edits.
// Text that is not JSON leaves no trace; only other errors are errors.
func (w *walker) attempt(text []byte, v verdict) (edits []edit, ok bool, err error) {
	outer, found, depth, pieces := w.edits, slices.Clone(w.findings), len(w.stack), len(w.pieces)
	w.edits = nil
	d := doc{w: w, src: text}
	err = d.parse(w.cur, v)
	edits, w.edits = w.edits, outer
	if errors.Is(err, ErrInvalid) {
		w.findings, w.stack, w.pieces = found, w.stack[:depth], w.pieces[:pieces]
		return nil, false, nil
	}
	return edits, err == nil, err
}

// adopt takes over edits of a text that at maps to the bytes which begin at base.
func (w *walker) adopt(edits []edit, at viewMap, base int, inJSON bool) {
	for _, e := range edits {
		if inJSON {
			e.repl = quote(e.repl)
		}
		w.edits = append(w.edits, edit{base + at.start(e.start), base + at.end(e.end), e.repl, e.kind})
	}
}

// text runs the detectors over one text. at maps it to the bytes that begin at
// base; inJSON tells that those are inside a JSON string. values is false for a
// member's name, which assigns nothing and is announced by nothing.
func (w *walker) text(text []byte, at viewMap, base int, inJSON, values bool) {
	if !w.m.det.any && (len(w.m.keys) == 0 || !values) {
		return
	}
	view, fold := w.folded.fold(text)
	w.hideMatches(view, fold, at, base, inJSON, values)
}

// hideMatches runs the detectors over a view that fold maps to the text.
func (w *walker) hideMatches(view []byte, fold, at viewMap, base int, inJSON, values bool) {
	if len(w.matches(view, values)) > 0 {
		w.hideFound(view, fold, at, base, inJSON, values)
	}
}

// hideFound hides what the scan has found.
func (w *walker) hideFound(view []byte, fold, at viewMap, base int, inJSON, values bool) {
	for _, f := range w.scan.matches {
		h := w.ruleHow(f)
		if h == howDrop && !values {
			h = howRedact
		}
		repl := w.m.conceal(h, f, view[f.start:f.end])
		if inJSON {
			repl = quote(repl)
		}
		start, end := fold.start(f.start), fold.end(f.end)
		w.edits = append(w.edits, edit{base + at.start(start), base + at.end(end), repl, f.kind()})
		w.report(w.rule(f), f.kind(), f.detail)
	}
}

// matches scans a view with the names around it as hints.
func (w *walker) matches(view []byte, values bool) []match {
	w.scan.names, w.scan.values = nil, values
	if values {
		w.scan.names = w.stack
	}
	found := w.scan.scan(view)
	if t := w.m.det.custom; values && t != nil && t.asks() {
		w.analyze(view)
		found = w.scan.matches
	}
	return found
}

// numberValue masks the number src[from:to]: what takes its place is a string.
func (w *walker) numberValue(src []byte, from, to int, v verdict) {
	text := src[from:to]
	if v = w.leaf(v); v.how != howNone {
		w.hideWhole(from, to, text, v)
		return
	}
	if w.m.det.on&ofDigits == 0 && !w.m.det.any || to-from < 6 {
		return
	}
	if text = integer(text); len(text) > maxCard || len(text) < 7 || w.plainNumber(text) {
		return
	}
	// A number has no leading zeros; a personal number may.
	for zeros := 0; zeros <= 2; zeros++ {
		if zeros > 0 {
			if len(text)+1 > 14 || w.scan.nameHints()&w.m.det.on&(allNational|setOf(detSSN)) == 0 {
				return
			}
			text = append([]byte("0"), text...)
		}
		for _, f := range w.matches(text, true) {
			if f.start != 0 || f.end != len(text) || zeros > 0 && !allNational.has(f.det) && f.det != detSSN {
				continue
			}
			repl := []byte("null")
			if h := w.ruleHow(f); h != howDrop {
				repl = quoted(w.m.conceal(h, f, text))
			}
			w.edits = append(w.edits, edit{from, to, repl, f.kind()})
			w.report(w.rule(f), f.kind(), f.detail)
			return
		}
	}
}

// plainNumber tells that a number of seven digits and more is none of those that
// are known by their digits alone, and that no name says more of it.
func (w *walker) plainNumber(text []byte) bool {
	if w.m.det.custom != nil || len(w.m.det.regions) > 0 || nationalForms.some(text, 0, len(text)) || len(w.stack) == 0 {
		return false
	}
	if len(text) >= 12 && mayIssue(text) {
		return false
	}
	if f := &w.stack[len(w.stack)-1]; f.kind == frameKey && !f.info.quiet {
		return false
	}
	w.scan.names, w.scan.known = w.stack, false
	return w.scan.nameHints() == 0
}

// integer returns the digits of a number without its sign, also of one that is
// written as 4.1e15 or 41.0, and nil if it has a fraction or more than 24 digits.
func integer(n []byte) []byte {
	i := 0
	for i < len(n) && isDigit(n[i]) {
		i++
	}
	if i == len(n) {
		return n
	}
	if n[i] == '.' { // mostly a price: a fraction, and no exponent
		k, zeros := i+1, true
		for k < len(n) && isDigit(n[k]) {
			zeros = zeros && n[k] == '0'
			k++
		}
		if k == len(n) && !zeros {
			return nil
		}
	}
	n = bytes.TrimPrefix(n, []byte("-"))
	exp := 0
	if e := bytes.IndexAny(n, "eE"); e >= 0 {
		neg := false
		for _, c := range n[e+1:] {
			if isDigit(c) {
				exp = min(exp*10+int(c-'0'), math.MaxInt16)
			}
			neg = neg || c == '-'
		}
		if neg {
			exp = -exp
		}
		n = n[:e]
	}
	whole, frac, _ := bytes.Cut(n, []byte("."))
	if exp == 0 {
		for _, c := range frac {
			if c != '0' {
				return nil
			}
		}
		return whole
	}
	all := append(append([]byte(nil), whole...), frac...)
	point := len(whole) + exp
	if point <= 0 || point > 24 {
		return nil
	}
	for len(all) < point {
		all = append(all, '0')
	}
	if len(bytes.Trim(all[point:], "0")) > 0 {
		return nil
	}
	return bytes.TrimLeft(all[:point], "0")
}

func quoted(text []byte) []byte {
	out := append([]byte{'"'}, quote(text)...)
	return append(out, '"')
}

// hideWhole replaces a value by the verdict. text is the value decoded, nil for
// an object or array.
func (w *walker) hideWhole(from, to int, text []byte, v verdict) {
	var repl []byte
	switch h := v.how; {
	case h == howDrop:
		repl = []byte("null") // the document itself: nothing around it to cut it from
	case h == howPartial && w.exposes(text):
		repl = quoted([]byte(hidden))
	default:
		repl = quoted(w.m.concealWhole(h, text))
	}
	w.edits = append(w.edits, edit{from, to, repl, v.kind()})
	w.report(int(v.rule), v.kind(), "")
}

// exposes tells whether the last four characters of a value belong to something
// that a detector's rule hides more strictly.
func (w *walker) exposes(text []byte) bool {
	if !w.m.det.any {
		return false
	}
	view, _ := w.folded.fold(text)
	for _, f := range w.matches(view, true) {
		if w.ruleHow(f) > howPartial {
			return true
		}
	}
	return false
}
