package control

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/xds/policyv1"
)

// filesFact remembers the version that the files last had, so that a start can
// tell whether they were changed since.
const filesFact = "files_version"

// filesAuthor stands where nobody in person pushed.
const filesAuthor = "files"

// Files is a policy as it lies in files, or why it can't be read.
type Files struct {
	Bundle config.Bundle
	Policy config.Policy
	Err    error
}

// Start makes the last good policy decide: what was last pushed, or the files,
// where they were changed since. Files that can't go live keep nothing from
// starting that has run before.
func (p *Plane) Start(ctx context.Context, files Files) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.restoreAccess(ctx); err != nil {
		return err
	}
	if err := p.restoreTools(ctx); err != nil {
		return err
	}
	last, known, err := p.cfg.Store.current(ctx)
	if err != nil {
		return err
	}
	if !known {
		if files.Err != nil {
			return files.Err
		}
		return p.files(ctx, files)
	}
	if err := p.restore(ctx, last); err != nil {
		if files.Err != nil {
			return errors.Join(files.Err, err)
		}
		p.cfg.Log.ErrorContext(ctx, "the last good policy can't be taken up again; the files are", "version", last.Stable, "error", err)
		return p.files(ctx, files)
	}
	p.cfg.Log.InfoContext(ctx, "the last good policy decides", "version", last.Stable, "canary", last.Canary)
	p.note(ctx, call.ChangeEvent{What: call.ChangePolicyActivated, Version: last.Stable, By: last.Author, Detail: p.detail(Rollout{Action: "restart", Stable: last.Stable})})
	if err := p.changed(ctx, files); err != nil {
		p.complain(ctx, err)
	}
	return nil
}

// Changed takes up files that were changed. Where they can't go live, the last
// good policy stays, and the log and the audit trail say why.
func (p *Plane) Changed(ctx context.Context, files Files) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.changed(ctx, files); err != nil {
		p.complain(ctx, err)
	}
}

func (p *Plane) complain(ctx context.Context, err error) {
	p.cfg.Log.ErrorContext(ctx, "the changed policy is refused; the last good one stays", "version", p.now.Stable, "error", err)
}

func (p *Plane) changed(ctx context.Context, files Files) error {
	if files.Err != nil {
		p.note(ctx, call.ChangeEvent{What: call.ChangePolicyRefused, By: filesAuthor, Detail: files.Err.Error()})
		return files.Err
	}
	seen, err := p.cfg.Store.fact(ctx, filesFact)
	if err != nil || seen == files.Policy.Version {
		return err
	}
	return p.files(ctx, files)
}

// files makes the policy of the files decide.
func (p *Plane) files(ctx context.Context, files Files) error {
	if _, err := p.push(ctx, Push{Bundle: files.Bundle, Author: filesAuthor}, ActionFiles); err != nil {
		return err
	}
	return p.cfg.Store.setFact(ctx, filesFact, files.Policy.Version)
}

// restore puts what decided before a restart in force again.
func (p *Plane) restore(ctx context.Context, last Rollout) error {
	for _, v := range []string{last.Stable, last.Canary} {
		if v == "" {
			continue
		}
		c, err := p.stored(ctx, v)
		if err != nil {
			return err
		}
		if err := p.offer(ctx, c); err != nil {
			return err
		}
		p.at[v] = c
	}
	release, err := p.release(last)
	if err != nil {
		return err
	}
	if err := p.decide(ctx, last, release); err != nil {
		return err
	}
	p.now = last
	return nil
}

