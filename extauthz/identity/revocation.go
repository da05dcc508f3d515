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
	switch {
	case r == nil && v.cfg.AwaitRevocations:
		return call.Identity{}, refuse(call.ReasonIdentityUnavailable, "which tokens are revoked is not known yet, as the control plane has not answered; try again later")
	case r == nil:
		return id, nil
	}
	all := Origins(id)
	for _, a := range id.Actors {
		// The token that names them is what they act by.
		all = append(all, Origin{Issuer: a.Issuer, Subject: a.Subject, Issued: all[0].Issued, Dated: all[0].Dated})
	}
	if slices.ContainsFunc(all, r.fit) {
		return call.Identity{}, refuse(call.ReasonRevokedToken, "the token was revoked; get a new one, or ask those who run this gateway")
	}
	return id, nil
}

// fit reports whether one of them fits.
func (r *revocations) fit(o Origin) bool {
	fits := func(one Revocation) bool { return one.fits(o) }
	return slices.ContainsFunc(r.byToken[o.TokenID], fits) || slices.ContainsFunc(r.bySubject[o.Subject], fits) || slices.ContainsFunc(r.byIssuer[o.Issuer], fits)
}

func (r Revocation) fits(o Origin) bool {
	switch {
	case r.TokenID != "" && r.TokenID != o.TokenID, r.Subject != "" && r.Subject != o.Subject, r.Issuer != "" && r.Issuer != o.Issuer:
		return false
	case r.IssuedBefore.IsZero():
		return true
	}
	return !o.Dated || time.Unix(o.Issued, 0).Before(r.IssuedBefore)
}
