package policies

import (
	"time"
	_ "time/tzdata" // time zones, also where the system has none

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/parser"

	"github.com/callgate/callgate/call"
)

// Counter tells rules how often something was called lately. It is asked by
// calls at the same time.
type Counter interface {
	// Count notes a call; what is asked afterwards includes it.
	Count(c *call.Call)
	// InSession and ByIdentity are how many calls of the call's session, or of
	// its identity, there were within a while, to its connection and to
	// functions that match.
	InSession(c *call.Call, match func(function string) bool, within time.Duration) int64
	ByIdentity(c *call.Call, match func(function string) bool, within time.Duration) int64
	// First reports whether the identity never called this function of this
	// connection before.
	First(c *call.Call) bool
}

// longestWindow is the longest time that counts look back.
const longestWindow = time.Hour

// sessionFunctions are what rules can ask of session; those about the identity
// are spelt identity.calls and identity.firstUse, see spelling.
func sessionFunctions(session *types.Type) []cel.EnvOption {
	count := func(name string, of func(Counter, *call.Call, func(string) bool, time.Duration) int64) cel.EnvOption {
		ask := func(target, pattern, window ref.Val) ref.Val {
			o, ok := target.(*object)
			p, ok2 := pattern.(types.String)
			d, ok3 := window.(types.Duration)
			switch {
			case !ok || !ok2 || !ok3:
				return types.MaybeNoSuchOverloadErr(target)
			case d.Duration <= 0 || d.Duration > longestWindow:
				return types.NewErr("session: counts look back up to %s", longestWindow)
			case o.in.counter == nil:
				return types.NewErr("session: nothing counts here")
			}
			g, err := parseGlob(string(p))
			if err != nil {
				return types.NewErr("session: function %q %v", string(p), err)
			}
			return types.Int(of(o.in.counter, o.in.call, g.match, d.Duration))
		}
		return cel.Function(name, cel.MemberOverload("session_"+name, []*cel.Type{session, cel.StringType, cel.DurationType}, cel.IntType,
			cel.FunctionBinding(func(args ...ref.Val) ref.Val { return ask(args[0], args[1], args[2]) })))
	}
	return []cel.EnvOption{
		count("calls", Counter.InSession),
		count("identityCalls", Counter.ByIdentity),
		cel.Function("firstUse", cel.MemberOverload("session_firstUse", []*cel.Type{session}, cel.BoolType,
			cel.UnaryBinding(func(target ref.Val) ref.Val {
				o, ok := target.(*object)
				switch {
				case !ok:
					return types.MaybeNoSuchOverloadErr(target)
				case o.in.counter == nil:
					return types.NewErr("session: nothing counts here")
				}
				return types.Bool(o.in.counter.First(o.in.call))
			}))),
	}
}

// spelling lets rules write what reads best: identity.calls(f, d) and
// identity.firstUse() for what session counts, time.hour(tz) and the like for
// parts of now, and schema.valid(x) for x against the function's schema.
func spelling() cel.EnvOption {
	on := func(variable, method string, args int, expand func(f parser.ExprHelper, args []ast.Expr) ast.Expr) cel.Macro {
		return cel.ReceiverMacro(method, args, func(f parser.ExprHelper, target ast.Expr, args []ast.Expr) (ast.Expr, *cel.Error) {
			if target.Kind() != ast.IdentKind || target.AsIdent() != variable {
				return nil, nil // somebody else's method of that name
			}
			return expand(f, args), nil
		})
	}
	ofSession := func(name string) func(parser.ExprHelper, []ast.Expr) ast.Expr {
		return func(f parser.ExprHelper, args []ast.Expr) ast.Expr {
			return f.NewMemberCall(name, f.NewIdent("session"), args...)
		}
	}
	ofNow := func(name string) func(parser.ExprHelper, []ast.Expr) ast.Expr {
		return func(f parser.ExprHelper, args []ast.Expr) ast.Expr {
			return f.NewMemberCall(name, f.NewIdent("now"), args...)
		}
	}
	between := func(f parser.ExprHelper, args []ast.Expr) ast.Expr {
		return f.NewCall("@between", append([]ast.Expr{f.NewIdent("now")}, args...)...)
	}
	of := func(name string) func(parser.ExprHelper, []ast.Expr) ast.Expr {
		return func(f parser.ExprHelper, args []ast.Expr) ast.Expr {
			field := func(name string) ast.Expr { return f.NewSelect(f.NewIdent("call"), name) }
			return f.NewCall(name, field("connection"), field("function"), args[0])
		}
	}
	return cel.Macros(
		on("identity", "calls", 2, ofSession("identityCalls")), on("identity", "firstUse", 0, ofSession("firstUse")),
		on("time", "hour", 0, ofNow("getHours")), on("time", "hour", 1, ofNow("getHours")),
		on("time", "minute", 0, ofNow("getMinutes")), on("time", "minute", 1, ofNow("getMinutes")),
		on("time", "weekday", 0, ofNow("getDayOfWeek")), on("time", "weekday", 1, ofNow("getDayOfWeek")),
		on("time", "date", 0, ofNow("getDate")), on("time", "date", 1, ofNow("getDate")),
		on("time", "between", 2, between), on("time", "between", 3, between),
		on("schema", "valid", 1, of("@schemaValid")), on("schema", "errors", 1, of("@schemaErrors")),
	)
}

// timeFunctions are behind time.between.
func timeFunctions() cel.EnvOption {
	between := func(now, from, to ref.Val, zone string) ref.Val {
		t, ok := now.(types.Timestamp)
		a, ok2 := from.(types.String)
		b, ok3 := to.(types.String)
		if !ok || !ok2 || !ok3 {
			return types.MaybeNoSuchOverloadErr(now)
		}
		place, err := time.LoadLocation(zone)
		if err != nil {
			return types.NewErr("time.between: there is no time zone %q", zone)
		}
		begin, err1 := time.Parse("15:04", string(a))
		end, err2 := time.Parse("15:04", string(b))
		if err1 != nil || err2 != nil {
			return types.NewErr("time.between: %q and %q must be times such as 09:00", string(a), string(b))
		}
		local := t.Time.In(place)
		at := local.Hour()*60 + local.Minute()
		first, last := begin.Hour()*60+begin.Minute(), end.Hour()*60+end.Minute()
		if first <= last {
			return types.Bool(at >= first && at < last)
		}
		return types.Bool(at >= first || at < last) // over midnight
	}
	return cel.Function("@between",
		cel.Overload("time_between", []*cel.Type{cel.TimestampType, cel.StringType, cel.StringType}, cel.BoolType,
			cel.FunctionBinding(func(a ...ref.Val) ref.Val { return between(a[0], a[1], a[2], "UTC") })),
		cel.Overload("time_between_zone", []*cel.Type{cel.TimestampType, cel.StringType, cel.StringType, cel.StringType}, cel.BoolType,
			cel.FunctionBinding(func(a ...ref.Val) ref.Val {
				zone, ok := a[3].(types.String)
				if !ok {
					return types.MaybeNoSuchOverloadErr(a[3])
				}
				return between(a[0], a[1], a[2], string(zone))
			})))
}

// Counting returns a set whose rules ask c, and that counts each call that it
// decides. It shares all else with s.
func (s *Set) Counting(c Counter) *Set {
	out := *s
	out.counter = c
	return &out
}
