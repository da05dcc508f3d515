package policies

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/cost"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"github.com/agnivade/levenshtein"

	"github.com/callgate/callgate/policies/functions"
)

// fault is an error inside an expression. Line counts from 1, column from 0,
// both within the expression.
type fault struct {
	line, column int
	text         string
}

// in maps the fault to the file that the expression stands in. The lines of a
// block scalar all begin where its first does; of a folded or quoted one
// only the first line is certain.
func (f fault) in(expression string, start Position) Position {
	if start.Line == 0 || f.line < 1 || f.line > strings.Count(expression, "\n")+1 {
		return start
	}
	return Position{File: start.File, Line: start.Line + f.line - 1, Column: start.Column + f.column}
}

// expression compiles a when. Faults are reported, never returned as a panic:
// the parser is the library's and the text is anybody's.
func (c *compiler) expression(text string) (out compiled) {
	defer func() {
		if r := recover(); r != nil {
			out = compiled{faults: []fault{{line: 1, text: fmt.Sprintf("when: can't be compiled: %v", r)}}}
		}
	}()
	parsed, issues := c.env.Parse(text)
	if issues.Err() != nil {
		return compiled{faults: c.faults(nil, issues)}
	}
	checked, issues := c.env.Check(parsed)
	if issues.Err() != nil {
		return compiled{faults: c.faults(parsed.NativeRep(), issues)}
	}
	if t := checked.OutputType(); !t.IsExactType(types.BoolType) {
		return compiled{faults: []fault{{line: 1, text: notBool(t)}}}
	}
	if faults := c.dynamicPatterns(checked.NativeRep()); len(faults) > 0 {
		return compiled{faults: faults}
	}
	options := []cel.ProgramOption{cel.EvalOptions(cel.OptOptimize)}
	// Keeping count costs a third of an evaluation; an expression that can't
	// reach the limit whatever the call holds is spared it.
	if most, err := c.env.EstimateCost(checked, worstCase{}); err != nil || most.Max > c.cfg.CostLimit {
		options = append(options, cel.CostTracking(actual{}), cel.CostLimit(c.cfg.CostLimit))
	}
	program, err := c.env.Program(checked, options...)
	if err != nil {
		return compiled{faults: []fault{{line: 1, text: "when: " + err.Error()}}}
	}
	out = compiled{program: program, checked: checked.NativeRep()}
	out.body = looksAtBody(readsOf(c.env, checked.NativeRep()))
	if c.cfg.Replay {
		out.reads = readsOf(c.env, checked.NativeRep())
		if out.partial, err = c.env.Program(checked, append(options, cel.EvalOptions(cel.OptPartialEval))...); err != nil {
			return compiled{faults: []fault{{line: 1, text: "when: " + err.Error()}}}
		}
	}
	if c.cfg.Inspect {
		if out.inspection, err = c.inspection(checked, options); err != nil {
			return compiled{faults: []fault{{line: 1, text: "when: " + err.Error()}}}
		}
	}
	return out
}

// worstCase takes everything in a call to be as large as a body can be.
type worstCase struct{}

func (worstCase) EstimateSize(node cost.AstNode) *cost.SizeEstimate {
	if node.ComputedSize() != nil {
		return nil
	}
	return &cost.SizeEstimate{Min: 0, Max: maxValue}
}

// EstimateCallCost takes a function of ours to cost whatever the limit is, so
// that what it really costs is counted.
func (worstCase) EstimateCallCost(function, _ string, _ *cost.AstNode, _ []cost.AstNode) *cost.CallEstimate {
	if _, ours := weight[function]; ours {
		return &cost.CallEstimate{CostEstimate: cost.Estimate{Min: 1, Max: math.MaxUint64}}
	}
	return nil
}

