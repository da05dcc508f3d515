package xds

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/callgate/callgate/xds/policyv1"
)

// plane is a control plane that can be reached, and cut off.
type plane struct {
	*Server
	listener *bufconn.Listener
	grpc     *grpc.Server
	stop     context.CancelFunc
}

func newPlane(t *testing.T) *plane {
	t.Helper()
	p := &plane{Server: New(Config{Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Metrics: NewMetrics(prometheus.NewRegistry())})}
	p.up(t)
	t.Cleanup(p.down)
	return p
}

func (p *plane) up(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	p.stop, p.listener, p.grpc = cancel, bufconn.Listen(1<<20), grpc.NewServer()
	p.Register(ctx, p.grpc)
	go func(s *grpc.Server, l net.Listener) { _ = s.Serve(l) }(p.grpc, p.listener)
}

func (p *plane) down() { p.stop(); p.grpc.Stop() }

// server is a decision server that takes what it is sent, unless refuse is set.
type server struct {
	mu       sync.Mutex
	policies map[string]bool
	grants   map[string]bool
	revoked  map[string]bool
	tools    []string
	decides  string
	refuse   error
}

func (s *server) state() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fmt.Sprintf("%v %v %v %s", slices.Sorted(maps.Keys(s.policies)), slices.Sorted(maps.Keys(s.grants)), slices.Sorted(maps.Keys(s.revoked)), s.decides)
}

func (s *server) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse = err
}

func (s *server) Policies(_ context.Context, set []*policyv1.Policy, gone []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse != nil {
		return s.refuse
	}
	for _, p := range set {
		s.policies[p.GetVersion()] = true
	}
	for _, v := range gone {
		delete(s.policies, v)
	}
	return nil
}

func (s *server) Grants(_ context.Context, set []*policyv1.Grant, gone []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range set {
		s.grants[g.GetId()] = true
	}
	for _, id := range gone {
		delete(s.grants, id)
	}
	return nil
}

func (s *server) Revocations(_ context.Context, set []*policyv1.Revocation, gone []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range set {
		s.revoked[r.GetId()] = true
	}
	for _, id := range gone {
		delete(s.revoked, id)
	}
	return nil
}

func (s *server) Tools(_ context.Context, set []*policyv1.ToolSet, gone []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range set {
		s.tools = append(s.tools, t.GetConnection())
	}
	return nil
}

func (s *server) Rollout(_ context.Context, r *policyv1.Rollout) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.policies[r.GetStable()] {
		return fmt.Errorf("policy %q is not here", r.GetStable())
	}
	s.decides = r.GetStable()
	return nil
}

func (p *plane) join(t *testing.T, node string, has map[string][]string) *server {
	t.Helper()
	s := &server{policies: map[string]bool{}, grants: map[string]bool{}, revoked: map[string]bool{}}
	for _, v := range has[PolicyType] {
		s.policies[v] = true
	}
	for _, id := range has[GrantType] {
		s.grants[id] = true
	}
	conn, err := grpc.NewClient("passthrough:///xds", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return p.listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	c := NewClient(ClientConfig{Node: node, Metadata: map[string]string{"track": "stable"}, Conn: conn, Receiver: s, Has: has, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the client ended with %v", err)
		}
		conn.Close()
	})
	return s
}

func (s *server) reaches(t *testing.T, want string) {
	t.Helper()
	for ctx := bounded(t); s.state() != want; time.Sleep(time.Millisecond) {
		if ctx.Err() != nil {
			t.Fatalf("the server has %s, want %s", s.state(), want)
		}
	}
}

