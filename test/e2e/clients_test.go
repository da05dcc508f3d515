package e2e

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"google.golang.org/genproto/googleapis/rpc/errdetails"

	"github.com/callgate/callgate/demo"
	"github.com/callgate/callgate/demo/endpoint/ordersv1"
)

func demoTLS(t *testing.T) demo.Config {
	t.Helper()
	return demo.Config{Dir: filepath.Join(t.TempDir(), "stack"), AnyPorts: true, TLS: true}
}

func dialer(timeout time.Duration) *net.Dialer { return &net.Dialer{Timeout: timeout} }

type bearer struct{ token string }

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("authorization", "Bearer "+b.token)
	return http.DefaultTransport.RoundTrip(r)
}

func connectMCP(t *testing.T, token string) (*mcp.ClientSession, error) {
	t.Helper()
	return shared.connectMCP(t, token)
}

func (w *world) connectMCP(t *testing.T, token string) (*mcp.ClientSession, error) {
	t.Helper()
	transport := &mcp.StreamableClientTransport{Endpoint: "http://" + w.Addrs.Envoy + "/mcp", HTTPClient: &http.Client{Transport: bearer{token}}}
	return mcp.NewClient(&mcp.Implementation{Name: "e2e", Version: "1"}, nil).Connect(t.Context(), transport, nil)
}

// The official client works through the gateway, and a denial is that one
// call's error.
func TestMCP(t *testing.T) {
	s, err := connectMCP(t, shared.agent)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	tools, err := s.ListTools(t.Context(), nil)
	if err != nil || len(tools.Tools) != 4 {
		t.Errorf("%v %v", tools, err)
	}
	result, err := s.CallTool(t.Context(), &mcp.CallToolParams{Name: "get_customer", Arguments: map[string]any{"id": "c-1"}})
	if err != nil {
		t.Fatal(err)
	}
	text := result.Content[0].(*mcp.TextContent).Text
	if strings.Contains(text, "4242 4242 4242") || !strings.Contains(text, "****4242") {
		t.Errorf("the tool's text: %s", text)
	}
	last, ok := shared.MCP.Last()
	if !ok || last.Header.Get("authorization") != "" || last.Header.Get("x-api-key") == "" {
		t.Errorf("the server got %v", last.Header)
	}
	if _, err := connectMCP(t, shared.ci); err == nil {
		t.Error("the CI job may use the tools")
	} else if wire := new(jsonrpc.Error); errors.As(err, &wire) && !strings.Contains(wire.Message, "no rule allows") {
		t.Errorf("the denial: %v", err)
	}
}

func TestGRPC(t *testing.T) {
	conn, err := grpc.NewClient(shared.Addrs.Envoy, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	orders := ordersv1.NewOrdersClient(conn)
	as := func(token string) context.Context {
		return metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token)
	}
	var header metadata.MD
	order, err := orders.GetOrder(as(shared.alice), &ordersv1.GetOrderRequest{Id: "o-1"}, grpc.Header(&header))
	if err != nil || order.GetCardNumber() != "****4242" || order.GetCustomer() != "c-1" {
		t.Fatalf("%v %v", order, err)
	}
	shared.row(t, header.Get("x-callgate-call-id")[0], "protocol", "grpc", "function", "callgate.demo.orders.v1.Orders/GetOrder",
		"args", `{"id":"o-1"}`, "rpc_code", 0, "http_status", 200, "answered", "seen")

	stream, err := orders.WatchOrders(as(shared.alice), &ordersv1.WatchOrdersRequest{Customer: "c-1", Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; ; n++ {
		o, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			if n != 1 {
				t.Errorf("%d orders of 1", n)
			}
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(o.GetCardNumber(), "4242 4242") {
			t.Errorf("a streamed message shows its card: %v", o)
		}
	}
	// The service's own error keeps its code, and the row has it.
	_, err = orders.GetOrder(as(shared.alice), &ordersv1.GetOrderRequest{Id: "none"}, grpc.Header(&header), grpc.Trailer(&header))
	if status.Code(err) != codes.NotFound {
		t.Errorf("the service's own error: %v", err)
	}
	// Denials are statuses with details.
	for reason, c := range map[string]struct {
		token string
		code  codes.Code
	}{"no_rule": {shared.ci, codes.PermissionDenied}, "expired_token": {shared.stale, codes.Unauthenticated}} {
		_, err := orders.GetOrder(as(c.token), &ordersv1.GetOrderRequest{Id: "o-1"})
		s := status.Convert(err)
		if s.Code() != c.code || len(s.Details()) != 1 || s.Details()[0].(*errdetails.ErrorInfo).GetReason() != reason {
			t.Errorf("%s: %v with %v", reason, err, s.Details())
		}
	}
	// What no descriptor describes is denied with the reason.
	err = conn.Invoke(as(shared.alice), "/callgate.demo.orders.v1.Orders/Nothing", &ordersv1.GetOrderRequest{}, &ordersv1.Order{})
	if status.Code(err) != codes.Unimplemented || !strings.Contains(status.Convert(err).Message(), "no descriptor for") {
		t.Errorf("an unknown method: %v", err)
	}
}
