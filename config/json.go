package config

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// JSON is a value that is written as YAML and stands for JSON: whole numbers
// and others stay apart, and an unquoted date is a text.
type JSON []byte

// Bounds on a value, so that aliases within aliases can't grow without end.
const (
	maxJSON      = 4 << 20 // bytes
	maxJSONDepth = 100
)

// UnmarshalYAML implements [yaml.Unmarshaler].
func (j *JSON) UnmarshalYAML(n *yaml.Node) error {
	doc, wrong := jsonOf(n)
	if wrong != nil {
		return fmt.Errorf("line %d: %s", wrong.node.Line, wrong.text)
	}
	*j = doc
	return nil
}

// misfit is a part of a YAML tree that is not what it should be.
type misfit struct {
	node *yaml.Node
	text string
}

func resolved(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode && n.Alias != nil {
		return n.Alias
	}
	return n
}

// jsonOf is what a YAML value is in JSON.
func jsonOf(n *yaml.Node) (JSON, *misfit) {
	w := jsonWriter{}
	if wrong := w.write(n, 0); wrong != nil {
		return nil, wrong
	}
	return w.out, nil
}

type jsonWriter struct{ out []byte }

func (w *jsonWriter) write(n *yaml.Node, depth int) *misfit {
	n = resolved(n)
	switch {
	case depth > maxJSONDepth:
		return &misfit{n, fmt.Sprintf("is nested deeper than %d levels", maxJSONDepth)}
	case len(w.out) > maxJSON:
		return &misfit{n, fmt.Sprintf("is larger than %d bytes", maxJSON)}
	}
	switch n.Kind {
	case yaml.MappingNode:
		return w.mapping(n, depth)
	case yaml.SequenceNode:
		w.out = append(w.out, '[')
		for i, c := range n.Content {
			if i > 0 {
				w.out = append(w.out, ',')
			}
			if wrong := w.write(c, depth+1); wrong != nil {
				return wrong
			}
		}
		w.out = append(w.out, ']')
		return nil
	case yaml.ScalarNode:
		return w.scalar(n)
	}
	return &misfit{n, "is no value"}
}

func (w *jsonWriter) mapping(n *yaml.Node, depth int) *misfit {
	w.out = append(w.out, '{')
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := resolved(n.Content[i])
		switch {
		case key.Kind != yaml.ScalarNode:
			return &misfit{key, "has a key that is no text"}
		case key.Tag == "!!merge":
			return &misfit{key, "merges another mapping (<<), which JSON can't; write the keys out"}
		case seen[key.Value]:
			return &misfit{key, fmt.Sprintf("has key %q twice; keep one", key.Value)}
		}
		seen[key.Value] = true
		if i > 0 {
			w.out = append(w.out, ',')
		}
		w.text(key.Value)
		w.out = append(w.out, ':')
		if wrong := w.write(n.Content[i+1], depth+1); wrong != nil {
			return wrong
		}
	}
	w.out = append(w.out, '}')
	return nil
}

func (w *jsonWriter) scalar(n *yaml.Node) *misfit {
	switch n.ShortTag() {
	case "!!null":
		w.out = append(w.out, "null"...)
	case "!!bool":
		var b bool
		if n.Decode(&b) != nil {
			return &misfit{n, fmt.Sprintf("%q is neither true nor false", n.Value)}
		}
		w.out = strconv.AppendBool(w.out, b)
	case "!!int":
		var i int64
		if n.Decode(&i) != nil {
			return &misfit{n, fmt.Sprintf("%q is no whole number of 64 bits; quote it for a text", n.Value)}
		}
		w.out = strconv.AppendInt(w.out, i, 10)
	case "!!float":
		var f float64
		if !strings.ContainsAny(n.Value, ".eEnN") {
			return &misfit{n, fmt.Sprintf("%q is no whole number of 64 bits; quote it for a text", n.Value)}
		}
		if n.Decode(&f) != nil || math.IsNaN(f) || math.IsInf(f, 0) {
			return &misfit{n, fmt.Sprintf("%q is no number that JSON has; quote it for a text", n.Value)}
		}
		at := len(w.out)
		w.out = strconv.AppendFloat(w.out, f, 'g', -1, 64)
		if _, err := strconv.ParseInt(string(w.out[at:]), 10, 64); err == nil {
			w.out = append(w.out, ".0"...) // it was written as no whole number
		}
	case "!!str", "!!timestamp":
		w.text(n.Value)
	default:
		return &misfit{n, fmt.Sprintf("is of type %s, which JSON does not have", n.ShortTag())}
	}
	return nil
}

func (w *jsonWriter) text(s string) {
	quoted, err := json.Marshal(s)
	if err != nil {
		quoted = []byte(`""`) // a text always marshals
	}
	w.out = append(w.out, quoted...)
}
