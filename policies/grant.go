package policies

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"cel.dev/cel-go/cel"

	"github.com/callgate/callgate/call"
)

// GrantPrefix stands before a grant's name where a rule's name is told.
const GrantPrefix = "grant:"

// Grant lets named identities call named functions, perhaps for a while. It
// says nothing against a deny or a hold: those come first. What is not granted
// and no rule allows stays denied.
type Grant struct {
	Name string
	// Identities are subjects, or "issuer|subject" where subjects are not
	// unique among the issuers. Who is in one of the Groups, which may be
	// written like that too, has the grant as well.
	Identities []string
	Groups     []string
	// Actors are those who may use the grant on behalf of whom it is given to
	// (RFC 8693 act), by subject or "issuer|subject"; "*" is anybody. Without
	// any, the grant is of use only to its owner in person.
	Actors      []string
	Connections []string // globs, at least one
	Functions   []string // globs, at least one
	When        string   // a further condition, as in [Rule]
	// Settles names rules that hold calls, and need not hold these: somebody
	// has been asked already. All other rules come first as ever. People were
	// asked about one chain of Actors, so such a grant is for exactly that.
	Settles  []string
	Until    time.Time
	Position Position
	// WhenPosition is of the first character of When.
	WhenPosition Position
}

// grant is a compiled [Grant].
type grant struct {
	name        string // with GrantPrefix
	connections []glob
	functions   []glob
	actors      []string
	until       time.Time
	settles     []string
	when        cel.Program // nil: true
	body        bool        // when looks at the request's body
	replay
	inspection
}

// grants finds those that an identity has.
type grants struct {
	byIdentity map[string][]*grant // by subject and by "issuer|subject"
	byGroup    map[string][]*grant // by group and by "issuer|group"
}

func (g *grants) add(to *grant, from *Grant) {
	if g.byIdentity == nil {
		g.byIdentity, g.byGroup = map[string][]*grant{}, map[string][]*grant{}
	}
	for _, who := range from.Identities {
		g.byIdentity[who] = append(g.byIdentity[who], to)
	}
	for _, group := range from.Groups {
		g.byGroup[group] = append(g.byGroup[group], to)
	}
}

// of returns the grants of the call's identity for its function, the first by
// name first.
func (g *grants) of(c *call.Call) []*grant {
	if len(g.byIdentity)+len(g.byGroup) == 0 || c.Identity.Anonymous() {
		return nil
	}
	var out []*grant
	take := func(list []*grant) {
		for _, one := range list {
			if one.covers(c) && !slices.Contains(out, one) {
				out = append(out, one)
			}
		}
	}
	// What looks like "issuer|subject" is not taken for another issuer's.
	named := func(by map[string][]*grant, name string) {
		if !call.OfIssuer(name) {
			take(by[name])
		}
		take(by[c.Identity.Issuer+"|"+name])
	}
	named(g.byIdentity, c.Identity.Subject)
	for _, group := range c.Identity.Groups {
		named(g.byGroup, group)
	}
	slices.SortFunc(out, func(a, b *grant) int { return strings.Compare(a.name, b.name) })
	return out
}

// covers reports whether a grant is about this call, its condition apart.
func (g *grant) covers(c *call.Call) bool {
	if !g.until.IsZero() && !c.Time.Before(g.until) {
		return false
	}
	return g.at(c.Identity.Actors) && matchAny(g.connections, c.Connection) && matchAny(g.functions, c.Function)
}

// at reports whether those who are at work on a call may use the grant.
func (g *grant) at(chain []call.Actor) bool {
	named := func(name string, a call.Actor) bool {
		return name == a.Subject && !call.OfIssuer(a.Subject) || name == a.Issuer+"|"+a.Subject
	}
	switch {
	case slices.Contains(g.actors, "*"):
		return true
	case len(g.settles) > 0:
		return slices.EqualFunc(g.actors, chain, named)
	}
	// All in the chain must be named.
	return !slices.ContainsFunc(chain, func(a call.Actor) bool {
		return !slices.ContainsFunc(g.actors, func(name string) bool { return named(name, a) })
	})
}

func matchAny(globs []glob, s string) bool {
	return slices.ContainsFunc(globs, func(g glob) bool { return g.match(s) })
}

