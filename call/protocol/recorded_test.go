package protocol

import (
	"math"
	"reflect"
	"testing"
)

// replayed checks that what is recorded of an invocation reads as what was
// judged, types included.
func replayed(t *testing.T, inv Invocation) {
	t.Helper()
	again, err := Arguments(inv.ArgsJSON)
	if err != nil {
		t.Fatalf("%s: %v", inv.ArgsJSON, err)
	}
	if !reflect.DeepEqual(again, inv.Args) {
		t.Fatalf("judged %#v, recorded %s, read again %#v", inv.Args, inv.ArgsJSON, again)
	}
}

func TestArgumentsKeepTheirTypes(t *testing.T) {
	for name, args := range map[string]map[string]any{
		"none":           {},
		"whole float":    {"a": 1.0, "b": -3.0, "c": 1e20, "d": 1e300, "e": 0.0},
		"small float":    {"a": 1e-7, "b": 5e-324, "c": math.MaxFloat64, "d": 0.1},
		"whole number":   {"a": int64(1), "b": int64(math.MinInt64), "c": int64(math.MaxInt64)},
		"keys by case":   {"a": int64(1), "A": int64(2)},
		"a NUL":          {"a": "x\x00y"},
		"nothing":        {"a": nil, "b": []any{}, "c": map[string]any{}},
		"nested":         {"a": []any{map[string]any{"b": 2.0}, int64(2), true}},
		"text like HTML": {"<b>&": "<b>&\u2028"},
	} {
		t.Run(name, func(t *testing.T) {
			inv := Invocation{Args: args}
			if err := inv.write(); err != nil {
				t.Fatal(err)
			}
			replayed(t, inv)
		})
	}
	inv := Invocation{Args: map[string]any{"a": math.Inf(1)}}
	if err := inv.write(); err == nil {
		t.Error("wrote an infinite number")
	}
}

// Recorded arguments come from a table that others may write to.
func FuzzArguments(f *testing.F) {
	f.Add([]byte(`{"a":{"b":[1,2.0,"x\u0000"]},"A":null}`))
	f.Add([]byte(`{"a":1,"a":2}`))
	f.Add([]byte(`[1]`))
	f.Add([]byte(``))
	f.Fuzz(func(t *testing.T, doc []byte) {
		args, err := Arguments(doc)
		if err != nil {
			return
		}
		inv := Invocation{Args: args}
		if err := inv.write(); err != nil {
			t.Fatal(err)
		}
		replayed(t, inv)
	})
}
