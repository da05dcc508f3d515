package identity

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"

	"github.com/callgate/callgate/call"
)

// exchanged are the claims of a token of Callgate's own.
func (r *rig) exchanged(with map[string]any) map[string]any {
	c := r.claims(map[string]any{"sub": "ann", "kind": "human", "groups": []string{"support"},
		ClaimSubject: map[string]any{"format": FormatIssuerSubject, "iss": "https://idp.example", "sub": "ann"},
		// Ann's was issued two hours before it was exchanged, the bot's one hour.
		ClaimOrigin: []any{map[string]any{"iss": "https://idp.example", "sub": "ann", "jti": "o-1", "iat": start.Add(-2 * time.Hour).Unix()},
			map[string]any{"iss": "https://agents.example", "sub": "bot", "jti": "o-2", "iat": start.Add(-time.Hour).Unix()}}, ClaimClaims: map[string]any{"team": "red", "cnf": map[string]any{"jkt": "stale"}},
		"act": map[string]any{"sub": "bot", "iss": "https://agents.example"}})
	for k, v := range with {
		c[k] = v
		if v == nil {
			delete(c, k)
		}
	}
	return c
}

func exchangeIssuer(i *Issuer) { i.Exchanged = true }

func TestExchangedTokens(t *testing.T) {
	r := newRig(t, exchangeIssuer)
	token := func(with map[string]any) string { return r.es.token(t, r.exchanged(with)) }
	id, err := r.Verify(t.Context(), token(map[string]any{"scope": "crm:refunds.* tools"}))
	must(t, err)
	if id.Issuer != "https://idp.example" || id.Subject != "ann" || id.Method != "exchange" || id.Kind != call.Human || strings.Join(id.Groups, "") != "support" ||
		len(id.Actors) != 1 || id.Actors[0] != (call.Actor{Issuer: "https://agents.example", Subject: "bot"}) || id.Scope.String() != "crm:refunds.* tools" {
		t.Errorf("%+v", id)
	}
	if id.Claims["team"] != "red" || id.Claims["iss"] != "https://idp.example" || id.Claims["cnf"] != nil {
		t.Errorf("claims %v", id.Claims)
	}
	named := func(with map[string]any) map[string]any {
		s := map[string]any{"format": FormatIssuerSubject, "iss": "https://idp.example", "sub": "ann"}
		for k, v := range with {
			s[k] = v
		}
		return map[string]any{ClaimSubject: s}
	}
	for name, with := range map[string]map[string]any{
		"no sub_id":                 {ClaimSubject: nil},
		"sub_id is a text":          {ClaimSubject: "ann"},
		"sub_id of another format":  named(map[string]any{"format": "email"}),
		"sub_id without issuer":     named(map[string]any{"iss": ""}),
		"sub_id of another subject": named(map[string]any{"sub": "root"}),
		"an empty scope":            {"scope": ""},
		"a scope that is a list":    {"scope": []string{"crm"}},
		"a scope of all":            {"scope": "*"},
		"no kind":                   {"kind": nil},
		"no jti":                    {"jti": nil},
		"no iat":                    {"iat": nil},
		"no origin":                 {ClaimOrigin: nil},
		"an origin that is empty":   {ClaimOrigin: []any{}},
		"an origin without issuer":  {ClaimOrigin: []any{map[string]any{"jti": "o-1"}}},
		"an origin that is a text":  {ClaimOrigin: []any{"o-1"}},
		"act without sub":           {"act": map[string]any{"iss": "x"}},
	} {
		t.Run(name, func(t *testing.T) { r.refused(t, token(with), call.ReasonInvalidToken) })
	}
	r.refused(t, sign(t, jwa.ES256, r.es.private, r.exchanged(nil), map[string]any{"kid": "es", "typ": "JWT"}), call.ReasonInvalidToken)
	r.refused(t, sign(t, jwa.ES256, r.es.private, r.exchanged(nil), map[string]any{"kid": "es"}), call.ReasonInvalidToken)
}

// Only Callgate's own issuer may speak for subjects of others, or narrow.
func TestOthersCannotSpeakForAnIssuer(t *testing.T) {
	r := newRig(t)
	id, err := r.Verify(t.Context(), r.es.token(t, r.exchanged(map[string]any{"scope": "crm"})))
	must(t, err)
	if id.Issuer != r.issuer.URL || id.Scope.Narrowed() || id.Method != "oidc" {
		t.Errorf("%+v", id)
	}
}

