package saml

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"encoding/xml"
	"errors"
	"log/slog"
	"math/big"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/beevik/etree"
	"github.com/crewjam/saml"
	dsig "github.com/russellhaering/goxmldsig"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/extauthz/identity"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const (
	skew      = 30 * time.Second
	entity    = "https://idp.example.com/saml"
	recipient = "https://gate.example.com/token"
)

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// signer is a provider's key.
type signer struct {
	key  *rsa.PrivateKey
	cert *x509.Certificate
}

func newSigner(t testing.TB, bits int, until time.Time) signer {
	t.Helper()
	key := must(rsa.GenerateKey(rand.Reader, bits))(t)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "idp"}, NotBefore: start.Add(-time.Hour), NotAfter: until}
	der := must(x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key))(t)
	return signer{key, must(x509.ParseCertificate(der))(t)}
}

func (s signer) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.cert.Raw})
}

// sign signs an element as providers do, with its certificate beside.
func (s signer) sign(t testing.TB, el *etree.Element, method string) *etree.Element {
	t.Helper()
	ctx := must(dsig.NewSigningContext(s.key, [][]byte{s.cert.Raw}))(t)
	ctx.Canonicalizer = dsig.MakeC14N10ExclusiveCanonicalizerWithPrefixList("")
	if method != "" {
		if err := ctx.SetSignatureMethod(method); err != nil {
			t.Fatal(err)
		}
	}
	sig := must(ctx.ConstructSignature(el, true))(t)
	out := el.Copy()
	out.InsertChildAt(1, sig) // after Issuer, as the schema has it
	return out
}

func text(t testing.TB, el *etree.Element) string {
	t.Helper()
	doc := etree.NewDocument()
	doc.SetRoot(el.Copy())
	return must(doc.WriteToString())(t)
}

func encode(xml string) string { return base64.RawURLEncoding.EncodeToString([]byte(xml)) }

// assertion is a good one, of ann.
func assertion() *saml.Assertion {
	end := start.Add(2 * time.Hour)
	return &saml.Assertion{ID: "_a1", IssueInstant: start, Version: "2.0", Issuer: saml.Issuer{Value: entity},
		Subject: &saml.Subject{NameID: &saml.NameID{Format: "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent", Value: "ann"},
			SubjectConfirmations: []saml.SubjectConfirmation{{Method: bearer, SubjectConfirmationData: &saml.SubjectConfirmationData{Recipient: recipient, NotOnOrAfter: start.Add(10 * time.Minute)}}}},
		Conditions: &saml.Conditions{NotBefore: start.Add(-time.Minute), NotOnOrAfter: start.Add(time.Hour),
			AudienceRestrictions: []saml.AudienceRestriction{{Audience: saml.Audience{Value: "callgate"}}}},
		AuthnStatements: []saml.AuthnStatement{{AuthnInstant: start, SessionIndex: "s-1", SessionNotOnOrAfter: &end}},
		AttributeStatements: []saml.AttributeStatement{{Attributes: []saml.Attribute{
			{Name: "groups", Values: []saml.AttributeValue{{Type: "xs:string", Value: "support"}, {Type: "xs:string", Value: "admins"}}},
			{Name: "mail", Values: []saml.AttributeValue{{Type: "xs:string", Value: "ann@example.com"}}}}}},
	}
}

type rig struct {
	*Verifier
	idp  signer
	now  time.Time
	file string
}

func newRig(t testing.TB, change ...func(*Provider)) *rig {
	t.Helper()
	r := &rig{idp: newSigner(t, 2048, start.Add(24*time.Hour)), now: start, file: filepath.Join(t.TempDir(), "idp.pem")}
	must(0, os.WriteFile(r.file, r.idp.pem(), 0o600))(t)
	p := Provider{Name: "corp", EntityID: entity, CertificateFile: r.file, Audiences: []string{"callgate"}, Recipient: recipient, Groups: "groups", Kind: "kind", DefaultKind: call.Human}
	for _, f := range change {
		f(&p)
	}
	r.Verifier = must(New(Config{Providers: []Provider{p}, ClockSkew: skew, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return r.now }}))(t)
	return r
}

