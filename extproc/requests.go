package extproc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strings"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/call/protocol"
	"github.com/callgate/callgate/extproc/mask"
)

// Requests masks requests, where a function must not be sent what they hold. It
// does so twice with the same result: when a call is decided, so that the record
// has what the function gets, and on the request's way there. It is safe for
// concurrent use.
type Requests struct {
	maskers  maskers
	messages Messages
}

// NewRequests returns one. hashKey, custom and messages are those of [Config].
func NewRequests(hashKey []byte, custom Detectors, messages Messages) *Requests {
	return &Requests{maskers: maskers{hashKey: hashKey, custom: custom}, messages: messages}
}

// masker compiles what a call's functions must not be sent, or returns nil where
// nothing is hidden.
func (r *Requests) masker(ctx context.Context, rules call.Mask, p call.Protocol) (*mask.Masker, error) {
	m, err := r.maskers.of(rules, requestRoots[p], nil, nil)
	if err != nil || m == nil {
		return nil, err
	}
	return m.In(ctx), nil
}

// Mask returns path and body as the function may have them, and what was hidden.
// The body, and the values of the query, are masked. What can't be, since it names
// something (a segment of the path, named by inPath where it is an argument), is
// an SQL text, or steers the exchange (a header), is an error if it holds what the
// function must not be sent: then the request must not go.
func (r *Requests) Mask(ctx context.Context, rules call.Mask, c *call.Call, inPath []string) (path string, body []byte, hidden []call.Masked, err error) {
	masker, err := r.masker(ctx, rules, c.Protocol)
	if err != nil || masker == nil {
		return c.Request.Path, c.Request.Body, nil, err
	}
	if err := discreetHeaders(masker, c.Request.Headers); err != nil {
		return "", nil, nil, err
	}
	path, inQuery, err := maskTarget(masker, c, inPath)
	if err != nil {
		return "", nil, nil, err
	}
	body, inBody, err := r.body(masker, c)
	if err != nil {
		return "", nil, nil, err
	}
	return path, body, noted(slices.Concat(inQuery, inBody)), nil
}

// body masks the body.
func (r *Requests) body(masker *mask.Masker, c *call.Call) ([]byte, []mask.Finding, error) {
	h, body := c.Request.Headers, c.Request.Body
	if len(body) == 0 {
		return body, nil, nil
	}
	if names := codings(h); len(names) > 0 {
		return nil, nil, fmt.Errorf("a body in content-encoding %s is not masked; send it plain", strings.Join(names, ", "))
	}
	if c.Protocol == call.GRPC {
		f, err := r.framed(masker, c.Connection, c.Function, h)
		if err != nil {
			return nil, nil, err
		}
		out, err := f.write(body)
		if err == nil {
			_, err = f.close()
		}
		return out, f.findings(), err
	}
	types := h.Values("content-type")
	if len(types) > 1 {
		return nil, nil, errors.New("the request has more than one content-type")
	}
	out, found, err := masker.Whole(strings.Join(types, ""), body)
	switch {
	case errors.Is(err, mask.ErrBinary):
		return nil, nil, errors.New("a body of this content-type can't be masked; send JSON, a form or text")
	case err == nil && c.Protocol == call.SQL && !bytes.Equal(out, body):
		return nil, nil, fmt.Errorf("the SQL text holds what the function must not be sent (%s), and a part of it can't be hidden without making another statement of it; leave it out", found[0].Type)
	}
	return out, found, err
}

// framed masks the messages of a gRPC request.
func (r *Requests) framed(masker *mask.Masker, connection, function string, h call.Headers) (*framed, error) {
	in, err := r.messages.Input(connection, function)
	if err != nil {
		return nil, fmt.Errorf("the type of its messages is not known, so they can't be masked: %w", err)
	}
	return &framed{masker: masker, messages: in, limit: math.MaxInt32, encoding: h.Get("grpc-encoding"), what: "request"}, nil
}

// maskTarget masks the query. A segment of the path that holds what must not be
// sent is an error: with another one in its place it would name something else.
func maskTarget(masker *mask.Masker, c *call.Call, inPath []string) (string, []mask.Finding, error) {
	path, query, asked := strings.Cut(c.Request.Path, "?")
	for _, name := range inPath {
		if _, _, hides, err := masker.Field(name); err != nil || hides {
			return "", nil, fmt.Errorf("the path's argument %q is what the function must not be sent, and a path can't be masked; this function can't be called here", name)
		}
	}
	for segment := range strings.SplitSeq(path, "/") {
		plain, err := url.PathUnescape(segment)
		if err != nil {
			plain = segment
		}
		if _, found, err := masker.String("", strings.ToValidUTF8(plain, "\uFFFD")); err != nil || len(found) > 0 {
			return "", nil, fmt.Errorf("the path holds what the function must not be sent%s, and a path can't be masked; leave it out", kindOf(found))
		}
	}
	if !asked {
		return path, nil, nil
	}
	masked, found, err := masker.Form([]byte(query))
	if err != nil {
		return "", nil, fmt.Errorf("the query can't be masked: %w", err)
	}
	for i := range found {
		found[i].Path = strings.TrimSuffix("query."+found[i].Path, ".")
	}
	return path + "?" + string(masked), found, nil
}

