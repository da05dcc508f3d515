package config

import (
	"fmt"

	"github.com/callgate/callgate/policies/library"
)

// useGuardrail fills in a rule what the guardrail that it uses says.
func (r *Rule) useGuardrail(p *problems) {
	bad := func(path, format string, args ...any) {
		at, ok := r.at[path]
		if !ok {
			at = r.Position
		}
		p.add(at, "rule %q: %s", r.Name, fmt.Sprintf(format, args...))
	}
	if r.Use == "" {
		if len(r.With) > 0 {
			bad("with", "with sets the parameters of a guardrail; name it with use")
		}
		return
	}
	set(&r.Name, r.Use)
	g := library.Find(r.Use)
	if g == nil {
		bad("use", "there is no guardrail %q%s; callgate policy library lists them", r.Use, suggest(r.Use, library.Names()))
		return
	}
	when, err := g.Condition(r.With)
	if err != nil {
		bad("with", "%v", err)
		return
	}
	set(&r.Action, g.Action)
	set(&r.Message, g.Message)
	if r.When != "" {
		when = "(" + when + ") && (" + r.When + "\n)"
	}
	// The text is not that of the file, so a fault in it is shown at the rule.
	r.When, r.WhenPosition = when, Position{}
}
