package policies

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"

	"github.com/callgate/callgate/call"
)

const (
	// maxHold is the longest that a call can be held open.
	maxHold = time.Hour
	// maxAsked is the longest that people can have to decide where nobody waits.
	maxAsked = 7 * 24 * time.Hour
)

// Config is what a rule set is compiled against.
type Config struct {
	// Version names the policy in every ruling.
	Version     string
	Connections []Connection
	Grants      []Grant
	// Counter is what rules ask by session.calls and the like. Without one,
	// rules that ask fail, and so deny.
	Counter Counter
	// CostLimit bounds one evaluation; 0 means [DefaultCostLimit].
	CostLimit uint64
	// Replay prepares the set for [Set.Assess] and [Set.Reads]. It takes about
	// twice the memory.
	Replay bool
	// Inspect prepares the set for [Set.Inspect] and [Set.Trace], which take
	// time and memory that deciding does not need.
	Inspect bool
}

// rule is a compiled [Rule].
type rule struct {
	at        int // place in the file order
	name      string
	action    string
	shadow    bool
	message   string
	hold      call.Hold
	mask      call.MaskRule
	functions []glob      // none: any
	when      cel.Program // nil: true
	body      bool        // when looks at the request's body
	replay
	inspection
}

// replay is what a condition needs to be asked of a call that is not known as
// a whole; see [Config.Replay].
type replay struct {
	partial cel.Program // may find its result unknown
	reads   []Part
}

// Set is a compiled policy. It is read-only and serves any number of calls at
// once.
type Set struct {
	version     string
	vocabulary  *vocabulary
	rules       int
	connections map[string]*index
	everywhere  index  // the rules that name no connection
	own, given  grants // the policy's, and those of WithGrants
	schemas     map[string]schemas
	counter     Counter
	inspect     bool
	inspected   []Inspected
	replays     bool             // see Config.Replay
	pins        map[string]Tools // those of WithTools
}

// Version names the policy.
func (s *Set) Version() string { return s.version }

// Len is the number of rules.
func (s *Set) Len() int { return s.rules }

// Holds returns the longest that a rule can hold a call of a connection, and
// whether any can. It is what Envoy's time-outs must allow for.
func (s *Set) Holds(connection string) (time.Duration, bool) {
	longest := s.everywhere.longestHold
	if c, ok := s.connections[connection]; ok {
		longest = max(longest, c.longestHold)
	}
	return longest, longest > 0
}

// Compile makes a Set of rules in file order. The error is an [Errors] where
// the rules are at fault; then there is no Set.
func Compile(rules []Rule, cfg Config) (*Set, error) {
	cfg.CostLimit = cmp.Or(cfg.CostLimit, DefaultCostLimit)
	v, err := newVocabulary()
	if err != nil {
		return nil, err
	}
	known, err := compileSchemas(cfg.Connections)
	if err != nil {
		return nil, err
	}
	env, err := newEnv(v, func(connection, function string) *schema { return known[connection][function] })
	if err != nil {
		return nil, err
	}
	c := &compiler{cfg: cfg, vocabulary: v, env: env, schemas: known, programs: map[string]compiled{}, names: map[string]Position{}}
	set := &Set{version: cfg.Version, counter: cfg.Counter, schemas: known, vocabulary: v, rules: len(rules), connections: make(map[string]*index, len(cfg.Connections)), inspect: cfg.Inspect, replays: cfg.Replay}
	for _, conn := range cfg.Connections {
		if _, twice := set.connections[conn.Name]; twice {
			return nil, fmt.Errorf("compile policy: connection %q stands twice", conn.Name)
		}
		set.connections[conn.Name] = &index{pinning: conn.Pinning, enforce: conn.Enforce}
		if conn.Pinning != nil && conn.Pinning.Hold != nil {
			set.connections[conn.Name].longestHold = conn.Pinning.Hold.KeptOpen()
		}
		if conn.Enforce {
			set.connections[conn.Name].schemas = known[conn.Name]
		}
	}
	for i := range rules {
		r, where := c.rule(i, &rules[i])
		if cfg.Inspect {
			set.inspected = append(set.inspected, inspectedRule(r, rules[i], where))
		}
		switch {
		case len(c.errs) > 0:
		case len(rules[i].Connections) == 0:
			set.everywhere.add(r)
		default:
			for _, name := range where {
				set.connections[name].add(r)
			}
		}
	}
	for i := range cfg.Grants {
		if g := c.grant(&cfg.Grants[i]); g != nil {
			set.own.add(g, &cfg.Grants[i])
			if cfg.Inspect {
				set.inspected = append(set.inspected, c.inspectedGrant(g, &cfg.Grants[i]))
			}
		}
	}
	if len(c.errs) > 0 {
		return nil, c.errs
	}
	return set, nil
}