func (r *rig) signed(t testing.TB, change func(*saml.Assertion)) string {
	t.Helper()
	a := assertion()
	if change != nil {
		change(a)
	}
	return text(t, r.idp.sign(t, a.Element(), ""))
}

// refused checks that a refusal quotes nothing of the assertion's people.
func refused(t *testing.T, id call.Identity, err error, want call.Reason) string {
	t.Helper()
	var known *identity.Error
	if !errors.As(err, &known) {
		t.Fatalf("got %+v, %v; want a refusal as %s", id, err, want)
	}
	if known.Reason != want || known.Message == "" || id.Subject != "" {
		t.Errorf("reason %s (%s), want %s; identity %+v", known.Reason, known.Message, want, id)
	}
	if strings.Contains(known.Message, "ann") || strings.Contains(known.Message, "mallory") {
		t.Errorf("the message quotes the assertion: %s", known.Message)
	}
	return known.Message
}

func TestGoodAssertion(t *testing.T) {
	r := newRig(t)
	id, err := r.Verify(t.Context(), encode(r.signed(t, nil)))
	if err != nil {
		t.Fatal(err)
	}
	if id.Subject != "ann" || id.Issuer != entity || id.Kind != call.Human || id.Method != "saml" || id.TokenID != "_a1" || !id.Expires.Equal(start.Add(10*time.Minute)) ||
		strings.Join(id.Groups, " ") != "support admins" || id.Claims["sid"] != "s-1" {
		t.Errorf("%+v", id)
	}
	// Padding is allowed, and a repetition on calls is.
	if _, err := r.Verify(t.Context(), base64.URLEncoding.EncodeToString([]byte(r.signed(t, nil)))); err != nil {
		t.Error(err)
	}
	// By attribute.
	r = newRig(t, func(p *Provider) { p.Subject = "mail" })
	if id, err := r.Verify(t.Context(), encode(r.signed(t, nil))); err != nil || id.Subject != "ann@example.com" {
		t.Errorf("%+v, %v", id, err)
	}
}

