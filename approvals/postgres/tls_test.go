package postgres

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// front is a PostgreSQL that speaks TLS: its negotiation and the handshake are
// done here, and what comes after goes to the real server. It counts what came
// in the clear.
type front struct {
	addr  string
	tls   *tls.Config // nil: it says that it has none, as a server or somebody in between may
	mu    sync.Mutex
	clear int
}

func newFront(t *testing.T, config *tls.Config) *front {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &front{addr: l.Addr().String(), tls: config}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go f.serve(c)
		}
	}()
	return f
}

func (f *front) serve(c net.Conn) {
	defer c.Close()
	to, err := net.Dial("tcp", server.Addr())
	if err != nil {
		return
	}
	defer to.Close()
	first := make([]byte, 8) // SSLRequest, or the beginning of a start in the clear
	if _, err := io.ReadFull(c, first); err != nil {
		return
	}
	if string(first) != "\x00\x00\x00\x08\x04\xd2\x16\x2f" {
		f.mu.Lock()
		f.clear++
		f.mu.Unlock()
		if _, err := to.Write(first); err != nil {
			return
		}
	} else if f.tls == nil {
		_, _ = c.Write([]byte("N"))
	} else {
		if _, err := c.Write([]byte("S")); err != nil {
			return
		}
		secure := tls.Server(c, f.tls)
		if secure.Handshake() != nil {
			return
		}
		c = secure
	}
	go func() { _, _ = io.Copy(to, c); to.Close() }()
	_, _ = io.Copy(c, to)
}

func certificate(t *testing.T, name string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	if ip := net.ParseIP(name); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{name}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// With TLS the server is who it should be, or nothing is said to it: no password,
// and nothing in the clear.
func TestTLS(t *testing.T) {
	right, roots := certificate(t, "127.0.0.1")
	other, _ := certificate(t, "127.0.0.1")
	elsewhere, elsewhereRoots := certificate(t, "db.example")
	client, clients := certificate(t, "callgate")
	for name, c := range map[string]struct {
		server *tls.Config
		client *tls.Config
		want   string // of the error; "": it works
	}{
		"verified":             {&tls.Config{Certificates: []tls.Certificate{right}}, &tls.Config{RootCAs: roots}, ""},
		"another authority":    {&tls.Config{Certificates: []tls.Certificate{other}}, &tls.Config{RootCAs: roots}, "certificate"},
		"another host's":       {&tls.Config{Certificates: []tls.Certificate{elsewhere}}, &tls.Config{RootCAs: elsewhereRoots}, "certificate"},
		"system roots":         {&tls.Config{Certificates: []tls.Certificate{right}}, &tls.Config{}, "certificate"},
		"stripped on the way":  {nil, &tls.Config{RootCAs: roots}, "refused TLS"},
		"client certificate":   {&tls.Config{Certificates: []tls.Certificate{right}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients}, &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{client}}, ""},
		"none though required": {&tls.Config{Certificates: []tls.Certificate{right}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients}, &tls.Config{RootCAs: roots}, "certificate required"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFront(t, c.server)
			cfg := database(t, server)
			u, err := url.Parse(cfg.URL)
			if err != nil {
				t.Fatal(err)
			}
			u.Host = f.addr
			cfg.URL, cfg.TLS = u.String(), c.client
			s := open(t, cfg)
			err = s.Check(t.Context())
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if c.want == "" {
				// The connection that listens is no other.
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				heard := false
				if err := s.Watch(ctx, func(...string) { heard = true; cancel() }); err != nil || !heard {
					t.Errorf("heard %v: %v", heard, err)
				}
			}
			if f.mu.Lock(); f.clear > 0 {
				t.Errorf("%d connections in the clear", f.clear)
			}
			f.mu.Unlock()
		})
	}
}
