package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// clients issues client certificates.
type clients struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newClients(t *testing.T) *clients {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "clients"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &clients{key, cert}
}

func (c *clients) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.cert.Raw})
}

// client is one with a certificate of that SPIFFE ID.
func (c *clients) client(t *testing.T, id string) *http.Client {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(id)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(7), NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour), URIs: []*url.URL{u},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, KeyUsage: x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, c.cert, key.Public(), c.key)
	if err != nil {
		t.Fatal(err)
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, //nolint:gosec // the test's own gate
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}}}
}

// A client certificate that Envoy's handshake proved names its caller; nothing
// that a caller can write in a header does.
func TestClientCertificates(t *testing.T) {
	ours, theirs := newClients(t), newClients(t)
	cfg := demoTLS(t)
	cfg.NoEngine = true
	keepSecrets(t)
	logs := &journal{}
	run := serve(logs.log())
	cfg.Serve = func(ctx context.Context, file string) error {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		dir := filepath.Dir(file)
		if err := os.WriteFile(filepath.Join(dir, "clients.pem"), ours.pem(), 0o600); err != nil {
			return err
		}
		rules, err := os.OpenFile(filepath.Join(dir, "policies", "rules.yaml"), os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		_, err = rules.WriteString("\n  - {name: the payments service, connections: [crm], functions: [customers.get], when: '\"payments\" in identity.groups', action: allow}\n")
		if err := rules.Close(); err != nil {
			return err
		}
		if err != nil {
			return err
		}
		changed := strings.Replace(string(text), "  tls: {cert_file:", "  tls: {client_ca_file: clients.pem, cert_file:", 1)
		changed = strings.Replace(changed, "identity:\n", "identity:\n  mtls: {ca_file: clients.pem, trust_domains: [prod.example], groups: [{match: /ns/payments/*, groups: [payments]}]}\n", 1)
		if changed == string(text) {
			t.Error("the configuration was not changed")
		}
		to := filepath.Join(dir, "mtls.yaml")
		if err := os.WriteFile(to, []byte(changed), 0o600); err != nil {
			return err
		}
		return run(ctx, to)
	}
	w, stop, err := startWith(t.Context(), cfg, logs)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	}()
	w.scheme = "https"
	const id = "spiffe://prod.example/ns/payments/api"
	good := ours.client(t, id)
	nobody := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} //nolint:gosec // the test's own gate
	leaf := url.QueryEscape(string(ours.pem()))
	for _, c := range []struct {
		what   string
		client *http.Client
		token  string
		header []string
		status int
		reason string
	}{
		{"its certificate", good, "", nil, 200, ""},
		{"its certificate, and a token of alice's", good, w.alice, nil, 200, ""},
		{"its certificate, and a token that is none", good, "x.y.z", nil, 401, "invalid_token"},
		{"no certificate", nobody, "", nil, 401, "no_credentials"},
		{"a certificate in headers", nobody, "", []string{"x-forwarded-client-cert", "By=x;URI=" + id + ";Cert=\"" + leaf + "\"", "x-client-cert", leaf, "x-callgate-certificate", leaf}, 401, "no_credentials"},
		{"another service's", ours.client(t, "spiffe://prod.example/ns/other/api"), "", nil, 403, "no_rule"},
		{"another trust domain's", ours.client(t, "spiffe://dev.example/ns/payments/api"), "", nil, 401, "invalid_token"},
	} {
		a := w.call(t, c.client, c.token, "GET", "/crm/customers/c-1", "", c.header...)
		if a.status != c.status || a.reason() != c.reason {
			t.Errorf("%s: %d %q %s, want %d %q", c.what, a.status, a.reason(), a.body, c.status, c.reason)
		}
	}
	// A certificate of another authority ends in the handshake.
	if a, err := w.try(t.Context(), theirs.client(t, id), "", "GET", "/crm/customers/c-1", ""); err == nil {
		t.Errorf("another authority's certificate: %d %s", a.status, a.body)
	}
	if last, ok := w.REST.Last(); ok && strings.Contains(strings.ToLower(last.Header.Get("x-forwarded-client-cert")), "spiffe") {
		t.Error("the function got a certificate header that the caller wrote")
	}
}
