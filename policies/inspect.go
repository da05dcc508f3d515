package policies

import (
	"maps"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/parser"
)

// inspection is what the tools that read a policy need of a condition.
type inspection struct {
	checked *cel.Ast    // as written
	folded  *ast.AST    // with its constants worked out
	traced  cel.Program // evaluates every part, and keeps the values
}

// inspection prepares a condition for tools. An expression whose constants
// can't be worked out, such as 1 / 0, is left as it was written.
func (c *compiler) inspection(checked *cel.Ast, options []cel.ProgramOption) (inspection, error) {
	out := inspection{checked: checked, folded: checked.NativeRep()}
	if fold, err := cel.NewConstantFoldingOptimizer(); err == nil {
		if optimizer, err := cel.NewStaticOptimizer(fold); err == nil {
			if folded, issues := optimizer.Optimize(c.env, checked); issues.Err() == nil {
				out.folded = folded.NativeRep()
			}
		}
	}
	var err error
	out.traced, err = c.env.Program(checked, append(slices.Clone(options), cel.EvalOptions(cel.OptExhaustiveEval))...)
	return out, err
}

func (i inspection) written() *ast.AST {
	if i.checked == nil {
		return nil
	}
	return i.checked.NativeRep()
}

// inspectedRule tells of a rule.
func inspectedRule(r *rule, from Rule, connections []string) Inspected {
	out := Inspected{Rule: from, Connections: connections, Condition: r.folded, Written: r.written(), functions: r.functions, of: r}
	if len(from.Connections) > 0 {
		out.where = make(map[string]bool, len(connections))
		for _, name := range connections {
			out.where[name] = true
		}
	}
	return out
}

// Inspected is a rule, or a grant in the shape of one, as it was compiled: what
// it looks at, and on which condition.
type Inspected struct {
	// Rule is as it was written. Of a grant, the name has [GrantPrefix] and
	// the action is allow.
	Rule  Rule
	Grant *Grant // nil for a rule
	// Connections are those that the rule looks at.
	Connections []string
	// Condition is type-checked, its constants worked out; nil is true. It is
	// shared and read-only.
	Condition *ast.AST
	// Written is the condition before its constants were worked out.
	Written *ast.AST

	functions []glob
	where     map[string]bool // Connections; nil: all there are
	of        *rule
}

// Inspect lists the rules in file order, and then the grants. It is for a set
// that was compiled with [Config.Inspect].
func (s *Set) Inspect() []Inspected { return slices.Clone(s.inspected) }

// Counts reports whether the condition asks how often something was called, or
// whether it is for the first time. It is for a set that was compiled with
// [Config.Replay] too.
func (x Inspected) Counts() bool {
	return x.of != nil && slices.ContainsFunc(x.of.reads, func(p Part) bool {
		return p.Field == "session" || strings.HasPrefix(p.Field, "session.") && p.Field != "session.id"
	})
}

// Always reports whether the rule's condition is true whatever the call.
func (x Inspected) Always() bool {
	if x.Condition == nil {
		return true
	}
	e := x.Condition.Expr()
	return e.Kind() == ast.LiteralKind && e.AsLiteral() == types.True
}

// Concerns reports whether the rule looks at a connection's function.
func (x Inspected) Concerns(connection, function string) bool {
	return x.looksAt(connection) && x.Function(function)
}

func (x Inspected) looksAt(connection string) bool { return x.where == nil || x.where[connection] }

// At is where a part of Written stands, by its id in the expression.
func (x Inspected) At(id int64) Position {
	if x.Written == nil || x.Rule.WhenPosition.Line == 0 {
		return x.Rule.Position
	}
	at := x.Written.SourceInfo().GetStartLocation(id)
	return fault{line: at.Line(), column: max(0, at.Column())}.in(x.Rule.When, x.Rule.WhenPosition)
}

// Function reports whether the rule's globs take a function.
func (x Inspected) Function(name string) bool {
	return len(x.functions) == 0 || matchAny(x.functions, name)
}

// EveryFunction reports whether the rule looks at all functions of its
// connections.
func (x Inspected) EveryFunction() bool {
	return len(x.functions) == 0 || slices.ContainsFunc(x.functions, func(g glob) bool { return len(g.tokens) == 1 && g.tokens[0].kind == run })
}

