package sql

import (
	"fmt"
	"strings"

	pgquery "github.com/pganalyze/pg_query_go/v6"
	parser "github.com/wasilibs/go-pgquery"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// postgres reads a text with PostgreSQL's own parser.
func postgres(text string) (out []Statement, err error) {
	defer func() {
		if recover() != nil { // the parser's; what it says may quote the text
			out, err = nil, ErrUnreadable
		}
	}()
	tree, err := parser.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%w as PostgreSQL", ErrUnreadable)
	}
	for _, s := range tree.GetStmts() {
		p := &pgWalk{out: Statement{Bounded: true, Limit: -1}}
		own := s.GetStmt()
		p.top(own)
		p.walk(own.ProtoReflect(), 0)
		out = append(out, p.out)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%w: it holds no statement", ErrUnreadable)
	}
	return out, nil
}

// pgWalk collects what one statement does.
type pgWalk struct {
	out   Statement
	names names
}

// top notes the statement's own limit.
func (p *pgWalk) top(n *pgquery.Node) {
	sel := n.GetSelectStmt()
	if sel == nil {
		return
	}
	// PostgreSQL keeps a number of up to 32 bits as an integer and a larger one
	// as text; no number, or NULL (ALL), is all rows.
	if c := sel.GetLimitCount().GetAConst(); c != nil && c.GetIval() != nil && !c.GetIsnull() {
		p.out.Limit = int64(c.GetIval().GetIval())
	}
}

const deepest = 1000

func (p *pgWalk) walk(m protoreflect.Message, depth int) {
	if depth > deepest {
		panic("deeper than it should be")
	}
	p.visit(m)
	if s, ok := m.Interface().(interface{ GetWithClause() *pgquery.WithClause }); ok && s.GetWithClause() != nil {
		p.with(s.GetWithClause(), depth)
		defer p.names.leave()
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.Message() == nil, f.Name() == "with_clause":
		case f.IsList():
			for i := range v.List().Len() {
				p.walk(v.List().Get(i).Message(), depth+1)
			}
		case !f.IsMap():
			p.walk(v.Message(), depth+1)
		}
		return true
	})
}

// with walks what a statement calls by names of its own, which hold in the rest
// of it; without RECURSIVE each may use those before it.
func (p *pgWalk) with(w *pgquery.WithClause, depth int) {
	p.names.enter()
	for _, c := range w.GetCtes() {
		if w.GetRecursive() {
			p.names.define(c.GetCommonTableExpr().GetCtename())
		}
	}
	for _, c := range w.GetCtes() {
		p.walk(c.ProtoReflect(), depth+1)
		p.names.define(c.GetCommonTableExpr().GetCtename())
	}
}

// changes notes a table that a statement changes, which is one even where WITH
// has another of its name.
func (p *pgWalk) changes(r *pgquery.RangeVar) {
	if r.GetSchemaname() == "" && r.GetRelname() != "" {
		add(&p.out.Tables, r.GetRelname())
	}
}

func (p *pgWalk) visit(m protoreflect.Message) {
	switch n := m.Interface().(type) {
	case *pgquery.SelectStmt:
		add(&p.out.Kinds, Select)
		if n.GetIntoClause() != nil {
			p.out.Writes = true
		}
		if len(n.GetLockingClause()) > 0 {
			p.out.Locks = true
		}
	case *pgquery.InsertStmt:
		add(&p.out.Kinds, Insert)
		p.changes(n.GetRelation())
	case *pgquery.UpdateStmt:
		add(&p.out.Kinds, Update)
		p.changes(n.GetRelation())
		p.bounded(n.GetWhereClause())
	case *pgquery.DeleteStmt:
		add(&p.out.Kinds, Delete)
		p.changes(n.GetRelation())
		p.bounded(n.GetWhereClause())
	case *pgquery.MergeStmt:
		add(&p.out.Kinds, Merge)
		p.changes(n.GetRelation())
	case *pgquery.CallStmt:
		add(&p.out.Kinds, Call)
	case *pgquery.CopyStmt:
		add(&p.out.Kinds, Copy)
	case *pgquery.ExplainStmt:
		add(&p.out.Kinds, Show)
	case *pgquery.VariableShowStmt:
		add(&p.out.Kinds, Show)
	case *pgquery.VariableSetStmt:
		add(&p.out.Kinds, Set)
	case *pgquery.TransactionStmt:
		add(&p.out.Kinds, Transaction)
	case *pgquery.GrantStmt, *pgquery.GrantRoleStmt, *pgquery.AlterDefaultPrivilegesStmt, *pgquery.CreateRoleStmt,
		*pgquery.AlterRoleStmt, *pgquery.DropRoleStmt, *pgquery.AlterOwnerStmt, *pgquery.CreatePolicyStmt, *pgquery.AlterPolicyStmt, *pgquery.ReassignOwnedStmt, *pgquery.DropOwnedStmt:
		add(&p.out.Kinds, DCL)
	case *pgquery.RangeVar:
		name := n.GetRelname()
		if n.GetSchemaname() != "" {
			name = n.GetSchemaname() + "." + name
		} else if p.names.has(name) {
			break
		}
		if name != "" {
			add(&p.out.Tables, name)
		}
	case *pgquery.DropStmt:
		add(&p.out.Kinds, DDL)
		for _, object := range n.GetObjects() {
			var parts []string
			for _, part := range object.GetList().GetItems() {
				parts = append(parts, part.GetString_().GetSval())
			}
			if len(parts) > 0 {
				add(&p.out.Tables, strings.Join(parts, "."))
			}
		}
	case *pgquery.FuncCall:
		var parts []string
		for _, part := range n.GetFuncname() {
			parts = append(parts, part.GetString_().GetSval())
		}
		name := strings.ToLower(strings.Join(parts, "."))
		add(&p.out.Functions, strings.TrimPrefix(name, "pg_catalog."))
	default:
		p.other(m)
	}
}

// other tells the statements that PostgreSQL has by the score.
func (p *pgWalk) other(m protoreflect.Message) {
	name, stmt := strings.CutSuffix(string(m.Descriptor().Name()), "Stmt")
	if !stmt || name == "Raw" {
		return
	}
	for _, prefix := range []string{"Create", "Alter", "Drop", "Truncate", "Rename", "Comment", "Index", "View", "Define", "Reindex", "RefreshMatView", "SecLabel", "Rule", "ImportForeignSchema", "Composite"} {
		if strings.HasPrefix(name, prefix) {
			add(&p.out.Kinds, DDL)
			return
		}
	}
	add(&p.out.Kinds, Other)
}

// bounded notes an UPDATE or DELETE of everything.
func (p *pgWalk) bounded(where *pgquery.Node) {
	if where == nil || !mentionsColumn(where.ProtoReflect()) {
		p.out.Bounded = false
	}
}

func mentionsColumn(m protoreflect.Message) bool {
	if _, ok := m.Interface().(*pgquery.ColumnRef); ok {
		return true
	}
	found := false
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.Message() == nil:
		case f.IsList():
			for i := 0; i < v.List().Len() && !found; i++ {
				found = mentionsColumn(v.List().Get(i).Message())
			}
		case !f.IsMap():
			found = mentionsColumn(v.Message())
		}
		return !found
	})
	return found
}
