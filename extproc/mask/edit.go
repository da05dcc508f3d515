package mask

import (
	"cmp"
	"slices"
	"sort"
)

// edit replaces src[start:end] by repl.
type edit struct {
	start, end int
	repl       []byte
	kind       string // what stood there, as findings call it
}

// apply returns src with the edits done; they are ascending and don't overlap.
// Without edits it returns src itself.
func apply(src []byte, edits []edit) []byte {
	if len(edits) == 0 {
		return src
	}
	n := len(src)
	for _, e := range edits {
		n += len(e.repl) - (e.end - e.start)
	}
	out := make([]byte, 0, n)
	last := 0
	for _, e := range edits {
		out = append(out, src[last:e.start]...)
		out = append(out, e.repl...)
		last = e.end
	}
	return append(out, src[last:]...)
}

// untangle sorts edits and merges overlapping ones: the union is replaced by the
// first one's text. Only event streams need it, where edits of the joined data
// and of the lines between can interleave.
func untangle(edits []edit) []edit {
	if len(edits) < 2 {
		return edits
	}
	slices.SortStableFunc(edits, func(a, b edit) int { return cmp.Compare(a.start, b.start) })
	out := edits[:0]
	for _, e := range edits {
		if n := len(out); n > 0 && e.start < out[n-1].end {
			out[n-1].end = max(out[n-1].end, e.end)
			continue
		}
		out = append(out, e)
	}
	return out
}

// seg is a character of a view, vn bytes at v, that was written differently: with
// sn bytes at s. With vn == 0 they left no trace in the view.
type seg struct {
	v, s, vn, sn int32
}

const segSize = 16 // bytes

// viewMap maps ranges of a view back to the bytes it was made of. It lists, in
// ascending order, only what differs; all bytes between stand for themselves. The
// nil map is identity.
type viewMap []seg

// start maps the start of a range; v is within the view.
func (m viewMap) start(v int) int {
	i := sort.Search(len(m), func(i int) bool { return int(m[i].v) > v }) - 1
	if i < 0 {
		return v
	}
	g := m[i]
	if v < int(g.v+g.vn) {
		return int(g.s)
	}
	return int(g.s+g.sn) + v - int(g.v+g.vn)
}

// end maps the end of a range that is not empty.
func (m viewMap) end(v int) int {
	i := sort.Search(len(m), func(i int) bool { return int(m[i].v) >= v }) - 1
	if i < 0 {
		return v
	}
	g := m[i]
	if v <= int(g.v+g.vn) {
		return int(g.s + g.sn)
	}
	return int(g.s+g.sn) + v - int(g.v+g.vn)
}
