package identity

import (
	"context"
	"crypto/subtle"
	"strings"

	"github.com/callgate/callgate/call"
)

// Login is the question that an ID token must answer.
type Login struct {
	Issuer string // that was asked
	Client string // that asked
	Nonce  string // of this login and no other
}

// Login returns whom an ID token names (OpenID Connect Core 1.0 §3.1.3.7), read by
// the same settings of its issuer as access tokens are. Its error is an *[Error].
func (v *Verifier) Login(ctx context.Context, idToken string, want Login) (call.Identity, error) {
	if len(idToken) > maxToken {
		return call.Identity{}, refuse(call.ReasonInvalidToken, "the token is longer than %d bytes", maxToken)
	}
	header, claimed, bad := v.peek(idToken)
	if bad != nil {
		return call.Identity{}, bad
	}
	is, known := v.issuers[claimed]
	switch {
	case claimed != want.Issuer || !known:
		return call.Identity{}, refuse(call.ReasonInvalidToken, "the ID token is of another issuer than the one that was asked")
	case strings.TrimPrefix(strings.ToLower(header.Type()), "application/") == "at+jwt":
		return call.Identity{}, refuse(call.ReasonInvalidToken, "the issuer sent an access token in place of an ID token")
	case !is.algorithms[header.Algorithm()]:
		return call.Identity{}, refuse(call.ReasonInvalidToken, "the ID token's signature algorithm is not accepted for its issuer; see identity.issuers.algorithms")
	}
	t, _, bad := v.parse(ctx, idToken, v.cfg.Now(), header, is, []string{want.Client})
	if bad != nil {
		return call.Identity{}, bad
	}
	claims := t.PrivateClaims()
	// Of several audiences, azp says which one asked.
	party, named := claims["azp"].(string)
	if (named || len(t.Audience()) > 1) && party != want.Client {
		return call.Identity{}, refuse(call.ReasonInvalidToken, "the ID token was given to another client (azp)")
	}
	nonce, _ := claims["nonce"].(string)
	if want.Nonce == "" || subtle.ConstantTimeCompare([]byte(nonce), []byte(want.Nonce)) != 1 {
		return call.Identity{}, refuse(call.ReasonInvalidToken, "the ID token answers another login (nonce); log in again")
	}
	id, bad := is.identity(t)
	if bad != nil {
		return call.Identity{}, bad
	}
	return v.admit(id)
}

// Admit refuses somebody who was identified before and whose token has been
// revoked since. Its error is an *[Error].
func (v *Verifier) Admit(id call.Identity) error {
	_, err := v.admit(id)
	return err
}

// Still is Admit for a caller that has waited: a token that has expired
// meanwhile is refused too. Its error is an *[Error].
func (v *Verifier) Still(id call.Identity) error {
	if !id.Expires.IsZero() && !v.cfg.Now().Before(id.Expires.Add(v.cfg.ClockSkew)) {
		return refuse(call.ReasonExpiredToken, "the token expired while the call waited; get a new one, and make the call again")
	}
	return v.Admit(id)
}
