package lint

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/callgate/callgate/policies"
	"github.com/callgate/callgate/policies/condition"
)

// unallowed finds connections and functions that no call can get through to.
func (l *linter) unallowed(ctx context.Context) error {
	over := map[string][]*rule{}
	for _, r := range l.rules {
		for _, c := range r.Connections {
			over[c] = append(over[c], r)
		}
	}
	open := map[*rule]bool{} // masks over something that a call gets through to
	for i := range l.in.Connections {
		if err := ctx.Err(); err != nil {
			return err
		}
		c := &l.in.Connections[i]
		reach := l.reachOf(c, over[c.Name])
		for _, r := range over[c.Name] {
			if c.Shadow {
				open[r] = true // everything gets through there
			}
			if r.Rule.Action == policies.Mask && (len(reach.open) > 0 || c.Functions == nil && reach.any) {
				if c.Functions == nil || slices.ContainsFunc(reach.open, r.Function) {
					open[r] = true
				}
			}
		}
		if !c.Shadow {
			l.tellReach(c, reach)
		}
	}
	for _, r := range l.rules {
		if r.Rule.Action == policies.Mask && !r.dead && !open[r] && !r.Rule.Shadow {
			l.add(NowhereMasked, Warning, r.Rule.Position, r.subject(), "allow something there, or remove the mask",
				"no rule lets a call through that it would hide something of")
		}
	}
	return nil
}

// reach is what can be called on a connection.
type reach struct {
	any    bool     // something is allowed
	open   []string // functions that something allows, where they are known
	shut   []Function
	denied string // the deny that shuts the whole connection
	shadow bool   // what would allow is in shadow
}

func (l *linter) reachOf(c *Connection, rules []*rule) reach {
	var out reach
	for _, r := range rules {
		if lets(r) {
			out.any = true
		}
		out.shadow = out.shadow || r.Rule.Shadow && (r.Rule.Action == policies.Allow || r.Rule.Action == policies.Hold)
		if r.Rule.Action == policies.Deny && !r.Rule.Shadow && r.formula.NeverFalse() && r.EveryFunction() {
			out.denied = r.Rule.Name
		}
	}
	for _, f := range c.Functions {
		if l.letsThrough(c, f.Name, rules) {
			out.open = append(out.open, f.Name)
		} else {
			out.shut = append(out.shut, f)
		}
	}
	if c.Functions != nil && len(out.open) == 0 || out.denied != "" {
		out.any = false
	}
	return out
}

// lets reports whether a rule can let a call through.
func lets(r *rule) bool {
	return !r.dead && !r.Rule.Shadow && (r.Rule.Action == policies.Allow || r.Rule.Action == policies.Hold)
}

// letsThrough reports whether some rule may let a call of a function through
// that no single deny certainly stops.
func (l *linter) letsThrough(c *Connection, function string, rules []*rule) bool {
	at := condition.And(condition.In([]string{"call", "connection"}, []string{c.Name}), condition.In([]string{"call", "function"}, []string{function}))
	for _, r := range rules {
		if !lets(r) || !r.Function(function) {
			continue
		}
		here := r.where
		if here.Speaks("call", "connection") || here.Speaks("call", "function") {
			here = condition.And(at, here)
		}
		if here.Never() {
			continue
		}
		stopped := slices.ContainsFunc(rules, func(d *rule) bool {
			return d.Rule.Action == policies.Deny && !d.Rule.Shadow && d.Function(function) && here.Within(d.formula)
		})
		if !stopped {
			return true
		}
	}
	return false
}

func (l *linter) tellReach(c *Connection, r reach) {
	subject := fmt.Sprintf("connection %q", c.Name)
	why := "no rule or grant of the policy can allow anything there, so every call is denied"
	switch {
	case r.denied != "":
		why = fmt.Sprintf("every call is denied by rule %q, whoever calls", r.denied)
	case r.shadow:
		why = "only rules in shadow would allow anything there, so every call is denied"
	}
	switch {
	case !r.any:
		l.add(Unallowed, Warning, c.Position, subject, "add a rule that allows what it is for, or remove the connection", "%s", why)
	case len(r.shut) == 1:
		l.add(Unallowed, Warning, r.shut[0].Position, subject, "allow it, or leave the function out", "no rule or grant of the policy can allow function %q", r.shut[0].Name)
	case len(r.shut) > 1:
		names := make([]string, len(r.shut))
		for i, f := range r.shut {
			names[i] = f.Name
		}
		l.add(Unallowed, Warning, r.shut[0].Position, subject, "allow them, or leave them out", "no rule or grant of the policy can allow functions %s", strings.Join(names, ", "))
	}
}

// credentials finds services that are called without one.
func (l *linter) credentials() {
	for _, c := range l.in.Connections {
		if !c.Credentialed {
			l.add(NoCredential, Warning, c.Position, fmt.Sprintf("connection %q", c.Name), "set credential, so that the service can refuse whoever goes around the gateway",
				"its service gets no credential, and the caller's token is taken away")
		}
	}
}

// grants finds those that have run out.
func (l *linter) grants() {
	for _, r := range l.rules {
		if g := r.Grant; g != nil && !g.Until.IsZero() && !l.in.Now.Before(g.Until) {
			r.dead = true
			l.add(EndedGrant, Warning, g.Position, r.subject(), "remove it, or set a later until", "it ended at %s", g.Until.Format("2006-01-02T15:04:05Z07:00"))
		}
		if r.Grant != nil && len(r.Connections) == 0 {
			r.dead = true
			l.add(UnknownName, Warning, r.Rule.Position, r.subject(), "name a connection that there is", "no connection is called %s", strings.Join(r.Rule.Connections, " or "))
		}
	}
}
