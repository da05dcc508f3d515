package notify

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/callgate/callgate/approvals"
	"github.com/callgate/callgate/call"
)

// Message is one step of a held call as it is told. Values that look like
// credentials are masked in it, and characters that a screen would hide are spelt
// out; it never holds more than the approver's page.
type Message struct {
	// ID is the same whenever the same step is told again.
	ID       string             `json:"-"`
	Step     approvals.StepName `json:"step"`
	At       time.Time          `json:"at"`
	By       string             `json:"by,omitempty"`      // who took the step, "issuer|subject"
	For      string             `json:"for,omitempty"`     // the approver, where By is a delegate
	Comment  string             `json:"comment,omitempty"` // of who took it
	Approval string             `json:"approval"`
	CallID   string             `json:"call_id"`
	// State is the hold's at the time of telling, which may be later than At.
	State      approvals.State `json:"state"`
	Connection string          `json:"connection"`
	Function   string          `json:"function"`
	Rule       string          `json:"rule"`
	Text       string          `json:"message,omitempty"` // the rule's
	Caller     string          `json:"caller"`            // subject, and through whom
	Asked      []string        `json:"asked,omitempty"`   // whom the stage asks that is open now
	Expires    time.Time       `json:"expires"`
	// Request is what is to be decided about; empty unless the target wants it.
	Request *Request `json:"request,omitempty"`
	Link    string   `json:"link,omitempty"` // leads to a login and then to the page

	reason bool // a decision needs one
}

// Request is what would reach the function.
type Request struct {
	Method    string `json:"method"`
	Path      string `json:"path"`
	Arguments string `json:"arguments,omitempty"` // JSON, indented
	Body      string `json:"body,omitempty"`
	Form      string `json:"body_form"`
	Length    int    `json:"body_length"`
	// SHA256 is of the bytes as they came; empty where values of them are hidden.
	SHA256 string `json:"body_sha256,omitempty"`
	Cut    bool   `json:"cut,omitempty"`
}

// maxShown bounds arguments and body in a message, in bytes each.
const maxShown = 16 << 10

// withheld tells that the body is not shown.
func (r *Request) withheld() bool { return r.Form == "hidden" }

func (r *Request) bound() {
	for _, s := range []*string{&r.Arguments, &r.Body, &r.Path} {
		if len(*s) > maxShown {
			*s, r.Cut = cut(*s, maxShown), true
		}
	}
}

// cut shortens s to at most n bytes, at a character's end, and shows that.
func cut(s string, n int) string {
	const more = "…"
	if len(s) <= n {
		return s
	}
	n -= len(more)
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:max(n, 0)] + more
}

// line is s on one line, for a heading.
func line(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }), " ")
}

// person is somebody's subject, without the issuer.
func person(who string) string {
	if _, subject, ok := strings.Cut(who, "|"); ok && strings.Contains(who, "://") {
		return subject
	}
	return who
}

// caller names who calls, and through whom.
func caller(i call.Identity) string {
	out := i.Subject
	for n := len(i.Actors) - 1; n >= 0; n-- {
		out += " through " + i.Actors[n].Subject
	}
	return out
}

// Heading says in one line what happened.
func (m Message) Heading() string {
	what := fmt.Sprintf("%s on %s by %s", m.Function, m.Connection, m.Caller)
	by := ""
	if m.By != "" {
		by = " by " + person(m.By)
		if m.For != "" {
			by += " for " + person(m.For)
		}
	}
	switch m.Step {
	case approvals.StepAsked, approvals.StepStageDone:
		what = "Approval needed: " + what
	case approvals.StepApproved:
		if m.State == approvals.Open {
			what = "One approval" + by + ": " + what
		} else {
			what = "Approved" + by + ": " + what
		}
	case approvals.StepRefused:
		what = "Refused" + by + ": " + what
	case approvals.StepUsed:
		what = "Passed after approval: " + what
	case approvals.StepExpired:
		what = "Nobody decided in time: " + what
	case approvals.StepCanceled:
		what = "The caller hung up: " + what
	case approvals.StepBrokeGlass:
		what = "ALERT, glass broken: " + what
	case approvals.StepReviewed:
		what = "Break-glass call reviewed" + by + ": " + what
	default:
		what = string(m.Step) + ": " + what
	}
	return cut(line(what), 300)
}

// asks reports whether the message asks people to do something now.
func (m Message) asks() bool {
	switch m.Step {
	case approvals.StepAsked, approvals.StepStageDone:
		return m.State == approvals.Open
	case approvals.StepBrokeGlass:
		return true
	}
	return false
}

// fact is one line of a message.
type fact struct{ name, value string }

// facts are what a person wants to know, in order.
func (m Message) facts() []fact {
	var out []fact
	add := func(name, value string) {
		if value != "" {
			out = append(out, fact{name, value})
		}
	}
	add("Function", m.Function+" on "+m.Connection)
	add("Caller", m.Caller)
	add("Why", strings.TrimSpace(m.Text))
	add("Rule", m.Rule)
	switch m.Step {
	case approvals.StepBrokeGlass:
		add("Reason given", m.Comment)
	case approvals.StepApproved, approvals.StepRefused, approvals.StepReviewed:
		add("Comment", m.Comment)
	}
	if m.asks() && m.State == approvals.Open {
		add("Asked", strings.Join(m.Asked, ", "))
		add("Until", m.Expires.UTC().Format("2006-01-02 15:04:05 MST"))
	}
	return out
}
