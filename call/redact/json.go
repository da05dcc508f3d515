package redact

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"unicode/utf8"
)

// Hidden is what was hidden in a path and query, as the function reads it: it
// is among the arguments, too.
type Hidden struct {
	names, values []string
}

// And is what was hidden in two.
func (h Hidden) And(o Hidden) Hidden {
	return Hidden{slices.Concat(h.names, o.names), slices.Concat(h.values, o.values)}
}

// Len is how much was hidden.
func (h Hidden) Len() int { return len(h.names) + len(h.values) }

// Arguments hides credentials in the arguments of an HTTP call, a JSON object:
// those that were hidden in its path and query, those whose name tells a
// credential, with all below them, and in texts what has the shape of one. Every
// other byte stays. Arguments that can't be read are left out altogether.
func (r *Redactor) Arguments(doc json.RawMessage, hidden Hidden) json.RawMessage {
	if len(doc) == 0 {
		return doc
	}
	if !json.Valid(doc) {
		return nil
	}
	type level struct {
		object, wantKey, hide bool
		key                   string
	}
	var (
		out   bytes.Buffer
		kept  int // doc up to here is in out
		stack []level
	)
	for start, end := 0, 0; ; start = end {
		for start < len(doc) && strings.IndexByte(" \t\r\n,:", doc[start]) >= 0 {
			start++
		}
		if start == len(doc) {
			break
		}
		end = tokenEnd(doc, start)
		tok := doc[start:end]
		var top level // what tok stands in
		if len(stack) > 0 {
			top = stack[len(stack)-1]
		}
		isKey := top.wantKey
		if len(stack) > 0 && top.object {
			stack[len(stack)-1].wantKey = !isKey
		}
		hide := top.hide || top.object && !isKey && (strongName(top.key) || len(stack) == 1 && slices.Contains(hidden.names, top.key))
		text, isText := "", tok[0] == '"'
		if isText {
			if text = string(tok[1 : len(tok)-1]); bytes.IndexByte(tok, '\\') >= 0 || !utf8.Valid(tok) {
				if err := json.Unmarshal(tok, &text); err != nil {
					return nil
				}
			}
		}
		was := text
		switch {
		case tok[0] == '{' || tok[0] == '[':
			stack = append(stack, level{object: tok[0] == '{', wantKey: tok[0] == '{', hide: hide})
			continue
		case tok[0] == '}' || tok[0] == ']':
			stack = stack[:len(stack)-1]
			continue
		case isKey:
			stack[len(stack)-1].key = text
			text = r.shaped(text)
		case tok[0] == 'n': // null tells nothing
			continue
		case !isText && hide:
			text = r.Secret(string(tok))
		case !isText:
			continue
		case hide || len(stack) == 1 && slices.Contains(hidden.values, text):
			text = r.Secret(text)
		default:
			text = r.shaped(text)
		}
		if isText && text == was {
			continue
		}
		quoted, err := json.Marshal(text)
		if err != nil {
			return nil
		}
		out.Write(doc[kept:start])
		out.Write(quoted)
		kept = end
	}
	if kept == 0 {
		return doc
	}
	out.Write(doc[kept:])
	return out.Bytes()
}

// tokenEnd is where the token of a valid document ends that begins at start.
func tokenEnd(doc []byte, start int) int {
	switch doc[start] {
	case '{', '}', '[', ']':
		return start + 1
	case '"':
		for i := start + 1; ; i++ {
			switch doc[i] {
			case '\\':
				i++
			case '"':
				return i + 1
			}
		}
	}
	end := start
	for end < len(doc) && strings.IndexByte(" \t\r\n,:]}", doc[end]) < 0 {
		end++
	}
	return end
}
