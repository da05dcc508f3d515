package issuer_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwk"
	"github.com/lestrrat-go/jwx/v2/jws"
	"github.com/lestrrat-go/jwx/v2/jwt"

	"github.com/callgate/callgate/demo/issuer"
)

const (
	alicePassword = "alice-demo-password"
	bobPassword   = "bob-demo-password"
	ciSecret      = "ci-deploy-demo-secret"
	staleSecret   = "ci-stale-demo-secret"
	agentSecret   = "support-agent-demo-secret"
)

// run serves an issuer until the test or the returned stop ends it.
func run(t *testing.T, i *issuer.Issuer) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- i.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	}
	t.Cleanup(stop)
	return stop
}

func start(t *testing.T, c issuer.Config) (*issuer.Issuer, *issuer.Flows) {
	t.Helper()
	i, err := issuer.New(c)
	if err != nil {
		t.Fatal(err)
	}
	run(t, i)
	return i, i.Flows(nil)
}

// keySet fetches the JWKS that discovery names.
func keySet(t *testing.T, from string) jwk.Set {
	t.Helper()
	var doc struct {
		Keys string `json:"jwks_uri"`
	}
	fetchJSON(t, from+"/.well-known/openid-configuration", &doc)
	set, err := jwk.Fetch(t.Context(), doc.Keys)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func fetchJSON(t *testing.T, from string, into any) {
	t.Helper()
	resp, err := http.Get(from)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		t.Fatalf("%s: %s: %v", from, resp.Status, err)
	}
}

// verify checks a token as a relying service would.
func verify(t *testing.T, from, token string) (jwt.Token, error) {
	t.Helper()
	return jwt.Parse([]byte(token), jwt.WithKeySet(keySet(t, from)), jwt.WithIssuer(from),
		jwt.WithAudience("callgate"), jwt.WithAcceptableSkew(0))
}

