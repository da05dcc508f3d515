package redact

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
)

// Hidden is what was hidden in a path and query, as the function reads it: it
// is among the arguments, too.
type Hidden struct {
	names, values []string
}

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
		dec   = json.NewDecoder(bytes.NewReader(doc))
	)
	dec.UseNumber()
	for {
		start := int(dec.InputOffset())
		tok, err := dec.Token()
		if err != nil {
			break // the end; validity was checked above
		}
		end := int(dec.InputOffset())
		for start < end && strings.IndexByte(" \t\r\n,:", doc[start]) >= 0 {
			start++
		}
		var top level // what tok stands in
		if len(stack) > 0 {
			top = stack[len(stack)-1]
		}
		isKey := top.wantKey
		if len(stack) > 0 && top.object {
			stack[len(stack)-1].wantKey = !isKey
		}
		hide := top.hide || top.object && !isKey && (strongName(top.key) || len(stack) == 1 && slices.Contains(hidden.names, top.key))
		text, isText := tok.(string)
		switch {
		case tok == json.Delim('{') || tok == json.Delim('['):
			stack = append(stack, level{object: tok == json.Delim('{'), wantKey: tok == json.Delim('{'), hide: hide})
			continue
		case tok == json.Delim('}') || tok == json.Delim(']'):
			stack = stack[:len(stack)-1]
			continue
		case isKey:
			stack[len(stack)-1].key = text
			text = r.shaped(text)
		case tok == nil: // tells nothing
			continue
		case !isText && hide:
			text = r.Secret(string(doc[start:end]))
		case !isText:
			continue
		case hide || len(stack) == 1 && slices.Contains(hidden.values, text):
			text = r.Secret(text)
		default:
			text = r.shaped(text)
		}
		if text == tok {
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
