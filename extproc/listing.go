package extproc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"strings"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/extproc/mask"
)

// Visible tells which functions a caller may know of.
type Visible interface {
	// Visible reports, for each function of a connection, whether the caller
	// could be allowed to call it with some arguments. An error hides all.
	Visible(meta call.Metadata, functions []string) ([]bool, error)
}

// Pinned tells which definitions of tools were accepted.
type Pinned interface {
	// Pinned returns how an entry of a connection's tools/list is shown, or
	// false where it is not.
	Pinned(connection string, entry []byte) ([]byte, bool)
}

// listings are the MCP functions that list others, with where the list stands
// in the result, what names an entry there, and how a use of it is called.
var listings = map[string]struct{ list, name, use string }{
	"tools/list":     {"tools", "name", "tools/call "},
	"prompts/list":   {"prompts", "name", "prompts/get "},
	"resources/list": {"resources", "uri", "resources/read "},
	// A template is shown where its own text could be read.
	"resources/templates/list": {"resourceTemplates", "uriTemplate", "resources/read "},
}

// listing takes out of an MCP server's messages what its caller may not use, and
// what is not described as it was accepted, and hands the rest on. It looks at
// all responses, not only at those to a request for a list: clients match
// answers to requests by id, wherever they come.
type listing struct {
	meta    call.Metadata
	visible Visible
	pinned  Pinned
	limit   int
	next    flow
	// list is set for the answer to a request for a list, of which nothing
	// leaves before it is all there.
	list   bool
	stream *eventLines // nil: the body is one message, or a batch
	body   []byte
}

// lists reports whether what is answered to a call may list functions.
func (s *Server) lists(meta call.Metadata) bool {
	return meta.Protocol == call.MCP && meta.Caller != nil && s.cfg.Visible != nil
}

func (s *Server) newListing(meta call.Metadata) *listing {
	l := &listing{meta: meta, visible: s.cfg.Visible, pinned: s.cfg.Pinned}
	_, l.list = listings[meta.Function]
	return l
}

// listingOf puts a listing before next, where the response is one of an MCP
// server's messages.
func (s *Server) listingOf(meta call.Metadata, h call.Headers, limit int, next flow) (flow, error) {
	if !s.lists(meta) {
		return next, nil
	}
	l := s.newListing(meta)
	l.limit, l.next = limit, next
	media, _, err := mime.ParseMediaType(h.Get("content-type"))
	switch {
	case err == nil && media == "application/json":
	case err == nil && media == "text/event-stream":
		l.stream = &eventLines{}
	case l.list && strings.HasPrefix(h.Get(":status"), "2"):
		return nil, errors.New("the list is neither JSON nor a stream of events, so what the caller may not use can't be taken out of it")
	default:
		return next, nil // no MCP message
	}
	return l, nil
}

func (l *listing) write(p []byte) ([]byte, error) {
	if l.stream == nil {
		if len(l.body)+len(p) > l.limit {
			return nil, l.tooLarge()
		}
		l.body = append(l.body, p...)
		return nil, nil
	}
	if len(l.body)+l.stream.held()+len(p) > l.limit {
		return nil, l.tooLarge()
	}
	out, err := l.stream.write(p, l.document)
	if err != nil {
		return nil, err
	}
	if l.list {
		l.body = append(l.body, out...)
		return nil, nil
	}
	return l.next.write(out)
}

func (l *listing) tooLarge() error {
	return fmt.Errorf("an MCP message over %d bytes can't be held; raise the connection's max_response or let the server answer in pages", l.limit)
}

func (l *listing) close() ([]byte, error) {
	body := l.body
	var err error
	switch {
	case l.stream != nil:
		var last []byte
		if last, err = l.stream.close(l.document); err == nil {
			body = append(body, last...)
		}
	case len(bytes.TrimSpace(body)) > 0:
		body, err = l.document(body)
	}
	if err != nil {
		return nil, err
	}
	out, err := l.next.write(body)
	if err != nil {
		return nil, err
	}
	rest, err := l.next.close()
	return append(out[:len(out):len(out)], rest...), err
}

func (l *listing) findings() []mask.Finding { return l.next.findings() }
func (l *listing) waits() bool              { return l.list || l.stream == nil || l.next.waits() }
func (l *listing) held() int {
	n := cap(l.body) + l.next.held()
	if l.stream != nil {
		n += l.stream.held()
	}
	return n
}

