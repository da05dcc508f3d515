package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/control"
	"github.com/callgate/callgate/envoy"
	"github.com/callgate/callgate/extauthz/identity"
	"github.com/callgate/callgate/xds"
	"github.com/callgate/callgate/xds/policyv1"
)

// openPolicies makes what this process's roles need of policies: the decision
// side, the control plane, or both.
func (a *App) openPolicies(ctx context.Context) error {
	var life context.Context
	life, a.endPolicies = context.WithCancel(context.WithoutCancel(ctx))
	home := filepath.Dir(a.opts.File)
	if a.cfg.PoliciesDir != "" {
		home = a.cfg.PoliciesDir
	}
	a.decider = newDecider(life, a, home)
	if !a.has(XDS) {
		a.decider.keep = filepath.Join(a.cfg.StateDir, "last-policy.pb")
		return nil
	}
	var err error
	if a.store, err = control.OpenStore(ctx, a.cfg.Control.Store); err != nil {
		return fmt.Errorf("%w (control.store)", err)
	}
	cfg := control.Config{Store: a.store, Servers: a.xds, Folder: a.decider.folder(), Home: home, Wait: a.cfg.Control.Wait,
		Check: func(p config.Policy) error {
			return errors.Join(CheckPolicy(p, a.cfg.Approvals.Approvers), foreignCredentials(a.cfg, p), a.cfg.Unambiguous(p))
		},
		Build: a.build, Record: a.note, Log: a.log, Now: a.opts.Now,
		CheckGrant: func(g *policyv1.Grant) error {
			_, err := granted([]*policyv1.Grant{g})
			for _, name := range slices.Concat(g.GetIdentities(), g.GetActors()) {
				if name != "*" {
					err = errors.Join(err, a.cfg.Name(name))
				}
			}
			return err
		},
		CheckRevocation: func(r *policyv1.Revocation) error {
			if r.GetSubject() == "" || r.GetIssuer() != "" {
				return nil
			}
			if err := a.cfg.Name(r.GetSubject()); err != nil {
				return fmt.Errorf("subject %q could be of any of %s; name its issuer (--issuer)", r.GetSubject(), strings.Join(a.cfg.Issuers(), ", "))
			}
			return nil
		}}
	if a.decides() {
		cfg.Local = a.decider
	} else {
		cfg.Local = revoker{a.decider}
	}
	a.plane = control.New(cfg)
	a.decider.report = a.plane.Report
	a.xds.TakeReports(a.plane.Report)
	return nil
}

// foreignCredentials makes sure that a policy sends no secret of the process's own
// to a service.
func foreignCredentials(cfg *config.Config, p config.Policy) error {
	var errs config.Errors
	for _, c := range p.Connections {
		if err := cfg.Own(c.Credential.Secret); err != nil {
			errs = append(errs, config.Error{Position: c.Position, Message: fmt.Sprintf("connection %q: credential: %v", c.Name, err)})
		}
	}
	if len(errs) > 0 {
		return errs
	}
	return nil
}

// revoker is what a process that decides nothing takes from a control plane, its
// own or another: revocations hold for its console and for tokens that are
// exchanged there.
type revoker struct{ *decider }

func (revoker) Policies(context.Context, []*policyv1.Policy, []string) error { return nil }
func (revoker) Rollout(context.Context, *policyv1.Rollout) error             { return nil }
func (revoker) Grants(context.Context, []*policyv1.Grant, []string) error    { return nil }
func (revoker) Tools(context.Context, []*policyv1.ToolSet, []string) error   { return nil }

// load takes up the revocations that were kept.
func (r revoker) load(ctx context.Context) (map[string][]string, error) {
	held, err := r.kept()
	if held == nil || err != nil {
		return nil, err
	}
	has := map[string][]string{}
	for _, one := range held.GetRevocations() {
		has[xds.RevocationType] = append(has[xds.RevocationType], one.GetId())
	}
	return has, r.Revocations(ctx, held.GetRevocations(), nil)
}

// decides reports whether this process has a role that needs policies.
func (a *App) decides() bool { return a.has(ExtAuthz) || a.has(ExtProc) }

// follows reports whether this process gets what it needs of policies from a
// control plane elsewhere.
func (a *App) follows() bool {
	return !a.has(XDS) && a.cfg.Control.Server != "" && (a.decides() || a.has(Console))
}

// revoke puts revocations in force.
func (p *people) revoke(list []*policyv1.Revocation) error {
	out := make([]identity.Revocation, len(list))
	for i, r := range list {
		out[i] = identity.Revocation{Issuer: r.GetIssuer(), Subject: r.GetSubject(), TokenID: r.GetTokenId()}
		if r.GetIssuedBefore() != nil {
			if err := r.GetIssuedBefore().CheckValid(); err != nil {
				return fmt.Errorf("revocation %s: issued_before: %w", r.GetId(), err)
			}
			out[i].IssuedBefore = r.GetIssuedBefore().AsTime()
		}
	}
	p.verifier.Revoke(out)
	return nil
}

