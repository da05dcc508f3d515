package config

import (
	"fmt"
	"strings"
)

// Issuers are those whose subjects and groups are somebody else's to name: of two,
// each may have an alice. API keys don't count, since their subjects and groups
// stand in this very file.
func (c *Config) Issuers() []string {
	var out []string
	for _, is := range c.Identity.Issuers {
		out = append(out, is.URL)
	}
	for _, p := range c.Identity.SAML {
		out = append(out, p.EntityID)
	}
	switch m := c.Identity.MTLS; {
	case len(m.TrustDomains) > 0:
		for _, d := range m.TrustDomains {
			out = append(out, "spiffe://"+d)
		}
	case m.CAFile != "":
		out = append(out, "callgate://certificates")
	}
	return out
}

// Bare reports whether a subject or group is written without its issuer.
func Bare(name string) bool {
	colon, bar := strings.IndexByte(name, ':'), strings.IndexByte(name, '|')
	return colon < 0 || bar < colon
}

// Unambiguous tells whose names nobody could tell apart: with more than one
// issuer, those whom a grant is given to, and who may use it for them, must be
// written with theirs.
func (c *Config) Unambiguous(p Policy) error {
	var ps problems
	c.unambiguous(p, &ps)
	return ps.err()
}

func (c *Config) unambiguous(p Policy, ps *problems) {
	issuers := c.Issuers()
	if len(issuers) < 2 {
		return
	}
	for _, g := range p.Grants {
		for path, list := range map[string][]string{"identities": g.Identities, "actors": g.Actors} {
			for _, name := range list {
				if name == "" || name == "*" || !Bare(name) {
					continue
				}
				at, ok := g.at[path]
				if !ok {
					at = g.Position
				}
				ps.add(at, "grant %q: %s: %v", g.Name, path, ambiguous(name, issuers))
			}
		}
	}
}

// Name refuses a subject that could be several people's.
func (c *Config) Name(subject string) error {
	if issuers := c.Issuers(); len(issuers) > 1 && Bare(subject) {
		return ambiguous(subject, issuers)
	}
	return nil
}

func ambiguous(name string, issuers []string) error {
	return fmt.Errorf("%q could be of any of %d issuers; write of which, such as %q", name, len(issuers), issuers[0]+"|"+name)
}
