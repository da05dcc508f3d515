package config

import (
	"strings"
	"testing"
)

func TestPresetsAndKeys(t *testing.T) {
	dir := t.TempDir()
	load := func(identity string) (*Config, error) {
		return Load(write(t, dir, "callgate.yaml", "identity:\n"+identity), nil)
	}
	c, err := load(`  issuers:
    - {preset: entra, url: https://login.microsoftonline.com/11111111-2222-3333-4444-555555555555/v2.0, audiences: [a]}
    - {preset: keycloak, url: https://kc.example.com/realms/main, audiences: [a], claims: {groups: groups}}
    - {preset: github, url: https://token.actions.githubusercontent.com, audiences: [a], claims: {require: {repository_owner: [acme]}}}
  keys:
    - {name: night, hash: ` + strings.Repeat("ab", 32) + `}
`)
	if err != nil {
		t.Fatal(err)
	}
	entra, keycloak, github := c.Identity.Issuers[0], c.Identity.Issuers[1], c.Identity.Issuers[2]
	if entra.Claims.Subject != "oid" || entra.Kind != "human" || len(entra.Algorithms) != 1 || entra.Outage.Hours() != 24 {
		t.Errorf("%+v", entra)
	}
	if keycloak.Claims.Groups != "groups" || keycloak.Claims.Subject != "sub" {
		t.Errorf("what is said does not win: %+v", keycloak.Claims)
	}
	if github.Kind != "ci" || c.Identity.Keys[0].Subject != "night" || c.Identity.Keys[0].Kind != "workload" {
		t.Errorf("%+v %+v", github, c.Identity.Keys)
	}
	for text, want := range map[string]string{
		"  issuers: [{preset: okat, url: https://x.okta.com, audiences: [a]}]\n":                                               `"okat" is not known; choose auth0, entra`,
		"  issuers: [{preset: entra, url: https://login.microsoftonline.com/common/v2.0, audiences: [a]}]\n":                   "is not the issuer of a entra token",
		"  issuers: [{preset: auth0, url: https://x.auth0.com, audiences: [a]}]\n":                                             "with the last slash",
		"  issuers: [{preset: keycloak, url: https://kc.example.com, audiences: [a]}]\n":                                       "/realms/REALM",
		"  issuers: [{preset: google, url: https://accounts.google.com, audiences: [a]}]\n":                                    "anybody can get a token of https://accounts.google.com; say whose are believed with claims.require, such as require: {hd: [yours]}",
		"  issuers: [{url: https://token.actions.githubusercontent.com, audiences: [a]}]\n":                                    "require: {repository_owner: [yours]}",
		"  issuers: [{preset: gitlab, url: https://gitlab.com, audiences: [a], claims: {require: {namespace_path: ['*']}}}]\n": "must list the values that are believed",
		"  issuers: [{url: https://x, audiences: [a], outage: 9000h}]\n":                                                       "is outside 0s to 720h",
		"  issuers: [{url: https://x, audiences: [a], introspection: {url: http://idp.example.com/i}}]\n":                      "is not an https URL",
		"  issuers: [{url: https://x, audiences: [a], introspection: {url: https://x/i, client_id: a}}]\n":                     "client_id has no client_secret",
		"  keys: [{name: a, hash: x}]\n":                       "must be the SHA-256 of the key",
		"  keys: [{hash: " + strings.Repeat("ab", 32) + "}]\n": "name is missing",
		"  key_header: Authorization\n":                        "must be a lower-case header name",
		"  mtls: {trust_domains: [a]}\n":                       "ca_file is missing",
	} {
		if _, err := load(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v\nwant %q", text, err, want)
		}
	}
}

