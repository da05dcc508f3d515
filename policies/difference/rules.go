package difference

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/policies"
	"github.com/callgate/callgate/policies/condition"
)

// rule is a rule or grant of one side.
type rule struct {
	policies.Inspected
	formula  condition.Formula
	settings map[string]string
	mask     config.Mask
	place    int // among the rules
}

func (r *rule) kind() string {
	if r.Grant != nil {
		return "grant"
	}
	return "rule"
}

func (r *rule) name() string { return strings.TrimPrefix(r.Rule.Name, policies.GrantPrefix) }

// rulesOf lists the rules and grants of a side.
func rulesOf(s Side) []*rule {
	said, masks := map[string]map[string]string{}, map[string]config.Mask{}
	for _, r := range s.Policy.Rules {
		said[r.Name], masks[r.Name] = settings("rule", r), r.Mask
	}
	for _, g := range s.Policy.Grants {
		said[policies.GrantPrefix+g.Name] = settings("grant", g)
	}
	var out []*rule
	for i, x := range s.Set.Inspect() {
		r := &rule{Inspected: x, formula: condition.Of(x.Condition), settings: said[x.Rule.Name], mask: masks[x.Rule.Name], place: i}
		if r.settings == nil {
			r.settings = map[string]string{} // made by the gateway, and told by its condition alone
		}
		if when := x.When(); when != "" {
			r.settings["when"] = when
		} else {
			delete(r.settings, "when")
		}
		out = append(out, r)
	}
	return out
}

type comparison struct {
	offered func(string) []string
	was, is []*rule
	before  map[string]*rule
}

func compareRules(ctx context.Context, was, is Side) ([]Change, error) {
	c := comparison{was: rulesOf(was), is: rulesOf(is), before: map[string]*rule{}, offered: offered(was.Policy, is.Policy)}
	for _, r := range c.was {
		c.before[r.Rule.Name] = r
	}
	var out []Change
	after := map[string]*rule{}
	for _, r := range c.is {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		after[r.Rule.Name] = r
		old := c.before[r.Rule.Name]
		if old == nil {
			out = append(out, Change{Kind: r.kind(), Name: r.name(), What: Added, Effect: r.weight(), Why: []string{r.sense(true)}, New: r.Rule.Position})
			continue
		}
		if fields := differing(old.settings, r.settings); len(fields) > 0 {
			out = append(out, c.changed(old, r, fields))
		}
	}
	for _, r := range c.was {
		if after[r.Rule.Name] == nil {
			out = append(out, Change{Kind: r.kind(), Name: r.name(), What: Removed, Effect: opposite(r.weight()), Why: []string{r.sense(false)}, Old: r.Rule.Position})
		}
	}
	moved, err := c.moved(ctx, after)
	return append(out, moved...), err
}

// offered finds the functions of a connection, where both sides agree on them.
func offered(was, is config.Policy) func(string) []string {
	names := func(p config.Policy) map[string][]string {
		out := map[string][]string{}
		for _, c := range p.Connections {
			for _, f := range c.Functions {
				out[c.Name] = append(out[c.Name], f.Name)
			}
			slices.Sort(out[c.Name])
		}
		return out
	}
	a, b := names(was), names(is)
	return func(connection string) []string {
		if !slices.Equal(a[connection], b[connection]) {
			return nil
		}
		return a[connection]
	}
}

// weight is what having a rule does.
func (r *rule) weight() Effect {
	if r.formula.Never() {
		return Neither
	}
	return r.direction()
}

// direction is what a rule does where it matches.
func (r *rule) direction() Effect {
	switch {
	case r.Rule.Shadow:
		return Neither
	case r.Rule.Action == policies.Allow:
		return Widens
	case r.Rule.Action == policies.Hold:
		return Either // it lets through what people approve, and stops what was allowed
	}
	return Narrows
}

