package mask

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
)

// JSON masks a body that is one JSON document, JSON-RPC and MCP messages
// included: strings that hold JSON are walked as documents of their own, others
// are searched as text. Where nothing is hidden, out is body itself. On an error
// (ErrInvalid, ErrTooDeep, ErrTooLarge) there is no output: withhold the response.
func (m *Masker) JSON(body []byte) (out []byte, found []Finding, err error) {
	if err := checkSize(body); err != nil {
		return nil, nil, err
	}
	// RFC 8259 lets readers skip a byte order mark, and they do.
	text := bytes.TrimPrefix(body, []byte("\xEF\xBB\xBF"))
	w := m.walker()
	defer w.done()
	w.ahead(text)
	if err := cmp.Or(w.document(text), w.fault); err != nil {
		return nil, nil, err
	}
	if len(w.edits) == 0 {
		return body, w.findings, nil
	}
	mark := len(body) - len(text)
	for i := range w.edits {
		w.edits[i].start += mark
		w.edits[i].end += mark
	}
	return apply(body, w.edits), w.findings, nil
}

// document walks a body's JSON document.
func (w *walker) document(text []byte) error {
	d := doc{w: w, src: text}
	v := w.arrive(verdict{})
	return d.parse(w.cur, v)
}

// Text masks a body of any textual type. What turns out to be JSON, whatever
// it was declared as, is masked as JSON. In other text the last names of field
// paths count as keys, but JSON that is cut off is refused where there are paths. On
// an error (ErrInvalid, ErrTooDeep, ErrTooLarge) withhold the response.
func (m *Masker) Text(body []byte) (out []byte, found []Finding, err error) {
	if err := checkSize(body); err != nil {
		return nil, nil, err
	}
	if bytes.HasPrefix(body, []byte("\xFF\xFE")) || bytes.HasPrefix(body, []byte("\xFE\xFF")) {
		return nil, nil, fmt.Errorf("text is UTF-16, only UTF-8 can be masked: %w", ErrInvalid)
	}
	w := m.walker()
	defer func() { w.done() }()
	done, err := w.asJSON(body, nil, 0)
	if err == nil && !done {
		w = w.leaveFields()
		w.text(body, nil, 0, false, true)
	}
	if err = cmp.Or(err, w.fault); err != nil {
		return nil, nil, err
	}
	return apply(body, w.edits), w.findings, nil
}

// Find tells what of a text would be hidden, in the order of the text: for
// measuring how good that is. Spans count bytes, and have the type of a finding.
func (m *Masker) Find(text []byte) ([]Span, error) {
	if err := checkSize(text); err != nil {
		return nil, err
	}
	w := m.walker()
	defer w.done()
	if err := cmp.Or(w.anything(text, nil, 0), w.fault); err != nil {
		return nil, err
	}
	out := make([]Span, len(w.edits))
	for i, e := range w.edits {
		out[i] = Span{e.start, e.end, e.kind}
	}
	return out, nil
}

// anything masks text that may or may not be JSON, and that at maps to the bytes
// which begin at base.
func (w *walker) anything(text []byte, at viewMap, base int) error {
	if done, err := w.asJSON(text, at, base); done || err != nil {
		return err
	}
	w.text(text, at, base, false, true)
	return nil
}

// asJSON masks text if it is JSON, and reports whether it was.
func (w *walker) asJSON(text []byte, at viewMap, base int) (bool, error) {
	if !looksJSON(text) {
		return false, nil
	}
	edits, ok, err := w.attempt(text, w.arrive(verdict{}))
	if err != nil {
		return false, err
	}
	if ok {
		w.adopt(edits, at, base, false)
		return true, nil
	}
	if w.m.hasPaths && claimsJSON(text) {
		return false, fmt.Errorf("begins like json but is not, and field paths may name a part of it: %w", ErrInvalid)
	}
	return false, nil
}

// String masks one string that the caller has found at the given path, for
// messages that the caller walks itself, such as gRPC's. The path is concrete:
// names and indexes as in [Rule].Paths, without wildcards. An error means that
// the path can't be read or the string is nested too deeply: withhold the value.
func (m *Masker) String(path, s string) (string, []Finding, error) {
	if len(s) > math.MaxInt32 {
		return "", nil, fmt.Errorf("string of %d bytes: %w", len(s), ErrTooLarge)
	}
	w := m.walker()
	defer w.done()
	v, err := w.goTo(path)
	if err != nil {
		return "", nil, err
	}
	text := []byte(s)
	if len(text) > 0 {
		v = w.leaf(v)
	}
	switch v.how {
	case howNone:
		if looksJSON(text) {
			done, err := w.nested(text, nil, 0, w.cur, false)
			if err = cmp.Or(err, w.fault); err != nil {
				return "", nil, err
			}
			if done {
				return string(apply(text, w.edits)), w.findings, nil
			}
		}
		done, err := w.encoded(text, nil, 0, w.cur)
		if err == nil && !done {
			w.text(text, nil, 0, false, true)
		}
		if err := cmp.Or(err, w.fault); err != nil {
			return "", nil, err
		}
		return string(apply(text, w.edits)), w.findings, nil
	case howDrop:
		s = ""
	case howPartial:
		if s = hidden; !w.exposes(text) {
			s = string(m.concealWhole(v.how, text))
		}
	default:
		s = string(m.concealWhole(v.how, text))
	}
	w.report(int(v.rule), v.kind(), "")
	return s, w.findings, w.fault
}

// Field tells whether a path or key rule hides the field at a path, whatever is
// in it: how is the rule's How, found what to report once it is hidden. A caller
// that walks messages itself asks it for numbers and for whole messages; a
// message for which how is Partial or Hash is walked on, its leaves hidden.
func (m *Masker) Field(path string) (how string, found Finding, hides bool, err error) {
	w := m.walker()
	defer w.done()
	v, err := w.goTo(path)
	if err != nil || v.how == howNone {
		return "", Finding{}, false, err
	}
	w.report(int(v.rule), v.kind(), "")
	return [...]string{howPartial: Partial, howToken: Token, howHash: Hash, howRedact: Redact, howDrop: Drop}[v.how], w.findings[0], true, nil
}

// goTo moves a new walker to a concrete path. What hides a field around it also
// hides the field.
func (w *walker) goTo(path string) (verdict, error) {
	v := w.arrive(verdict{})
	if path == "" {
		return v, nil
	}
	steps, err := parsePath(path)
	if err != nil {
		return v, fmt.Errorf("path %q: %w", path, err)
	}
	for _, s := range steps {
		w.push()
		switch s.kind {
		case stepKey:
			key := []byte(s.key)
			info := w.name(key)
			w.stack[len(w.stack)-1] = frame{info: info, kind: frameKey}
			v = w.advance(w.cur, key, 0, v)
			if r := info.rule; r >= 0 {
				v = w.m.stricterVerdict(v, w.m.by(r, detKeyword))
			}
		case stepIndex:
			v = w.enterIndex(s.index, w.cur, v)
		default:
			return v, fmt.Errorf("path %q: a wildcard where a concrete name or index should be", path)
		}
	}
	return v, nil
}

func checkSize(b []byte) error {
	if len(b) > math.MaxInt32 {
		return fmt.Errorf("body of %d bytes: %w", len(b), ErrTooLarge)
	}
	return nil
}
