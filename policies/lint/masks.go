package lint

import (
	"fmt"
	"slices"

	"github.com/callgate/callgate/policies"
)

// paths finds masks of fields that no response has, where responses are known.
func (l *linter) paths() {
	for _, c := range l.in.Connections {
		for _, m := range c.Masks {
			for _, path := range m.Paths {
				if c.Reaches != nil && !slices.ContainsFunc(c.Functions, func(f Function) bool { return c.Reaches(f.Name, path) }) {
					l.unknownPath(m.Position, fmt.Sprintf("connection %q", c.Name), path)
				}
			}
		}
	}
	for _, r := range l.rules {
		if r.Rule.Action != policies.Mask {
			continue
		}
		for _, path := range r.Rule.Mask.Paths {
			if l.known(r) && !l.reached(r, path) {
				l.unknownPath(r.Rule.Position, r.subject(), path)
			}
		}
	}
}

func (l *linter) unknownPath(at policies.Position, subject, path string) {
	l.add(UnknownPath, Warning, at, subject, "correct it; names are those of the .proto file, and elements of lists are [*]",
		"it hides nothing by path %q: no response has such a field", path)
}

// known reports whether the responses of all calls that r looks at are.
func (l *linter) known(r *rule) bool {
	return len(r.Connections) > 0 && !slices.ContainsFunc(r.Connections, func(name string) bool { return l.connections[name].Reaches == nil })
}

func (l *linter) reached(r *rule, path string) bool {
	return slices.ContainsFunc(r.Connections, func(name string) bool {
		c := l.connections[name]
		return slices.ContainsFunc(c.Functions, func(f Function) bool { return r.Function(f.Name) && c.Reaches(f.Name, path) })
	})
}
