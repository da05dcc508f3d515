package app

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/demo/issuer"
	"github.com/callgate/callgate/xds/policyv1"
)

const planeConfig = `node: NODE
state_dir: state-NODE
listen: {grpc: "127.0.0.1:0", xds: "127.0.0.1:0", console: "127.0.0.1:0", metrics: "127.0.0.1:0"}
identity:
  issuers: [{url: "ISSUER", audiences: [callgate], algorithms: [RS256]}]
control: {administrators: {people: [bob]}, server: "SERVER"}
`

// process runs a process's worth of Callgate until the test ends, or stop is called.
func process(t *testing.T, text string, roles ...Role) (a *App, stop func()) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "callgate.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	ready, done := make(chan struct{}), make(chan error, 1)
	a, err = New(t.Context(), cfg, Options{File: file, Roles: roles, Version: "test", Log: slog.New(slog.DiscardHandler), Ready: func() { close(ready) }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	go func() { done <- a.Run(ctx) }()
	ended := false
	stop = func() {
		cancel()
		if ended {
			return
		}
		ended = true
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	<-ready
	return a, stop
}

// A console apart from the control plane takes no token that was revoked there,
// and takes none before it knows which are.
func TestConsoleApartKnowsRevocations(t *testing.T) {
	idp, err := issuer.New(issuer.Config{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	idpDone := make(chan error, 1)
	go func() { idpDone <- idp.Run(ctx) }()
	defer func() { cancel(); <-idpDone }()
	configure := func(node, server string) string {
		return strings.NewReplacer("NODE", node, "ISSUER", idp.URL(), "SERVER", server).Replace(planeConfig)
	}
	rules := "connections: [{name: crm, protocol: mcp, match: {path: /crm}, upstream: {url: \"http://127.0.0.1:9\"}}]\nrules: [{name: all, action: deny}]\n"
	plane, stopPlane := process(t, strings.Replace(configure("plane", ""), `, server: ""`, "", 1)+rules, XDS, Console)
	server := plane.listeners["listen.xds"].Addr().String()
	apart, _ := process(t, configure("apart", server), Console)

	tokens, err := idp.Flows(nil).Login(t.Context(), issuer.Alice, "alice-demo-password")
	if err != nil {
		t.Fatal(err)
	}
	ask := func(a *App) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+a.listeners["listen.console"].Addr().String()+"/api/v1/approvals", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("authorization", "Bearer "+tokens.Access)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(body)
	}
	for { // until it has heard of the control plane
		status, body := ask(apart)
		if status == http.StatusOK {
			break
		}
		if !strings.Contains(body, "which tokens are revoked is not known yet") {
			t.Fatalf("before it knows: %d %s", status, body)
		}
	}
	if _, err := plane.plane.Revoke(t.Context(), &policyv1.Revocation{Subject: issuer.Alice, IssuedBefore: timestamppb.New(time.Now().Add(time.Second))}, "bob", "a test", time.Time{}); err != nil {
		t.Fatal(err)
	}
	if status, body := ask(apart); status != http.StatusUnauthorized || !strings.Contains(body, "was revoked") {
		t.Errorf("after the revocation: %d %s", status, body)
	}
	stopPlane()
	// A restart while the control plane is away forgets nothing.
	again := newDecider(t.Context(), apart, "")
	again.keep = filepath.Join(apart.cfg.StateDir, "last-policy.pb")
	apart.people.verifier.Revoke(nil)
	if _, err := (revoker{again}).load(t.Context()); err != nil {
		t.Fatal(err)
	}
	if status, body := ask(apart); status != http.StatusUnauthorized || !strings.Contains(body, "was revoked") {
		t.Errorf("after a restart: %d %s", status, body)
	}
	// Nobody is taken who can't be looked up.
	alone, _ := process(t, configure("alone", "127.0.0.1:1"), Console)
	if status, body := ask(alone); status == http.StatusOK || !strings.Contains(body, "not known yet") {
		t.Errorf("without a control plane: %d %s", status, body)
	}
}
