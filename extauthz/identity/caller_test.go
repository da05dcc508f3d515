package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwk"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/callgate/callgate/call"
)

func with(fields ...string) call.Headers {
	var h call.Headers
	for i := 0; i < len(fields); i += 2 {
		h = append(h, call.Header{Name: fields[i], Value: fields[i+1]})
	}
	return h
}

func TestAPIKeys(t *testing.T) {
	key, hash := NewKey()
	old, oldHash := NewKey()
	other, _ := NewKey()
	r := newRig(t)
	var err error
	r.keys, err = newAPIKeys([]Key{{Name: "night", Hash: hash, Kind: call.CI, Groups: []string{"jobs"}, Expires: start.Add(time.Hour)}, {Name: "old", Hash: oldHash, Expires: start}})
	must(t, err)
	r.cfg.KeyHeader = "x-api-key"
	for _, h := range []call.Headers{with("authorization", "Bearer "+key), with("x-api-key", key), with("authorization", "bearer  "+key)} {
		id, err := r.Caller(t.Context(), Request{Headers: h})
		if err != nil || id.Subject != "night" || id.Issuer != KeyIssuer || id.Kind != call.CI || id.Method != "key" || id.TokenID != "night" || len(id.Groups) != 1 {
			t.Errorf("%+v, %v", id, err)
		}
	}
	token := r.es.token(t, r.claims(nil))
	for _, c := range []struct {
		what string
		h    call.Headers
		want call.Reason
	}{
		{"a key that nobody made", with("x-api-key", other), call.ReasonInvalidToken},
		{"a key that is none", with("x-api-key", "x"), call.ReasonInvalidToken},
		{"a hash for a key", with("x-api-key", hash), call.ReasonInvalidToken},
		{"a hash with the prefix", with("authorization", "Bearer cgk_"+hash), call.ReasonInvalidToken},
		{"half a key", with("x-api-key", key[:len(key)-1]), call.ReasonInvalidToken},
		{"an empty key", with("x-api-key", ""), call.ReasonNoCredentials},
		{"a long key", with("x-api-key", key+strings.Repeat("a", 1000)), call.ReasonInvalidToken},
		{"an expired key", with("x-api-key", old), call.ReasonExpiredToken},
		{"two keys", with("x-api-key", key, "x-api-key", key), call.ReasonInvalidToken},
		{"a key and a token", with("x-api-key", key, "authorization", "Bearer "+token), call.ReasonInvalidToken},
		{"two tokens", with("authorization", "Bearer "+token, "authorization", "Bearer "+token), call.ReasonInvalidToken},
		{"a key as Basic", with("authorization", "Basic "+key), call.ReasonNoCredentials},
	} {
		id, err := r.Caller(t.Context(), Request{Headers: c.h})
		t.Run(c.what, func(t *testing.T) { refusedAs(t, key, id, err, c.want) })
	}
	// The header is no credential where nobody said so.
	r.cfg.KeyHeader = ""
	id, err := r.Caller(t.Context(), Request{Headers: with("x-api-key", key)})
	refusedAs(t, key, id, err, call.ReasonNoCredentials)
	r.Revoke([]Revocation{{TokenID: "night"}})
	id, err = r.Caller(t.Context(), Request{Headers: with("authorization", "Bearer "+key)})
	refusedAs(t, key, id, err, call.ReasonRevokedToken)
	for _, bad := range [][]Key{{{Name: "a", Hash: "xyz"}}, {{Name: "a", Hash: hash}, {Name: "b", Hash: hash}}} {
		if _, err := newAPIKeys(bad); err == nil {
			t.Errorf("%v is taken", bad)
		}
	}
}

// authority issues client certificates.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	pool *x509.CertPool
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotBefore: start.Add(-time.Hour), NotAfter: start.Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	a := &authority{key: key, cert: cert, pool: x509.NewCertPool()}
	a.pool.AddCert(cert)
	return a
}

// issue returns a client's certificate as Envoy passes it on.
func (a *authority) issue(t testing.TB, change func(*x509.Certificate)) (string, *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(77), Subject: pkix.Name{CommonName: "ann", Organization: []string{"corp"}}, NotBefore: start.Add(-time.Hour), NotAfter: start.Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, KeyUsage: x509.KeyUsageDigitalSignature}
	if change != nil {
		change(tmpl)
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, key.Public(), a.key)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	return url.QueryEscape(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))), cert
}