// weight is what our functions cost for each byte that they look at, in CEL's
// units, of which a step of the interpreter is one.
var weight = map[string]float64{
	"sql.kind": 2, "sql.kinds": 2, "sql.tables": 2, "sql.functions": 2, "sql.statements": 2, "sql.readonly": 2, "sql.hasWhere": 2, "sql.limit": 2,
	"text.matchesAny": 2, "text.containsAny": 1, "text.normalize": 0.5, "text.decode": 10, "text.entropy": 0.2,
	"net.inCIDR": 0.5, "net.isPrivate": 0.5, "net.host": 0.5, "net.scheme": 0.1, "json.strings": 0.2, "json.layers": 10, "json.path": 1, "glob.match": 1,
	"@schemaValid": 1, "@schemaErrors": 1,
}

// actual counts what our functions cost.
type actual struct{}

// CallCost implements [cost.ActualCostEstimator]; nil leaves it to the library.
func (actual) CallCost(function, _ string, args []ref.Val, _ ref.Val) *uint64 {
	w, ours := weight[function]
	if !ours {
		return nil
	}
	var size float64
	for _, a := range args {
		switch x := a.(type) {
		case types.String:
			size += float64(len(x))
		case traits.Sizer:
			if n, ok := x.Size().(types.Int); ok {
				size += 20 * float64(n)
			}
		}
	}
	n := uint64(20 + w*size)
	return &n
}

func notBool(t *types.Type) string {
	hint := "compare it with something"
	if t.Kind() == types.DynKind {
		hint = "what it is depends on the call, so compare it, such as call.args.flag == true"
	}
	return fmt.Sprintf("when: must be true or false, but is of type %s; %s", cel.FormatCELType(t), hint)
}

// dynamicPatterns finds regular expressions that are not written in the rule.
// One taken from a call would let the caller write part of the rule.
func (c *compiler) dynamicPatterns(a *ast.AST) []fault {
	var faults []fault
	ast.PreOrderVisit(a.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() != ast.CallKind {
			return
		}
		call, at := e.AsCall(), 1
		switch call.FunctionName() {
		case "matches":
			if call.IsMemberFunction() {
				at = 0
			}
		case "regex.extract", "regex.extractAll", "regex.replace":
		default:
			faults = append(faults, c.dynamicConstants(a, call)...)
			return
		}
		if args := call.Args(); at < len(args) && args[at].Kind() != ast.LiteralKind {
			where := a.SourceInfo().GetStartLocation(args[at].ID())
			faults = append(faults, fault{where.Line(), where.Column(),
				fmt.Sprintf("when: the pattern of %s must be written in the rule as one string, so that no call can choose it", call.FunctionName())})
		}
	}))
	return faults
}

// dynamicConstants finds arguments of our functions that must be written in the
// rule and are not, or are wrong.
func (c *compiler) dynamicConstants(a *ast.AST, call ast.CallExpr) []fault {
	functions.Warm(call.FunctionName())
	at, ours := functions.Constant()[call.FunctionName()]
	if !ours || at >= len(call.Args()) {
		return nil
	}
	arg := call.Args()[at]
	where := a.SourceInfo().GetStartLocation(arg.ID())
	bad := func(format string, args ...any) []fault {
		return []fault{{where.Line(), max(0, where.Column()), "when: " + fmt.Sprintf(format, args...)}}
	}
	var values []string
	take := func(e ast.Expr) bool {
		s, ok := types.String(""), e.Kind() == ast.LiteralKind
		if ok {
			s, ok = e.AsLiteral().(types.String)
		}
		values = append(values, string(s))
		return ok
	}
	ok := true
	if arg.Kind() == ast.ListKind {
		for _, e := range arg.AsList().Elements() {
			ok = take(e) && ok
		}
	} else {
		ok = take(arg)
	}
	if !ok {
		return bad("the second argument of %s must be written in the rule, so that no call can choose it", call.FunctionName())
	}
	if err := functions.Check(call.FunctionName(), values); err != nil {
		return bad("%v", err)
	}
	return nil
}

// The library's words that we know how to help with.
var (
	undeclared     = regexp.MustCompile(`^undeclared reference to '([^']*)'`)
	reserved       = regexp.MustCompile(`reserved identifier: (\w+)`)
	undefinedField = regexp.MustCompile(`^undefined field '([^']*)'`)
	noOverload     = regexp.MustCompile(`^found no matching overload for '([^']*)' applied to '(.*)'`)
	variables      = []string{"call", "identity", "connection", "session", "now"}
)

