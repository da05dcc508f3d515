package protocol

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/callgate/callgate/call"
)

// Batches reads the requests of a connection that hold several messages, as
// JSON-RPC 2.0 §6 and MCP's revision 2025-03-26 have it. It is safe for
// concurrent use.
type Batches struct {
	one Parser // of a single message
	mcp bool
	max int
}

// DefaultBatch is how many messages a batch may hold where nothing else is said.
const DefaultBatch = 50

// NewBatches returns what reads batches of up to max messages; 0 means
// [DefaultBatch].
func NewBatches(p call.Protocol, max int) (*Batches, error) {
	if max <= 0 {
		max = DefaultBatch
	}
	switch p {
	case call.JSONRPC:
		return &Batches{one: jsonrpc{}, max: max}, nil
	case call.MCP:
		return &Batches{one: mcp{}, mcp: true, max: max}, nil
	}
	return nil, fmt.Errorf("protocol %q has no batches; jsonrpc and mcp have", p)
}

// Element is one message of a batch.
type Element struct {
	Invocation
	Start, End int // where it stands in the body
	// Err is why it can't be judged, which is no matter of the others.
	Err *Error
}

// Answer is the JSON-RPC id under which the caller hears of the element, were it
// refused: nil for a notification, null where it has none that could be read.
func (e Element) Answer() json.RawMessage {
	if e.Err != nil && len(e.RPCID) == 0 {
		return json.RawMessage("null")
	}
	return e.RPCID
}

// In reports whether a request is a batch. One in a content encoding is none: to
// take a call out of it, its bytes would have to be made anew.
func (b *Batches) In(req *call.Request) bool {
	if req.Method != http.MethodPost {
		return false
	}
	for _, e := range req.Headers.Values("content-encoding") {
		if e = strings.TrimSpace(e); e != "" && !strings.EqualFold(e, "identity") {
			return false
		}
	}
	i := skipSpace(req.Body, 0)
	return i < len(req.Body) && req.Body[i] == '['
}

// Split returns the messages of a batch in their order. Its error, an *[Error],
// is about the request as a whole: it is not JSON, has no message or too many.
//
// Each message is read as strictly as one that comes alone, and its bytes are
// told as they stand, so that it can be passed on without the others. Two of one
// id are both refused, since nobody could tell their answers apart.
func (b *Batches) Split(req *call.Request) ([]Element, error) {
	if err := sane(req); err != nil {
		return nil, err
	}
	if _, _, err := split(req.Path); err != nil {
		return nil, err
	}
	for _, name := range []string{"mcp-method", "mcp-name"} {
		if b.mcp && len(req.Headers.Values(name)) > 0 {
			return nil, malformed("header %s tells of one message, and the body is a batch; leave it out", name)
		}
	}
	media, err := mediaType(req)
	switch {
	case err != nil:
		return nil, err
	case !isJSON(media):
		return nil, malformed("a JSON-RPC batch must be of content-type application/json; send it so")
	case !utf8.Valid(req.Body):
		return nil, malformed("the JSON body is not UTF-8, which parsers repair differently; send UTF-8")
	case !json.Valid(req.Body):
		return nil, malformed("the body is not valid JSON, so it can't be told where one message of the batch ends; it must be one UTF-8 document (RFC 8259)")
	}
	spans, more := elements(req.Body, b.max)
	switch {
	case more:
		return nil, malformed("the batch has more than the %d messages that the connection takes; send fewer, or raise its batch.max", b.max)
	case len(spans) == 0:
		return nil, malformed("the batch has no message; send at least one")
	}
	alone := *req
	alone.Headers = slices.DeleteFunc(slices.Clone(req.Headers), func(h call.Header) bool { return h.Name == "content-length" })
	list := make([]Element, len(spans))
	ids := make(map[string]int, len(spans))
	for i, s := range spans {
		alone.Body = req.Body[s.start:s.end:s.end]
		list[i] = b.element(&alone, s)
		if id := identify(string(list[i].RPCID)); id != "" {
			ids[id]++
		}
	}
	for i := range list {
		if e := &list[i]; e.Err == nil && ids[identify(string(e.RPCID))] > 1 {
			e.Err = malformed("the JSON-RPC id stands more than once in the batch, so its answers could not be told apart; give each message its own")
		}
	}
	return list, nil
}

func (b *Batches) element(req *call.Request, s span) Element {
	e := Element{Start: s.start, End: s.end}
	var err error
	if e.Invocation, err = b.one.Parse(req); err != nil {
		known, ok := err.(*Error)
		if !ok {
			known = malformed("the message can't be read")
		}
		e.Err = known
	} else if b.mcp && e.Function == "initialize" {
		e.Err = malformed("initialize can't stand in a batch, since nothing may come before its answer; send it alone")
	}
	return e
}

// Message reads one message of a batch by itself, which is the body of req.
func (b *Batches) Message(req *call.Request) (Invocation, error) {
	alone := *req
	alone.Headers = slices.DeleteFunc(slices.Clone(req.Headers), func(h call.Header) bool { return h.Name == "content-length" })
	return b.one.Parse(&alone)
}

// span is a part of a text.
type span struct{ start, end int }

// elements finds the elements of a JSON list in text, which is valid JSON. It
// stops beyond max, which more tells of.
func elements(text []byte, max int) (list []span, more bool) {
	at := skipSpace(text, skipSpace(text, 0)+1)
	if text[at] == ']' {
		return nil, false
	}
	for {
		if len(list) == max {
			return list, true
		}
		end := valueEnd(text, at)
		list = append(list, span{at, end})
		if at = skipSpace(text, end); text[at] == ']' {
			return list, false
		}
		at = skipSpace(text, at+1) // over the comma
	}
}

func skipSpace(text []byte, at int) int {
	for at < len(text) && (text[at] == ' ' || text[at] == '\t' || text[at] == '\n' || text[at] == '\r') {
		at++
	}
	return at
}

// valueEnd is the end of the JSON value that begins at, in text that is valid
// and goes on after it.
func valueEnd(text []byte, at int) int {
	depth := 0
	for ; ; at++ {
		switch text[at] {
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return at // the end of what a number or word stands in
			}
			if depth--; depth == 0 {
				return at + 1
			}
		case '"':
			for at++; text[at] != '"'; at++ {
				if text[at] == '\\' {
					at++
				}
			}
			if depth == 0 {
				return at + 1
			}
		case ',', ' ', '\t', '\n', '\r':
			if depth == 0 {
				return at
			}
		}
	}
}

// Messages returns the messages of the batch in body that stand at the given
// places, each its start and end, as they were written. It is an error where these
// don't follow each other in body.
func Messages(body []byte, places [][2]int) ([][]byte, error) {
	out := make([][]byte, len(places))
	last := 0
	for i, p := range places {
		if p[0] < last || p[1] <= p[0] || p[1] > len(body) {
			return nil, fmt.Errorf("message %d does not stand in the batch", i)
		}
		last = p[1]
		out[i] = body[p[0]:p[1]:p[1]]
	}
	return out, nil
}

// BatchOf is a batch of messages.
func BatchOf(messages [][]byte) []byte {
	out := append([]byte{'['}, bytes.Join(messages, []byte{','})...)
	return append(out, ']')
}
