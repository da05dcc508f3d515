package mask

import "strings"

// report counts a finding at the current place.
func (w *walker) report(rule int, kind, detail string) {
	w.path = w.appendPath(w.path[:0])
	w.count(w.m.names[rule], kind, detail, w.path, 1)
}

// adoptFindings counts what another walker has found as found by this one.
func (w *walker) adoptFindings(list []Finding) {
	for _, f := range list {
		w.count(f.Rule, f.Type, f.Detail, []byte(f.Path), f.Count)
	}
}

// count adds n to the finding that is the same.
func (w *walker) count(rule, kind, detail string, path []byte, n int) {
	same := func(f *Finding) bool {
		return f.Rule == rule && f.Type == kind && f.Detail == detail && (f.Path == string(path) || f.Path == elsewhere)
	}
	if w.last < len(w.findings) && same(&w.findings[w.last]) { // mostly: the next of an array
		w.findings[w.last].Count += n
		return
	}
	for i := range w.findings {
		if same(&w.findings[i]) {
			w.findings[i].Count += n
			w.last = i
			return
		}
	}
	at := string(path)
	if len(w.findings) >= w.m.maxFindings {
		at = elsewhere
	}
	w.last = len(w.findings)
	w.findings = append(w.findings, Finding{Rule: rule, Type: kind, Detail: detail, Path: at, Count: n})
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
