package config

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
)

// SAML is one SAML 2.0 identity provider whose assertions are believed (RFC 7522).
type SAML struct {
	Name     string `yaml:"name"`      // for logs and errors. Default: the entity id
	EntityID string `yaml:"entity_id"` // as its assertions' Issuer has it. Required
	// MetadataFile is its metadata, or CertificateFile the PEM certificates
	// that it signs with; one is required. Read again when they change.
	MetadataFile    string `yaml:"metadata_file"`
	CertificateFile string `yaml:"certificate_file"`
	// Audiences are this service's names; an assertion must be for one. Required
	Audiences []string `yaml:"audiences"`
	// Recipient is the URL that assertions are addressed to, such as that of
	// /token. Required
	Recipient  string         `yaml:"recipient"`
	Attributes SAMLAttributes `yaml:"attributes"`
	Kind       string         `yaml:"kind"` // of assertions that do not say. Default human
	// ExchangeOnly takes its assertions at /token alone, not on calls. Default false
	ExchangeOnly bool `yaml:"exchange_only"`
}

// SAMLAttributes names the attributes that an identity is read from.
type SAMLAttributes struct {
	Subject string `yaml:"subject"` // default: the NameID
	Groups  string `yaml:"groups"`  // default "groups"
	Kind    string `yaml:"kind"`    // default "kind"
}

// Exchange gives tokens of Callgate's own for those of issuers and providers (RFC
// 8693), at /token of listen.console.
type Exchange struct {
	// Issuer is the URL under which listen.console is reached, without a path.
	// Empty: no tokens are exchanged, and none of Callgate's own are believed.
	Issuer string `yaml:"issuer"`
	// Audiences are those that tokens can be for; the first is the default.
	// Default: callgate
	Audiences []string      `yaml:"audiences"`
	Lifetime  time.Duration `yaml:"lifetime"` // the longest life of a token. Default 5m
	Rotate    time.Duration `yaml:"rotate"`   // how old a signing key may become. Default 720h
	// Store is the file with the signing keys and with the assertions that were
	// exchanged. Default: tokens.db in state_dir; with approvals.postgres, that
	// database, so that all processes with the console take an assertion once.
	Store string `yaml:"store"`
	// CAFile is trusted for the issuer instead of the system's roots, by
	// decision servers that fetch its keys.
	CAFile string `yaml:"ca_file"`
	// Delegation lets some act for others whose tokens do not say so (may_act).
	Delegation []Delegation `yaml:"delegation"`
}

// Delegation lets actors act for subjects.
type Delegation struct {
	Actors   Approvers `yaml:"actors"`
	Subjects Approvers `yaml:"subjects"`
}

func (c *Config) samlDefaults() {
	for i := range c.Identity.SAML {
		p := &c.Identity.SAML[i]
		set(&p.Name, p.EntityID)
		set(&p.Attributes.Groups, "groups")
		set(&p.Attributes.Kind, "kind")
		set(&p.Kind, "human")
	}
	e := &c.Identity.Exchange
	set(&e.Lifetime, 5*time.Minute)
	set(&e.Rotate, 30*24*time.Hour)
	if len(e.Audiences) == 0 {
		e.Audiences = []string{"callgate"}
	}
}

func (c *Config) validateSAML(bad func(path, format string, args ...any)) {
	seen := map[string]bool{}
	for i, p := range c.Identity.SAML {
		at := fmt.Sprintf("identity.saml[%d]", i)
		switch {
		case p.EntityID == "":
			bad(at, "entity_id is missing; it is the provider's name in its metadata and its assertions")
		case seen[p.EntityID]:
			bad(at+".entity_id", "provider %q stands twice", p.EntityID)
		}
		seen[p.EntityID] = true
		if (p.MetadataFile == "") == (p.CertificateFile == "") {
			bad(at, "set metadata_file or certificate_file, and not both; it says what the provider signs with")
		}
		if len(p.Audiences) == 0 || slices.Contains(p.Audiences, "") {
			bad(at, "audiences is missing; without it an assertion meant for another service would be accepted")
		}
		if u, err := url.Parse(p.Recipient); err != nil || u.Host == "" {
			bad(at, "recipient must be the URL that the provider addresses assertions to, such as https://gate.example.com/token")
		}
		if !slices.Contains([]string{"human", "ci", "agent", "workload"}, p.Kind) {
			bad(at+".kind", "%q is not known; choose human, ci, agent, workload", p.Kind)
		}
	}
	h := c.Identity.AssertionHeader
	switch {
	case h == "":
	case !headerForm.MatchString(h) || h == "authorization" || h == "dpop" || h == c.Identity.KeyHeader:
		bad("identity.assertion_header", "%q must be a lower-case header name, other than authorization and key_header", h)
	case len(c.Identity.SAML) == 0:
		bad("identity.assertion_header", "means something with identity.saml only")
	}
	c.Identity.Exchange.validate(c, bad)
}

func (e Exchange) validate(c *Config, bad func(path, format string, args ...any)) {
	const at = "identity.exchange"
	if e.Issuer == "" {
		if len(e.Delegation) > 0 || e.CAFile != "" {
			bad(at, "issuer is missing; it is the URL under which listen.console is reached")
		}
		return
	}
	switch u, err := url.Parse(e.Issuer); {
	case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Path != "" || strings.HasSuffix(e.Issuer, "?") || strings.HasSuffix(e.Issuer, "#"):
		bad(at+".issuer", "%q must be a URL without a path, such as https://gate.example.com", e.Issuer)
	case u.Scheme != "https" && !(u.Scheme == "http" && loopback(u.Hostname())):
		bad(at+".issuer", "%q would send tokens and fetch keys unprotected; use https (http is for loopback only)", e.Issuer)
	}
	if slices.ContainsFunc(c.Identity.Issuers, func(is Issuer) bool { return is.URL == e.Issuer }) {
		bad(at+".issuer", "stands under identity.issuers too; Callgate's own issuer is believed without")
	}
	if slices.Contains(e.Audiences, "") {
		bad(at+".audiences", "an audience is empty")
	}
	if e.Lifetime < 10*time.Second || e.Lifetime > time.Hour {
		bad(at+".lifetime", "%s is outside 10s to 1h; what was exchanged should be short-lived", e.Lifetime)
	}
	if e.Rotate < time.Hour || e.Rotate > 366*24*time.Hour {
		bad(at+".rotate", "%s is outside 1h to 8784h", e.Rotate)
	}
	for i, d := range e.Delegation {
		if len(d.Actors.People)+len(d.Actors.Groups) == 0 || len(d.Subjects.People)+len(d.Subjects.Groups) == 0 {
			bad(fmt.Sprintf("%s.delegation[%d]", at, i), "must name actors and subjects, by groups or people; it lets the ones act for the others")
		}
	}
}
