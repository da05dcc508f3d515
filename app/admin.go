package app

import (
	"context"
	"net"

	"github.com/callgate/callgate/console"
)

func (a *App) serveConsole(ctx context.Context, l net.Listener) error {
	api := console.New(console.Config{Approvals: a.people.approvals, Identifier: a.people.verifier, Status: a.status, Log: a.log})
	return serveHTTP(ctx, l, api.Handler())
}

// status is what the process says of itself.
func (a *App) status() console.Status {
	s := console.Status{Version: a.opts.Version, Envoys: []console.Envoy{}}
	if p := a.policy.Load(); p != nil {
		s.PolicyVersion = p.version
	}
	for _, n := range a.xds.Status() {
		s.Envoys = append(s.Envoys, console.Envoy{Node: n.ID, Version: n.Version, Pending: n.Pending, Refused: n.Refused, Since: n.Since})
	}
	return s
}
