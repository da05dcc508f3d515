package app

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/callgate/callgate/approvals"
	"github.com/callgate/callgate/approvals/link"
	"github.com/callgate/callgate/approvals/notify"
	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/extauthz/identity"
	"github.com/callgate/callgate/extauthz/identity/saml"
	"github.com/callgate/callgate/tokens"
)

// people is what knows callers and approvers.
type people struct {
	verifier  *identity.Verifier
	saml      *saml.Verifier // nil: no assertion is taken
	tokens    *tokens.Issuer // nil: no token is given here
	store     approvalStore
	approvals *approvals.Service
	notifier  *notify.Notifier // nil: nobody is told
	links     *link.Signer     // nil: nobody knows where people reach this
	key       []byte           // of links and logins
}

func openPeople(ctx context.Context, a *App) (_ *people, err error) {
	cfg, t, key, reg, log := a.cfg, a.trail, a.hashKey, a.registry, a.log
	p := &people{}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
		}
	}()
	issuers := make([]identity.Issuer, len(cfg.Identity.Issuers))
	for i, is := range cfg.Identity.Issuers {
		client, err := plainClient(is.CAFile)
		if err != nil {
			return nil, fmt.Errorf("identity.issuers %s: %w", is.Name, err)
		}
		issuers[i] = believed(is)
		issuers[i].Client = client
	}
	who := identity.Config{Issuers: issuers, ClockSkew: cfg.Identity.ClockSkew, KeyHeader: cfg.Identity.KeyHeader, AssertionHeader: cfg.Identity.AssertionHeader,
		KeyCache: filepath.Join(cfg.StateDir, "issuer-keys"), Log: log, Metrics: identity.NewMetrics(reg)}
	for i, is := range cfg.Identity.Issuers {
		if ask := is.Introspection; ask.URL != "" {
			who.Introspection = &identity.Introspection{Issuer: issuers[i], URL: ask.URL, Client: issuers[i].Client, ID: ask.ID, Secret: ask.Secret.Read, Keep: ask.Keep}
		}
	}
	// What decides has no policy either before it has heard of a control plane.
	who.AwaitRevocations = a.follows() && !a.decides()
	for _, k := range cfg.Identity.Keys {
		who.Keys = append(who.Keys, identity.Key{Name: k.Name, Hash: k.Hash, Subject: k.Subject, Kind: call.Kind(k.Kind), Groups: k.Groups, Expires: k.Expires})
	}
	if who.Certificates, err = certificates(cfg.Identity.MTLS); err != nil {
		return nil, err
	}
	if p.saml, err = assertions(cfg.Identity, log); err != nil {
		return nil, err
	}
	if p.saml != nil {
		who.Assertions = p.saml
	}
	if own, err := p.ownIssuer(cfg.Identity.Exchange, a.has(Console)); err != nil {
		return nil, err
	} else if own != nil {
		who.Issuers = append(who.Issuers, *own)
	}
	if p.verifier, err = identity.New(who); err != nil {
		return nil, err
	}
	if err := p.openTokens(ctx, a); err != nil {
		return nil, err
	}
	if err := p.verifier.Fetch(ctx); err != nil {
		if cfg.Identity.Unreachable != "wait" {
			return nil, err
		}
		log.Warn("starting without an issuer; its tokens are denied until it answers", "error", err)
	}
	if p.store, err = openApprovals(ctx, cfg.Approvals, log); err != nil {
		return nil, err
	}
	desk := approvals.Config{Store: p.store, Poll: pollOf(cfg.Approvals), StatusURL: statusURL(cfg), Admit: p.verifier.Admit, MaxOpen: int(cfg.Approvals.MaxOpen), Recorder: t.recorder, Key: key, Log: log, Metrics: approvals.NewMetrics(reg)}
	if t.db != nil {
		desk.Recorded = t.hasStep
	}
	if err := p.openNotifier(cfg, reg, log); err != nil {
		return nil, err
	}
	if p.notifier != nil {
		desk.Notifier = p.notifier
	}
	if p.links != nil {
		desk.PageURL = p.links.To
	}
	p.approvals = approvals.New(desk)
	return p, nil
}

// believed is an issuer of the configuration as the identity stage knows it.
func believed(is config.Issuer) identity.Issuer {
	return identity.Issuer{Name: is.Name, URL: is.URL, Audiences: is.Audiences, Algorithms: is.Algorithms,
		Subject: is.Claims.Subject, Groups: is.Claims.Groups, Separators: is.Claims.Separators, Kind: is.Claims.Kind, DefaultKind: call.Kind(is.Kind),
		Require: is.Claims.Require, Outage: is.Outage}
}

// certificates says whose client certificates name a caller; nil: nobody's do.
func certificates(m config.MTLS) (*identity.Certificates, error) {
	if m.CAFile == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(m.CAFile)
	if err != nil {
		return nil, fmt.Errorf("read identity.mtls.ca_file: %w", err)
	}
	out := &identity.Certificates{Roots: x509.NewCertPool(), TrustDomains: m.TrustDomains, Kind: call.Kind(m.Kind)}
	if !out.Roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("identity.mtls.ca_file %s holds no PEM certificate", m.CAFile)
	}
	for _, g := range m.Groups {
		out.Groups = append(out.Groups, identity.CertificateGroup(g))
	}
	return out, nil
}

// plainClient reaches one service of the operator's, which it trusts by caFile or
// else by the system's roots.
func plainClient(caFile string) (*http.Client, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if caFile != "" {
		pem, err := os.ReadFile(caFile)
		if err != nil {
			return nil, fmt.Errorf("read ca_file: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca_file %s holds no PEM certificate", caFile)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	return &http.Client{Transport: transport, Timeout: 15 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error {
		return errors.New("it redirects, which is not followed; configure the URL that it leads to")
	}}, nil
}

func (p *people) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return p.verifier.Run(ctx) })
	g.Go(func() error { return p.approvals.Run(ctx) })
	if p.notifier != nil {
		g.Go(func() error { return p.notifier.Run(ctx, p.approvals) })
	}
	if p.saml != nil {
		g.Go(func() error { return p.saml.Run(ctx) })
	}
	if p.tokens != nil {
		g.Go(func() error { return p.tokens.Run(ctx) })
	}
	return g.Wait()
}

func (p *people) close() error {
	var errs []error
	if p.store != nil {
		errs = append(errs, p.store.Close())
	}
	if p.tokens != nil {
		errs = append(errs, p.tokens.Close())
	}
	return errors.Join(errs...)
}
