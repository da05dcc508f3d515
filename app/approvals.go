package app

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/callgate/callgate/approvals"
	"github.com/callgate/callgate/approvals/postgres"
	"github.com/callgate/callgate/approvals/sqlite"
	"github.com/callgate/callgate/config"
)

// approvalStore is a store that is closed at the end.
type approvalStore interface {
	approvals.Store
	io.Closer
}

// openApprovals opens the store of held calls. A PostgreSQL may be away: calls
// that need approval are denied until it is there, and all others go on.
func openApprovals(ctx context.Context, cfg config.Approvals, log *slog.Logger) (approvalStore, error) {
	if cfg.Postgres.URL == "" {
		s, err := sqlite.Open(ctx, cfg.File)
		if err != nil {
			return nil, fmt.Errorf("open the approval store: %w (approvals.file)", err)
		}
		return s, nil
	}
	conf, err := postgresConfig(cfg.Postgres, log)
	if err != nil {
		return nil, err
	}
	s, err := postgres.New(ctx, conf)
	if err != nil {
		return nil, fmt.Errorf("%w (approvals.postgres)", err)
	}
	bound, cancel := context.WithTimeout(ctx, startBound)
	defer cancel()
	if err := s.Check(bound); err != nil {
		log.WarnContext(ctx, "starting without the approval store; calls that need approval are denied until it is there", "error", err)
	}
	return s, nil
}

func postgresConfig(cfg config.Postgres, log *slog.Logger) (postgres.Config, error) {
	conf := postgres.Config{URL: cfg.URL, MaxConnections: int(cfg.MaxConnections), Log: log}
	if cfg.Password != (config.Secret{}) {
		conf.Password = cfg.Password.Read
	}
	var err error
	conf.TLS, err = postgresTLS(cfg)
	return conf, err
}

// startBound is how long a start waits for a database that may be away.
const startBound = 5 * time.Second

func postgresTLS(cfg config.Postgres) (*tls.Config, error) {
	if cfg.TLS == "off" {
		return nil, nil
	}
	out := &tls.Config{MinVersion: tls.VersionTLS12}
	if cfg.CAFile != "" {
		pem, err := os.ReadFile(cfg.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read approvals.postgres.ca_file: %w", err)
		}
		out.RootCAs = x509.NewCertPool()
		if !out.RootCAs.AppendCertsFromPEM(pem) {
			return nil, errors.New("approvals.postgres.ca_file " + cfg.CAFile + " holds no PEM certificate")
		}
	}
	if cfg.CertFile != "" {
		own, err := tls.LoadX509KeyPair(cfg.CertFile, cfg.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("read approvals.postgres.cert_file and key_file: %w", err)
		}
		out.Certificates = []tls.Certificate{own}
	}
	return out, nil
}

// pollOf is how often decisions of other processes are looked for: seldom where
// they are told.
func pollOf(cfg config.Approvals) time.Duration {
	if cfg.Postgres.URL != "" {
		return time.Second
	}
	return 0 // the default
}

// statusURL is where callers that come again ask how far their approval is.
func statusURL(cfg *config.Config) func(id string) string {
	base := consoleURL(cfg)
	return func(id string) string {
		return base + "/api/v1/approvals/" + url.PathEscape(id) + "/status"
	}
}

// consoleURL is where people and callers reach the console.
func consoleURL(cfg *config.Config) string {
	if base := strings.TrimSuffix(cfg.Approvals.URL, "/"); base != "" {
		return base
	}
	return "http://" + cfg.Listen.Console
}
