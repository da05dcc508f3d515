package mask

import (
	"bytes"
	"context"
	"fmt"
	"unicode"
)

// Span is a range of a text, in bytes, and what was found there.
type Span struct {
	Start, End int
	Type       string
}

// Analyzer finds what is sensitive in texts by means of its own.
type Analyzer interface {
	// Analyze returns the spans found in each text. An error withholds the
	// response; it must not quote the texts.
	Analyze(ctx context.Context, texts []string) ([][]Span, error)
}

// NewAnalyzed is a detector that asks an analyzer. Its findings have its name as
// type, and what the analyzer calls them as detail.
func NewAnalyzed(name string, a Analyzer) *Custom { return &Custom{name: name, analyzer: a} }

// In returns a masker for one call, whose end ends what analyzers are asked.
func (m *Masker) In(ctx context.Context) *Masker {
	if m.det.custom == nil || !m.det.custom.asks() {
		return m
	}
	own := *m
	own.ctx = ctx
	return &own
}

func (t *customTable) asks() bool {
	for _, d := range t.dets {
		if d.analyzer != nil {
			return true
		}
	}
	return false
}

// Bounds of what is asked ahead of the walk, so that many short texts share a
// request; others are asked about when the walk comes to them.
const (
	maxAhead      = 8192
	maxAheadBytes = 8 << 20
)

// ahead asks about the strings of a JSON text before it is walked. It reads them
// loosely: what it misses costs a request of its own.
func (w *walker) ahead(text []byte) {
	t := w.m.det.custom
	if t == nil || !t.asks() || w.fault != nil {
		return
	}
	var texts []string
	seen, size := map[string]bool{}, 0
	var dv, fv view
	for i := 0; i < len(text) && len(texts) < maxAhead && size < maxAheadBytes; {
		n := bytes.IndexByte(text[i:], '"')
		if n < 0 {
			break
		}
		from := i + n + 1
		end := from
		for end < len(text) && text[end] != '"' {
			if text[end] == '\\' {
				end++
			}
			end++
		}
		if end >= len(text) {
			break
		}
		i = end + 1
		after := i
		for after < len(text) && (text[after] == ' ' || text[after] == '\n' || text[after] == '\t' || text[after] == '\r') {
			after++
		}
		raw := text[from:end]
		if after < len(text) && text[after] == ':' || len(raw) < minAnalyzed || looksJSON(raw) {
			continue
		}
		if bytes.IndexByte(raw, '\\') >= 0 {
			if !plainEscapes(raw) {
				continue
			}
			dv.unescape(raw)
			raw = dv.b
		}
		folded, _ := fv.fold(raw)
		if wordy(folded) && !seen[string(folded)] {
			seen[string(folded)] = true
			texts = append(texts, string(folded))
			size += len(folded)
		}
	}
	w.ask(texts)
}

// plainEscapes tells whether all escapes of a string can be decoded.
func plainEscapes(b []byte) bool {
	for i := 0; i < len(b); i++ {
		if b[i] != '\\' {
			continue
		}
		if i++; i >= len(b) {
			return false
		}
		if b[i] == 'u' {
			if _, ok := hex4(b[i+1:]); !ok {
				return false
			}
		}
	}
	return true
}

// minAnalyzed is the length of the shortest text that is asked about.
const minAnalyzed = 2

// wordy tells whether there are letters in a text: without any there is nothing
// that the detectors here don't find better.
func wordy(b []byte) bool {
	for _, r := range string(b) {
		if unicode.IsLetter(r) {
			return true
		}
	}
	return false
}

// ask asks all analyzers about texts and remembers what they say.
func (w *walker) ask(texts []string) {
	if len(texts) == 0 {
		return
	}
	if w.analyzed == nil {
		w.analyzed = map[string][]match{}
	}
	for _, s := range texts {
		w.analyzed[s] = nil
	}
	ctx := w.m.ctx
	if ctx == nil {
		ctx = context.Background()
	}
	for _, d := range w.m.det.custom.dets {
		if d.analyzer == nil {
			continue
		}
		found, err := d.analyzer.Analyze(ctx, texts)
		if err == nil && len(found) != len(texts) {
			err = fmt.Errorf("%d answers to %d texts", len(found), len(texts))
		}
		if err != nil {
			w.fault = fmt.Errorf("detector %s: %w", d.name, err)
			return
		}
		for i, spans := range found {
			for _, s := range spans {
				if s.Start < 0 || s.Start >= s.End || s.End > len(texts[i]) {
					w.fault = fmt.Errorf("detector %s: found something outside of the text", d.name)
					return
				}
				w.analyzed[texts[i]] = append(w.analyzed[texts[i]], match{start: s.Start, end: s.End, det: detCustom, rule: d.rule, custom: d.name, detail: s.Type})
			}
		}
	}
}

// analyze adds what analyzers find in a view to the scan's matches.
func (w *walker) analyze(view []byte) {
	if len(view) < minAnalyzed || w.fault != nil || !wordy(view) {
		return
	}
	found, known := w.analyzed[string(view)]
	if !known {
		w.ask([]string{string(view)})
		found = w.analyzed[string(view)]
	}
	for _, m := range found {
		w.scan.insert(m)
	}
}
