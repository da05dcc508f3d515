package console

import (
	"encoding/json"
	"time"

	"github.com/callgate/callgate/call"
)

// Approval is a held call as the API shows it to those who may decide it. The
// request is shown as it will reach the function, credential-like values hidden.
type Approval struct {
	ID            string          `json:"id"`
	State         string          `json:"state"`
	CallID        string          `json:"call_id"`
	Connection    string          `json:"connection"`
	Function      string          `json:"function"`
	Arguments     json.RawMessage `json:"arguments,omitempty"`
	Method        string          `json:"method,omitempty"`
	Path          string          `json:"path,omitempty"`
	Body          string          `json:"body,omitempty"`
	Rule          string          `json:"rule"`
	Message       string          `json:"message,omitempty"`
	Requester     call.Identity   `json:"requester"`
	Approvers     call.Approvers  `json:"approvers"`
	PolicyVersion string          `json:"policy_version"`
	AskedAt       time.Time       `json:"asked_at"`
	Expires       time.Time       `json:"expires"`
	DecidedBy     string          `json:"decided_by,omitempty"`
	DecidedAt     time.Time       `json:"decided_at,omitzero"`
	Comment       string          `json:"comment,omitempty"`
}

// Status is what the process says of itself and of the Envoys it configures.
type Status struct {
	Version       string  `json:"version"`
	PolicyVersion string  `json:"policy_version"`
	Envoys        []Envoy `json:"envoys"`
}

// Envoy is one Envoy and the configuration it runs.
type Envoy struct {
	Node    string    `json:"node"`
	Version string    `json:"version"`           // the newest it has accepted whole
	Pending string    `json:"pending,omitempty"` // sent and not yet answered
	Refused string    `json:"refused,omitempty"` // what it said of the last one it refused
	Since   time.Time `json:"since"`
}

// decision is the body of an approve or deny request.
type decision struct {
	Comment string `json:"comment"`
}

// problem is an error as RFC 9457 has it.
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
}
