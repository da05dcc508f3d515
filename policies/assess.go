package policies

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"

	"github.com/callgate/callgate/call"
)

// Assessment is what can be told of a ruling where parts of the call are
// missing.
type Assessment struct {
	// Ruling is what the rules say, if Known. Its rule is empty where only the
	// action is certain.
	Ruling call.Ruling
	Known  bool
	// Needs lists the missing parts for want of which the ruling is not known.
	Needs []Part
}

// Assess is [Set.Decide] for a call of which some parts are missing, such as
// one from the audit trail. A missing part can have any value or be absent, and
// a rule that looks at it can hold, not hold, or fail; only if all of that ends
// in the same action is the ruling known. Rules in shadow are not asked.
//
// The set must have been compiled with [Config.Replay]; without, a condition
// counts as looking at everything. The error is ctx's.
func (s *Set) Assess(ctx context.Context, c *call.Call, missing []Part) (Assessment, error) {
	if _, known := s.connections[c.Connection]; !known || len(missing) == 0 {
		ruling := s.Decide(ctx, c)
		return Assessment{Ruling: ruling, Known: true}, ctx.Err()
	}
	if !c.Identity.Scope.Covers(c.Connection, c.Function) {
		return Assessment{Ruling: s.outside(c), Known: true}, ctx.Err()
	}
	if conn := s.connections[c.Connection]; conn.schemas[c.Function] != nil {
		var needs []Part
		for _, p := range missing {
			if p.overlaps(argumentsPart) {
				needs = append(needs, p)
			}
		}
		if len(needs) > 0 {
			return Assessment{Needs: needs}, ctx.Err()
		}
		if ruling, bad := conn.unfit(c); bad {
			ruling.PolicyVersion = s.version
			return Assessment{Ruling: ruling, Known: true}, ctx.Err()
		}
	}
	in := s.vocabulary.acquire(c)
	in.counter = s.counter
	defer s.vocabulary.release(in)
	a := assessor{judge: judge{ctx: ctx, in: in, rules: s.concerned(c.Connection, c.Function), grants: [2]*grants{&s.own, &s.given}}, missing: missing}
	out := a.assess()
	out.Ruling.PolicyVersion = s.version
	return out, ctx.Err()
}

// assessor is a judge that may lack something.
type assessor struct {
	judge
	missing  []Part
	patterns []*cel.AttributePatternType // of missing, once asked for

	// What the rules that could not be told might have done; each might have
	// failed too, which denies.
	needs       []Part
	hold, allow bool
}

// answer is what is known of a condition.
type answer int

const (
	no answer = iota
	yes
	open // it depends on what is missing
	failed
)

func (a *assessor) assess() Assessment {
	for _, action := range []string{Deny, Hold, Allow} {
		for _, r := range a.rules {
			if r.action != action || r.shadow {
				continue
			}
			switch is, err := a.ask(r); is {
			case open:
				a.hold, a.allow = a.hold || action == Hold, a.allow || action == Allow
			case failed:
				return a.settle(broken(r, err))
			case yes:
				if action == Hold && a.settled(r) {
					continue
				}
				ruling := call.Ruling{Action: call.Action(action), Rule: r.name, Reason: call.ReasonRule, Message: r.message}
				if action == Deny {
					return a.settle(ruling)
				}
				ruling.Hold = r.hold
				return a.settle(a.hidden(ruling))
			}
		}
	}
	for _, set := range a.grants {
		for _, g := range set.of(a.in.call) {
			r := &rule{name: g.name, when: g.when, replay: g.replay}
			switch is, err := a.ask(r); is {
			case open:
				a.allow = true
			case failed:
				return a.settle(broken(r, err))
			case yes:
				return a.settle(a.hidden(call.Ruling{Action: call.ActionAllow, Rule: g.name, Reason: call.ReasonRule}))
			}
		}
	}
	return a.settle(call.Ruling{Action: call.ActionDeny, Reason: call.ReasonNoRule})
}

// hidden is hide where something may be missing: a mask that fails denies.
func (a *assessor) hidden(ruling call.Ruling) call.Ruling {
	for _, r := range a.rules {
		if r.action != Mask || r.shadow {
			continue
		}
		switch is, err := a.ask(r); is {
		case failed:
			return broken(r, err)
		case yes:
			ruling.Mask.Rules = append(ruling.Mask.Rules, r.mask)
		}
	}
	return ruling
}

// settle ends with the ruling of those that could be told.
func (a *assessor) settle(ruling call.Ruling) Assessment {
	if len(a.needs) == 0 {
		return Assessment{Ruling: ruling, Known: true}
	}
	slices.SortFunc(a.needs, comparePart)
	a.needs = slices.Compact(a.needs)
	if ruling.Action == call.ActionDeny && !a.hold && !a.allow {
		// Denied whatever is missing, but perhaps by another rule.
		return Assessment{Ruling: call.Ruling{Action: call.ActionDeny}, Known: true}
	}
	return Assessment{Needs: a.needs}
}

// ask evaluates a rule's condition as far as it can be.
func (a *assessor) ask(r *rule) (answer, error) {
	if r.when == nil || r.partial != nil && !slices.ContainsFunc(r.reads, a.lacks) {
		switch matched, err := a.matches(r); {
		case err != nil:
			return failed, err
		case matched:
			return yes, nil
		}
		return no, nil
	}
	if r.partial == nil {
		a.needs = append(a.needs, a.missing...)
		return open, nil
	}
	if a.patterns == nil {
		for _, p := range a.missing {
			a.patterns = append(a.patterns, pattern(p))
		}
	}
	vars, err := cel.PartialVars(a.in, a.patterns...)
	if err != nil {
		return failed, err
	}
	v, _, err := r.partial.Eval(vars)
	switch v := v.(type) {
	case *types.Unknown:
		for _, w := range wanted(v) {
			for _, read := range r.reads {
				if read.overlaps(w) && a.lacks(read) {
					a.needs = append(a.needs, read)
				}
			}
		}
		if len(a.needs) == 0 {
			a.needs = append(a.needs, a.missing...)
		}
		return open, nil
	case types.Bool:
		if err != nil {
			return failed, err
		}
		if v {
			return yes, nil
		}
		return no, nil
	}
	if err == nil {
		err = fmt.Errorf("no such overload: result is not bool")
	}
	return failed, err
}

func (a *assessor) lacks(p Part) bool { return slices.ContainsFunc(a.missing, p.overlaps) }

// pattern is how the library says that a part is unknown.
func pattern(p Part) *cel.AttributePatternType {
	variable, field, has := strings.Cut(p.Field, ".")
	out := cel.AttributePattern(variable)
	if has {
		out.QualString(field)
	}
	// The library would take a header's name in another case for another name.
	if p.Key != "" && p.Field != headersField {
		out.QualString(p.Key)
	}
	return out
}

// wanted lists what an unknown result is for want of.
func wanted(u *types.Unknown) []Part {
	var list []Part
	for _, id := range u.IDs() {
		trails, _ := u.GetAttributeTrails(id)
		for _, t := range trails {
			p := Part{Field: t.Variable()}
			for i, q := range t.QualifierPath() {
				switch i {
				case 0:
					p.Field += "." + fmt.Sprint(q)
				case 1:
					p.Key = fmt.Sprint(q)
				}
			}
			list = append(list, p)
		}
	}
	if len(list) == 0 {
		list = append(list, Part{Field: "call"})
	}
	return list
}