type compiler struct {
	cfg        Config
	vocabulary *vocabulary
	env        *cel.Env
	programs   map[string]compiled // by expression: rules often share one
	names      map[string]Position
	schemas    map[string]schemas // by connection
	errs       Errors
}

type compiled struct {
	program cel.Program
	body    bool
	checked *ast.AST
	faults  []fault
	replay
	inspection
}

// rule compiles one rule and returns it with the connections it names.
func (c *compiler) rule(i int, r *Rule) (*rule, []string) {
	bad := func(at Position, format string, args ...any) {
		if at.Line == 0 {
			at = r.Position
		}
		c.errs = append(c.errs, Error{Position: at, Rule: r.Name, Text: fmt.Sprintf(format, args...)})
	}
	if r.Name == "" {
		bad(r.Position, "has no name; audit rows and denials name the rule")
	} else if first, twice := c.names[r.Name]; twice {
		bad(r.Position, "stands twice, first at %s; audit rows could not tell them apart", first)
	} else {
		c.names[r.Name] = r.Position
	}
	c.checkAction(r, bad)

	out := &rule{at: i, name: r.Name, action: r.Action, shadow: r.Shadow, message: r.Message, hold: r.Hold, mask: r.Mask}
	out.mask.Name = cmp.Or(out.mask.Name, r.Name)
	where := c.connections(r, bad)
	out.functions = c.functions(r, where, bad)

	if r.When != "" {
		p, known := c.programs[r.When]
		if !known {
			p = c.expression(r.When)
			c.programs[r.When] = p
		}
		faults := p.faults
		if p.checked != nil {
			faults = append(faults[:len(faults):len(faults)], misused(p.checked, c.meets(where, out.functions))...)
		}
		for _, f := range faults {
			bad(f.in(r.When, r.WhenPosition), "%s", f.text)
		}
		out.when, out.body, out.replay, out.inspection = p.program, p.body, p.replay, p.inspection
	}
	names := make([]string, len(where))
	for i, conn := range where {
		names[i] = conn.Name
	}
	return out, names
}

// compileSchemas compiles those of all connections' functions.
func compileSchemas(list []Connection) (map[string]schemas, error) {
	out := map[string]schemas{}
	for _, conn := range list {
		for function, text := range conn.Schemas {
			s, err := compileSchema(text)
			if err != nil {
				return nil, fmt.Errorf("connection %q: the schema of function %q: %w", conn.Name, function, err)
			}
			if out[conn.Name] == nil {
				out[conn.Name] = schemas{}
			}
			out[conn.Name][function] = s
		}
	}
	return out, nil
}

// meets are the schemas of all the functions that a rule can meet; none where
// some function of them has no schema, or is not known beforehand.
func (c *compiler) meets(where []*Connection, globs []glob) []*schema {
	if len(c.schemas) == 0 {
		return nil
	}
	var out []*schema
	for _, conn := range where {
		known := c.schemas[conn.Name]
		if known == nil || conn.Functions == nil {
			return nil
		}
		for _, f := range conn.Functions {
			if len(globs) > 0 && !matchAny(globs, f) {
				continue
			}
			if known[f] == nil {
				return nil
			}
			out = append(out, known[f])
		}
	}
	return out
}

