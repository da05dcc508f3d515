package mask

import (
	"fmt"
	"slices"
)

// What has no fields, such as text, YAML and pages, may hold what a field path
// names all the same, and often it is the caller who chooses the form: by the Accept
// header, or a parameter of the URL. So the last name of a path counts as a key
// there, which hides more.

// compileFieldless makes m.plain of what m was compiled of, and tells whether there
// is a path of which no name is left.
func (m *Masker) compileFieldless(spec Spec, opt Options) bool {
	rules := slices.Clone(spec.Rules) // at the same places
	for i, r := range rules {
		keys := slices.Clone(r.Keys)
		for _, p := range r.Paths {
			key := lastName(p)
			if key == "" {
				return true
			}
			keys = append(keys, key)
		}
		rules[i].Keys, rules[i].Paths = keys, nil
	}
	plain, err := Compile(Spec{Rules: rules, Texts: spec.Texts}, opt)
	if err != nil {
		return true // what compiled with paths does so without
	}
	m.plain = plain
	return false
}

// lastName is the last name in a path that may be a key; "": there is none.
func lastName(path string) string {
	steps, err := parsePath(path)
	if err != nil {
		return ""
	}
	for _, s := range slices.Backward(steps) {
		if s.kind != stepKey {
			continue
		}
		if n := len(normalKey(nil, []byte(s.key))); n == 0 || n > maxKeyLength {
			return ""
		}
		return s.key
	}
	return ""
}

// fieldless returns a walker for what has no fields, in place of w.
func (w *walker) fieldless() *walker {
	if !w.m.hasPaths {
		return w
	}
	if w.m.nameless {
		w.fault = fmt.Errorf("a field path without a name, such as $, hides what can't be told in a text: %w", ErrInvalid)
		return w
	}
	plain := *w.m.plain
	plain.ctx = w.m.ctx
	return plain.walker()
}

// leaveFields is fieldless for the rest of a body: w is over.
func (w *walker) leaveFields() *walker {
	plain := w.fieldless()
	if plain != w {
		w.done()
	}
	return plain
}
