package app

import (
	"context"
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

// LintPolicy finds what is wrong with a policy that compiles.
func LintPolicy(ctx context.Context, p config.Policy, set *policies.Set, now time.Time) ([]lint.Finding, error) {
	in := lint.Input{Set: set, Now: now}
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
