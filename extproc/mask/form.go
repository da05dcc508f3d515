package mask

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"unicode/utf8"
)

// Form masks a form in application/x-www-form-urlencoded. Field paths and key
// rules name its fields; user[password] is both the field of that name and the
// path user.password.
func (m *Masker) Form(body []byte) (out []byte, found []Finding, err error) {
	return m.document("form", len(body)+1, newForm).everything(body)
}

// fields are those of a form.
type fields struct {
	d   *Document
	at  int // the fields before are done
	end int // up to here the next one is read
}

func newForm(d *Document) markup { return &fields{d: d} }

func (f *fields) settled() int { return f.at }
func (f *fields) left(n int)   { f.at, f.end = f.at-n, f.end-n }

func (f *fields) parse(in *feed) error {
	w := f.d.w
	v := w.arrive(verdict{})
	for {
		c, err := in.ReadByte()
		if err == nil && c != '&' {
			if f.end++; f.end-f.at > f.d.limit {
				return f.d.tooLarge()
			}
			continue
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if !utf8.Valid(f.d.src[f.at:f.end]) {
			return fmt.Errorf("the form is not UTF-8: %w", ErrInvalid)
		}
		if failed := w.field(f.d.src, f.at, f.end, v); failed != nil || err != nil {
			return failed
		}
		f.end++
		f.at = f.end
	}
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
