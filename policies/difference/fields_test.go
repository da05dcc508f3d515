package difference_test

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/policies/difference"
)

// Whatever a setting is, changing it is told, and so is what that means: a setting
// that is added to the configuration is here by itself.
func TestEverySettingIsTold(t *testing.T) {
	base := side(t, connections+"rules:\n- {name: a, action: allow}\ngrants:\n- {name: g, groups: [a], connections: [crm], functions: [refunds.list]}\n")
	told := func(t *testing.T, kind, name string, with func(p *config.Policy, v any), one func() any) {
		for _, path := range leaves(t, one()) {
			t.Run(path, func(t *testing.T) {
				was, is := base, base
				before, after := one(), one()
				another(t, reflect.ValueOf(after).Elem(), path)
				with(&was.Policy, before)
				with(&is.Policy, after)
				changes, err := difference.Compare(t.Context(), was, is)
				if err != nil {
					t.Fatal(err)
				}
				if len(changes) != 1 || changes[0].Kind != kind || changes[0].Name != name || changes[0].Effect == "" || len(changes[0].Why) == 0 || len(changes[0].Fields) == 0 {
					t.Fatalf("%+v", changes)
				}
				if why := changes[0].Why[0]; strings.Contains(why, " is another") && !strings.Contains(why, "its ") {
					t.Errorf("it says only %q; say what the setting does, in connection.go or mask.go", why)
				}
			})
		}
	}
	t.Run("connection", func(t *testing.T) {
		told(t, "connection", "a", func(p *config.Policy, v any) { p.Connections = []config.Connection{*v.(*config.Connection)} }, func() any { return filled(t, &config.Connection{}) })
	})
	t.Run("detector", func(t *testing.T) {
		told(t, "detector", "a", func(p *config.Policy, v any) { p.Detectors = []config.Detector{*v.(*config.Detector)} }, func() any { return filled(t, &config.Detector{}) })
	})
	t.Run("rule", func(t *testing.T) {
		told(t, "rule", "a", func(p *config.Policy, v any) { p.Rules = []config.Rule{*v.(*config.Rule)} }, func() any {
			r := filled(t, &config.Rule{}).(*config.Rule)
			r.When = "" // what a rule's condition is, the compiled one says
			return r
		})
	})
	t.Run("grant", func(t *testing.T) {
		told(t, "grant", "g", func(p *config.Policy, v any) { p.Grants = []config.Grant{*v.(*config.Grant)} }, func() any {
			g := filled(t, &config.Grant{}).(*config.Grant)
			g.Name, g.When = "g", ""
			return g
		})
	})
}

// filled gives each setting a value.
func filled(t *testing.T, v any) any {
	fill(t, reflect.ValueOf(v).Elem())
	return v
}

func fill(t *testing.T, v reflect.Value) {
	t.Helper()
	if v.Type() == reflect.TypeFor[time.Time]() {
		v.Set(reflect.ValueOf(time.Unix(1<<31, 0).UTC()))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for _, f := range settingsOf(v.Type()) {
			fill(t, v.FieldByIndex(f.Index))
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(t, v.Index(0))
	case reflect.Map:
		v.Set(reflect.ValueOf(map[string]any{"k": "a"}))
	case reflect.Interface:
		v.Set(reflect.ValueOf(map[string]any{"k": "a"}))
	case reflect.String:
		v.SetString("a")
	case reflect.Bool:
	case reflect.Float64:
		v.SetFloat(0.25)
	default:
		if v.CanUint() {
			v.SetUint(1)
		} else {
			v.SetInt(int64(time.Hour))
		}
	}
}

// another gives the setting at a path another value.
func another(t *testing.T, v reflect.Value, path string) {
	t.Helper()
	for _, name := range strings.Split(path, ".") {
		for v.Kind() == reflect.Slice || v.Kind() == reflect.Pointer {
			if v.Kind() == reflect.Slice {
				v = v.Index(0)
			} else {
				v = v.Elem()
			}
		}
		v = v.FieldByName(name)
	}
	for v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	if v.Kind() == reflect.Slice {
		v = v.Index(0)
	}
	switch {
	case v.Type() == reflect.TypeFor[time.Time]():
		v.Set(reflect.ValueOf(time.Unix(1<<32, 0).UTC()))
	case v.Kind() == reflect.Map, v.Kind() == reflect.Interface:
		v.Set(reflect.ValueOf(map[string]any{"k": "b"}))
	case v.Kind() == reflect.String:
		v.SetString("b")
	case v.Kind() == reflect.Bool:
		v.SetBool(true)
	case v.Kind() == reflect.Float64:
		v.SetFloat(0.75)
	case v.CanUint():
		v.SetUint(2)
	default:
		v.SetInt(int64(2 * time.Hour))
	}
}

// untold are settings that stand for something else that is told.
var untold = []string{
	"Name", "When", // what it is called, and what is compared as a condition
	"WordsFile", // its words are told
}

// leaves lists the settings of a value by the names of the fields that lead there.
func leaves(t *testing.T, v any) []string {
	t.Helper()
	var out []string
	var walk func(path string, of reflect.Type)
	walk = func(path string, of reflect.Type) {
		for of.Kind() == reflect.Slice || of.Kind() == reflect.Pointer {
			of = of.Elem()
		}
		if of.Kind() != reflect.Struct || of == reflect.TypeFor[time.Time]() {
			if !slices.Contains(untold, path) {
				out = append(out, path)
			}
			return
		}
		for _, f := range settingsOf(of) {
			walk(strings.TrimPrefix(path+"."+f.Name, "."), f.Type)
		}
	}
	walk("", reflect.TypeOf(v))
	if len(out) < 5 {
		t.Fatal(fmt.Sprint(out))
	}
	return out
}

func settingsOf(of reflect.Type) []reflect.StructField {
	var out []reflect.StructField
	for i := range of.NumField() {
		if f := of.Field(i); f.IsExported() && f.Tag.Get("yaml") != "-" {
			out = append(out, f)
		}
	}
	return out
}
