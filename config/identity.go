package config

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Key is a static API key of a caller that has nothing else. "callgate identity
// key" makes one.
type Key struct {
	Name string `yaml:"name"` // audit rows name it. Required
	// Hash is the SHA-256 of the key, in hexadecimal. Required
	Hash    string    `yaml:"hash"`
	Subject string    `yaml:"subject"` // default: the name
	Kind    string    `yaml:"kind"`    // human, ci, agent or workload. Default workload
	Groups  []string  `yaml:"groups"`
	Expires time.Time `yaml:"expires"` // RFC 3339. Default: never
}

// MTLS says whose client certificates name a caller.
type MTLS struct {
	// CAFile holds the certificates that a client's must chain to, those
	// between included. Empty: certificates name nobody.
	CAFile string `yaml:"ca_file"`
	// TrustDomains are those of SPIFFE IDs that are believed. Default: the
	// certificate's subject names the caller.
	TrustDomains []string           `yaml:"trust_domains"`
	Kind         string             `yaml:"kind"` // default workload
	Groups       []CertificateGroup `yaml:"groups"`
}

// CertificateGroup puts callers into groups by name.
type CertificateGroup struct {
	Match  string   `yaml:"match"` // a glob over the SPIFFE ID's path, or the subject
	Groups []string `yaml:"groups"`
}

// Introspection asks an issuer about tokens that are no JWT (RFC 7662).
type Introspection struct {
	URL    string        `yaml:"url"`
	ID     string        `yaml:"client_id"`
	Secret Secret        `yaml:"client_secret"`
	Keep   time.Duration `yaml:"cache"` // how long an answer holds. Default 1m
}

// presets are what well-known issuers put where. What the configuration says of
// an issuer wins.
var presets = map[string]struct {
	claims     Claims
	kind       string
	algorithms []string
	// form is what an issuer's URL must look like.
	form string
	ok   func(u *url.URL) bool
	// pin is a claim without which anybody could get a token there, and what
	// to require of it.
	pin string
	// verified is a claim that must be true for the preset's subject to be
	// whose it looks.
	verified string
}{
	"okta": {claims: Claims{Subject: "sub", Groups: "groups"}, kind: "human", algorithms: []string{"RS256"},
		form: "https://example.okta.com or https://example.okta.com/oauth2/default", ok: func(u *url.URL) bool { return u.Path == "" || strings.HasPrefix(u.Path, "/oauth2/") }},
	"entra": {claims: Claims{Subject: "oid", Groups: "groups"}, kind: "human", algorithms: []string{"RS256"},
		form: "https://login.microsoftonline.com/TENANT/v2.0, or https://sts.windows.net/TENANT/ for v1 tokens",
		ok: func(u *url.URL) bool {
			parts := strings.Split(strings.Trim(u.Path, "/"), "/")
			v2 := u.Hostname() != "sts.windows.net"
			return parts[0] != "" && parts[0] != "common" && parts[0] != "organizations" && parts[0] != "consumers" && (v2 && len(parts) == 2 && parts[1] == "v2.0" || !v2 && len(parts) == 1)
		}},
	"google": {claims: Claims{Subject: "email", Groups: "groups"}, kind: "human", algorithms: []string{"RS256"},
		form: "https://accounts.google.com", ok: func(u *url.URL) bool { return u.Path == "" }, pin: "hd", verified: "email_verified"},
	"auth0": {claims: Claims{Subject: "sub", Groups: "permissions"}, kind: "human", algorithms: []string{"RS256"},
		form: "https://TENANT.auth0.com/ (with the last slash)", ok: func(u *url.URL) bool { return u.Path == "/" }},
	"keycloak": {claims: Claims{Subject: "sub", Groups: "realm_access.roles"}, kind: "human", algorithms: []string{"RS256", "PS256", "ES256"},
		form: "https://keycloak.example.com/realms/REALM", ok: func(u *url.URL) bool { return strings.Contains(u.Path, "/realms/") && !strings.HasSuffix(u.Path, "/") }},
	"github": {claims: Claims{Subject: "sub", Groups: "repository"}, kind: "ci", algorithms: []string{"RS256"},
		form: "https://token.actions.githubusercontent.com", ok: func(u *url.URL) bool { return true }, pin: "repository_owner"},
	"gitlab": {claims: Claims{Subject: "sub", Groups: "project_path"}, kind: "ci", algorithms: []string{"RS256"},
		form: "https://gitlab.com", ok: func(u *url.URL) bool { return u.Path == "" }, pin: "namespace_path"},
	"kubernetes": {claims: Claims{Subject: "sub", Groups: "kubernetes.io.namespace"}, kind: "workload", algorithms: []string{"RS256", "ES256"},
		form: "https://kubernetes.default.svc.cluster.local, or what the API server's --service-account-issuer says", ok: func(u *url.URL) bool { return true }},
}

