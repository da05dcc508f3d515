package difference

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Field is one setting that differs. An empty text stands for what is not set.
type Field struct {
	Path string `json:"path"`
	Old  string `json:"old"`
	New  string `json:"new"`
}

// maxWords is how many words of a detector are told one by one: a file may have
// thousands.
const maxWords = 20

// ordered are the lists whose order means something.
var ordered = []string{"connection.mask"}

// settings lists what a value says, by path, without what is left at its zero
// value. Lists of names have no order.
func settings(kind string, v any) map[string]string {
	out := map[string]string{}
	var n yaml.Node
	if err := n.Encode(v); err != nil {
		return map[string]string{"": err.Error()}
	}
	flatten(kind, "", &n, out)
	return out
}

func flatten(kind, path string, n *yaml.Node, out map[string]string) {
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i].Value
			if path != "" {
				key = path + "." + key
			}
			flatten(kind, key, n.Content[i+1], out)
		}
	case yaml.SequenceNode:
		names := make([]string, 0, len(n.Content))
		for i, c := range n.Content {
			if c.Kind == yaml.ScalarNode {
				names = append(names, c.Value)
				continue
			}
			at := fmt.Sprint(i + 1)
			if name := child(c, "name"); name != "" && !slices.Contains(ordered, kind+"."+path) {
				at = name
			}
			flatten(kind, fmt.Sprintf("%s[%s]", path, at), c, out)
		}
		if len(names) > 0 {
			slices.Sort(names)
			if out[path] = strings.Join(names, ", "); kind+"."+path == "detector.words" && len(names) > maxWords {
				out[path] = fmt.Sprintf("%d words (SHA-256 %.16x…)", len(names), sha256.Sum256([]byte(strings.Join(names, "\n"))))
			}
		}
	case yaml.ScalarNode:
		switch v := n.Value; {
		case n.Tag == "!!null", v == "", v == "false", v == "0", v == "0s", v == "0001-01-01T00:00:00Z":
		default:
			out[path] = v
		}
	}
}

func child(n *yaml.Node, key string) string {
	if n.Kind != yaml.MappingNode {
		return ""
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1].Value
		}
	}
	return ""
}

// differing lists the settings that differ, by path.
func differing(was, is map[string]string) []Field {
	var out []Field
	for path, v := range was {
		if is[path] != v {
			out = append(out, Field{path, v, is[path]})
		}
	}
	for path, v := range is {
		if _, had := was[path]; !had {
			out = append(out, Field{path, "", v})
		}
	}
	slices.SortFunc(out, func(a, b Field) int { return strings.Compare(a.Path, b.Path) })
	return out
}