// kindOf names the kind of what was found first.
func kindOf(found []mask.Finding) string {
	if len(found) == 0 {
		return ""
	}
	return " (" + found[0].Type + ")"
}

// steering are headers that Envoy, proxies and protocols speak by: what is in them
// is no data of the caller's. Those that authenticate the caller are not passed on.
var steering = map[string]bool{
	"accept": true, "accept-charset": true, "accept-encoding": true, "accept-language": true, "authorization": true, "cache-control": true, "connection": true,
	"content-encoding": true, "content-length": true, "content-type": true, "cookie": true, "date": true, "dpop": true, "expect": true, "forwarded": true,
	"grpc-accept-encoding": true, "grpc-encoding": true, "grpc-timeout": true, "host": true, "if-match": true, "if-modified-since": true, "if-none-match": true,
	"if-range": true, "if-unmodified-since": true, "keep-alive": true, "last-event-id": true, "mcp-method": true, "mcp-protocol-version": true, "mcp-session-id": true, "origin": true,
	"pragma": true, "priority": true, "proxy-authorization": true, "range": true, "te": true, "trailer": true, "transfer-encoding": true, "traceparent": true,
	"tracestate": true, "upgrade": true, "user-agent": true, "via": true, "digest": true, "repr-digest": true, "content-digest": true, "content-md5": true,
	call.HeaderBreakGlass: true,
}

// discreetHeaders is an error where a header holds what the function must not be
// sent.
func discreetHeaders(masker *mask.Masker, h call.Headers) error {
	for _, f := range h {
		if steering[f.Name] || strings.HasPrefix(f.Name, ":") || strings.HasPrefix(f.Name, "x-forwarded-") || strings.HasPrefix(f.Name, "x-envoy-") ||
			strings.HasPrefix(f.Name, call.HeaderPrefix) || f.Name == "x-request-id" || strings.HasPrefix(f.Name, "sec-") {
			continue
		}
		if numbered(f.Name) {
			if _, found, err := masker.String("", f.Name); err != nil || len(found) > 0 {
				return fmt.Errorf("the name of a header holds what the function must not be sent%s; leave it out", kindOf(found))
			}
		}
		_, found, drop, err := masker.Header(f.Name, f.Value)
		if err != nil || drop || len(found) > 0 {
			return fmt.Errorf("the header %s holds what the function must not be sent%s, and headers are not masked; leave it out", f.Name, kindOf(found))
		}
	}
	return nil
}

// requestRoots are where the arguments of a function begin in a request.
var requestRoots = map[call.Protocol][]string{
	call.MCP: {"params", "params.arguments"}, call.JSONRPC: {"params"}, call.GraphQL: {"variables"},
}

// maskRequest masks a request's body on its way to the function. Both what was
// judged and what was recorded are known by their hashes.
func (r *response) maskRequest(body []byte) ([]byte, error) {
	edit := r.editing.mask
	if call.HashOf(body) != edit.Judged {
		return nil, errors.New("the request body is not the one that was judged")
	}
	var out []byte
	var err error
	if b := r.editing.batch; b != nil {
		out, err = r.maskBatch(b, body)
	} else {
		out, err = r.maskBody(body, r.meta.Function)
	}
	if err != nil {
		return nil, fmt.Errorf("the request can't be masked: %w", err)
	}
	if call.HashOf(out) != edit.Sent {
		return nil, errors.New("the masked request is not the one that was recorded; the replicas differ in their hash key or build")
	}
	return out, nil
}

func (r *response) maskBody(body []byte, function string) ([]byte, error) {
	masker, err := r.server.requests.masker(r.ctx, r.editing.mask.Mask, r.meta.Protocol)
	if err != nil {
		return nil, err
	}
	if masker == nil {
		return body, nil
	}
	out, _, err := r.server.requests.body(masker, &call.Call{Connection: r.meta.Connection, Protocol: r.meta.Protocol, Function: function,
		Request: call.Request{Headers: r.editing.headers, Body: body}})
	return out, err
}

// maskBatch masks the calls of a batch that are allowed, each by itself, and leaves
// the others out.
func (r *response) maskBatch(b *call.Batch, body []byte) ([]byte, error) {
	kept, err := allowedOf(b, body)
	if err != nil {
		return nil, err
	}
	for i := range kept {
		if kept[i], err = r.maskBody(kept[i], ""); err != nil {
			return nil, err
		}
	}
	return protocol.BatchOf(kept), nil
}

// maskPath returns the path that the function gets.
func (r *response) maskPath(path string) (string, error) {
	edit := r.editing.mask
	if call.HashOf([]byte(path)) != edit.JudgedPath {
		return "", errors.New("the request's path is not the one that was judged")
	}
	masker, err := r.server.requests.masker(r.ctx, edit.Mask, r.meta.Protocol)
	if err != nil {
		return "", err
	}
	if masker == nil {
		return "", errors.New("there is no mask for the request's path")
	}
	out, _, err := maskTarget(masker, &call.Call{Request: call.Request{Path: path}}, nil)
	if err != nil {
		return "", err
	}
	if call.HashOf([]byte(out)) != edit.SentPath {
		return "", errors.New("the masked path is not the one that was recorded; the replicas differ in their hash key or build")
	}
	return out, nil
}
