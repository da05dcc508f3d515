package policies

import (
	"fmt"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/ext"

	"github.com/callgate/callgate/policies/functions"
)

// Bounds on an expression, so that neither compiling nor evaluating it can
// take long. They are far above what a person writes.
const (
	maxExpression   = 16 << 10 // characters
	maxNodes        = 5_000
	maxDepth        = 100
	maxNesting      = 2 // comprehensions inside each other
	maxRegexProgram = 2_000
	maxRange        = 1_000 // lists.range

	// maxValue is the most bytes or entries that a value of a call can have:
	// the largest request body that a connection can be told to let through.
	maxValue = 64 << 20

	// DefaultCostLimit is what one evaluation may cost, in CEL's units
	// (about one for each step or ten characters looked at). A regular
	// expression of forty characters over 1 MiB of text costs a million.
	DefaultCostLimit = 4_000_000
)

// provider adds the vocabulary's kinds to the registry's types.
type provider struct {
	*types.Registry
	kinds map[string]*kind
}

func (p provider) FindStructType(name string) (*types.Type, bool) {
	if k, ok := p.kinds[name]; ok {
		return types.NewTypeTypeWithParam(k.typ), true
	}
	return p.Registry.FindStructType(name)
}

func (p provider) FindStructFieldNames(name string) ([]string, bool) {
	if k, ok := p.kinds[name]; ok {
		return k.fieldNames(), true
	}
	return p.Registry.FindStructFieldNames(name)
}

func (p provider) FindStructFieldType(name, fieldName string) (*types.FieldType, bool) {
	if k, ok := p.kinds[name]; ok {
		f, ok := k.fields[fieldName]
		if !ok {
			return nil, false
		}
		return f.typ, true
	}
	return p.Registry.FindStructFieldType(name, fieldName)
}

func (p provider) NewValue(name string, fields map[string]ref.Val) ref.Val {
	if _, ok := p.kinds[name]; ok {
		return types.NewErr("a rule can't make a %s", name)
	}
	return p.Registry.NewValue(name, fields)
}

func newEnv(v *vocabulary, schemaOf func(connection, function string) *schema) (*cel.Env, error) {
	options := append(sessionFunctions(v.session.typ), timeFunctions(), spelling())
	options = append(options, schemaFunctions(schemaOf)...)
	env, err := cel.NewEnv(append(options,
		cel.CustomTypeAdapter(v.registry),
		cel.CustomTypeProvider(provider{v.registry, v.kinds}),
		cel.OptionalTypes(),
		cel.Lib(functions.Library{}),
		ext.Strings(), ext.Sets(), ext.Lists(ext.ListsMaxRangeSize(maxRange)), ext.Math(), ext.Regex(),
		// JSON numbers arrive as int or double, whichever fits; a rule must
		// not care which.
		cel.CrossTypeNumericComparisons(true),
		cel.DefaultUTCTimeZone(true),
		cel.EnableMacroCallTracking(), // so that tools can quote a condition's parts
		cel.ParserExpressionSizeLimit(maxExpression),
		cel.ParserRecursionLimit(maxDepth),
		cel.ExpressionNodeLimit(maxNodes),
		cel.RegexProgramSizeLimit(maxRegexProgram),
		cel.ASTValidators(
			cel.ValidateRegexLiterals(),
			cel.ValidateDurationLiterals(),
			cel.ValidateTimestampLiterals(),
			cel.ValidateComprehensionNestingLimit(maxNesting),
		),
		cel.Variable("call", v.call.typ),
		cel.Variable("identity", v.identity.typ),
		cel.Variable("connection", v.conn.typ),
		cel.Variable("session", v.session.typ),
		cel.Variable("now", cel.TimestampType),
	)...)
	if err != nil {
		return nil, fmt.Errorf("make the environment of rules: %w", err)
	}
	return env, nil
}
