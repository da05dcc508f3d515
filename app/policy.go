package app

import (
	"encoding/json"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/policies"
	"github.com/callgate/callgate/policies/backtest"
)

// CheckPolicy reports everything that would keep a policy from going live,
// without contacting anything.
// defaults may decide held calls of rules that name nobody.
func CheckPolicy(p config.Policy, defaults config.Approvers) error {
	_, err := compile(p, defaults)
	return err
}

// compile turns the rules into a set that can decide.
func compile(p config.Policy, defaults config.Approvers) (*policies.Set, error) {
	if err := checkMasks(p); err != nil {
		return nil, err
	}
	rules, cfg := sources(p, defaults)
	for i, c := range p.Connections {
		// Only here: tests and replays of a policy know nothing of pins.
		var err error
		if cfg.Connections[i].Pinning, err = pinning(c, defaults); err != nil {
			return nil, err
		}
	}
	return policies.Compile(rules, cfg)
}

// ReplayPolicy compiles a policy for recorded calls to be replayed through.
func ReplayPolicy(p config.Policy, defaults config.Approvers) (backtest.Policy, error) {
	rules, cfg := sources(p, defaults)
	cfg.Replay = true
	set, err := policies.Compile(rules, cfg)
	return backtest.Policy{Set: set, Connections: cfg.Connections}, err
}

// sources are what a policy is compiled of.
func sources(p config.Policy, defaults config.Approvers) ([]policies.Rule, policies.Config) {
	connections := make([]policies.Connection, len(p.Connections))
	for i, c := range p.Connections {
		connections[i] = policies.Connection{Name: c.Name, Protocol: call.Protocol(c.Protocol), Enforce: c.Validate != nil && *c.Validate}
		for _, f := range c.Functions {
			connections[i].Functions = append(connections[i].Functions, f.Name)
			// Loading the policy has checked that it can be read.
			if text, err := f.SchemaText(); err == nil && text != nil {
				if connections[i].Schemas == nil {
					connections[i].Schemas = map[string]json.RawMessage{}
				}
				connections[i].Schemas[f.Name] = text
			}
		}
	}
	own := detectorsOf(p)
	rules := make([]policies.Rule, len(p.Rules))
	for i, r := range p.Rules {
		rules[i] = rule(r, defaults, own)
	}
	grants := make([]policies.Grant, len(p.Grants))
	for i, g := range p.Grants {
		grants[i] = policies.Grant{Name: g.Name, Identities: g.Identities, Groups: g.Groups, Actors: g.Actors,
			Connections: g.Connections, Functions: g.Functions, When: g.When, Until: g.Until,
			Position: policies.Position(g.Position), WhenPosition: policies.Position(g.WhenPosition)}
	}
	return rules, policies.Config{Version: p.Version, Connections: connections, Grants: grants}
}

func rule(r config.Rule, defaults config.Approvers, own ownDetectors) policies.Rule {
	out := policies.Rule{
		Name: r.Name, Connections: r.Connections, Functions: r.Functions, When: r.When,
		Action: r.Action, Shadow: r.Shadow, Message: r.Message,
		Position: policies.Position(r.Position), WhenPosition: policies.Position(r.WhenPosition),
	}
	switch r.Action {
	case "hold":
		out.Hold = hold(r.Hold, defaults)
	case "mask":
		out.Mask = maskRule(r.Mask, own)
	}
	return out
}

// hold is how a rule's calls wait.
func hold(h config.Hold, defaults config.Approvers) call.Hold {
	out := call.Hold{Timeout: h.Timeout, Reason: h.Reason == "required", BreakGlass: call.Approvers(h.BreakGlass), Grant: h.MaxGrant}
	out.Valid = h.Valid
	if retry, open, err := h.Wait.Retry(); retry && err == nil {
		out.Wait, out.Open = call.WaitRetry, open
	}
	for _, s := range h.Stages {
		out.Stages = append(out.Stages, call.Stage{Approvers: call.Approvers{Groups: s.Groups, People: s.People}, Need: int(s.Need)})
	}
	if len(out.Stages) == 0 {
		who := h.Approvers
		if who.Nobody() {
			who = defaults
		}
		out.Stages = []call.Stage{{Approvers: call.Approvers(who), Need: int(h.Need)}}
	}
	return out
}

// masks are what every response of a connection hides.
func masks(c config.Connection, own ownDetectors) call.Mask {
	var m call.Mask
	for _, r := range c.Mask {
		m.Rules = append(m.Rules, maskRule(r, own))
	}
	return m
}

// requestMasks are what no function of a connection is sent.
func requestMasks(c config.Connection, own ownDetectors) call.Mask {
	var m call.Mask
	for _, r := range c.MaskRequests {
		m.Rules = append(m.Rules, maskRule(r, own))
	}
	return m
}

func maskRule(m config.Mask, own ownDetectors) call.MaskRule {
	r := call.MaskRule{Name: m.Name, Paths: m.Paths, Keys: m.Keys, Detect: own.refs(m.Detect), How: m.How}
	for _, f := range m.For {
		r.For = append(r.For, call.MaskFor{Callers: call.Approvers{Groups: f.Groups, People: f.Identities}, Actors: f.Actors, BreakGlass: f.BreakGlass, How: f.How})
	}
	return r
}
