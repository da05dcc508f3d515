package console

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"time"

	"github.com/callgate/callgate/call/tool"
	"github.com/callgate/callgate/control"
)

// Tool is what an MCP server says of one tool, and what of it was accepted.
type Tool struct {
	Connection string `json:"connection"`
	// Name as [tool.Visible] shows it, and Tool as it is.
	Name       string    `json:"name"`
	Tool       string    `json:"tool"`
	State      string    `json:"state"` // pinned, new, changed, gone
	Accepted   string    `json:"accepted,omitempty"`
	Offered    string    `json:"offered,omitempty"` // SHA-256 of the definition, as Accepted
	Author     string    `json:"author,omitempty"`
	Reason     string    `json:"reason,omitempty"`
	AcceptedAt time.Time `json:"accepted_at,omitzero"`
	OfferedAt  time.Time `json:"offered_at,omitzero"`
	// Changes is what differs between the two, nothing being hidden in it.
	Changes []ToolChange `json:"changes,omitempty"`
	// Hidden is how many characters of what is offered nobody would see.
	Hidden int `json:"hidden,omitempty"`
	// Definition is what is offered, else what was accepted, as it is.
	Definition json.RawMessage `json:"definition,omitempty"`
}

// ToolChange is one difference, as [tool.Visible] shows it.
type ToolChange struct {
	Path   string `json:"path"`
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
}

// Accept accepts definitions by their hash.
type Accept struct {
	Tools  []AcceptedTool `json:"tools"`
	Reason string         `json:"reason,omitempty"`
}

// AcceptedTool names a definition.
type AcceptedTool struct {
	Tool string `json:"tool"`
	Hash string `json:"hash"` // SHA-256, in full
}

// ToolsAccepted tells that definitions were accepted.
type ToolsAccepted struct {
	Behind []string `json:"behind,omitempty"` // nodes that had not answered when the wait was over
}

// Forget forgets tools that the server has no more.
type Forget struct {
	Tools  []string `json:"tools"` // by name
	Reason string   `json:"reason,omitempty"`
}

// ToolsForgotten tells that tools were forgotten.
type ToolsForgotten struct {
	Behind []string `json:"behind,omitempty"` // nodes that had not answered when the wait was over
}

func (s *Server) toolsOf(w http.ResponseWriter, r *http.Request, _ string) {
	list, err := s.cfg.Control.Tools(r.Context(), r.URL.Query().Get("connection"))
	if err != nil {
		s.uncontrolled(w, r, err)
		return
	}
	out := make([]Tool, len(list))
	for i, t := range list {
		out[i] = toolOf(t)
	}
	answer(w, out)
}

func toolOf(t control.Tool) Tool {
	out := Tool{Connection: t.Connection, Name: tool.Visible(t.Name), Tool: t.Name, State: t.State(), Accepted: t.Accepted.Hash, Offered: t.Offered.Hash,
		Author: t.Author, Reason: t.Reason, AcceptedAt: t.AcceptedAt, OfferedAt: t.OfferedAt, Definition: t.Offered.Text, Hidden: t.Offered.Hidden()}
	if out.Definition == nil {
		out.Definition = t.Accepted.Text
	}
	if out.State == control.ToolNew || out.State == control.ToolChanged {
		for _, c := range tool.Differences(t.Accepted, t.Offered) {
			out.Changes = append(out.Changes, ToolChange(c))
		}
	}
	return out
}

func (s *Server) acceptTools(w http.ResponseWriter, r *http.Request, by string) {
	var in Accept
	if !read(w, r, 1<<20, &in, "tools, each with tool and hash, and with reason") {
		return
	}
	list := make([]control.Acceptance, len(in.Tools))
	for i, t := range in.Tools {
		list[i] = control.Acceptance(t)
	}
	late, err := behind(s.cfg.Control.AcceptTools(r.Context(), r.PathValue("connection"), list, by, in.Reason))
	if err != nil {
		s.uncontrolled(w, r, err)
		return
	}
	answer(w, ToolsAccepted{Behind: late})
}

func (s *Server) forgetTools(w http.ResponseWriter, r *http.Request, by string) {
	var in Forget
	if !read(w, r, 1<<20, &in, "tools, by name, and reason") {
		return
	}
	late, err := behind(s.cfg.Control.ForgetTools(r.Context(), r.PathValue("connection"), in.Tools, by, in.Reason))
	if err != nil {
		s.uncontrolled(w, r, err)
		return
	}
	answer(w, ToolsForgotten{Behind: late})
}

// Tools lists what is known of a connection's tools, or of all where it is "".
func (c *Client) Tools(ctx context.Context, connection string) ([]Tool, error) {
	var out []Tool
	return out, c.do(ctx, http.MethodGet, "/api/v1/tools?connection="+url.QueryEscape(connection), nil, &out)
}

// AcceptTools accepts definitions, and returns the servers that have not answered.
func (c *Client) AcceptTools(ctx context.Context, connection string, a Accept) ([]string, error) {
	var out struct {
		Behind []string `json:"behind"`
	}
	err := c.do(ctx, http.MethodPost, "/api/v1/tools/"+url.PathEscape(connection)+"/accept", a, &out)
	return out.Behind, err
}

// ForgetTools forgets tools that the server has no more, and returns the servers
// that have not answered.
func (c *Client) ForgetTools(ctx context.Context, connection string, f Forget) ([]string, error) {
	var out struct {
		Behind []string `json:"behind"`
	}
	err := c.do(ctx, http.MethodPost, "/api/v1/tools/"+url.PathEscape(connection)+"/forget", f, &out)
	return out.Behind, err
}
