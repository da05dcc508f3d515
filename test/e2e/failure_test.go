package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/callgate/callgate/demo"
)

// kill -9 of the serving process in the middle of load: every call whose answer
// a caller saw has exactly one row afterwards, and so has every decided one.
func TestKillServe(t *testing.T) {
	t.Parallel()
	w, stop, err := start(t.Context(), demo.Config{Dir: filepath.Join(t.TempDir(), "stack"), AnyPorts: true,
		Env: []string{"CALLGATE_AUDIT_CLICKHOUSE_SETTLE_AFTER=2s"}}, true)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	}()
	sendAgain := holdThroughKills(t, w)
	ctx, end := context.WithCancel(t.Context())
	var mu sync.Mutex
	seen := map[string]int{}
	var callers sync.WaitGroup
	for range 6 {
		callers.Go(func() {
			c := http1()
			for ctx.Err() == nil {
				a, err := w.try(ctx, c, w.alice, "GET", "/crm/customers/c-1", "")
				if err != nil {
					continue // cut off by the kill
				}
				if strings.Contains(a.body, "4242 4242") {
					t.Error("an unmasked answer got out")
				}
				if a.id() != "" {
					mu.Lock()
					seen[a.id()] = a.status
					mu.Unlock()
				}
			}
		})
	}
	for range 3 {
		time.Sleep(400 * time.Millisecond)
		if err := w.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(400 * time.Millisecond)
	end()
	callers.Wait()
	sendAgain()
	if len(seen) < 20 {
		t.Fatalf("only %d calls were answered", len(seen))
	}
	// Legs that died with a process are waited for before a row is written
	// without them.
	var decided, rows, distinct int
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(200 * time.Millisecond) {
		decided = number(t, w, "SELECT count(DISTINCT call_id) AS n FROM events WHERE kind = 'decided'")
		rows = number(t, w, "SELECT count() AS n FROM calls")
		distinct = number(t, w, "SELECT count(DISTINCT call_id) AS n FROM calls")
		if rows >= decided && decided >= len(seen) || time.Now().After(deadline) {
			break
		}
	}
	if rows != decided || distinct != rows {
		t.Errorf("%d decided calls have %d rows, %d of them distinct", decided, rows, distinct)
	}
	var ids []string
	for id := range seen {
		ids = append(ids, "'"+id+"'")
	}
	if n := number(t, w, "SELECT count() AS n FROM calls WHERE call_id IN ("+strings.Join(ids, ",")+")"); n != len(seen) {
		t.Errorf("%d answered calls have %d rows", len(seen), n)
	}
	t.Logf("%d calls answered, %d decided, %d rows, over 3 kills", len(seen), decided, rows)
	streamThroughKill(t, w)
	eraseThroughKills(t, w)
}

func number(t *testing.T, w *world, sql string) int {
	t.Helper()
	rows := w.query(t, sql)
	return int(rows[0]["n"].(float64))
}

// Without ext_proc no response gets through, since nobody could mask it;
// without the decision service no call does.
func TestMissingServices(t *testing.T) {
	for roles, check := range map[string]func(a answer) bool{
		"extauthz,accesslog,xds,console": func(a answer) bool {
			return a.status == 502 && !strings.Contains(a.body, "4242") && strings.Contains(a.body, "may have been made") && a.header.Get("retry-after") == ""
		},
		"extproc,accesslog,xds,console": func(a answer) bool {
			return a.status == 503 && !strings.Contains(a.body, "4242") && strings.Contains(a.body, "was not made") && a.header.Get("retry-after") != "" && a.header.Get("content-type") == "application/problem+json"
		},
	} {
		t.Run(roles, func(t *testing.T) {
			t.Parallel()
			w, stop, err := start(t.Context(), demo.Config{Dir: filepath.Join(t.TempDir(), "stack"), AnyPorts: true, Roles: roles}, true)
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := stop(); err != nil {
					t.Error(err)
				}
			}()
			if a := w.call(t, http1(), w.alice, "GET", "/crm/customers/c-1", ""); !check(a) {
				t.Errorf("%d %s", a.status, a.body)
			}
		})
	}
}

// serveWith runs callgate serve with a small configuration until it ends, and
// returns what it said and its exit code.
func serveWith(t *testing.T, text string, env ...string) (string, int) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "callgate.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, "serve", "-c", file)
	cmd.Env = append(os.Environ(), env...)
	out, _ := cmd.CombinedOutput() // the exit code is looked at
	return string(out), cmd.ProcessState.ExitCode()
}

const anyPorts = `
listen: {grpc: "127.0.0.1:0", xds: "127.0.0.1:0", console: "127.0.0.1:0", metrics: "127.0.0.1:0"}
`

// What an operator reads when a start fails: the cause and what to do.
func TestStartErrors(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { taken.Close() })
	notADir := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(notADir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		config string
		code   int
		want   []string
	}{
		"taken port":       {fmt.Sprintf("listen: {grpc: %q, xds: \"127.0.0.1:0\", console: \"127.0.0.1:0\", metrics: \"127.0.0.1:0\"}\n", taken.Addr()), 3, []string{"listen.grpc " + taken.Addr().String() + " is taken by another process", "set another address under listen.grpc"}},
		"unwritable spool": {anyPorts + "audit: {spool: {dir: " + notADir + "/spool}}\n", 3, []string{"open the audit spool", "not a directory", "audit.spool.dir"}},
		"issuer away":      {anyPorts + "identity: {issuers: [{url: \"http://127.0.0.1:1\", audiences: [a]}]}\n", 3, []string{"issuer http://127.0.0.1:1 can't be reached", "connection refused", "identity.unreachable: wait"}},
		"unknown key":      {"lisen: {}\n", 2, []string{"callgate.yaml:1:1: unknown key \"lisen\"; did you mean \"listen\"?"}},
		"bad rule":         {"rules: [{name: r, action: deny, when: call.nothing}]\n", 2, []string{"callgate.yaml:1:", `rule "r"`, "nothing"}},
		"no credential":    {anyPorts + "connections: [{name: c, protocol: mcp, upstream: {url: \"http://127.0.0.1:1\"}, credential: {env: CALLGATE_E2E_NOT_SET}}]\n", 1, []string{`connection "c"`, "credential is missing", "CALLGATE_E2E_NOT_SET is empty"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, code := serveWith(t, c.config)
			if code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			for _, want := range c.want {
				if !strings.Contains(out, want) {
					t.Errorf("says %q, want %q in it", out, want)
				}
			}
		})
	}
}

