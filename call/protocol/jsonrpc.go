package protocol

import (
	"encoding/json"
	"net/http"
	"strings"
	"unicode"

	"github.com/callgate/callgate/call"
)

// jsonrpc reads JSON-RPC 2.0 over HTTP: one request or notification a POST.
// [Batches] read several.
type jsonrpc struct{}

func (jsonrpc) Parse(req *call.Request) (Invocation, error) {
	if err := sane(req); err != nil {
		return Invocation{}, err
	}
	if _, _, err := split(req.Path); err != nil {
		return Invocation{}, err
	}
	if req.Method != http.MethodPost {
		return Invocation{}, &Error{Reason: call.ReasonUnknownFunction, Message: "JSON-RPC calls are made with POST; send one"}
	}
	m, err := readMessage(req)
	inv := Invocation{Function: m.method, RPCID: m.id}
	switch {
	case err != nil:
		return inv, err
	case m.answer:
		return inv, malformed("the JSON-RPC message has a result or an error, which only a server sends; send a request")
	case m.method == "":
		return inv, malformed("the JSON-RPC message has no method; name one")
	}
	return inv, inv.params(m.params, m.raw.params)
}

// message is a JSON-RPC request, notification or response.
type message struct {
	method string
	id     json.RawMessage // nil for a notification
	params any
	answer bool           // has result or error
	all    map[string]any // the members
	// raw is how some were written; the bytes are the request's.
	raw struct{ id, params, arguments, uri json.RawMessage }
}

// params makes a message's params, written as raw, the arguments: an object's
// members, or a list as the argument "params".
func (inv *Invocation) params(params any, raw json.RawMessage) error {
	switch p := params.(type) {
	case nil:
		inv.Args = map[string]any{}
		return inv.write()
	case map[string]any:
		inv.Args, inv.ArgsJSON = p, raw
		return nil
	case []any:
		inv.Args, inv.ArgsJSON = map[string]any{"params": p}, json.RawMessage(`{"params":`+string(raw)+`}`)
		return nil
	default:
		return malformed("params must be an object or a list")
	}
}

// members are all that JSON-RPC 2.0 knows.
var members = []string{"jsonrpc", "method", "params", "id", "result", "error"}

// readMessage reads the one message of a body. Where it fails, what was
// understood is in the message.
func readMessage(req *call.Request) (message, error) {
	var m message
	media, err := mediaType(req)
	switch {
	case err != nil:
		return m, err
	case !isJSON(media):
		return m, malformed("a JSON-RPC message must be of content-type application/json; send it so")
	}
	r, err := newReader(req.Body)
	if err != nil {
		return m, err
	}
	switch r.next() {
	case '[':
		return m, malformed("JSON-RPC batches are not accepted on this connection (batch.accept), and nowhere in a content-encoding; send one message a request")
	case '{':
	default:
		return m, malformed("the body is not a JSON-RPC message; send one JSON object")
	}
	r.member = func(above, key string, start, end int) {
		raw := json.RawMessage(req.Body[start:end:end])
		switch {
		case above == "" && key == "id":
			m.raw.id = raw
		case above == "" && key == "params":
			m.raw.params = raw
		case above == "params" && key == "arguments":
			m.raw.arguments = raw
		case above == "params" && key == "uri":
			m.raw.uri = raw
		}
	}
	v, err := r.document()
	if err != nil {
		return m, err
	}
	m.all, _ = v.(map[string]any)
	return m, m.read()
}

func (m *message) read() error {
	if err := misspelt("message", m.all, members, true); err != nil {
		return err
	}
	_, result := m.all["result"]
	_, failed := m.all["error"]
	m.answer = result || failed
	if id, has := m.all["id"]; has {
		if err := m.readID(id); err != nil {
			return err
		}
	}
	if m.all["jsonrpc"] != "2.0" {
		return malformed(`the JSON-RPC message must have "jsonrpc": "2.0"`)
	}
	if method, has := m.all["method"]; has {
		// The name is a function's in rules, where "tools/call" and a space
		// mean more.
		m.method, _ = method.(string)
		if m.method == "" || len(m.method) > maxMethod || strings.ContainsFunc(m.method, blank) {
			m.method = ""
			return malformed("the JSON-RPC method must be a text of at most %d bytes without spaces", maxMethod)
		}
	}
	if p, has := m.all["params"]; has {
		m.params = p
	}
	return nil
}

// Bounds on what is kept with the call, in bytes.
const (
	maxID     = 256
	maxMethod = 256
)

func (m *message) readID(id any) error {
	switch id.(type) {
	case string, int64:
		if len(m.raw.id) > maxID {
			return malformed("the JSON-RPC id is over %d bytes; send a shorter one", maxID)
		}
		m.id = m.raw.id
		return nil
	case nil:
		if m.answer {
			return nil // to a request whose id could not be read
		}
		return malformed("the JSON-RPC id is null, which some servers take for a notification; send a text or a whole number, or no id")
	default:
		return malformed("the JSON-RPC id must be a text or a whole number")
	}
}

// misspelt refuses members that differ from a known one in case, which some
// decoders take for it, and, if only, all that are not known.
func misspelt(what string, object map[string]any, known []string, only bool) error {
	for key := range object {
		found := false
		for _, k := range known {
			if key == k {
				found = true
				break
			}
			if strings.EqualFold(key, k) {
				return malformed("member %q of the %s must be written %q; some functions take one for the other", printable(key), what, k)
			}
		}
		if !found && only {
			return malformed("member %q of the %s is none of JSON-RPC 2.0, so no rule would see it; move it into params", printable(key), what)
		}
	}
	return nil
}

// blank reports characters that can't stand in a function's name.
func blank(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }
