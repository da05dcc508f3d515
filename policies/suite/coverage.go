package suite

import "github.com/callgate/callgate/policies"

// Coverage tells what the tests tried of a policy.
type Coverage struct {
	Rules []RuleCoverage
}

// RuleCoverage tells what the tests tried of one rule, or grant.
type RuleCoverage struct {
	Name     string
	Action   string
	Position policies.Position
	Shadow   bool
	Decided  int // calls that it decided
	Matched  int // calls for which it was asked, and true
	Missed   int // … and false
	Failed   int // … and could not be evaluated
	// Untried are parts of its condition that were only ever true, or only
	// ever false.
	Untried []Untried
}

// Untried is a part of a condition that had one value only.
type Untried struct {
	Text string
	Only bool
}

// Covered reports whether some test has the rule do what it is for: decide, or
// for a mask or a rule in shadow, match.
func (r RuleCoverage) Covered() bool {
	if r.Action == policies.Mask || r.Shadow {
		return r.Matched > 0
	}
	return r.Decided > 0
}

// Covered counts the rules that are.
func (c Coverage) Covered() int {
	n := 0
	for _, r := range c.Rules {
		if r.Covered() {
			n++
		}
	}
	return n
}

// Percent is the share of rules that are covered; of none, 100.
func (c Coverage) Percent() float64 {
	if len(c.Rules) == 0 {
		return 100
	}
	return 100 * float64(c.Covered()) / float64(len(c.Rules))
}

// collector gathers coverage.
type collector struct {
	rules map[string]*RuleCoverage
	parts map[string]*parts // by rule
	order []string
}

type parts struct {
	order []string
	seen  map[string][2]bool // false, true
}

func newCollector(set *policies.Set) *collector {
	c := &collector{rules: map[string]*RuleCoverage{}, parts: map[string]*parts{}}
	for _, x := range set.Inspect() {
		c.rules[x.Rule.Name] = &RuleCoverage{Name: x.Rule.Name, Action: x.Rule.Action, Position: x.Rule.Position, Shadow: x.Rule.Shadow}
		c.parts[x.Rule.Name] = &parts{seen: map[string][2]bool{}}
		c.order = append(c.order, x.Rule.Name)
	}
	return c
}

func (c *collector) add(r Result) {
	for _, st := range r.Steps {
		rule := c.rules[st.Rule.Name]
		if rule == nil || !st.Asked {
			continue // a grant of the test's own, or nobody asked
		}
		switch st.Verdict {
		case policies.Matched:
			rule.Matched++
		case policies.Unmatched:
			rule.Missed++
		case policies.Failed:
			rule.Failed++
		}
		if st.Decided {
			rule.Decided++
		}
		c.parts[rule.Name].add(st.Parts)
	}
}

func (p *parts) add(list []policies.Evaluated) {
	for _, e := range list {
		v, is := e.Value.(bool)
		if !e.Known || !is {
			continue
		}
		seen, known := p.seen[e.Text]
		if !known {
			p.order = append(p.order, e.Text)
		}
		if v {
			seen[1] = true
		} else {
			seen[0] = true
		}
		p.seen[e.Text] = seen
	}
}

func (c *collector) coverage() Coverage {
	var out Coverage
	for _, name := range c.order {
		r := c.rules[name]
		for _, text := range c.parts[name].order {
			if seen := c.parts[name].seen[text]; seen[0] != seen[1] {
				r.Untried = append(r.Untried, Untried{text, seen[1]})
			}
		}
		out.Rules = append(out.Rules, *r)
	}
	return out
}
