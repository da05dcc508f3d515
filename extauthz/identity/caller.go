package identity

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"slices"
	"strings"

	"github.com/callgate/callgate/call"
)

// Request is what a caller shows of itself.
type Request struct {
	Headers call.Headers
	// Certificate is what the caller proved to Envoy that it holds the key of,
	// PEM in percent encoding as Envoy passes it on; "" where there is none. It
	// comes from Envoy's own word about the connection, never from a header.
	Certificate string
	// Method, Scheme, Authority and Path are the request's, which a DPoP proof
	// is for.
	Method, Scheme, Authority, Path string
	// Proof is what the connection asks for beside a token.
	Proof Proof
}

// Proof is what makes a token useless to whoever stole it.
type Proof string

// The proofs.
const (
	ProofNone        Proof = ""            // a bearer token will do; a bound one is checked all the same
	ProofDPoP        Proof = "dpop"        // RFC 9449
	ProofCertificate Proof = "certificate" // RFC 8705
	ProofAny         Proof = "any"         // either
)

// Caller returns who makes a request. Its error is an *[Error].
//
// Exactly one token counts; a certificate alone names a caller too. Where a
// request shows two tokens it is refused, since services differ in which one
// they would believe.
func (v *Verifier) Caller(ctx context.Context, r Request) (call.Identity, error) {
	shown, bad := v.shown(r.Headers)
	if bad != nil {
		return call.Identity{}, bad
	}
	var id call.Identity
	var err error
	switch shown.scheme {
	case "":
		return v.certified(r)
	case schemeKey:
		id, err = v.key(shown.value)
	case schemeSAML:
		id, err = v.assertion(ctx, shown.value)
	default:
		id, err = v.token(ctx, shown.value)
	}
	if err != nil {
		return call.Identity{}, err
	}
	if bad := v.bound(id, shown, r); bad != nil {
		return call.Identity{}, bad
	}
	return id, nil
}

// Identify is Caller for who shows headers alone.
func (v *Verifier) Identify(ctx context.Context, h call.Headers) (call.Identity, error) {
	return v.Caller(ctx, Request{Headers: h})
}

// Person is Identify for those who decide about calls: it takes a token that is
// for one of the audiences, whatever is for calls. Keys, assertions and
// certificates are for none.
func (v *Verifier) Person(ctx context.Context, h call.Headers, audiences []string) (call.Identity, error) {
	shown, bad := v.shown(h)
	switch {
	case bad != nil:
		return call.Identity{}, bad
	case shown.scheme == "":
		return call.Identity{}, refuse(call.ReasonNoCredentials, "no token; send one as 'Authorization: Bearer …', for one of %s (console.audiences)", strings.Join(audiences, ", "))
	case shown.scheme != schemeBearer && shown.scheme != schemeDPoP:
		return call.Identity{}, refuse(call.ReasonInvalidToken, "keys and assertions are for calls; log in and send a token for one of %s (console.audiences)", strings.Join(audiences, ", "))
	case len(shown.value) > maxToken:
		return call.Identity{}, refuse(call.ReasonInvalidToken, "the token is longer than %d bytes", maxToken)
	}
	header, claimed, bad := v.peek(shown.value)
	if bad != nil {
		return call.Identity{}, bad
	}
	is, known := v.issuers[claimed]
	if !known || is.Exchanged {
		return call.Identity{}, refuse(call.ReasonInvalidToken, "the token's issuer is not one of identity.issuers")
	}
	t, _, bad := v.parse(ctx, shown.value, v.cfg.Now(), header, is, audiences)
	if bad != nil {
		return call.Identity{}, bad
	}
	id, bad := is.identity(t)
	if bad != nil {
		return call.Identity{}, bad
	}
	if bad := v.bound(id, shown, Request{Headers: h}); bad != nil {
		return call.Identity{}, bad
	}
	return v.admit(id)
}

// credential is the one token of a request.
type credential struct{ scheme, value string }

// The schemes; "" is none.
const (
	schemeBearer = "bearer"
	schemeDPoP   = "dpop"
	schemeKey    = "key"
	schemeSAML   = "saml"
)

// CredentialHeaders lists the headers that a caller's credentials come in. They
// are not for the service.
func (v *Verifier) CredentialHeaders() []string {
	out := []string{"authorization", "dpop"}
	for _, h := range []string{v.cfg.KeyHeader, v.cfg.AssertionHeader} {
		if h != "" {
			out = append(out, h)
		}
	}
	return out
}

