// Package suite runs tests of a policy: calls, and what the rules should say of
// them.
//
// A call is judged by the same code that judges calls in production. One that is
// given as a request is read by the connection's own parser, so that a test sees
// the function and arguments that rules will see, or the denial.
package suite

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"time"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/call/protocol"
	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/policies"
	"github.com/callgate/callgate/policies/counts"
)

// Endpoint is what a test needs of a connection.
type Endpoint struct {
	Name     string
	Protocol call.Protocol
	Parser   protocol.Parser
	MaxBody  int64 // bytes
	// SessionHeader names the session of its calls; "": none does.
	SessionHeader string
	Functions     []string // nil where they are not known beforehand
}

// Connections finds the endpoints of a policy.
type Connections interface {
	Named(name string) (Endpoint, bool)
	// Match finds the one that takes a request's host and path.
	Match(authority, path string) (Endpoint, bool)
}

// Config is what tests are run with.
type Config struct {
	Set         *policies.Set // compiled with Inspect
	Connections Connections
	// Run picks tests by name; nil runs all.
	Run *regexp.Regexp
}

// Result is what came of one test.
type Result struct {
	Test        config.Test
	Call        call.Call
	Ruling      call.Ruling
	Steps       []policies.Step
	Differences []Difference
	// Err is why the test could not be run.
	Err  error
	Took time.Duration
}

// Passed reports whether the policy said what it should.
func (r Result) Passed() bool { return r.Err == nil && len(r.Differences) == 0 }

// Difference is one thing that was expected otherwise.
type Difference struct {
	What string // decision, rule, reason …
	Want string
	Got  string
}

// Report is what came of all tests.
type Report struct {
	Results  []Result
	Coverage Coverage
	Took     time.Duration
}

// Failed is how many tests did not pass.
func (r Report) Failed() int {
	n := 0
	for _, one := range r.Results {
		if !one.Passed() {
			n++
		}
	}
	return n
}

// Run runs tests, in their order. Its error is ctx's.
func Run(ctx context.Context, cfg Config, tests []config.Test) (Report, error) {
	report, began := Report{}, time.Now()
	coverage := newCollector(cfg.Set)
	for _, t := range tests {
		if err := ctx.Err(); err != nil {
			return Report{}, err
		}
		if cfg.Run != nil && !cfg.Run.MatchString(t.Name) {
			continue
		}
		r := one(ctx, cfg, t)
		coverage.add(r)
		report.Results = append(report.Results, r)
	}
	report.Coverage, report.Took = coverage.coverage(), time.Since(began)
	return report, nil
}

func one(ctx context.Context, cfg Config, t config.Test) Result {
	began := time.Now()
	out := Result{Test: t}
	out.Call, out.Ruling, out.Steps, out.Err = Judge(ctx, cfg, t)
	out.Took = time.Since(began)
	if out.Err == nil {
		out.Differences = compare(t.Expect, out.Ruling)
	}
	return out
}

// Judge asks the policy about the call of a test. A request that can't be read
// as a call is denied, as in production, and no rule is asked. The error says
// why the test itself can't be run.
func Judge(ctx context.Context, cfg Config, t config.Test) (call.Call, call.Ruling, []policies.Step, error) {
	c, denied, err := callOf(cfg.Connections, t)
	if err != nil {
		return c, call.Ruling{}, nil, err
	}
	if denied != nil {
		return c, call.Ruling{Action: call.ActionDeny, Reason: denied.Reason, Message: denied.Message, PolicyVersion: cfg.Set.Version()}, nil, nil
	}
	set := cfg.Set
	if len(t.Grants) > 0 {
		list := make([]policies.Grant, len(t.Grants))
		for i, g := range t.Grants {
			list[i] = policies.Grant{Name: g.Name, Identities: g.Identities, Groups: g.Groups, Actors: g.Actors, Connections: g.Connections,
				Functions: g.Functions, When: g.When, Until: g.Until, Position: policies.Position(g.Position), WhenPosition: policies.Position(g.WhenPosition)}
		}
		if set, err = set.WithGrants(list); err != nil {
			return c, call.Ruling{}, nil, fmt.Errorf("the grants of the test: %w", err)
		}
	}
	set = set.Counting(counted(&c, t.Before))
	ruling, steps := set.Trace(ctx, &c)
	if t.Now.IsZero() {
		if name := clock(steps); name != "" {
			return c, ruling, steps, fmt.Errorf("%s looks at the time, and the test does not say which; set now in the test or its file", name)
		}
	}
	return c, ruling, steps, nil
}

// counted is what a decision server would have counted by now.
func counted(c *call.Call, before []config.TestBefore) *counts.Counter {
	counter := counts.New()
	before = slices.Clone(before)
	slices.SortStableFunc(before, func(a, b config.TestBefore) int { return cmp.Compare(b.Ago, a.Ago) })
	for _, b := range before {
		earlier := call.Call{ID: call.ID{1}, Time: c.Time.Add(-b.Ago), Identity: c.Identity, Protocol: c.Protocol,
			Connection: cmp.Or(b.Connection, c.Connection), Function: cmp.Or(b.Function, c.Function), Session: cmp.Or(b.Session, c.Session)}
		if b.Session != "" { // of the token, since only that is counted by
			earlier.Identity.Claims = maps.Clone(c.Identity.Claims)
			if earlier.Identity.Claims == nil {
				earlier.Identity.Claims = map[string]any{}
			}
			earlier.Identity.Claims["sid"] = b.Session
		}
		for range b.Times {
			counter.Count(&earlier)
		}
	}
	return counter
}

// clock names a rule that failed for want of the time, or a grant that ends.
func clock(steps []policies.Step) string {
	for _, st := range steps {
		if st.Verdict == policies.Elsewhere || !st.Asked {
			continue
		}
		if st.Grant != nil && !st.Grant.Until.IsZero() {
			return fmt.Sprintf("grant %q", st.Grant.Name)
		}
		if st.Verdict == policies.Failed && st.Mentions("now") {
			return fmt.Sprintf("rule %q", st.Rule.Name)
		}
	}
	return ""
}