// At the spool's bound calls are denied rather than let through unrecorded.
func TestFullSpool(t *testing.T) {
	t.Parallel()
	w, stop, err := start(t.Context(), demo.Config{Dir: filepath.Join(t.TempDir(), "stack"), AnyPorts: true, NoEngine: true,
		Env: []string{"CALLGATE_AUDIT_SPOOL_MAX_BYTES=1MiB"}}, true)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	}()
	body := `{"query":"select 1 -- ` + strings.Repeat("x", 100_000) + `"}`
	var last answer
	for range 40 {
		last = w.call(t, http1(), w.alice, "POST", "/crm/sql", body)
		if last.reason() == "audit_unavailable" {
			break
		}
	}
	if last.status != http.StatusServiceUnavailable || last.reason() != "audit_unavailable" {
		t.Fatalf("the bound was never felt: %d %s", last.status, last.body)
	}
	before := w.REST.Arrived()
	if a := w.call(t, http1(), w.alice, "POST", "/crm/sql", body); a.status != 503 || w.REST.Arrived() != before {
		t.Errorf("a call ran without a record: %d %s", a.status, a.body)
	}
	out, err := w.cli(t, w.alice, "audit", "status")
	if err != nil || !strings.Contains(out, "over 95 % full; at its limit calls are denied") {
		t.Errorf("%v: %s", err, out)
	}
}

// A process that dies while it masks takes the rest of the response with it:
// the caller's stream breaks off, and nothing that was not masked comes after.
func streamThroughKill(t *testing.T, w *world) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", w.scheme+"://"+w.Addrs.Envoy+"/crm/events?count=2000&ms=5", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("authorization", "Bearer "+w.alice)
	resp, err := http1().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	in := bufio.NewReader(resp.Body)
	if line, err := in.ReadString('\n'); err != nil || resp.StatusCode != 200 {
		t.Fatalf("%d %q %v", resp.StatusCode, line, err)
	}
	if err := w.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(in)
	if err == nil {
		t.Error("the stream ended as if it were whole")
	}
	if n := strings.Count(string(rest), "data:"); n > 1990 || strings.Contains(string(rest), "4242 4242 4242") || strings.Contains(string(rest), "4242424242424242") {
		t.Errorf("%d more events: %.300s", n, rest)
	}
}

// holdThroughKills has calls held by a process that is killed. Their approvals
// stay: what it returns gives them, and sends the same calls again.
func holdThroughKills(t *testing.T, w *world) (sendAgain func()) {
	t.Helper()
	ids := map[int]string{}
	answers := map[int]<-chan answer{}
	for _, amount := range []int{601, 602, 603} {
		ids[amount], answers[amount] = w.ask(t, w.agent, refundOf(amount))
	}
	// Until then the store may take the killed replica for being there, and its
	// callers with it.
	gone := time.Now().Add(17 * time.Second)
	return func() {
		t.Helper()
		time.Sleep(time.Until(gone))
		served := w.REST.Served("refunds.create")
		for amount, done := range answers {
			if a := <-done; a.status < 500 {
				t.Errorf("%d, whose process was killed: %d %s", amount, a.status, a.body)
			}
		}
		out, err := w.cli(t, w.bob, "approvals", "list")
		for amount, id := range ids {
			if err != nil || !strings.Contains(out, id) {
				t.Fatalf("%d is not open any more: %v %s", amount, err, out)
			}
		}
		if out, err := w.decide(t, w.bob, "approve", ids[601], "--grant", "1h", "--bounds", "call.args.amount <= 1"); err != nil {
			t.Fatalf("%v %s", err, out)
		}
		if out, err := w.decide(t, w.bob, "deny", ids[602], "--comment", "no"); err != nil {
			t.Fatalf("%v %s", err, out)
		}
		if a := w.call(t, http1(), w.agent, "POST", "/crm/refunds", refundOf(601)); a.status != 201 || a.header.Get("x-callgate-approval") != ids[601] {
			t.Errorf("sent again: %d %s", a.status, a.body)
		}
		id, done := w.ask(t, w.agent, refundOf(601))
		if id == ids[601] {
			t.Error("an approval passed twice")
		}
		for _, id := range []string{id, ids[603]} {
			if out, err := w.decide(t, w.bob, "deny", id, "--comment", "no"); err != nil {
				t.Fatalf("%v %s", err, out)
			}
		}
		<-done
		if n := w.REST.Served("refunds.create"); n != served+1 {
			t.Errorf("the function ran %d times", n-served)
		}
		// What the store could not be told of before the kill is in the trail once.
		w.steps(t, ids[601], "used", "asked alice", "approved bob", "used alice")
		w.steps(t, ids[602], "refused", "asked alice", "refused bob")
		if n := number(t, w, "SELECT count() - count(DISTINCT approval_id, number) AS n FROM approvals"); n != 0 {
			t.Errorf("%d steps are there twice", n)
		}
	}
}
