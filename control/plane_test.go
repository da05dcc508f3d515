package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/envoy"
	"github.com/callgate/callgate/xds"
	"github.com/callgate/callgate/xds/policyv1"
)

// side is a decision side, in this process or beyond, that remembers what it
// was told.
type side struct {
	mu      sync.Mutex
	held    map[string]bool
	grants  map[string]bool
	revoked map[string]bool
	tools   map[string]*policyv1.ToolSet
	rollout *policyv1.Rollout
	refuse  error
}

func newSide() *side {
	return &side{held: map[string]bool{}, grants: map[string]bool{}, revoked: map[string]bool{}}
}

func (s *side) Policies(_ context.Context, set []*policyv1.Policy, gone []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse != nil && len(set) > 0 {
		return s.refuse
	}
	for _, p := range set {
		s.held[p.GetVersion()] = true
	}
	for _, v := range gone {
		delete(s.held, v)
	}
	return nil
}

func (s *side) Grants(_ context.Context, set []*policyv1.Grant, gone []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range set {
		s.grants[g.GetId()] = true
	}
	for _, id := range gone {
		delete(s.grants, id)
	}
	return nil
}

func (s *side) Revocations(_ context.Context, set []*policyv1.Revocation, gone []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range set {
		s.revoked[r.GetId()] = true
	}
	for _, id := range gone {
		delete(s.revoked, id)
	}
	return nil
}

func (s *side) Tools(_ context.Context, set []*policyv1.ToolSet, _ []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tools == nil {
		s.tools = map[string]*policyv1.ToolSet{}
	}
	for _, t := range set {
		s.tools[t.GetConnection()] = t
	}
	return nil
}

func (s *side) Rollout(_ context.Context, r *policyv1.Rollout) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.held[r.GetStable()] || r.GetCanary() != "" && !s.held[r.GetCanary()] {
		return fmt.Errorf("%v is not here", r)
	}
	s.rollout = r
	return nil
}

// fleet is the rest of the fleet: a decision side, and Envoys that refuse a
// version if they are told to.
type fleet struct {
	*side
	behind  []string
	release xds.Release
	nack    string // version
	// waiting is called when Envoys are waited for.
	waiting func()
	nodes   []xds.Node
}

func (f *fleet) Offer(ctx context.Context, p *policyv1.Policy) error {
	if err := f.Policies(ctx, []*policyv1.Policy{p}, nil); err != nil {
		return &xds.Refusal{Node: "far", Version: p.GetVersion(), Text: err.Error()}
	}
	return f.WaitServers(ctx)
}
func (f *fleet) Withdraw(v ...string) error        { return f.Policies(context.Background(), nil, v) }
func (f *fleet) Rollout(r *policyv1.Rollout) error { return f.side.Rollout(context.Background(), r) }
func (f *fleet) Grants(set []*policyv1.Grant, gone []string) error {
	return f.side.Grants(context.Background(), set, gone)
}
func (f *fleet) Revocations(set []*policyv1.Revocation, gone []string) error {
	return f.side.Revocations(context.Background(), set, gone)
}
func (f *fleet) Tools(set []*policyv1.ToolSet) error {
	return f.side.Tools(context.Background(), set, nil)
}
func (f *fleet) Set(_ context.Context, r xds.Release) error { f.release = r; return nil }
func (f *fleet) WaitServers(context.Context) error {
	if len(f.behind) > 0 {
		return &xds.Behind{Nodes: f.behind}
	}
	return nil
}
func (f *fleet) WaitEnvoys(ctx context.Context) error {
	if f.waiting != nil {
		f.waiting()
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	for _, v := range []*xds.Version{&f.release.Stable, f.release.Canary} {
		if v != nil && f.nack != "" && v.Name == f.nack {
			return &xds.Refusal{Node: "edge-1", Version: v.Name, Text: "no such filter"}
		}
	}
	return nil
}
func (f *fleet) Status() []xds.Node { return f.nodes }

type rig struct {
	*Plane
	store  *Store
	dir    string
	local  *side
	fleet  *fleet
	now    time.Time
	events []call.ChangeEvent
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{dir: t.TempDir(), now: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)}
	r.restart(t)
	return r
}

