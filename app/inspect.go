package app

import (
	"context"
	"time"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/policies"
	"github.com/callgate/callgate/policies/lint"
)

// InspectPolicy compiles a policy for tools that look into it: lint, tests and
// explanations.
func InspectPolicy(p config.Policy, defaults config.Approvers) (*policies.Set, error) {
	rules, cfg := sources(p, defaults)
	cfg.Inspect, cfg.Replay = true, true
	return policies.Compile(rules, cfg)
}

// LintPolicy finds what is wrong with a policy that compiles.
func LintPolicy(ctx context.Context, p config.Policy, set *policies.Set, now time.Time) ([]lint.Finding, error) {
	in := lint.Input{Set: set, Now: now}
	_, cfg := sources(p, config.Approvers{})
	for i, c := range p.Connections {
		conn := lint.Connection{Name: c.Name, Protocol: call.Protocol(c.Protocol), Credentialed: c.Credential.Secret != (config.Secret{}),
			Position: policies.Position(c.Position)}
		for j, f := range cfg.Connections[i].Functions {
			conn.Functions = append(conn.Functions, lint.Function{Name: f, Position: policies.Position(c.FunctionPosition(j))})
		}
		in.Connections = append(in.Connections, conn)
	}
	return lint.Run(ctx, in)
}
