package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/xds"
	"github.com/callgate/callgate/xds/policyv1"
)

// Servers distributes to Envoys and decision servers; it is an *[xds.Server].
type Servers interface {
	Offer(context.Context, *policyv1.Policy) error
	Withdraw(versions ...string) error
	Rollout(*policyv1.Rollout) error
	Grants([]*policyv1.Grant, []string) error
	Revocations([]*policyv1.Revocation, []string) error
	Tools([]*policyv1.ToolSet) error
	Set(context.Context, xds.Release) error
	WaitServers(context.Context) error
	WaitEnvoys(context.Context) error
	Status() []xds.Node
}

// Config is what a [Plane] needs.
type Config struct {
	Store   *Store
	Servers Servers
	// Local is the decision side of this very process; nil where it has none.
	Local xds.Receiver
	// Check reports what would keep a policy from deciding.
	Check func(config.Policy) error
	// CheckGrant does so for a grant.
	CheckGrant func(*policyv1.Grant) error
	// CheckRevocation does so for a revocation; nil: nothing is.
	CheckRevocation func(*policyv1.Revocation) error
	// Build makes the Envoy resources of a policy.
	Build func(config.Policy) (xds.Version, error)
	// Folder is where a policy's files are laid out, and Home where relative
	// names of secrets are looked up.
	Folder, Home string
	// Wait is how long nodes are waited for before one is told as behind.
	// Default 10s.
	Wait time.Duration
	// Linger is how long a version that was replaced stays at hand for calls
	// that are on their way. Default 10s.
	Linger time.Duration
	Record func(context.Context, call.ChangeEvent)
	Log    *slog.Logger
	Now    func() time.Time // nil means time.Now
}

// Plane is the control plane. It is safe for concurrent use.
type Plane struct {
	cfg Config

	// access is held while grants and revocations change, which never wait for
	// a policy that is on its way.
	access sync.Mutex

	mu       sync.Mutex // one change at a time
	now      Rollout
	at       map[string]candidate // the versions that are offered
	retiring map[string]time.Time // those of them that may go, and when
}

// candidate is a policy that was checked.
type candidate struct {
	policy config.Policy
	wire   *policyv1.Policy
}

// New returns a Plane; Start makes it serve.
func New(cfg Config) *Plane {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Wait == 0 {
		cfg.Wait = 10 * time.Second
	}
	if cfg.Linger == 0 {
		cfg.Linger = 10 * time.Second
	}
	return &Plane{cfg: cfg, at: map[string]candidate{}, retiring: map[string]time.Time{}}
}

func (p *Plane) note(ctx context.Context, e call.ChangeEvent) { p.cfg.Record(ctx, e) }

// Push is a policy that is to decide.
type Push struct {
	Bundle  config.Bundle
	Author  string // "issuer|subject", or who else it is
	Message string
	Canary  Canary
}

// Canary says for whom a version is tried before it decides for all; the zero
// value is nobody. Exactly one of the two is set otherwise.
type Canary struct {
	Percent int    // of callers, the same ones each time
	Nodes   string // selects Envoys; see xds.ParseSelector
}

func (c Canary) none() bool { return c == Canary{} }

// Outcome is what became of a change.
type Outcome struct {
	Rollout
	Unchanged bool
	// Behind are nodes that had not answered when the wait was over. They are
	// sent it as soon as they can be.
	Behind []string
}

// Invalid is a policy that can't decide. Its text has a line for each fault.
type Invalid struct{ Err error }

func (e *Invalid) Error() string { return "the policy can't go live:\n" + e.Err.Error() }
func (e *Invalid) Unwrap() error { return e.Err }

// maxMessage bounds a message, in bytes.
const maxMessage = 2048

// begun is the context of a change: once begun it is carried through or undone,
// also where whoever asked for it hangs up. Each of its waits has an end.
func begun(ctx context.Context) context.Context { return context.WithoutCancel(ctx) }

