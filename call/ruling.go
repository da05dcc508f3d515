package call

import "time"

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
