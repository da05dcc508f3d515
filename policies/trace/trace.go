// Package trace tells why a call is decided as it is, in a form that can be
// shown: rule by rule, with the values of each condition's parts.
//
// What looks like a credential is replaced, in the way that the audit trail
// replaces it. The values are the call's own otherwise: an explanation is for
// those who may see the call.
package trace

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/call/redact"
	"github.com/callgate/callgate/policies"
)

// Explanation is why a call is decided as it is.
type Explanation struct {
	Connection string          `json:"connection"`
	Protocol   call.Protocol   `json:"protocol"`
	Function   string          `json:"function"`
	Subject    string          `json:"subject"`
	Args       json.RawMessage `json:"args,omitempty"`
	Time       time.Time       `json:"time,omitzero"`
	Decision   call.Action     `json:"decision"`
	Rule       string          `json:"rule"`
	Reason     call.Reason     `json:"reason"`
	Message    string          `json:"message,omitempty"`
	Policy     string          `json:"policy_version"`
	Mask       []string        `json:"mask,omitempty"`
	Approvers  *call.Approvers `json:"approvers,omitempty"`
	Asks       string          `json:"asks,omitempty"` // who must approve, and how many of them, in order
	Shadow     []string        `json:"shadow,omitempty"`
	Rules      []Rule          `json:"rules"`
	Notes      []string        `json:"notes,omitempty"` // what is not certain, and why
}

// Rule is what became of one rule, in the order in which they are asked.
type Rule struct {
	Name    string           `json:"name"`
	Action  string           `json:"action"`
	Shadow  bool             `json:"shadow,omitempty"`
	File    string           `json:"file,omitempty"`
	Line    int              `json:"line,omitempty"`
	Column  int              `json:"column,omitempty"`
	When    string           `json:"when,omitempty"`
	Verdict policies.Verdict `json:"verdict"`
	Asked   bool             `json:"asked"`
	Decided bool             `json:"decided"`
	Why     string           `json:"why"`
	Parts   []Part           `json:"parts,omitempty"`
}

// Part is a part of a condition.
type Part struct {
	Text  string          `json:"text"`
	Value json.RawMessage `json:"value,omitempty"`
	Error string          `json:"error,omitempty"`
	Depth int             `json:"depth"`
}

// Undecided stands for a decision that can't be told.
const Undecided call.Action = "unknown"

// hidden stands for what looks like a credential.
const hidden = "(hidden)"

var mark = regexp.MustCompile(`hmac:[0-9a-f]{32}`)

// Explain makes an explanation of what [policies.Set.Trace] returned.
func Explain(c *call.Call, ruling call.Ruling, steps []policies.Step) (Explanation, error) {
	key := make([]byte, redact.MinKey)
	if _, err := rand.Read(key); err != nil {
		return Explanation{}, fmt.Errorf("explain a decision: %w", err)
	}
	redactor, err := redact.New(key)
	if err != nil {
		return Explanation{}, err
	}
	w := writer{redactor: redactor}
	_, w.inPath = redactor.Target(c.Request.Path)
	out := Explanation{Connection: c.Connection, Protocol: c.Protocol, Function: c.Function, Subject: c.Identity.Subject,
		Args: w.document(c.ArgsJSON, w.inPath), Time: c.Time,
		Decision: ruling.Action, Rule: ruling.Rule, Reason: ruling.Reason, Message: ruling.Message, Policy: ruling.PolicyVersion, Shadow: ruling.Shadow, Rules: []Rule{}}
	for _, m := range ruling.Mask.Rules {
		out.Mask = append(out.Mask, m.Name)
	}
	if ruling.Action == call.ActionHold {
		asked := ruling.Hold.Approvers()
		out.Approvers, out.Asks = &asked, ruling.Hold.Asks()
	}
	for _, st := range steps {
		r := Rule{Name: st.Rule.Name, Action: st.Rule.Action, Shadow: st.Rule.Shadow, When: st.Rule.When,
			File: st.Rule.Position.File, Line: st.Rule.Position.Line, Column: st.Rule.Position.Column,
			Verdict: st.Verdict, Asked: st.Asked, Decided: st.Decided, Why: why(st, ruling)}
		for _, p := range st.Parts {
			r.Parts = append(r.Parts, w.part(p))
		}
		w.cover(r.Parts)
		out.Rules = append(out.Rules, r)
	}
	return out, nil
}

// why says what a rule had to do with the decision.
func why(st policies.Step, ruling call.Ruling) string {
	deciding := st.Rule.Action != policies.Mask && !st.Rule.Shadow
	switch {
	case st.Verdict == policies.Elsewhere:
		return st.Why
	case st.Decided && st.Verdict == policies.Failed:
		return "it decides: it can't be evaluated, which denies the call: " + st.Why
	case st.Decided:
		return "it decides"
	case st.Verdict == policies.Failed && st.Rule.Shadow:
		return "in shadow; it can't be evaluated, and would deny the call: " + st.Why
	case st.Verdict == policies.Failed:
		return "not asked, since the call was decided before; it could not be evaluated: " + st.Why
	case st.Verdict == policies.Unmatched:
		return "its condition is false"
	case st.Rule.Shadow:
		return fmt.Sprintf("in shadow; it would %s", st.Rule.Action)
	case st.Rule.Action == policies.Mask && st.Asked:
		return "it adds its mask"
	case deciding && !st.Asked && ruling.Rule != "":
		return fmt.Sprintf("not asked: rule %q decided before; it would match", ruling.Rule)
	}
	return "not asked; it would match"
}

