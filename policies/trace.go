package policies

import (
	"context"
	"slices"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/interpreter"
	"cel.dev/cel-go/parser"

	"github.com/callgate/callgate/call"
)

// Verdict is what came of a rule's condition.
type Verdict string

// The verdicts.
const (
	Elsewhere Verdict = "elsewhere" // the rule does not look at such calls
	Matched   Verdict = "true"
	Unmatched Verdict = "false"
	Failed    Verdict = "error"
	Unknown   Verdict = "unknown" // what it looks at is not known of the call
)

// Step is what became of one rule, or grant, with a call.
type Step struct {
	Inspected
	Verdict Verdict
	// Asked is set where the decision depended on the rule being evaluated. A
	// rule that comes after the one that decided is not asked; its verdict
	// says what it would have been.
	Asked bool
	// Decided is set for the rule that decided.
	Decided bool
	// Why tells why a rule looks elsewhere, or can't be evaluated. It quotes
	// no value of the call.
	Why string
	// Parts are the values of the condition's parts, in their order. They
	// are the call's own, secrets included.
	Parts []Evaluated
}

// Evaluated is a part of a condition and its value.
type Evaluated struct {
	Text string // CEL
	// Path is what is read, such as call args amount; nil for another part.
	Path  []string
	Value any    // Go's form of it
	Known bool   // Value is set
	Error string // why there is no value; empty if it was not evaluated
	Depth int    // how many parts it stands in
}

// Trace decides a call, as [Set.Decide] does, and tells what came of every
// rule: in the order in which they are asked, masks after those that decide,
// then those in shadow. It is for a set compiled with [Config.Inspect].
func (s *Set) Trace(ctx context.Context, c *call.Call) (call.Ruling, []Step) {
	ruling := s.Decide(ctx, c)
	in := s.vocabulary.acquire(c)
	in.counter = s.counter
	defer s.vocabulary.release(in)
	asked := map[string]bool{}
	j := judge{ctx: ctx, in: in, rules: s.concerned(c.Connection, c.Function), grants: [2]*grants{&s.own, &s.given},
		asked: func(r *rule, _ bool, _ error) { asked[r.name] = true }}
	if _, known := s.connections[c.Connection]; known {
		j.rule()
		j.shadows()
	}
	j.asked = nil
	var has []*grant
	for _, g := range j.grants {
		has = append(has, g.of(c)...)
	}
	steps := make([]Step, 0, len(s.inspected))
	for _, x := range s.inspected {
		st := Step{Inspected: x, Asked: asked[x.Rule.Name]}
		concerned := slices.Contains(j.rules, x.of)
		switch {
		case x.Grant != nil:
			concerned = slices.ContainsFunc(has, func(g *grant) bool { return g.name == x.Rule.Name })
			st.Why = x.grantElsewhere(c)
		case !x.looksAt(c.Connection):
			st.Why = "it looks at other connections"
		case !concerned:
			st.Why = "it looks at other functions"
		}
		if !concerned {
			st.Verdict = Elsewhere
			steps = append(steps, st)
			continue
		}
		st.Why = ""
		switch matched, err := j.matches(x.of); {
		case err != nil:
			st.Verdict, st.Why = Failed, explain(err)
		case matched:
			st.Verdict = Matched
		default:
			st.Verdict = Unmatched
		}
		st.Decided = ruling.Rule == x.Rule.Name && st.Asked
		st.Parts = x.of.parts(in)
		steps = append(steps, st)
	}
	slices.SortStableFunc(steps, func(a, b Step) int { return a.turn() - b.turn() })
	return ruling, steps
}

// turn says when a rule is asked.
func (st Step) turn() int {
	switch {
	case st.Grant != nil:
		return 3
	case st.Rule.Shadow:
		return 5
	}
	return map[string]int{Deny: 0, Hold: 1, Allow: 2, Mask: 4}[st.Rule.Action]
}

func (x Inspected) grantElsewhere(c *call.Call) string {
	g := x.Grant
	given := slices.Contains(g.Identities, c.Identity.Subject) || slices.Contains(g.Identities, c.Identity.Issuer+"|"+c.Identity.Subject) ||
		slices.ContainsFunc(c.Identity.Groups, func(group string) bool { return slices.Contains(g.Groups, group) })
	switch {
	case !given:
		return "it is not given to this caller"
	case !g.Until.IsZero() && !c.Time.Before(g.Until):
		return "it has ended"
	case !x.Concerns(c.Connection, c.Function):
		return "it is for other connections or functions"
	}
	return "it is not for those who act for the caller here"
}

