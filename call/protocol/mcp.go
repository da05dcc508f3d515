package protocol

import (
	"net/http"

	"github.com/callgate/callgate/call"
)

// mcp reads the Model Context Protocol's streamable HTTP transport (revision
// 2025-06-18): a POST carries one JSON-RPC message, a GET opens the server's
// event stream, a DELETE ends the session. What is used names the function:
// "tools/call search", "resources/read file:///x", "prompts/get greet"; other
// messages go by their method.
type mcp struct{}

// The functions of requests without a message, and of a client's answers to
// the server's own requests.
const (
	mcpStream = "session/stream"
	mcpEnd    = "session/end"
	mcpAnswer = "response"
)

func (mcp) Parse(req *call.Request) (Invocation, error) {
	if err := sane(req); err != nil {
		return Invocation{}, err
	}
	if _, _, err := split(req.Path); err != nil {
		return Invocation{}, err
	}
	inv := Invocation{Session: req.Headers.Get("mcp-session-id"), Args: map[string]any{}, ArgsJSON: []byte("{}")}
	switch req.Method {
	case http.MethodGet, http.MethodDelete:
		inv.Function = mcpStream
		if req.Method == http.MethodDelete {
			inv.Function = mcpEnd
		}
		if len(req.Body) > 0 {
			return inv, malformed("a %s request of MCP has no body", req.Method)
		}
		return inv, nil
	case http.MethodPost:
	default:
		return inv, &Error{Reason: call.ReasonUnknownFunction, Message: "MCP uses POST, GET and DELETE only"}
	}
	m, err := readMessage(req)
	inv.Function, inv.RPCID = m.method, m.id
	switch {
	case err != nil:
		return inv, err
	case m.method == "" && m.answer:
		inv.Function, inv.RPCID = mcpAnswer, nil
		return inv, nil
	case m.method == "":
		return inv, malformed("the MCP message has neither method nor result")
	case m.answer:
		return inv, malformed("the MCP message has both a method and a result")
	}
	return inv, inv.mcpParams(m)
}

// mcpParams names what a message uses and takes its arguments.
func (inv *Invocation) mcpParams(m message) error {
	key, names := map[string]string{"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}[m.method]
	if !names {
		return inv.params(m.params)
	}
	params, ok := m.params.(map[string]any)
	if !ok {
		return malformed("%s needs params", m.method)
	}
	name, ok := params[key].(string)
	if !ok || name == "" {
		return malformed("%s needs params.%s", m.method, key)
	}
	inv.Function = m.method + " " + name
	if m.method == "resources/read" {
		return inv.params(map[string]any{"uri": name})
	}
	switch args := params["arguments"].(type) {
	case nil:
		return inv.params(nil)
	case map[string]any:
		return inv.params(args)
	default:
		return malformed("params.arguments of %s must be an object", m.method)
	}
}
