package policies

import (
	"cmp"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
)

// Part is a part of what rules can look at: a field, such as call.args, and of
// a map perhaps one key; or a whole variable, such as now.
type Part struct {
	Field string `json:"field"`
	Key   string `json:"key,omitempty"`
}

func (p Part) String() string {
	if p.Key != "" {
		return p.Field + "." + p.Key
	}
	return p.Field
}

// headersField is the one map whose keys are the same in whatever case.
const headersField = "call.headers"

// argumentsPart is all arguments.
var argumentsPart = Part{Field: "call.args"}

// overlaps reports whether what is said of q says something of p.
func (p Part) overlaps(q Part) bool {
	if p.Field != q.Field {
		return strings.HasPrefix(p.Field, q.Field+".") || strings.HasPrefix(q.Field, p.Field+".")
	}
	return p.Key == "" || q.Key == "" || p.Key == q.Key || p.Field == headersField && strings.EqualFold(p.Key, q.Key)
}

// Reads lists what the rules and grants that concern a connection's function
// look at, beside connection and function themselves. Rules in shadow don't
// count. It is for a set that was compiled with [Config.Replay].
func (s *Set) Reads(connection, function string) []Part {
	var list []Part
	if conn := s.connections[connection]; conn != nil && conn.schemas[function] != nil {
		list = append(list, argumentsPart)
	}
	for _, r := range s.concerned(connection, function) {
		if !r.shadow {
			list = append(list, r.reads...)
		}
	}
	for _, g := range []*grants{&s.own, &s.given} {
		for _, one := range g.all() {
			if !matchAny(one.connections, connection) || !matchAny(one.functions, function) {
				continue
			}
			for _, field := range []string{"issuer", "subject", "groups", "actors"} {
				list = append(list, Part{Field: "identity." + field})
			}
			if !one.until.IsZero() {
				list = append(list, Part{Field: "now"})
			}
			list = append(list, one.reads...)
		}
	}
	slices.SortFunc(list, comparePart)
	return slices.Compact(list)
}

// concerned lists the rules over a connection's function, in file order.
func (s *Set) concerned(connection, function string) []*rule {
	conn, known := s.connections[connection]
	if !known {
		return nil
	}
	list := conn.candidates(function, s.everywhere.candidates(function, nil))
	slices.SortFunc(list, func(a, b *rule) int { return a.at - b.at })
	return list
}

// all lists every grant once.
func (g *grants) all() []*grant {
	var list []*grant
	seen := map[*grant]bool{}
	for _, by := range []map[string][]*grant{g.byIdentity, g.byGroup} {
		for _, some := range by {
			for _, one := range some {
				if !seen[one] {
					seen[one] = true
					list = append(list, one)
				}
			}
		}
	}
	return list
}

func comparePart(a, b Part) int {
	return cmp.Or(cmp.Compare(a.Field, b.Field), cmp.Compare(a.Key, b.Key))
}

// readsOf lists what an expression looks at.
func readsOf(env *cel.Env, checked *ast.AST) []Part {
	w := readWalk{variables: map[string]bool{}, local: map[string]int{}}
	for _, v := range env.Variables() {
		if v.Type().Kind() != types.TypeKind {
			w.variables[v.Name()] = true
		}
	}
	w.visit(checked.Expr())
	slices.SortFunc(w.list, comparePart)
	return slices.Compact(w.list)
}

// looksAtBody reports whether some of the parts are the request's body, or come
// of it.
func looksAtBody(list []Part) bool {
	return slices.ContainsFunc(list, func(p Part) bool {
		return p.Field == "call" || p.overlaps(argumentsPart) || p.overlaps(Part{Field: "call.body_size"})
	})
}

type readWalk struct {
	variables map[string]bool
	local     map[string]int // names that a comprehension gives, while inside
	list      []Part
}

func (w *readWalk) visit(e ast.Expr) {
	if part, ok := w.part(e); ok {
		w.list = append(w.list, part)
		return
	}
	switch e.Kind() {
	case ast.SelectKind:
		w.visit(e.AsSelect().Operand())
	case ast.CallKind:
		if e.AsCall().IsMemberFunction() {
			w.visit(e.AsCall().Target())
		}
		for _, a := range e.AsCall().Args() {
			w.visit(a)
		}
	case ast.ListKind:
		for _, x := range e.AsList().Elements() {
			w.visit(x)
		}
	case ast.MapKind:
		for _, x := range e.AsMap().Entries() {
			w.visit(x.AsMapEntry().Key())
			w.visit(x.AsMapEntry().Value())
		}
	case ast.StructKind:
		for _, x := range e.AsStruct().Fields() {
			w.visit(x.AsStructField().Value())
		}
	case ast.ComprehensionKind:
		c := e.AsComprehension()
		w.visit(c.IterRange())
		w.visit(c.AccuInit())
		names := []string{c.IterVar(), c.IterVar2(), c.AccuVar()}
		for _, n := range names {
			w.local[n]++
		}
		w.visit(c.LoopCondition())
		w.visit(c.LoopStep())
		for _, n := range names[:2] {
			w.local[n]--
		}
		w.visit(c.Result())
		w.local[names[2]]--
	}
}

// part is what e reads, where e is a variable, a field of one, or a key of
// that.
func (w *readWalk) part(e ast.Expr) (Part, bool) {
	inner, field, steps := e, [2]string{}, 0
	for {
		if inner.Kind() == ast.IdentKind {
			name := strings.TrimPrefix(inner.AsIdent(), ".")
			if w.local[name] > 0 || !w.variables[name] {
				return Part{}, false
			}
			switch steps {
			case 0:
				return Part{Field: name}, true
			case 1:
				return Part{Field: name + "." + field[0]}, true
			default:
				return Part{Field: name + "." + field[1], Key: field[0]}, true
			}
		}
		of, key, ok := step(inner)
		if !ok || steps == 2 {
			return Part{}, false
		}
		inner, field[steps] = of, key
		steps++
	}
}

// step takes off the last selection of a field or constant key.
func step(e ast.Expr) (of ast.Expr, key string, ok bool) {
	switch e.Kind() {
	case ast.SelectKind:
		return e.AsSelect().Operand(), e.AsSelect().FieldName(), true
	case ast.CallKind:
		c := e.AsCall()
		switch c.FunctionName() {
		case "_[_]", "_[?_]", "_?._":
			if len(c.Args()) == 2 && c.Args()[1].Kind() == ast.LiteralKind {
				if s, text := c.Args()[1].AsLiteral().(types.String); text {
					return c.Args()[0], string(s), true
				}
			}
		}
	}
	return nil, "", false
}