func (c *compiler) checkAction(r *Rule, bad func(Position, string, ...any)) {
	actions := []string{Allow, Deny, Hold, Mask}
	if !slices.Contains(actions, r.Action) {
		bad(r.Position, "action %q is not known; choose allow, deny, hold or mask%s", r.Action, suggest(r.Action, actions))
		return
	}
	c.checkHold(r, bad)
	hides := len(r.Mask.Paths)+len(r.Mask.Keys)+len(r.Mask.Detect) > 0
	switch {
	case r.Action == Mask && !hides:
		bad(r.Position, "hides nothing; set mask.paths, mask.keys or mask.detect")
	case r.Action != Mask && (hides || r.Mask.How != ""):
		bad(r.Position, "mask is for action mask only; this rule's action is %s", r.Action)
	}
}

func (c *compiler) checkHold(r *Rule, bad func(Position, string, ...any)) {
	h := &r.Hold
	if r.Action != Hold {
		if len(h.Stages) > 0 || h.Timeout != 0 {
			bad(r.Position, "hold is for action hold only; this rule's action is %s", r.Action)
		}
		return
	}
	switch approvers := h.Approvers(); {
	case len(h.Stages) == 0 || slices.ContainsFunc(h.Stages, func(s call.Stage) bool { return s.Nobody() }):
		bad(r.Position, "holds calls and names nobody who may approve them; set hold.approvers.groups or hold.approvers.people")
	case slices.Contains(approvers.Groups, "") || slices.Contains(approvers.People, ""):
		bad(r.Position, "names an approver that is empty")
	case slices.ContainsFunc(h.Stages, func(s call.Stage) bool { return s.Need < 0 }):
		bad(r.Position, "needs a negative number of approvals")
	case h.Timeout <= 0 || h.Timeout > maxAsked || h.KeptOpen() > maxHold:
		bad(r.Position, "hold.timeout %s is outside 1ns to %s, or %s where callers come again (hold.wait)", h.Timeout, maxHold, maxAsked)
	}
}

// connections returns those a rule looks at; all, where it names none.
func (c *compiler) connections(r *Rule, bad func(Position, string, ...any)) []*Connection {
	var out []*Connection
	globs, ok := parseGlobs(r, "connections", r.Connections, bad)
	matched := make([]bool, len(globs))
	for i := range c.cfg.Connections {
		conn, takes := &c.cfg.Connections[i], len(r.Connections) == 0
		for j := range globs {
			if globs[j].match(conn.Name) {
				takes, matched[j] = true, true
			}
		}
		if takes {
			out = append(out, conn)
		}
	}
	if !ok {
		return out
	}
	for j, hit := range matched {
		if !hit {
			bad(r.Position, "connections: there is no connection %q, so the rule would never look at a call%s",
				r.Connections[j], suggestFrom(r.Connections[j], c.cfg.Connections, func(c Connection) string { return c.Name }))
		}
	}
	return out
}

// functions returns a rule's function globs. Where every connection it looks
// at says what it offers, a glob that fits none of that is a mistake.
func (c *compiler) functions(r *Rule, where []*Connection, bad func(Position, string, ...any)) []glob {
	globs, ok := parseGlobs(r, "functions", r.Functions, bad)
	if !ok || len(where) == 0 {
		return globs
	}
	for _, conn := range where {
		if conn.Functions == nil {
			return globs
		}
	}
	for j := range globs {
		if !slices.ContainsFunc(where, func(conn *Connection) bool { return slices.ContainsFunc(conn.Functions, globs[j].match) }) {
			var offered []string
			for _, conn := range where {
				offered = append(offered, conn.Functions...)
			}
			bad(r.Position, "functions: no connection the rule looks at has a function %q%s", r.Functions[j], suggest(r.Functions[j], offered))
		}
	}
	return globs
}

func parseGlobs(r *Rule, what string, patterns []string, bad func(Position, string, ...any)) ([]glob, bool) {
	globs, ok := make([]glob, 0, len(patterns)), true
	for _, p := range patterns {
		g, err := parseGlob(p)
		if err != nil {
			bad(r.Position, "%s: %q %v", what, p, err)
			ok = false
		}
		globs = append(globs, g)
	}
	return globs, ok
}