func mustVerify(t *testing.T, from, token string) map[string]any {
	t.Helper()
	tok, err := verify(t, from, token)
	if err != nil {
		t.Fatal(err)
	}
	claims, err := tok.AsMap(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return claims
}

func mustLogin(t *testing.T, f *issuer.Flows, user, password string) issuer.Token {
	t.Helper()
	tok, err := f.Login(t.Context(), user, password)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func mustClient(t *testing.T, f *issuer.Flows, id, secret string) issuer.Token {
	t.Helper()
	tok, err := f.ClientCredentials(t.Context(), id, secret)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func wantError(t *testing.T, err error, part string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), part) {
		t.Errorf("got error %v, want one with %q", err, part)
	}
}

func wantClaim(t *testing.T, claims map[string]any, name string, want any) {
	t.Helper()
	if got := fmt.Sprint(claims[name]); got != fmt.Sprint(want) {
		t.Errorf("claim %s is %s, want %v", name, got, want)
	}
}

func TestTokens(t *testing.T) {
	t.Parallel()
	i, f := start(t, issuer.Config{})
	alice := mustLogin(t, f, issuer.Alice, alicePassword)
	agent := mustClient(t, f, issuer.SupportAgent, agentSecret)

	t.Run("a person", func(t *testing.T) {
		claims := mustVerify(t, i.URL(), alice.Access)
		wantClaim(t, claims, "sub", "alice")
		wantClaim(t, claims, "aud", "[callgate]")
		wantClaim(t, claims, "kind", "human")
		wantClaim(t, claims, "groups", "[support]")
		wantClaim(t, claims, "email", "alice@example.com")
		for _, name := range []string{"exp", "iat", "jti"} {
			if claims[name] == nil {
				t.Errorf("claim %s is missing", name)
			}
		}
		msg, err := jws.ParseString(alice.Access)
		if err != nil {
			t.Fatal(err)
		}
		h := msg.Signatures()[0].ProtectedHeaders()
		if h.Algorithm() != "RS256" || h.KeyID() == "" {
			t.Errorf("header has alg %s, kid %q", h.Algorithm(), h.KeyID())
		}
		bob := mustVerify(t, i.URL(), mustLogin(t, f, issuer.Bob, bobPassword).Access)
		wantClaim(t, bob, "groups", "[refund-approvers finance]")
	})

	t.Run("an ID token is for the application alone", func(t *testing.T) {
		if _, err := verify(t, i.URL(), alice.ID); err == nil {
			t.Error("an ID token passes for an access token")
		}
		tok, err := jwt.Parse([]byte(alice.ID), jwt.WithKeySet(keySet(t, i.URL())), jwt.WithAudience(issuer.Desktop))
		if err != nil {
			t.Fatal(err)
		}
		if email, _ := tok.Get("email"); email != "alice@example.com" {
			t.Errorf("email is %v", email)
		}
	})

	t.Run("a job", func(t *testing.T) {
		claims := mustVerify(t, i.URL(), mustClient(t, f, issuer.CIDeploy, ciSecret).Access)
		wantClaim(t, claims, "sub", "ci-deploy")
		wantClaim(t, claims, "kind", "ci")
		wantClaim(t, claims, "groups", "[ci]")
	})

	t.Run("an agent for a person", func(t *testing.T) {
		own := mustVerify(t, i.URL(), agent.Access)
		wantClaim(t, own, "sub", "support-agent")
		wantClaim(t, own, "kind", "agent")
		wantClaim(t, own, "groups", "[]")
		tok, err := f.Exchange(t.Context(), issuer.SupportAgent, agentSecret, alice.Access, agent.Access)
		if err != nil {
			t.Fatal(err)
		}
		claims := mustVerify(t, i.URL(), tok.Access)
		wantClaim(t, claims, "sub", "alice")
		wantClaim(t, claims, "kind", "agent")
		wantClaim(t, claims, "groups", "[support]")
		wantClaim(t, claims, "act", "map[sub:support-agent]")
		again, err := f.Exchange(t.Context(), issuer.SupportAgent, agentSecret, tok.Access, agent.Access)
		if err != nil {
			t.Fatal(err)
		}
		wantClaim(t, mustVerify(t, i.URL(), again.Access), "act", "map[act:map[sub:support-agent] sub:support-agent]")
	})

	t.Run("one that ran out", func(t *testing.T) {
		stale := mustClient(t, f, issuer.CIStale, staleSecret)
		_, err := verify(t, i.URL(), stale.Access)
		wantError(t, err, `"exp" not satisfied`)
		tok, err := jwt.Parse([]byte(stale.Access), jwt.WithKeySet(keySet(t, i.URL())), jwt.WithValidate(false))
		if err != nil {
			t.Fatalf("its signature is not good: %v", err)
		}
		if ago := time.Since(tok.Expiration()); ago < 59*time.Minute || !tok.IssuedAt().Before(tok.Expiration()) {
			t.Errorf("it ran out %v ago, issued at %v", ago, tok.IssuedAt())
		}
	})

	t.Run("a forged one", func(t *testing.T) {
		forged, err := issuer.Forge(alice.Access)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := verify(t, i.URL(), forged); err == nil {
			t.Error("a forged token is taken for a real one")
		}
		if forged[:strings.LastIndexByte(forged, '.')] != alice.Access[:strings.LastIndexByte(alice.Access, '.')] {
			t.Error("it differs in more than the signature")
		}
		_, err = issuer.Forge("opaque")
		wantError(t, err, "not a signed JWT")
	})

	t.Run("refreshed", func(t *testing.T) {
		once := mustLogin(t, f, issuer.Alice, alicePassword)
		next, err := f.Refresh(t.Context(), once.Refresh)
		if err != nil {
			t.Fatal(err)
		}
		wantClaim(t, mustVerify(t, i.URL(), next.Access), "sub", "alice")
		_, err = f.Refresh(t.Context(), once.Refresh)
		wantError(t, err, "invalid_grant")
		if _, err = f.Refresh(t.Context(), next.Refresh); err != nil {
			t.Errorf("the new refresh token is not good: %v", err)
		}
	})

	t.Run("revoked", func(t *testing.T) {
		gone := mustLogin(t, f, issuer.Alice, alicePassword)
		wantError(t, f.Revoke(t.Context(), issuer.CIDeploy, ciSecret, gone.Access), "another client")
		if !introspect(t, i.URL(), gone.Access).Active {
			t.Error("a stranger revoked the token")
		}
		if err := f.Revoke(t.Context(), issuer.Desktop, "", gone.Access); err != nil {
			t.Fatal(err)
		}
		if introspect(t, i.URL(), gone.Access).Active {
			t.Error("still active")
		}
		_, err := f.Exchange(t.Context(), issuer.SupportAgent, agentSecret, gone.Access, agent.Access)
		wantError(t, err, "subject_token is not one of this issuer's active")
	})

	t.Run("introspected", func(t *testing.T) {
		got := introspect(t, i.URL(), alice.Access)
		if !got.Active || got.Subject != "alice" || got.Kind != "human" || !slices.Equal(got.Groups, []string{"support"}) {
			t.Errorf("got %+v", got)
		}
		if introspect(t, i.URL(), alice.ID).Active {
			t.Error("an ID token is an active access token")
		}
	})
}

type introspection struct {
	Active  bool     `json:"active"`
	Subject string   `json:"sub"`
	Kind    string   `json:"kind"`
	Groups  []string `json:"groups"`
}

func introspect(t *testing.T, from, token string) (got introspection) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, from+"/oauth/introspect", strings.NewReader(url.Values{"token": {token}}.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(issuer.CIDeploy, ciSecret)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil {
		t.Fatalf("introspect: %s: %v", resp.Status, err)
	}
	return got
}

// An exchanged token ends with the one it was made of, and a revoked actor
// makes none.
func TestExchangeEnds(t *testing.T) {
	t.Parallel()
	clients := issuer.DemoClients()
	clients[0].Lifetime = 5 * time.Minute // of the people's application
	i, f := start(t, issuer.Config{Clients: clients})
	alice := mustLogin(t, f, issuer.Alice, alicePassword)
	agent := mustClient(t, f, issuer.SupportAgent, agentSecret)
	tok, err := f.Exchange(t.Context(), issuer.SupportAgent, agentSecret, alice.Access, agent.Access)
	if err != nil {
		t.Fatal(err)
	}
	wantClaim(t, mustVerify(t, i.URL(), tok.Access), "exp", mustVerify(t, i.URL(), alice.Access)["exp"])
	if err := f.Revoke(t.Context(), issuer.SupportAgent, agentSecret, agent.Access); err != nil {
		t.Fatal(err)
	}
	_, err = f.Exchange(t.Context(), issuer.SupportAgent, agentSecret, alice.Access, agent.Access)
	wantError(t, err, "actor_token is not one of this issuer's active")
}

func TestRotate(t *testing.T) {
	t.Parallel()
	i, f := start(t, issuer.Config{})
	before := mustClient(t, f, issuer.CIDeploy, ciSecret)
	kid, err := i.Rotate()
	if err != nil {
		t.Fatal(err)
	}
	after := mustClient(t, f, issuer.CIDeploy, ciSecret)
	msg, err := jws.ParseString(after.Access)
	if err != nil {
		t.Fatal(err)
	}
	if got := msg.Signatures()[0].ProtectedHeaders().KeyID(); got != kid {
		t.Errorf("signed with key %s, want the new one %s", got, kid)
	}
	mustVerify(t, i.URL(), before.Access)
	mustVerify(t, i.URL(), after.Access)
	if n := keySet(t, i.URL()).Len(); n != 2 {
		t.Errorf("the JWKS has %d keys, want 2", n)
	}
}

func TestOutage(t *testing.T) {
	t.Parallel()
	i, err := issuer.New(issuer.Config{})
	if err != nil {
		t.Fatal(err)
	}
	stop := run(t, i)
	f := i.Flows(&http.Client{Transport: &http.Transport{DisableKeepAlives: true}})
	before := mustClient(t, f, issuer.CIDeploy, ciSecret)
	wantError(t, i.Run(t.Context()), "is running already")
	stop()
	_, err = f.ClientCredentials(t.Context(), issuer.CIDeploy, ciSecret)
	wantError(t, err, "connection refused")
	run(t, i)
	waitServed(t, i.URL())
	mustVerify(t, i.URL(), before.Access)
	mustClient(t, f, issuer.CIDeploy, ciSecret)
}

// waitServed returns when the issuer listens; the test's own deadline ends it.
func waitServed(t *testing.T, from string) {
	t.Helper()
	for {
		resp, err := http.Get(from + "/healthz")
		if err == nil {
			resp.Body.Close()
			return
		}
		if t.Context().Err() != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestTLSAndAudience(t *testing.T) {
	t.Parallel()
	// httptest's certificate is good for 127.0.0.1.
	borrowed := httptest.NewTLSServer(http.NotFoundHandler())
	defer borrowed.Close()
	i, err := issuer.New(issuer.Config{
		TLS: &tls.Config{Certificates: borrowed.TLS.Certificates}, Audience: []string{"gate-a", "gate-b"},
	})
	if err != nil {
		t.Fatal(err)
	}
	run(t, i)
	if !strings.HasPrefix(i.URL(), "https://127.0.0.1:") {
		t.Errorf("URL is %s", i.URL())
	}
	tok := mustLogin(t, i.Flows(borrowed.Client()), issuer.Bob, bobPassword)
	parsed, err := jwt.ParseInsecure([]byte(tok.Access))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(parsed.Audience(), []string{"gate-a", "gate-b"}) || parsed.Issuer() != i.URL() {
		t.Errorf("aud %v, iss %s", parsed.Audience(), parsed.Issuer())
	}
}

func TestBadConfig(t *testing.T) {
	t.Parallel()
	for want, c := range map[string]issuer.Config{
		"is given twice":           {Users: append(issuer.DemoUsers(), issuer.DemoUsers()[0])},
		"has the name of a user":   {Clients: []issuer.Client{{ID: "alice"}}},
		"a password are required":  {Users: []issuer.User{{Name: "eve"}}},
		"a client with a secret":   {Clients: []issuer.Client{{ID: "x", Exchange: true}}},
		"a client has no id":       {Clients: []issuer.Client{{}}},
		"another process on that ": {Addr: "127.0.0.1:1"}, // see below
	} {
		if c.Addr != "" {
			taken := httptest.NewServer(http.NotFoundHandler())
			defer taken.Close()
			c.Addr = taken.Listener.Addr().String()
		}
		_, err := issuer.New(c)
		wantError(t, err, want)
	}
}

// TestNothingSecretIsLogged runs every flow and looks for what must not show.
func TestNothingSecretIsLogged(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	i, err := issuer.New(issuer.Config{Log: slog.New(slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	if err != nil {
		t.Fatal(err)
	}
	stop := run(t, i)
	f := i.Flows(nil)
	tok := mustLogin(t, f, issuer.Alice, alicePassword)
	if _, err := f.Login(t.Context(), issuer.Alice, "wrong-password"); err == nil {
		t.Error("logged in with a wrong password")
	}
	stop()
	slog.New(slog.NewJSONHandler(&out, nil)).Info("got", "token", tok)
	for _, secret := range []string{tok.Access, tok.Refresh, tok.ID, alicePassword, "wrong-password"} {
		if strings.Contains(out.String(), secret) {
			t.Errorf("the log has %q", secret)
		}
	}
	if !strings.Contains(out.String(), `"accepted":true`) {
		t.Errorf("the login is not in the log: %s", out.String())
	}
}

func TestDiscoveryNamesItself(t *testing.T) {
	t.Parallel()
	i, _ := start(t, issuer.Config{})
	var doc map[string]any
	fetchJSON(t, i.URL()+"/.well-known/openid-configuration", &doc)
	if doc["issuer"] != i.URL() || !strings.HasPrefix(fmt.Sprint(doc["jwks_uri"]), i.URL()) {
		t.Errorf("issuer %v, jwks_uri %v", doc["issuer"], doc["jwks_uri"])
	}
	if got := fmt.Sprint(doc["grant_types_supported"]); !strings.Contains(got, "token-exchange") || !strings.Contains(got, "client_credentials") {
		t.Errorf("grant types %s", got)
	}
	other := issuer.Flows{Issuer: i.URL() + "/"}
	_, err := other.ClientCredentials(t.Context(), issuer.CIDeploy, ciSecret)
	wantError(t, err, "the document there is of issuer")
	big, err := http.Post(i.URL()+"/oauth/token", "application/x-www-form-urlencoded", io.LimitReader(endless{}, 1<<20))
	if err == nil {
		big.Body.Close()
		if big.StatusCode < 400 {
			t.Errorf("a body of 1 MiB: %s", big.Status)
		}
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'a'
	}
	return len(p), nil
}
