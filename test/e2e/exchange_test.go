package e2e

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/beevik/etree"
	"github.com/crewjam/saml"
	dsig "github.com/russellhaering/goxmldsig"
)

// provider is a SAML identity provider of a library of its own.
type provider struct{ idp *saml.IdentityProvider }

const (
	entity    = "https://idp.example.com/saml"
	recipient = "https://gate.example.com/token"
)

func newProvider(t *testing.T) *provider {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "idp"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(entity)
	if err != nil {
		t.Fatal(err)
	}
	return &provider{idp: &saml.IdentityProvider{Key: key, Certificate: cert, MetadataURL: *u, SSOURL: *u, SignatureMethod: dsig.RSASHA256SignatureMethod}}
}

func (p *provider) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.idp.Certificate.Raw})
}

// assertion is one for a person of support, as it is sent.
func (p *provider) assertion(t *testing.T, who string) string {
	t.Helper()
	acs := saml.IndexedEndpoint{Binding: saml.HTTPPostBinding, Location: recipient}
	req := &saml.IdpAuthnRequest{IDP: p.idp, HTTPRequest: httptest.NewRequest("GET", entity, nil), ServiceProviderMetadata: &saml.EntityDescriptor{EntityID: "callgate"},
		SPSSODescriptor: &saml.SPSSODescriptor{AssertionConsumerServices: []saml.IndexedEndpoint{acs}}, ACSEndpoint: &acs, Now: time.Now()}
	session := &saml.Session{ID: who, CreateTime: time.Now(), ExpireTime: time.Now().Add(time.Hour), Index: who, NameID: who,
		NameIDFormat: "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent", UserName: who, Groups: []string{"support"}}
	if err := (saml.DefaultAssertionMaker{}).MakeAssertion(req, session); err != nil {
		t.Fatal(err)
	}
	if err := req.MakeAssertionEl(); err != nil {
		t.Fatal(err)
	}
	doc := etree.NewDocument()
	doc.SetRoot(req.AssertionEl)
	data, err := doc.WriteToBytes()
	if err != nil {
		t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(data)
}

// believe makes a stack's configuration take the provider's assertions, and give
// tokens for them.
func (p *provider) believe(t *testing.T, dir, config string) string {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "idp.pem"), p.pem(), 0o600); err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(config, "console: ")
	console, _, _ := strings.Cut(after, "\n")
	return strings.Replace(config, "identity:\n", `identity:
  saml:
    - {name: corp, entity_id: "`+entity+`", certificate_file: idp.pem, audiences: [callgate], recipient: "`+recipient+`", attributes: {groups: "urn:oid:1.3.6.1.4.1.5923.1.1.1.1"}}
  exchange: {issuer: "http://`+strings.Trim(console, `"`)+`"}
`, 1)
}

type exchanged struct {
	Token       string `json:"access_token"`
	Expires     int    `json:"expires_in"`
	Scope       string `json:"scope"`
	Error       string `json:"error"`
	Description string `json:"error_description"`
}

func (w *world) redeem(t *testing.T, form url.Values) exchanged {
	t.Helper()
	form.Set("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange")
	resp, err := http.PostForm("http://"+w.Addrs.Console+"/token", form)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var out exchanged
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil {
		t.Fatal(err)
	}
	if (resp.StatusCode == http.StatusOK) != (out.Token != "") {
		t.Errorf("%s: %+v", resp.Status, out)
	}
	return out
}

const tokenType = "urn:ietf:params:oauth:token-type:"

// SAML assertions through Envoy, and tokens that the control plane gives and a
// decision server elsewhere believes.
// It returns the token of an agent that acts for alice.
func (f *fleet) exchanges(t *testing.T) string {
	t.Helper()
	p := f.saml
	get := func(path string, header ...string) answer {
		t.Helper()
		return f.call(t, http.DefaultClient, "", "GET", path, "", header...)
	}
	expect := func(what string, a answer, status int, reason string) {
		t.Helper()
		if a.status != status || a.reason() != reason {
			t.Errorf("%s: %d %q %s, want %d %q", what, a.status, a.reason(), a.body, status, reason)
		}
	}
	const customer = "/crm/customers/c-1"
	assertion := p.assertion(t, "carla")
	expect("an assertion", get(customer, "authorization", "SAML "+assertion), 200, "")
	if last, ok := f.REST.Last(); !ok || strings.Contains(last.Header.Get("authorization"), assertion) {
		t.Error("the function got the assertion")
	}
	expect("an assertion as a bearer token", get(customer, "authorization", "Bearer "+assertion), 401, "invalid_token")
	expect("a stranger's assertion", get(customer, "authorization", "SAML "+newProvider(t).assertion(t, "carla")), 401, "invalid_token")

	form := url.Values{"subject_token": {assertion}, "subject_token_type": {tokenType + "saml2"}}
	got := f.redeem(t, form)
	if got.Token == "" || got.Expires < 1 || got.Expires > 300 {
		t.Fatalf("%+v", got)
	}
	expect("the token for it", get(customer, "authorization", "Bearer "+got.Token), 200, "")
	if again := f.redeem(t, form); again.Error != "invalid_request" || !strings.Contains(again.Description, "exchanged before") {
		t.Errorf("the assertion again: %+v", again)
	}
	// Narrowed, it is of no use for anything else.
	narrow := f.redeem(t, url.Values{"subject_token": {got.Token}, "subject_token_type": {tokenType + "access_token"}, "scope": {"crm:customers.get"}})
	expect("a narrowed token, where it is for", get(customer, "authorization", "Bearer "+narrow.Token), 200, "")
	expect("a narrowed token, elsewhere", get("/crm/customers?q=a", "authorization", "Bearer "+narrow.Token), 403, "insufficient_scope")
	if wide := f.redeem(t, url.Values{"subject_token": {narrow.Token}, "subject_token_type": {tokenType + "access_token"}, "scope": {"crm"}}); wide.Error != "invalid_scope" {
		t.Errorf("a narrowed token is widened: %+v", wide)
	}
	// Alice's token says that her agent may act for her; Bob's does not say so of his.
	delegated := f.redeem(t, url.Values{"subject_token": {f.alice}, "subject_token_type": {tokenType + "access_token"}, "actor_token": {f.own}, "actor_token_type": {tokenType + "access_token"}})
	expect("her agent", get(customer, "authorization", "Bearer "+delegated.Token), 200, "")
	if no := f.redeem(t, url.Values{"subject_token": {f.alice}, "subject_token_type": {tokenType + "access_token"}, "actor_token": {f.bob}, "actor_token_type": {tokenType + "access_token"}}); no.Error != "invalid_request" || !strings.Contains(no.Description, "may_act") {
		t.Errorf("somebody else acts for alice: %+v", no)
	}
	return delegated.Token
}

func access(token string) url.Values {
	return url.Values{"subject_token": {token}, "subject_token_type": {tokenType + "access_token"}}
}