// sense says what a rule that comes or goes does.
func (r *rule) sense(comes bool) string {
	if r.Rule.Shadow {
		return "it is in shadow and decides nothing"
	}
	verbs := map[string][2]string{
		policies.Allow: {"no longer allows calls", "allows more calls"},
		policies.Deny:  {"no longer denies calls", "denies more calls"},
		policies.Hold:  {"no longer holds calls: they are allowed or denied at once", "holds calls, which people may then let through"},
		policies.Mask:  {"no longer hides parts of responses", "hides parts of responses"},
	}[r.Rule.Action]
	if comes {
		return "it " + verbs[1]
	}
	return "it " + verbs[0]
}

func opposite(e Effect) Effect {
	switch e {
	case Widens:
		return Narrows
	case Narrows:
		return Widens
	}
	return e
}

// changed tells of a rule that both sides have.
func (c comparison) changed(old, r *rule, fields []Field) Change {
	out := Change{Kind: r.kind(), Name: r.name(), What: Changed, Fields: fields, Old: old.Rule.Position, New: r.Rule.Position}
	has := func(paths ...string) bool {
		return slices.ContainsFunc(fields, func(f Field) bool {
			head, _, _ := strings.Cut(f.Path, ".")
			return slices.Contains(paths, f.Path) || slices.Contains(paths, head)
		})
	}
	var effects []Effect
	say := func(e Effect, format string, args ...any) {
		effects = append(effects, e)
		out.Why = append(out.Why, fmt.Sprintf(format, args...))
	}
	if has("action", "shadow") {
		switch {
		case old.weight() == r.weight():
			say(Either, "it was %s and is %s", old.role(), r.role())
		default:
			say(together(opposite(old.weight()), r.weight()), "it was %s and is %s", old.role(), r.role())
		}
	}
	if has("when", "connections", "functions") {
		c.scope(old, r, say)
	}
	if r.Grant != nil {
		given(fields, say)
	}
	if has("hold") {
		held(old.Rule.Hold, r.Rule.Hold, say)
	}
	if has("mask") {
		if r.Rule.Shadow && old.Rule.Shadow {
			say(Neither, "it is in shadow and hides nothing")
		} else {
			maskEffect([]config.Mask{old.mask}, []config.Mask{r.mask}, "in responses", say)
		}
	}
	if has("message") {
		say(Neither, "callers are told something else")
	}
	if len(out.Why) == 0 {
		// Nothing here knows it, so it may do anything.
		say(Either, "it is said in another way")
	}
	out.Effect = together(effects...)
	return out
}

// held tells of another way to hold calls.
func held(was, is call.Hold, say func(Effect, string, ...any)) {
	if was.Timeout != is.Timeout {
		say(Neither, "calls are held for another time")
	}
	if was.Wait != is.Wait || was.Valid != is.Valid || was.Open != is.Open {
		say(Neither, "callers wait in another way")
	}
	if was.Reason != is.Reason {
		say(Neither, "%s", map[bool]string{true: "no decision is taken without a reason", false: "decisions need no reason"}[is.Reason])
	}
	asks, fewer, more := len(was.Stages) == len(is.Stages), false, false
	for i := range is.Stages {
		if asks = asks && reflect.DeepEqual(was.Stages[i].Approvers, is.Stages[i].Approvers); !asks {
			break
		}
		a, b := max(1, was.Stages[i].Need), max(1, is.Stages[i].Need)
		fewer, more = fewer || b < a, more || b > a
	}
	switch {
	case !asks:
		say(Either, "others may approve: it asked %s and asks %s", was.Asks(), is.Asks())
	case fewer && more:
		say(Either, "another number of people must approve: it asked %s and asks %s", was.Asks(), is.Asks())
	case fewer:
		say(Widens, "fewer people must approve: it asked %s and asks %s", was.Asks(), is.Asks())
	case more:
		say(Narrows, "more people must approve: it asked %s and asks %s", was.Asks(), is.Asks())
	}
	switch a, b := was.BreakGlass, is.BreakGlass; {
	case reflect.DeepEqual(a, b):
	case a.Nobody():
		say(Widens, "some callers may break glass")
	case b.Nobody():
		say(Narrows, "nobody may break glass any more")
	default:
		say(Either, "other callers may break glass")
	}
	switch {
	case is.Grant > was.Grant:
		say(Widens, "approvers may give longer grants")
	case is.Grant < was.Grant:
		say(Narrows, "approvers may give shorter grants only, or none")
	}
}

