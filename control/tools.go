package control

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/call/tool"
	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/xds/policyv1"
)

// Tool is what an MCP server says of one tool, and what of it was accepted.
type Tool struct {
	Connection string
	Name       string
	Accepted   tool.Definition // zero: never
	Offered    tool.Definition // zero: the server has it no more
	Author     string          // who accepted it, "issuer|subject", or firstUse
	Reason     string
	AcceptedAt time.Time
	OfferedAt  time.Time // when what is offered was first seen
}

// The states of a tool.
const (
	ToolPinned  = "pinned"  // offered as it was accepted
	ToolNew     = "new"     // nobody has accepted it
	ToolChanged = "changed" // offered otherwise than it was accepted
	ToolGone    = "gone"    // accepted, and not offered now
)

// State is one of the Tool constants.
func (t Tool) State() string {
	switch {
	case t.Accepted.Hash == "" && t.Offered.Hash == "":
		return ToolGone
	case t.Accepted.Hash == "":
		return ToolNew
	case t.Offered.Hash == "":
		return ToolGone
	case t.Offered.Hash != t.Accepted.Hash:
		return ToolChanged
	}
	return ToolPinned
}

// firstUse stands where nobody in person accepted a tool.
const firstUse = "first use"

// ErrUnknownTool says that there is nothing to accept.
var ErrUnknownTool = errors.New("the server does not offer that; callgate tools diff shows what it offers")

// Acceptance names a definition by its hash, so that nobody accepts what they
// have not seen.
type Acceptance struct{ Tool, Hash string }