// Nor is a grant given to whoever any issuer calls so; groups are warned of.
func TestGrantsNameTheirIssuer(t *testing.T) {
	const one = "{url: https://idp.example.com, audiences: [a]}"
	const two = one + ", {preset: kubernetes, url: https://kubernetes.default.svc.cluster.local, audiences: [a]}"
	for _, c := range []struct{ issuers, grant, want string }{
		{one, "identities: [alice], actors: [bot]", ""},
		{two, "groups: [support]", ""},
		{two, "identities: ['https://idp.example.com|alice'], actors: ['https://idp.example.com|bot']", ""},
		{two, "identities: ['https://idp.example.com|alice'], actors: ['*']", ""},
		{two, "identities: [alice]", `callgate.yaml:4:25: grant "g": identities: "alice" could be of any of 2 issuers; write of which, such as "https://idp.example.com|alice"`},
		{two, "identities: ['a|https://b']", `grant "g": identities: "a|https://b" could be of any`},
		{two, "groups: [support], actors: [bot]", `grant "g": actors: "bot" could be of any of 2 issuers`},
	} {
		_, err := Load(write(t, t.TempDir(), "callgate.yaml", "identity:\n  issuers: ["+c.issuers+"]\ngrants:\n- {name: g, "+c.grant+", connections: ['*'], functions: ['*']}\n"), nil)
		if (c.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v\nwant %q", c.grant, err, c.want)
		}
	}
	c := &Config{Identity: Identity{Issuers: []Issuer{{URL: "https://a"}, {URL: "https://b"}}}}
	if c.Name("alice") == nil || c.Name("https://b|alice") != nil {
		t.Error("a subject that is named by whoever may have it")
	}
}

// Power over the gateway is no group's that any issuer can name.
func TestAdministratorsNameTheirIssuer(t *testing.T) {
	const one = "{url: https://idp.example.com, audiences: [a]}"
	const two = one + ", {preset: kubernetes, url: https://kubernetes.default.svc.cluster.local, audiences: [a]}"
	for _, c := range []struct{ issuers, more, setting, want string }{
		{one, "", "control: {administrators: {groups: [platform], people: [ann]}}", ""},
		{one, "  keys: [{name: a, hash: " + strings.Repeat("ab", 32) + "}]\n", "control: {administrators: {groups: [platform]}}", ""},
		{two, "", "control: {administrators: {groups: ['https://idp.example.com|platform'], people: ['https://idp.example.com|ann']}}", ""},
		{two, "", "approvals: {approvers: {groups: [on-call]}}", ""},
		{two, "", "control: {administrators: {groups: [platform]}}", `callgate.yaml:3:36: control.administrators.groups: "platform" could be of any of 2 issuers; write of which, such as "https://idp.example.com|platform"`},
		{two, "", "control: {administrators: {groups: ['a|b']}}", "control.administrators.groups"},
		{two, "", "control: {administrators: {people: [ann]}}", "control.administrators.people"},
		{two, "", "audit: {administrators: {groups: [dpo]}}", "audit.administrators.groups"},
		{two, "", "audit: {unseal: {investigators: {groups: [fraud]}}}", "audit.unseal.investigators.groups"},
		{two, "", "audit: {unseal: {approvers: {people: [bob]}}}", "audit.unseal.approvers.people"},
		{one, "  mtls: {ca_file: ca.pem}\n", "control: {administrators: {groups: [platform]}}", "any of 2 issuers"},
		{one, "  mtls: {ca_file: ca.pem, trust_domains: [a, b]}\n", "control: {administrators: {groups: [platform]}}", "any of 3 issuers"},
		{one, "  saml: [{entity_id: 'https://saml', certificate_file: a.pem, audiences: [a], recipient: 'https://gate/token'}]\n", "control: {administrators: {groups: [platform]}}", "any of 2 issuers"},
	} {
		_, err := Load(write(t, t.TempDir(), "callgate.yaml", "identity:\n  issuers: ["+c.issuers+"]\n"+c.more+c.setting+"\n"), nil)
		if (c.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v\nwant %q", c.setting, err, c.want)
		}
	}
}
