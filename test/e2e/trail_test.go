package e2e

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// command is the command line, to be started.
func (w *world) command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary, args...)
	cmd.Env = append(append(os.Environ(), w.Environment()...), "CALLGATE_CONFIG="+w.ConfigFile)
	return cmd
}

// What an operator sees of one call: in the list by each filter, and whole.
func TestCallsListAndShow(t *testing.T) {
	w := shared
	a := w.call(t, http1(), w.agent, "GET", "/crm/customers/c-1", "", "user-agent", "\u009b31mred\u202e")
	w.row(t, a.id())
	for _, filter := range []string{"--identity=alice", "--identity=" + w.issuerURL(t) + "|alice", "--connection=crm", "--function=customers.get", "--decision=allowed",
		"--decision=allow", "--reason=rule", "--since=1d", "--since=10m --until=" + time.Now().Add(time.Hour).UTC().Format(time.RFC3339)} {
		out, err := w.cli(t, "", append([]string{"calls", "list", "--limit", "1000"}, strings.Fields(filter)...)...)
		if err != nil || !strings.Contains(out, a.id()) {
			t.Errorf("%s: %v: %s", filter, err, out)
		}
	}
	for _, filter := range []string{"--identity=nobody", "--decision=denied", "--since=0s", "--until=2020-01-01 --since=2019-12-31", "--rule=x", "--session=x"} {
		if out, err := w.cli(t, "", append([]string{"calls", "list", "--limit", "1000"}, strings.Fields(filter)...)...); err != nil || strings.Contains(out, a.id()) {
			t.Errorf("%s: %v: %s", filter, err, out)
		}
	}
	out, err := w.cli(t, "", "calls", "list", "--identity", "nobody", "--json")
	if err != nil || strings.TrimSpace(out) != "[]" {
		t.Errorf("%v: %s", err, out)
	}
	out, err = w.cli(t, "", "calls", "show", a.id())
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, want := range []string{"Call " + a.id() + ": customers.get on crm, allow (rule)", "\nWho\n", "subject      alice", "\nWhat\n", "\nDecision\n",
		"rule         support uses the CRM", "\nRequest\n", "GET http://", "\nResponse\n", "status       200", "masked ", "\nTimes\n", "\nRecord\n",
		"decided   spool ", "answered  spool ", "finished  spool "} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	if strings.ContainsAny(out, "\x1b\u009b") {
		t.Errorf("what the caller sent drives the terminal: %q", out)
	}
	out, err = w.cli(t, "", "calls", "show", a.id(), "--json")
	var s struct {
		Call   map[string]any
		Events []struct{ Kind string }
	}
	if err != nil || json.Unmarshal([]byte(out), &s) != nil || s.Call["call_id"] != a.id() || len(s.Events) != 3 {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := w.cli(t, "", "calls", "show", "01935b5e-7f6a-7c1e-9d3b-2f1f0a9c8b7d"); err == nil || !strings.Contains(out, "no such call") {
		t.Errorf("%v: %s", err, out)
	}
}

// issuerURL is who vouches for the people of the demo.
func (w *world) issuerURL(t *testing.T) string {
	t.Helper()
	rows := w.query(t, "SELECT any(issuer) AS issuer FROM calls WHERE subject = 'alice'")
	return rows[0]["issuer"].(string)
}

// A held call's page tells who was asked and who said what.
func TestShowApproval(t *testing.T) {
	w := shared
	done := make(chan answer, 1)
	go func() {
		a, err := w.try(t.Context(), http1(), w.alice, "POST", "/crm/refunds", bigRefund)
		if err != nil {
			t.Error(err)
		}
		done <- a
	}()
	id := held(t, w)
	if out, err := w.cli(t, w.bob, "approvals", "approve", id, "--comment", "asked them"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	a := <-done
	w.row(t, a.id(), "decision", "hold→allow")
	out, err := w.cli(t, "", "calls", "show", a.id())
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, want := range []string{"approval     " + id, "  asked", "  approved by ", ": asked them"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
}

// Following prints each call once, a line of JSON each, and ends well when it is
// interrupted and when nobody reads any more.
func TestCallsTail(t *testing.T) {
	w := shared
	start := func() (*exec.Cmd, *bufio.Scanner, io.Closer, *strings.Builder) {
		cmd := w.command(t, "calls", "tail", "--identity", "alice", "--since", "1h", "--json")
		var said strings.Builder
		cmd.Stderr = &said
		// A pipe of our own: that of os/exec is closed when the process ends.
		r, wr, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		cmd.Stdout = wr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		wr.Close()
		t.Cleanup(func() { r.Close() })
		return cmd, bufio.NewScanner(r), r, &said
	}
	first := w.call(t, http1(), w.alice, "GET", "/crm/customers/c-1", "")
	w.row(t, first.id())
	cmd, out, _, said := start()
	times := map[string]int{}
	until := func(ids ...string) {
		t.Helper()
		for seen := 0; seen < len(ids); {
			if !out.Scan() {
				t.Fatalf("ended: %v: %s", out.Err(), said)
			}
			var c struct {
				ID string `json:"call_id"`
			}
			if err := json.Unmarshal(out.Bytes(), &c); err != nil {
				t.Fatalf("%v: %s", err, out.Text())
			}
			times[c.ID]++
			seen = 0
			for _, id := range ids {
				if times[id] > 0 {
					seen++
				}
			}
		}
	}
	until(first.id())
	var ids []string
	for range 5 {
		ids = append(ids, w.call(t, http1(), w.alice, "GET", "/crm/customers/c-1", "").id())
	}
	until(ids...)
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	for out.Scan() {
		t.Errorf("after the interrupt: %s", out.Text())
	}
	if err := cmd.Wait(); err != nil || said.String() != "" {
		t.Errorf("interrupted: %v: %s", err, said)
	}
	for id, n := range times {
		if n != 1 {
			t.Errorf("call %s was told %d times", id, n)
		}
	}

	cmd, out, pipe, said := start()
	until(first.id())
	pipe.Close() // and no further call comes
	if err := cmd.Wait(); err != nil || said.String() != "" {
		t.Errorf("nobody reads: %v: %s", err, said)
	}
}

func TestCallsUsage(t *testing.T) {
	for args, want := range map[string]string{
		"list --decision deneid":  "not known; choose allowed",
		"list --since yesterday":  "is no time; write how long ago",
		"list --limit 100001":     "callgate query has no limit",
		"tail --until 2020-01-01": "unknown flag",
	} {
		cmd := shared.command(t, append([]string{"calls"}, strings.Fields(args)...)...)
		out, _ := cmd.CombinedOutput() // the exit code is looked at
		if code := cmd.ProcessState.ExitCode(); code != 2 || !strings.Contains(string(out), want) {
			t.Errorf("%s: %d: %s", args, code, out)
		}
	}
	cmd := shared.command(t, "calls", "list")
	cmd.Env = append(cmd.Env, "CALLGATE_AUDIT_CLICKHOUSE_URL=http://127.0.0.1:1")
	out, _ := cmd.CombinedOutput()
	if code := cmd.ProcessState.ExitCode(); code != 3 || !strings.Contains(string(out), "reach ClickHouse at http://127.0.0.1:1") {
		t.Errorf("ClickHouse away: %d: %s", code, out)
	}
}

// The trail's state is told by the service, and by its disk where none answers.
func TestAuditStatus(t *testing.T) {
	w := shared
	w.row(t, w.call(t, http1(), w.alice, "GET", "/crm/customers/c-1", "").id())
	type status struct {
		Source, Node string
		Spool        struct {
			ID      string
			Records uint64
			Bytes   int64
		}
		Shipping struct {
			ClickHouse  string
			Quarantined int
		}
	}
	ask := func(token string, env ...string) (s status, out string, code int) {
		cmd := w.command(t, "audit", "status", "--json")
		cmd.Env = append(append(cmd.Env, "CALLGATE_SERVER=http://"+w.Addrs.Console, "CALLGATE_TOKEN="+token), env...)
		var said strings.Builder
		cmd.Stderr = &said
		data, _ := cmd.Output() // the exit code is looked at
		if cmd.ProcessState.ExitCode() == 0 {
			if err := json.Unmarshal(data, &s); err != nil {
				t.Fatalf("%v: %s", err, data)
			}
		}
		return s, said.String(), cmd.ProcessState.ExitCode()
	}
	served, said, code := ask(w.alice)
	if code != 0 || served.Source == "" || served.Spool.Bytes == 0 || served.Shipping.ClickHouse != "reachable" {
		t.Errorf("%d: %+v %s", code, served, said)
	}
	disk, said, code := ask("", "CALLGATE_SERVER=http://127.0.0.1:1")
	if code != 0 || disk.Source != "" || disk.Spool.ID != served.Spool.ID || disk.Spool.Records == 0 || disk.Shipping.ClickHouse != "reachable" ||
		!strings.Contains(said, "no service answers at http://127.0.0.1:1") {
		t.Errorf("%d: %+v %s", code, disk, said)
	}
	if disk, said, code := ask("", "CALLGATE_SERVER=http://127.0.0.1:1", "CALLGATE_AUDIT_CLICKHOUSE_URL=http://127.0.0.1:1"); code != 0 || disk.Shipping.ClickHouse != "away" {
		t.Errorf("ClickHouse away: %d: %+v %s", code, disk, said)
	}
	if _, said, code := ask(""); code != 2 || !strings.Contains(said, "set CALLGATE_TOKEN") {
		t.Errorf("no token: %d: %s", code, said)
	}
	if _, said, code := ask(w.stale); code != 1 || !strings.Contains(said, "expired") {
		t.Errorf("old token: %d: %s", code, said)
	}
	if _, said, code := ask("", "CALLGATE_SERVER=http://127.0.0.1:1", "CALLGATE_AUDIT_SPOOL_DIR="+t.TempDir()+"/none"); code != 3 || !strings.Contains(said, "there is no spool in") {
		t.Errorf("no spool: %d: %s", code, said)
	}
	out, err := w.cli(t, w.alice, "audit", "status")
	for _, want := range []string{"events kept", "alert        none", "ClickHouse   reachable", "unsettled", "quarantine   0 rows", "checkpoint"} {
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("%q is not in %v\n%s", want, err, out)
		}
	}
}

func TestAuditRequeueCommand(t *testing.T) {
	w := shared
	out, err := w.cli(t, "", "audit", "requeue")
	if err != nil || !strings.Contains(out, "the quarantine is empty") {
		t.Errorf("%v: %s", err, out)
	}
	file := filepath.Join(t.TempDir(), "calls-00000000000000000007.json")
	for _, want := range []struct {
		text string
		code int
	}{{"quarantined rows lie in", 2}, {"damaged", 1}} {
		cmd := w.command(t, "audit", "requeue", "--file", file)
		out, _ := cmd.CombinedOutput() // the exit code is looked at
		if code := cmd.ProcessState.ExitCode(); code != want.code || !strings.Contains(string(out), want.text) {
			t.Errorf("%d: %s", code, out)
		}
		if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := w.command(t, "audit", "requeue", "--json", "--file", file)
	cmd.Env = append(cmd.Env, "CALLGATE_AUDIT_CLICKHOUSE_URL=http://127.0.0.1:1")
	data, _ := cmd.CombinedOutput() // the exit code is looked at
	if code := cmd.ProcessState.ExitCode(); code != 3 {
		t.Errorf("ClickHouse away: %d: %s", code, data)
	}
}

// What Envoy answers by itself is counted as undecided, and nothing on any route
// of ours reaches a function without a decision.
func TestAccessLogCounts(t *testing.T) {
	w := shared
	metric := func(name string) float64 {
		t.Helper()
		resp, err := http.Get("http://" + w.Addrs.Metrics + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		data, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			if rest, ok := strings.CutPrefix(line, "callgate_accesslog_"+name+" "); ok {
				v, err := strconv.ParseFloat(strings.TrimSpace(rest), 64)
				if err != nil {
					t.Fatal(err)
				}
				return v
			}
		}
		t.Fatalf("there is no metric %s", name)
		return 0
	}
	before := metric("entries_undecided_total")
	w.raw(t, "GET /crm/customers/c-1 HTTP/1.1\r\nhost: x\r\ntransfer-encoding: nonsense\r\n\r\n")
	w.raw(t, "CONNECT x:1 HTTP/1.1\r\nhost: x:1\r\n\r\n")
	for deadline := time.Now().Add(10 * time.Second); metric("entries_undecided_total") == before; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("what Envoy answered was not counted")
		}
	}
	w.row(t, w.call(t, http1(), w.alice, "GET", "/crm/customers/c-1", "").id(), "finished", "seen")
	if n := metric("bypassed_total"); n != 0 {
		t.Errorf("%v requests reached a function without a decision", n)
	}
}
