package policies

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/callgate/callgate/call"
)

// The actions a rule can have. Mask adds to what the response of a call that
// may run hides; the others decide.
const (
	Deny  = string(call.ActionDeny)
	Hold  = string(call.ActionHold)
	Allow = string(call.ActionAllow)
	Mask  = "mask"
)

// Rule is one sentence of policy.
type Rule struct {
	Name string
	// Connections and Functions are globs that say where the rule looks;
	// none means everywhere. In a glob * stands for any characters and ?
	// for one; a backslash takes the next character as it is.
	Connections []string
	Functions   []string
	// When is a CEL expression that must be true or false; empty is true.
	When   string
	Action string
	// Shadow rules are evaluated and named in the ruling, and decide nothing.
	Shadow  bool
	Message string // told to the caller
	Hold    call.Hold
	Mask    call.MaskRule

	Position Position
	// WhenPosition is of the first character of When.
	WhenPosition Position
}

// Position is where something stands in a file. Lines and columns count from
// 1; zero means unknown.
type Position struct {
	File   string
	Line   int
	Column int
}

func (p Position) String() string {
	switch {
	case p.Line == 0:
		return p.File
	case p.Column == 0:
		return fmt.Sprintf("%s:%d", p.File, p.Line)
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// Connection is what rules need to know of a connection.
type Connection struct {
	Name     string
	Protocol call.Protocol
	// Functions are the names the connection offers. Nil where they are not
	// known beforehand; then globs over functions can't be checked.
	Functions []string
	// Schemas are the JSON Schemas of functions' arguments, by function. They
	// may not refer to other documents.
	Schemas map[string]json.RawMessage
	// Enforce denies calls that do not fit their function's schema, whatever
	// the rules say.
	Enforce bool
	// Pinning holds calls to tools to what [Set.WithTools] says; nil: to
	// nothing.
	Pinning *Pinning
}

// Error is one fault of one rule.
type Error struct {
	Position Position
	Rule     string
	Text     string // what is wrong and what would be right
}

func (e Error) Error() string {
	var b strings.Builder
	if at := e.Position.String(); at != "" {
		b.WriteString(at + ": ")
	}
	fmt.Fprintf(&b, "rule %q: %s", e.Rule, e.Text)
	return b.String()
}

// Errors are all faults of a rule set, in file order.
type Errors []Error

func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, one := range e {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}
