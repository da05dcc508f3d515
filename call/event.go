package call

import "time"

// EventKind says which leg of a call an event tells of.
type EventKind string

// The legs of a call.
const (
	Decided  EventKind = "decided"  // ext_authz: who, what, and the decision; before it takes effect
	Answered EventKind = "answered" // ext_proc: the response as the caller got it
	Finished EventKind = "finished" // access log: times, bytes and flags
	Held     EventKind = "held"     // an approval was asked for
	Approved EventKind = "approved" // a person approved or refused
	Changed  EventKind = "changed"  // policy, configuration or an operator's own act
	Counted  EventKind = "counted"  // what an Envoy's access log held in a while
)

// Event is one entry of the audit trail. Exactly one of the payloads is set,
// the one its kind names. It never carries a credential.
type Event struct {
	Kind   EventKind `cbor:"0,keyasint"`
	CallID ID        `cbor:"1,keyasint"` // zero for Changed and Counted
	Time   time.Time `cbor:"2,keyasint"`

	// Salt is random and goes into the commitment to the event's content, so
	// that nobody can guess a short content from it once both are erased. It
	// is kept beside the event; the audit trail sets it.
	Salt [16]byte `cbor:"-"`

	Decided  *DecidedEvent  `cbor:"4,keyasint,omitempty"`
	Answered *AnsweredEvent `cbor:"5,keyasint,omitempty"`
	Finished *FinishedEvent `cbor:"6,keyasint,omitempty"`
	Approval *ApprovalEvent `cbor:"7,keyasint,omitempty"` // for Held and Approved
	Change   *ChangeEvent   `cbor:"8,keyasint,omitempty"`
	Counted  *CountedEvent  `cbor:"9,keyasint,omitempty"`
}

// Body is a request or response body as recorded: whole up to the
// connection's record.max_body, else its first and last part.
//
// Head, Tail and SHA256 are content: the event commits to them and they are
// kept beside it.
type Body struct {
	Head        []byte   `cbor:"-"`
	Tail        []byte   `cbor:"-"` // set only when Truncated
	Length      int64    `cbor:"0,keyasint"`
	SHA256      [32]byte `cbor:"-"` // of the whole, even when Truncated
	Truncated   bool     `cbor:"2,keyasint,omitempty"`
	ContentType string   `cbor:"3,keyasint,omitempty"`
	Encoding    string   `cbor:"4,keyasint,omitempty"` // content-encoding as it came
}

// DecidedEvent is written before the decision takes effect. ArgsJSON, Path and
// the body are content: they may be erased, and the event is proved by the
// commitment in Content all the same.
type DecidedEvent struct {
	Identity   Identity      `cbor:"0,keyasint"`
	Connection string        `cbor:"1,keyasint,omitempty"`
	Protocol   Protocol      `cbor:"2,keyasint,omitempty"`
	Function   string        `cbor:"3,keyasint,omitempty"`
	ArgsJSON   []byte        `cbor:"-"`
	Session    string        `cbor:"5,keyasint,omitempty"`
	Decision   Decision      `cbor:"6,keyasint"`
	Method     string        `cbor:"7,keyasint,omitempty"`
	Scheme     string        `cbor:"8,keyasint,omitempty"`
	Authority  string        `cbor:"9,keyasint,omitempty"`
	Path       string        `cbor:"-"`                     // credential-like query values replaced
	Headers    Headers       `cbor:"11,keyasint,omitempty"` // the allow-listed ones
	Body       Body          `cbor:"12,keyasint"`
	Source     string        `cbor:"13,keyasint,omitempty"` // ip:port
	TraceID    string        `cbor:"15,keyasint,omitempty"`
	RequestID  string        `cbor:"16,keyasint,omitempty"`
	RPCID      string        `cbor:"17,keyasint,omitempty"`
	Started    time.Time     `cbor:"18,keyasint"` // when the check arrived
	Took       time.Duration `cbor:"19,keyasint"` // deciding, without the time held
	// Expect names the legs that will follow, so that a row can tell
	// "did not happen" from "not seen".
	Expect []EventKind `cbor:"20,keyasint,omitempty"`
	// Content commits to the content; the audit trail sets it.
	Content [32]byte `cbor:"21,keyasint"`
	Retain  Retain   `cbor:"22,keyasint,omitzero"`
	// Late is set where the record could not be made in time and the
	// connection lets such calls through: the event was recorded afterwards.
	Late bool `cbor:"23,keyasint,omitempty"`
	// Batch is where the call stood, if it came with others in one request. Its
	// body is then its own part of the request's.
	Batch Place `cbor:"24,keyasint,omitzero"`
	// Masked is what was hidden of the request before the function got it.
	Masked []Masked `cbor:"25,keyasint,omitempty"`
}

