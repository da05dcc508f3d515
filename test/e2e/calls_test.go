package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/callgate/callgate/demo/issuer"
)

// versions runs a test over both versions of HTTP.
func versions(t *testing.T, test func(t *testing.T, c *http.Client)) {
	t.Run("http1", func(t *testing.T) { test(t, http1()) })
	t.Run("http2", func(t *testing.T) { test(t, http2()) })
}

func TestAllowedAndMasked(t *testing.T) {
	versions(t, func(t *testing.T, c *http.Client) {
		a := shared.call(t, c, shared.alice, "GET", "/crm/customers/c-1", "")
		if a.status != 200 || strings.Contains(a.body, "4242 4242") || !strings.Contains(a.body, "****4242") || strings.Contains(a.body, "ada@") {
			t.Errorf("%d %s", a.status, a.body)
		}
		shared.row(t, a.id(), "decision", "allow", "subject", "alice", "kind", "human", "connection", "crm", "function", "customers.get",
			"rule", "support uses the CRM", "http_status", 200, "answered", "seen", "finished", "seen", "args", `{"id":"c-1"}`)
		last, ok := shared.REST.Last()
		if !ok {
			t.Fatal("the function was not called")
		}
		if got := last.Header.Get("authorization"); got == "" || strings.Contains(got, shared.alice) {
			t.Error("the function got the caller's token, or none")
		}
		if got := last.Header.Get("x-callgate-call-id"); got != a.id() {
			t.Errorf("the function was told call id %q, the caller %q", got, a.id())
		}
	})
}

func TestBadTokens(t *testing.T) {
	forged, err := issuer.Forge(shared.alice)
	if err != nil {
		t.Fatal(err)
	}
	versions(t, func(t *testing.T, c *http.Client) {
		for reason, token := range map[string]string{"no_credentials": "", "expired_token": shared.stale, "invalid_token": forged} {
			before := shared.REST.Arrived()
			a := shared.call(t, c, token, "GET", "/crm/customers/c-1", "")
			if a.status != 401 || a.reason() != reason || a.header.Get("www-authenticate") == "" {
				t.Errorf("%s: %d for %s", reason, a.status, a.reason())
			}
			if shared.REST.Arrived() != before {
				t.Errorf("%s: the function was reached", reason)
			}
			shared.row(t, a.id(), "decision", "deny", "reason", reason, "subject", "", "http_status", 401, "answered", "none")
		}
	})
}

func TestDestructiveSQL(t *testing.T) {
	versions(t, func(t *testing.T, c *http.Client) {
		a := shared.call(t, c, shared.alice, "POST", "/crm/sql", `{"query":"select 1; drop table customers"}`)
		if a.status != 403 || a.header.Get("content-type") != "application/problem+json" {
			t.Errorf("%d %s", a.status, a.body)
		}
		var p struct {
			Status               int
			Detail, Reason, Rule string
			CallID               string `json:"call_id"`
		}
		if err := json.Unmarshal([]byte(a.body), &p); err != nil || p.Status != 403 || p.Rule != "no destructive SQL" || p.CallID != a.id() {
			t.Errorf("%v %s", err, a.body)
		}
		shared.row(t, a.id(), "decision", "deny", "rule", "no destructive SQL", "request_body", `{"query":"select 1; drop table customers"}`)
	})
}

// A stream of events flows and is masked, also where a value is cut in two.
func TestEventStream(t *testing.T) {
	versions(t, func(t *testing.T, c *http.Client) {
		a := shared.call(t, c, shared.alice, "GET", "/crm/events?count=6&ms=5", "")
		if a.status != 200 || !strings.HasPrefix(a.header.Get("content-type"), "text/event-stream") {
			t.Fatalf("%d %v", a.status, a.header)
		}
		if strings.Contains(a.body, "4242 4242 4242") || strings.Contains(a.body, "4242424242424242") || !strings.Contains(a.body, "4242") {
			t.Errorf("the stream: %s", a.body)
		}
		if n := strings.Count(a.body, "data:"); n != 6 {
			t.Errorf("%d events of 6", n)
		}
		shared.row(t, a.id(), "decision", "allow", "http_status", 200, "response_body_bytes", len(a.body))
	})
}