// restart begins anew over the same store.
func (r *rig) restart(t *testing.T) {
	t.Helper()
	if r.store != nil {
		if err := r.store.Close(); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if r.store, err = OpenStore(t.Context(), filepath.Join(r.dir, "control.db")); err != nil {
		t.Fatal(err)
	}
	store := r.store
	t.Cleanup(func() { store.Close() })
	r.local, r.fleet, r.events = newSide(), &fleet{side: newSide()}, nil
	r.Plane = New(Config{Store: r.store, Servers: r.fleet, Local: r.local, Folder: filepath.Join(r.dir, "files"), Home: r.dir,
		Check: func(p config.Policy) error {
			for _, rule := range p.Rules {
				if rule.When == "broken" {
					return errors.New("p.yaml:1:1: broken")
				}
			}
			return nil
		},
		CheckGrant: func(g *policyv1.Grant) error {
			if len(g.GetConnections()) == 0 {
				return errors.New("no connections")
			}
			return nil
		},
		Build: func(p config.Policy) (xds.Version, error) {
			res, err := envoy.Build(envoy.Input{Settings: config.Envoy{Listen: "127.0.0.1:1", Services: "127.0.0.1:2", DecideTimeout: time.Second}, Policy: p})
			return xds.Version{Name: p.Version, Resources: res}, err
		},
		Record: func(_ context.Context, e call.ChangeEvent) { r.events = append(r.events, e) },
		Log:    slog.New(slog.NewTextHandler(io.Discard, nil)), Now: func() time.Time { return r.now }})
}

const crm = "connections:\n  - {name: crm, protocol: http, upstream: {url: 'http://127.0.0.1:9'}, functions: [{name: get, method: GET, path: /x}]}\n"

// bundle is a policy of one rule over crm.
func (r *rig) bundle(t *testing.T, rule string) (config.Bundle, config.Policy) {
	t.Helper()
	path := filepath.Join(r.dir, "p.yaml")
	if err := os.WriteFile(path, []byte(crm+"rules:\n  - "+rule+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b, p, err := config.ReadBundle(path)
	if err != nil {
		t.Fatal(err)
	}
	return b, p
}

func (r *rig) files(t *testing.T, rule string) Files {
	b, p := r.bundle(t, rule)
	return Files{Bundle: b, Policy: p}
}

// decides checks that one version decides everywhere, and nothing else.
func (r *rig) decides(t *testing.T, version string) {
	t.Helper()
	for where, s := range map[string]*side{"local": r.local, "far": r.fleet.side} {
		if got := s.rollout.GetStable(); got != version || s.rollout.GetCanary() != "" {
			t.Errorf("%s: %v decides, want %s", where, s.rollout, version)
		}
	}
	if got := r.fleet.release; got.Stable.Name != version || got.Canary != nil {
		t.Errorf("Envoys run %s (canary %v), want %s", got.Stable.Name, got.Canary, version)
	}
	if got := r.Now(); got.Stable != version || got.Canary != "" {
		t.Errorf("the plane says %+v, want %s", got, version)
	}
}

func (r *rig) push(t *testing.T, rule string, c Canary) (Outcome, config.Policy) {
	t.Helper()
	b, p := r.bundle(t, rule)
	out, err := r.Push(t.Context(), Push{Bundle: b, Author: "https://idp|ann", Message: "why", Canary: c})
	if err != nil {
		t.Fatal(err)
	}
	return out, p
}

const (
	allow = "{name: all, action: allow}"
	deny  = "{name: none, action: deny}"
)

func TestPushAndRollback(t *testing.T) {
	r := newRig(t)
	first := r.files(t, allow)
	if err := r.Start(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	r.decides(t, first.Policy.Version)
	out, p := r.push(t, deny, Canary{})
	if out.Unchanged || out.Stable != p.Version || out.Author != "https://idp|ann" {
		t.Errorf("outcome %+v", out)
	}
	r.decides(t, p.Version)
	if again, _ := r.push(t, deny, Canary{}); !again.Unchanged {
		t.Error("the same policy again changed something")
	}
	// The version before is at hand until nobody can run it any more.
	if !r.local.held[first.Policy.Version] {
		t.Error("the version before is gone at once")
	}
	r.now = r.now.Add(time.Minute)
	r.fleet.nodes = []xds.Node{{ID: "edge-1", Version: first.Policy.Version}}
	if err := r.retire(t.Context()); err != nil || !r.local.held[first.Policy.Version] {
		t.Errorf("a version that an Envoy runs was taken away (%v)", err)
	}
	r.fleet.nodes = nil
	if err := r.retire(t.Context()); err != nil || r.local.held[first.Policy.Version] || r.fleet.held[first.Policy.Version] {
		t.Errorf("a version that nobody runs stays (%v)", err)
	}
	back, err := r.Rollback(t.Context(), "", "https://idp|bob", "too strict")
	if err != nil || back.Stable != first.Policy.Version {
		t.Fatalf("%+v, %v", back, err)
	}
	r.decides(t, first.Policy.Version)
	if _, err := r.Rollback(t.Context(), "nonesuch", "a", ""); !errors.Is(err, ErrUnknownVersion) {
		t.Errorf("rolled back to %v", err)
	}
	history, err := r.History(t.Context(), 10)
	if err != nil {
		t.Fatal(err)
	}
	var actions []string
	for _, h := range history {
		actions = append(actions, h.Action+" "+h.Author)
	}
	if want := []string{"rollback https://idp|bob", "push https://idp|ann", "files files"}; !slices.Equal(actions, want) {
		t.Errorf("history %v, want %v", actions, want)
	}
	var told []string
	for _, e := range r.events {
		told = append(told, e.What+" "+e.By)
	}
	if want := []string{"policy.activated files", "policy.activated https://idp|ann", "policy.activated https://idp|bob"}; !slices.Equal(told, want) {
		t.Errorf("recorded %v, want %v", told, want)
	}
}

// Whoever refuses a version, everything stays as it was.
func TestRefusedPushChangesNothing(t *testing.T) {
	for name, c := range map[string]struct {
		rule string
		set  func(*rig, string)
		want string
	}{
		"by the check":               {"{name: x, action: deny, when: broken}", func(*rig, string) {}, "p.yaml:1:1: broken"},
		"by this process":            {deny, func(r *rig, _ string) { r.local.refuse = errors.New("secret X is missing") }, "secret X is missing"},
		"by a decision server":       {deny, func(r *rig, _ string) { r.fleet.refuse = errors.New("no reflection") }, "far refused version"},
		"by an Envoy":                {deny, func(r *rig, v string) { r.fleet.nack = v }, "edge-1 refused version"},
		"as a canary, by an Envoy":   {deny, func(r *rig, v string) { r.fleet.nack = v }, "edge-1 refused version"},
		"as a canary for 0 percent":  {deny, func(*rig, string) {}, "a canary of -1% is none"},
		"as a canary in both ways":   {deny, func(*rig, string) {}, "not both"},
		"as a canary without a glob": {deny, func(*rig, string) {}, "is not name=value"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			first := r.files(t, allow)
			if err := r.Start(t.Context(), first); err != nil {
				t.Fatal(err)
			}
			b, p := r.bundle(t, c.rule)
			c.set(r, p.Version)
			in := Push{Bundle: b, Author: "ann"}
			switch {
			case strings.Contains(name, "by an Envoy") && strings.Contains(name, "canary"):
				in.Canary.Nodes = "id=edge-1"
			case strings.Contains(name, "0 percent"):
				in.Canary.Percent = -1
			case strings.Contains(name, "both"):
				in.Canary = Canary{Percent: 5, Nodes: "id=x"}
			case strings.Contains(name, "without a glob"):
				in.Canary.Nodes = "id"
			}
			_, err := r.Push(t.Context(), in)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want %q", err, c.want)
			}
			r.fleet.nack = ""
			r.decides(t, first.Policy.Version)
			// The rest of the fleet does not keep what was refused.
			r.now = r.now.Add(time.Minute)
			if err := r.retire(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := slices.Sorted(maps.Keys(r.fleet.held)); !slices.Equal(got, []string{first.Policy.Version}) {
				t.Errorf("held %v", got)
			}
			r.local.refuse, r.fleet.refuse = nil, nil
			r.push(t, deny, Canary{})
		})
	}
}

func TestCanary(t *testing.T) {
	r := newRig(t)
	first := r.files(t, allow)
	if err := r.Start(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	_, p := r.push(t, deny, Canary{Percent: 20})
	for where, s := range map[string]*side{"local": r.local, "far": r.fleet.side} {
		if s.rollout.GetStable() != first.Policy.Version || s.rollout.GetCanary() != p.Version || s.rollout.GetPercent() != 20 {
			t.Errorf("%s: %v", where, s.rollout)
		}
	}
	if r.fleet.release.Canary != nil {
		t.Error("Envoys were changed for a canary of callers")
	}
	if _, err := r.Abort(t.Context(), "ann", "no"); err != nil {
		t.Fatal(err)
	}
	r.decides(t, first.Policy.Version)
	if _, err := r.Promote(t.Context(), "ann", ""); !errors.Is(err, ErrInvalid) {
		t.Errorf("promoted nothing: %v", err)
	}
	r.push(t, deny, Canary{Nodes: "id=edge-1"})
	if r.fleet.release.Canary == nil || r.fleet.release.Canary.Name != p.Version || r.local.rollout.GetPercent() != 0 || !r.local.held[p.Version] {
		t.Errorf("canary on Envoys: %+v, %v", r.fleet.release, r.local.rollout)
	}
	// It is still one after a restart.
	r.restart(t)
	if err := r.Start(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	if r.fleet.release.Canary == nil || r.fleet.release.Canary.Name != p.Version {
		t.Errorf("after a restart: %+v", r.fleet.release)
	}
	if _, err := r.Promote(t.Context(), "ann", ""); err != nil {
		t.Fatal(err)
	}
	r.decides(t, p.Version)
	// What changes Envoy can't be tried on some callers of one Envoy.
	b, _ := r.bundle(t, "{name: hold, action: hold, hold: {timeout: 30m, approvers: {groups: [a]}}}")
	if _, err := r.Push(t.Context(), Push{Bundle: b, Author: "ann", Canary: Canary{Percent: 10}}); err == nil || !strings.Contains(err.Error(), "try it on some Envoys instead") {
		t.Errorf("got %v", err)
	}
	r.decides(t, p.Version)
}

// After a restart, what was last done holds: a push, or an edit of the files
// that came after it.
func TestRestart(t *testing.T) {
	r := newRig(t)
	first := r.files(t, allow)
	if err := r.Start(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	_, pushed := r.push(t, deny, Canary{})
	r.restart(t)
	if err := r.Start(t.Context(), r.files(t, allow)); err != nil {
		t.Fatal(err)
	}
	r.decides(t, pushed.Version)
	r.restart(t)
	edited := r.files(t, "{name: other, action: allow}")
	if err := r.Start(t.Context(), edited); err != nil {
		t.Fatal(err)
	}
	r.decides(t, edited.Policy.Version)
	// Files that are broken keep nothing from starting that ran before.
	r.restart(t)
	if err := r.Start(t.Context(), Files{Err: errors.New("p.yaml:3:1: no")}); err != nil {
		t.Fatal(err)
	}
	r.decides(t, edited.Policy.Version)
	if len(r.events) != 2 || r.events[1].What != call.ChangePolicyRefused {
		t.Errorf("recorded %+v", r.events)
	}
	r.Changed(t.Context(), Files{Err: errors.New("p.yaml:3:1: no")})
	r.decides(t, edited.Policy.Version)
	r.Changed(t.Context(), first)
	r.decides(t, first.Policy.Version)

	fresh := newRig(t)
	if err := fresh.Start(t.Context(), Files{Err: errors.New("p.yaml:3:1: no")}); err == nil || !strings.Contains(err.Error(), "p.yaml:3:1") {
		t.Errorf("a first start with broken files: %v", err)
	}
}

func TestTamperedStoreIsNoticed(t *testing.T) {
	r := newRig(t)
	if err := r.Start(t.Context(), r.files(t, allow)); err != nil {
		t.Fatal(err)
	}
	_, p := r.push(t, deny, Canary{})
	if _, err := r.store.db.Write.Exec(`UPDATE versions SET bundle = (SELECT bundle FROM versions WHERE version != ?) WHERE version = ?`, p.Version, p.Version); err != nil {
		t.Fatal(err)
	}
	r.restart(t)
	files := r.files(t, allow)
	if err := r.Start(t.Context(), files); err != nil {
		t.Fatal(err)
	}
	r.decides(t, files.Policy.Version)
}

func TestSlowNodesAreTold(t *testing.T) {
	r := newRig(t)
	if err := r.Start(t.Context(), r.files(t, allow)); err != nil {
		t.Fatal(err)
	}
	r.fleet.behind = []string{"far"}
	out, p := r.push(t, deny, Canary{})
	if !slices.Equal(out.Behind, []string{"far"}) {
		t.Errorf("behind %v", out.Behind)
	}
	r.decides(t, p.Version)
}

func TestGrantsAndRevocations(t *testing.T) {
	r := newRig(t)
	if err := r.Start(t.Context(), r.files(t, allow)); err != nil {
		t.Fatal(err)
	}
	g, err := r.Grant(t.Context(), &policyv1.Grant{Identities: []string{"alice"}, Connections: []string{"crm"}, Functions: []string{"get"},
		Until: timestamppb.New(r.now.Add(time.Hour))}, "https://idp|ann", "INC-1")
	if err != nil {
		t.Fatal(err)
	}
	lasting, err := r.Grant(t.Context(), &policyv1.Grant{Groups: []string{"sre"}, Connections: []string{"crm"}, Functions: []string{"get"}}, "ann", "")
	if err != nil {
		t.Fatal(err)
	}
	rev, err := r.Revoke(t.Context(), &policyv1.Revocation{TokenId: "t-1"}, "ann", "lost", time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	check := func(grants, revoked int) {
		t.Helper()
		for where, s := range map[string]*side{"local": r.local, "far": r.fleet.side} {
			if len(s.grants) != grants || len(s.revoked) != revoked {
				t.Errorf("%s: %v %v, want %d and %d", where, s.grants, s.revoked, grants, revoked)
			}
		}
	}
	check(2, 1)
	// One that brings its id is given once, and is not given anew once it was taken back.
	for i := range 3 {
		if i == 2 {
			if err := r.TakeBack(t.Context(), "grt_own", "ann", ""); err != nil {
				t.Fatal(err)
			}
		}
		before := len(r.events)
		own, err := r.Grant(t.Context(), &policyv1.Grant{Id: "grt_own", Groups: []string{"sre"}, Connections: []string{"crm"}, Functions: []string{"get"}}, "ann", "")
		if err != nil || own.GetId() != "grt_own" || own.Revoked.IsZero() != (i < 2) || (len(r.events) > before) != (i == 0) {
			t.Errorf("%d: %+v, %v", i, own, err)
		}
		check([]int{3, 3, 2}[i], 1)
	}
	if e := r.events[1]; e.What != call.ChangeGrantGiven || e.Version != g.GetId() || e.By != "https://idp|ann" ||
		e.Detail != "alice may call get on crm until 2026-11-23T13:00:00Z: INC-1" {
		t.Errorf("recorded %+v", e)
	}
	r.restart(t)
	if err := r.Start(t.Context(), r.files(t, allow)); err != nil {
		t.Fatal(err)
	}
	check(2, 1)
	if err := r.TakeBack(t.Context(), lasting.GetId(), "ann", ""); err != nil {
		t.Fatal(err)
	}
	if err := r.TakeBack(t.Context(), lasting.GetId(), "ann", ""); !errors.Is(err, ErrUnknownGrant) {
		t.Errorf("taken back twice: %v", err)
	}
	if err := r.Lift(t.Context(), rev.GetId(), "ann", ""); err != nil {
		t.Fatal(err)
	}
	check(1, 0)
	r.now = r.now.Add(61 * time.Minute)
	if err := r.expire(t.Context()); err != nil {
		t.Fatal(err)
	}
	check(0, 0)
	r.restart(t)
	if err := r.Start(t.Context(), r.files(t, allow)); err != nil {
		t.Fatal(err)
	}
	check(0, 0)
	if all, err := r.Plane.Grants(t.Context(), true); err != nil || len(all) != 3 {
		t.Errorf("all grants: %v, %v", all, err)
	}
	for name, do := range map[string]func() error{
		"a grant that has ended": func() error {
			_, err := r.Grant(t.Context(), &policyv1.Grant{Connections: []string{"x"}, Until: timestamppb.New(r.now)}, "a", "")
			return err
		},
		"a grant of nothing": func() error { _, err := r.Grant(t.Context(), &policyv1.Grant{}, "a", ""); return err },
		"all tokens there are": func() error {
			_, err := r.Revoke(t.Context(), &policyv1.Revocation{IssuedBefore: timestamppb.New(r.now)}, "a", "", time.Time{})
			return err
		},
		"a subject for ever": func() error {
			_, err := r.Revoke(t.Context(), &policyv1.Revocation{Subject: "alice"}, "a", "", time.Time{})
			return err
		},
		"tokens of the future": func() error {
			_, err := r.Revoke(t.Context(), &policyv1.Revocation{Subject: "alice", IssuedBefore: timestamppb.New(r.now.Add(time.Hour))}, "a", "", time.Time{})
			return err
		},
	} {
		if err := do(); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