func uris(list ...string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		for _, s := range list {
			u, err := url.Parse(s)
			if err != nil {
				panic(err)
			}
			c.URIs = append(c.URIs, u)
		}
	}
}

func TestCertificates(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	r := newRig(t)
	r.cfg.Certificates = &Certificates{Roots: ours.pool, TrustDomains: []string{"prod.example"}, Kind: call.Workload,
		Groups: []CertificateGroup{{Match: "/ns/payments/sa/*", Groups: []string{"payments"}}}}
	good, _ := ours.issue(t, uris("spiffe://prod.example/ns/payments/sa/api"))
	id, err := r.Caller(t.Context(), Request{Certificate: good})
	if err != nil || id.Subject != "spiffe://prod.example/ns/payments/sa/api" || id.Issuer != "spiffe://prod.example" || id.Method != "mtls" || id.Kind != call.Workload || len(id.Groups) != 1 {
		t.Fatalf("%+v, %v", id, err)
	}
	token := r.es.token(t, r.claims(nil))
	if id, err := r.Caller(t.Context(), Request{Certificate: good, Headers: with("authorization", "Bearer "+token)}); err != nil || id.Subject != "u-1" {
		t.Errorf("beside a token: %+v, %v", id, err)
	}
	cert := func(a *authority, change func(*x509.Certificate)) string { c, _ := a.issue(t, change); return c }
	for what, c := range map[string]struct {
		certificate string
		headers     call.Headers
		want        call.Reason
	}{
		"none":                         {"", nil, call.ReasonNoCredentials},
		"in a header that callers set": {"", with("x-forwarded-client-cert", "Cert=\""+good+"\"", "x-client-cert", good), call.ReasonNoCredentials},
		"of another authority":         {cert(theirs, uris("spiffe://prod.example/ns/payments/sa/api")), nil, call.ReasonInvalidToken},
		"of another trust domain":      {cert(ours, uris("spiffe://dev.example/ns/payments/sa/api")), nil, call.ReasonInvalidToken},
		"of two SPIFFE IDs":            {cert(ours, uris("spiffe://prod.example/a", "spiffe://prod.example/b")), nil, call.ReasonInvalidToken},
		"of no SPIFFE ID":              {cert(ours, nil), nil, call.ReasonInvalidToken},
		"with a URI that is no SPIFFE": {cert(ours, uris("https://prod.example/a")), nil, call.ReasonInvalidToken},
		"with a dot segment in its ID": {cert(ours, uris("spiffe://prod.example/a/../b")), nil, call.ReasonInvalidToken},
		"that has expired":             {cert(ours, func(c *x509.Certificate) { uris("spiffe://prod.example/a")(c); c.NotAfter = start.Add(-time.Second) }), nil, call.ReasonExpiredToken},
		"that is a server's": {cert(ours, func(c *x509.Certificate) {
			uris("spiffe://prod.example/a")(c)
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		}), nil, call.ReasonInvalidToken},
		"that can't be read":            {"%zz", nil, call.ReasonInvalidToken},
		"that is no certificate":        {url.QueryEscape("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"), nil, call.ReasonInvalidToken},
		"good, with a token that isn't": {good, with("authorization", "Bearer x.y.z"), call.ReasonInvalidToken},
	} {
		t.Run(what, func(t *testing.T) {
			id, err := r.Caller(t.Context(), Request{Certificate: c.certificate, Headers: c.headers})
			refusedAs(t, "", id, err, c.want)
		})
	}
	r.cfg.Certificates = &Certificates{Roots: ours.pool, Kind: call.Human}
	if id, err := r.Caller(t.Context(), Request{Certificate: cert(ours, nil)}); err != nil || id.Subject != "CN=ann,O=corp" || id.Issuer != CertificateIssuer {
		t.Errorf("by subject: %+v, %v", id, err)
	}
	r.Revoke([]Revocation{{Subject: "CN=ann,O=corp", IssuedBefore: start}})
	id, err = r.Caller(t.Context(), Request{Certificate: cert(ours, nil)})
	refusedAs(t, "", id, err, call.ReasonRevokedToken)
	r.cfg.Certificates = nil
	id, err = r.Caller(t.Context(), Request{Certificate: good})
	refusedAs(t, "", id, err, call.ReasonNoCredentials)
}

// holder has a key that tokens are bound to.
type holder struct {
	key        *ecdsa.PrivateKey
	public     jwk.Key
	thumbprint string
}

