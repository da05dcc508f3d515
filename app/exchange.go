package app

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwk"

	approvalsdb "github.com/callgate/callgate/approvals/postgres"
	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/extauthz/identity"
	"github.com/callgate/callgate/extauthz/identity/saml"
	"github.com/callgate/callgate/tokens"
	"github.com/callgate/callgate/tokens/postgres"
)

// assertions verifies SAML assertions; nil where no provider is configured.
func assertions(c config.Identity, log *slog.Logger) (*saml.Verifier, error) {
	if len(c.SAML) == 0 {
		return nil, nil
	}
	cfg := saml.Config{ClockSkew: c.ClockSkew, Log: log}
	for _, p := range c.SAML {
		cfg.Providers = append(cfg.Providers, saml.Provider{Name: p.Name, EntityID: p.EntityID, MetadataFile: p.MetadataFile, CertificateFile: p.CertificateFile,
			Audiences: p.Audiences, Recipient: p.Recipient, Subject: p.Attributes.Subject, Groups: p.Attributes.Groups, Kind: p.Attributes.Kind,
			DefaultKind: call.Kind(p.Kind), ExchangeOnly: p.ExchangeOnly})
	}
	v, err := saml.New(cfg)
	if err != nil {
		return nil, fmt.Errorf("identity.saml: %w", err)
	}
	return v, nil
}

// ownIssuer is the issuer of tokens that are exchanged: in this process where it
// has the console, else found by discovery; nil where no tokens are exchanged.
func (p *people) ownIssuer(c config.Exchange, here bool) (*identity.Issuer, error) {
	if c.Issuer == "" {
		return nil, nil
	}
	is := &identity.Issuer{Name: "callgate", URL: c.Issuer, Audiences: c.Audiences, Algorithms: []string{"ES256"}, Exchanged: true,
		// The control plane may well start later.
		Wait: true}
	if here {
		is.Keys = func() jwk.Set { return p.tokens.Keys() }
		return is, nil
	}
	var err error
	if is.Client, err = plainClient(c.CAFile); err != nil {
		return nil, fmt.Errorf("identity.exchange: %w", err)
	}
	return is, nil
}

// openTokens makes the issuer of tokens, where this process has the console.
func (p *people) openTokens(ctx context.Context, a *App) error {
	c := a.cfg.Identity.Exchange
	if c.Issuer == "" || !a.has(Console) {
		return nil
	}
	cfg := tokens.Config{Issuer: c.Issuer, Audiences: c.Audiences, Lifetime: c.Lifetime, Rotate: c.Rotate, ClockSkew: a.cfg.Identity.ClockSkew, Store: c.Store,
		Verifier: p.verifier, Log: a.log, Metrics: tokens.NewMetrics(a.registry),
		Record: func(ctx context.Context, e call.ChangeEvent) error {
			e.Node = a.cfg.Node
			return a.trail.recorder.Record(ctx, call.Event{Kind: call.Changed, Time: time.Now(), Change: &e})
		}}
	if p.saml != nil {
		cfg.Assertions = p.saml
	}
	for _, d := range c.Delegation {
		cfg.Delegation = append(cfg.Delegation, tokens.Delegation{Actors: call.Approvers(d.Actors), Subjects: call.Approvers(d.Subjects)})
	}
	var err error
	if cfg.Store == "" {
		if cfg.Shared, err = sharedTokens(ctx, a); err != nil {
			return err
		}
	}
	if p.tokens, err = tokens.New(ctx, cfg); err != nil {
		return fmt.Errorf("%w (identity.exchange.store)", err)
	}
	return nil
}

// tokenConnections is how many connections to the database tokens take: each is
// used for a few rows at an exchange.
const tokenConnections = 2

// sharedTokens keeps tokens' keys and used assertions beside approvals. The keys
// are encrypted by what processes with the console share, console.key.
func sharedTokens(ctx context.Context, a *App) (tokens.Store, error) {
	secret, err := consoleKey(a.cfg)
	if err != nil {
		return nil, err
	}
	seal, err := sealing(secret, "callgate: keys of tokens")
	if err != nil {
		return nil, err
	}
	conf, err := postgresConfig(a.cfg.Approvals.Postgres, a.log)
	if err != nil {
		return nil, err
	}
	conf.MaxConnections = tokenConnections
	pool, err := approvalsdb.Pool(ctx, conf)
	if err != nil {
		return nil, fmt.Errorf("store of tokens: %w (approvals.postgres)", err)
	}
	return postgres.New(pool, seal), nil
}

// tokenHandler answers for the issuer of tokens; nil where there is none.
func (p *people) tokenHandler() http.Handler {
	if p.tokens == nil {
		return nil
	}
	return p.tokens.Handler()
}
