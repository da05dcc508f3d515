package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/demo/issuer"
)

// newTour gets everybody's tokens, each by the flow its kind of caller uses.
func newTour(ctx context.Context, s *Stack, out io.Writer) (*tour, error) {
	t := &tour{Stack: s, out: out, http: &http.Client{Timeout: 2 * time.Minute}}
	flows := s.Issuer.Flows(nil)
	get := func(to *string, token issuer.Token, err error) func() error {
		*to = token.Access
		return func() error { return err }
	}
	alice, err := flows.Login(ctx, issuer.Alice, issuer.Alice+"-demo-password")
	steps := []func() error{get(&t.alice, alice, err)}
	bob, err := flows.Login(ctx, issuer.Bob, issuer.Bob+"-demo-password")
	steps = append(steps, get(&t.bob, bob, err))
	carol, err := flows.Login(ctx, issuer.Carol, issuer.Carol+"-demo-password")
	steps = append(steps, get(&t.carol, carol, err))
	for _, c := range []struct {
		to *string
		id string
	}{{&t.ci, issuer.CIDeploy}, {&t.stale, issuer.CIStale}} {
		token, err := flows.ClientCredentials(ctx, c.id, c.id+"-demo-secret")
		steps = append(steps, get(c.to, token, err))
	}
	own, err := flows.ClientCredentials(ctx, issuer.SupportAgent, issuer.SupportAgent+"-demo-secret")
	steps = append(steps, func() error { return err })
	if err == nil {
		agent, err := flows.Exchange(ctx, issuer.SupportAgent, issuer.SupportAgent+"-demo-secret", t.alice, own.Access)
		steps = append(steps, get(&t.agent, agent, err))
	}
	for _, failed := range steps {
		if err := failed(); err != nil {
			return nil, fmt.Errorf("get a token from the issuer: %w", err)
		}
	}
	return t, nil
}

// answer is what came back of a REST call.
type answer struct {
	status int
	body   string
	id     string // x-callgate-call-id
	reason string
}

// rest makes a call through Envoy and shows it.
func (t *tour) rest(ctx context.Context, who, token, method, path, body string) (answer, error) {
	t.line("sent", "%s %s %s (as %s)", method, path, body, who)
	a, err := t.quietRest(ctx, token, method, path, body)
	if err == nil {
		t.line("came back", "%d %s", a.status, strings.TrimSpace(a.body))
	}
	return a, err
}

func (t *tour) quietRest(ctx context.Context, token, method, path, body string) (answer, error) {
	var in io.Reader
	if body != "" {
		in = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+t.Addrs.Envoy+path, in)
	if err != nil {
		return answer{}, err
	}
	if token != "" {
		req.Header.Set("authorization", "Bearer "+token)
	}
	if body != "" {
		req.Header.Set("content-type", "application/json")
	}
	resp, err := t.http.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, string(data), resp.Header.Get(call.HeaderCallID), resp.Header.Get(call.HeaderReason)}, err
}

// steps are the tour.
func (t *tour) steps() []step {
	return []step{
		{"A call is allowed, and the card number in its answer masked", (*tour).masked},
		{"No token, an expired one, a forged one", (*tour).badTokens},
		{"«drop table» is blocked", (*tour).dropTable},
		{"The CI job may read reports and nothing else", (*tour).ciJob},
		{"An AI agent acts for Alice over MCP", (*tour).mcpCall},
		{"A gRPC call, and one that no rule allows", (*tour).grpcCall},
		{"A refund over the limit waits for a person", (*tour).refund},
		{"A refund far over it waits for two people, one after the other", (*tour).twoPeople},
		{"Going around the gateway does not help", (*tour).bypass},
		{"A policy edited on disk is live at once, and no call is dropped", (*tour).edit},
		{"A grant for an hour; a policy tried on the record, pushed and rolled back", (*tour).push},
		{"Who called, what went in and out, was it allowed and why", (*tour).questions},
		{"What a mask hid, for an investigator, when a second person agrees", (*tour).original},
		{"Somebody changes a record, and it shows", (*tour).tamper},
	}
}

func (t *tour) masked(ctx context.Context) error {
	a, err := t.rest(ctx, "alice", t.alice, "GET", "/crm/customers/c-1", "")
	if err != nil {
		return err
	}
	if a.status != 200 || strings.Contains(a.body, "4242 4242 4242") || !strings.Contains(a.body, "4242") {
		return fmt.Errorf("want 200 with all but the last four digits of the card hidden")
	}
	if last, ok := t.REST.Last(); !ok || strings.Contains(fmt.Sprint(last), t.alice) {
		return errors.New("the function got the caller's token")
	}
	row, err := t.row(ctx, a.id)
	if err != nil {
		return err
	}
	return want(row, "decision", "allow", "subject", "alice", "function", "customers.get", "http_status", 200)
}

