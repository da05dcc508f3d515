package clickhouse

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/callgate/callgate/call"
)

// authority signs certificates for a test.
type authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string // its certificate
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{t: t, file: filepath.Join(t.TempDir(), "ca.pem")}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotBefore: time.Now().Add(-24 * time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	var der []byte
	a.key, der = a.sign(template, nil)
	var err error
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(a.file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *authority) sign(template *x509.Certificate, by *x509.Certificate) (*ecdsa.PrivateKey, []byte) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	signer := a.key
	if by == nil {
		by, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	return key, der
}

// server is the TLS configuration of a server with that name, or of 127.0.0.1
// where it is empty.
func (a *authority) server(name string, expires time.Time) *tls.Config {
	template := &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: expires}
	if name == "" {
		template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	} else {
		template.DNSNames = []string{name}
	}
	key, der := a.sign(template, a.cert)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

// encrypted is the shared engine behind TLS.
func encrypted(t testing.TB, server *tls.Config) *httptest.Server {
	t.Helper()
	target, err := url.Parse("http://" + sharedEngine(t))
	if err != nil {
		t.Fatal(err)
	}
	forward := httputil.NewSingleHostReverseProxy(target)
	forward.ErrorHandler = func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) }
	s := httptest.NewUnstartedServer(forward)
	s.Config.ErrorLog = discard
	s.TLS = server
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

