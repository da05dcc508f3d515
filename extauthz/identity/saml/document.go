package saml

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/beevik/etree"
	"github.com/crewjam/saml"
	dsig "github.com/russellhaering/goxmldsig"

	"github.com/callgate/callgate/extauthz/identity"
)

const (
	// MaxAssertion bounds an assertion's XML, in bytes. Envoy bounds headers at
	// 60 KiB, which base64 takes a third of.
	MaxAssertion = 40 << 10
	deepest      = 32   // elements inside each other
	mostElements = 2000 // in an assertion

	namespace     = "urn:oasis:names:tc:SAML:2.0:assertion"
	exclusive     = "http://www.w3.org/2001/10/xml-exc-c14n#"
	withComments  = exclusive + "WithComments"
	enveloped     = "http://www.w3.org/2000/09/xmldsig#enveloped-signature"
	bearer        = "urn:oasis:names:tc:SAML:2.0:cm:bearer"
	transient     = "urn:oasis:names:tc:SAML:2.0:nameid-format:transient"
	xmlNamespaces = "http://www.w3.org/2000/xmlns/"
)

// signatures and digests are the algorithms that are believed; those with SHA-1
// are not.
var (
	signatures = map[string]bool{dsig.RSASHA256SignatureMethod: true, dsig.RSASHA384SignatureMethod: true, dsig.RSASHA512SignatureMethod: true}
	digests    = map[string]bool{"http://www.w3.org/2001/04/xmlenc#sha256": true, "http://www.w3.org/2001/04/xmldsig-more#sha384": true, "http://www.w3.org/2001/04/xmlenc#sha512": true}
)

// decode undoes the encoding of RFC 7522 §2: base64url, without padding or with.
func decode(text string) ([]byte, *identity.Error) {
	if len(text) > base64.URLEncoding.EncodedLen(MaxAssertion) {
		return nil, refuse("the assertion is longer than %d bytes", MaxAssertion)
	}
	// Line breaks are skipped by the decoder, and then one assertion would
	// have many texts.
	data, err := base64.RawURLEncoding.Strict().DecodeString(strings.TrimRight(text, "="))
	if err != nil || strings.ContainsAny(text, "\r\n") {
		return nil, refuse("the assertion is not in base64url (RFC 7522)")
	}
	return data, nil
}

// plain refuses documents that could be read in two ways, or cost more than
// they are worth, before anything else reads them.
func plain(data []byte) *identity.Error {
	if !utf8.Valid(data) {
		return refuse("the assertion is not in UTF-8")
	}
	dec := xml.NewDecoder(bytes.NewReader(data))
	dec.CharsetReader = func(string, io.Reader) (io.Reader, error) { return nil, errors.New("not UTF-8") }
	dec.Entity = map[string]string{}
	ids := map[string]bool{}
	depth, elements, assertions, signed, roots := 0, 0, 0, 0, 0
	for {
		t, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return refuse("the assertion is not well-formed XML")
		}
		switch x := t.(type) {
		case xml.Directive:
			return refuse("the assertion has a document type (DTD), which is not taken")
		case xml.Comment:
			return refuse("the assertion has a comment, which readers of names differ about")
		case xml.ProcInst:
			if x.Target != "xml" || elements > 0 {
				return refuse("the assertion has a processing instruction")
			}
		case xml.StartElement:
			if depth == 0 {
				roots++
			}
			depth++
			elements++
			if depth > deepest || elements > mostElements || roots > 1 {
				return refuse("the assertion has more than one root, %d elements or %d levels", mostElements, deepest)
			}
			switch x.Name.Local {
			case "EncryptedAssertion", "EncryptedID", "EncryptedAttribute", "EncryptedData":
				return refuse("the assertion is encrypted, which is not supported; have the provider sign it only")
			case "Assertion":
				assertions++
			case "Signature":
				signed++
			case "Object", "Manifest":
				return refuse("the assertion has a %s, which is not taken", x.Name.Local)
			}
			if bad := attributes(x, ids); bad != nil {
				return bad
			}
		case xml.EndElement:
			depth--
		case xml.CharData:
			if depth == 0 && len(bytes.TrimSpace(x)) > 0 {
				return refuse("the assertion is not well-formed XML")
			}
		}
	}
	switch {
	case roots == 0:
		return refuse("the assertion is not well-formed XML")
	case assertions != 1:
		return refuse("the document has %d assertions; send one assertion by itself, not a response around it", assertions)
	case signed == 0:
		return refuse("the assertion is not signed")
	case signed > 1:
		return refuse("the assertion has more than one signature")
	}
	return nil
}

// attributes refuses ids that stand twice, and attributes that do.
func attributes(x xml.StartElement, ids map[string]bool) *identity.Error {
	names := map[xml.Name]bool{}
	for _, a := range x.Attr {
		if names[a.Name] {
			return refuse("the assertion has an attribute twice in one element")
		}
		names[a.Name] = true
		if a.Name.Space == "xmlns" || a.Name.Space == xmlNamespaces {
			continue
		}
		if strings.EqualFold(a.Name.Local, "id") {
			if ids[a.Value] {
				return refuse("the assertion has an ID twice")
			}
			ids[a.Value] = true
		}
	}
	return nil
}

