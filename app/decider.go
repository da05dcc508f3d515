package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/call/protocol/descriptor"
	"github.com/callgate/callgate/call/tool"
	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/extauthz"
	"github.com/callgate/callgate/extauthz/connection"
	"github.com/callgate/callgate/policies"
	"github.com/callgate/callgate/policies/counts"
	"github.com/callgate/callgate/xds"
	"github.com/callgate/callgate/xds/policyv1"
)

// decider is the decision side of a process: it compiles the policies that it is
// given and makes one of them decide. It takes them from the control plane, in
// this process or over xDS, or from files. It implements [xds.Receiver].
type decider struct {
	cfg      *config.Config
	home     string // where relative names of secrets are looked up
	authz    *extauthz.Server
	messages *messages
	// detectors are the policies' own, for extproc.
	detectors *detectors
	revoke    func([]*policyv1.Revocation) error
	// keep is the file that remembers all this for a start without the
	// control plane; "" where the control plane is in this process.
	keep string
	log  *slog.Logger
	// counts are what rules ask by session.calls; they outlive a policy.
	counts *counts.Counter
	// life ends with the process.
	life context.Context

	// deciding are the policies, as lists and tool calls are judged by.
	deciding atomic.Pointer[listings]
	carried  *carried
	// report tells the control plane what an MCP server offers; nil where
	// there is none.
	report  func(context.Context, *policyv1.ToolReport) error
	asks    bool // this process has the credentials to ask with
	version string
	watches watches

	// compiling is held while policies are made ready, which may ask servers
	// elsewhere; nothing else waits for that.
	compiling sync.Mutex

	mu          sync.Mutex
	held        map[string]*heldPolicy
	rollout     *policyv1.Rollout
	grants      map[string]*policyv1.Grant
	revocations map[string]*policyv1.Revocation
	tools       map[string]*policyv1.ToolSet
	accepted    map[string]acceptedTools // the same, ready
}

// listings are those of the policies at hand.
type listings struct {
	stable *listing
	by     map[string]*listing // by version
}

// of is the listing of the policy that decided a call, or of the one that decides
// now; nil: none does.
func (l *listings) of(meta call.Metadata) *listing {
	if l == nil {
		return nil
	}
	if its := l.by[meta.Policy]; its != nil {
		return its
	}
	return l.stable
}

// listing is what lists of functions are judged by.
type listing struct {
	rules    *policies.Set
	pins     map[string]bool // connections whose tools are pinned
	accepted map[string]acceptedTools
	shadow   map[string]bool // connections that deny nothing
}

// heldPolicy is a policy that can decide.
type heldPolicy struct {
	wire        *policyv1.Policy
	policy      config.Policy
	rules       *policies.Set // without the grants given since
	listed      *policies.Set // the same, for judging what may be listed
	connections *connection.Set
	sources     map[string]*descriptor.Source // by grpc connection
	cancel      context.CancelFunc            // ends what keeps it fresh
}

func newDecider(life context.Context, a *App, home string) *decider {
	return &decider{cfg: a.cfg, home: home, authz: a.authz, messages: a.messages, detectors: a.detectors, revoke: a.people.revoke, log: a.log, life: life, counts: counts.New(), carried: a.carried,
		asks: a.has(ExtAuthz), version: a.opts.Version, tools: map[string]*policyv1.ToolSet{}, accepted: map[string]acceptedTools{},
		held: map[string]*heldPolicy{}, grants: map[string]*policyv1.Grant{}, revocations: map[string]*policyv1.Revocation{}}
}

func (d *decider) folder() string { return filepath.Join(d.cfg.StateDir, "policy-files") }

