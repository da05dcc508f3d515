package policies

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/interpreter"

	"github.com/callgate/callgate/call"
)

// index holds the rules over one connection, so that a call meets only those
// that can concern its function. Every list is in file order.
type index struct {
	any         []*rule            // name no function
	exact       map[string][]*rule // by function
	globs       []*rule            // have a wildcard among their functions
	longestHold time.Duration
	schemas     schemas // that calls must fit; nil: none
	enforce     bool    // calls must fit their schema
	pinning     *Pinning
}

func (ix *index) add(r *rule) {
	if r.action == Hold && !r.shadow {
		ix.longestHold = max(ix.longestHold, r.hold.KeptOpen())
	}
	switch {
	case len(r.functions) == 0:
		ix.any = append(ix.any, r)
	case slices.ContainsFunc(r.functions, func(g glob) bool { return !g.exact }):
		ix.globs = append(ix.globs, r)
	default:
		if ix.exact == nil {
			ix.exact = map[string][]*rule{}
		}
		for _, g := range r.functions {
			if here := ix.exact[g.literal]; len(here) == 0 || here[len(here)-1] != r {
				ix.exact[g.literal] = append(here, r)
			}
		}
	}
}

// candidates appends the rules that concern function.
func (ix *index) candidates(function string, to []*rule) []*rule {
	to = append(to, ix.any...)
	to = append(to, ix.exact[function]...)
	for _, r := range ix.globs {
		if slices.ContainsFunc(r.functions, func(g glob) bool { return g.match(function) }) {
			to = append(to, r)
		}
	}
	return to
}

// unfit denies a call whose arguments are not as the function's schema wants.
func (ix *index) unfit(c *call.Call) (call.Ruling, bool) {
	known := ix.schemas[c.Function]
	if known == nil {
		return call.Ruling{}, false
	}
	faults := known.faults(arguments(c))
	return call.Ruling{Action: call.ActionDeny, Reason: call.ReasonMalformedRequest,
		Message: "the arguments don't fit the function's schema: " + strings.Join(faults, "; ")}, len(faults) > 0
}

var candidateLists = sync.Pool{New: func() any { return new([]*rule) }}

// Decide says what the rules think of c. It never fails: where a rule can't
// be evaluated, or ctx ends, the ruling is a denial with
// [call.ReasonPolicyError].
func (s *Set) Decide(ctx context.Context, c *call.Call) call.Ruling {
	conn, known := s.connections[c.Connection]
	if !known {
		return call.Ruling{Action: call.ActionDeny, Reason: call.ReasonUnknownConnection, PolicyVersion: s.version,
			Message: fmt.Sprintf("the policy knows no connection %q", c.Connection)}
	}
	if !c.Identity.Scope.Covers(c.Connection, c.Function) {
		return s.outside(c)
	}
	list := candidateLists.Get().(*[]*rule)
	defer func() {
		clear(*list)
		*list = (*list)[:0]
		candidateLists.Put(list)
	}()
	*list = conn.candidates(c.Function, s.everywhere.candidates(c.Function, *list))
	slices.SortFunc(*list, func(a, b *rule) int { return a.at - b.at })

	if s.counter != nil {
		s.counter.Count(c)
	}
	if ruling, bad := conn.unfit(c); bad {
		ruling.PolicyVersion = s.version
		return ruling
	}
	tool, pinned := s.toolRuling(conn, c)
	if pinned && tool.Action == call.ActionDeny {
		tool.PolicyVersion = s.version
		return tool
	}
	in := s.vocabulary.acquire(c)
	in.counter = s.counter
	defer s.vocabulary.release(in)
	j := judge{ctx: ctx, in: in, rules: *list, grants: [2]*grants{&s.own, &s.given}, unmasked: streams(c)}
	ruling := s.hideAll(conn, c, j.rule())
	if pinned {
		ruling = both(ruling, tool)
	}
	ruling.PolicyVersion = s.version
	ruling.Shadow = j.shadows()
	return ruling
}

// outside is the ruling on a call that its token is not for, whatever the rules
// would say.
func (s *Set) outside(c *call.Call) call.Ruling {
	return call.Ruling{Action: call.ActionDeny, Reason: call.ReasonInsufficientScope, PolicyVersion: s.version,
		Message: "the token is narrowed to " + c.Identity.Scope.String() + "; get one that is for this function"}
}

type judge struct {
	ctx   context.Context
	in    *input
	rules []*rule // in file order
	// grants are the policy's own and those given since.
	grants [2]*grants
	// asked, if set, is told of every rule that was asked.
	asked func(r *rule, matched bool, err error)
	// unmasked leaves rules about masks out.
	unmasked bool
}

