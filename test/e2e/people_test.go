package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/console"
)

func (w *world) api(token string) *console.Client {
	return console.NewClient("http://"+w.Addrs.Console, token)
}

func refundOf(amount int) string {
	return fmt.Sprintf(`{"customer":"c-1","amount":%d,"currency":"EUR","reason":"broken"}`, amount)
}

// ask sends a call that is held, and returns its approval and where its answer
// will come.
func (w *world) ask(t *testing.T, token, body string) (string, <-chan answer) {
	t.Helper()
	before := map[string]bool{}
	open := func() []console.Approval {
		// All who may be asked see it.
		var all []console.Approval
		for _, who := range []string{w.bob, w.carol} {
			list, err := w.api(who).Approvals(t.Context(), console.Query{State: "open"})
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, list...)
		}
		return all
	}
	for _, a := range open() {
		before[a.ID] = true
	}
	done := make(chan answer, 1)
	go func() {
		a, err := w.try(t.Context(), http1(), token, "POST", "/crm/refunds", body)
		if err != nil {
			a.body = err.Error()
		}
		done <- a
	}()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		for _, a := range open() {
			if !before[a.ID] {
				return a.ID, done
			}
		}
		select {
		case a := <-done:
			t.Fatalf("not held: %d %s", a.status, a.body)
		default:
		}
	}
	t.Fatal("not held")
	return "", nil
}

// decide decides with the command line, and returns what it said.
func (w *world) decide(t *testing.T, token, verb, id string, more ...string) (string, error) {
	t.Helper()
	return w.cli(t, token, append([]string{"approvals", verb, id}, more...)...)
}

// steps waits for the last step of an approval in the trail, and compares them
// all but those that come when they may: that somebody looked at it, or got a grant.
func (w *world) steps(t *testing.T, id, last string, want ...string) {
	t.Helper()
	var got []string
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		out, err := w.cli(t, "", "query", "--json", "SELECT step, splitByChar('|', by)[2] AS who, splitByChar('|', in_place_of)[2] AS whose FROM approvals WHERE approval_id = '"+id+"' AND step NOT IN ('seen', 'notified', 'granted') ORDER BY number")
		var rows []struct{ Step, Who, Whose string }
		if err != nil || json.Unmarshal([]byte(out), &rows) != nil {
			t.Logf("%v %s", err, out) // the tables may still be made
			continue
		}
		got = nil
		for _, r := range rows {
			got = append(got, strings.TrimSpace(r.Step+" "+r.Who+" "+r.Whose))
		}
		if len(got) > 0 && strings.HasPrefix(got[len(got)-1], last) {
			break
		}
	}
	if strings.Join(got, ", ") != strings.Join(want, ", ") {
		t.Errorf("the steps of %s are %q, want %q", id, got, want)
	}
}

// Security must agree before who approves refunds is asked; both do, and the call
// passes. Somebody watches.
func TestTwoPeople(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience) // a watch has no end of its own
	defer cancel()
	watch := exec.CommandContext(ctx, binary, "approvals", "watch", "--json")
	watch.Env = append(os.Environ(), "CALLGATE_CONFIG="+shared.ConfigFile, "CALLGATE_SERVER=http://"+shared.Addrs.Console, "CALLGATE_TOKEN="+shared.carol)
	out, err := watch.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := watch.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	// watched reads until the approval is in a state and stage.
	watched := func(id, state string, stage int) {
		t.Helper()
		for lines.Scan() {
			var a console.Approval
			if err := json.Unmarshal(lines.Bytes(), &a); err != nil {
				t.Fatalf("%q: %v", lines.Text(), err)
			}
			if a.ID == id && a.State == state && a.Stage == stage {
				return
			}
		}
		t.Fatalf("watching ended before %s was %s in stage %d: %v", id, state, stage, lines.Err())
	}

	served := shared.REST.Served("refunds.create")
	id, done := shared.ask(t, shared.agent, refundOf(5000))
	watched(id, "open", 1)
	if out, err := shared.decide(t, shared.bob, "approve", id); err == nil || !strings.Contains(out, `"bob" is asked in stage 2 of 2, and stage 1 is asked now: groups security`) {
		t.Errorf("bob before security: %v %s", err, out)
	}
	if out, err := shared.decide(t, shared.alice, "approve", id); err == nil || !strings.Contains(out, "nobody decides about a call of their own") {
		t.Errorf("alice, for whom it is made: %v %s", err, out)
	}
	if out, err := shared.decide(t, shared.carol, "approve", id, "--comment", "genuine"); err != nil || !strings.Contains(out, "stage 2 of 2") {
		t.Fatalf("%v %s", err, out)
	}
	watched(id, "open", 2)
	if out, err := shared.decide(t, shared.carol, "approve", id); err == nil {
		t.Errorf("carol twice: %s", out)
	}
	select {
	case a := <-done:
		t.Fatalf("one of two was enough: %d %s", a.status, a.body)
	default:
	}
	if out, err := shared.decide(t, shared.bob, "approve", id); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	if a := <-done; a.status != 201 || a.header.Get("x-callgate-approval") != id || shared.REST.Served("refunds.create") != served+1 {
		t.Errorf("%d %s", a.status, a.body)
	}
	watched(id, "used", 0)
	cancel()
	_ = watch.Wait() // it was ended
	shared.steps(t, id, "used", "asked alice", "approved carol", "stage_done", "approved bob", "used alice")
	if n := number(t, shared, "SELECT count() AS n FROM approvals WHERE approval_id = '"+id+"' AND number = 0"); n != 0 {
		t.Errorf("%d steps without a number", n)
	}
}

