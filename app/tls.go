package app

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/url"
	"os"

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
	c, err := upstreamTLS(up)
	if err != nil {
		return nil, err
	}
	return credentials.NewTLS(c), nil
}

func upstreamTLS(up config.Upstream) (*tls.Config, error) {
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
	return c, nil
}
