package app

import (
	"crypto/rand"
	"crypto/rsa"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwk"
	"github.com/lestrrat-go/jwx/v2/jwt"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/extauthz/identity"
)

// sample is a line of what a provider's tokens say, as its documentation shows
// them, and of the identity that they make through a file that names the preset.
type sample struct {
	name, preset, url string
	claims            string         // the issuer's claims setting, "" for the preset's alone
	token             map[string]any // beside iss, aud, iat and exp
	subject           string         // "": refused
	groups            []string
	kind              call.Kind
}

var samples = []sample{
	{"okta, own server", "okta", "https://acme.okta.com/oauth2/default", "", map[string]any{"ver": 1, "jti": "AT.x", "cid": "0oa1", "uid": "00u1", "scp": []string{"openid"}, "auth_time": 1, "sub": "ann@example.com", "groups": []string{"Everyone", "support"}}, "ann@example.com", []string{"Everyone", "support"}, call.Human},
	{"okta, org server", "okta", "https://acme.okta.com", "", map[string]any{"ver": 1, "uid": "00u1", "sub": "ann@example.com"}, "ann@example.com", nil, call.Human},
	{"entra v2", "entra", "https://login.microsoftonline.com/11111111-2222-3333-4444-555555555555/v2.0", "", map[string]any{"ver": "2.0", "tid": "11111111-2222-3333-4444-555555555555", "oid": "000-ann", "sub": "pairwise", "groups": []string{"g-1"}, "azp": "app", "scp": "call"}, "000-ann", []string{"g-1"}, call.Human},
	{"entra v1", "entra", "https://sts.windows.net/11111111-2222-3333-4444-555555555555/", "", map[string]any{"ver": "1.0", "oid": "000-ann", "sub": "pairwise", "appid": "app", "groups": []string{"g-1"}}, "000-ann", []string{"g-1"}, call.Human},
	{"entra, too many groups", "entra", "https://login.microsoftonline.com/t/v2.0", "", map[string]any{"oid": "000-ann", "sub": "p", "_claim_names": map[string]any{"groups": "src1"}, "_claim_sources": map[string]any{"src1": map[string]any{"endpoint": "https://graph.example"}}}, "", nil, ""},
	{"entra, roles instead", "entra", "https://login.microsoftonline.com/t/v2.0", "{groups: roles}", map[string]any{"oid": "000-ann", "sub": "p", "roles": []string{"Admin"}, "_claim_names": map[string]any{"groups": "src1"}}, "000-ann", []string{"Admin"}, call.Human},
	{"google", "google", "https://accounts.google.com", "{require: {hd: [example.com]}}", map[string]any{"azp": "c", "sub": "117", "email": "ann@example.com", "email_verified": true, "hd": "example.com"}, "ann@example.com", nil, call.Human},
	{"google, an address nobody verified", "google", "https://accounts.google.com", "{require: {hd: [example.com]}}", map[string]any{"sub": "117", "email": "ann@example.com", "email_verified": false, "hd": "example.com"}, "", nil, ""},
	{"google, no word on the address", "google", "https://accounts.google.com", "{require: {hd: [example.com]}}", map[string]any{"sub": "117", "email": "ann@example.com", "hd": "example.com"}, "", nil, ""},
	{"google, by number", "google", "https://accounts.google.com", "{subject: sub, require: {hd: [example.com]}}", map[string]any{"sub": "117", "hd": "example.com"}, "117", nil, call.Human},
	{"google, another domain", "google", "https://accounts.google.com", "{require: {hd: [example.com]}}", map[string]any{"sub": "118", "email": "eve@evil.com", "email_verified": true, "hd": "evil.com"}, "", nil, ""},
	{"google, no domain", "google", "https://accounts.google.com", "{require: {hd: [example.com]}}", map[string]any{"sub": "118", "email": "eve@gmail.com", "email_verified": true}, "", nil, ""},
	{"auth0", "auth0", "https://acme.eu.auth0.com/", "", map[string]any{"sub": "auth0|64", "permissions": []string{"read:x"}, "azp": "c", "scope": "openid"}, "auth0|64", []string{"read:x"}, call.Human},
	{"auth0, a namespaced claim", "auth0", "https://acme.eu.auth0.com/", `{groups: "https://corp.example/groups"}`, map[string]any{"sub": "auth0|64", "https://corp.example/groups": []string{"a"}}, "auth0|64", []string{"a"}, call.Human},
	{"keycloak", "keycloak", "https://kc.example.com/realms/main", "", map[string]any{"typ": "Bearer", "sub": "f1", "preferred_username": "ann", "realm_access": map[string]any{"roles": []string{"support", "offline_access"}}, "resource_access": map[string]any{"account": map[string]any{"roles": []string{"view"}}}}, "f1", []string{"support", "offline_access"}, call.Human},
	{"github", "github", "https://token.actions.githubusercontent.com", "{require: {repository_owner: [acme]}}", map[string]any{"sub": "repo:acme/app:ref:refs/heads/main", "repository": "acme/app", "repository_owner": "acme", "ref": "refs/heads/main", "environment": "prod", "job_workflow_ref": "acme/app/.github/workflows/x.yml@refs/heads/main", "actor": "ann", "run_id": "1"}, "repo:acme/app:ref:refs/heads/main", []string{"acme/app"}, call.CI},
	{"github, a stranger's repository", "github", "https://token.actions.githubusercontent.com", "{require: {repository_owner: [acme]}}", map[string]any{"sub": "repo:acme-evil/app:ref:refs/heads/main", "repository": "acme-evil/app", "repository_owner": "acme-evil"}, "", nil, ""},
	{"gitlab", "gitlab", "https://gitlab.com", `{require: {namespace_path: [acme, "acme/*"]}}`, map[string]any{"sub": "project_path:acme/app:ref_type:branch:ref:main", "project_path": "acme/app", "namespace_path": "acme", "pipeline_source": "push", "user_login": "ann"}, "project_path:acme/app:ref_type:branch:ref:main", []string{"acme/app"}, call.CI},
	{"gitlab, a group within", "gitlab", "https://gitlab.com", `{require: {namespace_path: [acme, "acme/*"]}}`, map[string]any{"sub": "project_path:acme/web/app:ref_type:branch:ref:main", "project_path": "acme/web/app", "namespace_path": "acme/web"}, "project_path:acme/web/app:ref_type:branch:ref:main", []string{"acme/web/app"}, call.CI},
	{"gitlab, a stranger's group", "gitlab", "https://gitlab.com", `{require: {namespace_path: [acme, "acme/*"]}}`, map[string]any{"sub": "project_path:acme-evil/app:ref_type:branch:ref:main", "project_path": "acme-evil/app", "namespace_path": "acme-evil"}, "", nil, ""},
	{"kubernetes", "kubernetes", "https://kubernetes.default.svc.cluster.local", "", map[string]any{"sub": "system:serviceaccount:payments:api", "kubernetes.io": map[string]any{"namespace": "payments", "node": map[string]any{"name": "n1"}, "pod": map[string]any{"name": "api-7"}, "serviceaccount": map[string]any{"name": "api", "uid": "u"}}}, "system:serviceaccount:payments:api", []string{"payments"}, call.Workload},
	{"a preset's token that says its kind", "okta", "https://acme.okta.com", "", map[string]any{"sub": "bot@example.com", "kind": "agent"}, "bot@example.com", nil, call.Agent},
	{"a preset's token without its subject", "entra", "https://login.microsoftonline.com/t/v2.0", "", map[string]any{"sub": "pairwise"}, "", nil, ""},
}

