package clickhouse

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/callgate/callgate/call"
)

// another returns a value of the type that is not v.
func another(t *testing.T, v reflect.Value) reflect.Value {
	t.Helper()
	out := reflect.New(v.Type()).Elem()
	switch x := v.Interface().(type) {
	case time.Time:
		out.Set(reflect.ValueOf(x.Add(time.Microsecond)))
		return out
	}
	switch v.Kind() {
	case reflect.Pointer:
		p := reflect.New(v.Type().Elem())
		if !v.IsNil() {
			p.Elem().Set(another(t, v.Elem()))
		}
		out.Set(p)
	case reflect.String:
		out.SetString(v.String() + "x")
	case reflect.Bool:
		out.SetBool(!v.Bool())
	case reflect.Int64:
		out.SetInt(v.Int() + 1)
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		out.SetUint(v.Uint() + 1)
	case reflect.Slice:
		out.Set(reflect.Append(v, reflect.Zero(v.Type().Elem())))
	case reflect.Array:
		out.Set(v)
		out.Index(0).Set(another(t, v.Index(0)))
	case reflect.Map:
		out.Set(reflect.MakeMap(v.Type()))
		out.SetMapIndex(reflect.Zero(v.Type().Key()), reflect.Zero(v.Type().Elem()))
	default:
		t.Fatalf("no other value of %s", v.Type())
	}
	return out
}

// Whatever column of a row is changed, the digest of its one leg tells, or it is
// content, or it stands on the short list of those that verify looks at itself.
func TestDigestKnowsEveryType(t *testing.T) {
	t.Parallel()
	legs := []call.EventKind{call.Decided, call.Answered, call.Finished}
	row := reflect.TypeFor[Row]()
	for i := range row.NumField() {
		name := row.Field(i).Tag.Get("ch")
		var a, b Row
		field := reflect.ValueOf(&b).Elem().Field(i)
		field.Set(another(t, field))
		differ := 0
		for _, leg := range legs {
			if a.Digest(leg) != b.Digest(leg) {
				differ++
				if got := a.Differ(&b, leg); got != name {
					t.Errorf("%s: told as %q", name, got)
				}
			}
		}
		want := 1
		if slices.Contains(contentColumns, name) || slices.Contains(ownColumns, name) {
			want = 0
		}
		if differ != want {
			t.Errorf("%s: %d digests tell", name, differ)
		}
	}
	steps := reflect.TypeFor[approvalRow]()
	for i := range steps.NumField() {
		var a, b approvalRow
		field := reflect.ValueOf(&b).Elem().Field(i)
		field.Set(another(t, field))
		if digest(&a, nil) == digest(&b, nil) {
			t.Errorf("approvals.%s is not in the digest", steps.Field(i).Tag.Get("ch"))
		}
	}
}
