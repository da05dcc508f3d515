package local

import (
	"context"
	"crypto/tls"
	"net"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"github.com/callgate/callgate/envoy"
	"github.com/callgate/callgate/test/authority"
)

// plane is a control plane over TLS that wants certificates. It tells of each
// handshake that failed, and of each stream.
type plane struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	credentials.TransportCredentials
	streams chan string // the client's certificate and the node
	failed  chan error
}

func (p *plane) ServerHandshake(c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := p.TransportCredentials.ServerHandshake(c)
	if err != nil {
		select {
		case p.failed <- err:
		default:
		}
	}
	return conn, info, err
}

func (p *plane) Clone() credentials.TransportCredentials { return p }

func (p *plane) DeltaAggregatedResources(s discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	first, err := s.Recv()
	if err != nil {
		return err
	}
	from, _ := peer.FromContext(s.Context())
	who := from.AuthInfo.(credentials.TLSInfo).State.VerifiedChains[0][0].Subject.CommonName
	select {
	case p.streams <- who + " as " + first.GetNode().GetId():
	default:
	}
	<-s.Context().Done()
	return s.Context().Err()
}

func newPlane(t *testing.T, a *authority.Authority) (*plane, string) {
	t.Helper()
	p := &plane{streams: make(chan string, 1), failed: make(chan error, 1), TransportCredentials: credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{a.Pair(t, "control")}, ClientCAs: a.Pool(), ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12})}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer(grpc.Creds(p))
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(srv, p)
	go func() { _ = srv.Serve(l) }() // ends with Stop
	t.Cleanup(srv.Stop)
	return p, l.Addr().String()
}

// A real Envoy shows its certificate to the control plane, and verifies that
// one's.
func TestBootstrapOverTLS(t *testing.T) {
	binary, err := Find(t.Context(), func(line string) { t.Log(line) })
	if err != nil {
		t.Fatal(err)
	}
	fleet, strangers := authority.New(t), authority.New(t)
	cert, key := fleet.Issue(t, "edge")
	theirs, theirKey := strangers.Issue(t, "stranger")
	for name, c := range map[string]struct {
		tls  envoy.BootstrapTLS
		want string // "": it gets no stream
	}{
		"of the fleet":                      {envoy.BootstrapTLS{CertFile: cert, KeyFile: key, CAFile: fleet.CAFile}, "edge as edge-1"},
		"without a certificate":             {envoy.BootstrapTLS{CAFile: fleet.CAFile}, ""},
		"with a stranger's":                 {envoy.BootstrapTLS{CertFile: theirs, KeyFile: theirKey, CAFile: fleet.CAFile}, ""},
		"that believes another authority":   {envoy.BootstrapTLS{CertFile: cert, KeyFile: key, CAFile: strangers.CAFile}, ""},
		"that looks for another name there": {envoy.BootstrapTLS{CertFile: cert, KeyFile: key, CAFile: fleet.CAFile, ServerName: "control.example"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			plane, address := newPlane(t, fleet)
			bootstrap, err := envoy.Bootstrap(envoy.BootstrapConfig{Node: "edge-1", XDS: address, TLS: c.tls})
			if err != nil {
				t.Fatal(err)
			}
			p, err := Start(Config{Binary: binary, Bootstrap: bootstrap, Dir: t.TempDir(), Concurrency: 1})
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := p.Stop(); err != nil {
					t.Error(err)
				}
			}()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			select {
			case got := <-plane.streams:
				if got != c.want {
					t.Errorf("a stream of %s, want %q", got, c.want)
				}
			case err := <-plane.failed:
				if c.want != "" {
					t.Errorf("the handshake: %v", err)
				}
			case <-p.Done():
				t.Error("Envoy ended")
			case <-ctx.Done():
				t.Error("nothing came")
			}
		})
	}
}