// Who is away lets somebody decide in their place, until they take it back.
func TestDelegation(t *testing.T) {
	if out, err := shared.cli(t, shared.bob, "approvals", "delegate", "carol", "--for", "1h", "--reason", "on leave"); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	id, done := shared.ask(t, shared.agent, refundOf(410))
	if out, err := shared.decide(t, shared.carol, "approve", id); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	if a := <-done; a.status != 201 {
		t.Errorf("%d %s", a.status, a.body)
	}
	shared.steps(t, id, "used", "asked alice", "approved carol bob", "used alice")
	// Both count as one, so carol can't be the second of two in bob's place.
	id, done = shared.ask(t, shared.agent, refundOf(4100))
	if out, err := shared.decide(t, shared.carol, "approve", id); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	if out, err := shared.decide(t, shared.carol, "approve", id); err == nil || !strings.Contains(out, "each person decides once") {
		t.Errorf("carol for herself and for bob: %v %s", err, out)
	}
	list, err := shared.api(shared.bob).Delegations(t.Context(), false, false)
	if err != nil || len(list) != 1 {
		t.Fatalf("%+v %v", list, err)
	}
	if out, err := shared.cli(t, shared.bob, "approvals", "delegate", "--end", list[0].ID); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	if out, err := shared.decide(t, shared.bob, "deny", id, "--comment", "no"); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	if a := <-done; a.reason() != "refused" {
		t.Errorf("%d %s", a.status, a.body)
	}
	id, done = shared.ask(t, shared.agent, refundOf(420))
	if out, err := shared.decide(t, shared.carol, "approve", id); err == nil || !strings.Contains(out, "404") && !strings.Contains(out, "not an approver") {
		t.Errorf("carol after the delegation: %v %s", err, out)
	}
	if out, err := shared.decide(t, shared.bob, "deny", id, "--comment", "no"); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	<-done
}

// A grant with bounds lets the same calls pass while they stay within, and ends
// by itself.
func TestGrantWithBounds(t *testing.T) {
	id, done := shared.ask(t, shared.alice, refundOf(310))
	if out, err := shared.decide(t, shared.bob, "approve", id, "--grant", "5s", "--bounds", "call.args.amount <= 320 // small ones"); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	if a := <-done; a.status != 201 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	inside := shared.call(t, http1(), shared.alice, "POST", "/crm/refunds", refundOf(320))
	if inside.status != 201 || inside.header.Get("x-callgate-approval") != "" {
		t.Errorf("inside the bounds: %d %s", inside.status, inside.body)
	}
	for name, c := range map[string]struct{ token, body string }{"outside the bounds": {shared.alice, refundOf(321)}, "her agent": {shared.agent, refundOf(320)}} {
		t.Run(name, func(t *testing.T) {
			id, done := shared.ask(t, c.token, c.body)
			if out, err := shared.decide(t, shared.bob, "deny", id, "--comment", "no"); err != nil {
				t.Fatalf("%v %s", err, out)
			}
			<-done
		})
	}
	var grant string
	for _, s := range historyOf(t, id) {
		if s.Name == "granted" {
			grant = s.Comment
		}
	}
	if grant == "" {
		t.Error("that a grant was given is not among the steps")
	}
	shared.row(t, inside.id(), "decision", "allow", "rule", "support uses the CRM", "approval_id", "")
	shared.steps(t, id, "used", "asked alice", "approved bob", "used alice")
	if n := number(t, shared, "SELECT count() AS n FROM approvals WHERE approval_id = '"+id+"' AND step = 'granted' AND comment = '"+grant+"'"); n != 1 {
		t.Errorf("granted %d times", n)
	}
	shared.until(t, "the grant ends", func() bool {
		list, err := shared.api(shared.bob).Grants(t.Context(), false)
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range list {
			if g.ID == grant {
				return false
			}
		}
		return true
	})
	id, done = shared.ask(t, shared.alice, refundOf(320))
	if out, err := shared.decide(t, shared.bob, "deny", id, "--comment", "no"); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	<-done
}

