package app

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/call/protocol/descriptor"
	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/extproc/mask"
	"github.com/callgate/callgate/policies"
	"github.com/callgate/callgate/policies/lint"
)

// InspectPolicy compiles a policy for tools that look into it: lint, tests and
// explanations.
func InspectPolicy(p config.Policy, defaults config.Approvers) (*policies.Set, error) {
	if err := checkMasks(p); err != nil {
		return nil, err
	}
	rules, cfg := sources(p, defaults)
	cfg.Inspect, cfg.Replay = true, true
	return policies.Compile(rules, cfg)
}

// Around is what a policy is looked at with, as far as it is known.
type Around struct {
	Issuers []string // that callers come from
	Several bool     // more than one decision server decides
}

// AroundOf is what a configuration tells. That replicas share a database or have a
// control plane apart tells that there are several.
func AroundOf(cfg *config.Config) Around {
	return Around{Issuers: cfg.Issuers(), Several: cfg.Approvals.Postgres.URL != "" || cfg.Control.Server != "" || len(cfg.Control.Servers) > 0}
}

// LintPolicy finds what is wrong with a policy that compiles.
func LintPolicy(ctx context.Context, p config.Policy, set *policies.Set, around Around, now time.Time) ([]lint.Finding, error) {
	in := lint.Input{Set: set, Issuers: around.Issuers, Several: around.Several, People: whom(p), Now: now}
	_, cfg := sources(p, config.Approvers{})
	for i, c := range p.Connections {
		conn := lint.Connection{Name: c.Name, Protocol: call.Protocol(c.Protocol), Credentialed: c.Credential.Secret != (config.Secret{}), Shadow: c.Mode == "shadow",
			Position: policies.Position(c.Position)}
		for j, f := range cfg.Connections[i].Functions {
			conn.Functions = append(conn.Functions, lint.Function{Name: f, Position: policies.Position(c.FunctionPosition(j))})
		}
		for j, m := range c.Mask {
			conn.Masks = append(conn.Masks, lint.Mask{Name: m.Name, Paths: m.Paths, Position: policies.Position(c.MaskPosition(j))})
		}
		if c.Protocol == "grpc" && c.GRPC.Descriptors != "" {
			described(&conn, c)
		}
		in.Connections = append(in.Connections, conn)
	}
	return lint.Run(ctx, in)
}

// whom lists the groups and people that a policy names, but whom grants are given
// to by name, which is an error elsewhere.
func whom(p config.Policy) []lint.People {
	var out []lint.People
	add := func(subject string, at config.Position, lists ...[]string) {
		if all := slices.Concat(lists...); len(all) > 0 {
			out = append(out, lint.People{Subject: subject, Names: all, Position: policies.Position(at)})
		}
	}
	masks := func(subject string, at config.Position, m config.Mask) {
		for _, f := range m.For {
			add(subject, at, f.Groups, f.Identities)
		}
	}
	for _, r := range p.Rules {
		subject := fmt.Sprintf("rule %q", r.Name)
		add(subject, r.Position, r.Hold.Approvers.Groups, r.Hold.Approvers.People, r.Hold.BreakGlass.Groups, r.Hold.BreakGlass.People)
		for _, s := range r.Hold.Stages {
			add(subject, r.Position, s.Groups, s.People)
		}
		masks(subject, r.Position, r.Mask)
	}
	for _, c := range p.Connections {
		for i, m := range c.Mask {
			masks(fmt.Sprintf("connection %q", c.Name), c.MaskPosition(i), m)
		}
	}
	for _, g := range p.Grants {
		add(fmt.Sprintf("grant %q", g.Name), g.Position, g.Groups)
	}
	return out
}

// described adds what a file of descriptors tells of a grpc connection. One that
// can't be read is told of where it is used.
func described(conn *lint.Connection, c config.Connection) {
	source, err := descriptor.File(c.GRPC.Descriptors, c.Match.Services)
	if err != nil {
		return
	}
	methods := source.Methods()
	for _, name := range slices.Sorted(maps.Keys(methods)) {
		conn.Functions = append(conn.Functions, lint.Function{Name: name, Position: conn.Position})
	}
	conn.Reaches = func(function, path string) bool {
		m := methods[function]
		return m != nil && mask.Reaches(path, m.Output())
	}
}