func TestDecisionServersFollow(t *testing.T) {
	p := newPlane(t)
	a, b := p.join(t, "a", nil), p.join(t, "b", nil)
	if err := p.Offer(bounded(t), &policyv1.Policy{Version: "v1"}); err != nil {
		t.Fatal(err)
	}
	if err := p.Rollout(&policyv1.Rollout{Stable: "v1"}); err != nil {
		t.Fatal(err)
	}
	if err := p.Grants([]*policyv1.Grant{{Id: "g1"}, {Id: "g2"}}, nil); err != nil {
		t.Fatal(err)
	}
	if err := p.Revocations([]*policyv1.Revocation{{Id: "r1"}}, nil); err != nil {
		t.Fatal(err)
	}
	a.reaches(t, "[v1] [g1 g2] [r1] v1")
	b.reaches(t, "[v1] [g1 g2] [r1] v1")
	if err := p.WaitServers(bounded(t)); err != nil {
		t.Fatal(err)
	}
	// What was waited for is in force everywhere, with no further ado.
	if err := p.Grants(nil, []string{"g1"}); err != nil {
		t.Fatal(err)
	}
	if err := p.WaitServers(bounded(t)); err != nil {
		t.Fatal(err)
	}
	if got, want := a.state(), "[v1] [g2] [r1] v1"; got != want {
		t.Errorf("after the wait a has %s, want %s", got, want)
	}
	if err := p.Offer(bounded(t), &policyv1.Policy{Version: "v2"}); err != nil {
		t.Fatal(err)
	}
	if got, want := a.state(), "[v1 v2] [g2] [r1] v1"; got != want {
		t.Errorf("offered is not decided by: %s, want %s", got, want)
	}
	if err := p.Rollout(&policyv1.Rollout{Stable: "v2"}); err != nil {
		t.Fatal(err)
	}
	if err := p.Withdraw("v1"); err != nil {
		t.Fatal(err)
	}
	a.reaches(t, "[v2] [g2] [r1] v2")
	if err := p.WaitServers(bounded(t)); err != nil {
		t.Fatal(err)
	}
	for _, n := range p.Status() {
		if n.Kind != KindServer || n.Version != "v2" || n.Pending != "" {
			t.Errorf("status %+v", n)
		}
	}
}

func TestOfferRefused(t *testing.T) {
	p := newPlane(t)
	a, b := p.join(t, "a", nil), p.join(t, "b", nil)
	if err := p.Offer(bounded(t), &policyv1.Policy{Version: "v1"}); err != nil {
		t.Fatal(err)
	}
	if err := p.Rollout(&policyv1.Rollout{Stable: "v1"}); err != nil {
		t.Fatal(err)
	}
	a.reaches(t, "[v1] [] [] v1")
	b.reaches(t, "[v1] [] [] v1")
	b.fail(errors.New("rules.yaml:3:7: no"))
	err := p.Offer(bounded(t), &policyv1.Policy{Version: "v2"})
	var refusal *Refusal
	if !errors.As(err, &refusal) || refusal.Node != "b" || !strings.Contains(refusal.Text, "rules.yaml:3:7: no") {
		t.Fatalf("got %v", err)
	}
	b.fail(nil)
	a.reaches(t, "[v1] [] [] v1") // taken back from who had accepted it
	if got := p.Offered(); !slices.Equal(got, []string{"v1"}) {
		t.Errorf("offered %v", got)
	}
	if err := p.Offer(bounded(t), &policyv1.Policy{Version: "v3"}); err != nil {
		t.Fatal(err)
	}
}