// historyOf are the steps of an approval as the API tells them.
func historyOf(t *testing.T, id string) []struct{ Name, Comment string } {
	t.Helper()
	a, err := shared.api(shared.bob).Approval(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	var out []struct{ Name, Comment string }
	for _, s := range a.History {
		out = append(out, struct{ Name, Comment string }{string(s.Name), s.Comment})
	}
	return out
}

const brokenGlass = `
  - name: refunds in an emergency
    connections: [crm]
    functions: [refunds.create]
    when: call.args.amount == 777
    action: hold
    hold: {approvers: {groups: [refund-approvers]}, break_glass: {groups: [support]}, timeout: 1m}
`

// Who breaks glass passes at once, and somebody must look at it afterwards. A
// push in the middle of a hold makes its approval void.
func TestBreakGlassAndPush(t *testing.T) {
	withRules(t, func(rules string) string { return strings.Replace(rules, "rules:\n", "rules:"+brokenGlass, 1) }, func() {
		why := []string{"callgate-break-glass", "the shop is down"}
		a := shared.call(t, http1(), shared.agent, "POST", "/crm/refunds", refundOf(777), why...)
		if a.status != 403 || a.reason() != "break_glass_refused" {
			t.Errorf("an agent broke glass: %d %s", a.status, a.body)
		}
		a = shared.call(t, http1(), shared.alice, "POST", "/crm/refunds", refundOf(777), why...)
		id := a.header.Get("x-callgate-approval")
		if a.status != 201 || id == "" {
			t.Fatalf("%d %s", a.status, a.body)
		}
		shared.row(t, a.id(), "decision", "hold→allow", "reason", "break_glass", "approval_id", id)
		if out, err := shared.cli(t, shared.bob, "approvals", "list", "--reviews"); err != nil || !strings.Contains(out, id) {
			t.Errorf("%v %s", err, out)
		}
		shared.until(t, "the review is asked for in SQL", func() bool {
			return number(t, shared, "SELECT count() AS n FROM open_reviews WHERE approval_id = '"+id+"' AND why = 'the shop is down'") == 1
		})
		if out, err := shared.decide(t, shared.alice, "review", id, "--comment", "I was right"); err == nil {
			t.Errorf("alice reviewed herself: %s", out)
		}
		if out, err := shared.decide(t, shared.bob, "review", id, "--comment", "it was down"); err != nil {
			t.Fatalf("%v %s", err, out)
		}
		shared.steps(t, id, "reviewed", "broke_glass alice", "reviewed bob")
		if n := number(t, shared, "SELECT count() AS n FROM open_reviews WHERE approval_id = '"+id+"'"); n != 0 {
			t.Error("it is still to be reviewed")
		}

		id, done := shared.ask(t, shared.agent, refundOf(430))
		served := shared.REST.Served("refunds.create")
		withRules(t, func(rules string) string {
			return strings.Replace(rules, "rules:\n", `rules:
  - {name: no refunds of 430, functions: [refunds.create], when: call.args.amount == 430, action: deny}
`, 1)
		}, func() {
			if out, err := shared.decide(t, shared.bob, "approve", id); err != nil {
				t.Fatalf("%v %s", err, out)
			}
			if a := <-done; a.status != 503 || a.reason() != string(call.ReasonPolicyUnavailable) || !strings.Contains(a.body, "the policy changed") {
				t.Errorf("approved under the policy before: %d %s", a.status, a.body)
			}
			if a := shared.call(t, http1(), shared.agent, "POST", "/crm/refunds", refundOf(430)); a.status != 403 || a.reason() != "rule" {
				t.Errorf("made again: %d %s", a.status, a.body)
			}
		})
		if shared.REST.Served("refunds.create") != served {
			t.Error("the function ran")
		}
	})
}
