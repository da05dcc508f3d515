package identity

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"net/url"
	"path"
	"slices"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/callgate/callgate/call"
)

// Certificates says whose client certificates name a caller.
type Certificates struct {
	// Roots are what a certificate must chain to. Envoy passes on only the
	// caller's own certificate, so those between stand here too.
	Roots *x509.CertPool
	// TrustDomains are those of SPIFFE IDs that are believed. None: the
	// certificate's subject names the caller instead.
	TrustDomains []string
	Kind         call.Kind
	Groups       []CertificateGroup
}

// CertificateGroup puts callers into groups by their name: a SPIFFE ID's path,
// or a subject.
type CertificateGroup struct {
	Match  string // a glob over the name
	Groups []string
}

// CertificateIssuer is the issuer of identities that a certificate's subject
// proves; SPIFFE IDs have their trust domain's.
const CertificateIssuer = "callgate://certificates"

// peer reads the certificate that Envoy passed on; nil where there is none.
func peer(encoded string) (*x509.Certificate, *Error) {
	if encoded == "" {
		return nil, nil
	}
	text, err := url.QueryUnescape(encoded)
	if err != nil {
		return nil, refuse(call.ReasonInvalidToken, "the client certificate can't be read")
	}
	block, rest := pem.Decode([]byte(text))
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, refuse(call.ReasonInvalidToken, "the client certificate can't be read")
	}
	_ = rest // a chain may follow; the caller proved the first one
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, refuse(call.ReasonInvalidToken, "the client certificate can't be read")
	}
	return c, nil
}

// certified returns whom a client certificate alone speaks for.
func (v *Verifier) certified(r Request) (call.Identity, error) {
	want := "no credentials: send an OIDC token as 'Authorization: Bearer …'"
	if v.cfg.Certificates == nil || r.Certificate == "" {
		return call.Identity{}, refuse(call.ReasonNoCredentials, "%s", want)
	}
	if len(r.Headers.Values("dpop")) > 0 || r.Proof == ProofDPoP {
		return call.Identity{}, refuse(call.ReasonNoCredentials, "a DPoP proof needs its token; send it as 'Authorization: DPoP …'")
	}
	leaf, bad := peer(r.Certificate)
	if bad != nil {
		return call.Identity{}, bad
	}
	cfg := v.cfg.Certificates
	// Envoy may have been told to take any certificate, so the chain is
	// verified here whatever Envoy did.
	_, err := leaf.Verify(x509.VerifyOptions{Roots: cfg.Roots, CurrentTime: v.cfg.Now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if err != nil {
		if v.cfg.Now().After(leaf.NotAfter) {
			return call.Identity{}, refuse(call.ReasonExpiredToken, "the client certificate has expired; get a new one")
		}
		return call.Identity{}, refuse(call.ReasonInvalidToken, "the client certificate does not chain to one that is believed here (identity.mtls.ca_file), or is not for clients")
	}
	sum := sha256.Sum256(leaf.Raw)
	id := call.Identity{Kind: cfg.Kind, Method: "mtls", TokenID: hex.EncodeToString(leaf.SerialNumber.Bytes()), Expires: leaf.NotAfter}
	name := ""
	if len(cfg.TrustDomains) > 0 {
		// An SVID has exactly one URI, which is its SPIFFE ID (X.509-SVID §2).
		if len(leaf.URIs) != 1 {
			return call.Identity{}, refuse(call.ReasonInvalidToken, "the client certificate has no SPIFFE ID, or more than one URI")
		}
		spiffe, err := spiffeid.FromURI(leaf.URIs[0])
		if err != nil || !slices.Contains(cfg.TrustDomains, spiffe.TrustDomain().Name()) {
			return call.Identity{}, refuse(call.ReasonInvalidToken, "the client certificate's SPIFFE ID is of no trust domain that is believed here; see identity.mtls.trust_domains")
		}
		id.Issuer, id.Subject, name = spiffe.TrustDomain().IDString(), spiffe.String(), spiffe.Path()
	} else {
		id.Issuer, id.Subject = CertificateIssuer, leaf.Subject.String()
		name = id.Subject
	}
	if id.Subject == "" {
		return call.Identity{}, refuse(call.ReasonInvalidToken, "the client certificate names nobody")
	}
	for _, g := range cfg.Groups {
		if ok, err := path.Match(g.Match, name); err == nil && ok {
			id.Groups = append(id.Groups, g.Groups...)
		}
	}
	id.Claims = map[string]any{"iss": id.Issuer, "sub": id.Subject, "jti": id.TokenID, "iat": leaf.NotBefore.Unix(), "exp": leaf.NotAfter.Unix(),
		"certificate_sha256": hex.EncodeToString(sum[:])}
	return v.admit(id)
}
