package app

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/envoy"
	"github.com/callgate/callgate/test/authority"
	"github.com/callgate/callgate/xds"
	"github.com/callgate/callgate/xds/policyv1"
)

func dial(t *testing.T, addr string, creds credentials.TransportCredentials) *grpc.ClientConn {
	t.Helper()
	c, err := grpc.NewClient(addr, grpc.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// What is for decision servers is for those that control.servers names; Envoys
// share the port and the authority, and get only what is for Envoys.
func TestDecisionServersOnly(t *testing.T) {
	ca, other := authority.New(t), authority.New(t)
	cert, key := ca.Issue(t, "control")
	edge, server := ca.Pair(t, "edge", "edge-1.edge"), ca.Pair(t, "server", "spiffe://prod.example/callgate/server-1")
	const may, mayNot, handshake = codes.OK, codes.PermissionDenied, codes.Unavailable
	for _, c := range []struct {
		what                   string
		servers                []string
		with                   credentials.TransportCredentials
		fetch, follow, reports codes.Code
	}{
		{"an Envoy", []string{"spiffe://prod.example/callgate/*"}, mutual(ca, edge), may, mayNot, mayNot},
		{"a decision server", []string{"spiffe://prod.example/callgate/*"}, mutual(ca, server), may, may, may},
		{"one of another path", []string{"spiffe://prod.example/*"}, mutual(ca, server), may, mayNot, mayNot},
		{"a URI for a DNS name", []string{"*"}, mutual(ca, server), may, mayNot, mayNot},
		{"a DNS name for a URI", []string{"spiffe://*/*/*"}, mutual(ca, edge), may, mayNot, mayNot},
		{"its DNS name", []string{"nobody", "*.edge"}, mutual(ca, edge), may, may, may},
		{"a common name", []string{"edge"}, mutual(ca, edge), may, mayNot, mayNot},
		{"nobody named: anybody follows, none tells", nil, mutual(ca, server), may, may, mayNot},
		{"no certificate", nil, mutual(ca), handshake, handshake, handshake},
		{"another authority's", []string{"*"}, mutual(ca, other.Pair(t, "stranger", "stranger")), handshake, handshake, handshake},
		{"plain text", nil, insecure.NewCredentials(), handshake, handshake, handshake},
	} {
		t.Run(c.what, func(t *testing.T) {
			cfg := &config.Config{Control: config.Control{Servers: c.servers, TLS: config.ControlTLS{CertFile: cert, KeyFile: key, CAFile: ca.CAFile}}}
			a := &App{cfg: cfg, log: slog.New(slog.DiscardHandler)}
			a.xds = xds.New(xds.Config{Follow: mayFollow(cfg.Control), Report: mayReport(cfg.Control), Node: mayBe(cfg.Control.Nodes), Log: a.log, Metrics: xds.NewMetrics(prometheus.NewRegistry())})
			a.xds.TakeReports(func(context.Context, *policyv1.ToolReport) error { return nil })
			r, err := envoy.Build(envoy.Input{Settings: config.Envoy{Listen: "127.0.0.1:1", Services: "127.0.0.1:2", DecideTimeout: time.Second}, Policy: config.Policy{Version: "v1"}})
			if err != nil {
				t.Fatal(err)
			}
			if err := a.xds.Set(t.Context(), xds.Release{Stable: xds.Version{Name: "v1", Resources: r}}); err != nil {
				t.Fatal(err)
			}
			if err := a.xds.Rollout(&policyv1.Rollout{Stable: "v1"}); err != nil {
				t.Fatal(err)
			}
			addr := serving(t, a.serveXDS)
			conn := dial(t, addr, c.with)
			ask := func(typeURL string) codes.Code {
				stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(bounded(t))
				if err != nil {
					return status.Code(err)
				}
				// What is wrong is told by what comes back.
				_ = stream.Send(&discoveryv3.DeltaDiscoveryRequest{Node: &corev3.Node{Id: "n"}, TypeUrl: typeURL, ResourceNamesSubscribe: []string{"*"}})
				_, err = stream.Recv()
				return status.Code(err)
			}
			if got := ask(resourcev3.ListenerType); got != c.fetch {
				t.Errorf("what is for Envoys: %v, want %v", got, c.fetch)
			}
			for _, own := range []string{xds.PolicyType, xds.GrantType, xds.RevocationType, xds.ToolSetType, xds.RolloutType} {
				if c.follow == may && own != xds.RolloutType {
					continue // there are none of these, so nothing comes
				}
				if got := ask(own); got != c.follow {
					t.Errorf("%s: %v, want %v", own, got, c.follow)
				}
			}
			_, err = policyv1.NewToolsClient(conn).Report(bounded(t), &policyv1.ToolReport{Node: "n", Connection: "tools"})
			if status.Code(err) != c.reports {
				t.Errorf("a report: %v, want %v", err, c.reports)
			}
		})
	}
}

func mutual(ca *authority.Authority, certs ...tls.Certificate) credentials.TransportCredentials {
	return credentials.NewTLS(&tls.Config{RootCAs: ca.Pool(), Certificates: certs, MinVersion: tls.VersionTLS13})
}

// serving runs a server until the test ends.
func serving(t *testing.T, serve func(context.Context, net.Listener) error) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

// The services answer those alone whose certificate is good and, where names are
// given, has one; a renewed certificate is taken up.
func TestServicesOverTLS(t *testing.T) {
	ca, other := authority.New(t), authority.New(t)
	cert, key := ca.Issue(t, "services")
	edge := ca.Pair(t, "edge", "edge-1.edge")
	for _, c := range []struct {
		what    string
		clients []string
		with    credentials.TransportCredentials
		want    codes.Code
	}{
		// The service itself says that it is not implemented: it was reached.
		{"an Envoy", nil, mutual(ca, edge), codes.Unimplemented},
		{"one with its name", []string{"*.edge"}, mutual(ca, edge), codes.Unimplemented},
		{"one with another name", []string{"*.core", "spiffe://*/*"}, mutual(ca, edge), codes.Unavailable},
		{"no certificate", nil, mutual(ca), codes.Unavailable},
		{"another authority's", nil, mutual(ca, other.Pair(t, "stranger", "edge-1.edge")), codes.Unavailable},
		{"plain text", nil, insecure.NewCredentials(), codes.Unavailable},
	} {
		t.Run(c.what, func(t *testing.T) {
			creds, err := ofServices(config.Services{Clients: c.clients, TLS: config.ServicesTLS{CertFile: cert, KeyFile: key, ClientCAFile: ca.CAFile}})
			if err != nil {
				t.Fatal(err)
			}
			addr := serving(t, func(ctx context.Context, l net.Listener) error {
				s := grpc.NewServer(grpc.Creds(creds))
				authv3.RegisterAuthorizationServer(s, authv3.UnimplementedAuthorizationServer{})
				return serveStreams(ctx, s, l)
			})
			_, err = authv3.NewAuthorizationClient(dial(t, addr, c.with)).Check(bounded(t), &authv3.CheckRequest{})
			if status.Code(err) != c.want {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
	creds, err := ofServices(config.Services{TLS: config.ServicesTLS{CertFile: cert, KeyFile: key, ClientCAFile: ca.CAFile}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ofServices(config.Services{TLS: config.ServicesTLS{CertFile: cert, KeyFile: key, ClientCAFile: key}}); err == nil || !strings.Contains(err.Error(), "services.tls.client_ca_file") {
		t.Errorf("no authority: %v", err)
	}
	if _, err := ofServices(config.Services{TLS: config.ServicesTLS{CertFile: cert, KeyFile: cert, ClientCAFile: ca.CAFile}}); err == nil || !strings.Contains(err.Error(), "services.tls") {
		t.Errorf("no key: %v", err)
	}
	addr := serving(t, func(ctx context.Context, l net.Listener) error {
		return serveStreams(ctx, grpc.NewServer(grpc.Creds(creds)), l)
	})
	serial := func() string {
		conn, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: ca.Pool(), Certificates: []tls.Certificate{edge}, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS13})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	before := serial()
	ca.Issue(t, "services")
	if serial() == before {
		t.Error("the renewed certificate was not taken up")
	}
}