// Report takes what a decision server found that an MCP server offers: all of
// its tools. What is new or changed is noted and, at the connection's first use,
// accepted, where the policy says so.
func (p *Plane) Report(ctx context.Context, in *policyv1.ToolReport) error {
	connection := in.GetConnection()
	offered := map[string]tool.Definition{}
	twice, total := map[string]bool{}, 0
	for _, text := range in.GetDefinitions() {
		d, err := tool.Read(text)
		if err != nil {
			return fmt.Errorf("a tool that %s reports of %s: %w", in.GetNode(), connection, err)
		}
		if _, there := offered[d.Name]; there {
			twice[d.Name] = true
		}
		offered[d.Name] = d
		total += len(d.Text)
	}
	if len(offered) > tool.MaxTools || total > tool.MaxTotal {
		return fmt.Errorf("%s reports %d tools with %d bytes of %s; the most is %d with %d", in.GetNode(), len(offered), total, connection, tool.MaxTools, tool.MaxTotal)
	}
	for name := range twice {
		delete(offered, name) // two definitions of one name are none
	}
	ctx = begun(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	pinning, known := p.pinning(connection)
	if !known || pinning.Pin == "off" {
		return fmt.Errorf("the policy pins no tools of connection %q", connection)
	}
	stored, err := p.cfg.Store.tools(ctx, connection)
	if err != nil {
		return err
	}
	asked, err := p.cfg.Store.asked(ctx)
	if err != nil {
		return err
	}
	accept := !asked[connection] && pinning.Pin == "first_use"
	now := p.cfg.Now().UTC()
	var changed []Tool
	var told []string
	for _, t := range stored {
		d := offered[t.Name]
		delete(offered, t.Name)
		if d.Hash == t.Offered.Hash {
			continue
		}
		t.Offered, t.OfferedAt = d, now
		changed = append(changed, t)
		told = append(told, t.told())
	}
	for _, name := range slices.Sorted(maps.Keys(offered)) {
		t := Tool{Connection: connection, Name: name, Offered: offered[name], OfferedAt: now}
		if accept {
			t.Accepted, t.Author, t.AcceptedAt = t.Offered, firstUse, now
		}
		changed = append(changed, t)
		told = append(told, t.told())
	}
	if len(changed) == 0 && asked[connection] {
		return nil
	}
	if err := p.cfg.Store.putTools(ctx, connection, changed, nanos(now)); err != nil {
		return err
	}
	what := call.ChangeToolsOffered
	if accept {
		what = call.ChangeToolsAccepted
	}
	p.note(ctx, call.ChangeEvent{What: what, Version: connection, Detail: strings.Join(told, "; ")})
	if !accept {
		p.cfg.Log.WarnContext(ctx, "an MCP server's tools are not as they were accepted; callgate tools diff shows how", "connection", connection, "tools", told)
	}
	return p.spreadTools(ctx, connection)
}

// told says how a tool stands, for the audit trail.
func (t Tool) told() string {
	text := tool.Visible(t.Name) + " " + t.State()
	if h := t.Offered.Hash; h != "" {
		text += " " + h[:12]
	}
	return text
}

// pinning is what the policies that decide say of a connection's tools.
func (p *Plane) pinning(connection string) (config.Tools, bool) {
	for _, v := range []string{p.now.Stable, p.now.Canary} {
		for _, c := range p.at[v].policy.Connections {
			if c.Name == connection && c.Protocol == "mcp" {
				return c.MCP.Tools, true
			}
		}
	}
	return config.Tools{}, false
}

// AcceptTools accepts definitions as they are offered now.
func (p *Plane) AcceptTools(ctx context.Context, connection string, list []Acceptance, author, reason string) error {
	if len(reason) > maxReason {
		return fmt.Errorf("%w: the reason is longer than %d bytes", ErrInvalid, maxReason)
	}
	if len(list) == 0 {
		return fmt.Errorf("%w: no tool is named", ErrInvalid)
	}
	ctx = begun(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	stored, err := p.cfg.Store.tools(ctx, connection)
	if err != nil {
		return err
	}
	now := p.cfg.Now().UTC()
	var changed []Tool
	var told []string
	for _, a := range list {
		i := slices.IndexFunc(stored, func(t Tool) bool { return t.Name == a.Tool })
		switch {
		case i < 0 || stored[i].Offered.Hash == "":
			return fmt.Errorf("tool %q of connection %q: %w", a.Tool, connection, ErrUnknownTool)
		case a.Hash == "" || a.Hash != stored[i].Offered.Hash:
			return fmt.Errorf("%w: tool %q is offered as %s and not as %.64s; look at callgate tools diff %s again", ErrInvalid, a.Tool, stored[i].Offered.Hash, a.Hash, connection)
		}
		t := stored[i]
		t.Accepted, t.Author, t.Reason, t.AcceptedAt = t.Offered, author, reason, now
		changed = append(changed, t)
		told = append(told, t.told())
	}
	if err := p.cfg.Store.putTools(ctx, connection, changed, nanos(now)); err != nil {
		return err
	}
	return p.changedTools(ctx, call.ChangeToolsAccepted, connection, told, author, reason)
}

// ForgetTools forgets tools that the server has no more. One that comes back is
// then new, whatever it was before.
func (p *Plane) ForgetTools(ctx context.Context, connection string, names []string, author, reason string) error {
	switch {
	case len(reason) > maxReason:
		return fmt.Errorf("%w: the reason is longer than %d bytes", ErrInvalid, maxReason)
	case len(names) == 0:
		return fmt.Errorf("%w: no tool is named", ErrInvalid)
	}
	ctx = begun(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	stored, err := p.cfg.Store.tools(ctx, connection)
	if err != nil {
		return err
	}
	var gone []Tool
	var told []string
	for _, name := range names {
		i := slices.IndexFunc(stored, func(t Tool) bool { return t.Name == name })
		switch {
		case i < 0:
			return fmt.Errorf("%w: connection %q has no tool %q; callgate tools list %s shows those there are", ErrInvalid, connection, name, connection)
		case stored[i].State() != ToolGone:
			return fmt.Errorf("%w: the server of connection %q offers tool %q; only those that it has no more are forgotten", ErrInvalid, connection, name)
		}
		told = append(told, tool.Visible(name)+" "+stored[i].Accepted.Hash[:12])
		gone = append(gone, Tool{Connection: connection, Name: name})
	}
	if err := p.cfg.Store.putTools(ctx, connection, gone, nanos(p.cfg.Now().UTC())); err != nil {
		return err
	}
	return p.changedTools(ctx, call.ChangeToolsForgotten, connection, told, author, reason)
}

// changedTools puts on record what somebody did with tools of a connection, and
// tells the decision servers.
func (p *Plane) changedTools(ctx context.Context, what, connection string, told []string, author, reason string) error {
	detail := strings.Join(told, "; ")
	if reason != "" {
		detail += ": " + reason
	}
	p.note(ctx, call.ChangeEvent{What: what, Version: connection, By: author, Detail: detail})
	return p.spreadTools(ctx, connection)
}

// Tools lists what is known of a connection's tools, or of all where it is "".
func (p *Plane) Tools(ctx context.Context, connection string) ([]Tool, error) {
	return p.cfg.Store.tools(ctx, connection)
}

// toolSet is a connection's tools as decision servers get them.
func toolSet(connection string, list []Tool) *policyv1.ToolSet {
	out := &policyv1.ToolSet{Connection: connection}
	for _, t := range list {
		one := &policyv1.ToolSet_Tool{Name: t.Name, Definition: t.Accepted.Text}
		if t.State() == ToolChanged {
			one.Offered = t.Offered.Hash
		}
		out.Tools = append(out.Tools, one)
	}
	return out
}

func (p *Plane) spreadTools(ctx context.Context, connection string) error {
	stored, err := p.cfg.Store.tools(ctx, connection)
	if err != nil {
		return err
	}
	set := []*policyv1.ToolSet{toolSet(connection, stored)}
	return p.spread(ctx, func(ctx context.Context) error {
		if p.cfg.Local != nil {
			if err := p.cfg.Local.Tools(ctx, set, nil); err != nil {
				return err
			}
		}
		return p.cfg.Servers.Tools(set)
	})
}

// restoreTools puts what is pinned in force, before anything decides.
func (p *Plane) restoreTools(ctx context.Context) error {
	stored, err := p.cfg.Store.tools(ctx, "")
	if err != nil {
		return err
	}
	asked, err := p.cfg.Store.asked(ctx)
	if err != nil {
		return err
	}
	by := map[string][]Tool{}
	for _, t := range stored {
		by[t.Connection] = append(by[t.Connection], t)
	}
	var set []*policyv1.ToolSet
	for _, connection := range slices.Sorted(maps.Keys(asked)) {
		set = append(set, toolSet(connection, by[connection]))
	}
	if p.cfg.Local != nil {
		if err := p.cfg.Local.Tools(ctx, set, nil); err != nil {
			return fmt.Errorf("take up what is pinned of tools: %w", err)
		}
	}
	return p.cfg.Servers.Tools(set)
}
