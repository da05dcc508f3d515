package condition

import (
	"strings"

	"cel.dev/cel-go/common/ast"
)

// Named is a text that a condition compares a part of the call with.
type Named struct {
	Path string // call.function
	Text string
	ID   int64 // of the text, in the expression
}

// Names lists the texts that a condition compares parts of the call with, by
// ==, != and in.
func Names(a *ast.AST) []Named {
	if a == nil {
		return nil
	}
	var list []Named
	ast.PreOrderVisit(a.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() != ast.CallKind {
			return
		}
		c := comparison(e.AsCall())
		if c == nil || c.op != opIn && c.op != opDiffers {
			return
		}
		var exprs []ast.Expr
		for _, arg := range e.AsCall().Args() {
			switch arg.Kind() {
			case ast.ListKind:
				exprs = append(exprs, arg.AsList().Elements()...)
			case ast.LiteralKind:
				exprs = append(exprs, arg)
			}
		}
		for _, x := range exprs {
			if v, ok := constantOf(x); ok && v.class == text {
				list = append(list, Named{Path: strings.ReplaceAll(c.path, "\x00", "."), Text: v.text, ID: x.ID()})
			}
		}
	}))
	return list
}
