package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/callgate/callgate/app"
	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/console"
	"github.com/callgate/callgate/demo"
)

// fleet is a control plane apart from the server that decides, which has no
// policy files at all.
type fleet struct {
	*world
	log     *slog.Logger
	server  string // the decision server's configuration
	saml    *provider
	control func()
	decide  func()
	group   errgroup.Group
}

// run starts a process's worth of Callgate and returns what ends it.
func (f *fleet) run(ctx context.Context, file string, roles ...app.Role) (func(), error) {
	cfg, err := config.Load(file, nil)
	if err != nil {
		return nil, err
	}
	a, err := app.New(ctx, cfg, app.Options{File: file, Roles: roles, Version: "test", Log: f.log})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	f.group.Go(func() error {
		defer close(done)
		return a.Run(ctx)
	})
	return func() { cancel(); <-done }, nil
}

func startFleet(t *testing.T) *fleet {
	t.Helper()
	keepSecrets(t)
	f := &fleet{log: slog.New(slog.DiscardHandler), saml: newProvider(t)}
	dir := filepath.Join(t.TempDir(), "stack")
	up := make(chan struct{}) // closed when what follows is set
	serve := func(ctx context.Context, file string) error {
		given, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		text := f.saml.believe(t, filepath.Dir(file), string(given))
		metrics := ""
		for line := range strings.Lines(text) {
			if _, after, ok := strings.Cut(line, "metrics: "); ok {
				metrics = strings.TrimSpace(after)
			}
		}
		_, after, ok := strings.Cut(text, "xds: ")
		if !ok {
			return errors.New("no xds address in the configuration")
		}
		xds, _, _ := strings.Cut(after, "\n")
		// The decision server knows the control plane and no policy.
		own := strings.NewReplacer("node: demo", "node: server-1", "state_dir: state", "state_dir: state-server", "policies_dir: policies\n", "",
			"control:\n", "control:\n  server: "+xds+"\n  labels: [track=stable]\n").Replace(text)
		f.server = filepath.Join(filepath.Dir(file), "server.yaml")
		if err := os.WriteFile(f.server, []byte(own), 0o600); err != nil {
			return err
		}
		// Both would serve metrics at one address; the demo asks the decision
		// server's.
		plane := filepath.Join(filepath.Dir(file), "plane.yaml")
		if err := os.WriteFile(plane, []byte(strings.Replace(text, "metrics: "+metrics, `metrics: "127.0.0.1:0"`, 1)), 0o600); err != nil {
			return err
		}
		if f.control, err = f.run(ctx, plane, app.XDS, app.Console); err != nil {
			return err
		}
		if f.decide, err = f.run(ctx, f.server, app.ExtAuthz, app.ExtProc, app.AccessLog); err != nil {
			return err
		}
		close(up)
		<-ctx.Done()
		return f.group.Wait()
	}
	w, stop, err := startWith(t.Context(), demo.Config{Dir: dir, AnyPorts: true, NoEngine: true, Serve: serve}, &journal{})
	if err != nil {
		t.Fatal(err)
	}
	<-up
	f.world = w
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	return f
}

// api is the control plane's, as bob, who may change what decides.
func (f *fleet) api() *console.Client { return console.NewClient("http://"+f.Addrs.Console, f.bob) }