func (r *rule) role() string {
	if r.Rule.Shadow {
		return r.Rule.Action + " in shadow"
	}
	return r.Rule.Action
}

// scope tells what a rule matches now that it did not, and the other way round.
func (c comparison) scope(old, r *rule, say func(Effect, string, ...any)) {
	// What failed before or fails now is not told apart: it denies.
	wider := r.Covers(old.Inspected, c.offered) && old.formula.Within(r.formula)
	narrower := old.Covers(r.Inspected, c.offered) && r.formula.Within(old.formula)
	grows := r.direction()
	what := map[bool]string{true: "condition", false: "scope"}[old.settings["when"] != r.settings["when"]]
	switch {
	case wider && narrower:
		say(Neither, "its %s is written in another way, and matches the same", what)
	case wider && old.settings["when"] != "" && r.settings["when"] == "":
		say(grows, "it lost its condition: it matches more calls")
	case wider:
		say(grows, "its %s is wider: it matches more calls", what)
	case narrower && old.settings["when"] == "":
		say(opposite(grows), "it got a condition: it matches fewer calls")
	case narrower:
		say(opposite(grows), "its %s is narrower: it matches fewer calls", what)
	case grows == Neither:
		say(Neither, "its %s is another", what)
	default:
		say(Either, "its %s is another: it may match more calls, and fewer", what)
	}
}

// given tells who has a grant now that had it not.
func given(fields []Field, say func(Effect, string, ...any)) {
	for _, f := range fields {
		switch f.Path {
		case "identities", "groups", "actors":
			more, less := lists(split(f.Old), split(f.New))
			switch {
			case more && less:
				say(Either, "its %s are others", f.Path)
			case more:
				say(Widens, "it has more %s", f.Path)
			case less:
				say(Narrows, "it has fewer %s", f.Path)
			}
		case "until":
			was, err1 := time.Parse(time.RFC3339Nano, f.Old)
			is, err2 := time.Parse(time.RFC3339Nano, f.New)
			switch {
			case f.New == "":
				say(Widens, "it does not end any more")
			case f.Old == "":
				say(Narrows, "it ends now")
			case err1 != nil || err2 != nil:
				say(Either, "it ends at another time")
			case is.Before(was):
				say(Narrows, "it ends earlier")
			case was.Before(is):
				say(Widens, "it ends later")
			}
		}
	}
}

func split(list string) []string {
	if list == "" {
		return nil
	}
	return strings.Split(list, ", ")
}

// moved finds rules that changed places with another that can decide the same
// call: which of them does then changes, and with it the name in the audit
// trail, the message, or who is asked.
func (c comparison) moved(ctx context.Context, after map[string]*rule) ([]Change, error) {
	type pair struct{ old, new *rule }
	before := map[string][]pair{} // by action, in the new order
	var out []Change
	for _, r := range c.is {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		old := c.before[r.Rule.Name]
		if old == nil || r.Grant != nil || r.Rule.Shadow || old.Rule.Action != r.Rule.Action || r.Rule.Action == policies.Mask {
			continue
		}
		for _, first := range before[r.Rule.Action] {
			if first.old.place < old.place || !c.meet(first.new, r) {
				continue
			}
			change := Change{Kind: "rule", Name: first.new.Rule.Name, What: Moved, Effect: Neither, Old: first.old.Rule.Position, New: first.new.Rule.Position,
				Why: []string{fmt.Sprintf("it comes before rule %q now, and decides calls that both match", r.Rule.Name)}}
			if r.Rule.Action == policies.Hold {
				change.Effect = Either
				change.Why = append(change.Why, "who may approve those, and for how long they wait, is what this rule says")
			}
			out = append(out, change)
		}
		before[r.Rule.Action] = append(before[r.Rule.Action], pair{old, r})
	}
	return out, nil
}

// meet reports whether two rules could match the same call.
func (c comparison) meet(a, b *rule) bool {
	if a.formula.Apart(b.formula) {
		return false
	}
	return slices.ContainsFunc(a.Connections, func(conn string) bool {
		return slices.Contains(b.Connections, conn) && a.MeetsFunction(b.Inspected, c.offered(conn))
	})
}
