// Package tokens gives Callgate's own tokens for those of others: OAuth 2.0 Token
// Exchange (RFC 8693). A token that it gives speaks for the same subject, never
// for longer than what it was given for, for no more than that could do, and says
// who acts for the subject. It is signed with a key of this issuer, which decision
// servers find by discovery, as they find any issuer's.
package tokens

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwk"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/extauthz/identity/saml"
)

// Verifier says whom a token speaks for. Its errors are *identity.Error.
type Verifier interface {
	// Token verifies a token of a configured issuer, of this one too.
	Token(ctx context.Context, token string) (call.Identity, error)
	// Admit refuses identities that were revoked.
	Admit(id call.Identity) error
}

// Assertions says what a SAML assertion says. Its error is an *identity.Error.
type Assertions interface {
	Assertion(text string) (saml.Assertion, error)
}

// Delegation lets some act for others whose tokens do not say so (may_act).
type Delegation struct {
	Actors, Subjects call.Approvers
}

// Config is what an [Issuer] needs.
type Config struct {
	// Issuer is the issuer's identifier: the URL that it is reached under,
	// without a path.
	Issuer string
	// Audiences are those that tokens may be for; the first is the default.
	Audiences []string
	// Lifetime is the longest life of a token.
	Lifetime time.Duration
	// Rotate is how old a signing key may become.
	Rotate time.Duration
	// ClockSkew is forgiven by those who verify tokens.
	ClockSkew time.Duration
	// Store is the file with the keys, and with what was exchanged.
	Store string
	// Shared takes the place of the file where several processes exchange. It
	// may be away: then nothing is exchanged until it is there.
	Shared     Store
	Verifier   Verifier
	Assertions Assertions // nil: none is taken
	Delegation []Delegation
	// Record makes the record of an exchange durable. Where it can't, no token
	// is given.
	Record  func(context.Context, call.ChangeEvent) error
	Log     *slog.Logger
	Metrics *Metrics
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Issuer gives tokens. It is safe for concurrent use.
type Issuer struct {
	cfg   Config
	store Store
	keys  atomic.Pointer[keys] // nil: not known yet
}

// New opens the store, and makes the first key where there is none.
func New(ctx context.Context, cfg Config) (*Issuer, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	i := &Issuer{cfg: cfg, store: cfg.Shared}
	if i.store == nil {
		var err error
		if i.store, err = openFile(ctx, cfg.Store); err != nil {
			return nil, fmt.Errorf("open the store of tokens %s: %w", cfg.Store, err)
		}
	}
	switch err := i.turn(ctx); {
	case err == nil:
	case cfg.Shared != nil:
		cfg.Log.WarnContext(ctx, "starting without the store of tokens; nothing is exchanged, and no token of ours is believed, until it is there", "error", err)
	default:
		_ = i.store.Close() // the first error counts
		return nil, err
	}
	return i, nil
}

const (
	// turnEvery is how often it is looked whether a key is due.
	turnEvery = time.Minute
	// turnAgain is how soon, while none is known.
	turnAgain = 2 * time.Second
)

// Run makes new keys as they are due until ctx ends.
func (i *Issuer) Run(ctx context.Context) error {
	for {
		wait := turnEvery
		if i.keys.Load() == nil {
			wait = turnAgain
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		if err := i.turn(ctx); err != nil && ctx.Err() == nil {
			i.cfg.Log.ErrorContext(ctx, "looking after the keys of tokens; the known ones stay in use", "error", err)
		}
	}
}

// Keys are the public keys of the tokens that are valid now, or may be soon.
func (i *Issuer) Keys() jwk.Set {
	if k := i.keys.Load(); k != nil {
		return k.public
	}
	return jwk.NewSet()
}

// Close closes the store.
func (i *Issuer) Close() error { return i.store.Close() }
