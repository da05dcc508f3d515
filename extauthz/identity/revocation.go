package identity

import (
	"slices"
	"time"

	"github.com/callgate/callgate/call"
)

// Revocation ends the validity of tokens before their time. What is set must all
// fit: a token's id, its subject, its issuer, and that it was issued before a
// time. One that sets nothing fits nothing.
type Revocation struct {
	Issuer, Subject, TokenID string
	// IssuedBefore is compared with the token's iat. A token that does not say
	// when it was issued is taken to be old.
	IssuedBefore time.Time
}

// revocations finds those that may fit an identity without looking at all.
type revocations struct {
	byToken   map[string][]Revocation // by jti
	bySubject map[string][]Revocation
	byIssuer  map[string][]Revocation
}

// Revoke makes the verifier refuse what the list says, from now on and in place
// of what earlier lists said. It holds for tokens that were verified before too.
func (v *Verifier) Revoke(list []Revocation) {
	next := &revocations{byToken: map[string][]Revocation{}, bySubject: map[string][]Revocation{}, byIssuer: map[string][]Revocation{}}
	for _, r := range list {
		switch {
		case r.TokenID != "":
			next.byToken[r.TokenID] = append(next.byToken[r.TokenID], r)
		case r.Subject != "":
			next.bySubject[r.Subject] = append(next.bySubject[r.Subject], r)
		case r.Issuer != "":
			next.byIssuer[r.Issuer] = append(next.byIssuer[r.Issuer], r)
		}
	}
	v.revoked.Store(next)
}

// admit refuses an identity whose token was revoked, or what that was exchanged
// for, or that of who acts in it.
func (v *Verifier) admit(id call.Identity) (call.Identity, error) {
	r := v.revoked.Load()
	if r == nil {
		return id, nil
	}
	at, dated := issued(id)
	fits := func(list []Revocation, issuer, subject, token string) bool {
		return slices.ContainsFunc(list, func(one Revocation) bool { return one.fits(issuer, subject, token, at, dated) })
	}
	revoked := fits(r.byToken[id.TokenID], id.Issuer, id.Subject, id.TokenID) || fits(r.bySubject[id.Subject], id.Issuer, id.Subject, id.TokenID) ||
		fits(r.byIssuer[id.Issuer], id.Issuer, id.Subject, id.TokenID)
	for _, token := range origins(id) {
		revoked = revoked || fits(r.byToken[token], id.Issuer, id.Subject, token)
	}
	for _, a := range id.Actors {
		revoked = revoked || fits(r.bySubject[a.Subject], a.Issuer, a.Subject, id.TokenID)
	}
	if revoked {
		return call.Identity{}, refuse(call.ReasonRevokedToken, "the token was revoked; get a new one, or ask those who run this gateway")
	}
	return id, nil
}

func (r Revocation) fits(issuer, subject, token string, issued time.Time, dated bool) bool {
	switch {
	case r.TokenID != "" && r.TokenID != token, r.Subject != "" && r.Subject != subject, r.Issuer != "" && r.Issuer != issuer:
		return false
	case r.IssuedBefore.IsZero():
		return true
	}
	return !dated || issued.Before(r.IssuedBefore)
}