func newHolder(t testing.TB) holder {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	public, err := jwk.FromRaw(key.Public())
	must(t, err)
	print, err := public.Thumbprint(crypto.SHA256)
	must(t, err)
	return holder{key, public, base64.RawURLEncoding.EncodeToString(print)}
}

func ath(token string) string {
	sum := sha256.Sum256([]byte(token))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func (h holder) proof(t testing.TB, claims, header map[string]any) string {
	t.Helper()
	full := map[string]any{"typ": "dpop+jwt", "jwk": h.public}
	for k, v := range header {
		full[k] = v
		if v == nil {
			delete(full, k)
		}
	}
	return sign(t, jwa.ES256, h.key, claims, full)
}

func TestDPoP(t *testing.T) {
	r := newRig(t)
	ann, eve := newHolder(t), newHolder(t)
	token := r.es.token(t, r.claims(map[string]any{"cnf": map[string]any{"jkt": ann.thumbprint}}))
	plain := r.es.token(t, r.claims(nil))
	n := 0
	claims := func(change map[string]any) map[string]any {
		n++
		c := map[string]any{"jti": "p-" + string(rune('a'+n%26)) + time.Duration(n).String(), "htm": "POST", "htu": "https://gate.test/crm/refunds", "iat": start.Unix(), "ath": ath(token)}
		for k, v := range change {
			c[k] = v
			if v == nil {
				delete(c, k)
			}
		}
		return c
	}
	ask := func(scheme, token string, proofs ...string) (call.Identity, error) {
		h := with("authorization", scheme+" "+token)
		for _, p := range proofs {
			h = append(h, call.Header{Name: "dpop", Value: p})
		}
		return r.Caller(t.Context(), Request{Headers: h, Method: "POST", Scheme: "https", Authority: "gate.test", Path: "/crm/refunds?x=1"})
	}
	once := ann.proof(t, claims(nil), nil)
	if id, err := ask("DPoP", token, once); err != nil || id.Subject != "u-1" {
		t.Fatalf("%+v, %v", id, err)
	}
	for _, htu := range []string{"HTTPS://GATE.test:443/crm/refunds", "https://gate.test/crm/refunds?y#z"} {
		if _, err := ask("DPoP", token, ann.proof(t, claims(map[string]any{"htu": htu}), nil)); err != nil {
			t.Errorf("%s: %v", htu, err)
		}
	}
	private, err := jwk.FromRaw(ann.key)
	must(t, err)
	proof := func(change map[string]any) []string { return []string{ann.proof(t, claims(change), nil)} }
	head := func(change map[string]any) []string { return []string{ann.proof(t, claims(nil), change)} }
	for _, c := range []struct {
		what, scheme, token string
		proofs              []string
	}{
		{"as a bearer token", "Bearer", token, nil},
		{"as a bearer token with a proof", "Bearer", token, proof(nil)},
		{"without a proof", "DPoP", token, nil},
		{"with two proofs", "DPoP", token, append(proof(nil), proof(nil)...)},
		{"with the same proof again", "DPoP", token, []string{once}},
		{"with another's proof", "DPoP", token, []string{eve.proof(t, claims(nil), nil)}},
		{"with another's proof that claims the key", "DPoP", token, []string{eve.proof(t, claims(nil), map[string]any{"jwk": ann.public})}},
		{"with a proof for another token", "DPoP", token, proof(map[string]any{"ath": ath(plain)})},
		{"with a proof for no token", "DPoP", token, proof(map[string]any{"ath": nil})},
		{"for another method", "DPoP", token, proof(map[string]any{"htm": "GET"})},
		{"for another path", "DPoP", token, proof(map[string]any{"htu": "https://gate.test/crm"})},
		{"for another host", "DPoP", token, proof(map[string]any{"htu": "https://evil.test/crm/refunds"})},
		{"for another scheme", "DPoP", token, proof(map[string]any{"htu": "http://gate.test/crm/refunds"})},
		{"with a user in the URL", "DPoP", token, proof(map[string]any{"htu": "https://a@gate.test/crm/refunds"})},
		{"made long ago", "DPoP", token, proof(map[string]any{"iat": start.Add(-proofAge - skew - time.Second).Unix()})},
		{"made in the future", "DPoP", token, proof(map[string]any{"iat": start.Add(skew + time.Second).Unix()})},
		{"made at no time", "DPoP", token, proof(map[string]any{"iat": nil})},
		{"without an id", "DPoP", token, proof(map[string]any{"jti": nil})},
		{"of another type", "DPoP", token, head(map[string]any{"typ": "JWT"})},
		{"without a key", "DPoP", token, head(map[string]any{"jwk": nil})},
		{"with a private key", "DPoP", token, head(map[string]any{"jwk": private})},
		{"with critical parameters", "DPoP", token, head(map[string]any{"crit": []string{"x"}, "x": 1})},
		{"that is no JWT", "DPoP", token, []string{"x"}},
		{"that is huge", "DPoP", token, []string{strings.Repeat("a", maxProof+1)}},
		{"with a token that is not bound", "DPoP", plain, proof(map[string]any{"ath": ath(plain)})},
		{"bound in a way that nobody knows", "Bearer", r.es.token(t, r.claims(map[string]any{"cnf": map[string]any{"kid": "x"}})), nil},
		{"bound by what can't be read", "Bearer", r.es.token(t, r.claims(map[string]any{"cnf": "x"})), nil},
	} {
		t.Run(c.what, func(t *testing.T) {
			id, err := ask(c.scheme, c.token, c.proofs...)
			refusedAs(t, c.token, id, err, call.ReasonInvalidToken)
		})
	}
}

func TestCertificateBoundTokens(t *testing.T) {
	r, ca := newRig(t), newAuthority(t)
	shown, leaf := ca.issue(t, nil)
	other, _ := ca.issue(t, nil)
	sum := sha256.Sum256(leaf.Raw)
	token := r.es.token(t, r.claims(map[string]any{"cnf": map[string]any{"x5t#S256": base64.RawURLEncoding.EncodeToString(sum[:])}}))
	plain := r.es.token(t, r.claims(nil))
	for _, c := range []struct {
		what, token, certificate string
		proof                    Proof
		ok                       bool
	}{
		{"bound, with its certificate", token, shown, ProofNone, true},
		{"bound, as the connection asks", token, shown, ProofCertificate, true},
		{"bound, as any will do", token, shown, ProofAny, true},
		{"plain, where nothing is asked", plain, "", ProofNone, true},
		{"bound, without a certificate", token, "", ProofNone, false},
		{"bound, with another certificate", token, other, ProofNone, false},
		{"bound, where DPoP is asked", token, shown, ProofDPoP, false},
		{"plain, where a certificate is asked", plain, shown, ProofCertificate, false},
		{"plain, where any is asked", plain, shown, ProofAny, false},
		{"plain, where DPoP is asked", plain, "", ProofDPoP, false},
	} {
		id, err := r.Caller(t.Context(), Request{Headers: with("authorization", "Bearer "+c.token), Certificate: c.certificate, Proof: c.proof})
		if c.ok && err != nil || !c.ok && err == nil {
			t.Errorf("%s: %+v, %v", c.what, id, err)
		}
	}
}

func TestIntrospection(t *testing.T) {
	var asked atomic.Int64
	answers := map[string]any{}
	var down atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		asked.Add(1)
		if id, secret, ok := req.BasicAuth(); down.Load() || !ok || id != "gate" || secret != "s3cret%2F" {
			http.Error(w, "no", http.StatusServiceUnavailable)
			return
		}
		must(t, req.ParseForm())
		answer, known := answers[req.PostForm.Get("token")]
		if !known {
			answer = map[string]any{"active": false}
		}
		if text, raw := answer.(string); raw {
			w.Write([]byte(text))
			return
		}
		json.NewEncoder(w).Encode(answer)
	}))
	defer server.Close()
	r := newRig(t)
	v, err := New(Config{ClockSkew: skew, Log: slog.New(slog.DiscardHandler), Metrics: NewMetrics(prometheus.NewRegistry()), Now: r.now,
		Introspection: &Introspection{Issuer: r.is().Issuer, URL: server.URL, Client: http.DefaultClient, ID: "gate", Secret: func() (string, error) { return "s3cret/", nil }, Keep: time.Minute}})
	must(t, err)
	good := map[string]any{"active": true, "sub": "u-1", "aud": []string{"gate"}, "exp": start.Add(time.Hour).Unix(), "groups": []string{"a"}, "jti": "t-9"}
	change := func(with map[string]any) map[string]any {
		out := map[string]any{}
		for k, v := range good {
			out[k] = v
		}
		for k, v := range with {
			out[k] = v
			if v == nil {
				delete(out, k)
			}
		}
		return out
	}
	answers["opaque"] = good
	ask := func(token string) (call.Identity, error) {
		return v.Caller(t.Context(), Request{Headers: with("authorization", "Bearer "+token)})
	}
	for range 5 {
		id, err := ask("opaque")
		if err != nil || id.Subject != "u-1" || id.Method != "introspection" || id.TokenID != "t-9" || id.Issuer != r.issuer.URL || len(id.Groups) != 1 {
			t.Fatalf("%+v, %v", id, err)
		}
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("asked %d times about one token", n)
	}
	for token, c := range map[string]struct {
		answer any
		want   call.Reason
	}{
		"unknown":       {nil, call.ReasonInvalidToken},
		"inactive":      {map[string]any{"active": false, "sub": "u-1"}, call.ReasonInvalidToken},
		"truthy":        {map[string]any{"active": "true", "sub": "u-1"}, call.ReasonIdentityUnavailable},
		"expired":       {change(map[string]any{"exp": start.Add(-skew).Unix()}), call.ReasonExpiredToken},
		"early":         {change(map[string]any{"nbf": start.Add(skew + time.Second).Unix()}), call.ReasonInvalidToken},
		"others":        {change(map[string]any{"aud": "someone"}), call.ReasonInvalidToken},
		"nobodys":       {change(map[string]any{"aud": nil}), call.ReasonInvalidToken},
		"elsewhere":     {change(map[string]any{"iss": "https://other"}), call.ReasonInvalidToken},
		"nobody":        {change(map[string]any{"sub": nil}), call.ReasonInvalidToken},
		"twice":         {`{"active":false,"active":true,"sub":"u-1","aud":"gate"}`, call.ReasonIdentityUnavailable},
		"garbage":       {`<html>`, call.ReasonIdentityUnavailable},
		"oddly-ending":  {change(map[string]any{"exp": "soon"}), call.ReasonIdentityUnavailable},
		"with\ttab":     {good, call.ReasonInvalidToken},
		"bound-to-keys": {change(map[string]any{"cnf": map[string]any{"jkt": "x"}}), call.ReasonInvalidToken},
	} {
		if c.answer != nil {
			answers[token] = c.answer
		}
		t.Run(token, func(t *testing.T) {
			id, err := ask(token)
			refusedAs(t, token, id, err, c.want)
		})
	}
	before := asked.Load()
	for range 100 {
		if _, err := ask("unknown"); err == nil {
			t.Fatal("an unknown token is taken")
		}
	}
	if n := asked.Load() - before; n != 0 {
		t.Errorf("asked %d times about a token that is known to be none", n)
	}
	// What was answered holds while the issuer is away, and not much longer.
	down.Store(true)
	if _, err := ask("opaque"); err != nil {
		t.Errorf("while away: %v", err)
	}
	r.advance(2 * time.Minute)
	id, err := ask("opaque")
	refusedAs(t, "opaque", id, err, call.ReasonIdentityUnavailable)
	down.Store(false)
	if _, err := ask("opaque"); err != nil {
		t.Errorf("when it is back: %v", err)
	}
	v.Revoke([]Revocation{{TokenID: "t-9"}})
	id, err = ask("opaque")
	refusedAs(t, "opaque", id, err, call.ReasonRevokedToken)
}

