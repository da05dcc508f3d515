package policies

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
)

// misused finds what an expression asks of call.args that the schemas of all the
// functions it can meet rule out: arguments that none of them has, and
// comparisons that no value of theirs can pass.
func misused(a *ast.AST, functions []*schema) []fault {
	if len(functions) == 0 {
		return nil
	}
	w := &misuse{ast: a, functions: functions}
	ast.PreOrderVisit(a.Expr(), ast.NewExprVisitor(w.visit))
	return w.faults
}

type misuse struct {
	ast       *ast.AST
	functions []*schema
	faults    []fault
}

func (w *misuse) add(e ast.Expr, format string, args ...any) {
	at := w.ast.SourceInfo().GetStartLocation(e.ID())
	f := fault{at.Line(), max(0, at.Column()), "when: " + fmt.Sprintf(format, args...)}
	if !slices.Contains(w.faults, f) {
		w.faults = append(w.faults, f)
	}
}

func (w *misuse) visit(e ast.Expr) {
	switch e.Kind() {
	case ast.SelectKind:
		if path, ok := argument(e); ok {
			w.known(e, path)
		}
	case ast.CallKind:
		c := e.AsCall()
		switch c.FunctionName() {
		case "_==_", "_!=_", "_<_", "_<=_", "_>_", "_>=_":
			w.compared(e, c.Args()[0], c.Args()[1])
			w.compared(e, c.Args()[1], c.Args()[0])
		}
	}
}

// known complains about an argument that no function has.
func (w *misuse) known(e ast.Expr, path []string) {
	var names []string
	for _, s := range w.functions {
		at, ok := s.shape, true
		for i, name := range path {
			if !closed(at) {
				return // anything may stand there
			}
			if i == len(path)-1 {
				names = append(names, slices.Collect(maps.Keys(at.Properties))...)
			}
			if at, ok = at.Properties[name]; !ok {
				break
			}
		}
		if ok {
			return
		}
	}
	name := path[len(path)-1]
	hint := suggest(name, names)
	if hint == "" && len(names) > 0 {
		slices.Sort(names)
		hint = "; there are " + strings.Join(slices.Compact(names), ", ")
	}
	w.add(e, "the schema has no argument %q%s", strings.Join(path, "."), hint)
}

// compared complains about a comparison with a constant of another type.
func (w *misuse) compared(e, arg, with ast.Expr) {
	path, ok := argument(arg)
	if !ok || with.Kind() != ast.LiteralKind {
		return
	}
	var is string
	switch with.AsLiteral().(type) {
	case types.String:
		is = "string"
	case types.Int, types.Uint, types.Double:
		is = "number"
	case types.Bool:
		is = "boolean"
	default:
		return
	}
	var wants []string
	for _, s := range w.functions {
		at := s.shape
		for _, name := range path {
			next, ok := at.Properties[name]
			if !ok {
				return
			}
			at = next
		}
		kinds := kindsOf(at)
		if kinds == nil || slices.Contains(kinds, is) || is == "number" && slices.Contains(kinds, "integer") {
			return
		}
		wants = append(wants, kinds...)
	}
	slices.Sort(wants)
	w.add(e, "argument %q is of type %s by its schema, and is compared with a %s", strings.Join(path, "."), strings.Join(slices.Compact(wants), " or "), is)
}

// closed reports whether a schema lists all the properties that there can be.
func closed(s shape) bool { return s.Additional == false }

// kindsOf are the JSON types that a schema allows; nil: any.
func kindsOf(s shape) []string {
	switch t := s.Type.(type) {
	case string:
		return []string{t}
	case []any:
		var out []string
		for _, v := range t {
			if name, ok := v.(string); ok {
				out = append(out, name)
			}
		}
		return out
	}
	return nil
}

// argument is the path of e below call.args.
func argument(e ast.Expr) ([]string, bool) {
	var path []string
	for e.Kind() == ast.SelectKind {
		s := e.AsSelect()
		if s.Operand().Kind() == ast.IdentKind && s.Operand().AsIdent() == "call" && s.FieldName() == "args" {
			slices.Reverse(path)
			return path, len(path) > 0
		}
		if s.IsTestOnly() {
			return nil, false // has(…) asks just that
		}
		path = append(path, s.FieldName())
		e = s.Operand()
	}
	return nil, false
}