// One line a case: what a provider signed that must not count.
func TestSignedButRefused(t *testing.T) {
	r := newRig(t)
	confirmation := func(a *saml.Assertion) *saml.SubjectConfirmationData {
		return a.Subject.SubjectConfirmations[0].SubjectConfirmationData
	}
	for name, c := range map[string]struct {
		change func(*saml.Assertion)
		want   call.Reason
	}{
		"another issuer":          {func(a *saml.Assertion) { a.Issuer.Value = entity + "/" }, call.ReasonInvalidToken},
		"no subject":              {func(a *saml.Assertion) { a.Subject = nil }, call.ReasonInvalidToken},
		"no NameID":               {func(a *saml.Assertion) { a.Subject.NameID = nil }, call.ReasonInvalidToken},
		"empty NameID":            {func(a *saml.Assertion) { a.Subject.NameID.Value = "" }, call.ReasonInvalidToken},
		"NameID with white space": {func(a *saml.Assertion) { a.Subject.NameID.Value = "ann " }, call.ReasonInvalidToken},
		"transient NameID":        {func(a *saml.Assertion) { a.Subject.NameID.Format = transient }, call.ReasonInvalidToken},
		"no conditions":           {func(a *saml.Assertion) { a.Conditions = nil }, call.ReasonInvalidToken},
		"another audience":        {func(a *saml.Assertion) { a.Conditions.AudienceRestrictions[0].Audience.Value = "callgate2" }, call.ReasonInvalidToken},
		"no audience":             {func(a *saml.Assertion) { a.Conditions.AudienceRestrictions = nil }, call.ReasonInvalidToken},
		"a second restriction without us": {func(a *saml.Assertion) {
			a.Conditions.AudienceRestrictions = append(a.Conditions.AudienceRestrictions, saml.AudienceRestriction{Audience: saml.Audience{Value: "x"}})
		}, call.ReasonInvalidToken},
		"expired":              {func(a *saml.Assertion) { a.Conditions.NotOnOrAfter = start.Add(-skew) }, call.ReasonExpiredToken},
		"not yet valid":        {func(a *saml.Assertion) { a.Conditions.NotBefore = start.Add(skew + time.Second) }, call.ReasonInvalidToken},
		"issued in the future": {func(a *saml.Assertion) { a.IssueInstant = start.Add(skew + time.Second) }, call.ReasonInvalidToken},
		"no confirmation":      {func(a *saml.Assertion) { a.Subject.SubjectConfirmations = nil }, call.ReasonInvalidToken},
		"holder of key": {func(a *saml.Assertion) {
			a.Subject.SubjectConfirmations[0].Method = "urn:oasis:names:tc:SAML:2.0:cm:holder-of-key"
		}, call.ReasonInvalidToken},
		"sender vouches": {func(a *saml.Assertion) {
			a.Subject.SubjectConfirmations[0].Method = "urn:oasis:names:tc:SAML:2.0:cm:sender-vouches"
		}, call.ReasonInvalidToken},
		"confirmation without data": {func(a *saml.Assertion) { a.Subject.SubjectConfirmations[0].SubjectConfirmationData = nil }, call.ReasonInvalidToken},
		"another recipient":         {func(a *saml.Assertion) { confirmation(a).Recipient = recipient + "/x" }, call.ReasonInvalidToken},
		"no recipient":              {func(a *saml.Assertion) { confirmation(a).Recipient = "" }, call.ReasonInvalidToken},
		"confirmation without end":  {func(a *saml.Assertion) { confirmation(a).NotOnOrAfter = time.Time{} }, call.ReasonInvalidToken},
		"confirmation over":         {func(a *saml.Assertion) { confirmation(a).NotOnOrAfter = start.Add(-skew) }, call.ReasonExpiredToken},
		"confirmation not begun":    {func(a *saml.Assertion) { confirmation(a).NotBefore = start.Add(skew + time.Second) }, call.ReasonInvalidToken},
		"answers a request":         {func(a *saml.Assertion) { confirmation(a).InResponseTo = "_r1" }, call.ReasonInvalidToken},
		"session over":              {func(a *saml.Assertion) { end := start.Add(-skew); a.AuthnStatements[0].SessionNotOnOrAfter = &end }, call.ReasonExpiredToken},
		"one use only":              {func(a *saml.Assertion) { a.Conditions.OneTimeUse = &saml.OneTimeUse{} }, call.ReasonInvalidToken},
		"an unknown kind": {func(a *saml.Assertion) {
			a.AttributeStatements[0].Attributes = append(a.AttributeStatements[0].Attributes, saml.Attribute{Name: "kind", Values: []saml.AttributeValue{{Value: "root"}}})
		}, call.ReasonInvalidToken},
	} {
		t.Run(name, func(t *testing.T) {
			id, err := r.Verify(t.Context(), encode(r.signed(t, c.change)))
			refused(t, id, err, c.want)
		})
	}
	old := assertion().Element()
	old.CreateAttr("Version", "1.1")
	id, err := r.Verify(t.Context(), encode(text(t, r.idp.sign(t, old, ""))))
	refused(t, id, err, call.ReasonInvalidToken)
	// Within the skew all of it counts, to the second.
	for name, change := range map[string]func(*saml.Assertion){
		"expired within": func(a *saml.Assertion) { a.Conditions.NotOnOrAfter = start.Add(-skew + time.Second) },
		"begins within":  func(a *saml.Assertion) { a.Conditions.NotBefore = start.Add(skew) },
		"a second confirmation that fits": func(a *saml.Assertion) {
			a.Subject.SubjectConfirmations = append([]saml.SubjectConfirmation{{Method: bearer, SubjectConfirmationData: &saml.SubjectConfirmationData{Recipient: "x", NotOnOrAfter: start.Add(time.Hour)}}}, a.Subject.SubjectConfirmations...)
		},
	} {
		if _, err := r.Verify(t.Context(), encode(r.signed(t, change))); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// One line a case: a document that was changed after it was signed, or that was
// never signed as it must be.
func TestForgedAssertions(t *testing.T) {
	r := newRig(t)
	good := r.signed(t, nil)
	stranger := newSigner(t, 2048, start.Add(time.Hour))
	swap := func(old, new string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("%q is not in the assertion", old)
		}
		return strings.Replace(good, old, new, 1)
	}
	bare := func(method string) string { return text(t, r.idp.sign(t, assertion().Element(), method)) }
	for name, doc := range map[string]string{
		"another name":                 swap(">ann<", ">mallory<"),
		"another group":                swap(">support<", ">root<"),
		"another audience":             swap(">callgate<", ">other<"),
		"a comment in the name":        swap(">ann<", ">a<!-- x -->nn<"),
		"a comment that cuts the name": strings.Replace(r.signed(t, func(a *saml.Assertion) { a.Subject.NameID.Value = "ann.evil.example" }), "ann.evil", "ann<!---->.evil", 1),
		"a DTD":                        `<!DOCTYPE x [<!ENTITY e "ann">]>` + good,
		"an entity":                    swap(">ann<", ">&e;<"),
		"an external entity":           `<!DOCTYPE x SYSTEM "http://evil.example/x.dtd">` + good,
		"entities inside each other":   `<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>` + swap(">ann<", ">&b;<"),
		"a processing instruction":     swap(">ann<", "><?x y?>ann<"),
		"CDATA":                        swap(">ann<", "><![CDATA[mallory]]><"),
		"not signed":                   text(t, assertion().Element()),
		"a stranger's signature":       text(t, stranger.sign(t, assertion().Element(), "")),
		"SHA-1":                        bare(dsig.RSASHA1SignatureMethod),
		"signature method renamed":     swap("xmldsig-more#rsa-sha256", "xmldsig-more#hmac-sha256"),
		"digest method renamed":        swap("xmlenc#sha256", "xmldsig#sha1"),
		"another reference":            swap(`URI="#_a1"`, `URI=""`),
		"a reference by XPointer":      swap(`URI="#_a1"`, `URI="#xpointer(/)"`),
		"an ID changed":                swap(`ID="_a1"`, `ID="_a2"`),
		"an ID twice":                  swap("<saml:Conditions ", `<saml:Conditions ID="_a1" `),
		"an id twice in other case":    swap("<saml:Conditions ", `<saml:Conditions id="_a1" `),
		"an XSLT transform":            swap(enveloped, "http://www.w3.org/TR/1999/REC-xslt-19991116"),
		"another transform more":       swap("<ds:Transforms>", `<ds:Transforms><ds:Transform Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"/>`),
		"inclusive canonical XML":      strings.ReplaceAll(good, exclusive, "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"),
		"a second signature value":     swap("</ds:SignedInfo>", "</ds:SignedInfo><ds:SignatureValue>AAAA</ds:SignatureValue>"),
		"a second SignedInfo":          swap("<ds:SignedInfo>", "<ds:SignedInfo></ds:SignedInfo><ds:SignedInfo>"),
		"an element more":              swap("<saml:Conditions ", "<saml:AttributeStatement><saml:Attribute Name=\"groups\"><saml:AttributeValue>root</saml:AttributeValue></saml:Attribute></saml:AttributeStatement><saml:Conditions "),
		"encrypted":                    `<saml:EncryptedAssertion xmlns:saml="` + namespace + `"><x/></saml:EncryptedAssertion>`,
		"a response around it":         `<samlp:Response xmlns:samlp="urn:oasis:names:tc:SAML:2.0:protocol">` + good + `</samlp:Response>`,
		"another namespace":            strings.ReplaceAll(good, namespace, "urn:oasis:names:tc:SAML:1.0:assertion"),
		"two roots":                    good + good,
		"text after it":                good + "x",
		"deep":                         strings.Repeat("<a>", 1000) + strings.Repeat("</a>", 1000),
		"wide":                         "<a>" + strings.Repeat("<b/>", 5000) + "</a>",
		"UTF-16 as it says":            `<?xml version="1.0" encoding="UTF-16"?>` + good,
		"UTF-7 as it says":             `<?xml version="1.0" encoding="UTF-7"?>` + good,
		"not UTF-8":                    swap(">ann<", ">ann\xff<"),
		"an attribute twice":           swap(`Version="2.0"`, `Version="2.0" Version="2.0"`),
		"not closed":                   good[:len(good)-5],
		"large":                        swap(">ann<", ">"+strings.Repeat("a", MaxAssertion)+"<"),
		"no XML":                       "ann",
		"nothing":                      "",
		"metadata for an assertion":    `<EntityDescriptor xmlns="urn:oasis:names:tc:SAML:2.0:metadata" entityID="x"/>`,
	} {
		t.Run(name, func(t *testing.T) {
			for range 2 { // a refusal must not be remembered as good
				id, err := r.Verify(t.Context(), encode(doc))
				refused(t, id, err, call.ReasonInvalidToken)
			}
		})
	}
	for name, wire := range map[string]string{"base64 with + and /": base64.StdEncoding.EncodeToString([]byte(good + "???>>>")), "line breaks": encode(good)[:40] + "\n" + encode(good)[40:],
		"plain XML": good, "half a byte more": encode(good) + "A"} {
		id, err := r.Verify(t.Context(), wire)
		t.Run(name, func(t *testing.T) { refused(t, id, err, call.ReasonInvalidToken) })
	}
	if _, err := r.Verify(t.Context(), encode(good)); err != nil {
		t.Errorf("the assertion that the others are made of: %v", err)
	}
}

// The wrapping attacks of Somorovsky et al., "On Breaking SAML" (2012), XSW1 to
// XSW8, with responses and without, and some more: each shows mallory's assertion
// beside ann's signed one.
func TestSignatureWrapping(t *testing.T) {
	r := newRig(t)
	signed := func() *etree.Element {
		doc := etree.NewDocument()
		if err := doc.ReadFromString(r.signed(t, nil)); err != nil {
			t.Fatal(err)
		}
		return doc.Root()
	}
	evil := func() *etree.Element {
		a := assertion()
		a.ID, a.Subject.NameID.Value = "_evil", "mallory"
		return a.Element()
	}
	signature := func(of *etree.Element) *etree.Element { return child(of, dsig.Namespace, "Signature") }
	unsignedOf := func(el *etree.Element) *etree.Element {
		el = el.Copy()
		el.RemoveChild(signature(el))
		return el
	}
	object := func(el *etree.Element) *etree.Element {
		o := etree.NewElement("ds:Object")
		o.AddChild(el)
		return o
	}
	wrap := func(tag string, inner ...*etree.Element) *etree.Element {
		e := etree.NewElement(tag)
		e.CreateAttr("xmlns:samlp", "urn:oasis:names:tc:SAML:2.0:protocol")
		e.CreateAttr("xmlns:saml", namespace)
		for _, i := range inner {
			e.AddChild(i)
		}
		return e
	}
	for name, build := range map[string]func() *etree.Element{
		"XSW1: a response, the signed one in its signature": func() *etree.Element {
			s := signed()
			sig := signature(s).Copy()
			sig.AddChild(object(wrap("samlp:Response", unsignedOf(s))))
			return wrap("samlp:Response", sig, evil())
		},
		"XSW2: a response, detached": func() *etree.Element {
			s := signed()
			return wrap("samlp:Response", wrap("samlp:Response", unsignedOf(s)), signature(s).Copy(), evil())
		},
		"XSW3: beside, before": func() *etree.Element { return wrap("samlp:Response", evil(), signed()) },
		"XSW3 without a response": func() *etree.Element {
			e := evil()
			e.InsertChildAt(1, signed())
			return e
		},
		"XSW4: around": func() *etree.Element { e := evil(); e.AddChild(signed()); return e },
		"XSW5: the signature moved, the signed one after": func() *etree.Element {
			s, e := signed(), evil()
			e.InsertChildAt(1, signature(s).Copy())
			return wrap("samlp:Response", e, unsignedOf(s))
		},
		"XSW5 without a response": func() *etree.Element {
			s, e := signed(), evil()
			e.InsertChildAt(1, signature(s).Copy())
			e.AddChild(unsignedOf(s))
			return e
		},
		"XSW6: the signed one inside the moved signature": func() *etree.Element {
			s, e := signed(), evil()
			sig := signature(s).Copy()
			sig.AddChild(unsignedOf(s))
			e.InsertChildAt(1, sig)
			return e
		},
		"XSW7: in an extension": func() *etree.Element {
			return wrap("samlp:Response", wrap("samlp:Extensions", signed()), evil())
		},
		"XSW8: in the signature's object": func() *etree.Element {
			s, e := signed(), evil()
			sig := signature(s).Copy()
			sig.AddChild(object(unsignedOf(s)))
			e.InsertChildAt(1, sig)
			return e
		},
		"the signature alone, moved": func() *etree.Element {
			s, e := signed(), evil()
			e.InsertChildAt(1, signature(s).Copy())
			return e
		},
		"the same ID": func() *etree.Element {
			s, e := signed(), evil()
			e.CreateAttr("ID", "_a1")
			e.InsertChildAt(1, signature(s).Copy())
			return e
		},
		"the same ID, the signed one in Advice": func() *etree.Element {
			s, e := signed(), evil()
			e.CreateAttr("ID", "_a1")
			e.InsertChildAt(1, signature(s).Copy())
			e.AddChild(wrap("saml:Advice", unsignedOf(s)))
			return e
		},
		"the signed one under another name in Advice": func() *etree.Element {
			s, e := signed(), evil()
			e.InsertChildAt(1, signature(s).Copy())
			inner := unsignedOf(s)
			inner.Tag = "Evidence"
			e.AddChild(wrap("saml:Advice", inner))
			return e
		},
		"the signature deeper": func() *etree.Element {
			s := signed()
			sig := signature(s).Copy()
			s.RemoveChild(signature(s))
			s.AddChild(wrap("saml:Advice", sig))
			return s
		},
		"a subject more": func() *etree.Element {
			s := signed()
			s.AddChild(evil().FindElement("./Subject").Copy())
			return s
		},
		"a subject in another namespace's prefix": func() *etree.Element {
			s := signed()
			sub := evil().FindElement("./Subject").Copy()
			sub.Space = "x"
			sub.CreateAttr("xmlns:x", namespace)
			s.InsertChildAt(1, sub)
			return s
		},
	} {
		t.Run(name, func(t *testing.T) {
			id, err := r.Verify(t.Context(), encode(text(t, build())))
			refused(t, id, err, call.ReasonInvalidToken)
		})
	}
	// What the structure lets through is still read from the signed bytes alone.
	root := signed()
	s := signature(root)
	info := s.SelectElement("KeyInfo")
	info.AddChild(wrap("saml:NameID"))
	if id, err := r.Verify(t.Context(), encode(text(t, root))); err != nil || id.Subject != "ann" {
		t.Errorf("with something in KeyInfo: %+v, %v", id, err)
	}
}

func TestCertificatesChange(t *testing.T) {
	r := newRig(t)
	wire := encode(r.signed(t, nil))
	if _, err := r.Verify(t.Context(), wire); err != nil {
		t.Fatal(err)
	}
	next := newSigner(t, 2048, start.Add(time.Hour))
	must(0, os.WriteFile(r.file, append(next.pem(), r.idp.pem()...), 0o600))(t)
	must(0, r.providers[entity].load())(t)
	if _, err := r.Verify(t.Context(), wire); err != nil {
		t.Errorf("with both certificates: %v", err)
	}
	must(0, os.WriteFile(r.file, next.pem(), 0o600))(t)
	must(0, r.providers[entity].load())(t)
	// It was verified before, and is refused all the same.
	id, err := r.Verify(t.Context(), wire)
	refused(t, id, err, call.ReasonInvalidToken)
	r.now = start.Add(2 * time.Hour)
	r.idp = next
	id, err = r.Verify(t.Context(), encode(r.signed(t, nil)))
	if msg := refused(t, id, err, call.ReasonInvalidToken); !strings.Contains(msg, "expired") {
		t.Errorf("with an expired certificate: %s", msg)
	}
}

func TestFilesThatCannotBeTrusted(t *testing.T) {
	dir := t.TempDir()
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: start}
	ec := must(x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key))(t)
	for name, c := range map[string]struct {
		content, want string
		metadata      bool
	}{
		"empty":          {"", "no PEM certificate", false},
		"a private key":  {"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "certificates only", false},
		"a short key":    {string(newSigner(t, 1024, start).pem()), "1024 bits", false},
		"an EC key":      {string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ec})), "RSA", false},
		"no metadata":    {"x", "no SAML metadata", true},
		"another entity": {`<EntityDescriptor xmlns="urn:oasis:names:tc:SAML:2.0:metadata" entityID="https://x"/>`, "is of entity", true},
		"no certificate": {`<EntityDescriptor xmlns="urn:oasis:names:tc:SAML:2.0:metadata" entityID="` + entity + `"/>`, "no signing certificate", true},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(dir, "f")
			must(0, os.WriteFile(file, []byte(c.content), 0o600))(t)
			p := Provider{Name: "corp", EntityID: entity, CertificateFile: file}
			if c.metadata {
				p.MetadataFile, p.CertificateFile = file, ""
			}
			if _, err := New(Config{Providers: []Provider{p}}); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v; want %q", err, c.want)
			}
		})
	}
}