func held(t *testing.T, w *world) string {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		out, err := w.cli(t, w.bob, "approvals", "list", "--json")
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		var open []struct{ ID string }
		if err := json.Unmarshal([]byte(out), &open); err != nil {
			t.Fatal(err)
		}
		if len(open) > 0 {
			return open[0].ID
		}
	}
	t.Fatal("the call was not held")
	return ""
}

const bigRefund = `{"customer":"c-1","amount":500,"currency":"EUR","reason":"broken"}`

func TestHold(t *testing.T) {
	versions(t, func(t *testing.T, c *http.Client) {
		for verb, status := range map[string]int{"approve": 201, "deny": 403} {
			served := shared.REST.Served("refunds.create")
			done := make(chan answer, 1)
			go func() {
				a, err := shared.try(t.Context(), c, shared.agent, "POST", "/crm/refunds", bigRefund)
				if err != nil {
					a.body = err.Error()
				}
				done <- a
			}()
			id := held(t, shared)
			if shared.REST.Served("refunds.create") != served {
				t.Error("the function ran before anybody approved")
			}
			// The person for whom the agent acts, and the agent, can't approve.
			for who, token := range map[string]string{"alice": shared.alice, "agent": shared.agent} {
				if out, err := shared.cli(t, token, "approvals", "approve", id); err == nil {
					t.Errorf("%s approved: %s", who, out)
				}
			}
			if out, err := shared.cli(t, shared.bob, "approvals", verb, id, "--comment", "e2e"); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			a := <-done
			if a.status != status {
				t.Errorf("%s: %d %s", verb, a.status, a.body)
			}
			want := "hold→allow"
			if verb == "deny" {
				want = "hold→deny"
			}
			shared.row(t, a.id(), "decision", want, "approval_id", id, "approval_comment", "e2e", "acting", "support-agent", "http_status", status)
			if _, err := shared.cli(t, shared.bob, "approvals", "approve", id); err == nil {
				t.Error("an approval was decided twice")
			}
		}
	})
}

// A caller that hangs up takes its hold with it.
func TestHoldHangUp(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := shared.try(ctx, http1(), shared.agent, "POST", "/crm/refunds", bigRefund)
		done <- err
	}()
	id := held(t, shared)
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		out, err := shared.cli(t, shared.bob, "approvals", "show", id, "--json")
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if strings.Contains(out, `"state": "canceled"`) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the hold is still there: %s", out)
		}
	}
	if out, err := shared.cli(t, shared.bob, "approvals", "approve", id); err == nil {
		t.Errorf("a hold whose caller is gone was approved: %s", out)
	}
}

func TestCIJob(t *testing.T) {
	a := shared.call(t, http1(), shared.ci, "DELETE", "/crm/reports/q3", "")
	if a.status != 403 || a.reason() != "no_rule" {
		t.Errorf("%d %s", a.status, a.reason())
	}
	shared.row(t, a.id(), "decision", "deny", "kind", "ci", "reason", "no_rule")
}

// A policy edited on disk takes effect at once, drops no call, and a broken one
// changes nothing.
func TestPolicyEdit(t *testing.T) {
	rules := filepath.Join(shared.Policies, "rules.yaml")
	before, err := os.ReadFile(rules)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := os.WriteFile(rules, before, 0o600); err != nil {
			t.Error(err)
		}
		until(t, 200)
	}()
	ctx, stop := context.WithCancel(t.Context())
	failed := make(chan string, 1)
	go func() {
		defer close(failed)
		c := http1()
		for ctx.Err() == nil {
			a, err := shared.try(ctx, c, shared.alice, "GET", "/crm/customers?query=ada", "")
			if ctx.Err() == nil && (err != nil || a.status != 200) {
				failed <- a.body
				return
			}
		}
	}()
	closed := strings.Replace(string(before), "rules:\n", "rules:\n  - {name: closed, connections: [crm], functions: [customers.get], action: deny}\n", 1)
	if err := os.WriteFile(rules, []byte(closed), 0o600); err != nil {
		t.Fatal(err)
	}
	until(t, 403)
	if err := os.WriteFile(rules, []byte(closed+"  - {name: broken, action: alow}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond)
	until(t, 403)
	stop()
	if text, bad := <-failed; bad {
		t.Errorf("a call was dropped meanwhile: %s", text)
	}
}

func until(t *testing.T, status int) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		a := shared.call(t, http1(), shared.alice, "GET", "/crm/customers/c-1", "")
		if a.status == status {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("still %d, want %d", a.status, status)
		}
	}
}