// rule asks the rules that decide, strongest first, and then what to hide.
func (j *judge) rule() call.Ruling {
	for _, action := range []string{Deny, Hold, Allow} {
		for _, r := range j.rules {
			if r.action != action || r.shadow {
				continue
			}
			matched, err := j.matches(r)
			if err != nil {
				return broken(r, err)
			}
			if !matched {
				continue
			}
			if action == Hold && j.settled(r) {
				continue
			}
			ruling := call.Ruling{Action: call.Action(action), Rule: r.name, Reason: call.ReasonRule, Message: r.message}
			switch action {
			case Deny:
				if ruling.Message == "" {
					ruling.Message = fmt.Sprintf("denied by rule %q", r.name)
				}
				return ruling
			case Hold:
				ruling.Hold = r.hold
			}
			return j.hide(ruling)
		}
	}
	if ruling, ok := j.granted(j.grants[:]...); ok {
		return ruling
	}
	return call.Ruling{Action: call.ActionDeny, Reason: call.ReasonNoRule,
		Message: fmt.Sprintf("no rule allows %q on connection %q to this caller", clip(j.in.call.Function), j.in.call.Connection)}
}

// hide adds what the response of a call that may run must not show. If that
// can't be told, the call must not run.
func (j *judge) hide(ruling call.Ruling) call.Ruling {
	for _, r := range j.rules {
		if r.action != Mask || r.shadow || j.unmasked {
			continue
		}
		matched, err := j.matches(r)
		if err != nil {
			return broken(r, err)
		}
		if matched {
			ruling.Mask.Rules = append(ruling.Mask.Rules, r.mask)
		}
	}
	return ruling
}

// shadows names the rules in shadow that would have matched. One that could
// not be evaluated would have denied the call, and is told apart.
func (j *judge) shadows() []string {
	var names []string
	for _, r := range j.rules {
		if !r.shadow {
			continue
		}
		switch matched, err := j.matches(r); {
		case err != nil:
			names = append(names, r.name+": "+string(call.ReasonPolicyError))
		case matched:
			names = append(names, r.name)
		}
	}
	return names
}

func (j *judge) matches(r *rule) (bool, error) {
	matched, err := j.evaluate(r)
	if j.asked != nil {
		j.asked(r, matched, err)
	}
	return matched, err
}

func (j *judge) evaluate(r *rule) (bool, error) {
	if err := j.ctx.Err(); err != nil {
		return false, err
	}
	if r.when == nil {
		return true, nil
	}
	if r.body && j.in.call.Unread {
		return false, errUnread
	}
	v, _, err := r.when.Eval(j.in)
	if err != nil {
		return false, err
	}
	b, ok := v.(types.Bool)
	if !ok {
		return false, fmt.Errorf("no such overload: result is %s, not bool", v.Type().TypeName())
	}
	return bool(b), nil
}

// errUnread is a rule that looks at what nobody has read.
var errUnread = errors.New("the arguments are not read")

func broken(r *rule, err error) call.Ruling {
	return call.Ruling{Action: call.ActionDeny, Rule: r.name, Reason: call.ReasonPolicyError,
		Message: fmt.Sprintf("rule %q could not be evaluated, so the call is denied: %s", r.name, explain(err))}
}

// explain says what went wrong without quoting a value of the call: the
// library's conversion errors hold it, and a message goes into the answer and
// the audit row.
func explain(err error) string {
	var cancelled interpreter.EvalCancelledError
	text := err.Error()
	switch key, missing := strings.CutPrefix(text, "no such key: "); {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return "there was no time left to decide"
	case errors.As(err, &cancelled) && cancelled.Cause == interpreter.CostLimitExceeded:
		return "it costs more than an evaluation may; the rule does too much work on values as large as this call's"
	case errors.Is(err, errUnread):
		return "it looks at the arguments, and those of this call stream and are not read"
	case missing:
		return fmt.Sprintf("there is no %q in this call; guard it with has(…) where it is optional", clip(key))
	case strings.HasPrefix(text, "no such attribute"):
		return "something that it looks at, such as the time, is not known of this call"
	case strings.HasPrefix(text, "no such overload"):
		return "a value in this call is of a type that the rule doesn't expect"
	case strings.HasSuffix(text, "by zero"), strings.HasPrefix(text, "index out of bounds"), strings.Contains(text, "overflow"):
		return "its arithmetic fails on this call's values"
	}
	return "a value in this call is not as the rule expects"
}

func clip(s string) string {
	const most = 100
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
