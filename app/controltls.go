package app

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/callgate/callgate/config"
)

// towardsControl is how the control plane is reached.
func towardsControl(t config.ControlTLS, server string) (credentials.TransportCredentials, error) {
	if t == (config.ControlTLS{}) {
		return insecure.NewCredentials(), nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS13, ServerName: t.ServerName}
	if c.ServerName == "" {
		host, _, err := net.SplitHostPort(server)
		if err != nil {
			return nil, fmt.Errorf("control.server: %w", err)
		}
		c.ServerName = host
	}
	var err error
	if c.RootCAs, err = controlCA(t); err != nil {
		return nil, err
	}
	if err := controlCertificate(t, c); err != nil {
		return nil, err
	}
	return credentials.NewTLS(c), nil
}

// ofControl is how the control plane is offered.
func ofControl(t config.ControlTLS) (credentials.TransportCredentials, error) {
	if t.CertFile == "" {
		return insecure.NewCredentials(), nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if err := controlCertificate(t, c); err != nil {
		return nil, err
	}
	pool, err := controlCA(t)
	if err != nil {
		return nil, err
	}
	if pool != nil {
		c.ClientCAs, c.ClientAuth = pool, tls.RequireAndVerifyClientCert
	}
	return credentials.NewTLS(c), nil
}

// controlCertificate sets this side's certificate, read anew at each handshake
// so that it can be renewed.
func controlCertificate(t config.ControlTLS, c *tls.Config) error {
	if t.CertFile == "" {
		return nil
	}
	load := func() (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("control.tls: %w", err)
		}
		return &pair, nil
	}
	if _, err := load(); err != nil {
		return err
	}
	c.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return load() }
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() }
	return nil
}

func controlCA(t config.ControlTLS) (*x509.CertPool, error) {
	if t.CAFile == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(t.CAFile)
	if err != nil {
		return nil, fmt.Errorf("read control.tls.ca_file: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("control.tls.ca_file %s holds no PEM certificate", t.CAFile)
	}
	return pool, nil
}
