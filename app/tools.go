package app

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/callgate/callgate/call/tool"
	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/policies"
	"github.com/callgate/callgate/xds/policyv1"
)

// pinsTools reports whether an MCP server is held to what it said of its tools.
func pinsTools(c config.Connection) bool { return c.Protocol == "mcp" && c.MCP.Tools.Pin != "off" }

// pinning is how rules judge calls to a connection's tools.
func pinning(c config.Connection, defaults config.Approvers) (*policies.Pinning, error) {
	if !pinsTools(c) {
		return nil, nil
	}
	out := &policies.Pinning{}
	if c.MCP.Tools.Changed == "hold" {
		h := hold(c.MCP.Tools.Hold, defaults)
		if who := h.Approvers(); len(who.Groups)+len(who.People) == 0 {
			return nil, fmt.Errorf("%s: connection %q: mcp.tools.changed is hold and nobody may approve; set mcp.tools.hold.approvers or approvals.approvers", c.Position, c.Name)
		}
		out.Hold = &h
	}
	return out, nil
}

// acceptedTools are a connection's accepted definitions.
type acceptedTools struct {
	rules  policies.Tools
	hashes map[string]string // by name
}

// acceptTools takes what the control plane pins of one connection.
func acceptTools(set *policyv1.ToolSet) (acceptedTools, error) {
	list, out := map[string]policies.Tool{}, acceptedTools{hashes: map[string]string{}}
	for _, t := range set.GetTools() {
		one := policies.Tool{Accepted: len(t.GetDefinition()) > 0, Changed: t.GetOffered() != ""}
		if one.Accepted {
			d, err := tool.Read(t.GetDefinition())
			if err != nil || d.Name != t.GetName() {
				return acceptedTools{}, fmt.Errorf("tool %q of connection %q is pinned as something else: %w", t.GetName(), set.GetConnection(), err)
			}
			one.Schema, out.hashes[d.Name] = d.InputSchema(), d.Hash
		}
		list[t.GetName()] = one
	}
	out.rules = policies.CompileTools(list)
	return out, nil
}

// toolWatch asks an MCP server for its tools, again and again, and tells the
// control plane.
type toolWatch struct {
	connection config.Connection
	fetch      func(context.Context) ([]tool.Definition, error)
	report     func(context.Context, *policyv1.ToolReport) error
	node       string
	log        *slog.Logger
	nudged     chan struct{} // asks before it is time
	asked      chan struct{} // closed when it was asked for the first time
	cancel     context.CancelFunc
}

// The pauses of a watch.
const (
	toolTimeout      = 30 * time.Second // of one asking
	firstToolPause   = 500 * time.Millisecond
	longestToolPause = time.Minute
	// nudgePause is the least between two times of asking, whatever lists
	// show: a server whose list is never the same must not keep us busy.
	nudgePause = 2 * time.Second
)

func (w *toolWatch) run(ctx context.Context) {
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = firstToolPause, longestToolPause
	failed := ""
	for first := true; ; first = false {
		err := w.once(ctx)
		if first {
			close(w.asked)
		}
		wait := w.connection.MCP.Tools.Refresh
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			wait = pause.NextBackOff()
			if text := err.Error(); text != failed {
				failed = text
				w.log.WarnContext(ctx, "the tools of an MCP server can't be told; what is pinned stays in force", "connection", w.connection.Name, "error", err)
			}
		default:
			pause.Reset()
			failed = ""
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(min(wait, nudgePause)):
		}
		select {
		case <-ctx.Done():
			return
		case <-w.nudged:
		case <-time.After(wait - min(wait, nudgePause)):
		}
	}
}

func (w *toolWatch) once(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, toolTimeout)
	defer cancel()
	list, err := w.fetch(ctx)
	if err != nil {
		return err
	}
	r := &policyv1.ToolReport{Node: w.node, Connection: w.connection.Name}
	for _, d := range list {
		r.Definitions = append(r.Definitions, d.Text)
	}
	return w.report(ctx, r)
}

func (w *toolWatch) nudge() {
	select {
	case w.nudged <- struct{}{}:
	default:
	}
}

// toolEndpoint is the URL that calls of a connection reach at its match.path.
func toolEndpoint(c config.Connection) (string, error) {
	u, err := url.Parse(c.Upstream.URL)
	if err != nil {
		return "", fmt.Errorf("upstream.url: %w", err)
	}
	if u.Path == "" {
		u.Path = c.Match.Path
	}
	if c.Match.Path != "/" && u.Path != "/" {
		u.Path = strings.TrimSuffix(u.Path, "/")
	}
	return u.String(), nil
}

// toolTransport reaches a connection's server as Envoy does.
func toolTransport(c config.Connection) (*http.Transport, error) {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.Proxy = nil
	t.MaxIdleConnsPerHost, t.IdleConnTimeout = 1, time.Second
	var err error
	if t.TLSClientConfig, err = upstreamTLS(c.Upstream); err != nil {
		return nil, err
	}
	return t, nil
}

// watches are the toolWatches that run, by connection.
type watches struct {
	mu      sync.Mutex
	running map[string]*toolWatch
}

// keep makes exactly the watches of list run.
func (w *watches) keep(life context.Context, list map[string]*toolWatch) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for name, old := range w.running {
		if next := list[name]; next == nil || next.connection.Version != old.connection.Version {
			old.cancel()
			delete(w.running, name)
		}
	}
	if w.running == nil {
		w.running = map[string]*toolWatch{}
	}
	for name, next := range list {
		if w.running[name] == nil {
			var ctx context.Context
			ctx, next.cancel = context.WithCancel(life)
			w.running[name] = next
			go next.run(ctx)
		}
	}
}

// firstTools is how long a start waits for MCP servers' first answers; calls to
// their tools are denied with the reason until they come.
const firstTools = 2 * time.Second

// first waits until each server was asked once, or firstTools is over.
func (w *watches) first(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, firstTools)
	defer cancel()
	w.mu.Lock()
	list := slices.Collect(maps.Values(w.running))
	w.mu.Unlock()
	for _, one := range list {
		select {
		case <-one.asked:
		case <-ctx.Done():
		}
	}
}

// nudge has a connection's server asked soon.
func (w *watches) nudge(connection string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if one := w.running[connection]; one != nil {
		one.nudge()
	}
}
