package xds

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/prometheus/client_golang/prometheus"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/envoy"
)

func resources(t *testing.T, version string, connect time.Duration) envoy.Resources {
	t.Helper()
	r, err := envoy.Build(envoy.Input{Settings: config.Envoy{Listen: "127.0.0.1:1", Services: "127.0.0.1:2", DecideTimeout: connect},
		Policy: config.Policy{Version: version}})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func serve(t *testing.T, nodes ...string) (*Server, discoveryv3.AggregatedDiscoveryServiceClient) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	s := New(Config{Nodes: nodes, Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Metrics: NewMetrics(prometheus.NewRegistry())})
	srv := grpc.NewServer()
	s.Register(ctx, srv)
	lis := bufconn.Listen(1 << 20)
	go func() { _ = srv.Serve(lis) }()
	t.Cleanup(srv.Stop)
	conn, err := grpc.NewClient("passthrough:///xds", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return s, discoveryv3.NewAggregatedDiscoveryServiceClient(conn)
}

// client is an Envoy as far as xDS is concerned.
type client struct {
	t      *testing.T
	stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient
}

func connect(t *testing.T, c discoveryv3.AggregatedDiscoveryServiceClient, node string) *client {
	t.Helper()
	stream, err := c.DeltaAggregatedResources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	out := &client{t, stream}
	for i, typeURL := range whole {
		req := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: typeURL}
		if i == 0 {
			req.Node = &corev3.Node{Id: node}
		}
		if typeURL == resourcev3.RouteType {
			req.ResourceNamesSubscribe = []string{"callgate"}
		}
		out.send(req)
	}
	return out
}

func (c *client) send(r *discoveryv3.DeltaDiscoveryRequest) {
	c.t.Helper()
	// Who was turned away is told by what it receives.
	if err := c.stream.Send(r); err != nil && !errors.Is(err, io.EOF) {
		c.t.Fatal(err)
	}
}

// take answers n responses, refusing those of a type where refuse is set.
func (c *client) take(n int, refuse string) {
	c.t.Helper()
	for range n {
		m, err := c.stream.Recv()
		if err != nil {
			c.t.Fatal(err)
		}
		answer := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: m.GetTypeUrl(), ResponseNonce: m.GetNonce()}
		if m.GetTypeUrl() == refuse {
			answer.ErrorDetail = &rpcstatus.Status{Message: "no such filter"}
		}
		c.send(answer)
	}
}

func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestAcceptedVersion(t *testing.T) {
	s, api := serve(t)
	if err := s.Set(t.Context(), Release{Stable: Version{"v1", resources(t, "v1", time.Second)}}); err != nil {
		t.Fatal(err)
	}
	c := connect(t, api, "edge-1")
	c.take(3, "")
	if err := s.WaitAccepted(bounded(t)); err != nil {
		t.Fatal(err)
	}
	if got := s.Status(); len(got) != 1 || got[0].ID != "edge-1" || got[0].Version != "v1" || got[0].Pending != "" || got[0].Refused != "" {
		t.Errorf("status %+v", got)
	}
	// Only what changed is sent, and until it is answered the old version stands.
	if err := s.Set(t.Context(), Release{Stable: Version{"v2", resources(t, "v2", time.Second)}}); err != nil {
		t.Fatal(err)
	}
	if got := s.Status(); got[0].Version != "v1" || got[0].Pending != "v2" {
		t.Errorf("before the answer: %+v", got)
	}
	c.take(1, "")
	if err := s.WaitAccepted(bounded(t)); err != nil {
		t.Fatal(err)
	}
	if got := s.Status(); got[0].Version != "v2" {
		t.Errorf("after the answer: %+v", got)
	}
}

