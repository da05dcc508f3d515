package call

import "time"

// Outcome is what was decided about a call in the end.
type Outcome string

// The outcomes. The last three say that people were asked.
const (
	Allow       Outcome = "allow"
	Deny        Outcome = "deny"
	HoldAllow   Outcome = "hold→allow"
	HoldDeny    Outcome = "hold→deny"
	HoldExpired Outcome = "hold→expired"
)

// Allowed reports whether the call may go on to the function.
func (o Outcome) Allowed() bool { return o == Allow || o == HoldAllow }

// Reason is a short, stable word for why a call was decided as it was. It
// stands in the audit row, in the x-callgate-reason header and in the denial,
// so users filter and alert on it; a text for people goes with it.
type Reason string

// The reasons. Rules of the user's give ReasonRule.
const (
	ReasonRule                Reason = "rule"                 // a rule said so
	ReasonNoRule              Reason = "no_rule"              // nothing matched: denied
	ReasonShadow              Reason = "shadow"               // the connection's rules are in shadow: let through
	ReasonNoCredentials       Reason = "no_credentials"       // no token at all
	ReasonInvalidToken        Reason = "invalid_token"        // forged, malformed, wrong audience or issuer
	ReasonExpiredToken        Reason = "expired_token"        // was valid once
	ReasonRevokedToken        Reason = "revoked_token"        // is valid, and was revoked here
	ReasonInsufficientScope   Reason = "insufficient_scope"   // the token is narrowed to other functions
	ReasonIdentityUnavailable Reason = "identity_unavailable" // the issuer's keys can't be had
	ReasonUnknownConnection   Reason = "unknown_connection"   // no connection for this authority and path
	ReasonUnknownFunction     Reason = "unknown_function"     // the connection has no such function
	ReasonMalformedRequest    Reason = "malformed_request"    // can't be parsed, or two parsers could differ
	ReasonBodyTooLarge        Reason = "body_too_large"       // over the connection's max_body
	ReasonUpgradeRefused      Reason = "upgrade_refused"      // CONNECT, WebSocket and other upgrades
	ReasonPolicyError         Reason = "policy_error"         // a rule could not be evaluated
	ReasonPolicyUnavailable   Reason = "policy_unavailable"   // the policy that the Envoy runs, or that held the call, is over or not at hand
	ReasonApprovalUnavailable Reason = "approval_unavailable" // the approval store is away
	ReasonApprovalPending     Reason = "approval_pending"     // people are asked; the caller comes again
	ReasonApprovalLimit       Reason = "approval_limit"       // too many calls of the caller wait for people already
	ReasonApproved            Reason = "approved"             // people said yes
	ReasonBreakGlass          Reason = "break_glass"          // passed at once, to be reviewed after
	ReasonRefused             Reason = "refused"              // people said no
	ReasonBreakGlassRefused   Reason = "break_glass_refused"  // it was asked to, and must not
	ReasonApprovalExpired     Reason = "approval_expired"     // nobody answered in time
	ReasonCanceled            Reason = "canceled"             // the caller hung up while held
	ReasonBatchHold           Reason = "batch_hold"           // needs approval, for which a call in a batch can't wait
	ReasonBatchWhole          Reason = "batch_whole"          // another call of the batch is denied and can't be taken out of it
	ReasonRequestWhole        Reason = "request_whole"        // the function must not be sent a part of the request, which can't be taken out
	ReasonCredentialMissing   Reason = "credential_missing"   // the service's own credential can't be had
	ReasonAuditUnavailable    Reason = "audit_unavailable"    // the record can't be made durable
	ReasonResponseWithheld    Reason = "response_withheld"    // the response could not be masked or recorded
	ReasonToolUnknown         Reason = "tool_unknown"         // no such MCP tool is pinned
	ReasonToolChanged         Reason = "tool_changed"         // the MCP tool is new or not as it was accepted
	ReasonInternal            Reason = "internal"             // a fault of the gateway's own
)

// Decision is what was decided about a call, by what, and why.
type Decision struct {
	Outcome Outcome `cbor:"0,keyasint" json:"outcome"`
	Rule    string  `cbor:"1,keyasint,omitempty" json:"rule,omitempty"`
	Reason  Reason  `cbor:"2,keyasint" json:"reason"`
	// Message says the reason to a person. It never quotes a credential.
	Message string `cbor:"3,keyasint,omitempty" json:"message,omitempty"`
	// PolicyVersion names the rules and connections that were in force.
	PolicyVersion string `cbor:"4,keyasint,omitempty" json:"policy_version,omitempty"`
	// Shadow names the rules in shadow that would have matched.
	Shadow   []string  `cbor:"5,keyasint,omitempty" json:"shadow,omitempty"`
	Approval *Approval `cbor:"6,keyasint,omitempty" json:"approval,omitempty"`
	// Relaxed names the masks that hide less from this caller than they do
	// from others, each with how: "cards: partial", "cards: show".
	Relaxed []string `cbor:"7,keyasint,omitempty" json:"relaxed,omitempty"`
}

// Approval is how a held call's approval ended.
type Approval struct {
	ID       string        `cbor:"0,keyasint" json:"id"`
	By       []string      `cbor:"1,keyasint,omitempty" json:"by,omitempty"` // who decided, "issuer|subject"
	Comment  string        `cbor:"2,keyasint,omitempty" json:"comment,omitempty"`
	HeldFor  time.Duration `cbor:"3,keyasint,omitempty" json:"held_for,omitempty"`
	AskedAt  time.Time     `cbor:"4,keyasint,omitempty" json:"asked_at,omitzero"`
	EndedAt  time.Time     `cbor:"5,keyasint,omitempty" json:"ended_at,omitzero"`
	Expires  time.Time     `cbor:"6,keyasint,omitempty" json:"expires,omitzero"`
	Attempts int           `cbor:"7,keyasint,omitempty" json:"attempts,omitempty"`
	// Again is how a caller that does not wait comes to its answer. It is told
	// to the caller, not kept.
	Again Again `cbor:"-" json:"-"`
}

// Again tells a caller when to make its call again, and where to ask meanwhile.
type Again struct {
	After time.Duration
	// StatusURL answers, to the caller's own token, how far the approval is.
	StatusURL string
	// PageURL is for the person behind the caller. Elicits tells that the caller
	// said, when its MCP session began, that it can show such a page.
	PageURL string
	Elicits bool
}
