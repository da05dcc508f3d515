package e2e

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/callgate/callgate/console"
)

// A hold may last longer than a decision otherwise may (decide_timeout is 2s),
// and nobody's answering ends it with a reason.
func TestHoldOutlastsDecideTimeout(t *testing.T) {
	done := make(chan answer, 1)
	go func() {
		a, err := shared.try(t.Context(), http1(), shared.agent, "POST", "/crm/refunds", bigRefund)
		if err != nil {
			a.body = err.Error()
		}
		done <- a
	}()
	id := held(t, shared)
	time.Sleep(3 * time.Second)
	if out, err := shared.cli(t, shared.bob, "approvals", "approve", id); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if a := <-done; a.status != 201 || a.header.Get("x-callgate-approval") != id {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// withRules runs a test under changed rules and puts the old ones back.
func withRules(t *testing.T, change func(string) string, test func()) {
	t.Helper()
	file := filepath.Join(shared.Policies, "rules.yaml")
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	version := func() string {
		files, err := filepath.Glob(filepath.Join(shared.Policies, "*.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		out, err := shared.cli(t, "", append([]string{"policy", "check"}, files...)...)
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return strings.TrimSpace(out[strings.LastIndex(out, " "):])
	}
	put := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		want := version()
		api := console.NewClient("http://"+shared.Addrs.Console, shared.bob)
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			now, err := api.Status(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if now.PolicyVersion == want && len(now.Envoys) == 1 && now.Envoys[0].Version == want {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("policy %s did not come into force: %+v", want, now)
			}
		}
	}
	defer put(string(before))
	put(change(string(before)))
	test()
}

func TestHoldExpires(t *testing.T) {
	withRules(t, func(rules string) string { return strings.Replace(rules, "timeout: 60s", "timeout: 1s", 1) }, func() {
		served := shared.REST.Served("refunds.create")
		a := shared.call(t, http1(), shared.agent, "POST", "/crm/refunds", bigRefund)
		if a.status != 403 || a.reason() != "approval_expired" || shared.REST.Served("refunds.create") != served {
			t.Errorf("%d %s", a.status, a.body)
		}
		id := a.header.Get("x-callgate-approval")
		if out, err := shared.cli(t, shared.bob, "approvals", "approve", id); err == nil {
			t.Errorf("approved after its end: %s", out)
		}
		shared.row(t, a.id(), "decision", "hold→expired", "reason", "approval_expired", "approval_id", id)
	})
}

// More held calls than Envoy lets one cluster have under way by default (1024)
// must not keep other calls waiting.
func TestManyHoldsBlockNobody(t *testing.T) {
	const many = 1200
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	clients := make([]*http.Client, 20) // Envoy allows some 100 streams a connection
	for i := range clients {
		clients[i] = http2()
	}
	var ended atomic.Int64
	done := make(chan struct{})
	for i := range many {
		go func() {
			_, err := shared.try(ctx, clients[i%len(clients)], shared.agent, "POST", "/crm/refunds", bigRefund)
			if ctx.Err() == nil {
				t.Errorf("a held call ended: %v", err)
			}
			if ended.Add(1) == many {
				close(done)
			}
		}()
	}
	for deadline := time.Now().Add(40 * time.Second); ; time.Sleep(200 * time.Millisecond) {
		if n := metric(t, "callgate_calls_held"); n == "1200" {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("%s calls are held, want %d", n, many)
		}
	}
	for range 5 {
		if a := shared.call(t, http1(), shared.alice, "GET", "/crm/customers/c-1", ""); a.status != 200 {
			t.Errorf("another call: %d %s", a.status, a.body)
		}
	}
	cancel()
	<-done
	for deadline := time.Now().Add(40 * time.Second); metric(t, "callgate_calls_held") != "0"; time.Sleep(200 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("calls are held for callers that are gone")
		}
	}
}

func metric(t *testing.T, name string) string {
	t.Helper()
	a, err := getText(t, "http://"+shared.Addrs.Metrics+"/metrics")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(a) {
		if v, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// A call is held for longer than Envoy's default time-outs, which are a minute.
func TestSoakHoldOverAMinute(t *testing.T) {
	if os.Getenv("CALLGATE_SOAK") == "" {
		t.Skip("CALLGATE_SOAK is not set; make soak runs it")
	}
	withRules(t, func(rules string) string { return strings.Replace(rules, "timeout: 60s", "timeout: 3m", 1) }, func() {
		id, done := shared.ask(t, shared.agent, refundOf(801))
		select {
		case a := <-done:
			t.Fatalf("it ended: %d %s", a.status, a.body)
		case <-time.After(75 * time.Second):
		}
		if out, err := shared.decide(t, shared.bob, "approve", id); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if a := <-done; a.status != 201 || a.header.Get("x-callgate-approval") != id {
			t.Errorf("%d %s", a.status, a.body)
		}
	})
}
