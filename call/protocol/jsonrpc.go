package protocol

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/callgate/callgate/call"
)

// jsonrpc reads JSON-RPC 2.0 over HTTP: one request or notification a POST. A
// batch is refused, since one decision can't be right for several calls.
type jsonrpc struct{}

func (jsonrpc) Parse(req *call.Request) (Invocation, error) {
	if err := sane(req); err != nil {
		return Invocation{}, err
	}
	if _, _, err := split(req.Path); err != nil {
		return Invocation{}, err
	}
	if req.Method != http.MethodPost {
		return Invocation{}, &Error{Reason: call.ReasonUnknownFunction, Message: "JSON-RPC calls are made with POST"}
	}
	m, err := readMessage(req)
	inv := Invocation{Function: m.method, RPCID: m.id}
	if err != nil {
		return inv, err
	}
	if m.method == "" {
		return inv, malformed("the JSON-RPC message has no method")
	}
	return inv, inv.params(m.params)
}

// message is a JSON-RPC request, notification or response.
type message struct {
	method string
	id     json.RawMessage
	params any
	answer bool // has result or error
}

// params makes a message's params the arguments: an object's members, or a
// list as the argument "params".
func (inv *Invocation) params(params any) error {
	switch p := params.(type) {
	case nil:
		inv.Args = map[string]any{}
	case map[string]any:
		inv.Args = p
	case []any:
		inv.Args = map[string]any{"params": p}
	default:
		return malformed("params must be an object or a list")
	}
	var err error
	if inv.ArgsJSON, err = json.Marshal(inv.Args); err != nil {
		return malformed("the arguments can't be written as JSON")
	}
	return nil
}

func readMessage(req *call.Request) (message, error) {
	var m message
	media, err := mediaType(req)
	switch {
	case err != nil:
		return m, err
	case !isJSON(media):
		return m, malformed("a JSON-RPC message must be of content-type application/json")
	}
	r := newReader(req.Body)
	switch r.dec.PeekKind() {
	case '[':
		return m, malformed("JSON-RPC batches are not accepted; send one message a request")
	case '{':
	default:
		return m, malformed("a JSON-RPC message must be a JSON object")
	}
	if _, err := r.dec.ReadToken(); err != nil {
		return m, r.syntax(err)
	}
	version := ""
	err = r.members(func(key string) error {
		switch key {
		case "id":
			raw, err := r.dec.ReadValue()
			if err != nil {
				return r.syntax(err)
			}
			if k := raw.Kind(); k != '"' && k != '0' && k != 'n' {
				return malformed("the JSON-RPC id must be a string or a number")
			}
			m.id = bytes.Clone(raw)
			return nil
		default:
			v, err := r.value(1)
			if err != nil {
				return err
			}
			return m.set(key, v, &version)
		}
	})
	if err != nil {
		return m, err
	}
	if version != "2.0" {
		return m, malformed(`the JSON-RPC message must have "jsonrpc": "2.0"`)
	}
	return m, r.end()
}

func (m *message) set(key string, v any, version *string) error {
	switch key {
	case "jsonrpc":
		*version, _ = v.(string)
	case "method":
		name, ok := v.(string)
		if !ok || name == "" {
			return malformed("the JSON-RPC method must be a text")
		}
		m.method = name
	case "params":
		m.params = v
	case "result", "error":
		m.answer = true
	default:
		for _, known := range []string{"jsonrpc", "method", "params", "id", "result", "error"} {
			if strings.EqualFold(key, known) {
				return malformed("the JSON-RPC member %q must be written %q", printable(key), known)
			}
		}
	}
	return nil
}