// Policies implements [xds.Receiver]. All are taken or none.
func (d *decider) Policies(ctx context.Context, set []*policyv1.Policy, gone []string) error {
	d.compiling.Lock()
	defer d.compiling.Unlock()
	fresh := map[string]*heldPolicy{}
	drop := func() {
		for _, h := range fresh {
			h.cancel()
		}
	}
	for _, wire := range set {
		if d.holds(wire.GetVersion()) {
			continue // a version never changes
		}
		h, err := d.compile(wire)
		if err != nil {
			drop()
			return err
		}
		fresh[wire.GetVersion()] = h
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	before := d.held
	d.held = maps.Clone(before)
	var over []*heldPolicy
	for _, v := range gone {
		if d.rollout != nil && (v == d.rollout.GetStable() || v == d.rollout.GetCanary()) {
			// It goes on deciding until another does.
			d.log.WarnContext(ctx, "the control plane took away the policy that decides; it stays until another does", "version", v)
			continue
		}
		if h := d.held[v]; h != nil {
			over = append(over, h)
			delete(d.held, v)
		}
	}
	maps.Copy(d.held, fresh)
	if err := d.changed(); err != nil {
		d.held = before
		drop()
		return err
	}
	for _, h := range over {
		h.cancel()
	}
	return nil
}

func (d *decider) holds(version string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.held[version] != nil
}

// compile makes a policy ready to decide.
func (d *decider) compile(wire *policyv1.Policy) (*heldPolicy, error) {
	pol, err := xds.Bundle(wire).Policy(d.folder(), d.home)
	if err != nil {
		return nil, err
	}
	if pol.Version != wire.GetVersion() {
		return nil, fmt.Errorf("policy %s says what %s would be: it was changed on its way", wire.GetVersion(), pol.Version)
	}
	if err := foreignCredentials(d.cfg, pol); err != nil {
		return nil, err
	}
	h := &heldPolicy{wire: wire, policy: pol, sources: map[string]*descriptor.Source{}}
	if h.rules, err = compile(pol, d.cfg.Approvals.Approvers); err != nil {
		return nil, err
	}
	replayed, err := ReplayPolicy(pol, d.cfg.Approvals.Approvers)
	if err != nil {
		return nil, err
	}
	h.listed = replayed.Set
	var life context.Context
	life, h.cancel = context.WithCancel(d.life)
	var list []*connection.Connection
	for _, c := range pol.Connections {
		built, err := connect(life, c, detectorsOf(pol), h.sources, d.log)
		if err != nil {
			h.cancel()
			return nil, fmt.Errorf("%s: connection %q: %w", c.Position, c.Name, err)
		}
		built.Response.Private = built.Response.Private || private(pol, c.Name)
		list = append(list, built)
	}
	if h.connections, err = connection.NewSet(list); err != nil {
		h.cancel()
		return nil, err
	}
	return h, nil
}

// Rollout implements [xds.Receiver].
func (d *decider) Rollout(_ context.Context, r *policyv1.Rollout) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, v := range []string{r.GetStable(), r.GetCanary()} {
		if v != "" && d.held[v] == nil {
			return fmt.Errorf("policy %s is to decide and is not here", v)
		}
	}
	if r.GetStable() == "" || r.GetPercent() > 100 {
		return errors.New("a rollout must name the policy that decides, and a percentage up to 100")
	}
	before := d.rollout
	d.rollout = r
	if err := d.changed(); err != nil {
		d.rollout = before
		return err
	}
	return nil
}

// Grants implements [xds.Receiver].
func (d *decider) Grants(_ context.Context, set []*policyv1.Grant, gone []string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	next := maps.Clone(d.grants)
	for _, g := range set {
		if _, err := granted([]*policyv1.Grant{g}); err != nil {
			return err
		}
		next[g.GetId()] = g
	}
	for _, id := range gone {
		delete(next, id)
	}
	before := d.grants
	d.grants = next
	if err := d.changed(); err != nil {
		d.grants = before
		return err
	}
	return nil
}

// granted turns grants into what the rules know.
func granted(list []*policyv1.Grant) ([]policies.Grant, error) {
	out := make([]policies.Grant, len(list))
	for i, g := range list {
		out[i] = policies.Grant{Name: g.GetId(), Identities: g.GetIdentities(), Groups: g.GetGroups(), Actors: g.GetActors(),
			Connections: g.GetConnections(), Functions: g.GetFunctions(), When: g.GetWhen(), Settles: g.GetSettles()}
		if g.GetUntil() != nil {
			if err := g.GetUntil().CheckValid(); err != nil {
				return nil, fmt.Errorf("grant %s: until: %w", g.GetId(), err)
			}
			out[i].Until = g.GetUntil().AsTime()
		}
	}
	return out, policies.CheckGrants(out)
}

// Revocations implements [xds.Receiver].
func (d *decider) Revocations(_ context.Context, set []*policyv1.Revocation, gone []string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	next := maps.Clone(d.revocations)
	for _, r := range set {
		next[r.GetId()] = r
	}
	for _, id := range gone {
		delete(next, id)
	}
	if err := d.revoke(slices.Collect(maps.Values(next))); err != nil {
		return err
	}
	d.revocations = next
	return d.store()
}

