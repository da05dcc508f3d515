package protocol

import (
	"encoding/base64"
	"encoding/json"
	"go/ast"
	goparser "go/parser"
	"go/token"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/callgate/callgate/call"
)

var someID = call.ID{1, 2, 3}

func decision(reason call.Reason) call.Decision {
	return call.Decision{Outcome: call.Deny, Reason: reason, Rule: "no refunds", Message: `over "100"`,
		Approval: &call.Approval{ID: "ap1"}}
}

func TestDenyHTTP(t *testing.T) {
	d := Deny(call.HTTP, request("POST /x", ""), nil, someID, decision(call.ReasonRule))
	want := `{"type":"urn:callgate:denied:rule","title":"Denied by policy","status":403,"detail":"over \"100\"",` +
		`"instance":"urn:uuid:01020300-0000-0000-0000-000000000000","call_id":"01020300-0000-0000-0000-000000000000","reason":"rule","rule":"no refunds","approval":"ap1"}`
	if d.Status != 403 || string(d.Body) != want {
		t.Errorf("got %d %s", d.Status, d.Body)
	}
	for name, want := range map[string]string{
		"content-type": "application/problem+json", "cache-control": "no-store", "x-callgate-reason": "rule",
		"x-callgate-call-id": someID.String(), "x-callgate-approval": "ap1", "www-authenticate": "",
	} {
		if got := d.Headers.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// Every reason that can deny must have a shape, and look right to each caller.
func TestDenyShapes(t *testing.T) {
	want := map[call.Reason]struct {
		status int
		code   codes.Code
		rpc    int
	}{
		call.ReasonRule:                {403, codes.PermissionDenied, -32090},
		call.ReasonNoRule:              {403, codes.PermissionDenied, -32090},
		call.ReasonNoCredentials:       {401, codes.Unauthenticated, -32090},
		call.ReasonInvalidToken:        {401, codes.Unauthenticated, -32090},
		call.ReasonExpiredToken:        {401, codes.Unauthenticated, -32090},
		call.ReasonShadow:              {403, codes.PermissionDenied, -32090},
		call.ReasonRevokedToken:        {401, codes.Unauthenticated, -32090},
		call.ReasonInsufficientScope:   {403, codes.PermissionDenied, -32090},
		call.ReasonIdentityUnavailable: {503, codes.Unavailable, -32090},
		call.ReasonUnknownConnection:   {404, codes.NotFound, -32090},
		call.ReasonUnknownFunction:     {404, codes.Unimplemented, -32601},
		call.ReasonMalformedRequest:    {400, codes.InvalidArgument, -32600},
		call.ReasonBodyTooLarge:        {413, codes.ResourceExhausted, -32090},
		call.ReasonUpgradeRefused:      {403, codes.PermissionDenied, -32090},
		call.ReasonPolicyError:         {403, codes.PermissionDenied, -32090},
		call.ReasonPolicyUnavailable:   {503, codes.Unavailable, -32090},
		call.ReasonApprovalUnavailable: {503, codes.Unavailable, -32090},
		call.ReasonApprovalPending:     {403, codes.FailedPrecondition, -32090},
		call.ReasonApprovalLimit:       {429, codes.ResourceExhausted, -32090},
		call.ReasonRefused:             {403, codes.PermissionDenied, -32090},
		call.ReasonBreakGlassRefused:   {403, codes.PermissionDenied, -32090},
		call.ReasonApprovalExpired:     {403, codes.PermissionDenied, -32090},
		call.ReasonCanceled:            {403, codes.Canceled, -32090},
		call.ReasonBatchHold:           {403, codes.PermissionDenied, -32090},
		call.ReasonBatchWhole:          {403, codes.PermissionDenied, -32090},
		call.ReasonRequestWhole:        {403, codes.PermissionDenied, -32090},
		call.ReasonCredentialMissing:   {503, codes.Unavailable, -32090},
		call.ReasonAuditUnavailable:    {503, codes.Unavailable, -32090},
		call.ReasonResponseWithheld:    {502, codes.Internal, -32090},
		call.ReasonToolUnknown:         {404, codes.NotFound, -32090},
		call.ReasonToolChanged:         {403, codes.PermissionDenied, -32090},
		call.ReasonInternal:            {500, codes.Internal, -32090},
		"some_later_reason":            {500, codes.Internal, -32090},
	}
	for _, reason := range reasons(t) {
		if _, ok := want[reason]; !ok && reason != call.ReasonApproved && reason != call.ReasonBreakGlass {
			t.Errorf("reason %q has no shape", reason)
		}
	}
	for reason, want := range want {
		t.Run(string(reason), func(t *testing.T) {
			dec := decision(reason)
			for _, p := range []call.Protocol{call.HTTP, call.GRPC, call.MCP, call.JSONRPC, ""} {
				d := Deny(p, nil, nil, someID, dec)
				if d.Status != want.status || d.Headers.Get(call.HeaderCallID) != someID.String() || d.Headers.Get(call.HeaderReason) != string(reason) {
					t.Errorf("%s: %d %v", p, d.Status, d.Headers)
				}
				if challenge := d.Headers.Get("www-authenticate"); (challenge != "") != (want.status == 401 || reason == call.ReasonInsufficientScope) {
					t.Errorf("%s: www-authenticate %q", p, challenge)
				}
			}
			if got := Deny(call.GRPC, nil, nil, someID, dec).Headers.Get("grpc-status"); got != strconv.Itoa(int(want.code)) {
				t.Errorf("grpc-status %s, want %d", got, want.code)
			}
			d := Deny(call.MCP, request("POST /mcp", ""), json.RawMessage("7"), someID, dec)
			var m struct {
				ID    int
				Error struct{ Code int }
			}
			if err := json.Unmarshal(d.Body, &m); err != nil || m.ID != 7 || m.Error.Code != want.rpc {
				t.Errorf("%s: %v", d.Body, err)
			}
			if wantStatus := map[bool]int{true: 401, false: 200}[want.status == 401]; d.Status != wantStatus {
				t.Errorf("status %d, want %d", d.Status, wantStatus)
			}
		})
	}
}

// reasons reads the vocabulary's own list, so that a new one is not forgotten.
func reasons(t *testing.T) []call.Reason {
	t.Helper()
	file, err := goparser.ParseFile(token.NewFileSet(), "../decision.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var out []call.Reason
	ast.Inspect(file, func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok && strings.HasPrefix(v.Names[0].Name, "Reason") {
			word, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, call.Reason(word))
		}
		return true
	})
	if len(out) < 20 {
		t.Fatalf("found only %d reasons", len(out))
	}
	return out
}

func TestDenyRPC(t *testing.T) {
	for name, tt := range map[string]struct {
		protocol    call.Protocol
		req         *call.Request
		id          string
		reason      call.Reason
		status      int
		contentType string
		body        string
	}{
		"request":               {call.MCP, request("POST /mcp", ""), `"a\u0062"`, call.ReasonRule, 200, "application/json", `"id":"a\u0062"`},
		"request no longer had": {call.JSONRPC, nil, `1`, call.ReasonRule, 200, "application/json", `"id":1`},
		"notification":          {call.MCP, request("POST /mcp", ""), "", call.ReasonRule, 403, "application/json", `"id":null`},
		"null is no id":         {call.MCP, nil, "null", call.ReasonRule, 403, "application/json", `"id":null`},
		"broken id":             {call.JSONRPC, nil, `"x`, call.ReasonRule, 403, "application/json", `"id":null`},
		"could not be read":     {call.JSONRPC, request("POST /rpc", ""), "", call.ReasonMalformedRequest, 400, "application/json", `-32600`},
		"no token":              {call.MCP, request("POST /mcp", ""), "1", call.ReasonNoCredentials, 401, "application/json", `"id":1`},
		"stream":                {call.MCP, request("GET /mcp", ""), "", call.ReasonNoRule, 405, "application/problem+json", `"status":405`},
		"stream, no token":      {call.MCP, request("GET /mcp", ""), "", call.ReasonNoCredentials, 401, "application/problem+json", `"status":401`},
		"stream, out of order":  {call.MCP, request("GET /mcp", ""), "", call.ReasonAuditUnavailable, 503, "application/problem+json", `"status":503`},
		"end":                   {call.MCP, request("DELETE /mcp", ""), "", call.ReasonNoRule, 403, "application/problem+json", `"status":403`},
	} {
		t.Run(name, func(t *testing.T) {
			d := Deny(tt.protocol, tt.req, json.RawMessage(tt.id), someID, decision(tt.reason))
			if d.Status != tt.status || d.Headers.Get("content-type") != tt.contentType || !strings.Contains(string(d.Body), tt.body) || !json.Valid(d.Body) {
				t.Errorf("got %d %s %s", d.Status, d.Headers.Get("content-type"), d.Body)
			}
		})
	}
}

func TestDenyGRPC(t *testing.T) {
	dec := decision(call.ReasonBodyTooLarge)
	dec.Message = strings.Repeat("größer ", 1000)
	dec.Rule = "\xff rule"
	d := Deny(call.GRPC, nil, nil, someID, dec)
	b, err := base64.RawStdEncoding.DecodeString(d.Headers.Get("grpc-status-details-bin"))
	if err != nil {
		t.Fatal(err)
	}
	var s rpcstatus.Status
	if err := proto.Unmarshal(b, &s); err != nil {
		t.Fatal(err)
	}
	if s.Code != int32(codes.ResourceExhausted) || s.Message != string(d.Body) || len(d.Body) > maxDetail+10 || !utf8.Valid(d.Body) {
		t.Errorf("code %d, body of %d bytes", s.Code, len(d.Body))
	}
	details := status.FromProto(&s).Details()
	if len(details) != 1 {
		t.Fatalf("details %v", details)
	}
	info, ok := details[0].(*errdetails.ErrorInfo)
	if !ok || info.Reason != "body_too_large" || info.Domain != "callgate" ||
		info.Metadata["call_id"] != someID.String() || info.Metadata["rule"] != "\uFFFD rule" || info.Metadata["approval"] != "ap1" {
		t.Errorf("info %v", info)
	}
}

func FuzzDeny(f *testing.F) {
	f.Add("mcp", `"x"`, "rule", "message", "rule")
	f.Add("grpc", `{`, "nonsense", "a\nb\xff", "\x00")
	f.Fuzz(func(t *testing.T, p, id, reason, message, rule string) {
		d := Deny(call.Protocol(p), nil, json.RawMessage(id), someID, call.Decision{Reason: call.Reason(reason), Message: message, Rule: rule})
		if d.Status < 200 || len(d.Body) == 0 || !utf8.Valid(d.Body) {
			t.Fatalf("got %+v", d)
		}
		if p != "grpc" && !json.Valid(d.Body) {
			t.Fatalf("not JSON: %s", d.Body)
		}
		if p == "grpc" && utf8.ValidString(reason) && d.Headers.Get("grpc-status-details-bin") == "" {
			t.Fatal("no details")
		}
	})
}