// An identity provider of a library of its own: its metadata, its assertion.
func TestIdentityProvider(t *testing.T) {
	s := newSigner(t, 2048, start.Add(time.Hour))
	at := func(u string) url.URL { return *must(url.Parse(u))(t) }
	idp := &saml.IdentityProvider{Key: s.key, Certificate: s.cert, MetadataURL: at(entity), SSOURL: at(entity + "/sso"), SignatureMethod: dsig.RSASHA256SignatureMethod, Clock: dsig.NewFakeClockAt(start)}
	meta := idp.Metadata()
	meta.ValidUntil = start.Add(30 * time.Minute)
	file := filepath.Join(t.TempDir(), "idp.xml")
	must(0, os.WriteFile(file, must(xml.Marshal(meta))(t), 0o600))(t)
	now := start
	v := must(New(Config{Providers: []Provider{{Name: "idp", EntityID: entity, MetadataFile: file, Audiences: []string{"https://gate.example.com/saml"}, Recipient: recipient,
		Groups: "urn:oid:1.3.6.1.4.1.5923.1.1.1.1", DefaultKind: call.Human}}, ClockSkew: skew, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return now }}))(t)
	acs := saml.IndexedEndpoint{Binding: saml.HTTPPostBinding, Location: recipient}
	sp := saml.EntityDescriptor{EntityID: "https://gate.example.com/saml"}
	descriptor := saml.SPSSODescriptor{AssertionConsumerServices: []saml.IndexedEndpoint{acs}}
	req := &saml.IdpAuthnRequest{IDP: idp, HTTPRequest: httptest.NewRequest("GET", entity+"/sso", nil), ServiceProviderMetadata: &sp, SPSSODescriptor: &descriptor, ACSEndpoint: &acs, Now: start}
	session := &saml.Session{ID: "1", CreateTime: start, ExpireTime: start.Add(time.Hour), Index: "i-1", NameID: "ann", NameIDFormat: "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent",
		UserName: "ann", UserEmail: "ann@example.com", Groups: []string{"support"}}
	must(0, saml.DefaultAssertionMaker{}.MakeAssertion(req, session))(t)
	must(0, req.MakeAssertionEl())(t)
	wire := encode(text(t, req.AssertionEl))
	id, err := v.Verify(t.Context(), wire)
	if err != nil {
		t.Fatal(err)
	}
	if id.Subject != "ann" || !slices.Contains(id.Groups, "support") || id.Claims["sid"] != "i-1" {
		t.Errorf("%+v", id)
	}
	// Its metadata ends, and nothing of it is believed any more.
	now = start.Add(31 * time.Minute)
	id, err = v.Verify(t.Context(), wire)
	refused(t, id, err, call.ReasonIdentityUnavailable)
}

func TestOneUse(t *testing.T) {
	r := newRig(t, func(p *Provider) { p.ExchangeOnly = true })
	wire := encode(r.signed(t, func(a *saml.Assertion) { a.Conditions.OneTimeUse = &saml.OneTimeUse{} }))
	id, err := r.Verify(t.Context(), wire)
	refused(t, id, err, call.ReasonInvalidToken)
	a, err := r.Assertion(wire)
	if err != nil || !a.OneTime || a.Identity.Subject != "ann" {
		t.Errorf("%+v, %v", a, err)
	}
	zero := 0
	a, err = r.Assertion(encode(r.signed(t, func(a *saml.Assertion) { a.Conditions.ProxyRestriction = &saml.ProxyRestriction{Count: &zero} })))
	if err != nil || !a.Final {
		t.Errorf("%+v, %v", a, err)
	}
}

// Whatever a document is, an identity comes out only of what the provider signed.
func FuzzAssertion(f *testing.F) {
	r := newRig(f)
	good := r.signed(f, nil)
	for _, seed := range []string{good, "", "<a/>", strings.Replace(good, ">ann<", "><!-- -->ann<", 1), `<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>`,
		`<saml:Assertion xmlns:saml="` + namespace + `" ID="_a1"><saml:Issuer>` + entity + `</saml:Issuer></saml:Assertion>`,
		`<samlp:Response xmlns:samlp="x">` + good + `</samlp:Response>`, strings.Replace(good, `URI="#_a1"`, `URI="" URI="#_a1"`, 1)} {
		f.Add(seed)
	}
	sum := sha256.Sum256([]byte(good))
	f.Fuzz(func(t *testing.T, doc string) {
		id, err := r.Verify(t.Context(), encode(doc))
		if err != nil {
			refused(t, id, err, err.(*identity.Error).Reason)
			return
		}
		if sha256.Sum256([]byte(doc)) != sum && (id.Subject != "ann" || strings.Join(id.Groups, " ") != "support admins") {
			t.Errorf("of a changed document came %+v", id)
		}
	})
}

