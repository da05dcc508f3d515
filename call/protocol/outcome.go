package protocol

import (
	"encoding/json"
	"mime"
	"net/url"
	"strconv"
	"strings"

	"github.com/callgate/callgate/call"
)

// Outcome watches a response go by for what the protocol says became of the
// call, which the HTTP status does not tell: a JSON-RPC error or a tool's own
// error inside a 200, a grpc-status in the trailers. It keeps a few hundred
// bytes, however long the response is.
type Outcome struct {
	protocol call.Protocol
	rpcID    string // as identify has it; empty: no answer is expected
	tool     bool   // the call was an MCP tools/call
	events   *events
	scan     scanner
	whole    bool // the body is one message
	answer   *answer
}

// rpcInternal (Internal error) stands for an error without a code that can be
// read, since 0 would be success.
const rpcInternal = -32603

// NewOutcome watches the response of a call whose headers are h.
func NewOutcome(meta call.Metadata, h call.Headers) *Outcome {
	o := &Outcome{protocol: meta.Protocol, rpcID: identify(meta.RPCID)}
	o.tool = meta.Protocol == call.MCP && strings.HasPrefix(meta.Function, "tools/call ")
	media, _, _ := mime.ParseMediaType(h.Get("content-type")) // an unreadable type is no event stream
	if media == "text/event-stream" {
		o.events = &events{}
	} else {
		o.whole = true
	}
	return o
}

// Write takes the next bytes that the caller gets.
func (o *Outcome) Write(p []byte) {
	if o.rpcID == "" || o.protocol != call.JSONRPC && o.protocol != call.MCP {
		return
	}
	for len(p) > 0 && o.answer == nil {
		data, n := p, len(p)
		if o.events != nil {
			data, n = o.events.next(p, &o.scan)
		}
		for len(data) > 0 && o.answer == nil {
			used, done := o.scan.write(data)
			data = data[used:]
			if done {
				o.message()
			}
		}
		p = p[n:]
	}
}

// message takes the message that was just read if it answers the caller's
// request. A whole body may also say, without an id, that the server could not
// read the request.
func (o *Outcome) message() {
	a := o.scan.answer
	o.scan = scanner{token: o.scan.token[:0], ended: o.whole}
	if a.method || !a.result && !a.failed {
		return
	}
	id := identify(a.id)
	if id == o.rpcID || id == "" && a.failed && o.whole {
		o.answer = &a
	}
}

// Result is what became of the call, with nil for what the protocol does not
// have or the response did not show. trailers are the response's trailers, or
// its headers where those are all there is. A tool's result without isError
// counts as no error, as MCP has it.
func (o *Outcome) Result(trailers call.Headers) (*call.RPCStatus, *bool) {
	if o.protocol == call.GRPC {
		code, err := strconv.ParseUint(trailers.Get("grpc-status"), 10, 31)
		if err != nil {
			return nil, nil
		}
		text := trailers.Get("grpc-message")
		if plain, err := url.PathUnescape(text); err == nil {
			text = plain
		}
		return &call.RPCStatus{Code: int64(code), Message: bounded(text)}, nil
	}
	switch a := o.answer; {
	case a == nil:
		return nil, nil
	case a.failed && a.code == 0:
		return &call.RPCStatus{Code: rpcInternal, Message: bounded(a.message)}, nil
	case a.failed:
		return &call.RPCStatus{Code: a.code, Message: bounded(a.message)}, nil
	case o.tool:
		return &call.RPCStatus{}, &a.isError
	default:
		return &call.RPCStatus{}, nil
	}
}

// identify is a JSON-RPC id as it can be compared: a server may write it with
// other escapes, or 1.0 for 1. It is empty where there is none.
func identify(id string) string {
	if id == "" {
		return ""
	}
	if id[0] == '"' {
		var s string
		if json.Unmarshal([]byte(id), &s) != nil {
			return ""
		}
		return `"` + s
	}
	if n, err := strconv.ParseInt(id, 10, 64); err == nil {
		return strconv.FormatInt(n, 10)
	}
	f, err := strconv.ParseFloat(id, 64)
	if err != nil || f != f || id[0] > '9' {
		return ""
	}
	return strconv.FormatFloat(f, 'f', -1, 64)
}

// events reads an event stream (WHATWG HTML, server-sent events) and gives the
// data of its events to a scanner.
type events struct {
	field [8]byte // the name of this line's field
	n     int     // bytes of the name, or beyond field: too long
	value bool    // the name has ended
	data  bool    // this line is data
	space bool    // the next byte is the first of the value
	cr    bool    // the last byte ended a line and may be half of its end
}

// next returns the first data in p, if there is any, and how much of p has been
// dealt with. At the end of an event it resets s.
func (e *events) next(p []byte, s *scanner) (data []byte, n int) {
	for n < len(p) {
		c := p[n]
		if e.cr {
			e.cr = false
			if c == '\n' {
				n++
				continue
			}
		}
		switch {
		case c == '\n' || c == '\r':
			if e.n == 0 && !e.value {
				*s = scanner{token: s.token[:0]} // an event ends
			}
			*e = events{cr: c == '\r'}
			n++
		case !e.value:
			if c == ':' {
				name := strings.TrimPrefix(string(e.field[:min(e.n, len(e.field))]), "\uFEFF")
				e.value, e.space, e.data = true, true, name == "data"
			} else {
				if e.n < len(e.field) {
					e.field[e.n] = c
				}
				e.n = min(e.n+1, len(e.field)+1)
			}
			n++
		case e.space && c == ' ':
			e.space = false
			n++
		default:
			e.space = false
			end := n
			for end < len(p) && p[end] != '\n' && p[end] != '\r' {
				end++
			}
			if e.data {
				return p[n:end], end
			}
			n = end
		}
	}
	return nil, n
}
