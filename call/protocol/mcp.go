package protocol

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"unicode"

	"github.com/callgate/callgate/call"
)

// mcp reads the Model Context Protocol's streamable HTTP transport (revisions
// 2025-06-18 to 2026-07-28): a POST carries one JSON-RPC message, a GET opens
// the server's event stream, a DELETE ends the session. What is used names the
// function: "tools/call search", "resources/read file:///x", "prompts/get
// greet", "completion/complete ref/prompt greet"; other messages go by their
// method.
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
	inv := Invocation{Session: req.Headers.Get("mcp-session-id"), Args: map[string]any{}, ArgsJSON: json.RawMessage("{}")}
	switch req.Method {
	case http.MethodGet, http.MethodDelete:
		inv.Function = mcpStream
		if req.Method == http.MethodDelete {
			inv.Function = mcpEnd
		}
		if len(req.Body) > 0 {
			return inv, malformed("a %s request of MCP has no body; send none", req.Method)
		}
		return inv, nil
	case http.MethodPost:
	default:
		return inv, &Error{Reason: call.ReasonUnknownFunction, Message: "MCP uses POST, GET and DELETE; send one of them"}
	}
	m, err := readMessage(req)
	inv.Function, inv.RPCID = m.method, m.id
	switch {
	case err != nil:
		return inv, err
	case m.method == "" && m.answer:
		return inv, inv.answer(m)
	case m.method == "":
		return inv, malformed("the MCP message has neither a method nor a result; send one of them")
	case m.answer:
		return inv, malformed("the MCP message has both a method and a result; send one of them")
	}
	name, err := inv.use(m)
	if err != nil {
		return inv, err
	}
	return inv, mirrored(req, m.method, name)
}

// answer takes what the client answers to a request of the server's: its result
// or error is the arguments. It is no call of its own, so it has no RPC id.
func (inv *Invocation) answer(m message) error {
	inv.Function, inv.RPCID = mcpAnswer, nil
	inv.Args = map[string]any{}
	for _, key := range []string{"id", "result", "error"} {
		if v, has := m.all[key]; has {
			inv.Args[key] = v
		}
	}
	return inv.write()
}

// named says where a message names what it uses.
func named(method string) (key string, ok bool) {
	switch method {
	case "tools/call", "prompts/get":
		return "name", true
	case "resources/read", "resources/subscribe", "resources/unsubscribe":
		return "uri", true
	}
	return "", false
}

// use names what a message uses, and takes its arguments.
func (inv *Invocation) use(m message) (name string, err error) {
	params, object := m.params.(map[string]any)
	if err := misspelt("params", params, []string{"name", "arguments", "uri", "ref", "_meta"}, false); err != nil {
		return "", err
	}
	if m.method == "completion/complete" {
		return "", inv.complete(m, params)
	}
	key, names := named(m.method)
	if !names {
		return "", inv.params(m.params, m.raw.params)
	}
	if !object {
		return "", malformed("%s needs params", m.method)
	}
	name, _ = params[key].(string)
	if name == "" || len(name) > maxName || strings.ContainsFunc(name, unicode.IsControl) {
		return "", malformed("%s needs params.%s, a text of at most %d bytes without control characters", m.method, key, maxName)
	}
	inv.Function = m.method + " " + name
	if key == "uri" {
		if climbs(name) {
			return name, errClimbs
		}
		return name, inv.params(map[string]any{"uri": name}, json.RawMessage(`{"uri":`+string(m.raw.uri)+`}`))
	}
	switch args := params["arguments"].(type) {
	case nil:
		return name, inv.params(nil, nil)
	case map[string]any:
		return name, inv.params(args, m.raw.arguments)
	default:
		return name, malformed("params.arguments of %s must be an object", m.method)
	}
}

var errClimbs = malformed("the resource's uri has a dot segment or a backslash, which servers resolve differently; send the uri that is meant")

// complete takes a request for the values that an argument of a prompt, or of a
// resource template, can have: who may not use those is not to learn them so.
func (inv *Invocation) complete(m message, params map[string]any) error {
	ref, _ := params["ref"].(map[string]any)
	if err := misspelt("params.ref", ref, []string{"type", "name", "uri"}, false); err != nil {
		return err
	}
	kind, _ := ref["type"].(string)
	key := map[string]string{"ref/prompt": "name", "ref/resource": "uri"}[kind]
	name, _ := ref[key].(string)
	if key == "" || name == "" || len(name) > maxName || strings.ContainsFunc(name, unicode.IsControl) {
		return malformed("completion/complete needs params.ref: a type of ref/prompt with a name, or ref/resource with a uri, of at most %d bytes without control characters", maxName)
	}
	inv.Function = m.method + " " + kind + " " + name
	if key == "uri" && climbs(name) {
		return errClimbs
	}
	return inv.params(m.params, m.raw.params)
}

// maxEscapes is how often an escape may itself be escaped, and be seen through.
const maxEscapes = 8

// maxName bounds the name of what a message uses, in bytes.
const maxName = 4096

// climbs reports whether a URI's path has a dot segment, however often it is
// escaped: rules match the text, servers the file.
func climbs(uri string) bool {
	if i := strings.IndexAny(uri, "?#"); i >= 0 {
		uri = uri[:i]
	}
	for range maxEscapes {
		plain, err := url.PathUnescape(uri)
		if err != nil {
			break // a percent sign for itself
		}
		uri = plain
	}
	if strings.Contains(uri, `\`) {
		return true
	}
	for s := range strings.SplitSeq(uri, "/") {
		if s == "." || s == ".." {
			return true
		}
	}
	return false
}

// mirrored makes sure that the headers which repeat parts of the message for
// those on the way (revision 2026-07-28) say the same.
func mirrored(req *call.Request, method, name string) error {
	for _, h := range req.Headers {
		want := method
		switch h.Name {
		case "mcp-name":
			want = name
		case "mcp-method":
		default:
			continue
		}
		got := h.Value
		if inner, ok := strings.CutPrefix(got, "=?base64?"); ok {
			inner, _ = strings.CutSuffix(inner, "?=")
			b, err := base64.StdEncoding.DecodeString(inner)
			if err != nil {
				return malformed("header %s is not the base64 that it says", h.Name)
			}
			got = string(b)
		}
		if got != want {
			return malformed("header %s does not say what the message says; send the same, or no header", h.Name)
		}
	}
	return nil
}
