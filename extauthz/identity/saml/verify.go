package saml

import (
	"slices"
	"strings"
	"time"

	"github.com/crewjam/saml"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/extauthz/identity"
)

// verify reads an assertion that nobody has seen yet.
func (v *Verifier) verify(text string, now time.Time) (Assertion, *provider, uint64, *identity.Error) {
	none := func(bad *identity.Error) (Assertion, *provider, uint64, *identity.Error) {
		return Assertion{}, nil, 0, bad
	}
	data, bad := decode(text)
	if bad == nil {
		bad = plain(data)
	}
	if bad != nil {
		return none(bad)
	}
	root, issuer, bad := unsigned(data)
	if bad != nil {
		return none(bad)
	}
	p, known := v.providers[issuer]
	if !known {
		return none(refuse("the assertion's issuer is not one that is believed here; add it under identity.saml"))
	}
	generation, trusted := p.generation.Load(), p.trusted.Load()
	if !trusted.current(now) {
		return none(&identity.Error{Reason: call.ReasonIdentityUnavailable, Message: "the assertion can't be checked now: the metadata of its issuer is no longer valid; its operator must renew it"})
	}
	signed, bad := signedBy(root, trusted.certificates, now)
	if bad != nil {
		return none(bad)
	}
	out, bad := p.read(signed, now, v.cfg.ClockSkew)
	if bad != nil {
		return none(bad)
	}
	return out, p, generation, nil
}

// read makes an identity of what was signed (RFC 7522 §3).
func (p *provider) read(a *saml.Assertion, now time.Time, skew time.Duration) (Assertion, *identity.Error) {
	none := func(format string, args ...any) (Assertion, *identity.Error) {
		return Assertion{}, refuse(format, args...)
	}
	c := a.Conditions
	switch {
	case a.Issuer.Value != p.EntityID, a.Version != "2.0", a.ID == "":
		return none("the document is not a SAML 2.0 assertion of its issuer")
	case a.Subject == nil || a.Subject.NameID == nil && p.Subject == "":
		return none("the assertion names nobody: it has no NameID")
	case c == nil:
		return none("the assertion has no Conditions")
	case len(c.UnknownConditions) > 0:
		return none("the assertion has a condition that is not known here")
	case a.IssueInstant.After(now.Add(skew)), c.NotBefore.After(now.Add(skew)):
		return none("the assertion is not valid yet; check the clocks")
	case !c.NotOnOrAfter.IsZero() && !now.Before(c.NotOnOrAfter.Add(skew)):
		return Assertion{}, expired("the assertion has expired; get a new one")
	case !p.audience(c.AudienceRestrictions):
		return none("the assertion is not meant for this service: its audience must be one of %s", strings.Join(p.Audiences, ", "))
	}
	ends, bad := p.confirmed(a.Subject.SubjectConfirmations, now, skew)
	if bad != nil {
		return Assertion{}, bad
	}
	if !c.NotOnOrAfter.IsZero() && c.NotOnOrAfter.Before(ends) {
		ends = c.NotOnOrAfter
	}
	var session string
	for _, s := range a.AuthnStatements {
		if s.SessionIndex != "" {
			session = s.SessionIndex
		}
		if end := s.SessionNotOnOrAfter; end != nil {
			if !now.Before(end.Add(skew)) {
				return Assertion{}, expired("the session that the assertion is of has ended; log in again")
			}
			if end.Before(ends) {
				ends = *end
			}
		}
	}
	id, bad := p.identity(a, ends, session)
	if bad != nil {
		return Assertion{}, bad
	}
	out := Assertion{Identity: id, OneTime: c.OneTimeUse != nil}
	if r := c.ProxyRestriction; r != nil {
		out.Final = r.Count != nil && *r.Count == 0 || len(r.Audiences) > 0
	}
	return out, nil
}

// audience reports whether each restriction lets this service in.
func (p *provider) audience(all []saml.AudienceRestriction) bool {
	for _, r := range all {
		if !slices.ContainsFunc(r.AllAudiences(), func(a saml.Audience) bool { return slices.Contains(p.Audiences, a.Value) }) {
			return false
		}
	}
	return len(all) > 0
}

// confirmed looks for a confirmation that this service may go by, and returns
// when it ends.
func (p *provider) confirmed(all []saml.SubjectConfirmation, now time.Time, skew time.Duration) (time.Time, *identity.Error) {
	bad := refuse("the assertion has no bearer confirmation (SubjectConfirmation)")
	for _, c := range all {
		if c.Method != bearer {
			continue
		}
		d := c.SubjectConfirmationData
		switch {
		case d == nil || d.NotOnOrAfter.IsZero():
			bad = refuse("the assertion's bearer confirmation has no end (NotOnOrAfter)")
		case d.Recipient != p.Recipient:
			bad = refuse("the assertion is addressed to somebody else: its Recipient must be %s", p.Recipient)
		case d.InResponseTo != "":
			bad = refuse("the assertion answers a request that this gateway did not make (InResponseTo)")
		case d.NotBefore.After(now.Add(skew)):
			bad = refuse("the assertion is not valid yet; check the clocks")
		case !now.Before(d.NotOnOrAfter.Add(skew)):
			bad = expired("the assertion has expired; get a new one")
		default:
			return d.NotOnOrAfter, nil
		}
	}
	return time.Time{}, bad
}

// identity maps names and attributes.
func (p *provider) identity(a *saml.Assertion, ends time.Time, session string) (call.Identity, *identity.Error) {
	values := map[string]any{}
	for _, s := range a.AttributeStatements {
		for _, attr := range s.Attributes {
			list, _ := values[attr.Name].([]any)
			for _, v := range attr.Values {
				if text := strings.TrimSpace(v.Value); text != "" {
					list = append(list, text)
				}
			}
			values[attr.Name] = list
		}
	}
	id := call.Identity{Issuer: p.EntityID, Kind: p.DefaultKind, Method: "saml", TokenID: a.ID, Expires: ends}
	if p.Subject == "" {
		if a.Subject.NameID.Format == transient {
			return call.Identity{}, refuse("the assertion's NameID is transient, which names nobody for long; have the provider send a persistent one, or map an attribute (attributes.subject)")
		}
		id.Subject = a.Subject.NameID.Value
	} else if list := texts(values[p.Subject]); len(list) == 1 {
		id.Subject = list[0]
	} else {
		return call.Identity{}, refuse("the assertion must have the attribute %q, which names its subject, with one value", p.Subject)
	}
	if id.Subject == "" || id.Subject != strings.TrimSpace(id.Subject) {
		return call.Identity{}, refuse("the assertion names nobody: its subject is empty or has white space around it")
	}
	id.Groups = texts(values[p.Groups])
	switch said := texts(values[p.Kind]); {
	case len(said) == 0:
	case len(said) == 1 && slices.Contains([]call.Kind{call.Human, call.CI, call.Agent, call.Workload}, call.Kind(said[0])):
		id.Kind = call.Kind(said[0])
	default:
		return call.Identity{}, refuse("the assertion's attribute %q is not human, ci, agent or workload", p.Kind)
	}
	id.Claims = map[string]any{"iss": id.Issuer, "sub": id.Subject, "jti": a.ID, "iat": a.IssueInstant.Unix(), "exp": ends.Unix(), "attributes": values}
	if session != "" {
		id.Claims["sid"] = session
	}
	return id, nil
}

func texts(v any) []string {
	list, _ := v.([]any)
	var out []string
	for _, e := range list {
		if s, ok := e.(string); ok {
			out = append(out, s)
		}
	}
	return out
}
