package mask

import (
	"bytes"
	"fmt"
	"net/url"
	"strings"
	"unicode/utf8"
)

// Form masks a form in application/x-www-form-urlencoded. Field paths and key
// rules name its fields; user[password] is both the field of that name and the
// path user.password.
func (m *Masker) Form(body []byte) (out []byte, found []Finding, err error) {
	if err := checkSize(body); err != nil {
		return nil, nil, err
	}
	if !utf8.Valid(body) {
		return nil, nil, fmt.Errorf("the form is not UTF-8: %w", ErrInvalid)
	}
	w := m.walker()
	defer w.done()
	v := w.arrive(verdict{})
	for i := 0; i <= len(body); {
		end := len(body)
		if n := bytes.IndexByte(body[i:], '&'); n >= 0 {
			end = i + n
		}
		if err := w.field(body, i, end, v); err != nil {
			return nil, nil, err
		}
		i = end + 1
	}
	out, err = w.finish(body)
	return out, w.findings, err
}

const percentSigns = "%+"

// field masks the field that stands at body[start:end].
func (w *walker) field(body []byte, start, end int, v verdict) error {
	eq := bytes.IndexByte(body[start:end], '=')
	if eq < 0 { // a name alone, or a value
		return w.value(body, start, end, v, percentSigns, percent, encodePercent)
	}
	var name gathered
	name.add(body, start, start+eq, percentSigns, percent)
	if err := w.value(body, start, start+eq, verdict{}, percentSigns, percent, encodePercent); err != nil {
		return err
	}
	base, mark, live := len(w.stack), w.mark(), w.cur
	defer func() {
		w.stack = w.stack[:base]
		w.cur = live
		w.leave(mark)
	}()
	w.push()
	inner := w.enterName(live, v, -1, string(name.b))
	if path := brackets(string(name.b)); len(path) > 1 {
		at, nested := live, v
		for i, key := range path {
			if i > 0 {
				w.push()
			}
			nested = w.enterName(at, nested, -1, key)
			at = w.cur
		}
		inner = w.m.stricterVerdict(inner, nested)
	}
	return w.value(body, start+eq+1, end, inner, percentSigns, percent, encodePercent)
}

// brackets reads a[b][c] as a, b, c.
func brackets(name string) []string {
	return strings.FieldsFunc(name, func(r rune) bool { return r == '[' || r == ']' })
}

func encodePercent(repl []byte) []byte { return []byte(url.QueryEscape(string(repl))) }
