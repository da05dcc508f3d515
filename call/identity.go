package call

import "time"

// Kind says what sort of caller an identity is.
type Kind string

// The kinds of caller.
const (
	Human    Kind = "human"
	CI       Kind = "ci"
	Agent    Kind = "agent"
	Workload Kind = "workload"
)

// Identity is who makes a call, as far as it was proved.
type Identity struct {
	Issuer  string   `cbor:"0,keyasint,omitempty" json:"issuer"`
	Subject string   `cbor:"1,keyasint,omitempty" json:"subject"`
	Kind    Kind     `cbor:"2,keyasint,omitempty" json:"kind"`
	Groups  []string `cbor:"3,keyasint,omitempty" json:"groups,omitempty"`
	// Actors is the chain of those who act for the subject (RFC 8693 §4.1),
	// the one at work now first. Empty where the subject acts for itself.
	Actors []Actor `cbor:"4,keyasint,omitempty" json:"actors,omitempty"`
	// Method is how the identity was proved: "oidc", "introspection", "saml",
	// "exchange" (a token of Callgate's own), "mtls" or "key".
	Method string `cbor:"5,keyasint,omitempty" json:"method"`
	// TokenID is the token's jti, which names the token without being it.
	TokenID string    `cbor:"6,keyasint,omitempty" json:"token_id,omitempty"`
	Expires time.Time `cbor:"7,keyasint,omitempty" json:"expires,omitzero"`
	// Scope is what the token is narrowed to; empty: it is not.
	Scope Scope `cbor:"8,keyasint,omitempty" json:"scope,omitempty"`
	// Email is an address that the issuer has verified (OpenID Connect Core 1.0
	// §5.1). It gives nobody a right: it tells that two subjects are one person.
	Email string `cbor:"-" json:"email,omitempty"`
	// Claims are the verified claims that rules may look at. They are
	// read-only: one token's claims are shared by all its calls.
	Claims map[string]any `cbor:"-" json:"-"`
}

// Actor is one link of an actor chain.
type Actor struct {
	Issuer  string `cbor:"0,keyasint,omitempty" json:"issuer,omitempty"`
	Subject string `cbor:"1,keyasint" json:"subject"`
}

// Anonymous reports whether nobody was identified.
func (i Identity) Anonymous() bool { return i.Subject == "" }

// Acting is who is at work: the nearest actor, or the subject itself.
func (i Identity) Acting() string {
	if len(i.Actors) > 0 {
		return i.Actors[0].Subject
	}
	return i.Subject
}