// An Envoy that comes back with what it had is not sent it again; it runs the
// version all the same.
func TestReconnect(t *testing.T) {
	s, api := serve(t)
	if err := s.Set(t.Context(), Release{Stable: Version{"v1", resources(t, "v1", time.Second)}}); err != nil {
		t.Fatal(err)
	}
	has := map[string]map[string]string{}
	first := connect(t, api, "edge-1")
	for range 3 {
		m, err := first.stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		has[m.GetTypeUrl()] = map[string]string{}
		for _, r := range m.GetResources() {
			has[m.GetTypeUrl()][r.GetName()] = r.GetVersion()
		}
	}
	stream, err := api.DeltaAggregatedResources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	again := &client{t, stream}
	for _, typeURL := range whole {
		again.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: typeURL, Node: &corev3.Node{Id: "edge-2"}, InitialResourceVersions: has[typeURL],
			ResourceNamesSubscribe: map[bool][]string{true: {"callgate"}}[typeURL == resourcev3.RouteType]})
	}
	go func() { // answers what comes, empty as it is
		for {
			m, err := stream.Recv()
			if err != nil {
				return
			}
			if len(m.GetResources()) > 0 {
				t.Errorf("%s was sent again", m.GetTypeUrl())
			}
			if stream.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: m.GetTypeUrl(), ResponseNonce: m.GetNonce()}) != nil {
				return
			}
		}
	}()
	for ctx := bounded(t); ; time.Sleep(time.Millisecond) {
		for _, n := range s.Status() {
			if n.ID == "edge-2" && n.Version == "v1" && n.Pending == "" {
				return
			}
		}
		if ctx.Err() != nil {
			t.Fatalf("status %+v", s.Status())
		}
	}
}

func TestRefusedVersion(t *testing.T) {
	s, api := serve(t)
	if err := s.Set(t.Context(), Release{Stable: Version{"v1", resources(t, "v1", time.Second)}}); err != nil {
		t.Fatal(err)
	}
	c := connect(t, api, "edge-1")
	c.take(3, resourcev3.ListenerType)
	err := s.WaitAccepted(bounded(t))
	if err == nil || !strings.Contains(err.Error(), "edge-1 refused version v1: Listener: no such filter") {
		t.Errorf("got %v", err)
	}
	if got := s.Status(); got[0].Refused != "Listener: no such filter" || got[0].Version != "" {
		t.Errorf("status %+v", got)
	}
	// A version that mends it clears the refusal.
	if err := s.Set(t.Context(), Release{Stable: Version{"v2", resources(t, "v2", 2*time.Second)}}); err != nil {
		t.Fatal(err)
	}
	c.take(2, "")
	if err := s.WaitAccepted(bounded(t)); err != nil {
		t.Fatal(err)
	}
}

func TestStrangerIsTurnedAway(t *testing.T) {
	s, api := serve(t, "edge-*")
	if err := s.Set(t.Context(), Release{Stable: Version{"v1", resources(t, "v1", time.Second)}}); err != nil {
		t.Fatal(err)
	}
	c := connect(t, api, "laptop")
	if m, err := c.stream.Recv(); err == nil || !strings.Contains(err.Error(), "may not fetch configuration") {
		t.Errorf("a stranger got %v, %v", m.GetTypeUrl(), err)
	}
	connect(t, api, "edge-7").take(3, "")
	if err := s.WaitAccepted(bounded(t)); err != nil {
		t.Fatal(err)
	}
}

// Resources that refer to others which are missing must not go out.
func TestInconsistentIsRefused(t *testing.T) {
	s, _ := serve(t)
	r := resources(t, "v1", time.Second)
	r.Endpoints = nil
	if err := s.Set(t.Context(), Release{Stable: Version{"v1", r}}); err == nil || !strings.Contains(err.Error(), "refer to others that are missing") {
		t.Errorf("got %v", err)
	}
}

func TestGoneEnvoyIsForgotten(t *testing.T) {
	s, api := serve(t)
	if err := s.Set(t.Context(), Release{Stable: Version{"v1", resources(t, "v1", time.Second)}}); err != nil {
		t.Fatal(err)
	}
	c := connect(t, api, "edge-1")
	c.take(3, "")
	if err := s.WaitAccepted(bounded(t)); err != nil {
		t.Fatal(err)
	}
	if err := c.stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	for ctx := bounded(t); len(s.Status()) > 0; time.Sleep(time.Millisecond) {
		if ctx.Err() != nil {
			t.Fatal("an Envoy that is gone is still listed")
		}
	}
}

func TestHashIgnoresOrder(t *testing.T) {
	a, b := &clusterv3.Cluster{Name: "a"}, &clusterv3.Cluster{Name: "b"}
	x, err1 := hashOf([]proto.Message{a, b})
	y, err2 := hashOf([]proto.Message{b, a})
	z, err3 := hashOf([]proto.Message{a})
	if err1 != nil || err2 != nil || err3 != nil || x != y || x == z {
		t.Errorf("hashes %s %s %s", x, y, z)
	}
}
