// Package library holds ready guardrails. Each is a YAML file with what it is
// for, its parameters, its condition in CEL, and cases that show what it finds,
// what it leaves alone and what it misses; every case is a test.
package library

import (
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"reflect"
	"slices"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"
)

//go:embed guardrails/*.yaml
var files embed.FS

// Guardrail is one ready condition.
type Guardrail struct {
	Name        string               `yaml:"name"`
	Description string               `yaml:"description"`
	Parameters  map[string]Parameter `yaml:"parameters"`
	// When is the condition. {{name}} in it stands for a parameter's value, as
	// a CEL literal.
	When    string `yaml:"when"`
	Action  string `yaml:"action"` // unless the rule that uses it says otherwise
	Message string `yaml:"message"`
	Cases   []Case `yaml:"cases"`
}

// Parameter is what a rule may set with "with".
type Parameter struct {
	Description string `yaml:"description"`
	Default     any    `yaml:"default"`
	Required    bool   `yaml:"required"`
}

// Case is a call, and what becomes of it.
type Case struct {
	Want string `yaml:"want"` // match, pass or missed
	Why  string `yaml:"why"`  // required for missed
	// What the call is; zero values are an ordinary one's.
	Function string         `yaml:"function"`
	Method   string         `yaml:"method"`
	Path     string         `yaml:"path"`
	Source   string         `yaml:"source"`
	At       string         `yaml:"at"` // RFC 3339
	Args     map[string]any `yaml:"args"`
	Calls    int            `yaml:"calls"` // how often the identity called lately
	First    bool           `yaml:"first"` // it is the first use
	With     map[string]any `yaml:"with"`
}

// read reads the library once.
var read = sync.OnceValues(func() (map[string]*Guardrail, error) {
	out := map[string]*Guardrail{}
	names, err := fs.Glob(files, "guardrails/*.yaml")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		data, err := files.ReadFile(name)
		if err != nil {
			return nil, err
		}
		g := &Guardrail{}
		dec := yaml.NewDecoder(strings.NewReader(string(data)))
		dec.KnownFields(true)
		if err := dec.Decode(g); err != nil {
			return nil, fmt.Errorf("read guardrail %s: %w", name, err)
		}
		if g.Name+".yaml" != path.Base(name) {
			return nil, fmt.Errorf("guardrail %s calls itself %s", name, g.Name)
		}
		out[g.Name] = g
	}
	return out, nil
})

// Names lists the guardrails.
func Names() []string {
	all, err := read()
	if err != nil {
		panic("library: its own files can be read: " + err.Error())
	}
	return slices.Sorted(maps.Keys(all))
}

// Find returns a guardrail; nil: there is none of that name.
func Find(name string) *Guardrail {
	all, err := read()
	if err != nil {
		panic("library: its own files can be read: " + err.Error())
	}
	return all[name]
}

// Source is a guardrail's file.
func Source(name string) ([]byte, error) { return files.ReadFile("guardrails/" + name + ".yaml") }

// Condition is the guardrail's condition with its parameters set. The error
// names the parameter at fault.
func (g *Guardrail) Condition(with map[string]any) (string, error) {
	for name := range with {
		if _, known := g.Parameters[name]; !known {
			return "", fmt.Errorf("guardrail %s has no parameter %q; it has %s", g.Name, name, strings.Join(slices.Sorted(maps.Keys(g.Parameters)), ", "))
		}
	}
	var pairs []string
	for name, p := range g.Parameters {
		v, set := with[name]
		switch {
		case set && p.Default != nil && kind(v) != kind(p.Default):
			return "", fmt.Errorf("guardrail %s: parameter %s must be a %s", g.Name, name, kind(p.Default))
		case !set && p.Required:
			return "", fmt.Errorf("guardrail %s needs parameter %s: %s", g.Name, name, p.Description)
		case !set:
			v = p.Default
		}
		// JSON's literals are CEL's too.
		text, err := json.Marshal(v)
		if err != nil {
			return "", fmt.Errorf("guardrail %s: parameter %s: %w", g.Name, name, err)
		}
		pairs = append(pairs, "{{"+name+"}}", string(text))
	}
	return strings.TrimSpace(strings.NewReplacer(pairs...).Replace(g.When)), nil
}

// kind names a value's type as a person would.
func kind(v any) string {
	switch v.(type) {
	case string:
		return "text"
	case bool:
		return "truth value"
	case int, int64, uint64, float64:
		return "number"
	case []any:
		return "list"
	}
	return fmt.Sprint(reflect.TypeOf(v))
}
