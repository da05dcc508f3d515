package mask

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
)

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
	if len(text) > 0 && (text[0] <= ' ' || text[0] == '{' || text[0] == '[' || text[0] == 'd' && dataURL(text) > 0) || odd&oddNoBase64 == 0 && base64Opens(text) {
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
	if odd&(oddNoBase64|oddEscape) != oddNoBase64 || dataURL(text) > 0 {
		if done, err := w.encodedIn(text, at, from, live); done || err != nil {
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