func TestPresets(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	own, err := jwk.FromRaw(key)
	must(t, err)
	public, err := own.PublicKey()
	must(t, err)
	for k, v := range map[string]any{jwk.KeyIDKey: "k1", jwk.AlgorithmKey: jwa.RS256} {
		must(t, own.Set(k, v))
		must(t, public.Set(k, v))
	}
	keys := jwk.NewSet()
	must(t, keys.AddKey(public))
	tested := map[string]bool{}
	for _, s := range samples {
		tested[s.preset] = true
		t.Run(s.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "callgate.yaml")
			text := "identity:\n  issuers:\n    - preset: " + s.preset + "\n      url: " + s.url + "\n      audiences: [callgate]\n"
			if s.claims != "" {
				text += "      claims: " + s.claims + "\n"
			}
			must(t, os.WriteFile(file, []byte(text), 0o600))
			cfg, err := config.Load(file, nil)
			must(t, err)
			is := believed(cfg.Identity.Issuers[0])
			is.Keys = func() jwk.Set { return keys }
			v, err := identity.New(identity.Config{Issuers: []identity.Issuer{is}, ClockSkew: cfg.Identity.ClockSkew, Log: slog.New(slog.DiscardHandler), Metrics: identity.NewMetrics(prometheus.NewRegistry())})
			must(t, err)
			must(t, v.Fetch(t.Context()))
			id, err := v.Verify(t.Context(), s.signed(t, own))
			if s.subject == "" {
				if err == nil || !strings.Contains(err.Error(), "claim") && !strings.Contains(err.Error(), "groups") {
					t.Errorf("taken as %+v, or refused for something else: %v", id, err)
				}
				return
			}
			must(t, err)
			if id.Issuer != s.url || id.Subject != s.subject || id.Kind != s.kind || !slices.Equal(id.Groups, s.groups) {
				t.Errorf("%+v", id)
			}
		})
	}
	for _, name := range config.Presets() {
		if !tested[name] {
			t.Errorf("preset %s has no sample token", name)
		}
	}
}

// signed is the sample's token.
func (s sample) signed(t *testing.T, key jwk.Key) string {
	t.Helper()
	token := jwt.New()
	now := time.Now()
	for k, v := range map[string]any{"iss": s.url, "aud": "callgate", "iat": now, "exp": now.Add(time.Hour)} {
		must(t, token.Set(k, v))
	}
	for k, v := range s.token {
		must(t, token.Set(k, v))
	}
	signed, err := jwt.Sign(token, jwt.WithKey(jwa.RS256, key))
	must(t, err)
	return string(signed)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