// Push validates a policy whole, stores it and makes it decide: everywhere, or
// for a canary's share. Where some node refuses it, everything stays as it was.
func (p *Plane) Push(ctx context.Context, in Push) (Outcome, error) {
	ctx = begun(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.push(ctx, in, ActionPush)
}

func (p *Plane) push(ctx context.Context, in Push, action string) (Outcome, error) {
	if len(in.Message) > maxMessage {
		return Outcome{}, fmt.Errorf("%w: the message is longer than %d bytes", ErrInvalid, maxMessage)
	}
	c, err := p.read(in.Bundle)
	if err != nil {
		p.note(ctx, call.ChangeEvent{What: call.ChangePolicyRefused, By: in.Author, Detail: err.Error()})
		return Outcome{}, err
	}
	if c.policy.Version == p.now.Stable && p.now.Canary == "" {
		return Outcome{Rollout: p.now, Unchanged: true}, nil
	}
	c.wire.Author, c.wire.Message, c.wire.Created = in.Author, in.Message, timestamppb.New(p.cfg.Now())
	if err := p.cfg.Store.putVersion(ctx, c.wire, map[string]string{ActionFiles: "files"}[action]+map[string]string{ActionPush: "push"}[action]); err != nil {
		return Outcome{}, err
	}
	next := Rollout{Action: action, Stable: c.policy.Version, Author: in.Author, Message: in.Message}
	if !in.Canary.none() {
		if p.now.Stable == "" {
			return Outcome{}, fmt.Errorf("%w: there is no policy yet that a canary could be tried beside; push it for all", ErrInvalid)
		}
		next.Action, next.Stable, next.Canary = ActionCanary, p.now.Stable, c.policy.Version
		next.Percent, next.Nodes = in.Canary.Percent, in.Canary.Nodes
	}
	return p.roll(ctx, next, c)
}

// read takes a policy out of its bundle and checks it.
func (p *Plane) read(b config.Bundle) (candidate, error) {
	pol, err := b.Policy(p.cfg.Folder, p.cfg.Home)
	if err == nil {
		err = p.cfg.Check(pol)
	}
	if err == nil {
		_, err = p.cfg.Build(pol)
	}
	if err != nil {
		return candidate{}, &Invalid{err}
	}
	return candidate{pol, xds.Wire(pol.Version, b)}, nil
}

// Rollback makes an earlier version decide again; "" is the one before.
func (p *Plane) Rollback(ctx context.Context, version, author, message string) (Outcome, error) {
	ctx = begun(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	if version == "" {
		var err error
		if version, err = p.cfg.Store.before(ctx, p.now.Stable); err != nil {
			return Outcome{}, err
		}
		if version == "" {
			return Outcome{}, fmt.Errorf("%w: no other version ever decided", ErrInvalid)
		}
	}
	if version == p.now.Stable && p.now.Canary == "" {
		return Outcome{Rollout: p.now, Unchanged: true}, nil
	}
	c, err := p.stored(ctx, version)
	if err != nil {
		return Outcome{}, err
	}
	return p.roll(ctx, Rollout{Action: ActionRollback, Stable: version, Author: author, Message: message}, c)
}

// stored is a version from the store, checked anew.
func (p *Plane) stored(ctx context.Context, version string) (candidate, error) {
	if c, ok := p.at[version]; ok {
		return c, nil
	}
	wire, err := p.cfg.Store.version(ctx, version)
	if err != nil {
		return candidate{}, err
	}
	c, err := p.read(xds.Bundle(wire))
	if err != nil {
		return candidate{}, err
	}
	if c.policy.Version != version {
		return candidate{}, fmt.Errorf("the stored policy %s says what %s would be; the store was changed", version, c.policy.Version)
	}
	c.wire = wire
	return c, nil
}

// Promote makes the canary decide for all.
func (p *Plane) Promote(ctx context.Context, author, message string) (Outcome, error) {
	return p.endCanary(ctx, ActionPromote, author, message)
}

// Abort ends the canary; the stable version decides for all.
func (p *Plane) Abort(ctx context.Context, author, message string) (Outcome, error) {
	return p.endCanary(ctx, ActionAbort, author, message)
}

func (p *Plane) endCanary(ctx context.Context, action, author, message string) (Outcome, error) {
	ctx = begun(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.now.Canary == "" {
		return Outcome{}, fmt.Errorf("%w: there is no canary", ErrInvalid)
	}
	next := Rollout{Action: action, Stable: p.now.Stable, Author: author, Message: message}
	if action == ActionPromote {
		next.Stable = p.now.Canary
	}
	return p.roll(ctx, next)
}

// roll makes next hold, with candidates that are new. The version that is new
// is offered first; what refuses it leaves everything as it was.
func (p *Plane) roll(ctx context.Context, next Rollout, fresh ...candidate) (Outcome, error) {
	next.At = p.cfg.Now().UTC()
	for _, c := range fresh {
		if _, there := p.at[c.policy.Version]; there {
			continue
		}
		if err := p.offer(ctx, c); err != nil {
			return Outcome{}, p.refused(ctx, next, c.policy.Version, err)
		}
		p.at[c.policy.Version] = c
		p.retiring[c.policy.Version] = next.At // unless it comes to decide
	}
	release, err := p.release(next)
	if err != nil {
		return Outcome{}, err
	}
	before := p.now
	if err := p.decide(ctx, next, release); err != nil {
		return Outcome{}, p.back(ctx, before, next, err)
	}
	p.now = next
	behind, err := p.await(ctx)
	if err == nil {
		// Only what nobody refused decides after a restart.
		err = p.cfg.Store.addRollout(ctx, next)
	}
	if err != nil {
		return Outcome{}, p.back(ctx, before, next, err)
	}
	for v := range p.at {
		delete(p.retiring, v)
		if v != next.Stable && v != next.Canary {
			p.retiring[v] = p.cfg.Now().Add(p.cfg.Linger)
		}
	}
	what := call.ChangePolicyActivated
	if next.Canary != "" {
		what = call.ChangePolicyCanary
	}
	p.note(ctx, call.ChangeEvent{What: what, Version: target(next), By: next.Author, Detail: p.detail(next)})
	p.cfg.Log.InfoContext(ctx, "policy active", "version", next.Stable, "canary", next.Canary, "action", next.Action, "author", next.Author,
		"connections", len(p.at[next.Stable].policy.Connections), "rules", len(p.at[next.Stable].policy.Rules), "behind", behind)
	return Outcome{Rollout: next, Behind: behind}, nil
}

// target is the version that a rollout is about.
func target(r Rollout) string {
	if r.Canary != "" {
		return r.Canary
	}
	return r.Stable
}

// detail is what an auditor reads of a rollout.
func (p *Plane) detail(r Rollout) string {
	text := r.Action
	switch {
	case r.Canary != "" && r.Nodes != "":
		text += " on Envoys with " + r.Nodes
	case r.Canary != "":
		text += fmt.Sprintf(" for %d%% of callers", r.Percent)
	}
	if r.Message != "" {
		text += ": " + r.Message
	}
	if u := config.Unrecorded(p.at[target(r)].policy); u != "" {
		text += "; " + u
	}
	return text
}

// offer gives a policy to those who decide, so that they can compile it.
func (p *Plane) offer(ctx context.Context, c candidate) error {
	if p.cfg.Local != nil {
		if err := p.cfg.Local.Policies(ctx, []*policyv1.Policy{c.wire}, nil); err != nil {
			return &Invalid{err}
		}
	}
	wait, cancel := context.WithTimeout(ctx, p.cfg.Wait)
	defer cancel()
	err := p.cfg.Servers.Offer(wait, c.wire)
	var behind *xds.Behind
	if errors.As(err, &behind) {
		// It gets the policy when it is back, and denies or serves the old
		// one whole until then.
		p.cfg.Log.WarnContext(ctx, "a decision server has not answered; the rollout goes on without it", "nodes", behind.Nodes)
		return nil
	}
	if err != nil && p.cfg.Local != nil {
		err = errors.Join(err, p.cfg.Local.Policies(ctx, nil, []string{c.policy.Version}))
	}
	return err
}

// release is what Envoys get.
func (p *Plane) release(next Rollout) (xds.Release, error) {
	stable, err := p.cfg.Build(p.at[next.Stable].policy)
	if err != nil {
		return xds.Release{}, err
	}
	out := xds.Release{Stable: stable}
	switch {
	case next.Canary == "":
	case next.Nodes != "" && next.Percent != 0:
		return xds.Release{}, fmt.Errorf("%w: a canary is for a percentage of callers or for some Envoys, not both", ErrInvalid)
	case next.Nodes != "":
		if out.Nodes, err = xds.ParseSelector(next.Nodes); err != nil {
			return xds.Release{}, fmt.Errorf("%w: %w", ErrInvalid, err)
		}
		canary, err := p.cfg.Build(p.at[next.Canary].policy)
		if err != nil {
			return xds.Release{}, err
		}
		out.Canary = &canary
	case next.Percent < 1 || next.Percent > 99:
		return xds.Release{}, fmt.Errorf("%w: a canary of %d%% is none; 1 to 99 are", ErrInvalid, next.Percent)
	default:
		if err := p.alike(next.Stable, next.Canary); err != nil {
			return xds.Release{}, err
		}
	}
	return out, nil
}

// alike makes sure that two versions look the same to Envoy, since one Envoy
// will carry calls of both.
func (p *Plane) alike(stable, canary string) error {
	a, b := p.at[stable].policy, p.at[canary].policy
	b.Version = a.Version
	x, err := p.cfg.Build(a)
	if err != nil {
		return err
	}
	y, err := p.cfg.Build(b)
	if err != nil {
		return err
	}
	if same, err := xds.Same(x, y); err != nil || !same {
		return errors.Join(err, fmt.Errorf("%w: version %s changes what Envoys run, which can't differ from caller to caller; try it on some Envoys instead (--nodes)", ErrInvalid, canary))
	}
	return nil
}

// decide puts a rollout in force: those who decide first, since they can still
// decide by the version before, then Envoys.
func (p *Plane) decide(ctx context.Context, r Rollout, release xds.Release) error {
	wire := &policyv1.Rollout{Stable: r.Stable}
	if r.Percent > 0 {
		wire.Canary, wire.Percent = r.Canary, uint32(r.Percent)
	}
	if p.cfg.Local != nil {
		if err := p.cfg.Local.Rollout(ctx, wire); err != nil {
			return err
		}
	}
	if err := p.cfg.Servers.Rollout(wire); err != nil {
		return err
	}
	return p.cfg.Servers.Set(ctx, release)
}

// await waits for all nodes, and names those that do not answer in time.
func (p *Plane) await(ctx context.Context) ([]string, error) {
	wait, cancel := context.WithTimeout(ctx, p.cfg.Wait)
	defer cancel()
	var out []string
	for _, one := range []func(context.Context) error{p.cfg.Servers.WaitServers, p.cfg.Servers.WaitEnvoys} {
		err := one(wait)
		var behind *xds.Behind
		switch {
		case err == nil:
		case errors.As(err, &behind):
			for _, n := range behind.Nodes {
				if len(out) == 0 || out[len(out)-1] != n {
					out = append(out, n)
				}
			}
		default:
			return nil, err
		}
	}
	return out, nil
}

// back undoes a rollout that some node refused.
func (p *Plane) back(ctx context.Context, before, refused Rollout, why error) error {
	p.now = before
	if before.Stable != "" {
		release, err := p.release(before)
		if err == nil {
			err = p.decide(ctx, before, release)
		}
		why = errors.Join(why, err)
	}
	return p.refused(ctx, refused, target(refused), why)
}

// refused records that a version can't be run.
func (p *Plane) refused(ctx context.Context, r Rollout, version string, why error) error {
	r.Action, r.Stable, r.Canary, r.Message = ActionRefused, p.now.Stable, version, why.Error()
	p.note(ctx, call.ChangeEvent{What: call.ChangePolicyRefused, Version: version, By: r.Author, Detail: why.Error()})
	if err := p.cfg.Store.addRollout(ctx, r); err != nil {
		return errors.Join(why, err)
	}
	return why
}

// spread does something to all decision servers and waits for those that are
// connected.
func (p *Plane) spread(ctx context.Context, do func(context.Context) error) error {
	if err := do(ctx); err != nil {
		return err
	}
	wait, cancel := context.WithTimeout(ctx, p.cfg.Wait)
	defer cancel()
	return p.cfg.Servers.WaitServers(wait)
}
