package app

import (
	"context"

	"github.com/callgate/callgate/call/tool"
	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/discovery"
	"github.com/callgate/callgate/extauthz/connection"
)

// watchTools has the servers asked whose tools are pinned by a policy that
// decides.
func (d *decider) watchTools() {
	if !d.asks {
		return
	}
	list := map[string]*toolWatch{}
	for _, v := range []string{d.rollout.GetCanary(), d.rollout.GetStable()} {
		h := d.held[v]
		if h == nil {
			continue
		}
		for _, c := range h.policy.Connections {
			if !pinsTools(c) {
				continue
			}
			if d.report == nil {
				d.log.Warn("tools are pinned by a control plane and there is none, so calls to them are denied; run the role xds, name one (control.server), or set mcp.tools.pin: off", "connection", c.Name)
				continue
			}
			fetch, err := d.toolFetch(c, h.connections.Named(c.Name))
			if err != nil {
				d.log.Error("an MCP server can't be asked for its tools, so calls to them are denied", "connection", c.Name, "error", err)
				continue
			}
			list[c.Name] = &toolWatch{connection: c, fetch: fetch, report: d.report, node: d.cfg.Node, log: d.log, nudged: make(chan struct{}, 1), asked: make(chan struct{})}
		}
	}
	d.watches.keep(d.life, list)
}

func (d *decider) toolFetch(c config.Connection, built *connection.Connection) (func(context.Context) ([]tool.Definition, error), error) {
	endpoint, err := toolEndpoint(c)
	if err != nil {
		return nil, err
	}
	transport, err := toolTransport(c)
	if err != nil {
		return nil, err
	}
	cfg := discovery.Config{Endpoint: endpoint, Version: d.version, HTTP: transport}
	if built.Credential != nil {
		cfg.Header = built.Credential.Header
	}
	return func(ctx context.Context) ([]tool.Definition, error) { return discovery.Tools(ctx, cfg) }, nil
}