// A name that stands twice in a token is read differently from library to
// library, so it is refused, though it is signed.
func TestAmbiguousTokens(t *testing.T) {
	r := newRig(t)
	for _, payload := range []string{
		`{"iss":"` + r.issuer.URL + `","aud":"gate","sub":"u-1","sub":"root","exp":` + "9999999999" + `}`,
		`{"iss":"` + r.issuer.URL + `","aud":"gate","sub":"u-1","x":{"a":1,"a":2},"exp":9999999999}`,
	} {
		r.refused(t, raw(t, r.es, `{"alg":"ES256","kid":"es"}`, payload), call.ReasonInvalidToken)
	}
	r.refused(t, raw(t, r.es, `{"alg":"ES256","kid":"es","kid":"rs"}`, `{"iss":"`+r.issuer.URL+`","aud":"gate","sub":"u-1","exp":9999999999}`), call.ReasonInvalidToken)
	ok := raw(t, r.es, `{"alg":"ES256","kid":"es"}`, `{"iss":"`+r.issuer.URL+`","aud":"gate","sub":"u-1","exp":9999999999}`)
	if _, err := r.Verify(t.Context(), ok); err != nil {
		t.Errorf("the same without: %v", err)
	}
	r.refused(t, raw(t, r.es, `{"alg":"ES256","kid":"es"}`, `{"iss":"`+r.issuer.URL+`","aud":"gate","sub":"u-1","exp":9999999999,"deep":`+strings.Repeat("[", 100)+strings.Repeat("]", 100)+`}`), call.ReasonInvalidToken)
}

