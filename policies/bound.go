package policies

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// Bounds on a schema that somebody else wrote, such as an MCP server. Patterns
// are RE2's, which take time in proportion to the text.
const (
	maxForeignSize     = 256 << 10 // bytes
	maxForeignDepth    = 64        // objects and lists inside each other
	maxForeignSchemas  = 20_000    // subschemas
	maxForeignPatterns = 500
	maxForeignPattern  = 1 << 10 // bytes
	// maxForeignWork is how many subschemas may look at one place of a value.
	maxForeignWork = 500
	// deepestValue is how deep arguments can be; call/protocol reads none deeper.
	deepestValue = 64
)

// compileForeign compiles a schema of somebody else's, whose validation must
// not take more time than its size suggests: references that fan out would
// double the work at each step.
func compileForeign(text json.RawMessage) (*schema, error) {
	if len(text) > maxForeignSize {
		return nil, fmt.Errorf("it is over %d bytes", maxForeignSize)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, errors.New("it is not JSON")
	}
	patterns := 0
	if err := shallow(doc, 0, &patterns); err != nil {
		return nil, err
	}
	s, err := compileSchema(text)
	if err != nil {
		return nil, fmt.Errorf("it does not compile: %s", clip(strings.ReplaceAll(err.Error(), "\n", " ")))
	}
	w := work{all: map[*jsonschema.Schema]bool{}}
	if err := w.collect(s.compiled); err != nil {
		return nil, err
	}
	return s, w.bounded(s.compiled)
}

func shallow(v any, depth int, patterns *int) error {
	if depth > maxForeignDepth {
		return fmt.Errorf("it is nested deeper than %d", maxForeignDepth)
	}
	pattern := func(s string) error {
		if *patterns++; *patterns > maxForeignPatterns || len(s) > maxForeignPattern {
			return fmt.Errorf("it has more than %d patterns, or one over %d bytes", maxForeignPatterns, maxForeignPattern)
		}
		return nil
	}
	switch v := v.(type) {
	case map[string]any:
		if p, ok := v["pattern"].(string); ok {
			if err := pattern(p); err != nil {
				return err
			}
		}
		if ps, ok := v["patternProperties"].(map[string]any); ok {
			for p := range ps {
				if err := pattern(p); err != nil {
					return err
				}
			}
		}
		for _, x := range v {
			if err := shallow(x, depth+1, patterns); err != nil {
				return err
			}
		}
	case []any:
		for _, x := range v {
			if err := shallow(x, depth+1, patterns); err != nil {
				return err
			}
		}
	}
	return nil
}

// work bounds how many subschemas look at one place of a value.
type work struct {
	all map[*jsonschema.Schema]bool
}

// here lists the subschemas that look at the same place as s does.
func here(s *jsonschema.Schema) []*jsonschema.Schema {
	out := []*jsonschema.Schema{s.Ref, s.RecursiveRef, s.Not, s.If, s.Then, s.Else, s.ContentSchema}
	if s.DynamicRef != nil {
		out = append(out, s.DynamicRef.Ref)
	}
	out = append(append(append(out, s.AllOf...), s.AnyOf...), s.OneOf...)
	for _, d := range s.DependentSchemas {
		out = append(out, d)
	}
	for _, d := range s.Dependencies {
		if sub, ok := d.(*jsonschema.Schema); ok {
			out = append(out, sub)
		}
	}
	return present(out)
}

func present(list []*jsonschema.Schema) []*jsonschema.Schema {
	out := list[:0]
	for _, s := range list {
		if s != nil {
			out = append(out, s)
		}
	}
	return out
}

// below lists those that look at an object's members and at a list's. Of each
// group at most one looks at the same member; all groups may.
func below(s *jsonschema.Schema) (members, elements [][]*jsonschema.Schema) {
	var named []*jsonschema.Schema
	for _, p := range s.Properties {
		named = append(named, p)
	}
	items := append([]*jsonschema.Schema{s.Items2020}, s.PrefixItems...)
	if x, ok := s.AdditionalProperties.(*jsonschema.Schema); ok {
		named = append(named, x)
	}
	for _, x := range []any{s.AdditionalItems, s.Items} {
		switch x := x.(type) {
		case *jsonschema.Schema:
			items = append(items, x)
		case []*jsonschema.Schema:
			items = append(items, x...)
		}
	}
	members = [][]*jsonschema.Schema{present(named), present([]*jsonschema.Schema{s.UnevaluatedProperties}), present([]*jsonschema.Schema{s.PropertyNames})}
	for _, p := range s.PatternProperties {
		members = append(members, []*jsonschema.Schema{p})
	}
	return members, [][]*jsonschema.Schema{present(items), present([]*jsonschema.Schema{s.UnevaluatedItems}), present([]*jsonschema.Schema{s.Contains})}
}

func (w *work) collect(s *jsonschema.Schema) error {
	todo := []*jsonschema.Schema{s}
	for len(todo) > 0 {
		s, todo = todo[len(todo)-1], todo[:len(todo)-1]
		if w.all[s] {
			continue
		}
		if w.all[s] = true; len(w.all) > maxForeignSchemas {
			return fmt.Errorf("it has more than %d parts", maxForeignSchemas)
		}
		todo = append(todo, here(s)...)
		members, elements := below(s)
		for _, group := range append(members, elements...) {
			todo = append(todo, group...)
		}
	}
	return nil
}

// looks is how many subschemas look at one place, counted from some subschema
// above it: where what is between is an object, and where it is a list.
type looks struct{ object, list float64 }

// bounded counts, for a value's root and for each depth below it, how many
// subschemas look at one place there.
func (w *work) bounded(root *jsonschema.Schema) error {
	var above map[*jsonschema.Schema]looks // of the depth before
	for depth := range deepestValue {
		level := make(map[*jsonschema.Schema]looks, len(w.all))
		visiting := map[*jsonschema.Schema]bool{}
		var count func(s *jsonschema.Schema) looks
		count = func(s *jsonschema.Schema) looks {
			n, done := level[s]
			if done || visiting[s] { // the library ends such a circle with an error
				return n
			}
			visiting[s] = true
			defer delete(visiting, s)
			if depth == 0 {
				n = looks{1, 1}
			}
			for _, sub := range here(s) {
				m := count(sub)
				n.object, n.list = n.object+m.object, n.list+m.list
			}
			members, elements := below(s)
			n.object += most(members, above)
			n.list += most(elements, above)
			level[s] = n
			return n
		}
		for s := range w.all {
			count(s)
		}
		if max(level[root].object, level[root].list) > maxForeignWork {
			return errors.New("its references fan out: checking a value by it could take too long")
		}
		above = level
	}
	return nil
}

func most(groups [][]*jsonschema.Schema, above map[*jsonschema.Schema]looks) float64 {
	total := 0.0
	for _, group := range groups {
		n := 0.0
		for _, s := range group {
			n = max(n, above[s].object, above[s].list)
		}
		total += n
	}
	return total
}
