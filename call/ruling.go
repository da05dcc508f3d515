package call

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Action is what the rules say to do with a call.
type Action string

// The actions, strongest first: the first deny wins, then hold, then allow.
const (
	ActionDeny  Action = "deny"
	ActionHold  Action = "hold"
	ActionAllow Action = "allow"
)

// Ruling is what the rules say about one call, before anybody is asked.
type Ruling struct {
	Action  Action
	Rule    string // the rule that decided; empty where none matched
	Reason  Reason
	Message string
	// PolicyVersion names the policy that was asked.
	PolicyVersion string
	Shadow        []string // rules in shadow that would have matched
	Mask          Mask     // what to hide in the response, if the call runs
	Hold          Hold     // for ActionHold
}

// InShadow lets a call through that the rules would not, and tells what they
// would have done.
func (r Ruling) InShadow() Ruling {
	if r.Action == ActionAllow {
		return r
	}
	what := string(r.Reason)
	if r.Rule != "" {
		what = r.Rule
	}
	r.Shadow = append(r.Shadow[:len(r.Shadow):len(r.Shadow)], string(r.Action)+": "+what)
	r.Message = "let through in shadow; " + string(r.Action) + " otherwise: " + r.Message
	r.Action, r.Reason, r.Hold = ActionAllow, ReasonShadow, Hold{}
	return r
}

// Hold is how a held call waits, and for whom. It is kept with the call while it
// waits, so that a later policy changes nothing about it.
type Hold struct {
	// Stages are asked one after the other: the second when the first has said
	// yes. There is at least one.
	Stages []Stage `json:"stages,omitempty"`
	// Timeout is how long people have to decide.
	Timeout time.Duration `json:"timeout,omitempty"`
	Wait    WaitMode      `json:"wait,omitempty"`
	// Open is how long a caller that comes again is kept waiting first.
	Open time.Duration `json:"open,omitempty"`
	// Valid is how long an approval can be taken up after it was given, where
	// the caller comes again; 0: until the time to decide is over.
	Valid time.Duration `json:"valid,omitempty"`
	// Reason tells that no decision is taken without one.
	Reason bool `json:"reason,omitempty"`
	// BreakGlass are callers who may pass without an approval, with a reason,
	// and are asked about it afterwards.
	BreakGlass Approvers `json:"break_glass,omitzero"`
	// Grant is how long a grant may last that an approver gives with an
	// approval; 0: those who may change what decides give grants, nobody else.
	Grant time.Duration `json:"grant,omitempty"`
}

// Stage is people who are asked at the same time.
type Stage struct {
	Approvers
	// Need is how many of them must say yes; 0 means 1. A no of any ends it.
	Need int `json:"need,omitempty"`
}

// WaitMode is how a caller waits for people.
type WaitMode string

// The ways to wait.
const (
	WaitHeld  WaitMode = "wait"  // with its request open; the zero value too
	WaitRetry WaitMode = "retry" // by making the call again
)

// KeptOpen is the longest that a request waits for people.
func (h Hold) KeptOpen() time.Duration {
	if h.Wait == WaitRetry {
		return min(h.Open, h.Timeout)
	}
	return h.Timeout
}

// Approvers are all that the stages ask.
func (h Hold) Approvers() Approvers {
	var out Approvers
	for _, s := range h.Stages {
		out.Groups = union(out.Groups, s.Groups)
		out.People = union(out.People, s.People)
	}
	return out
}

// Asks says who is asked: "2 of security; then 1 of owners, ann".
func (h Hold) Asks() string {
	var parts []string
	for _, s := range h.Stages {
		parts = append(parts, fmt.Sprintf("%d of %s", max(1, s.Need), strings.Join(slices.Concat(s.Groups, s.People), ", ")))
	}
	return strings.Join(parts, "; then ")
}

// Needed is how many people must say yes, over all stages.
func (h Hold) Needed() int {
	n := 0
	for _, s := range h.Stages {
		n += max(1, s.Need)
	}
	return n
}

func union(list, more []string) []string {
	for _, s := range more {
		if !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	return list
}

// Approvers are those who may decide a held call: anybody in one of the
// groups, and the people named, by themselves or as "issuer|group" and
// "issuer|subject".
type Approvers struct {
	Groups []string `json:"groups,omitempty"`
	People []string `json:"people,omitempty"`
}

// Nobody reports whether there are none.
func (a Approvers) Nobody() bool { return len(a.Groups)+len(a.People) == 0 }

// Include reports whether somebody is among the approvers. A difference in a
// letter's case is a difference: it must not let anybody in.
func (a Approvers) Include(who Identity) bool {
	named := func(list []string, name string) bool {
		return slices.ContainsFunc(list, func(entry string) bool {
			return who.Issuer != "" && entry == who.Issuer+"|"+name || entry != "" && entry == name && !OfIssuer(entry)
		})
	}
	return slices.ContainsFunc(who.Groups, func(g string) bool { return named(a.Groups, g) }) || named(a.People, who.Subject)
}

// OfIssuer reports whether a subject or group of a list is written with its
// issuer, as in "https://idp|ann": then it is that issuer's alone, even if
// another has one that is spelt like the whole.
func OfIssuer(entry string) bool {
	colon, bar := strings.IndexByte(entry, ':'), strings.IndexByte(entry, '|')
	return colon >= 0 && colon < bar
}