// raw signs exactly these bytes.
func raw(t testing.TB, k signer, header, payload string) string {
	t.Helper()
	input := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(payload))
	sum := sha256.Sum256([]byte(input))
	a, b, err := ecdsa.Sign(rand.Reader, k.private.(*ecdsa.PrivateKey), sum[:])
	must(t, err)
	sig := make([]byte, 64)
	a.FillBytes(sig[:32])
	b.FillBytes(sig[32:])
	return input + "." + base64.RawURLEncoding.EncodeToString(sig)
}

func FuzzCaller(f *testing.F) {
	f.Add("Bearer cgk_x", "", "")
	f.Add("DPoP a.b.c", "x.y.z", "%2D")
	f.Add("SAML x", "", "-----BEGIN CERTIFICATE-----")
	r := newRig(f)
	ca := newAuthority(f)
	cert, _ := ca.issue(f, nil)
	r.cfg.Certificates = &Certificates{Roots: x509.NewCertPool()}
	f.Add("", "", cert)
	f.Fuzz(func(t *testing.T, authorization, proof, certificate string) {
		req := Request{Certificate: certificate}
		if authorization != "" {
			req.Headers = with("authorization", authorization)
		}
		if proof != "" {
			req.Headers = append(req.Headers, call.Header{Name: "dpop", Value: proof})
		}
		if id, err := r.Caller(t.Context(), req); err == nil {
			t.Errorf("a made-up caller is %+v", id)
		}
	})
}

