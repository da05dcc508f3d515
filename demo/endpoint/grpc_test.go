package endpoint_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/callgate/callgate/demo/endpoint"
	"github.com/callgate/callgate/demo/endpoint/ordersv1"
)

func startGRPC(t *testing.T) (*endpoint.GRPC, *grpc.ClientConn) {
	t.Helper()
	s, err := endpoint.NewGRPC(endpoint.Config{Credential: serviceKey})
	if err != nil {
		t.Fatal(err)
	}
	run(t, s.Run)
	return s, dial(t, s.Addr(), insecure.NewCredentials())
}

func dial(t *testing.T, addr string, creds credentials.TransportCredentials) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func authorized(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+serviceKey)
}

func TestGRPC(t *testing.T) {
	t.Parallel()
	s, conn := startGRPC(t)
	c, ctx := ordersv1.NewOrdersClient(conn), authorized(t.Context())
	got, err := c.GetOrder(ctx, &ordersv1.GetOrderRequest{Id: "o-1"})
	if err != nil {
		t.Fatal(err)
	}
	if got.GetCardNumber() != "4242 4242 4242 4242" || got.GetCustomerEmail() != "ada@example.com" {
		t.Errorf("got %v", got)
	}
	last, _ := s.Last()
	if last.Target != "/callgate.demo.orders.v1.Orders/GetOrder" || !strings.Contains(string(last.Body), `"o-1"`) || last.Host != s.Addr() {
		t.Errorf("the journal has %+v", last)
	}
	if _, err := c.GetOrder(ctx, &ordersv1.GetOrderRequest{Id: "o-9"}); status.Code(err) != codes.NotFound {
		t.Errorf("an unknown order: %v", err)
	}
	if n := s.Served("callgate.demo.orders.v1.Orders/GetOrder"); n != 2 {
		t.Errorf("counted %d", n)
	}
	for name, r := range map[string]*ordersv1.CreateOrderRequest{
		"no customer":    {Currency: "EUR", Items: []*ordersv1.Item{{Sku: "x", Quantity: 1}}},
		"no items":       {Customer: "c-1", Currency: "EUR"},
		"a bad quantity": {Customer: "c-1", Currency: "EUR", Items: []*ordersv1.Item{{Sku: "x"}}},
		"no currency":    {Customer: "c-1", Items: []*ordersv1.Item{{Sku: "x", Quantity: 1}}},
	} {
		if _, err := c.CreateOrder(ctx, r); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestGRPCWatch(t *testing.T) {
	t.Parallel()
	_, conn := startGRPC(t)
	c, ctx := ordersv1.NewOrdersClient(conn), authorized(t.Context())
	stream, err := c.WatchOrders(ctx, &ordersv1.WatchOrdersRequest{Customer: "c-1", Limit: 2})
	if err != nil {
		t.Fatal(err)
	}
	if first, err := stream.Recv(); err != nil || first.GetId() != "o-1" {
		t.Fatalf("first: %v, %v", first, err)
	}
	made, err := c.CreateOrder(ctx, &ordersv1.CreateOrderRequest{
		Customer: "c-1", Currency: "EUR", CardNumber: "4242 4242 4242 4242",
		Items: []*ordersv1.Item{{Sku: "lamp", Quantity: 3, UnitPrice: 500}},
	})
	if err != nil {
		t.Fatal(err)
	}
	second, err := stream.Recv()
	if err != nil || second.GetId() != made.GetId() || second.GetTotal() != 1500 {
		t.Fatalf("second: %v, %v", second, err)
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("after the limit: %v", err)
	}
}

func TestGRPCRefuses(t *testing.T) {
	t.Parallel()
	s, conn := startGRPC(t)
	c := ordersv1.NewOrdersClient(conn)
	for name, pairs := range map[string][]string{
		"nothing":           nil,
		"a caller's token":  {"authorization", "Bearer " + callerToken},
		"the key bare":      {"authorization", serviceKey},
		"both":              {"authorization", "Bearer " + callerToken, "authorization", "Bearer " + serviceKey},
		"the key elsewhere": {"x-api-key", serviceKey},
	} {
		ctx := metadata.AppendToOutgoingContext(t.Context(), pairs...)
		before := s.Refused()
		_, err := c.CreateOrder(ctx, &ordersv1.CreateOrderRequest{Customer: "c-1"})
		if status.Code(err) != codes.Unauthenticated || strings.Contains(err.Error(), serviceKey) {
			t.Errorf("%s: %v", name, err)
		}
		stream, err := c.WatchOrders(ctx, &ordersv1.WatchOrdersRequest{Customer: "c-1", Limit: 1})
		if err == nil {
			_, err = stream.Recv()
		}
		if status.Code(err) != codes.Unauthenticated {
			t.Errorf("%s, streaming: %v", name, err)
		}
		if s.Refused() != before+2 {
			t.Errorf("%s: the journal has %d refusals more, want 2", name, s.Refused()-before)
		}
	}
	for _, method := range []string{"CreateOrder", "WatchOrders"} {
		if n := s.Served("callgate.demo.orders.v1.Orders/" + method); n != 0 {
			t.Errorf("%s ran %d times", method, n)
		}
	}
}

// Whoever reads descriptors needs no credential, and gets complete ones.
func TestGRPCReflection(t *testing.T) {
	t.Parallel()
	s, conn := startGRPC(t)
	stream, err := reflectionv1.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ask := func(r *reflectionv1.ServerReflectionRequest) *reflectionv1.ServerReflectionResponse {
		t.Helper()
		if err := stream.Send(r); err != nil {
			t.Fatal(err)
		}
		got, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	var names []string
	list := ask(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}})
	for _, service := range list.GetListServicesResponse().GetService() {
		names = append(names, service.GetName())
	}
	if !slices.Contains(names, "callgate.demo.orders.v1.Orders") {
		t.Errorf("services are %v", names)
	}
	files := ask(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_FileContainingSymbol{
		FileContainingSymbol: "callgate.demo.orders.v1.Orders",
	}}).GetFileDescriptorResponse().GetFileDescriptorProto()
	var paths []string
	for _, raw := range files {
		var file descriptorpb.FileDescriptorProto
		if err := proto.Unmarshal(raw, &file); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, file.GetName())
	}
	if !slices.Contains(paths, "callgate/demo/orders/v1/orders.proto") || !slices.Contains(paths, "google/protobuf/timestamp.proto") {
		t.Errorf("files are %v", paths)
	}
	if s.Arrived() != 0 {
		t.Error("reflection is in the journal")
	}
}

