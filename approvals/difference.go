package approvals

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/callgate/callgate/call/redact"
)

// Difference is how a call differs from the caller's last approved one of the
// same function.
type Difference struct {
	ID         string    `json:"id"` // of that approval
	ApprovedAt time.Time `json:"approved_at"`
	Changes    []Changed `json:"changes,omitempty"` // none: the calls are the same
	More       int       `json:"more,omitempty"`    // changes that are left out
}

// Changed is one thing that differs. Values that look like credentials are
// masked; that they differ is told all the same.
type Changed struct {
	What string `json:"what"`          // method, host, path, body, who acts, or the argument's path
	Was  string `json:"was,omitempty"` // JSON, of an argument; empty: it was not there
	Is   string `json:"is,omitempty"`
}

// maxChanges bounds what of a difference is shown, and maxValue each value.
const (
	maxChanges = 100
	maxValue   = 400
)

// differ compares two calls.
func differ(was, is *Hold) *Difference {
	d := &Difference{ID: was.ID, ApprovedAt: was.EndedAt}
	readable := func(s string) string { return clip(visible(reworded(s))) }
	for _, part := range []struct{ what, was, is string }{
		{"acting", was.Identity.Acting(), is.Identity.Acting()},
		{"method", was.Request.Method, is.Request.Method}, {"host", was.Request.Authority, is.Request.Authority}, {"path", was.Request.Path, is.Request.Path},
		{"content-type", was.Request.ContentType, is.Request.ContentType}, {"content-encoding", was.Request.ContentEncoding, is.Request.ContentEncoding},
	} {
		if part.was != part.is {
			d.add(part.what, readable(part.was), readable(part.is))
		}
	}
	before := len(d.Changes)
	a, okA := document(was.ArgsJSON)
	b, okB := document(is.ArgsJSON)
	if okA && okB {
		d.compare("", a, b, false)
	}
	if len(d.Changes) == before && !bytes.Equal(was.Request.Body, is.Request.Body) {
		d.add("body", fmt.Sprintf("%d bytes", len(was.Request.Body)), fmt.Sprintf("%d bytes, which differ in what the arguments don't show", len(is.Request.Body)))
	}
	return d
}

func (d *Difference) add(what, was, is string) {
	if len(d.Changes) == maxChanges {
		d.More++
		return
	}
	d.Changes = append(d.Changes, Changed{what, was, is})
}

func document(text []byte) (any, bool) {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var v any
	err := dec.Decode(&v)
	return v, err == nil
}

// absent stands for what one of the two does not have.
type absent struct{}

// compare walks two documents; hide is set below a credential's name.
func (d *Difference) compare(path string, was, is any, hide bool) {
	switch a := was.(type) {
	case map[string]any:
		if b, ok := is.(map[string]any); ok {
			names := maps.Clone(a)
			maps.Copy(names, b)
			for _, name := range slices.Sorted(maps.Keys(names)) {
				d.compare(path+member(name), item(a, name), item(b, name), hide || redact.Names(name))
			}
			return
		}
	case []any:
		if b, ok := is.([]any); ok {
			for i := range max(len(a), len(b)) {
				var x, y any = absent{}, absent{}
				if i < len(a) {
					x = a[i]
				}
				if i < len(b) {
					y = b[i]
				}
				d.compare(path+"["+strconv.Itoa(i)+"]", x, y, hide)
			}
			return
		}
	default:
		if scalar(is) && was == is {
			return
		}
	}
	d.add(path, shown(was, hide), shown(is, hide))
}

// member is a path's step to a field, as JSONPath writes it.
func member(name string) string {
	if name != "" && !strings.ContainsFunc(name, func(r rune) bool {
		return !(r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z')
	}) {
		return "." + name
	}
	return "[" + visible(strconv.Quote(name)) + "]"
}

func item(m map[string]any, name string) any {
	if v, ok := m[name]; ok {
		return v
	}
	return absent{}
}

func scalar(v any) bool {
	switch v.(type) {
	case map[string]any, []any:
		return false
	}
	return true
}

// shown is a value as JSON, without credentials.
func shown(v any, hide bool) string {
	if _, none := v.(absent); none {
		return ""
	}
	if hide && v != nil {
		return hidden
	}
	text, err := json.Marshal(v)
	if err != nil {
		return hidden
	}
	masked, ok := (&viewer{marks: true}).json(text)
	if !ok {
		return hidden
	}
	return clip(visible(string(masked)))
}

// clip cuts what is too long to be read, and says how much it left out.
func clip(s string) string {
	if len(s) <= maxValue {
		return s
	}
	return fmt.Sprintf("%s… (%d bytes more)", strings.ToValidUTF8(s[:maxValue], ""), len(s)-maxValue)
}