// Tools implements [xds.Receiver].
func (d *decider) Tools(_ context.Context, set []*policyv1.ToolSet, gone []string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	tools, accepted := maps.Clone(d.tools), maps.Clone(d.accepted)
	for _, s := range set {
		a, err := acceptTools(s)
		if err != nil {
			return err
		}
		tools[s.GetConnection()], accepted[s.GetConnection()] = s, a
	}
	for _, name := range gone {
		delete(tools, name)
		delete(accepted, name)
	}
	toolsBefore, acceptedBefore := d.tools, d.accepted
	d.tools, d.accepted = tools, accepted
	if err := d.changed(); err != nil {
		d.tools, d.accepted = toolsBefore, acceptedBefore
		return err
	}
	return nil
}

// changed remembers what is held and puts it in force. Where it fails nothing
// new is in force, and the caller takes back what it changed.
func (d *decider) changed() error {
	if d.rollout == nil {
		return d.store()
	}
	list, err := granted(slices.SortedFunc(maps.Values(d.grants), func(a, b *policyv1.Grant) int { return strings.Compare(a.GetId(), b.GetId()) }))
	if err != nil {
		return err
	}
	pins := map[string]policies.Tools{}
	for name, a := range d.accepted {
		pins[name] = a.rules
	}
	var next extauthz.Versions
	sources := map[string]map[string]*descriptor.Source{}
	for v, h := range d.held {
		rules, err := h.rules.WithGrants(list)
		if err != nil {
			return err
		}
		rules = rules.Counting(d.counts).WithTools(pins)
		active := extauthz.Active{Version: v, Connections: h.connections, Policy: rules}
		switch v {
		case d.rollout.GetStable():
			next.Stable = active
		case d.rollout.GetCanary():
			next.Canary, next.Percent = &active, int(d.rollout.GetPercent())
		default:
			next.Others = append(next.Others, active)
		}
		sources[v] = h.sources
	}
	now := listings{by: map[string]*listing{}}
	for v, h := range d.held {
		listed, err := h.listed.WithGrants(list)
		if err != nil {
			return err
		}
		l := &listing{rules: listed.Counting(d.counts), pins: map[string]bool{}, accepted: d.accepted, shadow: map[string]bool{}}
		for _, c := range h.policy.Connections {
			l.pins[c.Name], l.shadow[c.Name] = pinsTools(c), c.Mode == "shadow"
		}
		now.by[v] = l
	}
	now.stable = now.by[d.rollout.GetStable()]
	held := make([]config.Policy, 0, len(d.held))
	for _, h := range d.held {
		held = append(held, h.policy)
	}
	if err := d.detectors.use(held); err != nil {
		return err
	}
	if err := d.store(); err != nil {
		return err
	}
	if now.stable != nil {
		d.deciding.Store(&now)
	}
	d.carried.use(now.by)
	d.watchTools()
	d.messages.use(sources, d.rollout.GetStable())
	d.authz.Activate(next)
	return nil
}

// stable is the version that decides; "" before any does.
func (d *decider) stable() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rollout.GetStable()
}

// Visible implements [extproc.Visible]: a function is hidden only where the
// policy denies it to the caller whatever the call's arguments and circumstances.
func (d *decider) Visible(meta call.Metadata, functions []string) ([]bool, error) {
	now := d.deciding.Load().of(meta)
	if now == nil || meta.Caller == nil {
		return nil, errors.New("no policy decides here yet")
	}
	out := make([]bool, len(functions))
	for i, f := range functions {
		c := call.Call{Time: time.Now(), Identity: *meta.Caller, Connection: meta.Connection, Protocol: meta.Protocol, Function: f}
		a, err := now.rules.Assess(context.Background(), &c, unknownOfListed)
		if err != nil {
			return nil, err
		}
		out[i] = !a.Known || a.Ruling.Action != call.ActionDeny
	}
	return out, nil
}

// Pinned implements [extproc.Pinned]: a tool is shown as it was accepted, or not
// at all.
func (d *decider) Pinned(connection string, entry []byte) ([]byte, bool) {
	now := d.deciding.Load().of(call.Metadata{})
	if now == nil {
		return nil, false
	}
	if pins, known := now.pins[connection]; known && !pins {
		return entry, true
	}
	t, err := tool.Read(entry)
	if err == nil && now.accepted[connection].hashes[t.Name] == t.Hash {
		return t.Text, true
	}
	d.watches.nudge(connection)
	return nil, false
}

// unknownOfListed is what a call of a listed function will have that is not
// known when it is listed.
var unknownOfListed = []policies.Part{
	{Field: "call.args"}, {Field: "call.headers"}, {Field: "call.body_size"}, {Field: "call.path"}, {Field: "call.method"}, {Field: "call.authority"},
	{Field: "call.source_ip"}, {Field: "call.id"}, {Field: "call.session"}, {Field: "identity.claims"}, {Field: "session"}, {Field: "now"},
}
