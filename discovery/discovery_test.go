package discovery_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/callgate/callgate/discovery"
)

func server(tools int) *mcp.Server {
	s := mcp.NewServer(&mcp.Implementation{Name: "s", Version: "1"}, &mcp.ServerOptions{PageSize: 3})
	for i := range tools {
		s.AddTool(&mcp.Tool{Name: fmt.Sprintf("t%02d", i), Description: "Does <it>.", Meta: mcp.Meta{"x": i}, InputSchema: json.RawMessage(`{"type":"object"}`)},
			func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
				return nil, errors.New("unused")
			})
	}
	return s
}

// The real server's tools are found in both ways that it can answer, page by
// page, with the credential on every request.
func TestTools(t *testing.T) {
	for _, plain := range []bool{false, true} {
		s := server(8)
		h := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s }, &mcp.StreamableHTTPOptions{JSONResponse: plain})
		web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("x-api-key") != "secret" {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			h.ServeHTTP(w, r)
		}))
		defer web.Close()
		cfg := discovery.Config{Endpoint: web.URL, HTTP: http.DefaultTransport, Header: func() (string, string, error) { return "x-api-key", "secret", nil }}
		list, err := discovery.Tools(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, d := range list {
			names = append(names, d.Name)
		}
		if !slices.Equal(names, []string{"t00", "t01", "t02", "t03", "t04", "t05", "t06", "t07"}) || !strings.Contains(string(list[7].Text), `"_meta":{"x":7}`) {
			t.Errorf("JSON %v: %v %s", plain, names, list[len(list)-1].Text)
		}
		cfg.Header = func() (string, string, error) { return "", "", errors.New("the file is gone") }
		if _, err := discovery.Tools(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "the file is gone") {
			t.Errorf("without a credential: %v", err)
		}
	}
}

// Servers that answer otherwise than they should. A line more is a case more.
func TestStrange(t *testing.T) {
	for name, c := range map[string]struct {
		list string // the result of tools/list
		want string // of the error; "": the names
		has  []string
	}{
		"members that nobody knows": {`{"tools":[{"name":"a","inputSchema":{"type":"object"},"secret":1}]}`, "", []string{"a"}},
		"no definition":             {`{"tools":[{"name":"a","inputSchema":{"type":"object"}},{"name":"b","inputSchema":{"type":"object"},"x":{"y":1,"y":2}}]}`, "", []string{"a"}},
		"a list without end":        {`{"tools":[{"name":"a","inputSchema":{"type":"object"}}],"nextCursor":"x"}`, "does not end", nil},
		"no list":                   {`{"tools":7}`, "list the MCP server's tools", nil},
		"too much":                  {`{"tools":[` + strings.Repeat(`{"name":"a","description":"`+strings.Repeat("x", 200_000)+`","inputSchema":{"type":"object"}},`, 20) + `{"name":"z","inputSchema":{"type":"object"}}]}`, "more than", nil},
	} {
		t.Run(name, func(t *testing.T) {
			web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				var m struct {
					ID     json.RawMessage `json:"id"`
					Method string          `json:"method"`
				}
				body, _ := io.ReadAll(r.Body)
				_ = json.Unmarshal(body, &m)
				w.Header().Set("content-type", "application/json")
				switch m.Method {
				case "initialize":
					fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"s","version":"1"}}}`, m.ID)
				case "tools/list":
					fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":%s}`, m.ID, c.list)
				case "server/discover":
					fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"no"}}`, m.ID)
				default:
					w.WriteHeader(http.StatusAccepted)
				}
			}))
			defer web.Close()
			list, err := discovery.Tools(t.Context(), discovery.Config{Endpoint: web.URL, HTTP: http.DefaultTransport})
			var names []string
			for _, d := range list {
				names = append(names, d.Name)
			}
			if c.want == "" && (err != nil || !slices.Equal(names, c.has)) || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%v %v", names, err)
			}
		})
	}
	redirected := false
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { redirected = true }))
	defer elsewhere.Close()
	web := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusTemporaryRedirect))
	defer web.Close()
	if _, err := discovery.Tools(t.Context(), discovery.Config{Endpoint: web.URL, HTTP: http.DefaultTransport, Header: func() (string, string, error) { return "x", "secret", nil }}); err == nil || redirected {
		t.Errorf("a redirect was followed (%v): %v", redirected, err)
	}
}

func TestUnreachable(t *testing.T) {
	if _, err := discovery.Tools(t.Context(), discovery.Config{Endpoint: "http://127.0.0.1:1/mcp", HTTP: http.DefaultTransport}); err == nil || !strings.Contains(err.Error(), "open a session") {
		t.Error(err)
	}
}
