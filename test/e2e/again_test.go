package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/callgate/callgate/demo/endpoint/ordersv1"
)

const refundsByTool = `
  - {name: refunds by tool, connections: [tools], functions: ["tools/call issue_refund"], action: hold, hold: {approvers: {groups: [refund-approvers]}, wait: retry}}
`

// comeAgain has the callers of each protocol come again.
func comeAgain(rules string) string {
	return strings.Replace(rules, "timeout: 60s}", "timeout: 48h, wait: retry}", 1) + refundsByTool + `  - {name: orders need a person, connections: [orders], functions: ["*/GetOrder"], action: hold, hold: {approvers: {groups: [refund-approvers]}, timeout: 1m, wait: 500ms}}
`
}

// standing asks how far an approval is, as its caller would.
func (w *world) standing(t *testing.T, address, token string) (int, map[string]any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var out map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, out
}

func (w *world) approve(t *testing.T, id string) {
	t.Helper()
	if out, err := w.cli(t, w.bob, "approvals", "approve", id); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

func TestComeAgain(t *testing.T) {
	withRules(t, comeAgain, func() {
		t.Run("http", comeAgainHTTP)
		t.Run("mcp", comeAgainMCP)
		t.Run("mcp with a page", comeAgainElicited)
		t.Run("grpc", comeAgainGRPC)
	})
}

func comeAgainHTTP(t *testing.T) {
	versions(t, func(t *testing.T, c *http.Client) {
		bigRefund := strings.Replace(bigRefund, "500", map[bool]string{true: "510", false: "520"}[strings.HasSuffix(t.Name(), "http1")], 1)
		served := shared.REST.Served("refunds.create")
		first := shared.call(t, c, shared.agent, "POST", "/crm/refunds", bigRefund)
		var p struct {
			Type, Approval string
			StatusURL      string `json:"status_url"`
			RetryAfter     int    `json:"retry_after"`
		}
		if err := json.Unmarshal([]byte(first.body), &p); err != nil {
			t.Fatal(err)
		}
		if first.status != 403 || first.header.Get("retry-after") != "2" || p.RetryAfter != 2 || p.Type != "urn:callgate:denied:approval_pending" ||
			p.Approval == "" || p.Approval != first.header.Get("x-callgate-approval") || !strings.Contains(first.header.Get("link"), p.StatusURL) {
			t.Fatalf("%d %v %s", first.status, first.header, first.body)
		}
		if again := shared.call(t, c, shared.agent, "POST", "/crm/refunds", bigRefund); again.header.Get("x-callgate-approval") != p.Approval {
			t.Errorf("another approval is asked for: %s", again.body)
		}
		other := shared.call(t, c, shared.agent, "POST", "/crm/refunds", strings.Replace(bigRefund, "0,", "1,", 1))
		if id := other.header.Get("x-callgate-approval"); id == "" || id == p.Approval {
			t.Errorf("a byte of difference: %s", other.body)
		}
		// The agent's own token is told; a stranger's is not.
		if status, st := shared.standing(t, p.StatusURL, shared.agent); status != 200 || st["state"] != "open" {
			t.Errorf("%d %v", status, st)
		}
		if status, _ := shared.standing(t, p.StatusURL, shared.ci); status != 404 {
			t.Errorf("a stranger is told: %d", status)
		}
		shared.approve(t, p.Approval)
		if _, st := shared.standing(t, p.StatusURL, shared.agent); st["state"] != "approved" || st["use_by"] == nil {
			t.Errorf("%v", st)
		}
		passed := shared.call(t, c, shared.agent, "POST", "/crm/refunds", bigRefund)
		if passed.status != 201 || passed.header.Get("x-callgate-approval") != p.Approval || shared.REST.Served("refunds.create") != served+1 {
			t.Errorf("%d %s", passed.status, passed.body)
		}
		next := shared.call(t, c, shared.agent, "POST", "/crm/refunds", bigRefund)
		if next.status != 403 || next.header.Get("x-callgate-approval") == p.Approval || shared.REST.Served("refunds.create") != served+1 {
			t.Errorf("an approval passed twice: %d %s", next.status, next.body)
		}
		shared.row(t, first.id(), "decision", "hold→deny", "reason", "approval_pending", "approval_id", p.Approval)
		shared.row(t, passed.id(), "decision", "hold→allow", "reason", "approved", "approval_id", p.Approval)
		for _, id := range []string{next.header.Get("x-callgate-approval"), other.header.Get("x-callgate-approval")} {
			if out, err := shared.cli(t, shared.bob, "approvals", "deny", id, "--comment", "enough"); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		}
		if no := shared.call(t, c, shared.agent, "POST", "/crm/refunds", bigRefund); no.reason() != "refused" || !strings.Contains(no.body, "enough") {
			t.Errorf("%d %s", no.status, no.body)
		}
	})
}

// The official client gets the error as its call's own, and its next call, which
// has another id, passes on the approval.
func comeAgainMCP(t *testing.T) {
	s, err := connectMCP(t, shared.agent)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	refund := func(amount int) (*mcp.CallToolResult, error) {
		return s.CallTool(t.Context(), &mcp.CallToolParams{Name: "issue_refund", Arguments: map[string]any{"customer": "c-1", "amount": amount, "currency": "EUR", "reason": "broken"}})
	}
	pending := func(amount int) (id, statusURL string) {
		t.Helper()
		res, err := refund(amount)
		var wire *jsonrpc.Error
		if !errors.As(err, &wire) {
			t.Fatalf("%v %v", res, err)
		}
		var data struct {
			Reason, Approval string
			StatusURL        string `json:"status_url"`
			RetryAfter       int    `json:"retry_after"`
		}
		if err := json.Unmarshal(wire.Data, &data); err != nil || data.Reason != "approval_pending" || data.RetryAfter < 2 {
			t.Fatalf("%s: %v", wire.Data, err)
		}
		return data.Approval, data.StatusURL
	}
	id, statusURL := pending(70)
	if again, _ := pending(70); again != id {
		t.Errorf("another approval is asked for: %s", again)
	}
	if status, st := shared.standing(t, statusURL, shared.agent); status != 200 || st["state"] != "open" {
		t.Errorf("%d %v", status, st)
	}
	shared.approve(t, id)
	other, _ := pending(71)
	if other == id {
		t.Error("another amount passes on the approval")
	}
	if res, err := refund(70); err != nil || res.IsError {
		t.Errorf("%+v %v", res, err)
	}
	next, _ := pending(70)
	if next == id {
		t.Error("an approval passed twice")
	}
	// Nothing is left that a later test would take for its own.
	shared.exits(t, 0, shared.bob, "approvals", "deny", other)
	shared.exits(t, 0, shared.bob, "approvals", "deny", next)
}

// elicited begins a session of a client that can show its person a page.
func elicited(t *testing.T, w *world) (*mcp.ClientSession, error) {
	t.Helper()
	shown := &mcp.ClientOptions{
		Capabilities: &mcp.ClientCapabilities{Elicitation: &mcp.ElicitationCapabilities{URL: &mcp.URLElicitationCapabilities{}}},
		ElicitationHandler: func(context.Context, *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
			return &mcp.ElicitResult{Action: "accept"}, nil
		},
	}
	transport := &mcp.StreamableClientTransport{Endpoint: "http://" + w.Addrs.Envoy + "/mcp", HTTPClient: &http.Client{Transport: bearer{w.agent}}}
	s, err := mcp.NewClient(&mcp.Implementation{Name: "e2e", Version: "1"}, shown).Connect(t.Context(), transport, nil)
	if err == nil {
		t.Cleanup(func() { _ = s.Close() }) // the stack may have gone first
	}
	return s, err
}

func refundByTool(amount int) *mcp.CallToolParams {
	return &mcp.CallToolParams{Name: "issue_refund", Arguments: map[string]any{"customer": "c-1", "amount": amount, "currency": "EUR", "reason": "broken"}}
}

// A client that can show its person a page is given the approval's, as the error
// of the official client that stands for that.
func comeAgainElicited(t *testing.T) {
	s, err := elicited(t, shared)
	if err != nil {
		t.Fatal(err)
	}
	refund := refundByTool(80)
	_, err = s.CallTool(t.Context(), refund)
	var wire *jsonrpc.Error
	if !errors.As(err, &wire) || wire.Code != mcp.CodeURLElicitationRequired {
		t.Fatalf("session of %s: %v", s.InitializeResult().ProtocolVersion, err)
	}
	var data struct {
		Approval     string
		Elicitations []mcp.ElicitParams
	}
	if err := json.Unmarshal(wire.Data, &data); err != nil || len(data.Elicitations) != 1 {
		t.Fatalf("%s: %v", wire.Data, err)
	}
	e := data.Elicitations[0]
	if e.Mode != "url" || e.ElicitationID != data.Approval || e.Message == "" || !strings.HasPrefix(e.URL, "http://"+shared.Addrs.Console+"/a/"+data.Approval+"?") {
		t.Errorf("%+v", e)
	}
	// The link leads to the page, which wants a login.
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Get(e.URL)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusSeeOther || resp.Header.Get("location") != "/approvals/"+data.Approval {
		t.Errorf("%s: %s to %s", e.URL, resp.Status, resp.Header.Get("location"))
	}
	shared.approve(t, data.Approval)
	if res, err := s.CallTool(t.Context(), &mcp.CallToolParams{Name: refund.Name, Arguments: refund.Arguments}); err != nil || res.IsError {
		t.Errorf("%+v %v", res, err)
	}
}

func comeAgainGRPC(t *testing.T) {
	conn, err := grpc.NewClient(shared.Addrs.Envoy, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	orders := ordersv1.NewOrdersClient(conn)
	get := func() (*ordersv1.Order, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		return orders.GetOrder(metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+shared.alice), &ordersv1.GetOrderRequest{Id: "o-1"})
	}
	pending := func() string {
		t.Helper()
		_, err := get()
		st := status.Convert(err)
		var info *errdetails.ErrorInfo
		var retry *errdetails.RetryInfo
		for _, d := range st.Details() {
			switch d := d.(type) {
			case *errdetails.ErrorInfo:
				info = d
			case *errdetails.RetryInfo:
				retry = d
			}
		}
		if st.Code() != codes.FailedPrecondition || info.GetReason() != "approval_pending" || retry.GetRetryDelay().AsDuration() < 2*time.Second || info.GetMetadata()["status_url"] == "" {
			t.Fatalf("%v with %v", err, st.Details())
		}
		return info.GetMetadata()["approval"]
	}
	began := time.Now()
	id := pending()
	if took := time.Since(began); took < 500*time.Millisecond {
		t.Errorf("told after %s, without being kept open", took)
	}
	shared.approve(t, id)
	if order, err := get(); err != nil || order.GetCustomer() != "c-1" {
		t.Fatalf("%v %v", order, err)
	}
	next := pending()
	if next == id {
		t.Error("an approval passed twice")
	}
	shared.exits(t, 0, shared.bob, "approvals", "deny", next)
}
