package envoy

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path"
	"strconv"
	"time"

	"github.com/callgate/callgate/config"
)

// plan is the input with what follows from it worked out once.
type plan struct {
	Input
	connections []connection
	services    target
	longestHold time.Duration
	bodyTimeout time.Duration // for a request to arrive, holds apart
}

// connection is a configured connection with what Envoy needs to know of it.
type connection struct {
	config.Connection
	upstream target
	tls      bool
	server   string        // TLS server name
	path     string        // what replaces the matched path; "" leaves it
	hold     time.Duration // longest that a rule may hold its calls; 0: never
	masked   bool          // some response may be masked
}

// target is a host and port.
type target struct {
	host string
	port uint32
}

func (t target) literal() bool {
	_, err := netip.ParseAddr(t.host)
	return err == nil
}

func (t target) String() string { return net.JoinHostPort(t.host, strconv.Itoa(int(t.port))) }

func newPlan(in Input) (plan, error) {
	p := plan{Input: in, bodyTimeout: bodyTimeout}
	var err error
	if p.services, err = parseTarget(in.Settings.Services); err != nil {
		return plan{}, fmt.Errorf("envoy.services: %w", err)
	}
	for _, c := range in.Policy.Connections {
		u, err := url.Parse(c.Upstream.URL)
		if err != nil {
			return plan{}, fmt.Errorf("connection %q: upstream.url: %w", c.Name, err)
		}
		out := connection{Connection: c, tls: u.Scheme == "https", path: u.Path, server: c.Upstream.ServerName}
		port := u.Port()
		if port == "" {
			port = map[bool]string{true: "443", false: "80"}[out.tls]
		}
		if out.upstream, err = parseTarget(net.JoinHostPort(u.Hostname(), port)); err != nil {
			return plan{}, fmt.Errorf("connection %q: upstream.url: %w", c.Name, err)
		}
		if out.server == "" {
			out.server = u.Hostname()
		}
		// Lists of tools are read too, to take out what a caller may not use,
		// what is answered to a batch, to tell its calls apart, and what a model
		// answers, to judge the tool calls in it.
		out.masked = len(c.Mask) > 0 || c.Protocol == "mcp" || c.Protocol == "openai" || c.Batch.Accept
		if c.MCP.Tools.Changed == "hold" && c.MCP.Tools.Pin != "off" {
			out.hold = c.MCP.Tools.Hold.KeptOpen()
		}
		for _, r := range in.Policy.Rules {
			if r.Shadow || !touches(r, c.Name) {
				continue
			}
			switch r.Action {
			case "hold":
				out.hold = max(out.hold, r.Hold.KeptOpen())
			case "mask":
				out.masked = true
			}
		}
		if len(c.GRPC.Streaming) > 0 {
			// A request that streams arrives for as long as it lasts.
			p.bodyTimeout = streamIdle
		}
		p.longestHold = max(p.longestHold, out.hold)
		p.connections = append(p.connections, out)
	}
	return p, nil
}

func parseTarget(addr string) (target, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return target{}, fmt.Errorf("%q is not host:port: %w", addr, err)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return target{}, fmt.Errorf("%q has no valid port: %w", addr, err)
	}
	return target{host: host, port: uint32(n)}, nil
}

// touches reports whether a rule may look at calls of a connection. Connection
// names have no slash, so path.Match's star means any characters, as in rules.
func touches(r config.Rule, connection string) bool {
	for _, glob := range r.Connections {
		if ok, err := path.Match(glob, connection); ok || err != nil {
			return true
		}
	}
	return len(r.Connections) == 0
}