// unsigned reads who is said to have issued a document, and whether its signature
// has the shape that is wanted. Nothing else of it may be believed.
func unsigned(data []byte) (*etree.Element, string, *identity.Error) {
	doc := etree.NewDocument()
	if err := doc.ReadFromBytes(data); err != nil || doc.Root() == nil {
		return nil, "", refuse("the assertion is not well-formed XML")
	}
	root := doc.Root()
	if root.Tag != "Assertion" || root.NamespaceURI() != namespace {
		return nil, "", refuse("the document is not a SAML 2.0 assertion")
	}
	issuer := child(root, namespace, "Issuer")
	sig := child(root, dsig.Namespace, "Signature")
	if issuer == nil {
		return nil, "", refuse("the assertion has no Issuer, or more than one")
	}
	if sig == nil {
		return nil, "", refuse("the assertion's signature is not its own")
	}
	if bad := shape(root, sig); bad != nil {
		return nil, "", bad
	}
	return root, issuer.Text(), nil
}

// child is the one child of that name; nil where there is none or more.
func child(of *etree.Element, space, tag string) *etree.Element {
	var found *etree.Element
	for _, c := range of.ChildElements() {
		if c.Tag != tag {
			continue
		}
		if found != nil || c.NamespaceURI() != space {
			return nil
		}
		found = c
	}
	return found
}

// shape makes sure that the signature is over the whole document, and by
// algorithms that are believed (saml-core §5.4).
func shape(root, sig *etree.Element) *identity.Error {
	no := func(why string) *identity.Error { return refuse("the assertion's signature %s", why) }
	info := child(sig, dsig.Namespace, "SignedInfo")
	if info == nil {
		return no("has no SignedInfo")
	}
	method, canon, ref := child(info, dsig.Namespace, "SignatureMethod"), child(info, dsig.Namespace, "CanonicalizationMethod"), child(info, dsig.Namespace, "Reference")
	if method == nil || canon == nil || ref == nil {
		return no("must have one algorithm and one reference")
	}
	id := root.SelectAttrValue("ID", "")
	if id == "" || len(ref.Attr) != 1 || ref.Attr[0].FullKey() != "URI" || ref.Attr[0].Value != "#"+id {
		return no("is not over the assertion that it is in")
	}
	digest, transforms := child(ref, dsig.Namespace, "DigestMethod"), child(ref, dsig.Namespace, "Transforms")
	if digest == nil || transforms == nil {
		return no("must have one digest and its transforms")
	}
	if !signatures[algorithm(method)] || !digests[algorithm(digest)] {
		return no("is by an algorithm that is not accepted; have the provider use RSA with SHA-256, SHA-384 or SHA-512 (SHA-1 is not)")
	}
	if c := algorithm(canon); c != exclusive && c != withComments {
		return no("must be over exclusive canonical XML")
	}
	steps := transforms.ChildElements()
	if len(steps) != 2 || algorithm(steps[0]) != enveloped || algorithm(steps[1]) != exclusive && algorithm(steps[1]) != withComments {
		return no("must be enveloped and over exclusive canonical XML, with no other transform")
	}
	return nil
}

// algorithm is an element's one attribute; "" where it has others.
func algorithm(e *etree.Element) string {
	if len(e.Attr) != 1 || e.Attr[0].FullKey() != "Algorithm" {
		return ""
	}
	return e.Attr[0].Value
}

// signedBy returns what one of the certificates has signed of the document, as it
// was signed. What the document says of its key is not looked at.
func signedBy(root *etree.Element, certificates []*x509.Certificate, now time.Time) (*saml.Assertion, *identity.Error) {
	root = root.Copy()
	sig := child(root, dsig.Namespace, "Signature")
	for _, info := range sig.SelectElements("KeyInfo") {
		sig.RemoveChild(info)
	}
	for _, c := range certificates {
		if now.Before(c.NotBefore) || now.After(c.NotAfter) {
			continue
		}
		ctx := dsig.NewDefaultValidationContext(&dsig.MemoryX509CertificateStore{Roots: []*x509.Certificate{c}})
		ctx.IdAttribute = "ID"
		ctx.Clock = dsig.NewFakeClockAt(now)
		signed, err := ctx.Validate(root)
		if err != nil {
			continue
		}
		doc := etree.NewDocument()
		doc.SetRoot(signed)
		data, err := doc.WriteToBytes()
		out := new(saml.Assertion)
		if err == nil {
			err = xml.Unmarshal(data, out)
		}
		if err != nil {
			return nil, refuse("the assertion can't be read: it has an element twice, or where none belongs")
		}
		return out, nil
	}
	for _, c := range certificates {
		if !now.After(c.NotAfter) {
			return nil, refuse("the assertion is not signed with a certificate that is configured for its issuer, or was changed")
		}
	}
	return nil, refuse("the certificates that are configured for the assertion's issuer have expired; configure the new ones")
}
