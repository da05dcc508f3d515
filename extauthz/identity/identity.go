// Package identity finds out who calls: from a bearer token that an OpenID
// Connect issuer signed, or that Callgate gave for another, from what an issuer
// says of an opaque one, from an API key, or from a client certificate.
//
// A token is believed only if it names a configured issuer, was signed with one
// of that issuer's present keys by the algorithm the key is for, is meant for
// one of the configured audiences, and has not expired. The header of a token
// chooses nothing: it can only fail to match.
package identity

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwk"
	"github.com/lestrrat-go/jwx/v2/jws"
	"github.com/lestrrat-go/jwx/v2/jwt"
	"golang.org/x/sync/errgroup"

	"github.com/callgate/callgate/call"
)

// Issuer is one OpenID Connect issuer whose tokens are believed.
type Issuer struct {
	Name       string
	URL        string
	Audiences  []string
	Algorithms []string // JWA names; symmetric ones and none are refused
	Subject    string   // claims, by dotted path
	Groups     string
	Kind       string
	// Separators are the characters between groups of a claim that is a text.
	// Default: such a text is one group.
	Separators string
	// Require names claims that must have one of the values, which are globs:
	// what tells one's own tenant at an issuer that serves many.
	Require map[string][]string
	// Outage is how long known keys are believed while the issuer is away.
	// Default 24h.
	Outage time.Duration
	// DefaultKind is of tokens that do not say.
	DefaultKind call.Kind
	// Client fetches discovery and keys; nil means http.DefaultClient.
	Client *http.Client
	// Exchanged says that this is Callgate's own issuer, whose tokens were
	// given for those of others (RFC 8693): they say whose subject they are
	// of, and what they are narrowed to. No other issuer may say so.
	Exchanged bool
	// Keys gives the present keys of an issuer in this very process; nil: they
	// are fetched.
	Keys func() jwk.Set
	// Wait lets a start go on while its keys can't be fetched.
	Wait bool
}

