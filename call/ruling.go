package call

import (
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

// Hold is how a held call waits, and for whom.
type Hold struct {
	Approvers Approvers
	Timeout   time.Duration
}

// Approvers are those who may decide a held call: anybody in one of the
// groups, and the people named ("subject" or "issuer|subject").
type Approvers struct {
	Groups []string `json:"groups,omitempty"`
	People []string `json:"people,omitempty"`
}

// Include reports whether somebody is among the approvers. A difference in a
// letter's case is a difference: it must not let anybody in.
func (a Approvers) Include(who Identity) bool {
	for _, g := range who.Groups {
		if g != "" && slices.Contains(a.Groups, g) {
			return true
		}
	}
	return slices.ContainsFunc(a.People, func(p string) bool {
		// "https://idp|ann" names ann of that issuer and nobody else, even
		// if another issuer has a subject that is spelt like the whole.
		full := who.Issuer != "" && p == who.Issuer+"|"+who.Subject
		if scheme, bar := strings.Index(p, "://"), strings.IndexByte(p, '|'); scheme >= 0 && bar > scheme {
			return full
		}
		return full || p != "" && p == who.Subject
	})
}