// faults puts the library's errors into our words.
func (c *compiler) faults(parsed *ast.AST, issues *cel.Issues) []fault {
	var out []fault
	for _, e := range issues.Errors() {
		text := e.Message
		if m := undeclared.FindStringSubmatch(text); m != nil {
			text = c.unknownName(parsed, e.ExprID, m[1])
		} else if m := reserved.FindStringSubmatch(text); m != nil {
			text = c.unknownName(nil, 0, m[1])
		} else if m := undefinedField.FindStringSubmatch(text); m != nil {
			text = c.unknownField(parsed, e, m[1])
		} else if m := noOverload.FindStringSubmatch(text); m != nil {
			text = fmt.Sprintf("%s can't be applied to %s", operatorName(m[1]), m[2])
		}
		f := fault{text: "when: " + text}
		if e.Location != nil {
			f.line, f.column = e.Location.Line(), max(0, e.Location.Column())
		}
		if !slices.Contains(out, f) {
			out = append(out, f)
		}
	}
	return out
}

func (c *compiler) unknownName(parsed *ast.AST, id int64, name string) string {
	isCall := false
	visit(parsed, id, func(x ast.Expr) { isCall = x.Kind() == ast.CallKind })
	if isCall {
		var known []string
		for f := range c.env.Functions() {
			if regexp.MustCompile(`^[a-z]`).MatchString(f) {
				known = append(known, f)
			}
		}
		slices.Sort(known)
		return fmt.Sprintf("there is no function %q%s", name, suggest(name, known))
	}
	hint := suggest(name, variables)
	for _, owner := range variables {
		// "function" alone is meant as call.function.
		if k := c.kindOf(owner); k != nil && k.fields[name] != nil {
			hint = fmt.Sprintf("; did you mean %q?", owner+"."+name)
			break
		}
	}
	return fmt.Sprintf("there is no %q; a rule can look at %s%s", name, strings.Join(variables, ", "), hint)
}

func (c *compiler) unknownField(parsed *ast.AST, e *common.Error, name string) string {
	owner := ""
	visit(parsed, e.ExprID, func(x ast.Expr) {
		if x.Kind() == ast.SelectKind && x.AsSelect().Operand().Kind() == ast.IdentKind {
			owner = x.AsSelect().Operand().AsIdent()
		}
	})
	k := c.kindOf(owner)
	if k == nil {
		k, owner = c.vocabulary.actor, "this"
	}
	if hint := suggest(name, k.fieldNames()); hint != "" {
		return fmt.Sprintf("%s has no field %q%s", owner, name, hint)
	}
	return fmt.Sprintf("%s has no field %q; it has %s", owner, name, strings.Join(k.fieldNames(), ", "))
}

// kindOf is the type of a variable, where it is an object.
func (c *compiler) kindOf(variable string) *kind {
	switch variable {
	case "call":
		return c.vocabulary.call
	case "identity":
		return c.vocabulary.identity
	case "connection":
		return c.vocabulary.conn
	case "session":
		return c.vocabulary.session
	}
	return nil
}

func visit(a *ast.AST, id int64, do func(ast.Expr)) {
	if a == nil {
		return
	}
	ast.PreOrderVisit(a.Expr(), ast.NewExprVisitor(func(x ast.Expr) {
		if x.ID() == id {
			do(x)
		}
	}))
}

// operatorName turns the library's "_==_" into "==".
func operatorName(s string) string { return strings.Trim(strings.ReplaceAll(s, "_", " "), " @") }

// suggest is a "did you mean" for a word that is none of the known.
func suggest(word string, known []string) string {
	if len(word) > 100 {
		return ""
	}
	best, distance := "", len(word)/2+1
	for _, k := range known {
		if d := levenshtein.ComputeDistance(strings.ToLower(word), strings.ToLower(k)); d < distance {
			best, distance = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", best)
}

func suggestFrom[T any](word string, known []T, name func(T) string) string {
	names := make([]string, len(known))
	for i, k := range known {
		names[i] = name(k)
	}
	return suggest(word, names)
}
