// Package saml finds out who calls, from a SAML 2.0 assertion that a configured
// identity provider signed, used as a bearer credential as RFC 7522 has it.
//
// Only what the signature covers is read: an assertion is the whole document,
// has one signature, which is its own and over all of it, and is read from the
// bytes that were digested. A document in which something could be wrapped,
// repeated, hidden in a comment or defined by a DTD is refused before any
// signature is looked at.
package saml

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/extauthz/identity"
)

// Provider is one identity provider whose assertions are believed.
type Provider struct {
	Name     string
	EntityID string // as its assertions' Issuer has it
	// MetadataFile or CertificateFile says what it signs with; both are read
	// again when they change.
	MetadataFile, CertificateFile string
	// Audiences are the names of this service; an assertion must be for one.
	Audiences []string
	// Recipient is the URL that assertions must be addressed to.
	Recipient string
	// Subject, Groups and Kind name attributes. No Subject: the NameID.
	Subject, Groups, Kind string
	// DefaultKind is of assertions that do not say.
	DefaultKind call.Kind
	// ExchangeOnly keeps its assertions from being shown on calls: they must
	// be exchanged for a token.
	ExchangeOnly bool
}

// Config is what a [Verifier] needs.
type Config struct {
	Providers []Provider
	// ClockSkew is forgiven on all times.
	ClockSkew time.Duration
	Log       *slog.Logger
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Verifier turns assertions into identities. It is safe for concurrent use.
type Verifier struct {
	cfg       Config
	providers map[string]*provider // by entity id
	known     *lru.Cache[[32]byte, verified]
}

// provider is a Provider with its present certificates.
type provider struct {
	Provider
	trusted    atomic.Pointer[trust]
	generation atomic.Uint64 // of the certificates; assertions verified under older ones are verified anew
}

// verified is an assertion that was found good.
type verified struct {
	assertion  Assertion
	provider   *provider
	generation uint64
	until      time.Time
}

// Assertion is what a good assertion says.
type Assertion struct {
	// Identity is whose it is. It expires when the assertion, its
	// confirmation or its session does, whichever is first.
	Identity call.Identity
	// OneTime is set where the provider wants it used once (OneTimeUse).
	OneTime bool
	// Final is set where the provider wants nothing issued on its strength
	// (ProxyRestriction).
	Final bool
}

const (
	// knownMost bounds the assertions that are remembered as verified.
	knownMost = 16_384
	// knownLongest is how long one is taken at its word.
	knownLongest = 5 * time.Minute
)

// New returns a Verifier. Its error names the provider whose certificates can't
// be read.
func New(cfg Config) (*Verifier, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	known, err := lru.New[[32]byte, verified](knownMost)
	if err != nil {
		panic("saml: a cache of a fixed size can always be made: " + err.Error())
	}
	v := &Verifier{cfg: cfg, providers: map[string]*provider{}, known: known}
	for _, c := range cfg.Providers {
		p := &provider{Provider: c}
		if err := p.load(); err != nil {
			return nil, fmt.Errorf("SAML provider %s: %w", c.Name, err)
		}
		v.providers[c.EntityID] = p
	}
	return v, nil
}

// Verify implements [identity.Assertions]: whom an assertion that came with a
// call speaks for. It may come with many calls until it ends.
func (v *Verifier) Verify(_ context.Context, text string) (call.Identity, error) {
	a, p, err := v.assertion(text)
	switch {
	case err != nil:
		return call.Identity{}, err
	case p.ExchangeOnly:
		return call.Identity{}, refuse("assertions of this provider are not taken on calls; exchange it for a token at /token")
	case a.OneTime:
		return call.Identity{}, refuse("the assertion is for one use only; exchange it for a token at /token")
	}
	return a.Identity, nil
}

// Assertion returns what an assertion says that is to be exchanged for a token.
// That it is used once is the caller's to see to. Its error is an
// *[identity.Error].
func (v *Verifier) Assertion(text string) (Assertion, error) {
	a, _, err := v.assertion(text)
	return a, err
}

func (v *Verifier) assertion(text string) (Assertion, *provider, error) {
	now := v.cfg.Now()
	key := sha256.Sum256([]byte(text))
	if e, ok := v.known.Get(key); ok {
		if now.Before(e.until) && e.generation == e.provider.generation.Load() && e.provider.trusted.Load().current(now) {
			return e.assertion, e.provider, nil
		}
		v.known.Remove(key)
	}
	a, p, generation, bad := v.verify(text, now)
	if bad != nil {
		return Assertion{}, nil, bad
	}
	until := now.Add(knownLongest)
	if a.Identity.Expires.Before(until) {
		until = a.Identity.Expires
	}
	v.known.Add(key, verified{a, p, generation, until})
	return a, p, nil
}

func refuse(format string, args ...any) *identity.Error {
	return &identity.Error{Reason: call.ReasonInvalidToken, Message: fmt.Sprintf(format, args...)}
}

func expired(format string, args ...any) *identity.Error {
	return &identity.Error{Reason: call.ReasonExpiredToken, Message: fmt.Sprintf(format, args...)}
}
