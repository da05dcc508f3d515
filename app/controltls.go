package app

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

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
	if t.CAFile != "" {
		if c.RootCAs, err = authorities("control.tls.ca_file", t.CAFile); err != nil {
			return nil, err
		}
	}
	if t.CertFile != "" {
		load, err := certificate("control.tls", t.CertFile, t.KeyFile)
		if err != nil {
			return nil, err
		}
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() }
	}
	return credentials.NewTLS(c), nil
}

// ofControl is how the control plane is offered.
func ofControl(t config.ControlTLS) (credentials.TransportCredentials, error) {
	if t.CertFile == "" {
		return insecure.NewCredentials(), nil
	}
	c, err := offered("control.tls", t.CertFile, t.KeyFile)
	if err != nil {
		return nil, err
	}
	if t.CAFile != "" {
		if c.ClientCAs, err = authorities("control.tls.ca_file", t.CAFile); err != nil {
			return nil, err
		}
		c.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return credentials.NewTLS(c), nil
}

// ofServices is how the services that Envoys ask are offered.
func ofServices(s config.Services) (credentials.TransportCredentials, error) {
	if s.TLS == (config.ServicesTLS{}) {
		return insecure.NewCredentials(), nil
	}
	c, err := offered("services.tls", s.TLS.CertFile, s.TLS.KeyFile)
	if err != nil {
		return nil, err
	}
	if c.ClientCAs, err = authorities("services.tls.client_ca_file", s.TLS.ClientCAFile); err != nil {
		return nil, err
	}
	c.ClientAuth = tls.RequireAndVerifyClientCert
	if len(s.Clients) > 0 {
		c.VerifyConnection = func(state tls.ConnectionState) error {
			if !named(state.PeerCertificates[0], s.Clients) {
				return errors.New("the client certificate has no name of services.clients")
			}
			return nil
		}
	}
	return credentials.NewTLS(c), nil
}

// offered is a server's side of TLS.
func offered(setting, certFile, keyFile string) (*tls.Config, error) {
	load, err := certificate(setting, certFile, keyFile)
	if err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return load() }}, nil
}

// certificate reads this side's certificate, anew at each handshake so that it
// can be renewed.
func certificate(setting, certFile, keyFile string) (func() (*tls.Certificate, error), error) {
	load := func() (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(certFile, keyFile)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", setting, err)
		}
		return &pair, nil
	}
	_, err := load()
	return load, err
}

func authorities(setting, file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", setting, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s %s holds no PEM certificate", setting, file)
	}
	return pool, nil
}

// mayFollow tells whether a client of the control plane may have what is for
// decision servers; nil: any.
func mayFollow(c config.Control) func(context.Context) error {
	if len(c.Servers) == 0 {
		return nil
	}
	return func(ctx context.Context) error { return decisionServer(ctx, c.Servers) }
}

// mayReport tells whether a client may say what MCP servers offer; nil: any.
// Where there are certificates, an Envoy's is not enough.
func mayReport(c config.Control) func(context.Context) error {
	if c.TLS.CertFile == "" || c.TLS.CAFile == "" {
		return nil
	}
	return func(ctx context.Context) error { return decisionServer(ctx, c.Servers) }
}

// mayBe tells whether a client of the control plane may be the node that it says
// it is; nil: it may.
func mayBe(n config.ControlNodes) func(context.Context, string) error {
	if !n.Tied() {
		return nil
	}
	return func(ctx context.Context, id string) error {
		if p, ok := peer.FromContext(ctx); ok {
			if info, is := p.AuthInfo.(credentials.TLSInfo); is && len(info.State.VerifiedChains) > 0 && isNode(info.State.PeerCertificates[0], n, id) {
				return nil
			}
		}
		return status.Errorf(codes.PermissionDenied, "this certificate is not that of node %q; give the node a name that its certificate has, or add both to control.nodes.match of the control plane", id)
	}
}

func decisionServer(ctx context.Context, names []string) error {
	p, ok := peer.FromContext(ctx)
	if ok {
		if info, is := p.AuthInfo.(credentials.TLSInfo); is && len(info.State.VerifiedChains) > 0 && named(info.State.PeerCertificates[0], names) {
			return nil
		}
	}
	return status.Error(codes.PermissionDenied, "this certificate is no decision server's; add its name to control.servers of the control plane")
}
