package endpoint_test

import (
	"context"
	"crypto/tls"
	"net/http"
	"strings"
	"testing"

	"github.com/callgate/callgate/demo/endpoint"
)

const serviceKey = "the-service's-own-key"

// callerToken is what must never be good for a service.
const callerToken = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2ln"

// run serves until the test or the returned stop ends it.
func run(t *testing.T, serve func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- serve(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	}
	t.Cleanup(stop)
	return stop
}

// certified is a server's TLS and a client transport that trusts it.
func certified(t *testing.T) (*tls.Config, *http.Transport) {
	t.Helper()
	a, err := endpoint.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	server, err := a.ServerTLS()
	if err != nil {
		t.Fatal(err)
	}
	return server, &http.Transport{TLSClientConfig: &tls.Config{RootCAs: a.Pool()}}
}

// with sends headers along with every request.
type with struct {
	header http.Header
	next   http.RoundTripper
}

func (w with) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	for name, values := range w.header {
		r.Header[name] = values
	}
	return w.next.RoundTrip(r)
}

func wantError(t *testing.T, err error, part string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), part) {
		t.Errorf("got error %v, want one with %q", err, part)
	}
}
