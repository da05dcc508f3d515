package app

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/callgate/callgate/approvals"
	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/demo/issuer"
	"github.com/callgate/callgate/extauthz/identity"
)

const notifyConfig = `state_dir: state
listen: {grpc: "127.0.0.1:0", xds: "127.0.0.1:0", console: "127.0.0.1:0", metrics: "127.0.0.1:0"}
identity:
  issuers: [{url: "ISSUER", audiences: [callgate], algorithms: [RS256]}]
approvals:
  url: http://127.0.0.1:9
  notify:
    - name: hook
      webhook: {url: "HOOKURL/in", secrets: [{env: CALLGATE_TEST_HOOK}], ca_file: hook.pem}
    - name: chat
      request: true
      slack:
        url: {env: CALLGATE_TEST_SLACK}
        signing_secret: {env: CALLGATE_TEST_SIGNING}
        people: [{team: T01, user: U0BOB, identity: "ISSUER|bob", groups: [finance]}]
connections: [{name: crm, protocol: mcp, match: {path: /crm}, upstream: {url: "http://127.0.0.1:9"}}]
rules: [{name: all, action: deny}]
`

// From a configuration file to a decision: a held call is told to a webhook and in
// Slack, decided by a button there, and the call goes on.
func TestNotifications(t *testing.T) {
	dir := t.TempDir()
	idp, err := issuer.New(issuer.Config{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	idpDone := make(chan error, 1)
	go func() { idpDone <- idp.Run(ctx) }()
	defer func() { cancel(); <-idpDone }()

	const secret = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
	wh, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	steps, messages, changed := make(chan string, 10), make(chan map[string]any, 10), make(chan map[string]any, 10)
	hook := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if err := wh.Verify(body, r.Header); err != nil {
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
		var e struct{ Type string }
		_ = json.Unmarshal(body, &e)
		steps <- e.Type
	}))
	defer hook.Close()
	slack := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var m map[string]any
		body, _ := io.ReadAll(r.Body)
		_ = json.Unmarshal(body, &m)
		if strings.HasPrefix(r.URL.Path, "/actions/") {
			changed <- m
		} else {
			messages <- m
		}
	}))
	defer slack.Close()
	t.Setenv("CALLGATE_TEST_HOOK", secret)
	t.Setenv("CALLGATE_TEST_SLACK", slack.URL+"/services/T01/x")
	t.Setenv("CALLGATE_TEST_SIGNING", "signing-secret")
	if err := os.WriteFile(filepath.Join(dir, "hook.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: hook.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "callgate.yaml")
	if err := os.WriteFile(file, []byte(strings.NewReplacer("ISSUER", idp.URL(), "HOOKURL", hook.URL).Replace(notifyConfig)), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	ready := make(chan struct{})
	a, err := New(ctx, cfg, Options{File: file, Roles: []Role{ExtAuthz, Console}, Version: "test", Log: slog.New(slog.NewTextHandler(&log, nil)), Slack: slack.URL + "/", Ready: func() { close(ready) }})
	if err != nil {
		t.Fatal(err)
	}
	run, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- a.Run(run) }()
	<-ready

	id, err := call.NewID()
	if err != nil {
		t.Fatal(err)
	}
	c := &call.Call{ID: id, Identity: call.Identity{Issuer: idp.URL(), Subject: "alice", Kind: call.Human}, Connection: "crm", Protocol: call.HTTP, Function: "refunds.create", ArgsJSON: []byte(`{"amount":500}`)}
	c.Request.Method, c.Request.Path, c.Request.Body = "POST", "/crm/refunds", []byte(`{"amount":500}`)
	out := make(chan call.Decision, 1)
	go func() {
		out <- *a.people.approvals.Hold(run, c, &call.Ruling{Action: call.ActionHold, Rule: "large refunds", PolicyVersion: "v1",
			Hold: call.Hold{Stages: []call.Stage{{Approvers: call.Approvers{Groups: []string{"finance"}}}}, Timeout: time.Minute}})
	}()
	if got := <-steps; got != "approval.asked" {
		t.Errorf("told %s", got)
	}
	value := button(t, <-messages)
	payload, err := json.Marshal(map[string]any{"type": "block_actions", "team": map[string]any{"id": "T01"}, "user": map[string]any{"id": "U0BOB", "team_id": "T01"}, "response_url": slack.URL + "/actions/T01/1",
		"actions": []any{map[string]any{"action_id": "approve", "block_id": "decide", "value": value}}})
	if err != nil {
		t.Fatal(err)
	}
	body := url.Values{"payload": {string(payload)}}.Encode()
	stamp := strconv.FormatInt(time.Now().Unix(), 10)
	mac := hmac.New(sha256.New, []byte("signing-secret"))
	fmt.Fprintf(mac, "v0:%s:%s", stamp, body)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+a.listeners["listen.console"].Addr().String()+"/slack/interactive", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("content-type", "application/x-www-form-urlencoded")
	req.Header.Set("x-slack-request-timestamp", stamp)
	req.Header.Set("x-slack-signature", "v0="+hex.EncodeToString(mac.Sum(nil)))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("%s", resp.Status)
	}
	d := <-out
	if d.Outcome != call.HoldAllow || len(d.Approval.By) != 1 || d.Approval.By[0] != idp.URL()+"|bob" {
		t.Errorf("decided %+v", d)
	}
	if m := <-changed; m["replace_original"] != true {
		t.Errorf("changed %v", m)
	}
	if one, two := <-steps, <-steps; one != "approval.approved" || two != "approval.used" {
		t.Errorf("told %s, %s", one, two)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	for _, s := range []string{secret, "signing-secret", "/services/T01/x"} {
		if strings.Contains(log.String(), s) {
			t.Errorf("%q is in the log: %s", s, log.String())
		}
	}
}

// button is the value of the first button of a message in Slack.
func button(t *testing.T, message map[string]any) string {
	t.Helper()
	blocks, _ := message["blocks"].([]any)
	for _, b := range blocks {
		block, _ := b.(map[string]any)
		if block["type"] == "actions" {
			first, _ := block["elements"].([]any)[0].(map[string]any)
			return first["value"].(string)
		}
	}
	t.Fatalf("no button in %v", message)
	return ""
}

// A secret that is missing is told at the start, by its name.
func TestNotifierErrors(t *testing.T) {
	for change, want := range map[string]string{
		"CALLGATE_TEST_HOOK": "approvals.notify hook: webhook.secrets: environment variable CALLGATE_TEST_HOOK", "CALLGATE_TEST_SLACK": "approvals.notify chat: slack.url: environment variable CALLGATE_TEST_SLACK",
	} {
		t.Setenv("CALLGATE_TEST_HOOK", "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")
		t.Setenv("CALLGATE_TEST_SLACK", "https://hooks.slack.com/x")
		t.Setenv("CALLGATE_TEST_SIGNING", "x")
		t.Setenv(change, "")
		dir := t.TempDir()
		file := filepath.Join(dir, "callgate.yaml")
		text := strings.NewReplacer("ISSUER", "https://idp.example", "HOOKURL", "https://hook.example", ", ca_file: hook.pem", "", "\nidentity:", "\nidentity:\n  unreachable: wait").Replace(notifyConfig)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		cfg, err := config.Load(file, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(cfg.StateDir, 0o700); err != nil {
			t.Fatal(err)
		}
		p := &people{}
		if err := p.openNotifier(cfg, prometheus.NewRegistry(), slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", change, err)
		}
	}
}

// Two channels of one Slack app take the decisions of the people of both.
func TestSlackChannelsOfOneApp(t *testing.T) {
	t.Setenv("CALLGATE_TEST_SIGNING", "s")
	secret := config.Secret{Env: "CALLGATE_TEST_SIGNING"}
	channel := func(name string, people ...config.SlackPerson) config.Notify {
		return config.Notify{Name: name, Slack: config.Slack{SigningSecret: secret, People: people}}
	}
	bob, ann := config.SlackPerson{Team: "T01", User: "U0BOB", Identity: "i|bob"}, config.SlackPerson{Team: "T01", User: "U0ANN", Identity: "i|ann"}
	eve := bob
	eve.Identity = "i|eve"
	for name, c := range map[string]struct {
		two  config.Notify
		want string
	}{
		"other people":           {channel("two", ann), ""},
		"the same person":        {channel("two", bob, ann), ""},
		"somebody else by an id": {channel("two", eve, ann), "T01/U0BOB is somebody else under one"},
	} {
		a := &App{cfg: &config.Config{Approvals: config.Approvals{Notify: []config.Notify{channel("one", bob), c.two}}}, people: &people{}}
		d, err := a.slackDecisions(nil)
		switch {
		case c.want != "":
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v", name, err)
			}
		case err != nil || len(d.Apps) != 1 || len(d.Apps[0].People) != 2:
			t.Errorf("%s: %+v, %v", name, d, err)
		}
	}
}

// Who was revoked decides nothing in Slack.
func TestSlackRevoked(t *testing.T) {
	v, err := identity.New(identity.Config{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("CALLGATE_TEST_SIGNING", "s")
	a := &App{cfg: &config.Config{Approvals: config.Approvals{Notify: []config.Notify{{Name: "chat", Slack: config.Slack{SigningSecret: config.Secret{Env: "CALLGATE_TEST_SIGNING"},
		People: []config.SlackPerson{{Team: "T01", User: "U0BOB", Identity: "https://idp|bob"}}}}}}}, people: &people{verifier: v}, log: slog.New(slog.DiscardHandler)}
	d, err := a.slackDecisions(nil)
	if err != nil {
		t.Fatal(err)
	}
	body := url.Values{"payload": {`{"type":"block_actions","team":{"id":"T01"},"user":{"id":"U0BOB"},"actions":[{"action_id":"approve","block_id":"decide","value":"apr_1 "}]}`}}.Encode()
	d.Show = func(context.Context, string) (approvals.View, error) { return approvals.View{ID: "apr_1"}, nil }
	decide, decided := d.Decide, make(chan error, 1)
	d.Decide = func(ctx context.Context, id string, by call.Identity, approve bool, comment string) error {
		err := decide(ctx, id, by, approve, comment)
		decided <- err
		return err
	}
	v.Revoke([]identity.Revocation{{Issuer: "https://idp", Subject: "bob", IssuedBefore: time.Now()}})
	stamp := strconv.FormatInt(time.Now().Unix(), 10)
	mac := hmac.New(sha256.New, []byte("s"))
	fmt.Fprintf(mac, "v0:%s:%s", stamp, body)
	req := httptest.NewRequest(http.MethodPost, "/slack/interactive", strings.NewReader(body))
	req.Header.Set("x-slack-request-timestamp", stamp)
	req.Header.Set("x-slack-signature", "v0="+hex.EncodeToString(mac.Sum(nil)))
	w := httptest.NewRecorder()
	d.ServeHTTP(w, req)
	d.Wait()
	if err := <-decided; !errors.Is(err, approvals.ErrNotApprover) {
		t.Errorf("%d, %v", w.Code, err)
	}
}
