package protocol

import (
	"bytes"
	"encoding/json"
	"mime"
	"net/url"
	"strconv"
	"strings"

	"github.com/callgate/callgate/call"
)

// Outcome watches a response go by for what the protocol says became of the
// call, which the HTTP status does not tell: a JSON-RPC error or a tool's own
// error inside a 200, a grpc-status in the trailers.
type Outcome struct {
	protocol call.Protocol
	rpcID    string
	events   bool // the body is an event stream
	buf      []byte
	over     bool // the body, or one event of it, is too long to look into
	found    bool
	status   *call.RPCStatus
	tool     *bool
}

// maxOutcome bounds the bytes that are kept to be looked into.
const maxOutcome = 8 << 20

// NewOutcome watches the response of a call whose headers are h.
func NewOutcome(meta call.Metadata, h call.Headers) *Outcome {
	media, _, _ := mime.ParseMediaType(h.Get("content-type")) // an unreadable type is no event stream
	return &Outcome{protocol: meta.Protocol, rpcID: compact(meta.RPCID), events: media == "text/event-stream"}
}

// Write takes the next bytes that the caller gets.
func (o *Outcome) Write(p []byte) {
	if o.over || o.found || o.rpcID == "" || o.protocol != call.JSONRPC && o.protocol != call.MCP {
		return
	}
	if len(o.buf)+len(p) > maxOutcome {
		o.over, o.buf = true, nil
		return
	}
	o.buf = append(o.buf, p...)
	if o.events {
		o.takeEvents()
	}
}

// takeEvents looks into the events that are complete.
func (o *Outcome) takeEvents() {
	for !o.found {
		text := o.buf
		end, width := bytes.Index(text, []byte("\n\n")), 2
		if i := bytes.Index(text, []byte("\r\n\r\n")); i >= 0 && (end < 0 || i < end) {
			end, width = i, 4
		}
		if end < 0 {
			return
		}
		o.event(text[:end])
		o.buf = o.buf[end+width:]
	}
	o.buf = nil
}

func (o *Outcome) event(text []byte) {
	var data [][]byte
	for line := range bytes.Lines(text) {
		if v, ok := bytes.CutPrefix(bytes.TrimRight(line, "\r\n"), []byte("data:")); ok {
			data = append(data, bytes.TrimPrefix(v, []byte(" ")))
		}
	}
	if len(data) > 0 {
		o.message(bytes.Join(data, []byte("\n")))
	}
}

// message takes a JSON-RPC message if it answers the caller's request.
func (o *Outcome) message(b []byte) {
	var m struct {
		ID     json.RawMessage `json:"id"`
		Method *string         `json:"method"`
		Error  *struct {
			Code    int64  `json:"code"`
			Message string `json:"message"`
		} `json:"error"`
		Result *struct {
			IsError *bool `json:"isError"`
		} `json:"result"`
	}
	var loose json.RawMessage
	if json.Unmarshal(b, &loose) != nil {
		return
	}
	// A result need not be an object; only its kind matters then.
	err := json.Unmarshal(b, &m)
	if compact(string(m.ID)) != o.rpcID || m.Method != nil {
		return
	}
	switch {
	case m.Error != nil:
		o.found, o.status = true, &call.RPCStatus{Code: m.Error.Code, Message: m.Error.Message}
	case m.Result != nil || err != nil || bytes.Contains(b, []byte(`"result"`)):
		o.found, o.status = true, &call.RPCStatus{}
		if m.Result != nil {
			o.tool = m.Result.IsError
		}
	}
}

// Result is what became of the call, with nil for what the protocol does not
// have or the response did not show. A tool's result without isError counts as
// no error, as MCP has it.
func (o *Outcome) Result(trailers call.Headers) (*call.RPCStatus, *bool) {
	switch o.protocol {
	case call.GRPC:
		code, err := strconv.ParseInt(trailers.Get("grpc-status"), 10, 64)
		if err != nil {
			return nil, nil
		}
		text := trailers.Get("grpc-message")
		if plain, err := url.PathUnescape(text); err == nil {
			text = plain
		}
		return &call.RPCStatus{Code: code, Message: strings.ToValidUTF8(text, "\uFFFD")}, nil
	case call.JSONRPC, call.MCP:
		if !o.found && !o.over && len(o.buf) > 0 {
			if o.events {
				o.event(o.buf)
			} else {
				o.message(o.buf)
			}
		}
		return o.status, o.tool
	}
	return nil, nil
}

// compact is a JSON-RPC id as it can be compared: a server may write it with
// other spacing or escapes.
func compact(id string) string {
	var v any
	dec := json.NewDecoder(strings.NewReader(id))
	dec.UseNumber()
	if id == "" || dec.Decode(&v) != nil || v == nil {
		return ""
	}
	b, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return string(b)
}