// Place is where a call stands in a batch.
type Place struct {
	ID    ID  `cbor:"0,keyasint"` // of the batch's first call
	Index int `cbor:"1,keyasint"` // from 0
	Size  int `cbor:"2,keyasint"` // calls in the batch
}

// Retain says until when a record is kept; zero times mean for ever. It stands
// in the event, so that what retention has deleted can be told from what
// somebody else has.
type Retain struct {
	Bodies time.Time `cbor:"0,keyasint,omitempty" json:"bodies,omitzero"` // content of requests and responses
	Row    time.Time `cbor:"1,keyasint,omitempty" json:"row,omitzero"`    // the call's row
}

// AnsweredEvent tells what the function returned and what the caller got. The
// three outcomes stand apart: an HTTP 200 can hold a JSON-RPC error, and a
// JSON-RPC result can hold a tool's own error. The body, RPCStatus.Message and
// the sealed original are content.
type AnsweredEvent struct {
	Status      int        `cbor:"0,keyasint,omitempty"` // HTTP status
	RPCStatus   *RPCStatus `cbor:"1,keyasint,omitempty"` // nil where the protocol has none or it was not seen
	ToolError   *bool      `cbor:"2,keyasint,omitempty"` // MCP isError; nil for all else
	Headers     Headers    `cbor:"3,keyasint,omitempty"`
	Body        Body       `cbor:"4,keyasint"` // as the caller got it, masked
	Masked      []Masked   `cbor:"5,keyasint,omitempty"`
	Withheld    string     `cbor:"6,keyasint,omitempty"` // why the response was not passed on, else empty
	Interrupted bool       `cbor:"7,keyasint,omitempty"` // the stream broke before its end
	Content     [32]byte   `cbor:"8,keyasint"`           // commits to the content
	Retain      Retain     `cbor:"9,keyasint,omitzero"`
	Original    *Original  `cbor:"10,keyasint,omitempty"` // nil where none was kept
	// RequestMasked is what was hidden of messages that streamed to the function.
	RequestMasked []Masked `cbor:"11,keyasint,omitempty"`
	// Shadow is what rules in shadow would have done with tool calls in it.
	Shadow []string `cbor:"12,keyasint,omitempty"`
}

// Original is the body as the function sent it, sealed for investigators, where
// the caller got another one.
type Original struct {
	// Commitment is a keyed hash of the original, whose key is inside Sealed.
	Commitment [32]byte `cbor:"0,keyasint"`
	Sealed     []byte   `cbor:"-"` // content
}

// RPCStatus is a JSON-RPC error code or a grpc-status. Code 0 is success.
type RPCStatus struct {
	Code    int64  `cbor:"0,keyasint"`
	Message string `cbor:"-"`
}

// Masked tells what was hidden, never the value.
type Masked struct {
	Rule  string `cbor:"0,keyasint" json:"rule"`
	Type  string `cbor:"1,keyasint" json:"type"` // detector, or "path" or "key"
	Path  string `cbor:"2,keyasint,omitempty" json:"path,omitempty"`
	Count int    `cbor:"3,keyasint" json:"count"`
}

// FinishedEvent is what Envoy's access log said of the call.
type FinishedEvent struct {
	Status        int           `cbor:"0,keyasint,omitempty"` // what Envoy sent downstream; 0: nothing
	Details       string        `cbor:"1,keyasint,omitempty"` // response_code_details
	Flags         []string      `cbor:"2,keyasint,omitempty"` // response flags, Envoy's short names (UF, DC, UAEX …)
	Upstream      string        `cbor:"3,keyasint,omitempty"` // address reached
	Cluster       string        `cbor:"4,keyasint,omitempty"`
	Attempts      int           `cbor:"5,keyasint,omitempty"`
	Started       time.Time     `cbor:"6,keyasint"`
	Duration      time.Duration `cbor:"7,keyasint,omitempty"` // first byte in to last byte out
	UpstreamTook  time.Duration `cbor:"8,keyasint,omitempty"` // first byte to the upstream, to last byte from it
	BytesIn       int64         `cbor:"9,keyasint,omitempty"`
	BytesOut      int64         `cbor:"10,keyasint,omitempty"`
	EnvoyNode     string        `cbor:"11,keyasint,omitempty"`
	HTTPVersion   string        `cbor:"12,keyasint,omitempty"`
	TLSVersion    string        `cbor:"13,keyasint,omitempty"`
	UpstreamError string        `cbor:"14,keyasint,omitempty"` // transport failure reason
}