// startPolicies makes a policy decide, and returns what keeps it up to date.
func (a *App) startPolicies(ctx context.Context) (func(context.Context) error, error) {
	switch {
	case a.plane != nil:
		if err := a.plane.Start(ctx, a.files()); err != nil {
			return nil, err
		}
		return a.plane.Run, nil
	case a.follows():
		return a.follow(ctx)
	case !a.decides():
		if a.has(Console) {
			a.log.WarnContext(ctx, "no control plane is named (control.server), so tokens that are revoked at one are taken here still")
		}
		return func(context.Context) error { return nil }, nil
	}
	err := a.take(ctx, a.files())
	if err != nil {
		// What decided before the restart still can.
		has, lastErr := a.decider.load(ctx)
		if lastErr != nil || has == nil {
			return nil, errors.Join(err, lastErr)
		}
		a.refuse(ctx, err)
	}
	return func(context.Context) error { return nil }, nil
}

// files is the policy as it lies in files.
func (a *App) files() control.Files {
	var f control.Files
	f.Bundle, f.Policy, f.Err = config.LoadBundle(a.opts.File, a.cfg.PoliciesDir)
	return f
}

// reload takes up a changed policy, or says where it is wrong and changes
// nothing.
func (a *App) reload(ctx context.Context) {
	switch {
	case a.plane != nil:
		a.plane.Changed(ctx, a.files())
	case a.decides() && a.cfg.Control.Server == "":
		if err := a.take(ctx, a.files()); err != nil {
			a.refuse(ctx, err)
		}
	}
}

func (a *App) refuse(ctx context.Context, err error) {
	a.log.ErrorContext(ctx, "the changed policy is refused; the last good one stays", "error", err)
	a.note(ctx, call.ChangeEvent{What: call.ChangePolicyRefused, Detail: err.Error()})
}

// take makes the policy of the files decide in a process that has no control
// plane to ask.
func (a *App) take(ctx context.Context, f control.Files) error {
	if f.Err != nil {
		return f.Err
	}
	before, now := a.decider.stable(), f.Policy.Version
	if before == now {
		return nil
	}
	if err := a.decider.Policies(ctx, []*policyv1.Policy{xds.Wire(now, f.Bundle)}, nil); err != nil {
		return err
	}
	if err := a.decider.Rollout(ctx, &policyv1.Rollout{Stable: now}); err != nil {
		return err
	}
	a.note(ctx, call.ChangeEvent{What: call.ChangePolicyActivated, Version: now, Detail: config.Unrecorded(f.Policy)})
	a.log.InfoContext(ctx, "policy active", "version", now, "connections", len(f.Policy.Connections), "rules", len(f.Policy.Rules))
	// One version before stays at hand, for Envoys that have not changed over.
	return a.decider.forget(ctx, before)
}

// follow gets policies from a control plane elsewhere.
func (a *App) follow(ctx context.Context) (func(context.Context) error, error) {
	creds, err := towardsControl(a.cfg.Control.TLS, a.cfg.Control.Server)
	if err != nil {
		return nil, err
	}
	conn, err := grpc.NewClient(a.cfg.Control.Server, grpc.WithTransportCredentials(creds),
		// A control plane that vanished without a word is noticed.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 20 * time.Second, Timeout: 10 * time.Second}))
	if err != nil {
		return nil, fmt.Errorf("reach the control plane %s: %w", a.cfg.Control.Server, err)
	}
	reports := policyv1.NewToolsClient(conn)
	a.decider.report = func(ctx context.Context, r *policyv1.ToolReport) error {
		_, err := reports.Report(ctx, r)
		return err
	}
	var to interface {
		xds.Receiver
		load(context.Context) (map[string][]string, error)
	} = a.decider
	if !a.decides() {
		to = revoker{a.decider}
	}
	has, err := to.load(ctx)
	if err != nil {
		a.log.ErrorContext(ctx, "calls are denied until the control plane answers", "error", err)
	}
	labels := map[string]string{}
	for _, l := range a.cfg.Control.Labels {
		name, value, _ := strings.Cut(l, "=")
		labels[name] = value
	}
	client := xds.NewClient(xds.ClientConfig{Node: a.cfg.Node, Metadata: labels, Conn: conn, Receiver: to, Has: has, Log: a.log})
	return func(ctx context.Context) error { return errors.Join(client.Run(ctx), conn.Close()) }, nil
}

// build makes the Envoy resources of a policy.
func (a *App) build(p config.Policy) (xds.Version, error) {
	files := map[string][]byte{}
	for _, f := range envoy.FilesOf(a.cfg.Envoy, p) {
		var err error
		if files[f], err = os.ReadFile(f); err != nil {
			return xds.Version{}, fmt.Errorf("read a certificate: %w", err)
		}
	}
	r, err := envoy.Build(envoy.Input{Settings: a.cfg.Envoy, Policy: p, Files: files})
	return xds.Version{Name: p.Version, Resources: r}, err
}

// folders are watched for a changed policy.
func (a *App) folders() []string {
	out := []string{filepath.Dir(a.opts.File)}
	if a.cfg.PoliciesDir != "" && a.cfg.PoliciesDir != out[0] {
		out = append(out, a.cfg.PoliciesDir)
	}
	return out
}

// note records an operator's act. Its failing stops nothing: the spool's state
// shows in calls being denied.
func (a *App) note(ctx context.Context, e call.ChangeEvent) {
	e.Node = a.cfg.Node
	err := a.trail.recorder.Record(context.WithoutCancel(ctx), call.Event{Kind: call.Changed, Time: time.Now(), Change: &e})
	if err != nil {
		a.log.ErrorContext(ctx, "a change could not be recorded", "what", e.What, "error", err)
	}
}
