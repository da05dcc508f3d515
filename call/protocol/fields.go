package protocol

import (
	"encoding/json"
	"net/url"
	"strings"
	"unicode/utf8"
)

// fields collects an http request's arguments from its path, query and body
// into one flat map in which no source can shadow another.
type fields struct {
	args map[string]any
	own  map[string]claim // by canonical name
}

// claim says which name, of which source, is written how.
type claim struct {
	source string
	name   string
	nested bool // a[b]
}

// claim makes sure that no framework can take name for another one that came
// before: some fold case (ASP.NET), some turn spaces and dots into underscores
// or read a[] and a[b] as parts of a (PHP, Rails, Express).
func (f *fields) claim(source, name string) error {
	if f.own == nil {
		f.own = map[string]claim{}
	}
	whole := canonical(name)
	base, _, nested := strings.Cut(whole, "[")
	old, taken := f.own[base]
	switch {
	case !taken:
		f.own[base] = claim{source, name, nested}
	case old.source != source:
		return conflict(name)
	case old.nested != nested, !nested && old.name != name:
		return malformed("the %s has %q and %q, which some functions take for one argument; send one", source, printable(old.name), printable(name))
	}
	if !nested {
		return nil
	}
	old, taken = f.own[whole]
	if taken && old.name != name {
		return malformed("the %s has %q and %q, which some functions take for one argument; send one", source, printable(old.name), printable(name))
	}
	f.own[whole] = claim{source, name, true}
	return nil
}

// canonical is the one form of all names that some framework takes for one.
func canonical(name string) string {
	return strings.Map(func(r rune) rune {
		switch r {
		case ' ', '.':
			return '_'
		case ']':
			return -1
		}
		return r
	}, fold(strings.TrimSpace(name)))
}

func conflict(name string) error {
	return malformed("argument %q comes from two places (path, query or body); send it in one", printable(name))
}

// override is the field that makes some frameworks run another method.
const override = "_method"

// encoded adds the fields of a query or a form body. A field that comes several
// times is a list.
func (f *fields) encoded(source, text string) error {
	if strings.Contains(text, ";") {
		return malformed("the %s has a bare ;, which some servers take for a separator; send %%3B", source)
	}
	for n := 0; text != ""; n++ {
		if n > maxNodes {
			return malformed("the %s has more than %d fields", source, maxNodes)
		}
		var pair string
		pair, text, _ = strings.Cut(text, "&")
		if pair == "" {
			continue
		}
		k, v, _ := strings.Cut(pair, "=")
		name, err1 := url.QueryUnescape(k)
		value, err2 := url.QueryUnescape(v)
		switch {
		case err1 != nil || err2 != nil:
			return malformed("the %s has a percent sign that is no escape; send %%25", source)
		case !utf8.ValidString(name) || !utf8.ValidString(value):
			return malformed("the %s has text that is not UTF-8, which servers repair differently; encode UTF-8", source)
		case strings.IndexByte(name, 0) >= 0 || strings.IndexByte(value, 0) >= 0:
			return malformed("the %s has a NUL character, which some servers take for the end of a text; leave it out", source)
		case name == "":
			return malformed("the %s has a value without a name; name it or leave it out", source)
		case strings.EqualFold(name, override):
			return malformed("the %s has %s, which makes some functions run another method than the one that was judged; leave it out", source, override)
		}
		if err := f.claim(source, name); err != nil {
			return err
		}
		switch old := f.args[name].(type) {
		case nil:
			f.args[name] = value
		case []any:
			f.args[name] = append(old, value)
		default:
			f.args[name] = []any{old, value}
		}
	}
	return nil
}

// object makes sure that the members of a JSON body can stand beside the
// arguments from elsewhere.
func (f *fields) object(members map[string]any) error {
	for name := range members {
		if strings.EqualFold(name, override) {
			return malformed("the body has %s, which makes some functions run another method than the one that was judged; leave it out", override)
		}
		if len(f.own) == 0 {
			continue
		}
		base, _, _ := strings.Cut(canonical(name), "[")
		if _, taken := f.own[base]; taken {
			return conflict(name)
		}
	}
	return nil
}

// splice writes args as JSON, where raw is the text of those from a JSON body
// and the others come from elsewhere.
func splice(others map[string]any, raw []byte) (json.RawMessage, error) {
	head, err := json.Marshal(others)
	if err != nil {
		return nil, malformed("the arguments can't be written as JSON")
	}
	inner := strings.TrimSpace(string(raw))
	inner = strings.TrimSpace(inner[1 : len(inner)-1])
	switch {
	case inner == "":
		return head, nil
	case len(others) == 0:
		return raw, nil
	}
	out := make([]byte, 0, len(head)+len(inner)+1)
	out = append(out, head[:len(head)-1]...)
	out = append(out, ',')
	out = append(out, inner...)
	return append(out, '}'), nil
}
