// Package tokens gives Callgate's own tokens for those of others: OAuth 2.0 Token
// Exchange (RFC 8693). A token that it gives speaks for the same subject, never
// for longer than what it was given for, for no more than that could do, and says
// who acts for the subject. It is signed with a key of this issuer, which decision
// servers find by discovery, as they find any issuer's.
package tokens

import (
	"context"
	_ "embed"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwk"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/extauthz/identity/saml"
	"github.com/callgate/callgate/sqlitefile"
)

//go:embed schema.sql
var schema1 string

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
	Store      string
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
	cfg  Config
	db   *sqlitefile.DB
	keys atomic.Pointer[keys]
}

// New opens the store, and makes the first key where there is none.
func New(ctx context.Context, cfg Config) (*Issuer, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	db, err := sqlitefile.Open(ctx, cfg.Store, []string{schema1})
	if err != nil {
		return nil, fmt.Errorf("open the store of tokens %s: %w", cfg.Store, err)
	}
	i := &Issuer{cfg: cfg, db: db}
	if err := i.turn(ctx); err != nil {
		_ = db.Close() // the first error counts
		return nil, err
	}
	return i, nil
}

// turnEvery is how often it is looked whether a key is due.
const turnEvery = time.Minute

// Run makes new keys as they are due until ctx ends.
func (i *Issuer) Run(ctx context.Context) error {
	tick := time.NewTicker(turnEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := i.turn(ctx); err != nil && ctx.Err() == nil {
			i.cfg.Log.ErrorContext(ctx, "looking after the keys of tokens; the known ones stay in use", "error", err)
		}
	}
}

// Keys are the public keys of the tokens that are valid now, or may be soon.
func (i *Issuer) Keys() jwk.Set { return i.keys.Load().public }

// Close closes the store.
func (i *Issuer) Close() error { return i.db.Close() }
