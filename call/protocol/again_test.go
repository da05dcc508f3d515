package protocol

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/callgate/callgate/call"
)

func pending() call.Decision {
	return call.Decision{Outcome: call.HoldDeny, Reason: call.ReasonApprovalPending, Rule: "large refunds", Message: "wait",
		Approval: &call.Approval{ID: "apr_1", Expires: time.Date(2026, 11, 26, 12, 0, 0, 5, time.UTC), Again: call.Again{After: 4200 * time.Millisecond,
			StatusURL: "https://gate.example/api/v1/approvals/apr_1/status", PageURL: "https://gate.example/a/apr_1?e=1&s=2"}}}
}

// A caller whose call waits is told when to come again and where to ask.
func TestComeAgainHTTP(t *testing.T) {
	d := Deny(call.HTTP, request("POST /x", ""), nil, someID, pending())
	if d.Status != 403 || d.Headers.Get("retry-after") != "5" || d.Headers.Get("link") != `<https://gate.example/api/v1/approvals/apr_1/status>; rel="status"` {
		t.Errorf("%d %v", d.Status, d.Headers)
	}
	var p map[string]any
	if err := json.Unmarshal(d.Body, &p); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]any{"type": "urn:callgate:denied:approval_pending", "reason": "approval_pending", "approval": "apr_1", "retry_after": 5.0,
		"status_url": "https://gate.example/api/v1/approvals/apr_1/status", "expires": "2026-11-26T12:00:00Z"} {
		if p[key] != want {
			t.Errorf("%s: %v, want %v", key, p[key], want)
		}
	}
	// Other denials have nothing of it.
	if body := string(Deny(call.HTTP, nil, nil, someID, decision(call.ReasonRule)).Body); strings.Contains(body, "retry_after") || strings.Contains(body, "expires") {
		t.Error(body)
	}
}

func TestComeAgainGRPC(t *testing.T) {
	d := Deny(call.GRPC, nil, nil, someID, pending())
	raw, err := base64.RawStdEncoding.DecodeString(d.Headers.Get("grpc-status-details-bin"))
	if err != nil {
		t.Fatal(err)
	}
	var st rpcstatus.Status
	if err := proto.Unmarshal(raw, &st); err != nil {
		t.Fatal(err)
	}
	var retry *errdetails.RetryInfo
	var info *errdetails.ErrorInfo
	for _, detail := range status.FromProto(&st).Details() {
		switch d := detail.(type) {
		case *errdetails.RetryInfo:
			retry = d
		case *errdetails.ErrorInfo:
			info = d
		}
	}
	if retry.GetRetryDelay().AsDuration() != 5*time.Second || info.GetReason() != "approval_pending" || info.GetMetadata()["status_url"] == "" || info.GetMetadata()["expires"] != "2026-11-26T12:00:00Z" {
		t.Errorf("%v %v", retry, info)
	}
}

// What is over by itself is told apart from what is not, in each protocol.
func TestComeAgainAfterOutage(t *testing.T) {
	for reason, want := range map[call.Reason]string{
		call.ReasonApprovalUnavailable: "5", call.ReasonAuditUnavailable: "5", call.ReasonApprovalLimit: "30",
		call.ReasonRule: "", call.ReasonRefused: "", call.ReasonBodyTooLarge: "", call.ReasonInternal: "",
	} {
		d := call.Decision{Outcome: call.Deny, Reason: reason}
		for _, p := range []call.Protocol{call.HTTP, call.JSONRPC, call.GRPC, call.GraphQL, call.OpenAI} {
			out := Deny(p, request("POST /x", `{"jsonrpc":"2.0","id":7,"method":"x"}`), json.RawMessage("7"), someID, d)
			if got := out.Headers.Get("retry-after"); got != want {
				t.Errorf("%s %s: retry-after %q", p, reason, got)
			}
			if said := strings.Contains(string(out.Body), `"retry_after":`+want); p != call.GRPC && said != (want != "") {
				t.Errorf("%s %s: %s", p, reason, out.Body)
			}
		}
	}
}

// Whether a session's client can show a page is read of the request that begins it.
func TestElicits(t *testing.T) {
	for body, want := range map[string]bool{
		`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{"elicitation":{"form":{},"url":{}}}}}`: true,
		`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{"elicitation":{"form":{}}}}}`:          false,
		`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{"elicitation":{}}}}`:                   false,
		`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{}}}`:                                   false,
		`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"capabilities":{"elicitation":{"url":null}}}}`:                                        false,
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","capabilities":{"elicitation":{"url":{}}}}}`:                               false,
	} {
		req := request("POST /mcp", body, "content-type", jsonBody)
		inv, err := mcp{}.Parse(req)
		if err != nil {
			t.Fatal(err)
		}
		if got := Elicits(req, inv.Function); got != want {
			t.Errorf("%s: %t", body, got)
		}
	}
	d := pending()
	d.Approval.Again.Elicits = true
	for p, want := range map[call.Protocol]bool{call.MCP: true, call.JSONRPC: false} {
		out := Deny(p, request("POST /mcp", `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"x"}}`), json.RawMessage("7"), someID, d)
		if got := strings.Contains(string(out.Body), "-32042"); got != want {
			t.Errorf("%s: %s", p, out.Body)
		}
	}
}

// A page to show comes to those clients that say in the request that they can.
func TestComeAgainMCP(t *testing.T) {
	const call1 = `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"x","_meta":{"io.modelcontextprotocol/clientCapabilities":%}}}`
	for capabilities, elicits := range map[string]bool{
		`{"elicitation":{"url":{}}}`:              true,
		`{"elicitation":{"form":{},"url":{}}}`:    true,
		`{"elicitation":{"form":{}}}`:             false,
		`{"elicitation":{}}`:                      false,
		`{}`:                                      false,
		`{"elicitation":{"url":null}}`:            false,
		`{"elicitation":"url"}`:                   false,
		`{"sampling":{"elicitation":{"url":{}}}}`: false,
	} {
		for _, p := range []call.Protocol{call.MCP, call.JSONRPC} {
			body := strings.Replace(call1, "%", capabilities, 1)
			d := Deny(p, request("POST /mcp", body), json.RawMessage("7"), someID, pending())
			var m struct {
				Error struct {
					Code int
					Data struct {
						Approval     string `json:"approval"`
						RetryAfter   int    `json:"retry_after"`
						StatusURL    string `json:"status_url"`
						Elicitations []struct{ Mode, ElicitationID, URL, Message string }
					}
				}
			}
			if err := json.Unmarshal(d.Body, &m); err != nil {
				t.Fatal(err)
			}
			if m.Error.Data.Approval != "apr_1" || m.Error.Data.RetryAfter != 5 || m.Error.Data.StatusURL == "" || d.Status != 200 {
				t.Errorf("%s: %d %s", p, d.Status, d.Body)
			}
			if want := elicits && p == call.MCP; want != (m.Error.Code == -32042) || want != (len(m.Error.Data.Elicitations) == 1) {
				t.Errorf("%s %s: %s", p, capabilities, d.Body)
			} else if want && (m.Error.Data.Elicitations[0].Mode != "url" || m.Error.Data.Elicitations[0].URL != "https://gate.example/a/apr_1?e=1&s=2" || m.Error.Data.Elicitations[0].ElicitationID != "apr_1") {
				t.Errorf("%s", d.Body)
			}
		}
	}
}