func (f *fleet) policy(t *testing.T, change func(rules string) string) console.Push {
	t.Helper()
	rules, err := os.ReadFile(filepath.Join(f.Policies, "rules.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "rules.yaml")
	if err := os.WriteFile(path, []byte(change(string(rules))), 0o600); err != nil {
		t.Fatal(err)
	}
	b, _, err := config.ReadBundle(filepath.Join(f.Policies, "connections.yaml"), path)
	if err != nil {
		t.Fatal(err)
	}
	return console.Push{Files: b.Files, References: b.References, Message: "a test"}
}

const nobody = "rules:\n  - {name: closed, action: deny, message: closed for a test}\n"

// A control plane, a decision server without a policy of its own, and an Envoy:
// pushes, canaries, refusals, grants and revocations take effect as a whole, and
// decisions go on while the control plane is away.
func TestFleet(t *testing.T) {
	f := startFleet(t)
	get := func(token string) answer {
		t.Helper()
		return f.call(t, http1(), token, "GET", "/crm/customers/c-1", "")
	}
	expect := func(what string, a answer, status int, reason string) {
		t.Helper()
		if a.status != status || a.reason() != reason {
			t.Errorf("%s: %d %q %s, want %d %q", what, a.status, a.reason(), a.body, status, reason)
		}
	}
	expect("at first", get(f.alice), 200, "")
	status, err := f.api().Status(t.Context())
	if err != nil || len(status.Servers) != 1 || len(status.Envoys) != 1 || status.Servers[0].Node != "server-1" ||
		status.Servers[0].Version != status.PolicyVersion || status.Envoys[0].Version != status.PolicyVersion || status.Rollout == nil {
		t.Fatalf("status %+v, %v", status, err)
	}
	first := status.PolicyVersion
	delegated := f.exchanges(t)

	// Alice may not push, nor may an agent of bob's.
	if _, err := console.NewClient("http://"+f.Addrs.Console, f.alice).Push(t.Context(), f.policy(t, func(string) string { return nobody })); err == nil || !strings.Contains(err.Error(), "control.administrators") {
		t.Errorf("alice pushed: %v", err)
	}
	// When a push returns, it holds.
	out, err := f.api().Push(t.Context(), f.policy(t, func(string) string { return nobody }))
	if err != nil || out.Unchanged || len(out.Behind) > 0 || !strings.HasSuffix(out.Author, "|bob") {
		t.Fatalf("%+v, %v", out, err)
	}
	a := get(f.alice)
	expect("closed", a, 403, "rule")
	if !strings.Contains(a.body, "closed for a test") {
		t.Errorf("denied with %s", a.body)
	}
	// What is wrong is refused with its place, and changes nothing.
	bad := f.policy(t, func(r string) string { return r })
	for i := range bad.Files {
		bad.Files[i].Content = bytes.ReplaceAll(bad.Files[i].Content, []byte("call.args.amount > 100"), []byte("call.args.amount >"))
	}
	if _, err := f.api().Push(t.Context(), bad); err == nil || !strings.Contains(err.Error(), "rules.yaml:") || !strings.Contains(err.Error(), "Syntax error") {
		t.Errorf("a broken policy: %v", err)
	}
	expect("after a broken push", get(f.alice), 403, "rule")
	// A policy that the decision server can't run is refused by all.
	unknown := f.policy(t, func(r string) string { return r })
	for i := range unknown.Files {
		unknown.Files[i].Content = bytes.ReplaceAll(unknown.Files[i].Content, []byte("env: CALLGATE_DEMO_CRM_KEY"), []byte("env: CALLGATE_DEMO_CRM_KEY, file: /x"))
	}
	if _, err := f.api().Push(t.Context(), unknown); err == nil {
		t.Error("a policy with two secrets for one was taken")
	}
	if out, err = f.api().Rollback(t.Context(), console.Change{Message: "open again"}); err != nil || out.Version != first {
		t.Fatalf("%+v, %v", out, err)
	}
	expect("rolled back", get(f.alice), 200, "")

	// A tool that the caller may not call is not in its list.
	session, err := f.connectMCP(t, f.alice)
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	list := func() string {
		t.Helper()
		tools, err := session.ListTools(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, tool := range tools.Tools {
			names = append(names, tool.Name)
		}
		slices.Sort(names)
		return strings.Join(names, " ")
	}
	for deadline := time.Now().Add(20 * time.Second); list() == "" && time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		// The decision server has asked for the tools when it had a policy.
	}
	if got := list(); got != "get_customer issue_refund run_query search_customers" {
		t.Errorf("all tools: %s", got)
	}
	if _, err := f.api().Push(t.Context(), f.policy(t, func(r string) string {
		return r + "\n  - {name: no refunds by tool, connections: [tools], functions: [tools/call issue_refund], action: deny}\n" +
			"  - {name: queries are short, connections: [tools], functions: [tools/call run_query], when: call.args.query.size() > 100, action: deny}\n"
	})); err != nil {
		t.Fatal(err)
	}
	if got := list(); got != "get_customer run_query search_customers" {
		t.Errorf("without the tool that is denied: %s", got)
	}
	if _, err := f.api().Rollback(t.Context(), console.Change{Version: first}); err != nil {
		t.Fatal(err)
	}
	f.pinnedTools(t, session)
	f.streams(t, first)

	// A canary on this Envoy, and then for everybody but 1 in 100.
	if _, err := f.api().Push(t.Context(), withCanary(f.policy(t, func(string) string { return nobody }), 0, "cluster=call*")); err != nil {
		t.Fatal(err)
	}
	expect("on the canary's Envoy", get(f.alice), 403, "rule")
	if _, err := f.api().EndCanary(t.Context(), false, console.Change{}); err != nil {
		t.Fatal(err)
	}
	expect("after the canary", get(f.alice), 200, "")

	// A grant opens one function to one caller, in person.
	report := func(token string) answer {
		t.Helper()
		return f.call(t, http1(), token, "GET", "/crm/reports/quarter", "")
	}
	expect("without a grant", report(f.alice), 403, "no_rule")
	if _, err := f.api().GiveGrant(t.Context(), console.Grant{Identities: []string{"alice"}, Connections: []string{"crm"}, Functions: []string{"reports.get"}, Reason: "INC-7"}); err == nil || !strings.Contains(err.Error(), "could be of any of 2 issuers") {
		t.Errorf("a grant to whoever is called alice: %v", err)
	}
	g, err := f.api().GiveGrant(t.Context(), console.Grant{Identities: []string{f.Issuer.URL() + "|alice"}, Connections: []string{"crm"}, Functions: []string{"reports.get"}, Until: time.Now().Add(time.Hour), Reason: "INC-7"})
	if err != nil || len(g.Behind) > 0 {
		t.Fatal(err)
	}
	expect("with a grant", report(f.alice), 200, "")
	expect("an agent of hers", report(f.agent), 403, "no_rule")
	expect("another function", f.call(t, http1(), f.alice, "DELETE", "/crm/reports/quarter", ""), 403, "no_rule")

	// The control plane goes away: decisions, grants included, go on.
	f.control()
	expect("without the control plane", report(f.alice), 200, "")
	f.decide()
	if f.decide, err = f.run(t.Context(), f.server, app.ExtAuthz, app.ExtProc, app.AccessLog); err != nil {
		t.Fatal(err)
	}
	f.until(t, "a decision server that starts without the control plane", func() error {
		if a := report(f.alice); a.status != 200 {
			return fmt.Errorf("%d %s", a.status, a.body)
		}
		return nil
	})
	expect("and still denies", f.call(t, http1(), f.alice, "DELETE", "/crm/reports/quarter", ""), 403, "no_rule")
	if f.control, err = f.run(t.Context(), filepath.Join(filepath.Dir(f.ConfigFile), "plane.yaml"), app.XDS, app.Console); err != nil {
		t.Fatal(err)
	}
	f.until(t, "the fleet to be together again", func() error {
		s, err := f.api().Status(t.Context())
		if err != nil {
			return err
		}
		if len(s.Servers) != 1 || len(s.Envoys) != 1 || s.Servers[0].Pending != "" || s.Envoys[0].Pending != "" || s.PolicyVersion != first {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	if late, err := f.api().TakeGrantBack(t.Context(), g.ID, "done"); err != nil || len(late) > 0 {
		t.Fatalf("%v, %v", late, err)
	}
	expect("a grant that was taken back", report(f.alice), 403, "no_rule")

	// A revocation holds on every server once it is answered, though the token
	// was verified before.
	if _, err := f.api().Revoke(t.Context(), console.Revocation{Subject: "alice", IssuedBefore: time.Now()}); err == nil || !strings.Contains(err.Error(), "name its issuer (--issuer)") {
		t.Errorf("a revocation of whoever is called alice: %v", err)
	}
	rev, err := f.api().Revoke(t.Context(), console.Revocation{Subject: "alice", Issuer: f.Issuer.URL(), IssuedBefore: time.Now().Add(time.Second), Reason: "lost"})
	if err != nil || len(rev.Behind) > 0 {
		t.Fatal(err)
	}
	expect("revoked", get(f.alice), 401, "revoked_token")
	expect("an agent of hers, revoked", get(f.agent), 401, "revoked_token")
	expect("what was exchanged for hers", get(delegated), 401, "revoked_token")
	if no := f.redeem(t, access(f.alice)); no.Error != "invalid_request" || !strings.Contains(no.Description, "revoked") {
		t.Errorf("a revoked token is exchanged: %+v", no)
	}
	if _, err := f.api().Lift(t.Context(), rev.ID, ""); err != nil {
		t.Fatal(err)
	}
	expect("lifted", get(f.alice), 200, "")
}

func withCanary(p console.Push, percent int, nodes string) console.Push {
	p.Percent, p.Nodes = percent, nodes
	return p
}

// until waits for something to come about.
func (f *fleet) until(t *testing.T, what string, done func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for {
		err := done()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("waited for %s: %v", what, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
