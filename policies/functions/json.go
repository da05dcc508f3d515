package functions

import (
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"github.com/ohler55/ojg/jp"
)

// The bounds of a walk through a value.
const (
	nodesMost = 100_000
	nodesDeep = 200
)

// jsonFunctions find things inside values.
func jsonFunctions() []cel.EnvOption {
	var paths sync.Map // string → jp.Expr; rules hold them all, so rules bound them
	return []cel.EnvOption{
		// All texts inside a value, keys too.
		cel.Function("json.strings", cel.Overload("json_strings_dyn", []*cel.Type{cel.DynType}, cel.ListType(cel.StringType),
			cel.UnaryBinding(func(v ref.Val) ref.Val {
				w := walk{}
				if !w.visit(v, 0) {
					return types.NewErr("json.strings: the value is too large")
				}
				return listOf(w.texts)
			}))),
		// The same, with what text.decode finds in each.
		cel.Function("json.layers", cel.Overload("json_layers_dyn", []*cel.Type{cel.DynType}, cel.ListType(cel.StringType), cel.UnaryBinding(layersOf))),
		// What a JSONPath selects (RFC 9535), as a list.
		cel.Function("json.path", cel.Overload("json_path_dyn_string", []*cel.Type{cel.DynType, cel.StringType}, cel.ListType(cel.DynType),
			cel.BinaryBinding(func(v, p ref.Val) ref.Val {
				text, ok := p.(types.String)
				if !ok {
					return types.MaybeNoSuchOverloadErr(p)
				}
				expr, known := paths.Load(string(text))
				if !known {
					parsed, err := jp.ParseString(string(text))
					if err != nil {
						return types.NewErr("json.path: %q is not a JSONPath: %v", string(text), err)
					}
					expr, _ = paths.LoadOrStore(string(text), parsed)
				}
				return types.DefaultTypeAdapter.NativeToValue(expr.(jp.Expr).Get(v.Value()))
			}))),
	}
}

// walk collects texts.
type walk struct {
	texts []string
	nodes int
}

func (w *walk) visit(v ref.Val, depth int) bool {
	if w.nodes++; w.nodes > nodesMost || depth > nodesDeep {
		return false
	}
	switch x := v.(type) {
	case types.String:
		w.texts = append(w.texts, string(x))
	case traits.Mapper:
		for it := x.Iterator(); it.HasNext() == types.True; {
			k := it.Next()
			if s, ok := k.(types.String); ok {
				w.texts = append(w.texts, string(s))
			}
			if !w.visit(x.Get(k), depth+1) {
				return false
			}
		}
	case traits.Lister:
		for it := x.Iterator(); it.HasNext() == types.True; {
			if !w.visit(it.Next(), depth+1) {
				return false
			}
		}
	}
	return true
}

// layersOf are all texts inside a value, with what text.decode finds in each.
func layersOf(v ref.Val) ref.Val {
	w := walk{}
	if !w.visit(v, 0) {
		return types.NewErr("json.layers: the value is too large")
	}
	var out []string
	seen, sum := map[string]bool{}, 0
	for _, s := range w.texts {
		if seen[s] {
			continue
		}
		if sum += len(s); sum > maxText {
			return types.NewErr("json.layers: its texts are longer than %d bytes together", maxText)
		}
		layers, all := decode(s)
		if !all {
			return types.NewErr("json.layers: more is encoded in a text than can be looked at")
		}
		for _, layer := range layers {
			if !seen[layer] {
				seen[layer] = true
				out = append(out, layer)
			}
		}
	}
	return listOf(out)
}