// restoreAccess puts grants and revocations in force, before anything decides.
func (p *Plane) restoreAccess(ctx context.Context) error {
	p.access.Lock()
	defer p.access.Unlock()
	grants, err := p.cfg.Store.grants(ctx, false, p.cfg.Now())
	if err != nil {
		return err
	}
	revocations, err := p.cfg.Store.revocations(ctx, false, p.cfg.Now())
	if err != nil {
		return err
	}
	given := make([]*policyv1.Grant, len(grants))
	for i, g := range grants {
		given[i] = g.Grant
	}
	revoked := make([]*policyv1.Revocation, len(revocations))
	for i, r := range revocations {
		revoked[i] = r.Revocation
	}
	if p.cfg.Local != nil {
		if err := errors.Join(p.cfg.Local.Revocations(ctx, revoked, nil), p.cfg.Local.Grants(ctx, given, nil)); err != nil {
			return fmt.Errorf("take up grants and revocations: %w", err)
		}
	}
	return errors.Join(p.cfg.Servers.Revocations(revoked, nil), p.cfg.Servers.Grants(given, nil))
}

// Run takes away what is over: replaced versions, grants and revocations that
// ended. It returns when ctx ends.
func (p *Plane) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := p.retire(ctx); err != nil {
			p.cfg.Log.ErrorContext(ctx, "a replaced policy can't be taken away", "error", err)
		}
		if n%60 == 0 {
			if err := p.expire(ctx); err != nil && ctx.Err() == nil {
				p.cfg.Log.ErrorContext(ctx, "what ended can't be taken away", "error", err)
			}
		}
	}
}

// retire withdraws replaced versions once no Envoy can be running them.
func (p *Plane) retire(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.retiring) == 0 {
		return nil
	}
	running := map[string]bool{p.now.Stable: true, p.now.Canary: true}
	for _, n := range p.cfg.Servers.Status() {
		running[n.Version] = true
	}
	var over []string
	for v, at := range p.retiring {
		if !running[v] && p.cfg.Now().After(at) {
			over = append(over, v)
		}
	}
	if len(over) == 0 {
		return nil
	}
	for _, v := range over {
		delete(p.at, v)
		delete(p.retiring, v)
	}
	if p.cfg.Local != nil {
		if err := p.cfg.Local.Policies(ctx, nil, over); err != nil {
			return err
		}
	}
	return p.cfg.Servers.Withdraw(over...)
}

// expire withdraws grants and revocations that are over. Grants end by
// themselves where they are judged; this only frees memory.
func (p *Plane) expire(ctx context.Context) error {
	p.access.Lock()
	defer p.access.Unlock()
	now := p.cfg.Now()
	grants, err := p.cfg.Store.grants(ctx, true, now)
	if err != nil {
		return err
	}
	var gone []string
	for _, g := range grants {
		if g.Revoked.IsZero() && g.GetUntil() != nil && now.After(g.GetUntil().AsTime()) && now.Sub(g.GetUntil().AsTime()) < time.Hour {
			gone = append(gone, g.GetId())
		}
	}
	revocations, err := p.cfg.Store.revocations(ctx, true, now)
	if err != nil {
		return err
	}
	var lifted []string
	for _, r := range revocations {
		if r.Lifted.IsZero() && !r.Expires.IsZero() && now.After(r.Expires) && now.Sub(r.Expires) < time.Hour {
			lifted = append(lifted, r.GetId())
		}
	}
	if len(gone) > 0 {
		if err := p.dropGrants(ctx, gone); err != nil {
			return err
		}
	}
	if len(lifted) > 0 {
		return p.dropRevocations(ctx, lifted)
	}
	return nil
}

// Now is what decides.
func (p *Plane) Now() Rollout {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now
}

// History lists what was done, the newest first.
func (p *Plane) History(ctx context.Context, limit int) ([]Rollout, error) {
	return p.cfg.Store.History(ctx, limit)
}

// Versions lists the stored policies, the newest first.
func (p *Plane) Versions(ctx context.Context, limit int) ([]Version, error) {
	return p.cfg.Store.Versions(ctx, limit)
}

// Stored returns a stored policy.
func (p *Plane) Stored(ctx context.Context, version string) (*policyv1.Policy, error) {
	return p.cfg.Store.version(ctx, version)
}
