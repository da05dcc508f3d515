package extauthz_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwk"
	"github.com/lestrrat-go/jwx/v2/jws"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/call/protocol"
	"github.com/callgate/callgate/call/redact"
	"github.com/callgate/callgate/extauthz"
	"github.com/callgate/callgate/extauthz/connection"
	"github.com/callgate/callgate/extauthz/identity"
	"github.com/callgate/callgate/policies"
)

type nowhere struct{}

func (nowhere) Record(context.Context, call.Event) error { return nil }

// BenchmarkCheck is a whole decision on a call with a body of 1 KiB, under ten
// rules, with a token seen before; all but the disk and the network.
func BenchmarkCheck(b *testing.B) {
	verifier, token := issued(b)
	parser, err := protocol.New(protocol.Config{Protocol: call.HTTP, BasePath: "/crm",
		Functions: []protocol.Function{{Name: "refunds.create", Method: "POST", Path: "/refunds"}}})
	must(b, err)
	conns, err := connection.NewSet([]*connection.Connection{{Name: "crm", Protocol: call.HTTP, Path: "/crm", Parser: parser, MaxBody: 1 << 20,
		MaxResponse: 1 << 20, Record: call.RecordSettings{MaxBody: 64 << 10, Response: call.RecordDurable}}})
	must(b, err)
	var rules []policies.Rule
	for i, when := range []string{
		`identity.kind == "agent" && call.args.amount > 10000`, `call.args.query.lowerAscii().matches("drop\\s+table")`,
		`!("support" in identity.groups) && call.method == "DELETE"`, `call.function == "customers.delete"`,
		`has(call.args.region) && call.args.region != "emea"`, `call.body_size > 100000`, `call.headers["x-team"] == "c"`,
		`identity.claims.tier == "bronze"`, `call.args.customer.vip == true && call.args.amount > 500`,
	} {
		rules = append(rules, policies.Rule{Name: fmt.Sprintf("no-%d", i), Action: policies.Deny, When: when})
	}
	rules = append(rules, policies.Rule{Name: "yes", Action: policies.Allow, When: `identity.subject == "ann"`})
	compiled, err := policies.Compile(rules, policies.Config{Version: "v1",
		Connections: []policies.Connection{{Name: "crm", Protocol: call.HTTP, Functions: []string{"refunds.create", "customers.delete"}}}})
	must(b, err)
	hidden, err := redact.New([]byte(strings.Repeat("k", redact.MinKey)))
	must(b, err)
	s := extauthz.New(extauthz.Config{Identifier: verifier, Redact: hidden, Recorder: nowhere{}, Log: slog.New(slog.DiscardHandler),
		Metrics: extauthz.NewMetrics(prometheus.NewRegistry())})
	s.Activate(extauthz.Versions{Stable: extauthz.Active{Version: "v1", Connections: conns, Policy: compiled}})

	start := `{"amount":150,"query":"select name from customers where id = 7","region":"emea","customer":{"vip":false},"items":[{"sku":"a-1","n":3}],"note":"`
	body := start + strings.Repeat("x", 1024-len(start)-2) + `"}`
	var headers []*corev3.HeaderValue
	for _, f := range [][2]string{{"authorization", "Bearer " + token}, {"content-type", "application/json"}, {"content-length", strconv.Itoa(len(body))},
		{"x-envoy-auth-partial-body", "false"}, {"x-request-id", "3f7b5a7e-2f0c-4a51-9a0f-6f2a3f1f7a10"}, {"x-team", "a"}, {"user-agent", "curl/8"}, {"accept", "*/*"},
		{"traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}, {"x-forwarded-for", "10.0.0.7"}} {
		headers = append(headers, &corev3.HeaderValue{Key: f[0], RawValue: []byte(f[1])})
	}
	req := &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		ContextExtensions: map[string]string{"connection": "crm", "legs": "answered,finished"},
		Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{Method: "POST", Scheme: "https", Host: "crm",
			Path: "/crm/refunds", RawBody: []byte(body), HeaderMap: &corev3.HeaderMap{Headers: headers}}}}}
	b.ReportAllocs()
	for b.Loop() {
		resp, err := s.Check(b.Context(), req)
		if err != nil || resp.GetOkResponse() == nil {
			b.Fatalf("%v, %v", resp, err)
		}
	}
}

// issued returns a Verifier and a token that it believes.
func issued(b testing.TB) (*identity.Verifier, string) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	must(b, err)
	public, err := jwk.FromRaw(key.Public())
	must(b, err)
	must(b, public.Set(jwk.KeyIDKey, "k"))
	keys := jwk.NewSet()
	must(b, keys.AddKey(public))
	var url string
	issuer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var answer any = keys
		if strings.HasSuffix(r.URL.Path, "openid-configuration") {
			answer = map[string]string{"issuer": url, "jwks_uri": url + "/keys"}
		}
		if err := json.NewEncoder(w).Encode(answer); err != nil {
			b.Error(err)
		}
	}))
	b.Cleanup(issuer.Close)
	url = issuer.URL
	v, err := identity.New(identity.Config{Issuers: []identity.Issuer{{URL: url, Audiences: []string{"gate"}, Algorithms: []string{"RS256"},
		Subject: "sub", Groups: "groups", Kind: "kind", DefaultKind: call.Human}},
		Log: slog.New(slog.DiscardHandler), Metrics: identity.NewMetrics(prometheus.NewRegistry())})
	must(b, err)
	must(b, v.Fetch(b.Context()))
	claims, err := json.Marshal(map[string]any{"iss": url, "aud": "gate", "sub": "ann", "tier": "gold", "groups": []string{"support"},
		"exp": time.Now().Add(time.Hour).Unix()})
	must(b, err)
	h := jws.NewHeaders()
	must(b, h.Set("kid", "k"))
	token, err := jws.Sign(claims, jws.WithKey(jwa.RS256, key, jws.WithProtectedHeaders(h)))
	must(b, err)
	return v, string(token)
}

func must(b testing.TB, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}
