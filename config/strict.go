package config

import (
	"fmt"
	"reflect"
	"sort"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// document is one parsed file: its tree, and where each setting stands.
type document struct {
	file string
	root *yaml.Node // the top mapping; nil for an empty file
	at   map[string]Position
}

// parse reads one YAML file and checks every key and type in it against the
// struct into, so that a slip is reported where it stands rather than ignored.
func parse(file string, data []byte, into reflect.Type, p *problems) document {
	doc := document{file: file, at: map[string]Position{}}
	var top yaml.Node
	if err := yaml.Unmarshal(data, &top); err != nil {
		p.add(Position{File: file, Line: yamlLine(err), Column: 1}, "not valid YAML: %s", strings.TrimPrefix(err.Error(), "yaml: "))
		return doc
	}
	if len(top.Content) == 0 {
		return doc
	}
	s := strict{file: file, at: doc.at, problems: p}
	if s.check("", top.Content[0], into) {
		doc.root = top.Content[0]
	}
	return doc
}

// yamlLine digs the line out of the parser's error text; the library offers
// it in no other way.
func yamlLine(err error) int {
	_, after, ok := strings.Cut(err.Error(), "line ")
	if !ok {
		return 1
	}
	digits, _, _ := strings.Cut(after, ":")
	n, convErr := strconv.Atoi(digits)
	if convErr != nil {
		return 1
	}
	return n
}

// strict walks a YAML tree beside the type it will be decoded into. The type
// bounds the walk, so an alias that contains itself ends it too.
type strict struct {
	file     string
	at       map[string]Position
	problems *problems
}

var (
	durationType = reflect.TypeFor[time.Duration]()
	bytesType    = reflect.TypeFor[Bytes]()
	periodType   = reflect.TypeFor[Period]()
	timeType     = reflect.TypeFor[time.Time]()
	jsonType     = reflect.TypeFor[JSON]()
	headersType  = reflect.TypeFor[TestHeaders]()
)

func (s *strict) position(n *yaml.Node) Position {
	return Position{File: s.file, Line: n.Line, Column: n.Column}
}

// check reports whether n fits t; what does not fit is in s.problems.
func (s *strict) check(path string, n *yaml.Node, t reflect.Type) bool {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	s.at[path] = s.position(n)
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if n.Tag == "!!null" {
		return true
	}
	switch {
	case t == durationType:
		return s.scalar(path, n, "a duration such as 500ms, 2s or 5m", func(v string) bool { _, err := time.ParseDuration(v); return err == nil })
	case t == periodType:
		return s.scalar(path, n, "a period such as 30d, 12w or 36h", func(v string) bool { _, err := ParsePeriod(v); return err == nil })
	case t == timeType:
		return s.scalar(path, n, "a time such as 2026-12-24T18:00:00Z", func(v string) bool { _, err := time.Parse(time.RFC3339, v); return err == nil })
	case t == jsonType:
		_, wrong := jsonOf(n)
		return s.fits(path, wrong)
	case t == headersType:
		_, wrong := headersOf(n)
		return s.fits(path, wrong)
	case t == bytesType:
		return s.scalar(path, n, "a size such as 64KiB, 1MiB or a number of bytes", func(v string) bool { _, err := ParseBytes(v); return err == nil })
	}
	switch t.Kind() {
	case reflect.Struct:
		return s.mapping(path, n, t)
	case reflect.Slice:
		if n.Kind != yaml.SequenceNode {
			s.wrong(path, n, "a list")
			return false
		}
		ok := true
		for i, c := range n.Content {
			ok = s.check(fmt.Sprintf("%s[%d]", path, i), c, t.Elem()) && ok
		}
		return ok
	case reflect.String:
		return s.scalar(path, n, "a text", func(string) bool { return true })
	case reflect.Map:
		if n.Kind != yaml.MappingNode {
			s.wrong(path, n, "a mapping")
			return false
		}
		return true
	case reflect.Interface:
		return true // anything, such as a JSON Schema; whoever takes it says what is wrong
	case reflect.Bool:
		return s.scalar(path, n, "true or false", func(string) bool { return n.Tag == "!!bool" })
	case reflect.Float64:
		return s.scalar(path, n, "a number", func(v string) bool { _, err := strconv.ParseFloat(v, 64); return err == nil })
	case reflect.Uint32:
		return s.scalar(path, n, "a whole number, 0 or more", func(v string) bool { _, err := strconv.ParseUint(v, 10, 32); return err == nil })
	default:
		panic("config: no strict check for " + t.String())
	}
}

func (s *strict) scalar(path string, n *yaml.Node, want string, fits func(string) bool) bool {
	if n.Kind != yaml.ScalarNode || !fits(n.Value) {
		s.wrong(path, n, want)
		return false
	}
	return true
}

func (s *strict) fits(path string, wrong *misfit) bool {
	if wrong != nil {
		s.problems.add(s.position(wrong.node), "%s: %s", path, wrong.text)
	}
	return wrong == nil
}

func (s *strict) mapping(path string, n *yaml.Node, t reflect.Type) bool {
	if n.Kind != yaml.MappingNode {
		s.wrong(path, n, "a mapping (key: value)")
		return false
	}
	known := fields(t)
	ok, seen := true, map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if first, twice := seen[key.Value]; twice {
			s.problems.add(s.position(key), "key %q stands twice, first on line %d; keep one", key.Value, first)
			ok = false
			continue
		}
		seen[key.Value] = key.Line
		field, is := known[key.Value]
		if !is {
			names := make([]string, 0, len(known))
			for k := range known {
				names = append(names, k)
			}
			sort.Strings(names)
			hint := suggest(key.Value, names)
			if hint == "" {
				hint = "; known here: " + strings.Join(names, ", ")
			}
			where := ""
			if path != "" {
				where = " in " + path
			}
			s.problems.add(s.position(key), "unknown key %q%s%s", key.Value, where, hint)
			ok = false
			continue
		}
		ok = s.check(join(path, key.Value), value, field) && ok
	}
	return ok
}

func (s *strict) wrong(path string, n *yaml.Node, want string) {
	got := map[yaml.Kind]string{yaml.MappingNode: "a mapping", yaml.SequenceNode: "a list"}[n.Kind]
	if got == "" {
		got = fmt.Sprintf("%q", n.Value)
	}
	if path == "" {
		path = "the file"
	}
	s.problems.add(s.position(n), "%s must be %s, not %s", path, want, got)
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// fields returns the keys that struct t takes and their types.
func fields(t reflect.Type) map[string]reflect.Type {
	out := map[string]reflect.Type{}
	for i := range t.NumField() {
		f := t.Field(i)
		name, option, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		switch {
		case name == "-" || !f.IsExported():
		case option == "inline":
			for k, v := range fields(f.Type) {
				out[k] = v
			}
		default:
			out[name] = f.Type
		}
	}
	return out
}
