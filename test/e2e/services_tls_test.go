package e2e

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/callgate/callgate/demo"
	"github.com/callgate/callgate/test/authority"
)

// Envoy asks the services over mutual TLS with files on its host, which it takes
// up when they are renewed. With a certificate that is not believed, and for
// whoever asks beside Envoy, there is no decision, and so no call.
func TestServicesOverTLS(t *testing.T) {
	keepSecrets(t)
	ours, theirs := authority.New(t), authority.New(t)
	cert, key := ours.Issue(t, "services")
	envoys := t.TempDir() // Envoy's host
	install := func(from *authority.Authority, name string) {
		t.Helper()
		crt, key := from.Issue(t, "edge", name)
		for from, to := range map[string]string{crt: "edge.crt", key: "edge.key"} {
			data, err := os.ReadFile(from)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(envoys, "new"), data, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(filepath.Join(envoys, "new"), filepath.Join(envoys, to)); err != nil {
				t.Fatal(err)
			}
		}
	}
	install(ours, "one.edge")
	logs := &journal{}
	run := serve(logs.log())
	again := make(chan struct{})
	cfg := demo.Config{Dir: filepath.Join(t.TempDir(), "stack"), AnyPorts: true, NoEngine: true}
	cfg.Serve = func(ctx context.Context, file string) error {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		changed := fmt.Sprintf("services: {tls: {cert_file: %q, key_file: %q, client_ca_file: %q}, clients: [\"*.edge\"]}\n", cert, key, ours.CAFile) +
			strings.Replace(string(text), "envoy:\n", fmt.Sprintf("envoy:\n  services_tls: {cert_file: %q, key_file: %q, ca_file: %q}\n", filepath.Join(envoys, "edge.crt"), filepath.Join(envoys, "edge.key"), ours.CAFile), 1)
		to := filepath.Join(filepath.Dir(file), "mutual.yaml")
		if err := os.WriteFile(to, []byte(changed), 0o600); err != nil {
			return err
		}
		for ctx.Err() == nil {
			running, stop := context.WithCancel(ctx)
			done := make(chan error, 1)
			go func() { done <- run(running, to) }()
			select {
			case <-again:
			case <-ctx.Done():
			}
			stop()
			if err := <-done; err != nil {
				return err
			}
		}
		return nil
	}
	w, stop, err := startWith(t.Context(), cfg, logs)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	}()
	call := func() answer { t.Helper(); return w.call(t, http1(), w.alice, "GET", "/crm/customers/c-1", "") }
	until := func(what string, is func() bool) {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); !is(); time.Sleep(50 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("not in time: %s", what)
			}
		}
	}
	if a := call(); a.status != 200 {
		t.Fatalf("over TLS: %d %s", a.status, a.body)
	}

	denied := func(why string) {
		t.Helper()
		before := w.REST.Arrived()
		for range 3 {
			if a := call(); a.status < 500 {
				t.Errorf("with %s: %d %s", why, a.status, a.body)
			}
		}
		if n := w.REST.Arrived() - before; n != 0 {
			t.Errorf("with %s: %d calls reached the function", why, n)
		}
	}

	// Beside Envoy: whoever has no such certificate is not even heard.
	direct := func(creds credentials.TransportCredentials) error {
		t.Helper()
		conn, err := grpc.NewClient(w.Addrs.GRPC, grpc.WithTransportCredentials(creds))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		_, err = authv3.NewAuthorizationClient(conn).Check(ctx, &authv3.CheckRequest{})
		return err
	}
	with := func(certs ...tls.Certificate) credentials.TransportCredentials {
		return credentials.NewTLS(&tls.Config{RootCAs: ours.Pool(), Certificates: certs, MinVersion: tls.VersionTLS13})
	}
	good := with(ours.Pair(t, "direct", "two.edge"))
	if err := direct(good); err != nil {
		t.Errorf("a good certificate: %v", err)
	}
	for what, creds := range map[string]credentials.TransportCredentials{
		"plain text": insecure.NewCredentials(), "no certificate": with(), "another authority's": with(theirs.Pair(t, "direct", "two.edge")),
		"another name": with(ours.Pair(t, "other", "two.core")),
	} {
		if direct(creds) == nil {
			t.Errorf("%s: an answer", what)
		}
	}

	// Envoy itself, with what its host gives it.
	// Each of its clusters takes a certificate up by itself.
	shows := func(name, before string, of *authority.Authority) func() bool {
		install(of, name)
		return func() bool {
			resp, err := http.Get("http://" + w.Addrs.EnvoyAdmin + "/certs")
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			text, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			return strings.Contains(string(text), name) && !strings.Contains(string(text), before)
		}
	}
	until("Envoy shows the stranger's", shows("three.edge", "one.edge", theirs))
	again <- struct{}{} // its connections of before end
	until("the services are back", func() bool { return direct(good) == nil })
	denied("a stranger's certificate")
	until("Envoy shows another name", shows("four.core", "three.edge", ours))
	denied("a certificate of another name")
	until("Envoy shows a good one", shows("five.edge", "four.core", ours))
	until("calls pass again", func() bool { return call().status == 200 })
}
