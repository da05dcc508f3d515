package protocol

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	jsonrpcgo "github.com/modelcontextprotocol/go-sdk/jsonrpc"
	mcpgo "github.com/modelcontextprotocol/go-sdk/mcp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	grpcgo "google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/callgate/callgate/call"
)

// gate stands where Envoy and the decision service do: it parses each request,
// answers it with a denial if deny says so, and lets the others through.
func gate(t *testing.T, p Parser, protocol call.Protocol, deny func(*http.Request, Invocation) call.Reason, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		req := &call.Request{Method: r.Method, Path: r.URL.RequestURI(), Body: body}
		for name, values := range r.Header {
			for _, v := range values {
				req.Headers = append(req.Headers, call.Header{Name: strings.ToLower(name), Value: v})
			}
		}
		inv, err := p.Parse(req)
		decision := call.Decision{Outcome: call.Deny, Rule: "the rule", Message: "not for you"}
		var refused *Error
		if errors.As(err, &refused) {
			decision.Reason, decision.Message = refused.Reason, refused.Message
		} else {
			decision.Reason = deny(r, inv)
		}
		if decision.Reason == "" {
			r.Body = io.NopCloser(strings.NewReader(string(body)))
			next.ServeHTTP(w, r)
			return
		}
		d := Deny(protocol, req, inv.RPCID, someID, decision)
		for _, h := range d.Headers {
			w.Header().Add(h.Name, h.Value)
		}
		w.WriteHeader(d.Status)
		_, _ = w.Write(d.Body)
	})
}

// The official client must show a denied tool as that call's error and go on
// with its session, with or without the event stream.
func TestMCPClient(t *testing.T) {
	server := mcpgo.NewServer(&mcpgo.Implementation{Name: "tools", Version: "1"}, nil)
	type input struct {
		Q string `json:"q"`
	}
	for _, name := range []string{"search", "delete"} {
		mcpgo.AddTool(server, &mcpgo.Tool{Name: name}, func(context.Context, *mcpgo.CallToolRequest, input) (*mcpgo.CallToolResult, any, error) {
			return &mcpgo.CallToolResult{Content: []mcpgo.Content{&mcpgo.TextContent{Text: "done"}}}, nil, nil
		})
	}
	for name, streamed := range map[string]bool{"with a stream": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			streams := 0
			front := httptest.NewServer(gate(t, parser(t, call.MCP), call.MCP, func(r *http.Request, inv Invocation) call.Reason {
				switch inv.Function {
				case "session/stream":
					streams++
					if !streamed {
						return call.ReasonNoRule
					}
				case "tools/call delete", "notifications/roots/list_changed":
					return call.ReasonRule
				case "tools/list":
					return call.ReasonExpiredToken
				}
				return ""
			}, mcpgo.NewStreamableHTTPHandler(func(*http.Request) *mcpgo.Server { return server }, nil)))
			defer front.Close()
			session, err := mcpgo.NewClient(&mcpgo.Implementation{Name: "c", Version: "1"}, nil).Connect(t.Context(), &mcpgo.StreamableClientTransport{Endpoint: front.URL + "/mcp"}, nil)
			if err != nil {
				t.Fatal(err)
			}
			args := map[string]any{"q": "x"}
			if r, err := session.CallTool(t.Context(), &mcpgo.CallToolParams{Name: "search", Arguments: args}); err != nil || r.IsError {
				t.Fatalf("allowed: %+v, %v", r, err)
			}
			_, err = session.CallTool(t.Context(), &mcpgo.CallToolParams{Name: "delete", Arguments: args})
			var rpc *jsonrpcgo.Error
			if !errors.As(err, &rpc) || rpc.Code != rpcDenied || rpc.Message != "not for you" || !strings.Contains(string(rpc.Data), someID.String()) {
				t.Errorf("denied: %v", err)
			}
			if r, err := session.CallTool(t.Context(), &mcpgo.CallToolParams{Name: "search", Arguments: args}); err != nil || r.IsError {
				t.Errorf("after a denial: %+v, %v", r, err)
			}
			if _, err := session.ListTools(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "Unauthorized") {
				t.Errorf("expired token: %v", err)
			}
			if err := session.Close(); err != nil && streamed {
				t.Logf("close: %v", err)
			}
		})
	}
}

// Envoy makes a denial's headers the trailers of its answer and its body the
// percent-encoded grpc-message; grpc-go must read all of it from there.
func TestGRPCClient(t *testing.T) {
	for _, reason := range []call.Reason{call.ReasonRule, call.ReasonInvalidToken, call.ReasonAuditUnavailable, call.ReasonBodyTooLarge, call.ReasonMalformedRequest} {
		t.Run(string(reason), func(t *testing.T) {
			front := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				d := Deny(call.GRPC, nil, nil, someID, call.Decision{Reason: reason, Rule: "the rule", Message: "größer als 100%"})
				for _, h := range d.Headers {
					w.Header().Set(h.Name, h.Value)
				}
				w.Header().Set("content-type", "application/grpc")
				w.Header().Set("grpc-message", url.PathEscape(string(d.Body)))
			}))
			front.Config.Protocols = new(http.Protocols)
			front.Config.Protocols.SetUnencryptedHTTP2(true)
			front.Start()
			defer front.Close()
			conn, err := grpcgo.NewClient(front.Listener.Addr().String(), grpcgo.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			var header, trailer metadata.MD
			err = conn.Invoke(t.Context(), "/shop.Shop/Get", &emptypb.Empty{}, &emptypb.Empty{}, grpcgo.Header(&header), grpcgo.Trailer(&trailer))
			s := status.Convert(err)
			if s.Code() != shapes[reason].code || s.Message() != "größer als 100%" || s.Code() == codes.Unknown {
				t.Errorf("got %v %q", s.Code(), s.Message())
			}
			want := 1
			if reason == call.ReasonAuditUnavailable {
				want = 2 // when to come again
			}
			if len(s.Details()) != want {
				t.Fatalf("details %v", s.Details())
			}
			info, ok := s.Details()[0].(*errdetails.ErrorInfo)
			if !ok || info.Reason != string(reason) || info.Metadata["call_id"] != someID.String() {
				t.Errorf("info %v", info)
			}
			if got := metadata.Join(header, trailer).Get(call.HeaderCallID); len(got) != 1 || got[0] != someID.String() {
				t.Errorf("call id %v", got)
			}
		})
	}
}
