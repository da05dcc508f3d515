package sql

import (
	"fmt"
	"strings"
	"sync"

	tidb "github.com/pingcap/tidb/pkg/parser"
	"github.com/pingcap/tidb/pkg/parser/ast"
	_ "github.com/pingcap/tidb/pkg/parser/test_driver" // the values of expressions
)

// parsers are not for concurrent use.
var parsers = sync.Pool{New: func() any { return tidb.New() }}

// mysql reads a text with the parser of TiDB, which takes MySQL's dialect.
func mysql(text string) (out []Statement, err error) {
	defer func() {
		if recover() != nil { // the parser's; what it says may quote the text
			out, err = nil, ErrUnreadable
		}
	}()
	p := parsers.Get().(*tidb.Parser)
	nodes, _, err := p.ParseSQL(text)
	if err != nil {
		return nil, fmt.Errorf("%w as MySQL", ErrUnreadable)
	}
	for _, n := range nodes {
		w := &myWalk{out: Statement{Bounded: true, Limit: -1}}
		n.Accept(w)
		if len(w.out.Kinds) == 0 {
			w.out.Kinds = []Kind{Other}
		}
		if sel, ok := n.(*ast.SelectStmt); ok {
			w.limit(sel.Limit)
		}
		if set, ok := n.(*ast.SetOprStmt); ok {
			w.limit(set.Limit)
		}
		out = append(out, w.out)
	}
	parsers.Put(p) // one that panicked is not used again
	if len(out) == 0 {
		return nil, fmt.Errorf("%w: it holds no statement", ErrUnreadable)
	}
	return out, nil
}

// myWalk collects what one statement does.
type myWalk struct {
	out   Statement
	names names
	// scopes are the statements that called something by names of their own.
	scopes map[ast.Node]bool
}

func (w *myWalk) limit(l *ast.Limit) {
	if l == nil {
		return
	}
	if v, ok := l.Count.(ast.ValueExpr); ok {
		switch n := v.GetValue().(type) {
		case int64:
			w.out.Limit = n
		case uint64:
			w.out.Limit = int64(min(n, 1<<62))
		}
	}
}

func (w *myWalk) Leave(n ast.Node) (ast.Node, bool) {
	if w.scopes[n] {
		delete(w.scopes, n)
		w.names.leave()
	}
	return n, true
}

// with walks what a statement calls by names of its own, which hold in the rest
// of it; without RECURSIVE each may use those before it. The clause is taken off,
// since the walk of the rest would go through it again.
func (w *myWalk) with(n ast.Node, clause **ast.WithClause) {
	if *clause == nil {
		return
	}
	own := *clause
	*clause = nil
	w.names.enter()
	if w.scopes == nil {
		w.scopes = map[ast.Node]bool{}
	}
	w.scopes[n] = true
	for _, c := range own.CTEs {
		if own.IsRecursive {
			w.names.define(c.Name.L)
		}
	}
	for _, c := range own.CTEs {
		c.Query.Accept(w)
		w.names.define(c.Name.L)
	}
}

func (w *myWalk) Enter(n ast.Node) (ast.Node, bool) {
	switch s := n.(type) {
	case *ast.SelectStmt:
		add(&w.out.Kinds, Select)
		w.with(n, &s.With)
		w.out.Writes = w.out.Writes || s.SelectIntoOpt != nil
		w.out.Locks = w.out.Locks || s.LockInfo != nil && s.LockInfo.LockType != ast.SelectLockNone
	case *ast.SetOprStmt:
		add(&w.out.Kinds, Select)
		w.with(n, &s.With)
	case *ast.InsertStmt:
		add(&w.out.Kinds, Insert)
	case *ast.LoadDataStmt, *ast.ImportIntoStmt:
		add(&w.out.Kinds, Copy)
	case *ast.UpdateStmt:
		add(&w.out.Kinds, Update)
		w.with(n, &s.With)
		w.bounded(s.Where)
	case *ast.DeleteStmt:
		add(&w.out.Kinds, Delete)
		w.with(n, &s.With)
		w.bounded(s.Where)
	case *ast.CallStmt:
		add(&w.out.Kinds, Call)
	case *ast.ExplainStmt, *ast.ShowStmt, *ast.ExplainForStmt:
		add(&w.out.Kinds, Show)
	case *ast.SetStmt, *ast.UseStmt:
		add(&w.out.Kinds, Set)
	case *ast.BeginStmt, *ast.CommitStmt, *ast.RollbackStmt, *ast.SavepointStmt:
		add(&w.out.Kinds, Transaction)
	case *ast.GrantStmt, *ast.GrantRoleStmt, *ast.RevokeStmt, *ast.RevokeRoleStmt, *ast.CreateUserStmt, *ast.AlterUserStmt,
		*ast.DropUserStmt, *ast.SetPwdStmt, *ast.SetRoleStmt, *ast.SetDefaultRoleStmt, *ast.RenameUserStmt:
		add(&w.out.Kinds, DCL)
	case *ast.TableName:
		name := s.Name.L
		if s.Schema.L != "" {
			name = s.Schema.L + "." + name
		} else if w.names.has(name) {
			break
		}
		add(&w.out.Tables, name)
	case *ast.FuncCallExpr:
		add(&w.out.Functions, s.FnName.L)
	case *ast.AggregateFuncExpr:
		add(&w.out.Functions, strings.ToLower(s.F))
	case *ast.WindowFuncExpr:
		add(&w.out.Functions, strings.ToLower(s.Name))
	default:
		if _, ddl := n.(ast.DDLNode); ddl {
			add(&w.out.Kinds, DDL)
		} else if _, stmt := n.(ast.StmtNode); stmt {
			add(&w.out.Kinds, Other)
		}
	}
	return n, false
}

// bounded notes an UPDATE or DELETE of everything.
func (w *myWalk) bounded(where ast.ExprNode) {
	if where == nil {
		w.out.Bounded = false
		return
	}
	var c columns
	where.Accept(&c)
	if !c {
		w.out.Bounded = false
	}
}

// columns tells whether an expression looks at one.
type columns bool

func (c *columns) Enter(n ast.Node) (ast.Node, bool) {
	if _, ok := n.(*ast.ColumnNameExpr); ok {
		*c = true
	}
	return n, bool(*c)
}

func (c *columns) Leave(n ast.Node) (ast.Node, bool) { return n, true }
