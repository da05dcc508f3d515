package mask

import "hash/maphash"

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
	const most = 128 << 10 // bytes of a buffer that is kept
	clear(w.edits)
	if cap(w.edits) > most/64 {
		w.edits = nil
	}
	clear(w.stack[:cap(w.stack)])
	for i := range w.decoded {
		w.decoded[i].shrink(most)
	}
	w.folded.shrink(most)
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
