package app

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/callgate/callgate/approvals"
	"github.com/callgate/callgate/approvals/sqlite"
	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/extauthz/identity"
)

// people is what knows callers and approvers.
type people struct {
	verifier  *identity.Verifier
	store     *sqlite.Store
	approvals *approvals.Service
}

func openPeople(ctx context.Context, cfg *config.Config, t *trail, key []byte, reg prometheus.Registerer, log *slog.Logger) (*people, error) {
	p := &people{}
	issuers := make([]identity.Issuer, len(cfg.Identity.Issuers))
	for i, is := range cfg.Identity.Issuers {
		client, err := plainClient(is.CAFile)
		if err != nil {
			return nil, fmt.Errorf("identity.issuers %s: %w", is.Name, err)
		}
		issuers[i] = identity.Issuer{Name: is.Name, URL: is.URL, Audiences: is.Audiences, Algorithms: is.Algorithms,
			Subject: is.Claims.Subject, Groups: is.Claims.Groups, Kind: is.Claims.Kind, DefaultKind: call.Kind(is.Kind), Client: client}
	}
	var err error
	if p.verifier, err = identity.New(identity.Config{Issuers: issuers, ClockSkew: cfg.Identity.ClockSkew, Log: log, Metrics: identity.NewMetrics(reg)}); err != nil {
		return nil, err
	}
	if err := p.verifier.Fetch(ctx); err != nil {
		if cfg.Identity.Unreachable != "wait" {
			return nil, err
		}
		log.Warn("starting without an issuer; its tokens are denied until it answers", "error", err)
	}
	if p.store, err = sqlite.Open(ctx, cfg.Approvals.File); err != nil {
		return nil, fmt.Errorf("open the approval store: %w (approvals.file)", err)
	}
	p.approvals = approvals.New(approvals.Config{Store: p.store, Recorder: t.recorder, Key: key, Log: log, Metrics: approvals.NewMetrics(reg)})
	return p, nil
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
	return g.Wait()
}

func (p *people) close() error {
	if p.store == nil {
		return nil
	}
	return p.store.Close()
}
