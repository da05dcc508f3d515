package e2e

import (
	"context"
	"crypto/tls"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/callgate/callgate/test/authority"
)

// client is one with a certificate of that SPIFFE ID.
func client(t *testing.T, a *authority.Authority, id string) *http.Client {
	t.Helper()
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, //nolint:gosec // the test's own gate
		Certificates: []tls.Certificate{a.Pair(t, "client", id)}}}}
}

// A client certificate that Envoy's handshake proved names its caller; nothing
// that a caller can write in a header does.
func TestClientCertificates(t *testing.T) {
	ours, theirs := authority.New(t), authority.New(t)
	roots, err := os.ReadFile(ours.CAFile)
	if err != nil {
		t.Fatal(err)
	}
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
		if err := os.WriteFile(filepath.Join(dir, "clients.pem"), roots, 0o600); err != nil {
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
	good := client(t, ours, id)
	nobody := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} //nolint:gosec // the test's own gate
	leaf := url.QueryEscape(string(roots))
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
		{"another service's", client(t, ours, "spiffe://prod.example/ns/other/api"), "", nil, 403, "no_rule"},
		{"another trust domain's", client(t, ours, "spiffe://dev.example/ns/payments/api"), "", nil, 401, "invalid_token"},
	} {
		a := w.call(t, c.client, c.token, "GET", "/crm/customers/c-1", "", c.header...)
		if a.status != c.status || a.reason() != c.reason {
			t.Errorf("%s: %d %q %s, want %d %q", c.what, a.status, a.reason(), a.body, c.status, c.reason)
		}
	}
	// A certificate of another authority ends in the handshake.
	if a, err := w.try(t.Context(), client(t, theirs, id), "", "GET", "/crm/customers/c-1", ""); err == nil {
		t.Errorf("another authority's certificate: %d %s", a.status, a.body)
	}
	if last, ok := w.REST.Last(); ok && strings.Contains(strings.ToLower(last.Header.Get("x-forwarded-client-cert")), "spiffe") {
		t.Error("the function got a certificate header that the caller wrote")
	}
}
