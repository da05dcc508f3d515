package console

import (
	"encoding/json"
	"time"

	"github.com/callgate/callgate/approvals"
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
	Authority     string          `json:"authority,omitempty"`
	Path          string          `json:"path,omitempty"`
	Type          string          `json:"content_type,omitempty"`
	Encoding      string          `json:"content_encoding,omitempty"`
	Body          string          `json:"body,omitempty"`
	BodyLength    int             `json:"body_length,omitempty"` // of the bytes as they came
	Rule          string          `json:"rule"`
	Message       string          `json:"message,omitempty"`
	Requester     call.Identity   `json:"requester"`
	Approvers     call.Approvers  `json:"approvers"` // who is asked now
	PolicyVersion string          `json:"policy_version"`
	AskedAt       time.Time       `json:"asked_at"`
	Expires       time.Time       `json:"expires"`
	Attempts      int             `json:"attempts,omitempty"` // how often the caller came with the call

	// Asks says who is asked in all, in order; Stage is the one asked now, from
	// 1, of Stages; Missing, how many of it must still say yes.
	Asks    string `json:"asks"`
	Stage   int    `json:"stage,omitempty"`
	Stages  int    `json:"stages"`
	Missing int    `json:"missing,omitempty"`
	// ReasonRequired tells that no decision is taken without a comment.
	ReasonRequired bool `json:"reason_required,omitempty"`
	// MaxGrant is how long a grant may last that an approver gives with an
	// approval, in seconds; 0: only those in control.administrators give grants.
	MaxGrant int `json:"max_grant,omitempty"`

	Decisions []Decided `json:"decisions,omitempty"`
	// DecidedBy, DecidedAt and Comment are of the decisions and of the last.
	DecidedBy string    `json:"decided_by,omitempty"`
	DecidedAt time.Time `json:"decided_at,omitzero"`
	Comment   string    `json:"comment,omitempty"`
	UsedAt    time.Time `json:"used_at,omitzero"`

	// BreakGlass is why the caller passed without an approval; Review, what was
	// found afterwards.
	BreakGlass string    `json:"break_glass,omitempty"`
	Review     *Reviewed `json:"review,omitempty"`

	// BodyForm says how the body is shown: json, form, text, base64 or none; hidden
	// is one that holds credentials that can't be told from the rest of it.
	BodyForm string `json:"body_form,omitempty"`
	// BodySHA256 is of the bytes as they came; it is left out where values of them
	// are hidden, which could be guessed by it.
	BodySHA256 string `json:"body_sha256,omitempty"`
	Hidden     int    `json:"hidden,omitempty"` // values that were masked
	// LastApproved is how the call differs from the caller's last approved one.
	LastApproved *approvals.Difference `json:"last_approved,omitempty"`
	History      []approvals.Step      `json:"history,omitempty"`

	// Grant is the id of the grant that came with an approval.
	Grant string `json:"grant,omitempty"`
}

// Decided is one person's decision.
type Decided struct {
	By        string    `json:"by"`
	InPlaceOf string    `json:"in_place_of,omitempty"` // the approver, where By is a delegate
	Approved  bool      `json:"approved"`
	Stage     int       `json:"stage"` // from 1
	Comment   string    `json:"comment,omitempty"`
	At        time.Time `json:"at"`
}

// Reviewed is what somebody found of a call that broke glass.
type Reviewed struct {
	By        string    `json:"by"`
	Justified bool      `json:"justified"`
	Comment   string    `json:"comment"`
	At        time.Time `json:"at"`
}

// Query says which approvals to list; what is empty does not matter.
type Query struct {
	State, Connection, Function, Rule, Subject string

	Unreviewed bool // that broke glass and nobody has reviewed
	Mine       bool // that one may decide now
	Since      time.Time
}

// Review is what one found of a call that broke glass.
type Review struct {
	Justified bool   `json:"justified"`
	Comment   string `json:"comment"`
}

// Delegate lets somebody decide in one's place.
type Delegate struct {
	To     string    `json:"to"` // a subject, or "issuer|subject"
	Until  time.Time `json:"until"`
	Reason string    `json:"reason,omitempty"`
}