// WithGrants returns a set that honours further grants beside its own: those
// that are given while a policy is in force. It shares all else with s.
func (s *Set) WithGrants(list []Grant) (*Set, error) {
	env, err := newEnv(s.vocabulary, func(connection, function string) *schema { return s.schemas[connection][function] })
	if err != nil {
		return nil, err
	}
	c := &compiler{cfg: Config{CostLimit: DefaultCostLimit, Inspect: s.inspect, Replay: s.replays, Connections: s.named()}, vocabulary: s.vocabulary, env: env, programs: map[string]compiled{}, names: map[string]Position{}}
	out := *s
	out.given = grants{}
	for i := range list {
		if g := c.grant(&list[i]); g != nil {
			out.given.add(g, &list[i])
			if s.inspect {
				out.inspected = append(out.inspected[:len(out.inspected):len(out.inspected)], c.inspectedGrant(g, &list[i]))
			}
		}
	}
	if len(c.errs) > 0 {
		return nil, c.errs
	}
	return &out, nil
}

// grant compiles one grant; nil where it is at fault.
func (c *compiler) grant(g *Grant) *grant {
	before := len(c.errs)
	// It is named and told of like a rule.
	as := &Rule{Name: GrantPrefix + g.Name, Position: g.Position, WhenPosition: g.WhenPosition}
	bad := func(at Position, format string, args ...any) {
		if at.Line == 0 {
			at = g.Position
		}
		c.errs = append(c.errs, Error{Position: at, Rule: as.Name, Text: fmt.Sprintf(format, args...)})
	}
	switch first, twice := c.names[as.Name]; {
	case g.Name == "":
		bad(g.Position, "has no name; audit rows name the grant")
	case twice:
		bad(g.Position, "stands twice, first at %s", first)
	}
	c.names[as.Name] = g.Position
	switch {
	case len(g.Identities)+len(g.Groups) == 0:
		bad(g.Position, "is given to nobody; set identities or groups")
	case slices.Contains(g.Identities, "") || slices.Contains(g.Groups, ""):
		bad(g.Position, "names an identity or group that is empty")
	case len(g.Connections) == 0 || len(g.Functions) == 0:
		bad(g.Position, "must name connections and functions; \"*\" stands for any")
	}
	out := &grant{name: as.Name, actors: g.Actors, until: g.Until, settles: g.Settles}
	out.connections, _ = parseGlobs(as, "connections", g.Connections, bad)
	out.functions, _ = parseGlobs(as, "functions", g.Functions, bad)
	if g.When != "" {
		p := c.expression(g.When)
		for _, f := range p.faults {
			bad(f.in(g.When, g.WhenPosition), "%s", f.text)
		}
		out.when, out.body, out.replay, out.inspection = p.program, p.body, p.replay, p.inspection
	}
	if len(c.errs) > before {
		return nil
	}
	return out
}

// settled reports whether a grant of the caller's says that this rule need not
// hold the call. A grant that can't be evaluated settles nothing.
func (j *judge) settled(r *rule) bool {
	for _, set := range j.grants {
		for _, g := range set.of(j.in.call) {
			if slices.Contains(g.settles, r.name) {
				if matched, err := j.matches(&rule{name: g.name, when: g.when, body: g.body}); err == nil && matched {
					return true
				}
			}
		}
	}
	return false
}

// granted asks the grants, last of all.
func (j *judge) granted(sets ...*grants) (call.Ruling, bool) {
	for _, g := range sets {
		for _, one := range g.of(j.in.call) {
			matched, err := j.matches(&rule{name: one.name, when: one.when, body: one.body, inspection: one.inspection})
			if err != nil {
				return broken(&rule{name: one.name}, err), true
			}
			if matched {
				return j.hide(call.Ruling{Action: call.ActionAllow, Rule: one.name, Reason: call.ReasonRule}), true
			}
		}
	}
	return call.Ruling{}, false
}

// CheckGrants reports what is wrong with grants. The error is an [Errors] where
// they are at fault.
func CheckGrants(list []Grant) error {
	s, err := Compile(nil, Config{})
	if err == nil {
		_, err = s.WithGrants(list)
	}
	return err
}
