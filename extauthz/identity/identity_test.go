package identity

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwe"
	"github.com/lestrrat-go/jwx/v2/jwk"
	"github.com/lestrrat-go/jwx/v2/jws"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/callgate/callgate/call"
)

// start is when the tests' clocks start.
var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const skew = 30 * time.Second

// issuerServer is an issuer over HTTP: discovery and keys, that can be changed,
// broken and counted.
type issuerServer struct {
	*httptest.Server
	fetches atomic.Int64 // of the keys
	down    atomic.Bool
	claimed atomic.Value // issuer in the discovery document
	mu      sync.Mutex
	set     jwk.Set
}

func (s *issuerServer) publish(t testing.TB, keys ...signer) {
	t.Helper()
	set := jwk.NewSet()
	for _, k := range keys {
		if err := set.AddKey(k.public); err != nil {
			t.Fatal(err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.set = set
}

func (s *issuerServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.down.Load() {
		http.Error(w, "away", http.StatusServiceUnavailable)
		return
	}
	switch r.URL.Path {
	case "/.well-known/openid-configuration":
		json.NewEncoder(w).Encode(map[string]string{"issuer": s.claimed.Load().(string), "jwks_uri": s.URL + "/keys"})
	case "/keys":
		s.fetches.Add(1)
		s.mu.Lock()
		defer s.mu.Unlock()
		json.NewEncoder(w).Encode(s.set)
	default:
		http.NotFound(w, r)
	}
}

// signer is a key pair of the issuer.
type signer struct {
	private crypto.Signer
	public  jwk.Key
	alg     jwa.SignatureAlgorithm
}

func newSigner(t testing.TB, kid string, alg jwa.SignatureAlgorithm) signer {
	t.Helper()
	var private crypto.Signer
	var err error
	switch alg {
	case jwa.ES256:
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case jwa.EdDSA:
		_, private, err = ed25519.GenerateKey(rand.Reader)
	default:
		private, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	if err != nil {
		t.Fatal(err)
	}
	return signerOf(t, kid, alg, private)
}

// rsaKey is one for all rigs, since making them takes long.
var rsaKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

func sharedSigner(t testing.TB, kid string) signer {
	t.Helper()
	key, err := rsaKey()
	if err != nil {
		t.Fatal(err)
	}
	return signerOf(t, kid, jwa.RS256, key)
}

func signerOf(t testing.TB, kid string, alg jwa.SignatureAlgorithm, private crypto.Signer) signer {
	t.Helper()
	public, err := jwk.FromRaw(private.Public())
	if err != nil {
		t.Fatal(err)
	}
	for name, v := range map[string]any{jwk.KeyIDKey: kid, jwk.AlgorithmKey: alg, jwk.KeyUsageKey: "sig"} {
		if err := public.Set(name, v); err != nil {
			t.Fatal(err)
		}
	}
	return signer{private, public, alg}
}

// sign makes a compact token; extra changes its protected header.
func sign(t testing.TB, alg jwa.SignatureAlgorithm, key any, claims, extra map[string]any) string {
	t.Helper()
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	h := jws.NewHeaders()
	for k, v := range extra {
		if err := h.Set(k, v); err != nil {
			t.Fatal(err)
		}
	}
	out, err := jws.Sign(payload, jws.WithKey(alg, key, jws.WithProtectedHeaders(h)))
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// token signs claims with the signer's own algorithm and key id.
func (k signer) token(t testing.TB, claims map[string]any) string {
	t.Helper()
	return sign(t, k.alg, k.private, claims, map[string]any{"kid": k.public.KeyID(), "typ": "at+jwt"})
}

// rig is a Verifier with an issuer of its own and a clock.
type rig struct {
	*Verifier
	issuer      *issuerServer
	rs, es, ed  signer
	nanoseconds atomic.Int64 // since start
}

func (r *rig) now() time.Time          { return start.Add(time.Duration(r.nanoseconds.Load())) }
func (r *rig) advance(d time.Duration) { r.nanoseconds.Add(int64(d)) }
func (r *rig) is() *issuer             { return r.issuers[r.issuer.URL] }
func (r *rig) fetch(t testing.TB)      { t.Helper(); must(t, r.is().fetch(t.Context())) }
func (r *rig) refused(t *testing.T, token string, want call.Reason) string {
	t.Helper()
	id, err := r.Verify(t.Context(), token)
	return refusedAs(t, token, id, err, want)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// refusedAs checks the refusal and that it quotes nothing of the token.
func refusedAs(t testing.TB, token string, id call.Identity, err error, want call.Reason) string {
	t.Helper()
	var known *Error
	if !errors.As(err, &known) {
		t.Fatalf("got %+v, %v; want a refusal as %s", id, err, want)
	}
	if known.Reason != want {
		t.Errorf("reason %s (%s), want %s", known.Reason, known.Message, want)
	}
	if known.Message == "" || id.Subject != "" {
		t.Errorf("message %q, identity %+v", known.Message, id)
	}
	for _, part := range strings.FieldsFunc(token, func(r rune) bool { return r == '.' || r == ' ' }) {
		if len(part) > 8 && strings.Contains(known.Message, part) {
			t.Errorf("the message %q quotes the token", known.Message)
		}
	}
	return known.Message
}

func newRig(t testing.TB, change ...func(*Issuer)) *rig {
	t.Helper()
	r := &rig{issuer: &issuerServer{}, rs: sharedSigner(t, "rs"), es: newSigner(t, "es", jwa.ES256), ed: newSigner(t, "ed", jwa.EdDSA)}
	r.issuer.Server = httptest.NewServer(r.issuer)
	t.Cleanup(r.issuer.Close)
	r.issuer.claimed.Store(r.issuer.URL)
	r.issuer.publish(t, r.rs, r.es, r.ed)
	c := Issuer{Name: "corp", URL: r.issuer.URL, Audiences: []string{"gate", "other"}, Algorithms: []string{"RS256", "ES256", "EdDSA"},
		Subject: "sub", Groups: "groups", Kind: "kind", DefaultKind: call.Human}
	for _, f := range change {
		f(&c)
	}
	v, err := New(Config{Issuers: []Issuer{c}, ClockSkew: skew, Log: slog.New(slog.DiscardHandler),
		Metrics: NewMetrics(prometheus.NewRegistry()), Now: r.now})
	must(t, err)
	r.Verifier = v
	must(t, v.Fetch(t.Context()))
	return r
}

// claims are of a valid token; with changes them, nil deletes.
func (r *rig) claims(with map[string]any) map[string]any {
	c := map[string]any{"iss": r.issuer.URL, "aud": "gate", "sub": "u-1", "jti": "t-1",
		"iat": start.Unix(), "exp": start.Add(time.Hour).Unix()}
	for k, v := range with {
		if v == nil {
			delete(c, k)
		} else {
			c[k] = v
		}
	}
	return c
}

func TestValidTokens(t *testing.T) {
	r := newRig(t)
	for _, k := range []signer{r.rs, r.es, r.ed} {
		id, err := r.Verify(t.Context(), k.token(t, r.claims(map[string]any{"aud": []string{"x", "gate"}})))
		must(t, err)
		if id.Subject != "u-1" || id.Issuer != r.issuer.URL || id.Kind != call.Human || id.Method != "oidc" || id.TokenID != "t-1" || !id.Expires.Equal(start.Add(time.Hour)) {
			t.Errorf("%s: %+v", k.alg, id)
		}
	}
	// A token may leave out its key's id where only one key fits.
	if _, err := r.Verify(t.Context(), sign(t, jwa.ES256, r.es.private, r.claims(nil), nil)); err != nil {
		t.Error(err)
	}
}

func TestSymmetricAlgorithmsCannotBeConfigured(t *testing.T) {
	for _, alg := range []string{"HS256", "HS512", "none", "", "RS257"} {
		if _, err := New(Config{Issuers: []Issuer{{URL: "https://i", Algorithms: []string{alg}}}}); err == nil {
			t.Errorf("%q was accepted", alg)
		}
	}
}

func TestForgedTokens(t *testing.T) {
	r := newRig(t, func(i *Issuer) { i.Algorithms = []string{"RS256", "ES256"} })
	good := r.claims(nil)
	der, err := x509.MarshalPKIXPublicKey(r.rs.private.Public())
	must(t, err)
	published, err := json.Marshal(r.rs.public)
	must(t, err)
	stranger := newSigner(t, "rs", jwa.RS256)
	b64 := base64.RawURLEncoding.EncodeToString
	payload, err := json.Marshal(good)
	must(t, err)
	valid := r.rs.token(t, good)
	parts := strings.Split(valid, ".")
	forged, err := json.Marshal(r.claims(map[string]any{"sub": "root"}))
	must(t, err)
	kid := map[string]any{"kid": "rs"}
	inJSON, err := jws.Sign(payload, jws.WithJSON(), jws.WithKey(jwa.RS256, r.rs.private))
	must(t, err)

	nestedBytes, err := jws.Sign([]byte(valid), jws.WithKey(jwa.RS256, r.rs.private, jws.WithProtectedHeaders(contentType(t, "rs", "JWT"))))
	must(t, err)
	nested := string(nestedBytes)
	encryptedBytes, err := jwe.Encrypt(payload, jwe.WithKey(jwa.RSA_OAEP, r.rs.private.Public()), jwe.WithContentEncryption(jwa.A256GCM))
	must(t, err)
	encrypted := string(encryptedBytes)

	for name, token := range map[string]string{
		"signed with the public key's DER as HMAC key": sign(t, jwa.HS256, der, good, kid),
		"signed with the published key's JSON as HMAC": sign(t, jwa.HS256, published, good, kid),
		"alg none":                       b64([]byte(`{"alg":"none"}`)) + "." + b64(payload) + ".",
		"alg NONE":                       b64([]byte(`{"alg":"NONE","kid":"rs"}`)) + "." + b64(payload) + ".",
		"no alg":                         b64([]byte(`{"kid":"rs"}`)) + "." + b64(payload) + "." + parts[2],
		"RS256 with the id of an ES key": sign(t, jwa.RS256, r.rs.private, good, map[string]any{"kid": "es"}),
		"alg not configured":             r.ed.token(t, good),
		"PS256 with an RS256 key":        sign(t, jwa.PS256, r.rs.private, good, kid),
		"a stranger's key under our id":  stranger.token(t, good),
		"changed claims":                 parts[0] + "." + b64(forged) + "." + parts[2],
		"no signature":                   parts[0] + "." + parts[1] + ".",
		"two parts":                      parts[0] + "." + parts[1],
		"four parts":                     valid + ".x",
		"JSON serialization":             string(inJSON),
		"crit":                           sign(t, jwa.RS256, r.rs.private, good, map[string]any{"kid": "rs", "crit": []string{"exp"}, "exp": 1}),
		"typ logout+jwt":                 sign(t, jwa.RS256, r.rs.private, good, map[string]any{"kid": "rs", "typ": "logout+jwt"}),
		"typ application/Logout+JWT":     sign(t, jwa.RS256, r.rs.private, good, map[string]any{"kid": "rs", "typ": "application/Logout+JWT"}),
		"its own key in jwk":             sign(t, jwa.RS256, stranger.private, good, map[string]any{"kid": "own", "jwk": stranger.public}),
		"a jku elsewhere":                sign(t, jwa.RS256, stranger.private, good, map[string]any{"kid": "own", "jku": "https://evil.example/keys"}),
		"an x5u elsewhere":               sign(t, jwa.RS256, stranger.private, good, map[string]any{"kid": "own", "x5u": "https://evil.example/cert"}),
		"its own certificate in x5c":     b64([]byte(`{"alg":"RS256","kid":"own","x5c":["MIIB"]}`)) + "." + b64(payload) + "." + parts[2],
		"jwk beside a known kid":         sign(t, jwa.RS256, stranger.private, good, map[string]any{"kid": "rs", "jwk": stranger.public}),
		"a kid that is a path":           sign(t, jwa.RS256, stranger.private, good, map[string]any{"kid": "../../../../dev/null"}),
		"a kid that is SQL":              sign(t, jwa.RS256, stranger.private, good, map[string]any{"kid": "x' UNION SELECT 'key"}),
		"a kid that is a number":         raw(t, r.es, `{"alg":"ES256","kid":1}`, string(payload)),
		"signed with an empty HMAC key":  b64([]byte(`{"alg":"HS256","kid":"rs"}`)) + "." + b64(payload) + "." + b64(emptyHMAC([]byte(`{"alg":"HS256","kid":"rs"}`), payload)),
		"a token within a token":         r.rs.token(t, map[string]any{"token": valid}),
		"cty JWT around a token":         nested,
		"a JWE":                          encrypted,
		"an unencoded payload (b64)":     raw(t, r.es, `{"alg":"ES256","kid":"es","b64":false,"crit":["b64"]}`, string(payload)),
		"alg as a list":                  raw(t, r.es, `{"alg":["ES256"],"kid":"es"}`, string(payload)),
		"alg in other case":              raw(t, r.es, `{"alg":"es256","kid":"es"}`, string(payload)),
		"a signature in base64 with +":   parts[0] + "." + parts[1] + "." + strings.NewReplacer("-", "+", "_", "/").Replace(parts[2]) + "==",
		"unused bits set":                lastBits(valid),
		"white space at the end":         valid + "\n",
		"audiences of others, many":      r.rs.token(t, r.claims(map[string]any{"aud": []string{"a", "b", "gates", "GATE", "gate "}})),
		"audience is an object":          r.rs.token(t, r.claims(map[string]any{"aud": map[string]any{"gate": true}})),
		"exp is a text":                  r.rs.token(t, r.claims(map[string]any{"exp": "2030-01-01"})),
		"deep claims":                    raw(t, r.es, `{"alg":"ES256","kid":"es"}`, `{"iss":"`+r.issuer.URL+`","aud":"gate","sub":"u-1","exp":9999999999,"x":`+strings.Repeat(`{"a":`, 40)+"1"+strings.Repeat("}", 40)+`}`),
		"oversized":                      r.rs.token(t, r.claims(map[string]any{"pad": strings.Repeat("x", maxToken)})),
		"payload is no object":           sign(t, jwa.RS256, r.rs.private, nil, kid),
		"wrong audience":                 r.rs.token(t, r.claims(map[string]any{"aud": "gates"})),
		"no audience":                    r.rs.token(t, r.claims(map[string]any{"aud": nil})),
		"wrong issuer":                   r.rs.token(t, r.claims(map[string]any{"iss": r.issuer.URL + "/"})),
		"no issuer":                      r.rs.token(t, r.claims(map[string]any{"iss": nil})),
		"no exp":                         r.rs.token(t, r.claims(map[string]any{"exp": nil})),
		"nbf in the future":              r.rs.token(t, r.claims(map[string]any{"nbf": start.Add(skew + time.Minute).Unix()})),
		"iat in the future":              r.rs.token(t, r.claims(map[string]any{"iat": start.Add(skew + time.Minute).Unix()})),
		"no subject":                     r.rs.token(t, r.claims(map[string]any{"sub": nil})),
		"empty subject":                  r.rs.token(t, r.claims(map[string]any{"sub": ""})),
		"unknown kind":                   r.rs.token(t, r.claims(map[string]any{"kind": "root"})),
		"kind is a list":                 r.rs.token(t, r.claims(map[string]any{"kind": []string{"human"}})),
		"act is a text":                  r.rs.token(t, r.claims(map[string]any{"act": "bot"})),
		"act without sub":                r.rs.token(t, r.claims(map[string]any{"act": map[string]any{"iss": "x"}})),
		"act nested in a list":           r.rs.token(t, r.claims(map[string]any{"act": map[string]any{"sub": "a", "act": []string{"b"}}})),
		"act too long":                   r.rs.token(t, r.claims(map[string]any{"act": chain(maxActors + 1)})),
		"empty":                          "",
		"dots":                           "..",
	} {
		t.Run(name, func(t *testing.T) {
			// Twice: a refusal must not become a cached identity.
			r.refused(t, token, call.ReasonInvalidToken)
			r.refused(t, token, call.ReasonInvalidToken)
		})
	}
	if _, err := r.Verify(t.Context(), valid); err != nil {
		t.Errorf("the valid token the others are made from: %v", err)
	}
}

func contentType(t testing.TB, kid, cty string) jws.Headers {
	t.Helper()
	h := jws.NewHeaders()
	must(t, h.Set(jws.KeyIDKey, kid))
	must(t, h.Set(jws.ContentTypeKey, cty))
	return h
}

func emptyHMAC(header, payload []byte) []byte {
	m := hmac.New(sha256.New, nil)
	m.Write([]byte(base64.RawURLEncoding.EncodeToString(header) + "." + base64.RawURLEncoding.EncodeToString(payload)))
	return m.Sum(nil)
}

// lastBits sets bits of a signature's last character that stand for nothing: of
// 256 bytes in base64 it has four.
func lastBits(token string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	at := strings.IndexByte(alphabet, token[len(token)-1])
	return token[:len(token)-1] + string(alphabet[at|1])
}

func chain(n int) map[string]any {
	act := map[string]any{"sub": "last"}
	for range n - 1 {
		act = map[string]any{"sub": "bot", "act": act}
	}
	return act
}

func TestExpiry(t *testing.T) {
	r := newRig(t)
	cached := r.rs.token(t, r.claims(map[string]any{"exp": start.Add(time.Minute).Unix()}))
	if _, err := r.Verify(t.Context(), cached); err != nil {
		t.Fatal(err)
	}
	fresh := func() string {
		return r.rs.token(t, r.claims(map[string]any{"exp": start.Add(time.Minute).Unix(), "n": r.now().Unix()}))
	}
	r.advance(time.Minute + skew - time.Second)
	for _, token := range []string{cached, fresh()} {
		if _, err := r.Verify(t.Context(), token); err != nil {
			t.Errorf("expired, but within the skew by a second: %v", err)
		}
	}
	r.advance(2 * time.Second) // a second past it
	r.refused(t, fresh(), call.ReasonExpiredToken)
	r.refused(t, cached, call.ReasonExpiredToken)
	r.refused(t, r.es.token(t, r.claims(map[string]any{"exp": start.Add(time.Minute).Unix()})), call.ReasonExpiredToken)
	// A token that was never any good is not said to have expired once.
	r.refused(t, newSigner(t, "rs", jwa.RS256).token(t, r.claims(map[string]any{"exp": 1})), call.ReasonInvalidToken)
}

func TestAuthorizationHeader(t *testing.T) {
	r := newRig(t)
	token := r.es.token(t, r.claims(nil))
	for name, c := range map[string]struct {
		values []string
		want   call.Reason // "": let in
	}{
		"bearer":     {[]string{"Bearer " + token}, ""},
		"lower case": {[]string{"bearer  " + token + " "}, ""},
		"none":       {nil, call.ReasonNoCredentials},
		"two":        {[]string{"Bearer " + token, "Bearer " + token}, call.ReasonInvalidToken},
		"basic":      {[]string{"Basic dTpw"}, call.ReasonNoCredentials},
		"bare":       {[]string{token}, call.ReasonNoCredentials},
		"no token":   {[]string{"Bearer "}, call.ReasonNoCredentials},
		"joined":     {[]string{"Bearer " + token + ", Bearer " + token}, call.ReasonInvalidToken},
	} {
		t.Run(name, func(t *testing.T) {
			var h call.Headers
			for _, v := range c.values {
				h = append(h, call.Header{Name: "authorization", Value: v})
			}
			id, err := r.Identify(t.Context(), h)
			if c.want == "" {
				if err != nil || id.Subject != "u-1" {
					t.Errorf("%+v, %v", id, err)
				}
				return
			}
			refusedAs(t, token, id, err, c.want)
		})
	}
}

func TestClaims(t *testing.T) {
	r := newRig(t, func(i *Issuer) {
		i.Subject, i.Groups, i.Kind, i.Separators = "user.id", "realm.access.groups", "https://corp.example/kind", " ,"
	})
	base := map[string]any{"user": map[string]any{"id": "ann"}, "https://corp.example/kind": "agent",
		"act": map[string]any{"sub": "bot", "act": map[string]any{"sub": "ci", "iss": "https://ci.example"}}}
	text := func(groups any, separators string) string {
		i := Issuer{URL: "x", Subject: "sub", Groups: "groups", Kind: "kind", Separators: separators}
		id, bad := (&issuer{Issuer: i}).read(map[string]any{"sub": "ann", "groups": groups})
		if bad != nil {
			t.Fatal(bad)
		}
		return strings.Join(id.Groups, "|")
	}
	// A text is one group unless its issuer is known to write several in one:
	// who may name a group "a platform" is not in platform.
	if got := text("a platform,b", ""); got != "a platform,b" {
		t.Errorf("groups %q", got)
	}
	if got := text("a, b c", ","); got != "a| b c" {
		t.Errorf("groups %q", got)
	}
	if got := text([]any{"a b"}, " ,"); got != "a b" {
		t.Errorf("groups %q", got)
	}
	for name, groups := range map[string]any{"list": []any{"a", "b", 3}, "text": "a b", "commas": "a, b"} {
		t.Run(name, func(t *testing.T) {
			base["realm"] = map[string]any{"access": map[string]any{"groups": groups}}
			id, err := r.Verify(t.Context(), r.es.token(t, r.claims(base)))
			must(t, err)
			if id.Subject != "ann" || id.Kind != call.Agent || strings.Join(id.Groups, "|") != "a|b" {
				t.Errorf("%+v", id)
			}
			if len(id.Actors) != 2 || id.Actors[0] != (call.Actor{Issuer: r.issuer.URL, Subject: "bot"}) || id.Actors[1] != (call.Actor{Issuer: "https://ci.example", Subject: "ci"}) {
				t.Errorf("actors %+v", id.Actors)
			}
			if id.Claims["sub"] != "u-1" || id.Claims["iss"] != r.issuer.URL {
				t.Errorf("claims %v", id.Claims)
			}
		})
	}
	base["act"] = chain(maxActors)
	id, err := r.Verify(t.Context(), r.es.token(t, r.claims(base)))
	if err != nil || len(id.Actors) != maxActors {
		t.Errorf("the longest chain: %d, %v", len(id.Actors), err)
	}
	// A path through what is no object leads nowhere.
	base["user"] = "ann"
	r.refused(t, r.es.token(t, r.claims(base)), call.ReasonInvalidToken)
}

func TestUnknownKeysAreNotAFlood(t *testing.T) {
	r := newRig(t)
	before := r.issuer.fetches.Load()
	flood := func() {
		var wg sync.WaitGroup
		for i := range 40 {
			token := sign(t, jwa.ES256, r.es.private, r.claims(nil), map[string]any{"kid": "made-up-" + string(rune('a'+i))})
			wg.Go(func() {
				if _, err := r.Verify(context.Background(), token); err == nil {
					t.Error("an unknown key was believed")
				}
			})
		}
		wg.Wait()
	}
	flood()
	if n := r.issuer.fetches.Load() - before; n != 0 {
		t.Errorf("%d fetches right after the last one", n)
	}
	for round := range int64(3) {
		r.advance(askAgain)
		flood()
		if n := r.issuer.fetches.Load() - before; n != round+1 {
			t.Errorf("%d fetches in %d windows", n, round+1)
		}
	}
	if _, err := r.Verify(t.Context(), r.es.token(t, r.claims(nil))); err != nil {
		t.Errorf("known keys during the flood: %v", err)
	}
}

func TestRotationFailsNoCall(t *testing.T) {
	r := newRig(t)
	old := r.es.token(t, r.claims(nil))
	if _, err := r.Verify(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	next := newSigner(t, "es-2", jwa.ES256)
	r.issuer.publish(t, r.es, next)
	r.advance(askAgain)
	for _, token := range []string{next.token(t, r.claims(nil)), old} {
		if _, err := r.Verify(t.Context(), token); err != nil {
			t.Error(err)
		}
	}
}

func TestRevokedKey(t *testing.T) {
	r := newRig(t)
	token := r.es.token(t, r.claims(nil))
	if _, err := r.Verify(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	r.issuer.publish(t, r.rs)
	r.fetch(t)
	r.refused(t, token, call.ReasonInvalidToken)

	// The same id with another key is another key.
	r.issuer.publish(t, r.rs, newSigner(t, "es", jwa.ES256))
	r.fetch(t)
	r.refused(t, token, call.ReasonInvalidToken)
}

func TestOutage(t *testing.T) {
	r := newRig(t)
	long := func(k signer) string {
		return k.token(t, r.claims(map[string]any{"exp": start.Add(100 * time.Hour).Unix()}))
	}
	cached, fresh := long(r.es), long(r.rs)
	if _, err := r.Verify(t.Context(), cached); err != nil {
		t.Fatal(err)
	}
	r.issuer.down.Store(true)
	r.advance(outage - time.Minute)
	for _, token := range []string{cached, fresh} {
		if _, err := r.Verify(t.Context(), token); err != nil {
			t.Errorf("within the outage: %v", err)
		}
	}
	r.refused(t, sign(t, jwa.ES256, r.es.private, r.claims(nil), map[string]any{"kid": "new"}), call.ReasonIdentityUnavailable)
	r.advance(2 * time.Minute)
	for _, token := range []string{cached, fresh, long(r.ed)} {
		r.refused(t, token, call.ReasonIdentityUnavailable)
	}
	r.issuer.down.Store(false)
	r.advance(askAgain)
	if _, err := r.Verify(t.Context(), cached); err != nil {
		t.Errorf("after the outage: %v", err)
	}
}

func TestFetchRefuses(t *testing.T) {
	good := newRig(t)
	good.issuer.claimed.Store("https://other.example")
	if err := good.Fetch(t.Context()); err == nil || !strings.Contains(err.Error(), `"https://other.example"`) {
		t.Errorf("another issuer's discovery document: %v", err)
	}
	good.issuer.claimed.Store(good.issuer.URL)
	good.issuer.publish(t)
	if err := good.Fetch(t.Context()); err == nil {
		t.Error("an empty key set was taken")
	}
	// What was known stays known.
	if _, err := good.Verify(t.Context(), good.rs.token(t, good.claims(nil))); err != nil {
		t.Error(err)
	}
	for name, h := range map[string]http.HandlerFunc{
		"no JSON":  func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("<html>")) },
		"endless":  func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, maxDocument+1)) },
		"an error": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) },
	} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewServer(h)
			defer s.Close()
			v, err := New(Config{Issuers: []Issuer{{URL: s.URL}}, Log: slog.New(slog.DiscardHandler), Metrics: NewMetrics(prometheus.NewRegistry())})
			must(t, err)
			if err := v.Fetch(t.Context()); err == nil || !strings.Contains(err.Error(), s.URL) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestSymmetricPublishedKeyIsNoKey(t *testing.T) {
	r := newRig(t)
	secret, err := jwk.FromRaw([]byte("0123456789abcdef0123456789abcdef"))
	must(t, err)
	must(t, secret.Set(jwk.KeyIDKey, "oct"))
	for _, alg := range []jwa.SignatureAlgorithm{jwa.RS256, jwa.ES256, jwa.EdDSA, jwa.HS256} {
		if fits(secret, alg) {
			t.Errorf("a symmetric key fits %s", alg)
		}
	}
	must(t, r.rs.public.Set(jwk.KeyUsageKey, "enc"))
	r.issuer.publish(t, r.rs, r.es)
	r.fetch(t)
	r.refused(t, r.rs.token(t, r.claims(nil)), call.ReasonInvalidToken)
}

func TestCache(t *testing.T) {
	r := newRig(t)
	token := r.es.token(t, r.claims(nil))
	a, err := r.Verify(t.Context(), token)
	must(t, err)
	b, err := r.Verify(t.Context(), token)
	must(t, err)
	a.Claims["mark"] = true
	if b.Claims["mark"] != true {
		t.Error("the second call verified the token anew")
	}
	// Nobody's word is taken for longer than this, however long the token lives.
	r.advance(longest)
	if _, ok := r.cache.get(sha256.Sum256([]byte(token)), r.now()); ok {
		t.Errorf("still there after %s", longest)
	}
	for i := range 16 * shardSize * 5 {
		var key [32]byte
		key[0], key[1], key[2], key[3] = byte(i), byte(i>>8), byte(i>>16), 1
		r.cache.put(key, entry{until: r.now().Add(time.Hour)}, r.now())
	}
	n := 0
	for i := range r.cache.shards {
		n += len(r.cache.shards[i].young) + len(r.cache.shards[i].old)
	}
	if most := 16 * shardSize * 2; n > most {
		t.Errorf("%d tokens are remembered, more than %d", n, most)
	}
}

// FuzzVerify lets in nothing but the token that was signed.
func FuzzVerify(f *testing.F) {
	r := newRig(f)
	good := r.rs.token(f, r.claims(nil))
	f.Add(good)
	f.Add(strings.Replace(good, ".", "..", 1))
	f.Add("eyJhbGciOiJub25lIn0.e30.")
	f.Add(`{"payload":"e30","signatures":[{"protected":"e30","signature":""}]}`)
	f.Add(base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"RS256","kid":"rs","crit":["x"],"x":1}`)) + ".e30.AA")
	f.Fuzz(func(t *testing.T, token string) {
		id, err := r.Verify(t.Context(), token)
		if token == good {
			must(t, err)
			return
		}
		if err == nil {
			t.Fatalf("%q was believed as %+v", token, id)
		}
		var known *Error
		if !errors.As(err, &known) {
			t.Fatalf("%T", err)
		}
		if len(token) > 20 && strings.Contains(known.Message, token) {
			t.Fatalf("the message quotes the token: %s", known.Message)
		}
	})
}
