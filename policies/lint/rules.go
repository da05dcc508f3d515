package lint

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/policies"
	"github.com/callgate/callgate/policies/condition"
)

// conditions finds those that are never or always true.
func (l *linter) conditions() {
	for _, r := range l.rules {
		switch {
		case r.formula.Never():
			r.dead = true
			l.add(NeverMatches, Fault, r.condition(), r.subject(), "correct the condition, or remove the rule",
				"no call fulfils its condition: it contradicts itself")
		case r.where.Never():
			r.dead = true
			l.add(NeverMatches, Fault, r.condition(), r.subject(), "correct the condition, or connections and functions of the rule",
				"no call that it looks at fulfils its condition: the condition asks for another connection, function, protocol or kind of caller than there is")
		case r.Rule.When != "" && r.Always():
			l.add(Constant, Warning, r.condition(), r.subject(), "leave when out, or write what was meant", "its condition is true whatever the call")
		}
	}
}

// names finds texts in conditions that name nothing.
func (l *linter) names() {
	for _, r := range l.rules {
		for _, n := range condition.Names(r.Written) {
			text, fix := l.unknown(r, n)
			if text != "" {
				l.add(UnknownName, Fault, r.At(n.ID), r.subject(), fix, "%s", text)
			}
		}
	}
}

// unknown says what is wrong with a name, if anything.
func (l *linter) unknown(r *rule, n condition.Named) (text, fix string) {
	switch strings.ReplaceAll(n.Path, "\x00", ".") {
	case "identity.kind":
		kinds := []string{string(call.Human), string(call.CI), string(call.Agent), string(call.Workload)}
		if n.Text != "" && !slices.Contains(kinds, n.Text) {
			return fmt.Sprintf("no caller is of kind %q", n.Text), "choose human, ci, agent or workload"
		}
	case "call.protocol":
		protocols := l.protocols()
		if !slices.Contains(protocols, n.Text) {
			return fmt.Sprintf("no connection speaks protocol %q", n.Text), "there are " + strings.Join(protocols, ", ")
		}
	case "call.connection":
		if l.connections[n.Text] == nil {
			return fmt.Sprintf("there is no connection %q", n.Text), "name one of the policy's connections"
		}
	case "call.function":
		if functions, known := l.functionsOf(r); known && !slices.Contains(functions, n.Text) {
			if len(functions) > 10 {
				functions = append(functions[:10:10], "…")
			}
			return fmt.Sprintf("no connection that the rule looks at has a function %q among those it looks at", n.Text), "there are " + strings.Join(functions, ", ")
		}
	}
	return "", ""
}

func (l *linter) protocols() []string {
	var out []string
	for _, c := range l.in.Connections {
		if p := string(c.Protocol); !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	slices.Sort(out)
	return out
}

// everybody finds rules that allow without asking who calls.
func (l *linter) everybody() {
	for _, r := range l.rules {
		if r.dead || r.Grant != nil || r.Rule.Action != policies.Allow || r.Rule.Shadow || r.Mentions("identity") || l.guarded(r) {
			continue
		}
		l.add(OpenToAll, Warning, r.Rule.Position, r.subject(), "add a condition such as '\"support\" in identity.groups'",
			"it allows these calls to everybody who has a valid token: nothing in it, and no deny before it, looks at identity")
	}
}

// guarded reports whether a deny over all that r looks at asks who calls.
func (l *linter) guarded(r *rule) bool {
	return slices.ContainsFunc(l.rules, func(d *rule) bool {
		return d.Rule.Action == policies.Deny && !d.Rule.Shadow && d.Mentions("identity") && d.Covers(r.Inspected, l.offered)
	})
}

// shadows finds rules that never decide, since another comes first whatever
// the call.
func (l *linter) shadows(ctx context.Context) error {
	before := map[string][]*rule{} // the rules over a connection so far
	for _, r := range l.rules {
		if err := ctx.Err(); err != nil {
			return err
		}
		if len(r.Connections) == 0 || r.Rule.Shadow {
			continue
		}
		if !r.dead {
			for _, first := range before[r.Connections[0]] {
				if l.decidesFirst(first, r) {
					l.shadowed(first, r)
					break
				}
			}
		}
		if r.dead || r.Grant != nil {
			continue
		}
		for _, c := range r.Connections {
			before[c] = append(before[c], r)
		}
	}
	return nil
}

// decidesFirst reports whether every call that r matches is decided by first,
// or by first's failing. r may still be asked about others, and fail.
func (l *linter) decidesFirst(first, r *rule) bool {
	if (first.Rule.Action == policies.Mask) != (r.Rule.Action == policies.Mask) {
		return false // a mask decides nothing
	}
	if r.Rule.Action == policies.Mask && !sameMask(first, r) {
		return false
	}
	return r.where.Within(first.formula) && first.Covers(r.Inspected, l.offered)
}

func sameMask(a, b *rule) bool {
	x, y := a.Rule.Mask, b.Rule.Mask
	x.Name, y.Name = "", ""
	return reflect.DeepEqual(x, y)
}

func (l *linter) shadowed(first, r *rule) {
	r.dead = true
	same := first.Rule.Action == r.Rule.Action && r.Grant == nil && first.formula.Within(r.where) && r.Covers(first.Inspected, l.offered)
	by := fmt.Sprintf("rule %q (%s)", first.Rule.Name, first.Rule.Position)
	switch {
	case r.Rule.Action == policies.Mask:
		l.add(Duplicate, Warning, r.Rule.Position, r.subject(), "remove one of the two", "%s hides the same wherever this one does", by)
	case same:
		l.add(Duplicate, Warning, r.Rule.Position, r.subject(), "remove one of the two", "%s says the same and comes first", by)
	case first.Rule.Action == policies.Deny && r.Rule.Action != policies.Deny:
		verb := map[string]string{policies.Hold: "hold", policies.Allow: "allow"}[r.Rule.Action]
		l.add(Shadowed, Warning, r.Rule.Position, r.subject(), fmt.Sprintf("narrow the deny rule %q, or remove this one", first.Rule.Name),
			"it never comes to %s anything: %s denies every call that it matches, and a deny comes first", verb, by)
	case first.Rule.Action != r.Rule.Action:
		l.add(Shadowed, Warning, r.Rule.Position, r.subject(), fmt.Sprintf("narrow rule %q, or remove this one", first.Rule.Name),
			"no call that it matches gets to it: %s takes all of them, and %s comes before %s", by, first.Rule.Action, r.Rule.Action)
	default:
		l.add(Shadowed, Warning, r.Rule.Position, r.subject(), fmt.Sprintf("put it before rule %q, narrow that one, or remove this one", first.Rule.Name),
			"no call that it matches gets to it: %s comes first and takes all of them", by)
	}
}
