package local

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"github.com/callgate/callgate/envoy"
)

// authority issues the certificates of a fleet, as files.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	dir  string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "fleet"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{key, cert, t.TempDir()}
	a.write(t, "ca.pem", "CERTIFICATE", der)
	return a
}

func (a *authority) file(name string) string { return filepath.Join(a.dir, name) }

func (a *authority) write(t *testing.T, name, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(a.file(name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (a *authority) issue(t *testing.T, name string) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, k.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	a.write(t, name+".crt", "CERTIFICATE", der)
	a.write(t, name+".key", "PRIVATE KEY", private)
	return a.file(name + ".crt"), a.file(name + ".key")
}

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

func (a *authority) plane(t *testing.T) (*plane, string) {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(a.issue(t, "control"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	p := &plane{streams: make(chan string, 1), failed: make(chan error, 1), TransportCredentials: credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12})}
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
	fleet, strangers := newAuthority(t), newAuthority(t)
	cert, key := fleet.issue(t, "edge")
	theirs, theirKey := strangers.issue(t, "stranger")
	for name, c := range map[string]struct {
		tls  envoy.BootstrapTLS
		want string // "": it gets no stream
	}{
		"of the fleet":                      {envoy.BootstrapTLS{CertFile: cert, KeyFile: key, CAFile: fleet.file("ca.pem")}, "edge as edge-1"},
		"without a certificate":             {envoy.BootstrapTLS{CAFile: fleet.file("ca.pem")}, ""},
		"with a stranger's":                 {envoy.BootstrapTLS{CertFile: theirs, KeyFile: theirKey, CAFile: fleet.file("ca.pem")}, ""},
		"that believes another authority":   {envoy.BootstrapTLS{CertFile: cert, KeyFile: key, CAFile: strangers.file("ca.pem")}, ""},
		"that looks for another name there": {envoy.BootstrapTLS{CertFile: cert, KeyFile: key, CAFile: fleet.file("ca.pem"), ServerName: "control.example"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			plane, address := fleet.plane(t)
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