// ApprovalEvent is a step in the life of an approval, or of a delegation: then
// there is no call.
type ApprovalEvent struct {
	ID       string    `cbor:"0,keyasint"`
	Step     string    `cbor:"1,keyasint"`           // what happened; see approvals.StepName
	By       string    `cbor:"2,keyasint,omitempty"` // "issuer|subject"; of notified the target
	Comment  string    `cbor:"3,keyasint,omitempty"`
	Rule     string    `cbor:"4,keyasint,omitempty"`
	Expires  time.Time `cbor:"5,keyasint,omitempty"`
	Binding  [32]byte  `cbor:"6,keyasint,omitempty"` // keyed hash of what the approval is bound to
	Function string    `cbor:"7,keyasint,omitempty"`
	// InPlaceOf is the approver where By is a delegate, "issuer|subject".
	InPlaceOf  string `cbor:"8,keyasint,omitempty"`
	Stage      int    `cbor:"9,keyasint,omitempty"`  // that it is about, from 1; 0: none
	Stages     int    `cbor:"10,keyasint,omitempty"` // how many the rule asks
	State      string `cbor:"11,keyasint,omitempty"` // of the approval after it
	Connection string `cbor:"12,keyasint,omitempty"`
	// Number is the step's in its approval, from 1: of a step that was recorded
	// twice, since who recorded it died before it could say so, it is the same.
	Number int `cbor:"13,keyasint,omitempty"`
}

// ChangeEvent is an operator's own act, such as a policy going live, or a step
// in the life of the service itself.
type ChangeEvent struct {
	What    string `cbor:"0,keyasint"` // one of the Change constants
	Version string `cbor:"1,keyasint,omitempty"`
	Detail  string `cbor:"2,keyasint,omitempty"`
	Node    string `cbor:"3,keyasint,omitempty"` // the replica
	By      string `cbor:"4,keyasint,omitempty"` // "issuer|subject" of who did it; empty for the service itself
	Calls   []ID   `cbor:"5,keyasint,omitempty"` // the calls that it changes
}

// CountedEvent tells how many access-log entries of one Envoy reached one
// replica from From until To, so that what is missing can be noticed. Entries
// is Decided plus Undecided.
type CountedEvent struct {
	Node      string    `cbor:"0,keyasint"` // the Envoy's node id
	From      time.Time `cbor:"1,keyasint"`
	To        time.Time `cbor:"2,keyasint"`
	Entries   uint64    `cbor:"3,keyasint"` // of requests that ended
	Decided   uint64    `cbor:"4,keyasint"` // with a call's id
	Undecided uint64    `cbor:"5,keyasint"` // without: Envoy answered by itself, or Reached
	Reached   uint64    `cbor:"6,keyasint"` // those of Undecided that reached an upstream past the decision
	// Calls are those that Decided told of, more where requests were batches:
	// each has its finished event, or was lost. 0, as before it was counted,
	// means as many as Decided.
	Calls uint64 `cbor:"7,keyasint,omitempty"`
}

// What a ChangeEvent can tell.
const (
	ChangeStarted         = "service.started"  // a replica; Version is the program's
	ChangeStopped         = "service.stopped"  // in order: nothing follows until it starts again
	ChangePolicyActivated = "policy.activated" // Version is the policy's, as below
	ChangePolicyCanary    = "policy.canary"    // decides for some from now on
	ChangePolicyRefused   = "policy.refused"
	ChangeKeyAdded        = "key.added"   // Version is the verifier key that signs from now on
	ChangeKeyRevoked      = "key.revoked" // Version is the verifier key that is trusted no more
	ChangeErased          = "audit.erased"
	ChangeUnsealed        = "audit.unsealed" // what masks hid of these calls was released to By

	ChangeGrantGiven       = "grant.given" // Version is the grant's id, as below
	ChangeGrantTaken       = "grant.taken_back"
	ChangeTokensRevoked    = "tokens.revoked"
	ChangeToolsOffered     = "tools.offered" // Version is the connection, as below: its server describes tools otherwise than it did
	ChangeToolsAccepted    = "tools.accepted"
	ChangeToolsForgotten   = "tools.forgotten"
	ChangeRevocationLifted = "revocation.lifted"

	ChangeTokenExchanged = "token.exchanged" // Version is the new token's id
)
