package condition

import (
	"hash/fnv"
	"slices"
	"strings"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/parser"
)

// mostTerms bounds a formula. A larger one is not reasoned about.
const (
	mostTerms   = 64
	mostProduct = 1024 // of terms of two that are put together
)

// Formula says when a condition is true, and when it is false, as alternatives
// of literals that hold together.
type Formula struct {
	yes, no terms
	// masks say roughly what yes speaks of, and what each term of no does, so
	// that two that have nothing to do with each other are told apart quickly.
	masks *masks
}

type masks struct {
	yes uint64
	no  []uint64
}

// terms are alternatives. nil is "never"; one empty term is "always".
type terms struct {
	list  []term
	vague bool // too large to be told
}

type term []literal

var (
	never  = terms{}
	always = terms{list: []term{{}}}
)

// Of reads a type-checked condition; nil is true.
func Of(a *ast.AST) Formula {
	if a == nil {
		return Formula{yes: always, no: never}
	}
	r := reader{info: a.SourceInfo()}
	return r.formula(a.Expr()).masked()
}

// In says that a part of the call is one of some values, as the scope of a rule
// does. Each part of a list in CEL's own form, such as "call", "function".
func In(path []string, values []string) Formula {
	atom := &atom{path: canonical(path), op: opIn}
	for _, v := range values {
		atom.values = append(atom.values, constant{class: text, text: v})
	}
	return atom.formula()
}

// And is true where all of fs are, and false where one is.
func And(fs ...Formula) Formula {
	out := Formula{yes: always, no: never}
	for _, f := range fs {
		out = Formula{yes: both(out.yes, f.yes), no: either(out.no, f.no)}
	}
	return out.masked()
}

func (f Formula) masked() Formula {
	f.masks = &masks{}
	for _, t := range f.yes.list {
		f.masks.yes |= t.mask()
	}
	for _, t := range f.no.list {
		f.masks.no = append(f.masks.no, t.mask())
	}
	return f
}

// mask has a bit for each path of a term, and for those that it lies in.
func (t term) mask() uint64 {
	var m uint64
	for _, l := range t {
		path := l.atom.path
		for {
			h := fnv.New64a()
			h.Write([]byte(path))
			m |= 1 << (h.Sum64() >> 58)
			end := strings.LastIndexByte(path, 0)
			if end < 0 {
				break
			}
			path = path[:end]
			if strings.Count(path, "\x00") < 2 {
				break
			}
		}
	}
	return m
}

// Never reports whether f is certainly never true.
func (f Formula) Never() bool { return f.yes.unsatisfiable() }

// Always reports whether f is true of every call.
func (f Formula) Always() bool {
	return slices.ContainsFunc(f.yes.list, func(t term) bool { return len(t) == 0 })
}

// NeverFalse reports whether f is certainly never false: it is true, or fails.
func (f Formula) NeverFalse() bool { return f.no.unsatisfiable() }

// Within reports whether f is certainly true only where g is not false.
func (f Formula) Within(g Formula) bool {
	if f.masks != nil && g.masks != nil && !f.yes.vague && len(f.yes.list) > 0 {
		for _, m := range g.masks.no {
			// This term goes with whatever f says.
			if m&f.masks.yes == 0 {
				return false
			}
		}
	}
	return both(g.no, f.yes).unsatisfiable()
}

// Apart reports whether f and g are certainly never true together.
func (f Formula) Apart(g Formula) bool { return both(f.yes, g.yes).unsatisfiable() }

// Speaks reports whether f speaks of a part of the call.
func (f Formula) Speaks(path ...string) bool { return f.subjects()[canonical(path)] }

func (f Formula) subjects() map[string]bool {
	out := map[string]bool{}
	for _, ts := range []terms{f.yes, f.no} {
		for _, t := range ts.list {
			for _, l := range t {
				out[l.atom.path] = true
			}
		}
	}
	return out
}

func (ts terms) unsatisfiable() bool {
	if ts.vague {
		return false
	}
	return !slices.ContainsFunc(ts.list, func(t term) bool { return t.possible() })
}

func both(a, b terms) terms {
	if impossible(a) || impossible(b) {
		return never
	}
	if a.vague || b.vague || len(a.list)*len(b.list) > mostProduct {
		return terms{vague: true}
	}
	out := terms{}
	for _, x := range a.list {
		for _, y := range b.list {
			t := slices.Concat(x, y)
			if t.possible() {
				out.list = append(out.list, t)
			}
		}
	}
	if len(out.list) > mostTerms {
		return terms{vague: true}
	}
	return out
}

func impossible(t terms) bool { return !t.vague && len(t.list) == 0 }

func either(a, b terms) terms {
	if a.vague || b.vague || len(a.list)+len(b.list) > mostTerms {
		return terms{vague: true}
	}
	return terms{list: slices.Concat(a.list, b.list)}
}

// reader takes an expression apart.
type reader struct {
	info *ast.SourceInfo
}

func (r reader) formula(e ast.Expr) Formula {
	switch e.Kind() {
	case ast.LiteralKind:
		switch e.AsLiteral() {
		case types.True:
			return Formula{yes: always, no: never}
		case types.False:
			return Formula{yes: never, no: always}
		}
	case ast.CallKind:
		c := e.AsCall()
		switch c.FunctionName() {
		case "_&&_":
			return r.join(c.Args(), And)
		case "_||_":
			return r.join(c.Args(), func(fs ...Formula) Formula {
				for i := range fs {
					fs[i] = fs[i].not()
				}
				return And(fs...).not()
			})
		case "!_":
			return r.formula(c.Args()[0]).not()
		}
	}
	return r.atom(e).formula()
}

