package demo

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/console"
	"github.com/callgate/callgate/demo/endpoint/ordersv1"
)

// clientTLS trusts the functions' own authority.
func (t *tour) clientTLS() *tls.Config {
	return &tls.Config{RootCAs: t.Authority.Pool(), MinVersion: tls.VersionTLS12}
}

// bearer puts a token on every request and notes the call ids of the answers.
type bearer struct {
	token string
	next  http.RoundTripper
	ids   chan string
}

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("authorization", "Bearer "+b.token)
	resp, err := b.next.RoundTrip(r)
	if err == nil && r.Method == http.MethodPost {
		select {
		case b.ids <- resp.Header.Get(call.HeaderCallID):
		default:
		}
	}
	return resp, err
}

// mcpCall uses tools with the official client.
func (t *tour) mcpCall(ctx context.Context) error {
	ids := make(chan string, 64)
	transport := &mcp.StreamableClientTransport{Endpoint: "http://" + t.Addrs.Envoy + "/mcp",
		HTTPClient: &http.Client{Transport: bearer{t.agent, http.DefaultTransport, ids}}}
	session, err := mcp.NewClient(&mcp.Implementation{Name: "callgate-demo", Version: "1"}, nil).Connect(ctx, transport, nil)
	if err != nil {
		return fmt.Errorf("connect to the MCP server: %w", err)
	}
	defer session.Close()
	for len(ids) > 0 {
		<-ids // of initialize and its kind
	}
	args := map[string]any{"id": "c-1"}
	t.line("sent", "tools/call get_customer %v (as support-agent for alice)", args)
	result, err := session.CallTool(ctx, &mcp.CallToolParams{Name: "get_customer", Arguments: args})
	if err != nil {
		return fmt.Errorf("call the tool: %w", err)
	}
	text, err := json.Marshal(result)
	if err != nil {
		return err
	}
	t.line("came back", "%s", text)
	if strings.Contains(string(text), "4242 4242 4242") || !strings.Contains(string(text), "4242") {
		return errors.New("want the card masked in the tool's result")
	}
	row, err := t.row(ctx, <-ids)
	if err != nil {
		return err
	}
	if err := want(row, "decision", "allow", "subject", "alice", "acting", "support-agent", "function", "tools/call get_customer", "http_status", 200, "rpc_code", 0, "tool_error", false); err != nil {
		return err
	}
	t.line("sent", "tools/call run_query with SQL that is wrong")
	result, err = session.CallTool(ctx, &mcp.CallToolParams{Name: "run_query", Arguments: map[string]any{"query": "selec 1"}})
	if err != nil {
		return fmt.Errorf("call the tool: %w", err)
	}
	t.line("came back", "HTTP 200, no JSON-RPC error, and the tool's own isError: %v", result.IsError)
	if row, err = t.row(ctx, <-ids); err != nil {
		return err
	}
	return want(row, "http_status", 200, "rpc_code", 0, "tool_error", true)
}

// grpcCall uses the gRPC service.
func (t *tour) grpcCall(ctx context.Context) error {
	conn, err := grpc.NewClient(t.Addrs.Envoy, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	orders := ordersv1.NewOrdersClient(conn)
	as := metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+t.alice)

	var header metadata.MD
	t.line("sent", "Orders/GetOrder {id: o-1} (as alice)")
	order, err := orders.GetOrder(as, &ordersv1.GetOrderRequest{Id: "o-1"}, grpc.Header(&header))
	if err != nil {
		return fmt.Errorf("get the order: %w", err)
	}
	t.line("came back", "%s", order)
	if strings.Contains(order.GetCardNumber(), "4242 4242 4242") {
		return errors.New("want the card masked in the message")
	}
	row, err := t.row(ctx, strings.Join(header.Get(call.HeaderCallID), ""))
	if err != nil {
		return err
	}
	if err := want(row, "decision", "allow", "function", "callgate.demo.orders.v1.Orders/GetOrder", "rpc_code", 0); err != nil {
		return err
	}
	t.line("sent", "Orders/CreateOrder (as alice)")
	_, err = orders.CreateOrder(as, &ordersv1.CreateOrderRequest{Customer: "c-1"}, grpc.Header(&header))
	t.line("came back", "%v", err)
	if status.Code(err) != codes.PermissionDenied {
		return fmt.Errorf("want PermissionDenied")
	}
	return nil
}

// accepted waits until Envoy says that it runs the version in force.
func (t *tour) accepted(ctx context.Context) (string, error) {
	api := console.NewClient("http://"+t.Addrs.Console, t.bob)
	for {
		s, err := api.Status(ctx)
		if err != nil {
			return "", err
		}
		for _, e := range s.Envoys {
			if e.Version == s.PolicyVersion {
				return e.Version, nil
			}
			if e.Refused != "" {
				return "", fmt.Errorf("envoy refused its configuration: %s", e.Refused)
			}
		}
		select {
		case <-ctx.Done():
			return "", errors.New("envoy did not accept the new version")
		case <-time.After(5 * time.Millisecond):
		}
	}
}