// Covers reports whether x certainly looks at everything that y looks at,
// their conditions apart. offered are the functions of a connection, nil where
// they are not known.
func (x Inspected) Covers(y Inspected, offered func(connection string) []string) bool {
	if x.where != nil && !(y.where != nil && len(y.where) <= len(x.where)) {
		return false
	}
	for _, conn := range y.Connections {
		if !x.looksAt(conn) {
			return false
		}
	}
	if x.EveryFunction() || x.coversGlobs(y) {
		return true
	}
	for _, conn := range y.Connections {
		names := offered(conn)
		if names == nil {
			return false
		}
		for _, name := range names {
			if y.Function(name) && !x.Function(name) {
				return false
			}
		}
	}
	return len(y.Connections) > 0
}

// MeetsFunction reports whether some function could be one that both x and y
// look at. offered are the functions of a connection, nil where they are not
// known.
func (x Inspected) MeetsFunction(y Inspected, offered []string) bool {
	if offered != nil {
		return slices.ContainsFunc(offered, func(name string) bool { return x.Function(name) && y.Function(name) })
	}
	if len(x.functions) == 0 || len(y.functions) == 0 {
		return true
	}
	for _, g := range x.functions {
		for _, h := range y.functions {
			if !g.exact && !h.exact || g.exact && h.match(g.literal) || h.exact && g.match(h.literal) {
				return true
			}
		}
	}
	return false
}

func (x Inspected) coversGlobs(y Inspected) bool {
	if len(y.functions) == 0 {
		return false
	}
	for i := range y.functions {
		if !slices.ContainsFunc(x.functions, func(g glob) bool { return g.covers(&y.functions[i]) }) {
			return false
		}
	}
	return true
}

// covers reports whether g certainly matches all that h matches.
func (g *glob) covers(h *glob) bool {
	if h.exact {
		return g.match(h.literal)
	}
	// reach[i] says whether the tokens of g so far can take the first i of h.
	reach := make([]bool, len(h.tokens)+1)
	reach[0] = true
	for _, t := range g.tokens {
		next := make([]bool, len(reach))
		for i := range reach {
			switch {
			case t.kind == run:
				next[i] = reach[i] || i > 0 && next[i-1]
			case i == 0 || !reach[i-1]:
			case t.kind == any1:
				// A character beyond ASCII is several bytes, so several tokens.
				next[i] = h.tokens[i-1].kind == any1 || h.tokens[i-1].kind == one && h.tokens[i-1].char < 0x80
			default:
				next[i] = h.tokens[i-1] == t
			}
		}
		reach = next
	}
	return reach[len(h.tokens)]
}

// inspectedGrant tells of a grant as of a rule that allows.
func (c *compiler) inspectedGrant(g *grant, from *Grant) Inspected {
	as := *from
	out := Inspected{Grant: &as, Condition: g.folded, Written: g.written(), functions: g.functions, where: map[string]bool{},
		Rule: Rule{Name: g.name, Connections: from.Connections, Functions: from.Functions, When: from.When, Action: Allow,
			Position: from.Position, WhenPosition: from.WhenPosition}}
	for _, conn := range c.cfg.Connections {
		if matchAny(g.connections, conn.Name) {
			out.Connections = append(out.Connections, conn.Name)
			out.where[conn.Name] = true
		}
	}
	out.of = &rule{name: g.name, action: Allow, functions: g.functions, when: g.when, replay: g.replay, inspection: g.inspection}
	return out
}

// named lists the connections of a set by name.
func (s *Set) named() []Connection {
	if !s.inspect {
		return nil
	}
	var list []Connection
	for _, name := range slices.Sorted(maps.Keys(s.connections)) {
		list = append(list, Connection{Name: name})
	}
	return list
}

// When is the condition in one form for all ways to lay it out; empty for true.
func (x Inspected) When() string {
	if x.Written == nil {
		return ""
	}
	text, err := parser.Unparse(x.Written.Expr(), x.Written.SourceInfo())
	if err != nil {
		return x.Rule.When
	}
	return text
}

// Mentions reports whether the condition looks at a variable, such as now.
func (x Inspected) Mentions(variable string) bool {
	if x.Written == nil {
		return false
	}
	found := false
	ast.PreOrderVisit(x.Written.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		found = found || e.Kind() == ast.IdentKind && strings.TrimPrefix(e.AsIdent(), ".") == variable
	}))
	return found
}

// Lacks lists which of some missing parts the condition looks at. It is for a
// set that was compiled with [Config.Replay], too.
func (x Inspected) Lacks(missing []Part) []Part {
	var list []Part
	for _, p := range missing {
		if slices.ContainsFunc(x.of.reads, p.overlaps) {
			list = append(list, p)
		}
	}
	return list
}