// Config is what a [Verifier] needs.
type Config struct {
	Issuers []Issuer
	// ClockSkew is forgiven on exp, nbf and iat.
	ClockSkew time.Duration
	// Keys are static API keys. They are taken as bearer tokens, and in
	// KeyHeader (lower case) where it is set.
	Keys      []Key
	KeyHeader string
	// Certificates says which client certificates name a caller by themselves.
	Certificates *Certificates
	// Introspection is asked about tokens that are no JWT.
	Introspection *Introspection
	// KeyCache is a folder that remembers issuers' keys for a start during an
	// outage; "": none.
	KeyCache string
	// Assertions verifies SAML assertions; nil: none is taken. They come as
	// 'Authorization: SAML …', and in AssertionHeader where it is set.
	Assertions      Assertions
	AssertionHeader string

	// AwaitRevocations admits nobody before Revoke has been called once.
	AwaitRevocations bool

	Log     *slog.Logger
	Metrics *Metrics
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Assertions verifies SAML assertions. Its error is an *[Error].
type Assertions interface {
	Verify(ctx context.Context, assertion string) (call.Identity, error)
}

// Verifier turns tokens into identities. It is safe for concurrent use.
type Verifier struct {
	cfg     Config
	issuers map[string]*issuer
	cache   *cache
	revoked atomic.Pointer[revocations]

	keys       apiKeys
	proofs     *proofs
	introspect *introspector // nil: opaque tokens are refused
}

// Error is a caller that could not be identified. Its message names cause and
// fix, never the token.
type Error struct {
	Reason  call.Reason
	Message string
}

func (e *Error) Error() string { return e.Message }

func refuse(reason call.Reason, format string, args ...any) *Error {
	return &Error{Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// New returns a Verifier. Run fetches keys.
func New(cfg Config) (*Verifier, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	v := &Verifier{cfg: cfg, issuers: map[string]*issuer{}, cache: newCache(), proofs: newProofs()}
	var err error
	if v.keys, err = newAPIKeys(cfg.Keys); err != nil {
		return nil, err
	}
	if cfg.Introspection != nil {
		v.introspect = newIntrospector(*cfg.Introspection)
	}
	for _, c := range cfg.Issuers {
		is := &issuer{Issuer: c, algorithms: map[jwa.SignatureAlgorithm]bool{}, now: cfg.Now, log: cfg.Log, metrics: cfg.Metrics}
		if is.wanted, err = lru.New[[32]byte, int64](wantedMost); err != nil {
			return nil, fmt.Errorf("issuer %s: remember key ids: %w", c.URL, err)
		}
		if cfg.KeyCache != "" && c.Keys == nil {
			is.cache = keyFile(cfg.KeyCache, c.URL)
		}
		if is.Outage == 0 {
			is.Outage = outage
		}
		if is.Client == nil {
			is.Client = http.DefaultClient
		}
		for _, name := range c.Algorithms {
			var alg jwa.SignatureAlgorithm
			if err := alg.Accept(name); err != nil || alg == jwa.NoSignature || strings.HasPrefix(name, "HS") {
				return nil, fmt.Errorf("issuer %s: algorithm %q can't be accepted", c.URL, name)
			}
			is.algorithms[alg] = true
		}
		v.issuers[c.URL] = is
	}
	return v, nil
}

// Fetch gets every issuer's keys for the first time. Its error names each issuer
// that could not be reached, and of which no keys are known from before, and why.
func (v *Verifier) Fetch(ctx context.Context) error {
	var errs []error
	for _, is := range v.issuers {
		err := is.fetch(ctx)
		if err == nil || is.recall(ctx, err) {
			continue
		}
		if is.Wait {
			v.cfg.Log.WarnContext(ctx, "starting without an issuer; its tokens are denied until it answers", "issuer", is.URL, "error", err)
		} else {
			errs = append(errs, fmt.Errorf("issuer %s can't be reached: %w; check identity.issuers, or set identity.unreachable: wait to start without it", is.URL, err))
		}
	}
	return errors.Join(errs...)
}

// Run refreshes the issuers' keys until ctx ends.
func (v *Verifier) Run(ctx context.Context) error {
	var g errgroup.Group
	for _, is := range v.issuers {
		g.Go(func() error { is.refresh(ctx); return nil })
	}
	return g.Wait()
}

// maxToken bounds a token, in bytes. Headers are bounded by Envoy at 60 KiB.
const maxToken = 16 << 10

// Verify returns whom a token speaks for. Its error is an *[Error].
func (v *Verifier) Verify(ctx context.Context, token string) (call.Identity, error) {
	if len(token) > maxToken {
		return call.Identity{}, refuse(call.ReasonInvalidToken, "the token is longer than %d bytes", maxToken)
	}
	now := v.cfg.Now()
	key := sha256.Sum256([]byte(token))
	if e, ok := v.cache.get(key, now); ok {
		if e.generation == e.issuer.generation.Load() && e.issuer.usable(now) {
			v.cfg.Metrics.cached.Inc()
			return v.admit(e.identity)
		}
		v.cache.drop(key)
	}
	v.cfg.Metrics.verified.Inc()
	id, is, generation, err := v.verify(ctx, token, now)
	if err != nil {
		return call.Identity{}, err
	}
	v.cache.put(key, entry{identity: id, issuer: is, generation: generation, until: id.Expires}, now)
	return v.admit(id)
}

func (v *Verifier) verify(ctx context.Context, token string, now time.Time) (call.Identity, *issuer, uint64, error) {
	none := func(err *Error) (call.Identity, *issuer, uint64, error) { return call.Identity{}, nil, 0, err }
	header, claimed, bad := v.peek(token)
	if bad != nil {
		return none(bad)
	}
	is, known := v.issuers[claimed]
	if !known {
		return none(refuse(call.ReasonInvalidToken, "the token's issuer is not one that is believed here; add it under identity.issuers"))
	}
	t, generation, err := v.parse(ctx, token, now, header, is, is.Audiences)
	if err != nil {
		return none(err)
	}
	id, bad := is.identity(t)
	if bad != nil {
		return none(bad)
	}
	return id, is, generation, nil
}

// parse checks a token's signature, issuer, audience and times.
func (v *Verifier) parse(ctx context.Context, token string, now time.Time, header jws.Headers, is *issuer, audiences []string) (jwt.Token, uint64, *Error) {
	none := func(err *Error) (jwt.Token, uint64, *Error) { return nil, 0, err }
	if !is.algorithms[header.Algorithm()] {
		return none(refuse(call.ReasonInvalidToken, "the token's signature algorithm is not accepted for its issuer; see identity.issuers.algorithms"))
	}
	if is.Exchanged && plainType(header) != "at+jwt" {
		return none(refuse(call.ReasonInvalidToken, "the token is not one that was exchanged here; send the access token from /token"))
	}
	signing, generation, keyErr := is.key(ctx, header.KeyID(), header.Algorithm())
	if keyErr != nil {
		return none(keyErr)
	}
	if !salted(header.Algorithm(), signing, token) {
		return none(refuse(call.ReasonInvalidToken, "the token's signature or claims are not valid"))
	}
	t, err := jwt.Parse([]byte(token),
		jwt.WithKey(header.Algorithm(), signing), jwt.WithValidate(true), jwt.WithContext(ctx),
		jwt.WithClock(jwt.ClockFunc(func() time.Time { return now })), jwt.WithAcceptableSkew(v.cfg.ClockSkew),
		jwt.WithIssuer(is.URL), jwt.WithRequiredClaim(jwt.ExpirationKey),
		jwt.WithValidator(audience(audiences)))
	switch {
	case errors.Is(err, jwt.ErrTokenExpired()):
		return none(refuse(call.ReasonExpiredToken, "the token has expired; get a new one"))
	case errors.Is(err, errAudience):
		return none(refuse(call.ReasonInvalidToken, "the token is not meant for this service: its audience must be one of %s", strings.Join(audiences, ", ")))
	case errors.Is(err, jwt.ErrTokenNotYetValid()), errors.Is(err, jwt.ErrInvalidIssuedAt()):
		return none(refuse(call.ReasonInvalidToken, "the token is not valid yet; check the clocks"))
	case err != nil:
		return none(refuse(call.ReasonInvalidToken, "the token's signature or claims are not valid"))
	}
	return t, generation, nil
}

// typesRefused are JWTs that are not access tokens, whatever they are signed
// with (OIDC back-channel logout, RFC 8417, DPoP proofs).
var typesRefused = map[string]bool{"logout+jwt": true, "secevent+jwt": true, "dpop+jwt": true}

// plainType is a token's type; "application/" may stand before it or not (RFC
// 7515 §4.1.9).
func plainType(h jws.Headers) string {
	return strings.TrimPrefix(strings.ToLower(h.Type()), "application/")
}

// head reads the header of a token in compact form that nobody has verified yet.
func head(token string) (jws.Headers, *Error) {
	m, err := jws.Parse([]byte(token), jws.WithCompact())
	if err != nil || len(m.Signatures()) != 1 {
		return nil, refuse(call.ReasonInvalidToken, "the token is not a signed JWT in compact form")
	}
	h := m.Signatures()[0].ProtectedHeaders()
	switch {
	case len(h.Critical()) > 0:
		return nil, refuse(call.ReasonInvalidToken, "the token has critical header parameters (crit), which are not supported")
	case typesRefused[plainType(h)]:
		return nil, refuse(call.ReasonInvalidToken, "the token is of a type that is not for calls; send an access token")
	}
	parts := strings.Split(token, ".")
	for n, part := range parts {
		// Bits that no decoder reads would give one token many texts.
		data, err := base64.RawURLEncoding.Strict().DecodeString(part)
		if err == nil && strings.ContainsAny(part, "\r\n") {
			err = errAmbiguous
		}
		if err == nil && n == 0 {
			// A name that stands twice is read differently from library to library.
			_, err = onlyOnce(data)
		}
		if err != nil || len(parts) != 3 || len(data) == 0 && n != 1 {
			return nil, refuse(call.ReasonInvalidToken, "the token's header or claims are ambiguous or can't be read")
		}
	}
	return h, nil
}

// peek reads the header and the issuer of a token that nobody has verified yet.
func (v *Verifier) peek(token string) (jws.Headers, string, *Error) {
	h, bad := head(token)
	if bad != nil {
		return nil, "", bad
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	if err == nil {
		_, err = onlyOnce(payload)
	}
	if err != nil {
		return nil, "", refuse(call.ReasonInvalidToken, "the token's header or claims are ambiguous or can't be read")
	}
	t, err := jwt.ParseInsecure([]byte(token))
	if err != nil {
		return nil, "", refuse(call.ReasonInvalidToken, "the token's claims can't be read")
	}
	return h, t.Issuer(), nil
}

var errAudience = errors.New("audience")

func audience(accepted []string) jwt.Validator {
	return jwt.ValidatorFunc(func(_ context.Context, t jwt.Token) jwt.ValidationError {
		for _, have := range t.Audience() {
			for _, want := range accepted {
				if have == want {
					return nil
				}
			}
		}
		return jwt.NewValidationError(errAudience)
	})
}
