package mask

import "strings"

// report counts a finding at the current place.
func (w *walker) report(rule int, kind, detail string) {
	w.path = w.appendPath(w.path[:0])
	name := w.m.names[rule]
	same := func(f *Finding) bool {
		return f.Rule == name && f.Type == kind && f.Detail == detail && (f.Path == string(w.path) || f.Path == elsewhere)
	}
	if w.last < len(w.findings) && same(&w.findings[w.last]) { // mostly: the next of an array
		w.findings[w.last].Count++
		return
	}
	for i := range w.findings {
		if same(&w.findings[i]) {
			w.findings[i].Count++
			w.last = i
			return
		}
	}
	path := string(w.path)
	if len(w.findings) >= w.m.maxFindings {
		path = elsewhere
	}
	w.last = len(w.findings)
	w.findings = append(w.findings, Finding{Rule: name, Type: kind, Detail: detail, Path: path, Count: 1})
}

const (
	elsewhere = "..." // places beyond MaxFindings
	maxPath   = 256   // bytes of a finding's path
)

// appendPath writes where the walker is. Names that hold something masked don't
// appear, and none at all beyond maxPath bytes.
func (w *walker) appendPath(b []byte) []byte {
	for _, f := range w.stack {
		if f.kind == frameNone {
			continue
		}
		if f.kind != frameIndex && len(b) > 0 {
			b = append(b, '.')
		}
		switch f.kind {
		case frameIndex:
			b = append(b, "[*]"...)
		case frameNested:
			b = append(b, "(json)"...)
		case frameKey:
			switch {
			case f.guard:
				b = append(b, hidden...)
			case len(b)+len(f.info.raw) > maxPath:
				return append(b, elsewhere...)
			default:
				b = append(b, strings.ToValidUTF8(string(f.info.raw), "?")...)
			}
		}
		if len(b) > maxPath {
			return append(b, elsewhere...)
		}
	}
	return b
}
