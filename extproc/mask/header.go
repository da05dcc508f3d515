package mask

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// links are headers that hold URLs (RFC 9110 §10.2.2, RFC 8288).
var links = map[string]bool{"location": true, "content-location": true, "link": true, "refresh": true, "referer": true, "sourcemap": true}

// Header masks a header's value. Its name, in lower case, counts as a key: a key
// rule hides the whole value, of a cookie the value alone. Values are found also
// where a URL has them percent-encoded. drop says that the header must go. Field
// paths don't apply to headers.
func (m *Masker) Header(name, value string) (masked string, found []Finding, drop bool, err error) {
	w := m.walker()
	defer w.done()
	src := []byte(value)
	if !utf8.Valid(src) {
		src = bytes.ToValidUTF8(src, []byte("\uFFFD"))
	}
	w.push()
	rule := func(name string) verdict {
		info := w.name([]byte(name))
		w.stack[len(w.stack)-1] = frame{info: info, kind: frameKey}
		if info.rule >= 0 {
			return m.by(info.rule, detKeyword)
		}
		return verdict{}
	}
	form := plainHeader
	if links[name] {
		form = encodePercent
	}
	v := rule(name)
	if v.how == howDrop {
		w.report(int(v.rule), v.kind(), "")
		return "", w.findings, true, nil
	}
	from, to := 0, len(src)
	if name == "set-cookie" && v.how == howNone {
		// name=value; attributes (RFC 6265 §4.1.1)
		if n := bytes.IndexByte(src, ';'); n >= 0 {
			to = n
			if err := w.value(src, to, len(src), verdict{}, "%", percent, form); err != nil {
				return "", nil, false, err
			}
		}
		if eq := bytes.IndexByte(src[:to], '='); eq >= 0 {
			v, from = rule(strings.TrimSpace(string(src[:eq]))), eq+1
		}
	}
	if err := w.value(src, from, to, v, "%", percent, form); err != nil {
		return "", nil, false, err
	}
	out, err := w.finish(src)
	if err != nil || len(w.findings) == 0 {
		return value, nil, false, err
	}
	return string(out), w.findings, false, nil
}

// plainHeader lets nothing into a header that could end it.
func plainHeader(repl []byte) []byte {
	for _, c := range repl {
		if c < ' ' || c > '~' || c == ';' || c == ',' {
			return []byte(hidden)
		}
	}
	return repl
}