// Delegation is a delegation that stands, or did.
type Delegation struct {
	ID      string    `json:"id"`
	From    string    `json:"from"` // "issuer|subject"
	To      string    `json:"to"`
	Reason  string    `json:"reason,omitempty"`
	Created time.Time `json:"created"`
	Until   time.Time `json:"until"`
	Ended   time.Time `json:"ended,omitzero"`
	EndedBy string    `json:"ended_by,omitempty"`
}

// Status is what the process says of itself and of the Envoys it configures.
type Status struct {
	Version       string  `json:"version"`
	PolicyVersion string  `json:"policy_version"`
	Envoys        []Envoy `json:"envoys"`
	// Servers are the decision servers that follow this control plane.
	Servers []Envoy `json:"servers,omitempty"`
	// Rollout is what decides; nil where this is not the control plane.
	Rollout *Rollout `json:"rollout,omitempty"`
}

// Envoy is one Envoy or decision server and the version it runs.
type Envoy struct {
	Node    string    `json:"node"`
	Version string    `json:"version"`           // the newest it has accepted whole
	Pending string    `json:"pending,omitempty"` // sent and not yet answered
	Refused string    `json:"refused,omitempty"` // what it said of the last one it refused
	Since   time.Time `json:"since"`
}

// Audit is how the audit trail of one replica stands.
type Audit struct {
	Node  string `json:"node"`
	Spool Spool  `json:"spool"`
	// Shipping is nil where no ClickHouse is configured.
	Shipping *Shipping `json:"shipping"`
	// Checkpoint is the last that was signed; nil where none was.
	Checkpoint *Checkpoint `json:"checkpoint"`
}

// Spool is the local disk that events wait on.
type Spool struct {
	ID       string  `json:"id"`
	Dir      string  `json:"dir"`
	Records  uint64  `json:"records"` // kept: not shipped, or their call not settled
	Bytes    int64   `json:"bytes"`
	MaxBytes int64   `json:"max_bytes"`
	Percent  float64 `json:"percent"`         // of max_bytes
	Level    int     `json:"level"`           // the alert that it has passed: 50, 80 or 95 percent; else 0
	Error    string  `json:"error,omitempty"` // why it takes no events, and calls are denied
	// Waiting are events in memory of calls that were let through, as their
	// connection allows, and could not be recorded yet.
	Waiting int `json:"waiting"`
}

// The states of shipping.
const (
	Reachable = "reachable" // ClickHouse takes what is sent
	Away      = "away"      // it does not, and is tried again
	Stopped   = "stopped"   // an operator must look
)

// Shipping is how far the way to ClickHouse is.
type Shipping struct {
	ClickHouse  string  `json:"clickhouse"`    // reachable, away or stopped
	Why         string  `json:"why,omitempty"` // where it is not reachable
	Backlog     uint64  `json:"backlog"`       // events that ClickHouse does not have
	Lag         float64 `json:"lag_seconds"`   // age of the oldest of them
	Unsettled   int     `json:"unsettled"`     // calls whose row waits for a leg
	Quarantined int     `json:"quarantined"`   // rows that ClickHouse refused
	Quarantine  string  `json:"quarantine"`    // the folder where they lie
}

// Checkpoint is a signed state of the ledger.
type Checkpoint struct {
	Size  uint64    `json:"size"` // the first so many events of the spool are signed
	Time  time.Time `json:"time,omitzero"`
	Error string    `json:"error,omitempty"` // why no further one is signed
}

// Decision is the body of an approve or deny request.
type Decision struct {
	Comment string `json:"comment"`
	// Grant is how long the requester may go on calling the same function
	// without being held by this rule, such as 1h; empty: not. Bounds are a
	// condition on those calls, such as call.args.amount <= 100.
	Grant  string `json:"grant,omitempty"`
	Bounds string `json:"bounds,omitempty"`
}

// Problem is an error as RFC 9457 has it.
type Problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
}
