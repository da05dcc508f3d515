package app

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/callgate/callgate/config"
)

// upstreamCredentials are how a grpc upstream is reached for its reflection, as
// Envoy reaches it for calls.
func upstreamCredentials(u *url.URL, up config.Upstream) (credentials.TransportCredentials, error) {
	if u.Scheme != "https" {
		return insecure.NewCredentials(), nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: up.ServerName}
	if up.CAFile != "" {
		pem, err := os.ReadFile(up.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read upstream.ca_file: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("upstream.ca_file %s holds no PEM certificate", up.CAFile)
		}
	}
	return credentials.NewTLS(c), nil
}

// maskKey is the key of the hashes that stand for masked values. It is made once
// and kept, so that equal values have equal hashes over restarts.
func (a *App) maskKey() ([]byte, error) {
	file := filepath.Join(a.cfg.StateDir, "mask.key")
	key, err := os.ReadFile(file)
	if err == nil && len(key) == 32 {
		return key, nil
	}
	if err == nil {
		return nil, fmt.Errorf("%s is damaged (%d bytes, want 32); restore it, or remove it and lose the link to earlier hashes", file, len(key))
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the mask key: %w", err)
	}
	key = make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return nil, fmt.Errorf("make the mask key: %w", err)
	}
	if err := os.WriteFile(file, key, 0o600); err != nil {
		return nil, fmt.Errorf("keep the mask key: %w", err)
	}
	return key, nil
}
