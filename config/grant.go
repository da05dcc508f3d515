package config

import (
	"fmt"
	"slices"
	"time"
)

// Grant lets named identities call named functions, perhaps for a while. Rules
// that deny or hold come first.
type Grant struct {
	Name string `yaml:"name"`
	// Identities are subjects and Groups are groups, or "issuer|subject" and
	// "issuer|group" where these are not unique among the issuers.
	Identities []string `yaml:"identities"`
	Groups     []string `yaml:"groups"`
	// Actors may use the grant on behalf of its owner, by subject or
	// "issuer|subject"; "*" is anybody. Default: the owner in person only.
	Actors      []string `yaml:"actors"`
	Connections []string `yaml:"connections"` // globs. Required
	Functions   []string `yaml:"functions"`   // globs. Required
	// When is a further condition, as in rules.
	When string `yaml:"when"`
	// Until ends the grant (RFC 3339). Default: it does not end.
	Until  time.Time `yaml:"until"`
	Reason string    `yaml:"reason"` // for those who read it later

	Position     Position `yaml:"-"`
	WhenPosition Position `yaml:"-"` // of the expression's first character

	said string // a hash over it, as it was written
	at   map[string]Position
}

func (g Grant) validate(ps *problems) {
	bad := func(path, format string, args ...any) {
		at, ok := g.at[path]
		if !ok {
			at = g.Position
		}
		ps.add(at, "grant %q: %s", g.Name, fmt.Sprintf(format, args...))
	}
	if g.Name == "" {
		bad("name", "name is missing; audit rows name the grant")
	}
	if len(g.Identities)+len(g.Groups) == 0 {
		bad("identities", "is given to nobody; set identities or groups")
	}
	for name, list := range map[string][]string{"identities": g.Identities, "groups": g.Groups, "actors": g.Actors} {
		if slices.Contains(list, "") {
			bad(name, "%s names one that is empty", name)
		}
	}
	if len(g.Connections) == 0 {
		bad("connections", "connections is missing; name them, or write \"*\" for any")
	}
	if len(g.Functions) == 0 {
		bad("functions", "functions is missing; name them, or write \"*\" for any")
	}
}