func TestGRPCWithTLSComesBack(t *testing.T) {
	t.Parallel()
	server, transport := certified(t)
	s, err := endpoint.NewGRPC(endpoint.Config{Credential: serviceKey, TLS: server})
	if err != nil {
		t.Fatal(err)
	}
	get := func() error {
		conn := dial(t, s.Addr(), credentials.NewTLS(transport.TLSClientConfig.Clone()))
		_, err := ordersv1.NewOrdersClient(conn).GetOrder(authorized(t.Context()), &ordersv1.GetOrderRequest{Id: "o-1"})
		return err
	}
	stop := run(t, s.Run)
	if err := get(); err != nil {
		t.Fatal(err)
	}
	stop()
	if err := get(); status.Code(err) != codes.Unavailable {
		t.Errorf("while it is stopped: %v", err)
	}
	run(t, s.Run)
	for err = get(); status.Code(err) == codes.Unavailable && t.Context().Err() == nil; {
		err = get()
	}
	if err != nil {
		t.Errorf("after coming back: %v", err)
	}
	if !strings.HasPrefix(s.URL(), "https://") {
		t.Errorf("URL is %s", s.URL())
	}
	// A client that trusts other authorities is not served.
	stranger := &http.Client{Transport: &http.Transport{ForceAttemptHTTP2: true}}
	if _, err := stranger.Get(s.URL()); err == nil {
		t.Error("a stranger trusts the certificate")
	}
}