// public are issuers that give tokens to anybody.
var public = map[string]string{"accounts.google.com": "hd", "token.actions.githubusercontent.com": "repository_owner", "gitlab.com": "namespace_path"}

// Presets lists the names of issuers whose tokens are known.
func Presets() []string {
	names := make([]string, 0, len(presets))
	for n := range presets {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// defaults fills in what the preset and then every issuer has.
func (is *Issuer) defaults() {
	if p, ok := presets[is.Preset]; ok {
		set(&is.Claims.Subject, p.claims.Subject)
		if p.verified != "" && is.Claims.Subject == p.claims.Subject && is.Claims.Require[p.verified] == nil {
			require := map[string][]string{p.verified: {"true"}}
			maps.Copy(require, is.Claims.Require)
			is.Claims.Require = require
		}
		set(&is.Claims.Groups, p.claims.Groups)
		set(&is.Kind, p.kind)
		if len(is.Algorithms) == 0 {
			is.Algorithms = p.algorithms
		}
	}
	set(&is.Name, is.URL)
	set(&is.Claims.Subject, "sub")
	set(&is.Claims.Groups, "groups")
	set(&is.Claims.Kind, "kind")
	set(&is.Kind, "human")
	set(&is.Outage, 24*time.Hour)
	if len(is.Algorithms) == 0 {
		is.Algorithms = []string{"RS256", "PS256", "ES256", "EdDSA"}
	}
	if is.Introspection.URL != "" {
		set(&is.Introspection.Keep, time.Minute)
	}
}

// validateMore checks what is particular to presets and to the other ways of
// proving who one is.
func (is Issuer) validateMore(at string, bad func(path, format string, args ...any)) {
	u, err := url.Parse(is.URL)
	if err != nil {
		return // said already
	}
	p, known := presets[is.Preset]
	switch {
	case is.Preset != "" && !known:
		bad(at+".preset", "%q is not known; choose %s%s", is.Preset, strings.Join(Presets(), ", "), suggest(is.Preset, Presets()))
	case known && !p.ok(u):
		bad(at+".url", "%q is not the issuer of a %s token; want %s", is.URL, is.Preset, p.form)
	}
	pin := public[u.Hostname()]
	if known && p.pin != "" && (pin != "" || is.Preset == "github" || is.Preset == "google") {
		pin = p.pin
	}
	if pin != "" && len(is.Claims.Require[pin]) == 0 {
		bad(at+".claims", "anybody can get a token of %s; say whose are believed with claims.require, such as require: {%s: [yours]}", is.URL, pin)
	}
	for claim, values := range is.Claims.Require {
		if len(values) == 0 || slices.Contains(values, "") || slices.Contains(values, "*") {
			bad(at+".claims", "require: %s must list the values that are believed", claim)
		}
	}
	if is.Outage < 0 || is.Outage > 30*24*time.Hour {
		bad(at+".outage", "%s is outside 0s to 720h", is.Outage)
	}
	if i := is.Introspection; i.URL != "" {
		ask, err := url.Parse(i.URL)
		if err != nil || ask.Host == "" || ask.Scheme != "https" && !(ask.Scheme == "http" && loopback(ask.Hostname())) {
			bad(at+".introspection", "url %q is not an https URL", i.URL)
		}
		if i.ID != "" && i.Secret == (Secret{}) {
			bad(at+".introspection", "client_id has no client_secret; set env or file")
		}
		if i.Keep < 0 || i.Keep > time.Hour {
			bad(at+".introspection", "cache %s is outside 0s to 1h; a token that is taken back stays good that long", i.Keep)
		}
	}
}

func (c *Config) identityDefaults() {
	for i := range c.Identity.Issuers {
		c.Identity.Issuers[i].defaults()
	}
	for i := range c.Identity.Keys {
		k := &c.Identity.Keys[i]
		set(&k.Subject, k.Name)
		set(&k.Kind, "workload")
	}
	set(&c.Identity.MTLS.Kind, "workload")
	c.samlDefaults()
}

// validateAdministrators wants those who have power over the gateway itself
// written with their issuer, where somebody of another may have the same name.
func (c *Config) validateAdministrators(bad func(path, format string, args ...any)) {
	issuers := c.Issuers()
	if len(issuers) < 2 {
		return
	}
	for path, list := range map[string]Approvers{"control.administrators": c.Control.Administrators, "audit.administrators": c.Audit.Administrators,
		"audit.unseal.investigators": c.Audit.Unseal.Investigators, "audit.unseal.approvers": c.Audit.Unseal.Approvers} {
		for what, names := range map[string][]string{"groups": list.Groups, "people": list.People} {
			for _, name := range names {
				if Bare(name) {
					bad(path+"."+what, "%v", ambiguous(name, issuers))
				}
			}
		}
	}
}

func (c *Config) validateIdentity(bad func(path, format string, args ...any)) {
	kinds := []string{"human", "ci", "agent", "workload"}
	asked := 0
	for i, is := range c.Identity.Issuers {
		is.validateMore(fmt.Sprintf("identity.issuers[%d]", i), bad)
		if is.Introspection.URL != "" {
			if asked++; asked > 1 {
				bad(fmt.Sprintf("identity.issuers[%d].introspection", i), "only one issuer can be asked about tokens that don't say whose they are")
			}
		}
	}
	c.validateAdministrators(bad)
	names := map[string]bool{}
	for i, k := range c.Identity.Keys {
		at := fmt.Sprintf("identity.keys[%d]", i)
		switch {
		case k.Name == "":
			bad(at, "name is missing; audit rows name the key")
		case names[k.Name]:
			bad(at+".name", "key %q stands twice", k.Name)
		}
		names[k.Name] = true
		if len(k.Hash) != 64 || strings.Trim(k.Hash, "0123456789abcdef") != "" {
			bad(at+".hash", "must be the SHA-256 of the key in hexadecimal; callgate identity key makes both")
		}
		if !slices.Contains(kinds, k.Kind) {
			bad(at+".kind", "%q is not known; choose %s", k.Kind, strings.Join(kinds, ", "))
		}
	}
	if h := c.Identity.KeyHeader; h != "" && (!headerForm.MatchString(h) || h == "authorization" || h == "dpop") {
		bad("identity.key_header", "%q must be a lower-case header name, other than authorization", h)
	}
	c.validateSAML(bad)
	m := c.Identity.MTLS
	if m.CAFile == "" && (len(m.TrustDomains) > 0 || len(m.Groups) > 0) {
		bad("identity.mtls", "ca_file is missing; without it no certificate is believed")
	}
	if !slices.Contains(kinds, m.Kind) {
		bad("identity.mtls.kind", "%q is not known; choose %s", m.Kind, strings.Join(kinds, ", "))
	}
	if t := c.Envoy.TLS; t.ClientCAFile == "" && t.RequireClientCertificate {
		bad("envoy.tls.require_client_certificate", "needs client_ca_file, which says whose certificates are taken")
	} else if t.ClientCAFile != "" && t.CertFile == "" {
		bad("envoy.tls.client_ca_file", "needs cert_file and key_file: a client shows a certificate over TLS only")
	}
}
