package mask

// text runs the detectors over one text. at maps it to the bytes that begin at
// base; inJSON tells that those are inside a JSON string. values is false for a
// member's name, which assigns nothing and is announced by nothing.
func (w *walker) text(text []byte, at viewMap, base int, inJSON, values bool) {
	if !w.m.det.any && (len(w.m.keys) == 0 || !values) {
		return
	}
	view, fold := w.folded.fold(text)
	w.hideMatches(view, fold, at, base, inJSON, values)
}

// hideMatches runs the detectors over a view that fold maps to the text.
func (w *walker) hideMatches(view []byte, fold, at viewMap, base int, inJSON, values bool) {
	if len(w.matches(view, values)) > 0 {
		w.hideFound(view, fold, at, base, inJSON, values)
	}
}

// hideFound hides what the scan has found.
func (w *walker) hideFound(view []byte, fold, at viewMap, base int, inJSON, values bool) {
	for _, f := range w.scan.matches {
		h := w.ruleHow(f)
		if h == howDrop && !values {
			h = howRedact
		}
		repl := w.m.conceal(h, f, f.in(view))
		if inJSON {
			repl = quote(repl)
		}
		start, end := fold.start(f.start), fold.end(f.end)
		w.edits = append(w.edits, edit{base + at.start(start), base + at.end(end), repl, f.kind()})
		w.report(w.rule(f), f.kind(), f.detail)
	}
}

// matches scans a view with the names around it as hints.
func (w *walker) matches(view []byte, values bool) []match {
	w.scan.names, w.scan.values = nil, values
	if values {
		w.scan.names = w.stack
	}
	found := w.scan.scan(view)
	if t := w.m.det.custom; values && t != nil && t.asks() {
		w.analyze(view)
		found = w.scan.matches
	}
	return found
}

func quoted(text []byte) []byte {
	out := append([]byte{'"'}, quote(text)...)
	return append(out, '"')
}

// hideWhole replaces a value by the verdict. text is the value decoded, nil for
// an object or array.
func (w *walker) hideWhole(from, to int, text []byte, v verdict) {
	var repl []byte
	switch h := v.how; {
	case h == howDrop:
		repl = []byte("null") // the document itself: nothing around it to cut it from
	case h == howPartial && w.exposes(text):
		repl = quoted([]byte(hidden))
	default:
		repl = quoted(w.m.concealWhole(h, text))
	}
	w.edits = append(w.edits, edit{from, to, repl, v.kind()})
	w.report(int(v.rule), v.kind(), "")
}

// exposes tells whether the last four characters of a value belong to something
// that a detector's rule hides more strictly.
func (w *walker) exposes(text []byte) bool {
	if !w.m.det.any {
		return false
	}
	view, _ := w.folded.fold(text)
	for _, f := range w.matches(view, true) {
		if w.ruleHow(f) > howPartial {
			return true
		}
	}
	return false
}
