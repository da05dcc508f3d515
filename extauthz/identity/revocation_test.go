package identity

import (
	"errors"
	"testing"
	"time"

	"github.com/callgate/callgate/call"
)

// A revocation ends a token that was verified and is in the cache as well as
// one that was never seen, and nothing else.
func TestRevoke(t *testing.T) {
	r := newRig(t)
	issuer := r.issuer.URL
	for _, c := range []struct {
		name    string
		list    []Revocation
		revoked bool
	}{
		{"nothing", nil, false},
		{"what sets nothing", []Revocation{{}}, false},
		{"the token", []Revocation{{TokenID: "t-1"}}, true},
		{"the token of its issuer", []Revocation{{TokenID: "t-1", Issuer: issuer}}, true},
		{"a token of that id of another issuer", []Revocation{{TokenID: "t-1", Issuer: "https://other"}}, false},
		{"another token", []Revocation{{TokenID: "t-2"}}, false},
		{"the subject", []Revocation{{Subject: "alice", Issuer: issuer, IssuedBefore: start.Add(time.Second)}}, true},
		{"the subject, before that", []Revocation{{Subject: "alice", IssuedBefore: start.Add(-time.Hour)}}, false},
		{"another subject", []Revocation{{Subject: "bob", IssuedBefore: start.Add(time.Hour)}}, false},
		{"all of the issuer", []Revocation{{Issuer: issuer, IssuedBefore: start.Add(time.Second)}}, true},
		{"all of the issuer, before that", []Revocation{{Issuer: issuer, IssuedBefore: start.Add(-time.Hour)}}, false},
		{"one of several", []Revocation{{TokenID: "t-9"}, {Subject: "bob"}, {TokenID: "t-1"}}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r.Revoke(nil)
			claims := r.claims(map[string]any{"sub": "alice", "jti": "t-1", "iat": start.Unix(), "n": c.name})
			token := r.es.token(t, claims)
			if _, err := r.Verify(t.Context(), token); err != nil {
				t.Fatal(err)
			}
			r.Revoke(c.list)
			fresh := r.es.token(t, r.claims(map[string]any{"sub": "alice", "jti": "t-1", "iat": start.Unix(), "n": c.name + " again"}))
			for how, token := range map[string]string{"cached": token, "new": fresh} {
				id, err := r.Verify(t.Context(), token)
				if c.revoked {
					refusedAs(t, token, id, err, call.ReasonRevokedToken)
				} else if err != nil {
					t.Errorf("%s: %v", how, err)
				}
			}
		})
	}
}

func TestTokenWithoutIssueTimeIsOld(t *testing.T) {
	r := newRig(t)
	claims := r.claims(map[string]any{"sub": "alice"})
	delete(claims, "iat")
	r.Revoke([]Revocation{{Subject: "alice", IssuedBefore: start.Add(-100 * time.Hour)}})
	token := r.es.token(t, claims)
	id, err := r.Verify(t.Context(), token)
	refusedAs(t, token, id, err, call.ReasonRevokedToken)
}

// Who was identified is asked for again after a wait.
func TestStill(t *testing.T) {
	r := newRig(t)
	skew := r.cfg.ClockSkew
	for _, c := range []struct {
		name    string
		expires time.Time
		list    []Revocation
		want    call.Reason
	}{
		{"nothing changed", start.Add(time.Hour), nil, ""},
		{"what never expires", time.Time{}, nil, ""},
		{"expired, within the clocks' difference", start.Add(time.Nanosecond - skew), nil, ""},
		{"expired", start.Add(-skew), nil, call.ReasonExpiredToken},
		{"revoked", start.Add(time.Hour), []Revocation{{Subject: "alice"}}, call.ReasonRevokedToken},
		{"another's is revoked", start.Add(time.Hour), []Revocation{{Subject: "bob"}}, ""},
		{"who acts is revoked", start.Add(time.Hour), []Revocation{{Subject: "bot"}}, call.ReasonRevokedToken},
	} {
		r.Revoke(c.list)
		err := r.Still(call.Identity{Issuer: r.issuer.URL, Subject: "alice", Actors: []call.Actor{{Subject: "bot"}}, Expires: c.expires})
		var known *Error
		if errors.As(err, &known); err == nil && c.want != "" || err != nil && (known == nil || known.Reason != c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