// shown finds the token among the headers.
func (v *Verifier) shown(h call.Headers) (credential, *Error) {
	var all []credential
	values := h.Values("authorization")
	if len(values) > 1 {
		return credential{}, refuse(call.ReasonInvalidToken, "more than one Authorization header; send exactly one")
	}
	for _, value := range values {
		scheme, token, ok := strings.Cut(value, " ")
		token, scheme = strings.TrimSpace(token), strings.ToLower(scheme)
		switch {
		case !ok || token == "":
			return credential{}, refuse(call.ReasonNoCredentials, "the Authorization header is not 'Bearer' with a token")
		case scheme == schemeBearer && strings.HasPrefix(token, keyPrefix):
			all = append(all, credential{schemeKey, token})
		case scheme == schemeBearer || scheme == schemeDPoP:
			all = append(all, credential{scheme, token})
		case scheme == schemeSAML && v.cfg.Assertions != nil:
			all = append(all, credential{schemeSAML, token})
		default:
			return credential{}, refuse(call.ReasonNoCredentials, "the Authorization header is not 'Bearer' with a token")
		}
	}
	for header, scheme := range map[string]string{v.cfg.KeyHeader: schemeKey, v.cfg.AssertionHeader: schemeSAML} {
		if header == "" {
			continue
		}
		for _, value := range h.Values(header) {
			all = append(all, credential{scheme, strings.TrimSpace(value)})
		}
	}
	switch {
	case len(all) > 1:
		return credential{}, refuse(call.ReasonInvalidToken, "the request shows more than one credential; send exactly one")
	case len(all) == 0:
		return credential{}, nil
	case all[0].value == "":
		return credential{}, refuse(call.ReasonNoCredentials, "the credential is empty")
	}
	return all[0], nil
}

// Token verifies a token by itself, as one that is to be exchanged: whom it
// speaks for, whoever shows it. Its error is an *[Error].
func (v *Verifier) Token(ctx context.Context, token string) (call.Identity, error) {
	if strings.HasPrefix(token, keyPrefix) {
		return call.Identity{}, refuse(call.ReasonInvalidToken, "an API key is no token; use it on calls as it is")
	}
	return v.token(ctx, token)
}

// token verifies a token of an issuer: a JWT by its signature, an opaque one by
// asking the issuer.
func (v *Verifier) token(ctx context.Context, token string) (call.Identity, error) {
	if v.introspect != nil && strings.Count(token, ".") != 2 {
		return v.introspect.token(ctx, v, token)
	}
	return v.Verify(ctx, token)
}

// assertion asks who verifies SAML assertions.
func (v *Verifier) assertion(ctx context.Context, text string) (call.Identity, error) {
	if v.cfg.Assertions == nil {
		return call.Identity{}, refuse(call.ReasonNoCredentials, "SAML assertions are not taken here")
	}
	id, err := v.cfg.Assertions.Verify(ctx, text)
	if err != nil {
		return call.Identity{}, err
	}
	return v.admit(id)
}

// bound makes sure that a token is used by whom it was given to: that it is
// bound where the connection asks for it, and that what it is bound to is shown
// whenever it is.
func (v *Verifier) bound(id call.Identity, shown credential, r Request) *Error {
	confirm, has := id.Claims["cnf"].(map[string]any)
	if !has && id.Claims["cnf"] != nil {
		return refuse(call.ReasonInvalidToken, "the token's confirmation (cnf) can't be read")
	}
	key, _ := confirm["jkt"].(string)
	certificate, _ := confirm["x5t#S256"].(string)
	if has && key == "" && certificate == "" {
		return refuse(call.ReasonInvalidToken, "the token is bound in a way that is not known here; only jkt (RFC 9449) and x5t#S256 (RFC 8705) are")
	}
	proofs := r.Headers.Values("dpop")
	if key != "" || shown.scheme == schemeDPoP || len(proofs) > 0 {
		switch {
		case key == "":
			return refuse(call.ReasonInvalidToken, "a DPoP proof came with a token that is bound to no key; get a bound one")
		case shown.scheme != schemeDPoP:
			return refuse(call.ReasonInvalidToken, "the token is bound to a key (DPoP) and can't be used as a bearer token; send it as 'Authorization: DPoP …' with a proof")
		case len(proofs) != 1:
			return refuse(call.ReasonInvalidToken, "a DPoP token needs exactly one DPoP proof")
		}
		if bad := v.proofs.check(proofs[0], key, shown.value, r, v.cfg.Now(), v.cfg.ClockSkew); bad != nil {
			return bad
		}
	}
	if certificate != "" {
		leaf, bad := peer(r.Certificate)
		if bad != nil {
			return bad
		}
		if leaf == nil {
			return refuse(call.ReasonInvalidToken, "the token is bound to a client certificate, and none was shown on this connection")
		}
		sum := sha256.Sum256(leaf.Raw)
		if subtle.ConstantTimeCompare([]byte(base64.RawURLEncoding.EncodeToString(sum[:])), []byte(certificate)) != 1 {
			return refuse(call.ReasonInvalidToken, "the token is bound to another client certificate than the one that was shown")
		}
	}
	missing := map[Proof]bool{ProofDPoP: key == "", ProofCertificate: certificate == "", ProofAny: key == "" && certificate == ""}
	if missing[r.Proof] {
		return refuse(call.ReasonInvalidToken, "this connection takes only tokens that are bound to their owner (%s); get one from the issuer", wanted(r.Proof))
	}
	return nil
}

func wanted(p Proof) string {
	return map[Proof]string{ProofDPoP: "DPoP, RFC 9449", ProofCertificate: "client certificate, RFC 8705", ProofAny: "DPoP or client certificate"}[p]
}

// Proofs are the names of all.
func Proofs() []string {
	return slices.Clone([]string{"none", string(ProofDPoP), string(ProofCertificate), string(ProofAny)})
}
