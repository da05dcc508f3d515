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

// listings are the MCP functions that list others, with where the list stands
// in the result, what names an entry there, and how a use of it is called.
var listings = map[string]struct{ list, name, use string }{
	"tools/list":     {"tools", "name", "tools/call "},
	"prompts/list":   {"prompts", "name", "prompts/get "},
	"resources/list": {"resources", "uri", "resources/read "},
}

// listing takes out of a list what its caller may not use, and hands the rest
// on. It holds the response until it is all there.
type listing struct {
	meta    call.Metadata
	visible Visible
	stream  bool // of events
	limit   int64
	body    []byte
	next    flow
}

// listingOf puts a listing before next, where the response is one.
func (s *Server) listingOf(meta call.Metadata, h call.Headers, limit int64, next flow) (flow, error) {
	_, lists := listings[meta.Function]
	if !lists || meta.Protocol != call.MCP || meta.Caller == nil || s.cfg.Visible == nil {
		return next, nil
	}
	media, _, err := mime.ParseMediaType(h.Get("content-type"))
	switch {
	case err == nil && media == "application/json":
	case err == nil && media == "text/event-stream":
	case strings.HasPrefix(h.Get(":status"), "2"):
		return nil, errors.New("the list is neither JSON nor a stream of events, so what the caller may not use can't be taken out of it")
	default:
		return next, nil // an error page
	}
	return &listing{meta: meta, visible: s.cfg.Visible, stream: media == "text/event-stream", limit: limit, next: next}, nil
}

func (l *listing) write(p []byte) ([]byte, error) {
	if int64(len(l.body)+len(p)) > l.limit {
		return nil, fmt.Errorf("a list over %d bytes can't be held; raise the connection's max_response or let the server answer in pages", l.limit)
	}
	l.body = append(l.body, p...)
	return nil, nil
}

func (l *listing) close() ([]byte, error) {
	body := l.body
	if len(bytes.TrimSpace(body)) > 0 {
		var err error
		if l.stream {
			body, err = l.events(body)
		} else {
			body, err = l.document(body)
		}
		if err != nil {
			return nil, err
		}
	}
	out, err := l.next.write(body)
	if err != nil {
		return nil, err
	}
	rest, err := l.next.close()
	return append(out[:len(out):len(out)], rest...), err
}

func (l *listing) findings() []mask.Finding { return l.next.findings() }
func (*listing) waits() bool                { return true }
func (l *listing) held() int                { return cap(l.body) + l.next.held() }

// events does so in each event of a stream (WHATWG HTML §9.2).
func (l *listing) events(body []byte) ([]byte, error) {
	var out bytes.Buffer
	var data []string
	flush := func() error {
		if data == nil {
			return nil
		}
		text := strings.Join(data, "\n")
		data = nil
		if strings.TrimSpace(text) != "" {
			kept, err := l.document([]byte(text))
			if err != nil {
				return err
			}
			text = string(kept)
		}
		for _, line := range strings.Split(text, "\n") {
			out.WriteString("data: " + line + "\n")
		}
		return nil
	}
	text := strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(strings.TrimPrefix(string(body), "\ufeff"))
	for _, line := range strings.Split(text, "\n") {
		name, value, _ := strings.Cut(line, ":")
		if name == "data" {
			data = append(data, strings.TrimPrefix(value, " "))
			continue
		}
		if line == "" {
			if err := flush(); err != nil {
				return nil, err
			}
		}
		out.WriteString(line + "\n")
	}
	if err := flush(); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
}

// document takes what is not visible out of one JSON-RPC message. It is written
// anew from what was read, so that no reader finds more in it than this one.
func (l *listing) document(text []byte) ([]byte, error) {
	var message map[string]json.RawMessage
	if err := json.Unmarshal(text, &message); err != nil {
		return nil, errors.New("the list is not one JSON-RPC message, so what the caller may not use can't be taken out of it")
	}
	if len(message["result"]) > 0 && string(message["result"]) != "null" {
		var result map[string]json.RawMessage
		if err := json.Unmarshal(message["result"], &result); err != nil {
			return nil, errors.New("the result is not an object, so what the caller may not use can't be taken out of it")
		}
		kept, err := l.kept(result)
		if err != nil {
			return nil, err
		}
		if message["result"], err = json.Marshal(kept); err != nil {
			return nil, err
		}
	}
	return json.Marshal(message)
}

func (l *listing) kept(result map[string]json.RawMessage) (map[string]json.RawMessage, error) {
	shape := listings[l.meta.Function]
	raw, has := result[shape.list]
	if !has {
		return result, nil // of a notification, say
	}
	var entries []map[string]json.RawMessage
	if err := json.Unmarshal(raw, &entries); err != nil {
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
	some := entries[:0]
	for i, e := range entries {
		if seen[i] {
			some = append(some, e)
		}
	}
	text, err := json.Marshal(some)
	if err != nil {
		return nil, err
	}
	result[shape.list] = text
	return result, nil
}
