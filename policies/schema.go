package policies

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"sort"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/callgate/callgate/call"
)

// schemas are those of a connection's functions, compiled, and as they were
// written for the checks at load.
type schemas map[string]*schema

type schema struct {
	compiled *jsonschema.Schema
	shape    shape
}

// shape is the part of a schema that says what a value looks like.
type shape struct {
	Type       any              `json:"type"`
	Properties map[string]shape `json:"properties"`
	// Additional is nil where other properties are allowed.
	Additional any `json:"additionalProperties"`
}

// noReferences keeps a schema from being read from elsewhere.
type noReferences struct{}

var errReference = errors.New("a schema may not refer to another document; put what it needs into $defs")

func (noReferences) Load(string) (any, error) { return nil, errReference }

// CompileSchema checks a JSON Schema (draft 2020-12 unless it says otherwise).
func CompileSchema(text json.RawMessage) error {
	_, err := compileSchema(text)
	return err
}

func compileSchema(text json.RawMessage) (_ *schema, err error) {
	// A schema may come with a push or from a server: it is not to end the
	// process, whatever a library makes of it.
	defer func() {
		if recover() != nil {
			err = errors.New("it can't be compiled")
		}
	}()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("is not JSON: %w", err)
	}
	if err := numbers(doc); err != nil {
		return nil, err
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.UseLoader(noReferences{})
	if err := c.AddResource("function", doc); err != nil {
		return nil, err
	}
	compiled, err := c.Compile("function")
	if err != nil {
		return nil, err
	}
	s := &schema{compiled: compiled}
	if err := json.Unmarshal(text, &s.shape); err != nil {
		s.shape = shape{} // such as the schema true; then there is nothing to check at load
	}
	return s, nil
}

// maxNumber bounds a number in a schema, in bytes.
const maxNumber = 40

// numbers refuses a schema with one that exact arithmetic, which the library
// does, would not come to an end with, such as 1e-999999999.
func numbers(v any) error {
	switch v := v.(type) {
	case json.Number:
		text := string(v)
		mantissa, _, _ := strings.Cut(strings.ToLower(text), "e")
		if f, err := v.Float64(); err != nil || len(text) > maxNumber || math.Abs(f) < 1e-300 && strings.ContainsAny(mantissa, "123456789") {
			return errors.New("it has a number that is too large or too exact")
		}
	case map[string]any:
		for _, x := range v {
			if err := numbers(x); err != nil {
				return err
			}
		}
	case []any:
		for _, x := range v {
			if err := numbers(x); err != nil {
				return err
			}
		}
	}
	return nil
}

// faults says where a value is not as the schema wants it, never what it is.
func (s *schema) faults(v any) []string {
	err := s.compiled.Validate(v)
	if err == nil {
		return nil
	}
	var invalid *jsonschema.ValidationError
	if !errors.As(err, &invalid) {
		return []string{"can't be checked"}
	}
	var out []string
	leaves(invalid, &out)
	sort.Strings(out)
	return out
}

// mostFaults bounds what is told.
const mostFaults = 20

func leaves(e *jsonschema.ValidationError, out *[]string) {
	if len(*out) >= mostFaults {
		return
	}
	if len(e.Causes) == 0 {
		path := e.ErrorKind.KeywordPath()
		at := "/" + strings.Join(e.InstanceLocation, "/")
		*out = append(*out, clip(at)+": "+strings.Join(path, "/"))
	}
	for _, c := range e.Causes {
		leaves(c, out)
	}
}

// plainValue is what a schema is checked against: numbers are json.Number or
// those of Go, as the library takes them.
func plainValue(v ref.Val) any {
	switch x := v.Value().(type) {
	case map[string]any, []any, string, bool, int64, float64, nil:
		return x
	}
	return nil
}

// schemaFunctions are behind schema.valid and schema.errors. What has no schema
// is not valid.
func schemaFunctions(of func(connection, function string) *schema) []cel.EnvOption {
	faults := func(args []ref.Val) ([]string, ref.Val) {
		connection, ok := args[0].(types.String)
		function, ok2 := args[1].(types.String)
		if !ok || !ok2 {
			return nil, types.MaybeNoSuchOverloadErr(args[0])
		}
		s := of(string(connection), string(function))
		if s == nil {
			return []string{"the function has no schema"}, nil
		}
		return s.faults(plainValue(args[2])), nil
	}
	in := []*cel.Type{cel.StringType, cel.StringType, cel.DynType}
	return []cel.EnvOption{
		cel.Function("@schemaValid", cel.Overload("schema_valid", in, cel.BoolType, cel.FunctionBinding(func(args ...ref.Val) ref.Val {
			f, bad := faults(args)
			if bad != nil {
				return bad
			}
			return types.Bool(len(f) == 0)
		}))),
		cel.Function("@schemaErrors", cel.Overload("schema_errors", in, cel.ListType(cel.StringType), cel.FunctionBinding(func(args ...ref.Val) ref.Val {
			f, bad := faults(args)
			if bad != nil {
				return bad
			}
			return types.NewStringList(types.DefaultTypeAdapter, f)
		}))),
	}
}

// arguments are a call's, as a schema takes them.
func arguments(c *call.Call) any {
	if c.Args == nil {
		return map[string]any{}
	}
	return c.Args
}