func (t *tour) badTokens(ctx context.Context) error {
	forged, err := issuer.Forge(t.alice)
	if err != nil {
		return err
	}
	for _, c := range []struct{ who, token, reason string }{
		{"nobody", "", "no_credentials"}, {"an old CI token", t.stale, "expired_token"}, {"a forger", forged, "invalid_token"},
	} {
		a, err := t.rest(ctx, c.who, c.token, "GET", "/crm/customers/c-1", "")
		if err != nil {
			return err
		}
		if a.status != 401 || a.reason != c.reason {
			return fmt.Errorf("want 401 for %s, got %d for %s", c.reason, a.status, a.reason)
		}
		row, err := t.row(ctx, a.id)
		if err != nil {
			return err
		}
		if err := want(row, "decision", "deny", "reason", c.reason, "subject", ""); err != nil {
			return err
		}
	}
	return nil
}

func (t *tour) dropTable(ctx context.Context) error {
	before := t.REST.Served("sql.run")
	a, err := t.rest(ctx, "alice", t.alice, "POST", "/crm/sql", `{"query":"SELECT 1; DROP TABLE customers"}`)
	if err != nil {
		return err
	}
	if a.status != 403 || t.REST.Served("sql.run") != before {
		return errors.New("want 403 before the function runs")
	}
	row, err := t.row(ctx, a.id)
	if err != nil {
		return err
	}
	if err := want(row, "decision", "deny", "rule", "no destructive SQL"); err != nil {
		return err
	}
	a, err = t.rest(ctx, "alice", t.alice, "POST", "/crm/sql", `{"query":"select name from customers"}`)
	if err != nil || a.status != 200 {
		return errors.Join(err, fmt.Errorf("want a harmless query to run, got %d", a.status))
	}
	return nil
}

func (t *tour) ciJob(ctx context.Context) error {
	a, err := t.rest(ctx, "ci-deploy", t.ci, "DELETE", "/crm/reports/q3", "")
	if err != nil {
		return err
	}
	if a.status != 403 || a.reason != "no_rule" {
		return fmt.Errorf("want 403 for no_rule, got %d for %s", a.status, a.reason)
	}
	row, err := t.row(ctx, a.id)
	if err != nil {
		return err
	}
	return want(row, "decision", "deny", "kind", "ci", "reason", "no_rule")
}