// Who decides shows a token for that, and nothing that is for calls.
func TestPerson(t *testing.T) {
	r := newRig(t)
	r.fetch(t)
	mint := func(with map[string]any) string {
		return sign(t, r.rs.alg, r.rs.private, r.claims(with), map[string]any{"kid": r.rs.public.KeyID()})
	}
	for name, c := range map[string]struct {
		header string
		want   call.Reason // "": taken
	}{
		"for the console":           {"Bearer " + mint(map[string]any{"aud": "console"}), ""},
		"for both":                  {"Bearer " + mint(map[string]any{"aud": []string{"gate", "console"}}), ""},
		"for calls":                 {"Bearer " + mint(nil), call.ReasonInvalidToken},
		"for the console, expired":  {"Bearer " + mint(map[string]any{"aud": "console", "exp": start.Add(-time.Hour).Unix()}), call.ReasonExpiredToken},
		"for the console, bound":    {"Bearer " + mint(map[string]any{"aud": "console", "cnf": map[string]any{"jkt": "x"}}), call.ReasonInvalidToken},
		"of another issuer":         {"Bearer " + mint(map[string]any{"aud": "console", "iss": "https://other"}), call.ReasonInvalidToken},
		"an API key":                {"Bearer " + keyPrefix + "abc", call.ReasonInvalidToken},
		"an opaque token":           {"Bearer abc", call.ReasonInvalidToken},
		"no token":                  {"", call.ReasonNoCredentials},
		"for the console, and used": {"Bearer " + mint(map[string]any{"aud": "console", "jti": "t-2"}), call.ReasonRevokedToken},
	} {
		t.Run(name, func(t *testing.T) {
			if c.want == call.ReasonRevokedToken {
				r.Revoke([]Revocation{{TokenID: "t-2"}})
			}
			var h call.Headers
			if c.header != "" {
				h = call.Headers{{Name: "authorization", Value: c.header}}
			}
			id, err := r.Person(t.Context(), h, []string{"console"})
			if c.want == "" {
				must(t, err)
				return
			}
			refusedAs(t, c.header, id, err, c.want)
		})
	}
	// And what is for the console makes no calls.
	if _, err := r.Identify(t.Context(), call.Headers{{Name: "authorization", Value: "Bearer " + mint(map[string]any{"aud": "console"})}}); err == nil {
		t.Error("a token for the console makes a call")
	}
}
