package mask

import (
	"bytes"
	"math"
)

// numberValue masks the number src[from:to]: what takes its place is a string.
func (w *walker) numberValue(src []byte, from, to int, v verdict) {
	text := src[from:to]
	if v = w.leaf(v); v.how != howNone {
		w.hideWhole(from, to, text, v)
		return
	}
	if w.m.det.on&ofDigits == 0 && !w.m.det.any || to-from < 6 {
		return
	}
	if text = integer(text); len(text) > maxCard || len(text) < 7 || w.plainNumber(text) {
		return
	}
	// A number has no leading zeros; a personal number may.
	for zeros := 0; zeros <= 2; zeros++ {
		if zeros > 0 {
			if len(text)+1 > 14 || w.scan.nameHints()&w.m.det.on&(allNational|setOf(detSSN)) == 0 {
				return
			}
			text = append([]byte("0"), text...)
		}
		for _, f := range w.matches(text, true) {
			if f.start != 0 || f.end != len(text) || zeros > 0 && !allNational.has(f.det) && f.det != detSSN {
				continue
			}
			repl := []byte("null")
			if h := w.ruleHow(f); h != howDrop {
				repl = quoted(w.m.conceal(h, f, text))
			}
			w.edits = append(w.edits, edit{from, to, repl, f.kind()})
			w.report(w.rule(f), f.kind(), f.detail)
			return
		}
	}
}

// plainNumber tells that a number of seven digits and more is none of those that
// are known by their digits alone, and that no name says more of it.
func (w *walker) plainNumber(text []byte) bool {
	if w.m.det.custom != nil || len(w.m.det.regions) > 0 || nationalForms.some(text, 0, len(text)) || len(w.stack) == 0 {
		return false
	}
	if len(text) >= 12 && mayIssue(text) {
		return false
	}
	if f := &w.stack[len(w.stack)-1]; f.kind == frameKey && !f.info.quiet {
		return false
	}
	w.scan.names, w.scan.known = w.stack, false
	return w.scan.nameHints() == 0
}

// integer returns the digits of a number without its sign, also of one that is
// written as 4.1e15 or 41.0, and nil if it has a fraction or more than 24 digits.
func integer(n []byte) []byte {
	i := 0
	for i < len(n) && isDigit(n[i]) {
		i++
	}
	if i == len(n) {
		return n
	}
	if n[i] == '.' { // mostly a price: a fraction, and no exponent
		k, zeros := i+1, true
		for k < len(n) && isDigit(n[k]) {
			zeros = zeros && n[k] == '0'
			k++
		}
		if k == len(n) && !zeros {
			return nil
		}
	}
	n = bytes.TrimPrefix(n, []byte("-"))
	exp := 0
	if e := bytes.IndexAny(n, "eE"); e >= 0 {
		neg := false
		for _, c := range n[e+1:] {
			if isDigit(c) {
				exp = min(exp*10+int(c-'0'), math.MaxInt16)
			}
			neg = neg || c == '-'
		}
		if neg {
			exp = -exp
		}
		n = n[:e]
	}
	whole, frac, _ := bytes.Cut(n, []byte("."))
	if exp == 0 {
		for _, c := range frac {
			if c != '0' {
				return nil
			}
		}
		return whole
	}
	all := append(append([]byte(nil), whole...), frac...)
	point := len(whole) + exp
	if point <= 0 || point > 24 {
		return nil
	}
	for len(all) < point {
		all = append(all, '0')
	}
	if len(bytes.Trim(all[point:], "0")) > 0 {
		return nil
	}
	return bytes.TrimLeft(all[:point], "0")
}
