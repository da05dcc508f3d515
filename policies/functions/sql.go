package functions

import (
	"slices"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/callgate/callgate/call/sql"
)

// sqlFunctions tell what an SQL text would do. A text that can't be parsed is
// of kind "invalid", never read-only and never bounded.
func sqlFunctions() []cel.EnvOption {
	// Several functions of several rules look at the same text.
	read := newReader()
	texts := cel.ListType(cel.StringType)
	return []cel.EnvOption{
		read.function("sql.kind", cel.StringType, func(list []sql.Statement) ref.Val {
			switch len(list) {
			case 0:
				return types.String("invalid")
			case 1:
				return types.String(list[0].Kind())
			}
			return types.String("multiple")
		}),
		read.function("sql.kinds", texts, func(list []sql.Statement) ref.Val {
			if len(list) == 0 {
				return listOf([]string{"invalid"})
			}
			var out []string
			for _, s := range list {
				for _, k := range s.Kinds {
					if !slices.Contains(out, string(k)) {
						out = append(out, string(k))
					}
				}
			}
			return listOf(out)
		}),
		read.function("sql.tables", texts, func(list []sql.Statement) ref.Val {
			return listOf(collect(list, func(s sql.Statement) []string { return s.Tables }))
		}),
		read.function("sql.functions", texts, func(list []sql.Statement) ref.Val {
			return listOf(collect(list, func(s sql.Statement) []string { return s.Functions }))
		}),
		read.function("sql.statements", cel.IntType, func(list []sql.Statement) ref.Val { return types.Int(len(list)) }),
		read.function("sql.readonly", cel.BoolType, func(list []sql.Statement) ref.Val {
			return types.Bool(len(list) > 0 && !slices.ContainsFunc(list, func(s sql.Statement) bool { return !s.ReadOnly() }))
		}),
		read.function("sql.hasWhere", cel.BoolType, func(list []sql.Statement) ref.Val {
			return types.Bool(len(list) > 0 && !slices.ContainsFunc(list, func(s sql.Statement) bool { return !s.Bounded }))
		}),
		// The rows that a text asks for at most; -1 where nothing bounds them.
		read.function("sql.limit", cel.IntType, func(list []sql.Statement) ref.Val {
			most := int64(0)
			for _, s := range list {
				if s.Limit < 0 {
					return types.Int(-1)
				}
				most = max(most, s.Limit)
			}
			if len(list) == 0 {
				return types.Int(-1)
			}
			return types.Int(most)
		}),
	}
}

func collect(list []sql.Statement, of func(sql.Statement) []string) []string {
	var out []string
	for _, s := range list {
		for _, v := range of(s) {
			if !slices.Contains(out, v) {
				out = append(out, v)
			}
		}
	}
	slices.Sort(out)
	return out
}

// reader parses texts, and remembers those that it saw last.
type reader struct {
	seen *lru.Cache[read, []sql.Statement]
}

type read struct{ dialect, text string }

// remembered bounds what a reader holds; longest is the longest text of those,
// in bytes.
const (
	remembered = 256
	longest    = 16 << 10
)

func newReader() *reader {
	seen, err := lru.New[read, []sql.Statement](remembered)
	if err != nil {
		panic("functions: a cache of a fixed size can always be made: " + err.Error())
	}
	return &reader{seen}
}

// parse returns no statements where a text can't be parsed.
func (r *reader) parse(dialect, text string) ([]sql.Statement, error) {
	key := read{dialect, text}
	if list, ok := r.seen.Get(key); ok {
		return list, nil
	}
	if !slices.Contains(sql.Dialects, dialect) {
		_, err := sql.Parse(sql.Dialect(dialect), text)
		return nil, err
	}
	list, err := sql.Parse(sql.Dialect(dialect), text)
	if err != nil {
		list = nil
	}
	if len(text) <= longest {
		r.seen.Add(key, list)
	}
	return list, nil
}

// function is one over a text, and perhaps the name of its dialect.
func (r *reader) function(name string, result *cel.Type, do func([]sql.Statement) ref.Val) cel.EnvOption {
	of := func(v, dialect ref.Val) ref.Val {
		text, ok := v.(types.String)
		d, ok2 := dialect.(types.String)
		if !ok || !ok2 {
			return types.MaybeNoSuchOverloadErr(v)
		}
		list, err := r.parse(string(d), string(text))
		if err != nil {
			return types.NewErr("%s: %v", name, err)
		}
		return do(list)
	}
	return cel.Function(name,
		cel.Overload(id(name)+"_string", []*cel.Type{cel.StringType}, result,
			cel.UnaryBinding(func(v ref.Val) ref.Val { return of(v, types.String(sql.Generic)) })),
		cel.Overload(id(name)+"_string_string", []*cel.Type{cel.StringType, cel.StringType}, result, cel.BinaryBinding(of)))
}