func TestTLS(t *testing.T) {
	t.Parallel()
	ours, theirs := newAuthority(t), newAuthority(t)
	later := time.Now().Add(time.Hour)
	good := encrypted(t, ours.server("", later))
	for name, c := range map[string]struct {
		url, ca, want string
	}{
		"right":              {good.URL, ours.file, ""},
		"another authority":  {good.URL, theirs.file, "ca_file"},
		"system's authority": {good.URL, "", "ca_file"},
		"wrong name":         {encrypted(t, ours.server("other.example", later)).URL, ours.file, "must name the host"},
		"expired":            {encrypted(t, ours.server("", time.Now().Add(-time.Hour))).URL, ours.file, "new certificate"},
		"plain":              {"https://" + sharedEngine(t), ours.file, ""},
		"old TLS":            {encrypted(t, &tls.Config{Certificates: ours.server("", later).Certificates, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}).URL, ours.file, "protocol version"},
	} {
		db := openDB(t, Config{URL: c.url, CAFile: c.ca, Database: "default", Password: func() (string, error) { return password, nil }})
		err := db.Ping(context.Background())
		if name == "right" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	empty := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(empty, []byte("no PEM"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{empty, empty + ".not"} {
		if _, err := Open(Config{URL: good.URL, CAFile: file}); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// A stranger is refused, and a password that can't be read is not taken for
// none.
func TestStranger(t *testing.T) {
	t.Parallel()
	db := openDB(t, Config{URL: "http://" + sharedEngine(t), Database: "default", Username: "nobody", Password: func() (string, error) { return password, nil }})
	if err := db.Ping(context.Background()); err == nil || strings.Contains(err.Error(), password) {
		t.Errorf("wrong user: %v", err)
	}
	missing := errors.New("file is gone")
	db = openDB(t, Config{URL: "http://" + sharedEngine(t), Database: "default", Password: func() (string, error) { return "", missing }})
	if err := db.Ping(context.Background()); !errors.Is(err, missing) {
		t.Errorf("no password to be had: %v", err)
	}
}

// listen listens on a free port.
func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// swallow takes connections and never says a word.
func swallow(t testing.TB) (addr string, taken *atomic.Int32) {
	t.Helper()
	l, taken := listen(t), new(atomic.Int32)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			taken.Add(1)
			t.Cleanup(func() { c.Close() })
		}
	}()
	return l.Addr().String(), taken
}

// The first host that answers is used; one that did not is not asked each time.
func TestFailover(t *testing.T) {
	t.Parallel()
	refuses := listen(t)
	refuses.Close()
	silent, asked := swallow(t)
	up := sharedEngine(t)
	for _, scheme := range []string{"http", "clickhouse"} {
		url := scheme + "://" + refuses.Addr().String() + "," + silent + "," + up
		if scheme == "clickhouse" {
			url = scheme + "://" + refuses.Addr().String() + "," + silent + "," + nativeServer(t, nil)
		}
		asked.Store(0)
		db := openDB(t, Config{URL: url, Database: "default", Password: func() (string, error) { return password, nil }, dialTimeout: 2 * time.Second})
		release := make(chan struct{})
		errs := make(chan error)
		if err := db.Ping(context.Background()); err != nil {
			t.Fatalf("%s: %v", scheme, err)
		}
		if n := asked.Load(); n != 1 {
			t.Errorf("%s: the silent host was asked %d times", scheme, n)
		}
		for range 4 { // connections of their own
			go func() {
				rows, err := db.Query(context.Background(), "SELECT 1")
				<-release
				if err == nil {
					err = rows.Close()
				}
				errs <- err
			}()
		}
		close(release)
		for range 4 {
			if err := <-errs; err != nil {
				t.Errorf("%s: %v", scheme, err)
			}
		}
		if n := asked.Load(); n != 1 {
			t.Errorf("%s: the silent host was asked %d times more", scheme, n-1)
		}
	}
	db := openDB(t, Config{URL: "http://" + refuses.Addr().String() + "," + silent, Database: "default", dialTimeout: 100 * time.Millisecond})
	err := db.Ping(context.Background())
	if err == nil || !strings.Contains(err.Error(), refuses.Addr().String()) || !strings.Contains(err.Error(), silent) {
		t.Errorf("nobody answers: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := db.Ping(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

// Two ways to one ClickHouse, each of which breaks while the trail is shipped:
// connections in use, and then the way as a whole.
func TestFailoverWhileShipping(t *testing.T) {
	t.Parallel()
	for _, scheme := range []string{"https", "clickhouses"} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			db, cfg := database(t)
			ca := newAuthority(t)
			var ways [2]*way
			var hosts []string
			for i := range ways {
				behind := ""
				if scheme == "https" {
					behind = encrypted(t, ca.server("", time.Now().Add(time.Hour))).Listener.Addr().String()
				} else {
					behind = nativeServer(t, ca.server("", time.Now().Add(time.Hour)))
				}
				ways[i] = newWay(t, behind)
				hosts = append(hosts, ways[i].Addr().String())
			}
			cfg.URL, cfg.CAFile, cfg.dialTimeout = scheme+"://"+strings.Join(hosts, ","), ca.file, time.Second
			through := openDB(t, cfg)
			spool := newSpool(t, t.TempDir())
			r := ship(t, through, spool, 100*time.Millisecond)
			total := 0
			batch := func() {
				for range 40 {
					d := decided(t, call.Answered, call.Finished)
					r.append(d, answered(d, "x"), finished(d))
					total++
				}
			}
			for round := range 6 {
				batch()
				down := ways[round%2]
				down.cut.Store(true)
				down.breakAll()
				batch()
				eventually(t, db, fmt.Sprint(total), "SELECT toString(countIf(answered = 'seen' AND finished = 'seen')) FROM calls")
				down.cut.Store(false)
			}
			exactlyOnce(t, db, spool)
			for i, w := range ways {
				if w.used.Load() == 0 {
					t.Errorf("way %d was never used: no test", i)
				}
			}
		})
	}
}

// All that goes over HTTP goes over the native protocol.
func TestNative(t *testing.T) {
	for name, test := range map[string]func(*testing.T){
		"Migrate": TestMigrate, "OneCompleteRow": TestOneCompleteRow, "LateLeg": TestLateLeg, "LegsOnOtherSpools": TestLegsOnOtherSpools,
		"Quarantine": TestQuarantine, "StateLost": TestStateLost, "ApprovalsHistory": TestApprovalsHistory, "Views": TestViews,
		"QueryRendersTypes": TestQueryRendersTypes, "QueryOnlyReads": TestQueryOnlyReads,
		"UnknownOutcomes": TestUnknownOutcomes, "AwayAndBack": TestClickHouseAwayAndBack,
	} {
		t.Run(name, test)
	}
}

// Who gives a wrong password or asks for a wrong certificate is told so over
// the native protocol too, and a database that is yet to be made is no fault.
func TestNativeConnection(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	later := time.Now().Add(time.Hour)
	right := func() (string, error) { return password, nil }
	for name, c := range map[string]struct {
		cfg  Config
		want string
	}{
		"right":             {Config{URL: "clickhouses://" + nativeServer(t, ca.server("", later)), CAFile: ca.file, Password: right}, ""},
		"wrong password":    {Config{URL: "clickhouse://" + nativeServer(t, nil), Password: func() (string, error) { return "s3cret", nil }}, "audit.clickhouse.password"},
		"another authority": {Config{URL: "clickhouses://" + nativeServer(t, ca.server("", later)), CAFile: newAuthority(t).file, Password: right}, "ca_file"},
		"wrong name":        {Config{URL: "clickhouses://" + nativeServer(t, ca.server("other.example", later)), CAFile: ca.file, Password: right}, "must name the host"},
		"expired":           {Config{URL: "clickhouses://" + nativeServer(t, ca.server("", time.Now().Add(-time.Hour))), CAFile: ca.file, Password: right}, "new certificate"},
		"plain":             {Config{URL: "clickhouses://" + nativeServer(t, nil), CAFile: ca.file, Password: right}, "EOF"},
	} {
		c.cfg.Database, c.cfg.dialTimeout = "t_not_made_yet", 2*time.Second
		err := openDB(t, c.cfg).Ping(context.Background())
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "s3cret")):
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// What 'make test-clickhouse' does with a server that a user has, over TLS.
func TestNativeServerOfOnesOwn(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	for _, url := range []string{
		"clickhouses://" + nativeServer(t, ca.server("", time.Now().Add(time.Hour))),
		encrypted(t, ca.server("", time.Now().Add(time.Hour))).URL,
	} {
		cmd := exec.Command(os.Args[0], "-test.run", "^(TestPassword|TestUnknownOutcomes)$", "-test.v")
		cmd.Env = append(os.Environ(), "CLICKHOUSE_ADDR="+url, "CLICKHOUSE_USER=default", "CLICKHOUSE_PASSWORD="+password, "CLICKHOUSE_CA="+ca.file)
		out, err := cmd.CombinedOutput()
		if err != nil || strings.Count(string(out), "--- PASS") != 2 {
			t.Errorf("%s: %v\n%s", url, err, out)
		}
	}
}