// heldID waits for a held call and returns its approval's id, as one who is asked
// learns it.
func (t *tour) heldID(ctx context.Context, token string) (string, error) {
	for {
		out, err := t.quietly(ctx, token, "approvals", "list", "--json")
		if err != nil {
			return "", fmt.Errorf("list approvals: %w: %s", err, out)
		}
		var open []struct{ ID string }
		if err := json.Unmarshal([]byte(out), &open); err != nil {
			return "", fmt.Errorf("read approvals: %w", err)
		}
		if len(open) > 0 {
			return open[0].ID, nil
		}
		select {
		case <-ctx.Done():
			return "", errors.New("the call was not held")
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (t *tour) refund(ctx context.Context) error {
	a, err := t.rest(ctx, "support-agent for alice", t.agent, "POST", "/crm/refunds", `{"customer":"c-1","amount":40,"currency":"EUR","reason":"late"}`)
	if err != nil || a.status != 201 {
		return errors.Join(err, fmt.Errorf("want a small refund to pass, got %d", a.status))
	}
	served := t.REST.Served("refunds.create")
	var big answer
	var g errgroup.Group
	g.Go(func() (err error) {
		big, err = t.rest(ctx, "support-agent for alice", t.agent, "POST", "/crm/refunds", `{"customer":"c-1","amount":500,"currency":"EUR","reason":"broken"}`)
		return err
	})
	id, err := t.heldID(ctx, t.bob)
	if err != nil {
		return err
	}
	if t.REST.Served("refunds.create") != served {
		return errors.New("the function ran before anybody approved")
	}
	if _, err := t.callgate(ctx, t.alice, "approvals", "approve", id); err == nil {
		return errors.New("alice approved her own agent's call")
	}
	if _, err := t.callgate(ctx, t.bob, "approvals", "list"); err != nil {
		return err
	}
	if _, err := t.callgate(ctx, t.bob, "approvals", "approve", id, "--comment", "checked with the customer"); err != nil {
		return err
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if big.status != 201 {
		return fmt.Errorf("want 201 after the approval, got %d", big.status)
	}
	row, err := t.row(ctx, big.id)
	if err != nil {
		return err
	}
	return want(row, "decision", "hold→allow", "approval_id", id, "acting", "support-agent", "http_status", 201)
}

// twoPeople has security agree first, and only then who approves refunds.
func (t *tour) twoPeople(ctx context.Context) error {
	served := t.REST.Served("refunds.create")
	var refund answer
	var g errgroup.Group
	g.Go(func() (err error) {
		refund, err = t.rest(ctx, "support-agent for alice", t.agent, "POST", "/crm/refunds", `{"customer":"c-1","amount":5000,"currency":"EUR","reason":"lawsuit"}`)
		return err
	})
	id, err := t.heldID(ctx, t.carol)
	if err != nil {
		return err
	}
	if _, err := t.callgate(ctx, t.bob, "approvals", "approve", id); err == nil {
		return errors.New("bob approved before security had")
	}
	if _, err := t.callgate(ctx, t.carol, "approvals", "approve", id, "--comment", "the court's letter is genuine"); err != nil {
		return err
	}
	if t.REST.Served("refunds.create") != served {
		return errors.New("the function ran after one of two had approved")
	}
	if _, err := t.callgate(ctx, t.bob, "approvals", "approve", id, "--comment", "booked"); err != nil {
		return err
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if refund.status != 201 {
		return fmt.Errorf("want 201 after both approvals, got %d", refund.status)
	}
	row, err := t.row(ctx, refund.id)
	if err != nil {
		return err
	}
	if err := want(row, "decision", "hold→allow", "approval_id", id, "http_status", 201); err != nil {
		return err
	}
	_, err = t.callgate(ctx, "", "query", "SELECT number, step, by, stage, stages, state, comment FROM approval_steps WHERE approval_id = '"+id+"' ORDER BY number")
	return err
}

func (t *tour) bypass(ctx context.Context) error {
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: t.clientTLS()}}
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.REST.URL()+"/customers/c-1", nil)
	if err != nil {
		return err
	}
	req.Header.Set("authorization", "Bearer "+t.alice)
	t.line("sent", "GET %s/customers/c-1 straight to the function, with Alice's token", t.REST.URL())
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	t.line("came back", "%d %s", resp.StatusCode, bytes.TrimSpace(body))
	if err == nil && resp.StatusCode != http.StatusUnauthorized {
		err = errors.New("the function took the caller's token")
	}
	return err
}

// edit changes the policy while calls go on.
func (t *tour) edit(ctx context.Context) error {
	rules := t.Policies + "/rules.yaml"
	before, err := os.ReadFile(rules)
	if err != nil {
		return err
	}
	edited := bytes.Replace(before, []byte("rules:\n"), []byte(`rules:
  - name: customers are closed
    connections: [crm]
    functions: [customers.get]
    action: deny
    message: customer records are closed for maintenance

`), 1)
	edited = bytes.Replace(edited, []byte("timeout: 60s"), []byte("timeout: 90s"), 1)

	load, stop := context.WithCancel(ctx)
	defer stop()
	var calls, dropped atomic.Int64
	var g errgroup.Group
	for range 4 {
		g.Go(func() error {
			for load.Err() == nil {
				a, err := t.quietRest(load, t.alice, "GET", "/crm/customers?query=ada", "")
				if load.Err() != nil {
					break
				}
				if calls.Add(1); err != nil || a.status != 200 {
					dropped.Add(1)
				}
			}
			return nil
		})
	}
	if err := t.until(ctx, 200); err != nil {
		return err
	}
	start := time.Now()
	if err := os.WriteFile(rules, edited, 0o600); err != nil {
		return err
	}
	t.line("edited", "%s: a rule that denies customers.get, and a longer hold", rules)
	if err := t.until(ctx, 403); err != nil {
		return err
	}
	decided := time.Since(start)
	version, err := t.accepted(ctx)
	if err != nil {
		return err
	}
	live := time.Since(start)
	t.line("live", "after %d ms in the decision service, %d ms in Envoy (version %s)", decided.Milliseconds(), live.Milliseconds(), version)
	if err := os.WriteFile(rules, before, 0o600); err != nil {
		return err
	}
	if err := t.until(ctx, 200); err != nil {
		return err
	}
	stop()
	if err := g.Wait(); err != nil {
		return err
	}
	t.line("meanwhile", "%d calls, %d dropped", calls.Load(), dropped.Load())
	switch {
	case dropped.Load() > 0:
		return errors.New("calls were dropped")
	case live > time.Second:
		return errors.New("it took longer than a second")
	}
	return nil
}

// until calls until the answer has that status.
func (t *tour) until(ctx context.Context, status int) error {
	for {
		a, err := t.quietRest(ctx, t.alice, "GET", "/crm/customers/c-1", "")
		if err != nil {
			return err
		}
		if a.status == status {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the policy did not change: still %d", a.status)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// questions asks what an auditor asks.
func (t *tour) questions(ctx context.Context) error {
	for _, q := range []struct{ who, sql string }{
		{"who called", "SELECT subject, acting, kind, count() AS calls FROM calls WHERE subject != '' GROUP BY ALL ORDER BY calls DESC LIMIT 5"},
		{"what went in and out", "SELECT function, args, left(response_body, 60) AS answer, masked.type FROM calls WHERE function IN ('customers.get', 'refunds.create') AND allowed ORDER BY time LIMIT 3"},
		{"was it allowed, and why", "SELECT decision, rule, reason, approval_by, count() AS calls FROM calls GROUP BY ALL ORDER BY calls DESC LIMIT 8"},
	} {
		t.line("question", "%s?", q.who)
		out, err := t.callgate(ctx, "", "query", q.sql)
		if err != nil {
			return err
		}
		if strings.Count(out, "\n") < 2 {
			return errors.New("the answer is empty")
		}
	}
	return nil
}
