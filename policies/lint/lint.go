// Package lint finds what is wrong with a policy that compiles: rules that can
// never match or never decide, connections and functions that nothing allows,
// names that do not exist.
//
// What it says of rules is proved, not guessed (see package condition); where
// it can't tell, it is silent. So no finding means little, and a finding means
// what it says.
package lint

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/policies"
	"github.com/callgate/callgate/policies/condition"
)

// Severity says how bad a finding is.
type Severity string

// The severities.
const (
	Fault   Severity = "error"   // the policy can't be meant as it stands
	Warning Severity = "warning" // it is unlikely to be
)

// Check names a kind of finding.
type Check string

// The checks.
const (
	NeverMatches  Check = "never-matches"   // no call fulfils the rule's condition
	UnknownName   Check = "unknown-name"    // a condition names what does not exist
	Duplicate     Check = "duplicate"       // another rule says the same
	Shadowed      Check = "shadowed"        // a rule before decides whatever this one would
	Constant      Check = "constant"        // a condition that is always true
	OpenToAll     Check = "open-to-all"     // an allow rule that does not ask who calls
	Unallowed     Check = "nothing-allowed" // a connection or function that no rule lets through
	NoCredential  Check = "no-credential"   // a service that is called without one
	EndedGrant    Check = "ended-grant"     // a grant that has run out
	NowhereMasked Check = "nothing-to-mask" // a mask over calls that nothing allows
	UnknownPath   Check = "unknown-path"    // a mask of a field that no response has
	OfAnyIssuer   Check = "of-any-issuer"   // a group or person that several issuers may have
	PerServer     Check = "per-server"      // a count that each of several decision servers keeps for itself
)

// Checks lists all of them.
func Checks() []Check {
	return []Check{NeverMatches, UnknownName, Duplicate, Shadowed, Constant, OpenToAll, Unallowed, NoCredential, EndedGrant, NowhereMasked, UnknownPath, OfAnyIssuer, PerServer}
}

// Finding is one thing that is wrong.
type Finding struct {
	Check    Check
	Severity Severity
	Position policies.Position
	Subject  string // such as: rule "refunds"
	Text     string // what is wrong, and why
	Fix      string
}

func (f Finding) String() string {
	at := f.Position.String()
	if at != "" {
		at += ": "
	}
	return fmt.Sprintf("%s%s: %s: %s; %s (%s)", at, f.Severity, f.Subject, f.Text, f.Fix, f.Check)
}

// Connection is what there is to know of a connection.
type Connection struct {
	Name      string
	Protocol  call.Protocol
	Functions []Function // nil where they are not known beforehand
	// Reaches says whether a field path can lead to something in a function's
	// responses; nil where that is not known.
	Reaches func(function, path string) bool
	// Masks are those of the connection's own.
	Masks []Mask
	// Shadow is set where rules only note what they would have done.
	Shadow bool
	// Credentialed is set where the service gets a credential of its own.
	Credentialed bool
	Position     policies.Position
}

// Function is one that a connection offers.
type Function struct {
	Name     string
	Position policies.Position
}

// Mask is what a connection hides in all its responses.
type Mask struct {
	Name     string
	Paths    []string
	Position policies.Position
}

// People are groups and persons that a rule or grant names, as they are written.
type People struct {
	Subject  string // such as: grant "on call"
	Names    []string
	Position policies.Position
}

// Input is what is looked at.
type Input struct {
	Set         *policies.Set // compiled with Inspect
	Connections []Connection
	// People are all that are named, and Issuers those that they may be of.
	People  []People
	Issuers []string
	// Several is set where more than one decision server decides.
	Several bool
	Now     time.Time
}