// document takes what is not to be seen out of one JSON-RPC message, or out of
// each of a batch. What it changes is written anew from what was read, so that
// no reader finds more in it than this one.
func (l *listing) document(text []byte) ([]byte, error) {
	var batch []json.RawMessage
	if bytes.HasPrefix(bytes.TrimLeft(text, " \t\r\n"), []byte("[")) && json.Unmarshal(text, &batch) == nil {
		for i, m := range batch {
			kept, err := l.message(m)
			if err != nil {
				return nil, err
			}
			batch[i] = kept
		}
		return json.Marshal(batch)
	}
	return l.message(text)
}

func (l *listing) message(text []byte) ([]byte, error) {
	message, err := members("message", text, "result")
	if err != nil {
		return nil, err
	}
	if len(message["result"]) == 0 || message["result"][0] != '{' {
		if l.list && len(message["result"]) > 0 && string(message["result"]) != "null" {
			return nil, errors.New("the result is not an object, so what the caller may not use can't be taken out of it")
		}
		return text, nil
	}
	var names []string
	for _, shape := range listings {
		names = append(names, shape.list)
	}
	result, err := members("result", message["result"], names...)
	if err != nil {
		return nil, err
	}
	changed := false
	for _, shape := range listings {
		if raw, has := result[shape.list]; has {
			if result[shape.list], err = l.kept(shape, raw); err != nil {
				return nil, err
			}
			changed = true
		}
	}
	if !changed {
		return text, nil
	}
	if message["result"], err = json.Marshal(result); err != nil {
		return nil, err
	}
	return json.Marshal(message)
}

// members reads an object whose members every reader must find alike: none
// stands twice, and none but for its case is one of those that matter.
func members(what string, text []byte, matter ...string) (map[string]json.RawMessage, error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	bad := func() error {
		return fmt.Errorf("the MCP server's %s can't be read for what the caller may not use", what)
	}
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, bad()
	}
	out := map[string]json.RawMessage{}
	for dec.More() {
		t, err := dec.Token()
		key, ok := t.(string)
		if err != nil || !ok {
			return nil, bad()
		}
		var v json.RawMessage
		if err := dec.Decode(&v); err != nil {
			return nil, bad()
		}
		if _, twice := out[key]; twice {
			return nil, fmt.Errorf("a member stands twice in the MCP server's %s, so readers could differ in it", what)
		}
		for _, m := range matter {
			if key != m && strings.EqualFold(key, m) {
				return nil, fmt.Errorf("a member of the MCP server's %s is %s but for its case, so readers could differ in it", what, m)
			}
		}
		out[key] = v
	}
	if _, err := dec.Token(); err != nil {
		return nil, bad()
	}
	if len(bytes.TrimSpace(text[dec.InputOffset():])) > 0 {
		return nil, bad()
	}
	return out, nil
}

// kept is a list without what is not to be seen.
func (l *listing) kept(shape struct{ list, name, use string }, raw json.RawMessage) (json.RawMessage, error) {
	var entries []map[string]json.RawMessage
	var texts []json.RawMessage
	if err := errors.Join(json.Unmarshal(raw, &entries), json.Unmarshal(raw, &texts)); err != nil {
		return nil, fmt.Errorf("%s is not a list of objects, so what the caller may not use can't be taken out of it", shape.list)
	}
	functions := make([]string, len(entries))
	for i, e := range entries {
		var name string
		if err := json.Unmarshal(e[shape.name], &name); err != nil || name == "" {
			return nil, fmt.Errorf("an entry of %s has no %s, so it can't be told whether the caller may use it", shape.list, shape.name)
		}
		functions[i] = shape.use + name
	}
	seen, err := l.visible.Visible(l.meta, functions)
	if err != nil || len(seen) != len(functions) {
		return nil, errors.Join(errors.New("it can't be told what the caller may use"), err)
	}
	some := []any{}
	for i, e := range entries {
		switch {
		case !seen[i]:
		case shape.list == "tools" && l.pinned != nil:
			if text, as := l.pinned.Pinned(l.meta.Connection, texts[i]); as && times(functions, functions[i]) == 1 {
				some = append(some, json.RawMessage(text))
			}
		default:
			some = append(some, e)
		}
	}
	return json.Marshal(some)
}

// times counts a name: which of two definitions would count, readers differ in.
func times(list []string, name string) int {
	n := 0
	for _, s := range list {
		if s == name {
			n++
		}
	}
	return n
}