// A signature that is not over the whole document is none, though it were good.
func TestReferences(t *testing.T) {
	r := newRig(t)
	for _, c := range []struct {
		uri string
		ok  bool
	}{{"#_a1", true}, {"", false}, {"#", false}, {"#_a2", false}, {"_a1", false}, {"#_a1 ", false}, {"#xpointer(id('_a1'))", false}} {
		doc := etree.NewDocument()
		must(0, doc.ReadFromString(r.signed(t, nil)))(t)
		sig := child(doc.Root(), dsig.Namespace, "Signature")
		sig.FindElement("./SignedInfo/Reference").CreateAttr("URI", c.uri)
		if bad := shape(doc.Root(), sig); (bad == nil) != c.ok {
			t.Errorf("a reference %q: %v", c.uri, bad)
		}
	}
}

// However an assertion is shown, alone or beside other credentials, nobody comes
// out but whom the provider signed for.
func FuzzCaller(f *testing.F) {
	r := newRig(f)
	good := r.signed(f, nil)
	v := must(identity.New(identity.Config{Assertions: r.Verifier, AssertionHeader: "x-saml", ClockSkew: skew, Log: slog.New(slog.DiscardHandler),
		Metrics: identity.NewMetrics(prometheus.NewRegistry()), Now: func() time.Time { return start }}))(f)
	for _, seed := range [][3]string{{"SAML", encode(good), ""}, {"saml", base64.URLEncoding.EncodeToString([]byte(good)), ""}, {"SAML", base64.StdEncoding.EncodeToString([]byte(good)), ""},
		{"Bearer", encode(good), ""}, {"SAML", encode(good), encode(good)}, {"", "", encode(good)}, {"SAML", "", ""}, {"SAML ", encode(good) + "\n", ""},
		{"SAML", encode(strings.Replace(good, "ann", "mallory", 1)), ""}} {
		f.Add(seed[0], seed[1], seed[2])
	}
	f.Fuzz(func(t *testing.T, scheme, shown, header string) {
		var h call.Headers
		if scheme+shown != "" {
			h = append(h, call.Header{Name: "authorization", Value: scheme + " " + shown})
		}
		if header != "" {
			h = append(h, call.Header{Name: "x-saml", Value: header})
		}
		id, err := v.Caller(t.Context(), identity.Request{Headers: h})
		if err != nil {
			refused(t, id, err, err.(*identity.Error).Reason)
			return
		}
		if id.Subject != "ann" || id.Issuer != entity || id.Method != "saml" || strings.Join(id.Groups, " ") != "support admins" {
			t.Errorf("of %q %q %q came %+v", scheme, shown, header, id)
		}
	})
}
