// Package functions holds what rules can call beside CEL's own: they read SQL,
// text, addresses and JSON the way guardrails need to. All are pure, take
// anything a caller can send, and bound the work they do.
package functions

import (
	"fmt"
	"net/netip"
	"path"
	"regexp"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"github.com/ohler55/ojg/jp"

	"github.com/callgate/callgate/call/sql"
)

// Library is the set of functions, as a [cel.Library].
type Library struct{}

// CompileOptions implements [cel.Library].
func (Library) CompileOptions() []cel.EnvOption {
	var out []cel.EnvOption
	for _, group := range [][]cel.EnvOption{sqlFunctions(), textFunctions(), netFunctions(), jsonFunctions()} {
		out = append(out, group...)
	}
	return out
}

// ProgramOptions implements [cel.Library].
func (Library) ProgramOptions() []cel.ProgramOption { return nil }

// Constant lists the functions with an argument that only the rule may choose,
// and which one it is: a pattern, a list of words or of networks. One taken from
// a call would let the caller write part of the rule.
func Constant() map[string]int {
	return map[string]int{"text.matchesAny": 1, "text.containsAny": 1, "net.inCIDR": 1, "json.path": 1, "glob.match": 1}
}

// maxText is the most of a text that is looked at, in bytes. A longer one makes
// the function fail, and with it the rule, which denies.
const maxText = 1 << 20

// tooLong is the error of a text over maxText.
func tooLong(function string) ref.Val {
	return types.NewErr("%s: the text is longer than %d bytes", function, maxText)
}

// ofText makes a function of a text.
func ofText(name string, result *cel.Type, do func(string) ref.Val) cel.EnvOption {
	return cel.Function(name, cel.Overload(id(name)+"_string", []*cel.Type{cel.StringType}, result,
		cel.UnaryBinding(func(v ref.Val) ref.Val {
			s, ok := v.(types.String)
			if !ok {
				return types.MaybeNoSuchOverloadErr(v)
			}
			if len(s) > maxText {
				return tooLong(name)
			}
			return do(string(s))
		})))
}

// ofTextAndList makes a function of a text and a list of texts.
func ofTextAndList(name string, result *cel.Type, do func(string, []string) ref.Val) cel.EnvOption {
	return cel.Function(name, cel.Overload(id(name)+"_string_list", []*cel.Type{cel.StringType, cel.ListType(cel.StringType)}, result,
		cel.BinaryBinding(func(a, b ref.Val) ref.Val {
			s, ok := a.(types.String)
			if !ok {
				return types.MaybeNoSuchOverloadErr(a)
			}
			if len(s) > maxText {
				return tooLong(name)
			}
			list, bad := texts(b)
			if bad != nil {
				return bad
			}
			return do(string(s), list)
		})))
}

// texts reads a list of texts.
func texts(v ref.Val) ([]string, ref.Val) {
	list, ok := v.(traits.Lister)
	if !ok {
		return nil, types.MaybeNoSuchOverloadErr(v)
	}
	var out []string
	for it := list.Iterator(); it.HasNext() == types.True; {
		s, ok := it.Next().(types.String)
		if !ok {
			return nil, types.MaybeNoSuchOverloadErr(v)
		}
		out = append(out, string(s))
	}
	return out, nil
}

func listOf(s []string) ref.Val { return types.NewStringList(types.DefaultTypeAdapter, s) }

// id is a function's name as overloads have it.
func id(name string) string {
	out := []byte(name)
	for i, c := range out {
		if c == '.' {
			out[i] = '_'
		}
	}
	return string(out)
}

// Warm gets ready what a function needs that takes long at its first use.
func Warm(function string) {
	if strings.HasPrefix(function, "sql.") {
		sql.Warm()
	}
}

// Check reports what is wrong with the constant argument of a function.
func Check(function string, values []string) error {
	for _, v := range values {
		var err error
		switch function {
		case "text.matchesAny":
			_, err = regexp.Compile(v)
		case "net.inCIDR":
			if _, one := netip.ParseAddr(v); one != nil {
				_, err = netip.ParsePrefix(v)
			}
		case "json.path":
			_, err = jp.ParseString(v)
		case "glob.match":
			_, err = path.Match(v, "")
		}
		if err != nil {
			return fmt.Errorf("%s: %q: %w", function, v, err)
		}
	}
	return nil
}