func (r reader) join(args []ast.Expr, with func(...Formula) Formula) Formula {
	fs := make([]Formula, len(args))
	for i, a := range args {
		fs[i] = r.formula(a)
	}
	return with(fs...)
}

func (f Formula) not() Formula { return Formula{yes: f.no, no: f.yes}.masked() }

func (a *atom) formula() Formula {
	f := Formula{yes: terms{list: []term{{{a, true}}}}, no: terms{list: []term{{{a, false}}}}}
	if a.op == opDiffers {
		a.op = opIn
		f = f.not()
	}
	return f
}

// atom reads a condition that is not made of others.
func (r reader) atom(e ast.Expr) *atom {
	if e.Kind() == ast.SelectKind && e.AsSelect().IsTestOnly() {
		// A field of call or identity that is not there has an empty value;
		// only what maps hold can be missing.
		if path, ok := pathOf(e.AsSelect().Operand()); ok && len(path) > 1 {
			return &atom{path: canonical(append(path, e.AsSelect().FieldName())), op: opHas}
		}
	}
	if e.Kind() == ast.CallKind {
		if a := comparison(e.AsCall()); a != nil {
			return a
		}
	}
	written, err := parser.Unparse(e, r.info)
	if err != nil {
		// Equal to nothing else, so that nothing is concluded from it.
		written = "#" + strings.Repeat("?", 1+int(e.ID()%1000))
		return &atom{path: written, op: opOpaque, alone: true}
	}
	// Counts go up while a call is decided, if others come at the same time.
	return &atom{path: "(" + written + ")", op: opOpaque, alone: counts(e)}
}

// counts reports whether e asks for what may differ from one rule to the next.
func counts(e ast.Expr) bool {
	found := false
	ast.PreOrderVisit(e, ast.NewExprVisitor(func(x ast.Expr) {
		found = found || x.Kind() == ast.IdentKind && strings.TrimPrefix(x.AsIdent(), ".") == "session"
	}))
	return found
}

// comparison reads a comparison of a part of the call with constants.
func comparison(c ast.CallExpr) *atom {
	op, known := map[string]operator{"_==_": opIn, "_!=_": opDiffers, "@in": opIn, "_<_": opLess, "_<=_": opMost, "_>_": opMore, "_>=_": opLeast}[c.FunctionName()]
	if !known || len(c.Args()) != 2 {
		return nil
	}
	left, right := c.Args()[0], c.Args()[1]
	path, ok := pathOf(left)
	if in, is := pathOf(right); is && c.FunctionName() == "@in" && left.Kind() == ast.LiteralKind && len(in) == 2 {
		// Of a map, that a key is in it is that it is there.
		key, isText := left.AsLiteral().(types.String)
		if name := strings.Join(in, "."); isText && (name == "call.args" || name == "call.headers" || name == "identity.claims") {
			return &atom{path: canonical(append(in, string(key))), op: opHas}
		}
		return nil
	}
	if c.FunctionName() == "@in" {
		if !ok || right.Kind() != ast.ListKind || len(right.AsList().OptionalIndices()) > 0 {
			return nil
		}
		a := &atom{path: canonical(path), op: opIn}
		for _, x := range right.AsList().Elements() {
			v, ok := constantOf(x)
			if !ok {
				return nil
			}
			a.values = append(a.values, v)
		}
		return a
	}
	if !ok {
		if path, ok = pathOf(right); !ok {
			return nil
		}
		right = left
		op = map[operator]operator{opLess: opMore, opMost: opLeast, opMore: opLess, opLeast: opMost, opIn: opIn, opDiffers: opDiffers}[op]
	}
	v, ok := constantOf(right)
	if !ok {
		return nil
	}
	return &atom{path: canonical(path), op: op, values: []constant{v}}
}

// pathOf is what e reads: a variable, or a field or constant key of one. What
// is inside a macro is never looked at, so a name is always a variable.
func pathOf(e ast.Expr) ([]string, bool) {
	switch e.Kind() {
	case ast.IdentKind:
		return []string{strings.TrimPrefix(e.AsIdent(), ".")}, true
	case ast.SelectKind:
		if e.AsSelect().IsTestOnly() {
			return nil, false
		}
		path, ok := pathOf(e.AsSelect().Operand())
		return append(path, e.AsSelect().FieldName()), ok
	case ast.CallKind:
		c := e.AsCall()
		if c.FunctionName() != "_[_]" || len(c.Args()) != 2 || c.Args()[1].Kind() != ast.LiteralKind {
			return nil, false
		}
		key, isText := c.Args()[1].AsLiteral().(types.String)
		path, ok := pathOf(c.Args()[0])
		return append(path, string(key)), ok && isText
	}
	return nil, false
}

// canonical names a path. What goes by two names goes by one.
func canonical(path []string) string {
	if len(path) == 3 && path[0] == "call" && path[1] == "headers" {
		path = []string{"call", "headers", strings.ToLower(path[2])}
	}
	name := strings.Join(path, "\x00")
	switch name {
	case "connection\x00name":
		return "call\x00connection"
	case "connection\x00protocol":
		return "call\x00protocol"
	}
	return name
}
