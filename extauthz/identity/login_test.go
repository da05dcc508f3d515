package identity

import (
	"testing"
	"time"

	"github.com/callgate/callgate/call"
)

// An ID token names somebody only if it answers the very login that was begun.
func TestLogin(t *testing.T) {
	r := newRig(t)
	r.fetch(t)
	want := Login{Issuer: r.issuer.URL, Client: "console", Nonce: "n-1"}
	claims := func(with map[string]any) map[string]any {
		all := map[string]any{"aud": "console", "nonce": "n-1"}
		for k, v := range with {
			all[k] = v
		}
		return r.claims(all)
	}
	typ := func(t2 string) map[string]any { return map[string]any{"kid": r.rs.public.KeyID(), "typ": t2} }
	mint := func(with, header map[string]any) string {
		return sign(t, r.rs.alg, r.rs.private, claims(with), header)
	}
	id, err := r.Login(t.Context(), mint(nil, typ("JWT")), want)
	must(t, err)
	if id.Issuer != r.issuer.URL || id.Subject == "" || id.Kind != call.Human {
		t.Errorf("got %+v", id)
	}
	must(t, r.Admit(id))
	for name, c := range map[string]struct {
		with, header map[string]any
		want         Login
	}{
		"for another audience":         {with: map[string]any{"aud": "gate"}},
		"for another client":           {with: map[string]any{"azp": "other"}},
		"for several, no client named": {with: map[string]any{"aud": []string{"console", "other"}}},
		"for several, another client":  {with: map[string]any{"aud": []string{"console", "other"}, "azp": "other"}},
		"azp that is no text":          {with: map[string]any{"aud": []string{"console", "other"}, "azp": []string{"console"}}},
		"another nonce":                {with: map[string]any{"nonce": "n-2"}},
		"no nonce":                     {with: map[string]any{"nonce": nil}},
		"a nonce that is no text":      {with: map[string]any{"nonce": []string{"n-1"}}},
		"no nonce asked for":           {with: map[string]any{"nonce": ""}, want: Login{Issuer: want.Issuer, Client: want.Client}},
		"another issuer asked":         {want: Login{Issuer: "https://other.example", Client: want.Client, Nonce: want.Nonce}},
		"an access token":              {header: typ("at+jwt")},
		"an access token, long type":   {header: typ("application/AT+JWT")},
		"expired":                      {with: map[string]any{"exp": start.Add(-time.Hour).Unix()}},
	} {
		t.Run(name, func(t *testing.T) {
			if c.header == nil {
				c.header = typ("JWT")
			}
			if c.want == (Login{}) {
				c.want = want
			}
			token := mint(c.with, c.header)
			id, err := r.Login(t.Context(), token, c.want)
			reason := call.ReasonInvalidToken
			if name == "expired" {
				reason = call.ReasonExpiredToken
			}
			refusedAs(t, token, id, err, reason)
		})
	}
	t.Run("forged", func(t *testing.T) {
		other := newSigner(t, r.rs.public.KeyID(), r.rs.alg)
		token := sign(t, other.alg, other.private, claims(nil), typ("JWT"))
		id, err := r.Login(t.Context(), token, want)
		refusedAs(t, token, id, err, call.ReasonInvalidToken)
	})
	t.Run("revoked since", func(t *testing.T) {
		r.Revoke([]Revocation{{Subject: id.Subject}})
		if err := r.Admit(id); err == nil {
			t.Error("admitted")
		}
		token := mint(nil, typ("JWT"))
		got, err := r.Login(t.Context(), token, want)
		refusedAs(t, token, got, err, call.ReasonRevokedToken)
	})
}
