package policies

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/callgate/callgate/call"
)

// toolCall stands before a tool's name in the function of a call to it.
const toolCall = "tools/call "

// Tool is what is pinned of one tool of an MCP connection.
type Tool struct {
	// Schema is the JSON Schema of its arguments as it was accepted; nil
	// where it has none. It is a server's word, so it is bounded.
	Schema json.RawMessage
	// Accepted says that somebody accepted the definition, or that it was
	// there at first use. Nothing else of a tool that is not is believed.
	Accepted bool
	// Changed says that the server offers another definition than that.
	Changed bool
}

// Pinning is how calls to tools are held to what is pinned.
type Pinning struct {
	// Hold is how calls to new and changed tools wait for people; nil denies
	// them.
	Hold *call.Hold
}

// Tools are what is pinned of a connection's tools, by name, ready to judge
// calls.
type Tools map[string]*pinned

type pinned struct {
	Tool
	schema *schema
	fault  string // why the schema can't be used
}

// CompileTools prepares what is pinned. A schema that can't be compiled within
// bounds makes no error here: calls to its tool are denied.
func CompileTools(list map[string]Tool) Tools {
	out := make(Tools, len(list))
	for name, t := range list {
		p := &pinned{Tool: t}
		if t.Accepted && t.Schema != nil {
			var err error
			if p.schema, err = compileForeign(t.Schema); err != nil {
				p.fault = err.Error()
			}
		}
		out[name] = p
	}
	return out
}

// WithTools returns a set that holds calls to what is pinned, by connection.
// It shares all else with s.
func (s *Set) WithTools(pins map[string]Tools) *Set {
	out := *s
	out.pins = pins
	return &out
}

// toolRuling says what becomes of a call to a tool because of how the tool is
// pinned: nothing, a denial, or a hold once the rules let it through.
func (s *Set) toolRuling(ix *index, c *call.Call) (ruling call.Ruling, has bool) {
	name, is := strings.CutPrefix(c.Function, toolCall)
	if ix.pinning == nil || !is {
		return call.Ruling{}, false
	}
	deny := func(reason call.Reason, format string, args ...any) (call.Ruling, bool) {
		return call.Ruling{Action: call.ActionDeny, Reason: reason, Message: fmt.Sprintf(format, args...)}, true
	}
	pins, known := s.pins[c.Connection]
	t := pins[name]
	switch {
	case !known:
		return deny(call.ReasonToolUnknown, "the tools of connection %q are not known yet: the gateway could not ask its server, or nobody pins them; callgate tools list tells", c.Connection)
	case t == nil:
		return deny(call.ReasonToolUnknown, "the server of connection %q has no tool %q", c.Connection, clip(name))
	case t.Accepted && ix.enforce && t.fault != "":
		return deny(call.ReasonToolUnknown, "the input schema of tool %q can't be used: %s", clip(name), t.fault)
	}
	if t.Accepted && ix.enforce && t.schema != nil {
		if faults := t.schema.faults(arguments(c)); len(faults) > 0 {
			return deny(call.ReasonMalformedRequest, "the arguments don't fit the tool's input schema: %s", strings.Join(faults, "; "))
		}
	}
	if t.Accepted && !t.Changed {
		return call.Ruling{}, false
	}
	what := "is new and nobody has accepted it"
	if t.Changed {
		what = "is not described as it was when it was accepted"
	}
	ruling, _ = deny(call.ReasonToolChanged, "tool %q %s; callgate tools diff %s shows it", clip(name), what, c.Connection)
	if ix.pinning.Hold != nil {
		ruling.Action, ruling.Rule, ruling.Hold = call.ActionHold, "mcp.tools.changed", *ix.pinning.Hold
	}
	return ruling, true
}

// both joins what the rules say with what the tool's state says: the stronger
// holds. Where both want people asked, nobody can answer for both, so the call
// is denied until the tool is accepted.
func both(rules, tool call.Ruling) call.Ruling {
	switch {
	case rules.Action == call.ActionDeny:
		return rules
	case rules.Action == call.ActionHold:
		tool.Action, tool.Hold = call.ActionDeny, call.Hold{}
		tool.Message += "; accept it first, since a rule holds the call too"
		return tool
	}
	tool.Mask = rules.Mask
	return tool
}
