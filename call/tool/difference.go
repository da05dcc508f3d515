package tool

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// Change is one difference between two definitions. Before or After is empty
// where there was, or is, nothing. Both are as [Visible] shows them.
type Change struct {
	Path   string // such as /inputSchema/properties/id
	Before string
	After  string
}

// maxChanges bounds what is told of one tool.
const maxChanges = 200

// Differences lists what differs between two definitions. A zero Definition is
// none at all, so that all of the other is told.
func Differences(before, after Definition) []Change {
	var out []Change
	differ("", read(before.Text), read(after.Text), &out)
	return out
}

// absent stands for a member that is not there, which null is not.
type absent struct{}

func read(text []byte) any {
	if len(text) == 0 {
		return map[string]any{}
	}
	var v any
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	if dec.Decode(&v) != nil {
		return absent{}
	}
	return v
}

func differ(path string, a, b any, out *[]Change) {
	if len(*out) >= maxChanges {
		return
	}
	x, ok1 := a.(map[string]any)
	y, ok2 := b.(map[string]any)
	if ok1 && ok2 {
		var names []string
		for k := range x {
			names = append(names, k)
		}
		for k := range y {
			if _, both := x[k]; !both {
				names = append(names, k)
			}
		}
		slices.Sort(names)
		for _, k := range names {
			differ(path+"/"+strings.NewReplacer("~", "~0", "/", "~1").Replace(k), member(x, k), member(y, k), out)
		}
		return
	}
	l, ok1 := a.([]any)
	m, ok2 := b.([]any)
	if ok1 && ok2 {
		for i := range max(len(l), len(m)) {
			differ(fmt.Sprintf("%s/%d", path, i), element(l, i), element(m, i), out)
		}
		return
	}
	if s, t := shown(a), shown(b); s != t {
		*out = append(*out, Change{Path: Visible(path), Before: s, After: t})
	}
}

func member(m map[string]any, k string) any {
	if v, has := m[k]; has {
		return v
	}
	return absent{}
}

func element(l []any, i int) any {
	if i < len(l) {
		return l[i]
	}
	return absent{}
}

func shown(v any) string {
	if _, none := v.(absent); none {
		return ""
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if enc.Encode(v) != nil {
		return ""
	}
	return Visible(strings.TrimSpace(b.String()))
}

// Visible writes what a terminal or a browser would not show, or would show
// elsewhere than it stands, as \u{…}: control characters, bidirectional controls,
// zero-width and other format characters, tags, variation selectors, private
// use, and spaces other than the plain one. Texts that hide instructions from
// people and not from models are made of these.
func Visible(s string) string {
	if !strings.ContainsFunc(s, hidden) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if hidden(r) {
			fmt.Fprintf(&b, `\u{%X}`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// Hidden counts them in all texts of a definition, as its reader would have them.
func (d Definition) Hidden() int {
	if len(d.Text) == 0 {
		return 0
	}
	return hiddenIn(read(d.Text))
}

func hiddenIn(v any) int {
	n := 0
	switch v := v.(type) {
	case string:
		return Hidden(v)
	case []any:
		for _, x := range v {
			n += hiddenIn(x)
		}
	case map[string]any:
		for k, x := range v {
			n += Hidden(k) + hiddenIn(x)
		}
	}
	return n
}

// Hidden counts the characters that [Visible] has to make visible, line ends and
// tabs apart.
func Hidden(s string) int {
	n := 0
	for _, r := range s {
		if hidden(r) && r != '\n' && r != '\r' && r != '\t' {
			n++
		}
	}
	return n
}

func hidden(r rune) bool {
	switch {
	case r == ' ':
		return false
	case r == '\u034f', r == '\u115f', r == '\u1160', r == '\u17b4', r == '\u17b5', r == '\u3164', r == '\uffa0', r == '\u2800':
		return true // letters and marks that look like nothing
	case r >= '\ufe00' && r <= '\ufe0f', r >= 0xe0100 && r <= 0xe01ef, r >= '\u180b' && r <= '\u180f':
		return true // variation selectors
	case r >= 0xe0000 && r <= 0xe0fff:
		return true // tags, and what is reserved beside them
	}
	return !unicode.IsPrint(r)
}
