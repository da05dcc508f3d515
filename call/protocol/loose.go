package protocol

import (
	"encoding/json"

	"github.com/callgate/callgate/call"
)

// Loose finds what a protocol wants to be another in each message, though the
// call be the same: a JSON-RPC message's id and the progress token of MCP. A
// caller that sends a call again, as it must after an approval, can't send the
// same. What it reads was parsed before; of what it can't read nothing is loose.
func Loose(p call.Protocol, req *call.Request) []call.Span {
	if p != call.JSONRPC && p != call.MCP || req.Headers.Get("content-encoding") != "" || len(req.Body) == 0 {
		return nil
	}
	var out []call.Span
	var meta call.Span
	spans(req.Body, func(above, key string, s call.Span) {
		switch {
		case above == "" && key == "id" && scalar(req.Body[s.Start]):
			out = append(out, s)
		case above == "params" && key == "_meta":
			meta = s
		}
	})
	if p == call.MCP && meta.End > 0 {
		spans(req.Body[meta.Start:meta.End], func(above, key string, s call.Span) {
			if above == "" && key == "progressToken" && scalar(req.Body[meta.Start+s.Start]) {
				out = append(out, call.Span{Start: meta.Start + s.Start, End: meta.Start + s.End})
			}
		})
	}
	if len(out) == 2 && out[0].Start > out[1].Start {
		out[0], out[1] = out[1], out[0]
	}
	return out
}

// scalar reports whether a value that begins so is a text or a number.
func scalar(b byte) bool { return b == '"' || b == '-' || b >= '0' && b <= '9' }

// spans tells of the members of a JSON object and of those of its members.
func spans(b json.RawMessage, found func(above, key string, s call.Span)) {
	r, err := newReader(b)
	if err != nil || r.next() != '{' {
		return
	}
	type one struct {
		above, key string
		call.Span
	}
	var all []one
	r.member = func(above, key string, start, end int) {
		all = append(all, one{above, key, call.Span{Start: start, End: end}})
	}
	if _, err := r.document(); err != nil {
		return
	}
	for _, m := range all {
		found(m.above, m.key, m.Span)
	}
}