// Run returns all findings, in the order of the files. Its error is ctx's.
func Run(ctx context.Context, in Input) ([]Finding, error) {
	l := newLinter(in)
	for _, check := range []func(){l.conditions, l.names, l.everybody, l.credentials, l.grants, l.paths, l.people, l.counts} {
		check()
	}
	if err := l.shadows(ctx); err != nil {
		return nil, err
	}
	if err := l.unallowed(ctx); err != nil {
		return nil, err
	}
	slices.SortStableFunc(l.found, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Position.File, b.Position.File), a.Position.Line-b.Position.Line, a.Position.Column-b.Position.Column)
	})
	return l.found, nil
}

// linter is one run.
type linter struct {
	in          Input
	connections map[string]*Connection
	rules       []*rule
	found       []Finding
}

// rule is a rule with what is told of its condition.
type rule struct {
	policies.Inspected
	turn    int // when it is asked
	formula condition.Formula
	// where is formula, and what the rule's scope says of the call.
	where condition.Formula
	dead  bool // it never matches, or never decides
}

func newLinter(in Input) *linter {
	l := &linter{in: in, connections: map[string]*Connection{}}
	for i := range in.Connections {
		l.connections[in.Connections[i].Name] = &in.Connections[i]
	}
	formulas := map[string]condition.Formula{}
	for _, x := range in.Set.Inspect() {
		f, known := formulas[x.Rule.When]
		if !known {
			f = condition.Of(x.Condition)
			formulas[x.Rule.When] = f
		}
		r := &rule{Inspected: x, formula: f, turn: turn(x)}
		r.where = l.scoped(r)
		l.rules = append(l.rules, r)
	}
	slices.SortStableFunc(l.rules, func(a, b *rule) int { return a.turn - b.turn })
	return l
}

// turn orders rules as they are asked.
func turn(x policies.Inspected) int {
	if x.Grant != nil {
		return 3
	}
	return map[string]int{policies.Deny: 0, policies.Hold: 1, policies.Allow: 2, policies.Mask: 4}[x.Rule.Action]
}

// scoped adds to a rule's condition what its scope says of the call.
func (l *linter) scoped(r *rule) condition.Formula {
	f := r.formula
	say := func(values []string, path ...string) {
		if f.Speaks(path...) {
			f = condition.And(condition.In(path, values), f)
		}
	}
	say([]string{string(call.Human), string(call.CI), string(call.Agent), string(call.Workload), ""}, "identity", "kind")
	say(r.Connections, "call", "connection")
	var protocols []string
	for _, c := range r.Connections {
		protocols = append(protocols, string(l.connections[c].Protocol))
	}
	say(protocols, "call", "protocol")
	if functions, known := l.functionsOf(r); known {
		say(functions, "call", "function")
	}
	return f
}

// functionsOf lists the functions that a rule looks at, where they are known.
func (l *linter) functionsOf(r *rule) ([]string, bool) {
	var out []string
	for _, name := range r.Connections {
		offered := l.connections[name].Functions
		if offered == nil {
			return nil, false
		}
		for _, f := range offered {
			if r.Function(f.Name) {
				out = append(out, f.Name)
			}
		}
	}
	return out, true
}

// offered lists a connection's functions; nil where they are not known.
func (l *linter) offered(connection string) []string {
	c := l.connections[connection]
	if c == nil || c.Functions == nil {
		return nil
	}
	out := make([]string, len(c.Functions))
	for i, f := range c.Functions {
		out[i] = f.Name
	}
	return out
}

func (l *linter) add(check Check, how Severity, at policies.Position, subject, fix, text string, args ...any) {
	l.found = append(l.found, Finding{Check: check, Severity: how, Position: at, Subject: subject, Text: fmt.Sprintf(text, args...), Fix: fix})
}

// subject names a rule.
func (r *rule) subject() string {
	if r.Grant != nil {
		return fmt.Sprintf("grant %q", r.Grant.Name)
	}
	return fmt.Sprintf("rule %q", r.Rule.Name)
}

// condition is where a rule's condition stands.
func (r *rule) condition() policies.Position {
	if r.Rule.When == "" || r.Rule.WhenPosition.Line == 0 {
		return r.Rule.Position
	}
	return r.Rule.WhenPosition
}
