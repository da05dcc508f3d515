package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// cutting is a way to Envoy on which the first answer to a tool's call breaks off
// after its first event, and which notes what was asked.
type cutting struct {
	bearer
	mu   sync.Mutex
	cut  bool
	seen []string
}

func (c *cutting) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := bodyOf(r)
	if err != nil {
		return nil, err
	}
	resp, err := c.bearer.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	resumes := r.Header.Get("last-event-id") != ""
	c.seen = append(c.seen, fmt.Sprintf("%s %t %d", r.Method, resumes, resp.StatusCode))
	if !c.cut && strings.Contains(string(body), `"tools/call"`) {
		c.cut = true
		resp.Body = &severed{ReadCloser: resp.Body}
	}
	return resp, nil
}

func bodyOf(r *http.Request) ([]byte, error) {
	if r.Body == nil {
		return nil, nil
	}
	body, err := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	return body, err
}

func (c *cutting) requests() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Join(c.seen, ", ")
}

// severed ends after the first event, as a connection that is lost.
type severed struct {
	io.ReadCloser
	got []byte
}

func (s *severed) Read(p []byte) (int, error) {
	if bytes.Contains(s.got, []byte("\n\n")) {
		return 0, errors.New("the connection is lost")
	}
	n, err := s.ReadCloser.Read(p)
	s.got = append(s.got, p[:n]...)
	return n, err
}

// The official client keeps its session through the gateway: the server's own
// stream (GET), an answer that is resumed where it broke off (Last-Event-ID) and
// is masked then as well, and the end of the session (DELETE).
func TestMCPSession(t *testing.T) {
	server := mcp.NewServer(&mcp.Implementation{Name: "sessions", Version: "1"}, nil)
	server.AddTool(&mcp.Tool{Name: "slow", InputSchema: json.RawMessage(`{"type":"object"}`)}, func(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		if err := req.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: "p", Message: "begun"}); err != nil {
			return nil, err
		}
		time.Sleep(200 * time.Millisecond) // the rest comes after the cut
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "card 4242 4242 4242 4242"}}}, nil
	})
	handler := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server },
		&mcp.StreamableHTTPOptions{EventStore: mcp.NewMemoryEventStore(nil), DisableLocalhostProtection: true})
	function := httptest.NewServer(handler)
	defer function.Close()

	withRules(t, func(rules string) string {
		return strings.Replace(rules, "rules:\n", fmt.Sprintf(`connections:
  - name: sessions
    protocol: mcp
    match: {path: /sessions}
    upstream: {url: "%s/"}
    mcp: {tools: {pin: off}}
rules:
  - {name: its cards, connections: [sessions], functions: ["tools/call slow"], action: mask, mask: {detect: [card], how: partial}}
  - {name: sessions, connections: [sessions], when: '"support" in identity.groups', action: allow}
`, function.URL), 1)
	}, func() {
		way := &cutting{bearer: bearer{shared.alice}}
		changed := make(chan struct{}, 8)
		client := mcp.NewClient(&mcp.Implementation{Name: "e2e", Version: "1"}, &mcp.ClientOptions{
			ToolListChangedHandler: func(context.Context, *mcp.ToolListChangedRequest) { changed <- struct{}{} }})
		s, err := client.Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: "http://" + shared.Addrs.Envoy + "/sessions", HTTPClient: &http.Client{Transport: way}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		result, err := s.CallTool(t.Context(), &mcp.CallToolParams{Name: "slow", Meta: mcp.Meta{"progressToken": "p"}})
		if err != nil {
			t.Fatalf("%v after %s", err, way.requests())
		}
		if text := result.Content[0].(*mcp.TextContent).Text; strings.Contains(text, "4242 4242 4242") || !strings.Contains(text, "****4242") {
			t.Errorf("the resumed answer: %s", text)
		}
		if !strings.Contains(way.requests(), "GET true 200") {
			t.Errorf("nothing was resumed: %s", way.requests())
		}
		// What the server says of its own accord comes on its stream.
		server.AddTool(&mcp.Tool{Name: "more", InputSchema: json.RawMessage(`{"type":"object"}`)}, func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			return &mcp.CallToolResult{}, nil
		})
		select {
		case <-changed:
		case <-time.After(20 * time.Second):
			t.Errorf("the server's own stream is silent: %s", way.requests())
		}
		id := s.ID()
		if err := s.Close(); err != nil {
			t.Errorf("end the session: %v", err)
		}
		if !strings.Contains(way.requests(), "DELETE false 204") {
			t.Errorf("the session did not end: %s", way.requests())
		}
		a := shared.call(t, http1(), shared.alice, "GET", "/sessions", "", "accept", "text/event-stream", "mcp-session-id", id)
		if a.status != 404 {
			t.Errorf("the session goes on: %d %s", a.status, a.body)
		}
		for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
			rows := fmt.Sprint(shared.query(t, "SELECT DISTINCT function FROM calls WHERE connection = 'sessions' AND session = '"+id+"'"))
			if strings.Contains(rows, "tools/call slow") && strings.Contains(rows, "session/stream") && strings.Contains(rows, "session/end") {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%v", rows)
			}
		}
	})
}
