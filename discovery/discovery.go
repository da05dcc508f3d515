// Package discovery asks MCP servers which tools they have, as a client of
// theirs with the connection's own credential.
package discovery

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"sync"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/callgate/callgate/call/tool"
)

// Config is a server to ask.
type Config struct {
	Endpoint string // the URL of its streamable HTTP transport
	Version  string // of this program, which the server is told
	// HTTP makes the requests.
	HTTP http.RoundTripper
	// Header adds the connection's credential; it may be nil.
	Header func() (name, value string, err error)
}

// largest bounds what is read of one answer, in bytes.
const largest = 8 << 20

// Tools returns the definitions of all tools that the server offers. An entry
// that is no definition (see [tool.Read]) is left out, as it is out of the lists
// that callers get.
func Tools(ctx context.Context, cfg Config) ([]tool.Definition, error) {
	t := &tap{cfg: cfg}
	client := mcp.NewClient(&mcp.Implementation{Name: "callgate", Version: cfg.Version}, nil)
	session, err := client.Connect(ctx, &mcp.StreamableClientTransport{Endpoint: cfg.Endpoint, HTTPClient: &http.Client{Transport: t,
		// The credential is for this server and for no other.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
		MaxRetries: -1, DisableStandaloneSSE: true}, nil)
	if err != nil {
		return nil, fmt.Errorf("open a session with the MCP server: %w", err)
	}
	defer session.Close() //nolint:errcheck // nothing depends on the end of it
	var out []tool.Definition
	total, cursor := 0, ""
	for {
		t.listen()
		page, err := session.ListTools(ctx, &mcp.ListToolsParams{Cursor: cursor})
		if err != nil {
			return nil, fmt.Errorf("list the MCP server's tools: %w", err)
		}
		entries, err := t.entries()
		if err != nil {
			return nil, err
		}
		if len(entries) != len(page.Tools) {
			return nil, fmt.Errorf("the MCP server's list of tools is read as %d tools and as %d", len(entries), len(page.Tools))
		}
		for _, e := range entries {
			d, err := tool.Read(e)
			if err != nil {
				continue
			}
			out = append(out, d)
			if total += len(d.Text); len(out) > tool.MaxTools || total > tool.MaxTotal {
				return nil, fmt.Errorf("the MCP server offers more than %d tools, or more than %d bytes of them", tool.MaxTools, tool.MaxTotal)
			}
		}
		if page.NextCursor == "" {
			return out, nil
		}
		if page.NextCursor == cursor || len(entries) == 0 {
			return nil, errors.New("the MCP server's list of tools does not end")
		}
		cursor = page.NextCursor
	}
}

// tap adds the credential to requests and keeps what answers say, since the
// client library gives only those members of a tool that it knows.
type tap struct {
	cfg Config

	mu   sync.Mutex
	kept []*answer
}

type answer struct {
	io.ReadCloser
	media string
	mu    *sync.Mutex
	body  []byte
}

func (a *answer) Read(p []byte) (int, error) {
	n, err := a.ReadCloser.Read(p)
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.body)+n > largest {
		return 0, fmt.Errorf("the MCP server's answer is over %d bytes", largest)
	}
	a.body = append(a.body, p[:n]...)
	return n, err
}

func (t *tap) RoundTrip(r *http.Request) (*http.Response, error) {
	if t.cfg.Header != nil {
		name, value, err := t.cfg.Header()
		if err != nil {
			return nil, err
		}
		r = r.Clone(r.Context())
		r.Header.Set(name, value)
	}
	resp, err := t.cfg.HTTP.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	media, _, _ := mime.ParseMediaType(resp.Header.Get("content-type")) // unreadable: neither of the two
	a := &answer{ReadCloser: resp.Body, media: media, mu: &t.mu}
	t.mu.Lock()
	t.kept = append(t.kept, a)
	t.mu.Unlock()
	resp.Body = a
	return resp, nil
}

// listen forgets what was answered so far.
func (t *tap) listen() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = nil
}

// entries are those of the one list that was answered since listen.
func (t *tap) entries() ([]json.RawMessage, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []json.RawMessage
	lists := 0
	for _, a := range t.kept {
		messages := [][]byte{a.body}
		if a.media == "text/event-stream" {
			messages = events(a.body)
		}
		for _, m := range messages {
			var message struct {
				Result map[string]json.RawMessage `json:"result"`
			}
			if json.Unmarshal(m, &message) != nil || message.Result["tools"] == nil {
				continue
			}
			lists++
			if err := json.Unmarshal(message.Result["tools"], &out); err != nil {
				return nil, fmt.Errorf("read the MCP server's list of tools: %w", err)
			}
		}
	}
	if lists != 1 {
		return nil, fmt.Errorf("the MCP server answered with %d lists of tools where one was asked for", lists)
	}
	return out, nil
}

// events are the data of a stream's events (WHATWG HTML §9.2).
func events(body []byte) [][]byte {
	var out [][]byte
	var data []string
	body = bytes.TrimPrefix(body, []byte("\ufeff"))
	for line := range strings.SplitSeq(strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(string(body)), "\n") {
		name, value, _ := strings.Cut(line, ":")
		switch {
		case name == "data":
			data = append(data, strings.TrimPrefix(value, " "))
		case line == "" && data != nil:
			out, data = append(out, []byte(strings.Join(data, "\n"))), nil
		}
	}
	if data != nil { // the client has read the answer before the stream's end
		out = append(out, []byte(strings.Join(data, "\n")))
	}
	return out
}
