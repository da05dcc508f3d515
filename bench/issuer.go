package main

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwk"
	"github.com/lestrrat-go/jwx/v2/jwt"
)

// issuer signs the load's tokens and serves its keys.
type issuer struct {
	url    string
	key    jwk.Key
	public jwk.Set
	close  func() error
}

func newIssuer() (*issuer, error) {
	raw, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	key, err := jwk.FromRaw(raw)
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	if err := key.Set(jwk.KeyIDKey, "bench"); err != nil {
		return nil, err
	}
	if err := key.Set(jwk.AlgorithmKey, jwa.RS256); err != nil {
		return nil, err
	}
	set := jwk.NewSet()
	if err := set.AddKey(key); err != nil {
		return nil, err
	}
	public, err := jwk.PublicSetOf(set)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	i := &issuer{url: "http://" + l.Addr().String(), key: key, public: public}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"issuer": i.url, "jwks_uri": i.url + "/keys"})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(public) })
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: time.Second}
	go func() { _ = srv.Serve(l) }()
	i.close = srv.Close
	return i, nil
}

// token signs one token; n makes it unlike all others.
func (i *issuer) token(n int) (string, error) {
	return i.sign("alice", strconv.Itoa(n), "support", "staff")
}

// person signs a token for somebody else.
func (i *issuer) person(subject string, groups ...string) (string, error) {
	return i.sign(subject, "0", groups...)
}

func (i *issuer) sign(subject, id string, groups ...string) (string, error) {
	t, err := jwt.NewBuilder().Issuer(i.url).Subject(subject).Audience([]string{"callgate"}).
		IssuedAt(time.Now()).Expiration(time.Now().Add(time.Hour)).JwtID(id).
		Claim("groups", groups).Claim("kind", "human").Build()
	if err != nil {
		return "", fmt.Errorf("build token: %w", err)
	}
	signed, err := jwt.Sign(t, jwt.WithKey(jwa.RS256, i.key))
	if err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	return string(signed), nil
}

// tokens signs n tokens on all cores.
func (i *issuer) tokens(from, n int) ([]string, error) {
	out := make([]string, n)
	errs := make([]error, n)
	var wg sync.WaitGroup
	const workers = 8
	for w := range workers {
		wg.Go(func() {
			for k := w; k < n; k += workers {
				out[k], errs[k] = i.token(from + k)
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}