// A server that the control plane left, or that starts from its disk, ends up
// with exactly what is served.
func TestServerCatchesUp(t *testing.T) {
	p := newPlane(t)
	a := p.join(t, "a", map[string][]string{PolicyType: {"v0", "v1"}, GrantType: {"old"}})
	for _, v := range []string{"v1", "v2"} {
		if err := p.put(PolicyType, map[string]proto.Message{v: &policyv1.Policy{Version: v}}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Rollout(&policyv1.Rollout{Stable: "v2"}); err != nil {
		t.Fatal(err)
	}
	a.reaches(t, "[v1 v2] [] [] v2")
	p.down()
	if err := p.Grants([]*policyv1.Grant{{Id: "g"}}, nil); err != nil {
		t.Fatal(err)
	}
	if err := p.Withdraw("v1"); err != nil {
		t.Fatal(err)
	}
	p.up(t)
	a.reaches(t, "[v2] [g] [] v2")
	if err := p.WaitServers(bounded(t)); err != nil {
		t.Fatal(err)
	}
}

func TestWhoIsBehindIsNamed(t *testing.T) {
	p := newPlane(t)
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(dial(t, p)).DeltaAggregatedResources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, typeURL := range ownTypes {
		if err := stream.Send(&discoveryv3.DeltaDiscoveryRequest{Node: &corev3.Node{Id: "mute"}, TypeUrl: typeURL, ResourceNamesSubscribe: []string{"*"}}); err != nil {
			t.Fatal(err)
		}
	}
	for range ownTypes {
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err = p.Offer(ctx, &policyv1.Policy{Version: "v1"})
	var behind *Behind
	if !errors.As(err, &behind) || !slices.Equal(behind.Nodes, []string{"mute"}) {
		t.Errorf("got %v", err)
	}
}

func dial(t *testing.T, p *plane) grpc.ClientConnInterface {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///xds", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return p.listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func TestNamelessIsTurnedAway(t *testing.T) {
	p := newPlane(t)
	if err := p.Offer(bounded(t), &policyv1.Policy{Version: "v1"}); err != nil {
		t.Fatal(err)
	}
	for _, node := range []*corev3.Node{nil, {}} {
		stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(dial(t, p)).DeltaAggregatedResources(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.Send(&discoveryv3.DeltaDiscoveryRequest{Node: node, TypeUrl: PolicyType, ResourceNamesSubscribe: []string{"*"}}); err != nil {
			t.Fatal(err)
		}
		if m, err := stream.Recv(); err == nil || !strings.Contains(err.Error(), "must name its node") {
			t.Errorf("got %v, %v", m, err)
		}
	}
}

// Envoys that a selector picks run the canary, the others don't.
func TestCanaryForSomeEnvoys(t *testing.T) {
	s, api := serve(t)
	if err := s.Set(t.Context(), Release{Stable: Version{"v1", resources(t, "v1", time.Second)}}); err != nil {
		t.Fatal(err)
	}
	some, other := connect(t, api, "edge-1"), connect(t, api, "edge-2")
	some.take(3, "")
	other.take(3, "")
	if err := s.WaitAccepted(bounded(t)); err != nil {
		t.Fatal(err)
	}
	canary := Version{"v2", resources(t, "v2", time.Second)}
	if err := s.Set(t.Context(), Release{Stable: Version{"v1", resources(t, "v1", time.Second)}, Canary: &canary, Nodes: Selector{"id": "edge-1"}}); err != nil {
		t.Fatal(err)
	}
	some.take(1, "")
	if err := s.WaitAccepted(bounded(t)); err != nil {
		t.Fatal(err)
	}
	if got := s.Status(); got[0].Version != "v2" || got[1].Version != "v1" {
		t.Errorf("status %+v", got)
	}
	if err := s.Set(t.Context(), Release{Stable: Version{"v1", resources(t, "v1", time.Second)}}); err != nil {
		t.Fatal(err)
	}
	some.take(1, "")
	if err := s.WaitAccepted(bounded(t)); err != nil {
		t.Fatal(err)
	}
	if got := s.Status(); got[0].Version != "v1" || got[1].Version != "v1" {
		t.Errorf("after the canary: %+v", got)
	}
}

func TestSelector(t *testing.T) {
	node := &corev3.Node{Id: "edge-1", Cluster: "eu", Metadata: &structpb.Struct{Fields: map[string]*structpb.Value{"track": structpb.NewStringValue("canary")}}}
	for text, want := range map[string]bool{
		"id=edge-1": true, "id=edge-*": true, "id=edge-2": false, "cluster=eu": true, "track=canary": true, "track=*": true,
		"track=canary,id=edge-1": true, "track=canary,id=other": false, "none=x": false, "none=*": false,
	} {
		s, err := ParseSelector(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Matches(node); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
	for _, bad := range []string{"", "x", "x=", "=x", "x=[", "a=b,,c=d"} {
		if s, err := ParseSelector(bad); err == nil {
			t.Errorf("%q is read as %v", bad, s)
		}
	}
	if (Selector{}).Matches(node) {
		t.Error("an empty selector picks a node")
	}
}