func TestRevokedOrigins(t *testing.T) {
	r := newRig(t, exchangeIssuer)
	token := r.es.token(t, r.exchanged(nil))
	for _, c := range []struct {
		what    string
		list    []Revocation
		revoked bool
	}{
		{"itself", []Revocation{{TokenID: "t-1"}}, true},
		{"itself, of its subject's issuer", []Revocation{{TokenID: "t-1", Issuer: "https://idp.example"}}, true},
		{"itself, of Callgate", []Revocation{{TokenID: "t-1", Issuer: r.issuer.URL}}, true},
		{"all of Callgate", []Revocation{{Issuer: r.issuer.URL}}, true},
		{"all of Callgate, before it was issued", []Revocation{{Issuer: r.issuer.URL, IssuedBefore: start.Add(-time.Second)}}, false},
		{"what it was given for", []Revocation{{TokenID: "o-1"}}, true},
		{"what it was given for, of its issuer", []Revocation{{TokenID: "o-1", Issuer: "https://idp.example", Subject: "ann"}}, true},
		{"the actor's, too", []Revocation{{TokenID: "o-2"}}, true},
		{"the actor's, of its issuer", []Revocation{{TokenID: "o-2", Issuer: "https://agents.example", Subject: "bot"}}, true},
		{"that of another issuer", []Revocation{{TokenID: "o-1", Issuer: "https://agents.example"}}, false},
		{"the actor's, of the subject's issuer", []Revocation{{TokenID: "o-2", Issuer: "https://idp.example"}}, false},
		{"the subject at its issuer", []Revocation{{Subject: "ann", Issuer: "https://idp.example", IssuedBefore: start.Add(time.Second)}}, true},
		{"the subject's older tokens, one of which this was", []Revocation{{Subject: "ann", IssuedBefore: start.Add(-90 * time.Minute)}}, true},
		{"the subject's still older tokens", []Revocation{{Subject: "ann", IssuedBefore: start.Add(-3 * time.Hour)}}, false},
		{"older tokens of the subject's issuer", []Revocation{{Issuer: "https://idp.example", IssuedBefore: start.Add(-90 * time.Minute)}}, true},
		{"such a subject elsewhere", []Revocation{{Subject: "ann", Issuer: r.issuer.URL, IssuedBefore: start.Add(time.Second)}}, false},
		{"who acts", []Revocation{{Subject: "bot", IssuedBefore: start.Add(time.Second)}}, true},
		{"who acts, by an older token", []Revocation{{Subject: "bot", IssuedBefore: start.Add(-30 * time.Minute)}}, true},
		{"who acts, before that was issued", []Revocation{{Subject: "bot", IssuedBefore: start.Add(-time.Hour)}}, false},
		{"who acts, at another issuer", []Revocation{{Subject: "bot", Issuer: "https://idp.example"}}, false},
		{"all of the actor's issuer", []Revocation{{Issuer: "https://agents.example"}}, true},
		{"all of the actor's issuer, before that was issued", []Revocation{{Issuer: "https://agents.example", IssuedBefore: start.Add(-time.Hour)}}, false},
	} {
		r.Revoke(c.list)
		_, err := r.Verify(t.Context(), token)
		var known *Error
		if c.revoked != (errors.As(err, &known) && known.Reason == call.ReasonRevokedToken) {
			t.Errorf("%s: %v", c.what, err)
		}
	}
}

// Those who act by a token that was not exchanged are known by its claims alone.
func TestRevokedActors(t *testing.T) {
	r := newRig(t)
	token := r.es.token(t, r.claims(map[string]any{"act": map[string]any{"sub": "bot", "iss": "https://agents.example", "act": map[string]any{"sub": "planner"}}}))
	for _, c := range []struct {
		what    string
		list    []Revocation
		revoked bool
	}{
		{"who acts", []Revocation{{Subject: "bot"}}, true},
		{"all of the actor's issuer", []Revocation{{Issuer: "https://agents.example"}}, true},
		{"all of the actor's issuer, before that", []Revocation{{Issuer: "https://agents.example", IssuedBefore: start.Add(-time.Hour)}}, false},
		{"who acted first", []Revocation{{Subject: "planner", Issuer: r.issuer.URL}}, true},
		{"such an actor elsewhere", []Revocation{{Subject: "planner", Issuer: "https://agents.example"}}, false},
	} {
		r.Revoke(c.list)
		_, err := r.Verify(t.Context(), token)
		var known *Error
		if c.revoked != (errors.As(err, &known) && known.Reason == call.ReasonRevokedToken) {
			t.Errorf("%s: %v", c.what, err)
		}
	}
}

// An issuer that is away at a start is no outage while its keys of the run before
// may still be believed.
func TestKeysOutliveARestart(t *testing.T) {
	r := newRig(t)
	folder := filepath.Join(t.TempDir(), "keys")
	again := func() (*Verifier, error) {
		cfg := r.cfg
		cfg.KeyCache = folder
		v, err := New(cfg)
		must(t, err)
		return v, v.Fetch(t.Context())
	}
	_, err := again() // writes them
	must(t, err)
	r.issuer.down.Store(true)
	known := r.es.token(t, r.claims(map[string]any{"exp": start.Add(100 * time.Hour).Unix()}))

	r.advance(outage - time.Minute)
	v, err := again()
	must(t, err)
	if _, err := v.Verify(t.Context(), known); err != nil {
		t.Errorf("with keys of the run before: %v", err)
	}
	id, err := v.Verify(t.Context(), newSigner(t, "new", jwa.ES256).token(t, r.claims(nil)))
	refusedAs(t, "", id, err, call.ReasonIdentityUnavailable)
	// Their age counts from when they were fetched, not from the start.
	r.advance(2 * time.Minute)
	id, err = v.Verify(t.Context(), known)
	refusedAs(t, known, id, err, call.ReasonIdentityUnavailable)
	if _, err := again(); err == nil {
		t.Error("a start with keys that are too old")
	}
	r.nanoseconds.Store(0)
	file := keyFile(folder, r.issuer.URL)
	good, err := os.ReadFile(file)
	must(t, err)
	for what, content := range map[string]string{
		"damaged": string(good[:len(good)/2]), "no keys": strings.Replace(string(good), `"keys":[`, `"kees":[`, 1), "another's": strings.Replace(string(good), r.issuer.URL, "https://evil.example", 1),
		"from the future": strings.Replace(string(good), "2026-03-01", "2026-03-02", 1), "empty": "",
	} {
		must(t, os.WriteFile(file, []byte(content), 0o600))
		if _, err := again(); err == nil {
			t.Errorf("a start with a file that is %s", what)
		}
	}
	must(t, os.Remove(file))
	if _, err := again(); err == nil || !strings.Contains(err.Error(), "can't be reached") {
		t.Errorf("a start with nothing kept: %v", err)
	}
	r.issuer.down.Store(false)
	_, err = again()
	must(t, err)
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}
