package app

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/callgate/callgate/approvals"
	"github.com/callgate/callgate/approvals/storetest"
	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/console"
	"github.com/callgate/callgate/extauthz/identity"
	"github.com/callgate/callgate/test/authority"
)

type nothing struct{}

func (nothing) Record(context.Context, call.Event) error { return nil }

func encodedLeaf(pair tls.Certificate) string {
	return url.QueryEscape(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]})))
}

// Who makes calls by a client certificate asks by it how far its approval is;
// another certificate, and none, are told nothing.
func TestStandingByCertificate(t *testing.T) {
	ours, foreign := authority.New(t), authority.New(t)
	cfg := &config.Config{}
	cfg.Console.TLS.CertFile, cfg.Console.TLS.KeyFile = ours.Issue(t, "console", "localhost")
	plain, err := consoleTLS(cfg)
	if err != nil || plain.ClientAuth != tls.NoClientCert {
		t.Errorf("certificates are asked for though no caller is known by one: %v %v", plain, err)
	}
	cfg.Identity.MTLS = config.MTLS{CAFile: ours.CAFile, Kind: "workload"}
	conf, err := consoleTLS(cfg)
	if err != nil {
		t.Fatal(err)
	}
	known, err := certificates(cfg.Identity.MTLS)
	if err != nil {
		t.Fatal(err)
	}
	callers, err := identity.New(identity.Config{Certificates: known, Log: slog.New(slog.DiscardHandler), Metrics: identity.NewMetrics(prometheus.NewRegistry())})
	if err != nil {
		t.Fatal(err)
	}
	store := storetest.NewMemory()
	desk := approvals.New(approvals.Config{Store: store, Recorder: nothing{}, Log: slog.New(slog.DiscardHandler), Metrics: approvals.NewMetrics(prometheus.NewRegistry())})
	ruling := call.Ruling{Rule: "r", Hold: call.Hold{Wait: call.WaitRetry, Stages: []call.Stage{{Approvers: call.Approvers{Groups: []string{"g"}}}}}}
	pair := ours.Pair(t, "billing", "billing")
	who, err := callers.Caller(t.Context(), identity.Request{Certificate: encodedLeaf(pair)})
	if err != nil {
		t.Fatal(err)
	}
	id := desk.Hold(t.Context(), &call.Call{Identity: who, Connection: "crm", Function: "pay"}, &ruling).Approval.ID
	srv := httptest.NewUnstartedServer(console.New(console.Config{Approvals: desk, Callers: callers, URL: "https://localhost", Log: slog.New(slog.DiscardHandler)}).Handler())
	srv.TLS = conf
	srv.StartTLS()
	defer srv.Close()
	for name, c := range map[string]struct {
		pair []tls.Certificate
		want int
	}{
		"the caller": {[]tls.Certificate{pair}, 200}, "another": {[]tls.Certificate{ours.Pair(t, "shipping", "shipping")}, 404},
		"of a stranger": {[]tls.Certificate{foreign.Pair(t, "billing", "billing")}, 401}, "none": {nil, 401},
	} {
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ours.Pool(), ServerName: "localhost",
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { // whatever the server would take
				if len(c.pair) == 0 {
					return new(tls.Certificate), nil
				}
				return &c.pair[0], nil
			}}}
		resp, err := (&http.Client{Transport: transport}).Get(srv.URL + "/api/v1/approvals/" + id + "/status")
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		transport.CloseIdleConnections()
		if resp.StatusCode != c.want {
			t.Errorf("%s: %s %s, want %d", name, resp.Status, body, c.want)
		}
	}
}
