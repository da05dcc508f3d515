package endpoint_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/callgate/callgate/demo/endpoint"
)

func startMCP(t *testing.T) *endpoint.MCP {
	t.Helper()
	s, err := endpoint.NewMCP(endpoint.Config{Credential: serviceKey})
	if err != nil {
		t.Fatal(err)
	}
	run(t, s.Run)
	return s
}

func connect(t *testing.T, url string, header http.Header) (*mcp.ClientSession, error) {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	client := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil)
	return client.Connect(t.Context(), &mcp.StreamableClientTransport{
		Endpoint: url, HTTPClient: &http.Client{Transport: with{header, transport}}, MaxRetries: -1,
	}, nil)
}

func TestMCP(t *testing.T) {
	t.Parallel()
	s := startMCP(t)
	for name, url := range map[string]string{"event streams": s.URL(), "plain JSON": s.JSONURL()} {
		t.Run(name, func(t *testing.T) {
			session, err := connect(t, url, http.Header{"X-Api-Key": {serviceKey}})
			if err != nil {
				t.Fatal(err)
			}
			defer session.Close()
			t.Logf("protocol version %s, session %q", session.InitializeResult().ProtocolVersion, session.ID())
			list, err := session.ListTools(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, tool := range list.Tools {
				names = append(names, tool.Name)
				if tool.InputSchema == nil || tool.OutputSchema == nil || tool.Description == "" {
					t.Errorf("%s lacks a schema or a description", tool.Name)
				}
			}
			slices.Sort(names)
			if !slices.Equal(names, []string{"get_customer", "issue_refund", "run_query", "search_customers"}) {
				t.Errorf("tools are %v", names)
			}
			for _, step := range []struct {
				tool      string
				arguments map[string]any
				isError   bool
				text      string // in the content
				structure string // in the structured content
				ran       int64
			}{
				{"search_customers", map[string]any{"query": "ada"}, false, "c-1", `"email":"ada@example.com"`, 1},
				{"get_customer", map[string]any{"id": "c-1"}, false, "pays with card 4242 4242 4242 4242", `"card_number":"4242 4242 4242 4242"`, 1},
				{"get_customer", map[string]any{"id": "c-9"}, true, "no such customer", "", 1},
				{"issue_refund", map[string]any{"customer": "c-1", "amount": 20, "currency": "EUR", "reason": "late"}, false, `"id":"r-`, `"amount":20`, 1},
				{"issue_refund", map[string]any{"customer": "c-1", "amount": "20"}, true, "amount", "", 0},
				{"run_query", map[string]any{"query": "select count(*) as n from customers"}, false, `[[3]]`, `"columns":["n"]`, 1},
				{"run_query", map[string]any{"query": "selec"}, true, "syntax error", "", 1},
			} {
				before := s.Served("tools/call " + step.tool)
				result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: step.tool, Arguments: step.arguments})
				if err != nil {
					t.Errorf("%s: %v", step.tool, err)
					continue
				}
				text := result.Content[0].(*mcp.TextContent).Text
				structure, err := json.Marshal(result.StructuredContent)
				if err != nil {
					t.Fatal(err)
				}
				if result.IsError != step.isError || !strings.Contains(text, step.text) || !strings.Contains(string(structure), step.structure) {
					t.Errorf("%s %v: error %v, %s, %s", step.tool, step.arguments, result.IsError, text, structure)
				}
				if ran := s.Served("tools/call "+step.tool) - before; ran != step.ran {
					t.Errorf("%s %v ran %d times, want %d", step.tool, step.arguments, ran, step.ran)
				}
			}
			if _, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "drop_everything"}); err == nil {
				t.Error("an unknown tool is no error")
			}
			if s.Served("tools/list") == 0 {
				t.Error("tools/list was not counted")
			}
		})
	}
}

func TestMCPRefuses(t *testing.T) {
	t.Parallel()
	s := startMCP(t)
	for name, header := range map[string]http.Header{
		"nothing":                      {},
		"a caller's token":             {"Authorization": {"Bearer " + callerToken}},
		"a caller's token as the key":  {"X-Api-Key": {callerToken}},
		"the key and a caller's token": {"X-Api-Key": {serviceKey}, "Authorization": {"Bearer " + callerToken}},
		"two keys":                     {"X-Api-Key": {serviceKey, callerToken}},
	} {
		before := s.Refused()
		session, err := connect(t, s.URL(), header)
		if err == nil {
			session.Close()
			t.Errorf("%s: connected", name)
			continue
		}
		wantError(t, err, "Unauthorized")
		if s.Refused() == before {
			t.Errorf("%s: the journal has no refusal", name)
		}
	}
	if s.Served("initialize") != 0 {
		t.Error("a refused request was served")
	}
}