// Without tells of rules that look at parts of a call that are not known, with
// why: nothing is shown of them that could be wrong. known is whether the
// decision is certain all the same.
func (e *Explanation) Without(steps []policies.Step, missing []policies.Part, why []string, known bool) {
	for i, st := range steps {
		lacks := st.Lacks(missing)
		if len(lacks) == 0 || st.Verdict == policies.Elsewhere {
			continue
		}
		r := &e.Rules[i]
		names := make([]string, len(lacks))
		for j, p := range lacks {
			names[j] = p.String()
		}
		r.Verdict, r.Parts, r.Decided = policies.Unknown, nil, r.Decided && known
		r.Why = "it looks at what is not known of this call: " + strings.Join(names, ", ")
	}
	e.Notes = append(e.Notes, why...)
	if !known {
		e.Decision, e.Rule, e.Reason, e.Message, e.Mask, e.Approvers, e.Asks = Undecided, "", "", "", nil, nil, ""
		e.Notes = append(e.Notes, "what would be decided depends on what is not known")
	}
}

// writer makes values fit to be shown.
type writer struct {
	redactor *redact.Redactor
	inPath   redact.Hidden // what was hidden in the request's path
}

func (w writer) part(p policies.Evaluated) Part {
	out := Part{Text: p.Text, Error: p.Error, Depth: p.Depth}
	if !p.Known {
		return out
	}
	if s, is := p.Value.(string); is && len(p.Path) == 2 && p.Path[0] == "call" && p.Path[1] == "path" {
		shown, _ := w.redactor.Target(s)
		out.Value = w.plain(shown)
		return out
	}
	// A value is looked at under the names it goes by, which may tell that it
	// is a credential.
	names := []string{"value"}
	if len(p.Path) > 2 {
		names = p.Path[2:]
	}
	var nested any = p.Value
	for _, name := range slices.Backward(names) {
		nested = map[string]any{name: nested}
	}
	doc, err := json.Marshal(nested)
	if err != nil {
		out.Error = "its value can't be shown"
		return out
	}
	out.Value = w.document(doc, w.inPath)
	for range names {
		var inner map[string]json.RawMessage
		if json.Unmarshal(out.Value, &inner) != nil || len(inner) != 1 {
			out.Value = w.plain(hidden)
			return out
		}
		for _, v := range inner {
			out.Value = v
		}
	}
	if len(p.Path) > 1 && p.Path[1] == "headers" {
		out.Value = w.header(p, out.Value)
	}
	return out
}

// cover hides what was made of something hidden, such as a credential in lower
// case. Whether something is true is told all the same.
func (w writer) cover(parts []Part) {
	for i := range parts {
		if v := string(parts[i].Value); v == "" || v == "true" || v == "false" {
			continue
		}
		for j := i + 1; j < len(parts) && parts[j].Depth > parts[i].Depth; j++ {
			if strings.Contains(string(parts[j].Value), hidden) {
				parts[i].Value = w.plain(hidden)
				break
			}
		}
	}
}

// header hides what tells a credential in headers: their names are other ones
// than those of documents.
func (w writer) header(p policies.Evaluated, value json.RawMessage) json.RawMessage {
	list := call.Headers{}
	switch v := p.Value.(type) {
	case string:
		if len(p.Path) > 2 {
			list = append(list, call.Header{Name: strings.ToLower(p.Path[2]), Value: v})
		}
	case map[string]any:
		for name, one := range v {
			if s, is := one.(string); is {
				list = append(list, call.Header{Name: strings.ToLower(name), Value: s})
			}
		}
	default:
		return value
	}
	shown := map[string]string{}
	for _, h := range w.redactor.Headers(list) {
		shown[h.Name] = mark.ReplaceAllString(h.Value, hidden)
	}
	var out any = shown
	if _, single := p.Value.(string); single {
		for _, v := range shown {
			out = v
		}
	}
	doc, err := json.Marshal(out)
	if err != nil {
		return value
	}
	return doc
}

// document hides credentials in a JSON object.
func (w writer) document(doc json.RawMessage, hid redact.Hidden) json.RawMessage {
	if len(doc) == 0 {
		return nil
	}
	shown := w.redactor.Arguments(doc, hid)
	if shown == nil {
		return nil
	}
	return mark.ReplaceAll(shown, []byte(hidden))
}

func (w writer) plain(s string) json.RawMessage {
	doc, err := json.Marshal(mark.ReplaceAllString(s, hidden))
	if err != nil {
		return json.RawMessage(`""`)
	}
	return doc
}