// parts evaluates every part of a condition.
func (r *rule) parts(in *input) []Evaluated {
	if r.traced == nil {
		return nil
	}
	_, details, _ := r.traced.Eval(in) // the verdict says if it fails
	if details == nil || details.State() == nil {
		return nil
	}
	w := partWalk{checked: r.checked.NativeRep(), state: details.State()}
	w.visit(w.checked.Expr(), 0)
	return w.list
}

type partWalk struct {
	checked *ast.AST
	state   interpreter.EvalState
	list    []Evaluated
}

// visit lists e and its parts. What stands inside a macro such as exists has a
// value for each element, so only the whole and what it ranges over are told.
func (w *partWalk) visit(e ast.Expr, depth int) {
	info := w.checked.SourceInfo()
	if path, ok := pathOf(e); ok {
		if len(path) > 1 {
			w.add(e, path, depth)
		}
		return
	}
	switch e.Kind() {
	case ast.CallKind:
		w.add(e, nil, depth)
		c := e.AsCall()
		if c.IsMemberFunction() {
			w.visit(c.Target(), depth+1)
		}
		for _, a := range c.Args() {
			w.visit(a, depth+1)
		}
	case ast.SelectKind:
		w.add(e, nil, depth)
		if e.AsSelect().IsTestOnly() {
			return
		}
		w.visit(e.AsSelect().Operand(), depth+1)
	case ast.ListKind:
		for _, x := range e.AsList().Elements() {
			w.visit(x, depth)
		}
	case ast.MapKind:
		for _, x := range e.AsMap().Entries() {
			w.visit(x.AsMapEntry().Value(), depth)
		}
	case ast.ComprehensionKind:
		if _, written := info.GetMacroCall(e.ID()); written {
			w.add(e, nil, depth)
		}
		w.visit(e.AsComprehension().IterRange(), depth+1)
	}
}

func (w *partWalk) add(e ast.Expr, path []string, depth int) {
	text, err := parser.Unparse(e, w.checked.SourceInfo())
	if err != nil {
		return
	}
	out := Evaluated{Text: text, Path: path, Depth: depth}
	switch v, seen := w.state.Value(e.ID()); {
	case !seen:
	case types.IsError(v):
		if failure, ok := v.(*types.Err); ok {
			out.Error = explain(failure)
		}
	case types.IsUnknown(v):
	default:
		out.Value, out.Known = native(v), true
	}
	w.list = append(w.list, out)
}

// pathOf is what e reads, where it is a variable or a field of one.
func pathOf(e ast.Expr) ([]string, bool) {
	var path []string
	for {
		if e.Kind() == ast.IdentKind {
			path = append(path, e.AsIdent())
			slices.Reverse(path)
			return path, true
		}
		if e.Kind() == ast.SelectKind && e.AsSelect().IsTestOnly() {
			return nil, false
		}
		of, key, ok := step(e)
		if !ok {
			return nil, false
		}
		path, e = append(path, key), of
	}
}

// native is a value as JSON would have it.
func native(v ref.Val) any {
	switch v := v.(type) {
	case types.Null:
		return nil
	case types.Timestamp:
		return v.Time
	case types.Duration:
		return v.Duration.String()
	case *types.Optional:
		if !v.HasValue() {
			return nil
		}
		return native(v.GetValue())
	case *object:
		return v.kind.typ.TypeName()
	}
	return plain(v.Value(), 0)
}

// plain turns the library's lists and maps into Go's.
func plain(v any, depth int) any {
	if depth > maxDepth {
		return "…"
	}
	switch v := v.(type) {
	case ref.Val:
		return native(v)
	case []string:
		return append([]string{}, v...)
	case []ref.Val:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = plain(e, depth+1)
		}
		return out
	case map[ref.Val]ref.Val:
		out := make(map[string]any, len(v))
		for k, e := range v {
			key, ok := k.Value().(string)
			if ok {
				out[key] = plain(e, depth+1)
			}
		}
		return out
	}
	return v
}
