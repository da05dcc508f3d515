package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/control"
	"github.com/callgate/callgate/envoy"
	"github.com/callgate/callgate/xds"
	"github.com/callgate/callgate/xds/policyv1"
)

// The fleet that a push is measured on, each node with a connection of its own.
const (
	pushServers = 100
	pushEnvoys  = 1000
)

// benchPush measures how long a push takes until the last node has acknowledged
// it: stored, offered to the decision servers, decided by, and run by Envoys.
func benchPush(ctx context.Context) (_ []row, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	dir, err := os.MkdirTemp("", "callgate-bench-push-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	server := xds.New(xds.Config{Log: slog.New(slog.DiscardHandler), Metrics: xds.NewMetrics(prometheus.NewRegistry())})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	g := grpc.NewServer()
	server.Register(ctx, g)
	go func() { _ = g.Serve(l) }()
	defer g.Stop()
	store, err := control.OpenStore(ctx, filepath.Join(dir, "control.db"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	plane := control.New(control.Config{Store: store, Servers: server, Folder: filepath.Join(dir, "files"), Home: dir, Wait: time.Minute,
		Check: func(config.Policy) error { return nil },
		Build: func(p config.Policy) (xds.Version, error) {
			r, err := envoy.Build(envoy.Input{Settings: config.Envoy{Listen: "127.0.0.1:1", Services: "127.0.0.1:2", DecideTimeout: time.Second}, Policy: p})
			return xds.Version{Name: p.Version, Resources: r}, err
		},
		Record: func(context.Context, call.ChangeEvent) {}, Log: slog.New(slog.DiscardHandler)})
	policy := func(n int) (control.Push, error) {
		text := "connections:\n"
		for i := range 20 {
			text += fmt.Sprintf("  - {name: c%d, protocol: http, match: {path: /c%d}, upstream: {url: 'http://127.0.0.1:9'}, functions: [{name: get, method: GET, path: /x}]}\n", i, i)
		}
		text += "rules:\n"
		for i := range 200 {
			text += fmt.Sprintf("  - {name: r%d, action: deny, when: 'call.body_size > %d'}\n", i, n*1000+i)
		}
		path := filepath.Join(dir, "policy.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return control.Push{}, err
		}
		b, _, err := config.ReadBundle(path)
		return control.Push{Bundle: b, Author: "bench"}, err
	}
	first, err := policy(0)
	if err != nil {
		return nil, err
	}
	if _, err := plane.Push(ctx, first); err != nil {
		return nil, err
	}
	var nodes errgroup.Group
	for i := range pushServers {
		nodes.Go(func() error { return pushServer(ctx, l.Addr().String(), i) })
	}
	for i := range pushEnvoys {
		nodes.Go(func() error { return pushEnvoy(ctx, l.Addr().String(), i) })
	}
	defer func() {
		cancel()
		if ended := nodes.Wait(); err == nil {
			err = ended
		}
	}()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		n := 0
		for _, s := range server.Status() {
			if s.Pending == "" && s.Refused == "" && s.Version != "" {
				n++
			}
		}
		if n == pushServers+pushEnvoys {
			break
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("%d of %d nodes came up", n, pushServers+pushEnvoys)
		}
	}
	var took []float64
	for round := range rounds {
		next, err := policy(round + 1)
		if err != nil {
			return nil, err
		}
		began := time.Now()
		out, err := plane.Push(ctx, next)
		if err != nil {
			return nil, err
		}
		if len(out.Behind) > 0 {
			return nil, fmt.Errorf("%d nodes did not answer", len(out.Behind))
		}
		took = append(took, time.Since(began).Seconds())
		fmt.Printf("push %d  %d servers and %d Envoys in %.2f s\n", round+1, pushServers, pushEnvoys, took[round])
	}
	return []row{newRow("push_last_ack_s", fmt.Sprintf("s until the last of %d servers and %d Envoys", pushServers, pushEnvoys), "", took)}, nil
}

// pushed takes whatever it is sent.
type pushed struct{}

func (pushed) Policies(context.Context, []*policyv1.Policy, []string) error        { return nil }
func (pushed) Grants(context.Context, []*policyv1.Grant, []string) error           { return nil }
func (pushed) Revocations(context.Context, []*policyv1.Revocation, []string) error { return nil }
func (pushed) Tools(context.Context, []*policyv1.ToolSet, []string) error          { return nil }
func (pushed) Rollout(context.Context, *policyv1.Rollout) error                    { return nil }

func pushServer(ctx context.Context, addr string, i int) error {
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	return xds.NewClient(xds.ClientConfig{Node: fmt.Sprintf("server-%d", i), Conn: conn, Receiver: pushed{}, Log: slog.New(slog.DiscardHandler)}).Run(ctx)
}

// pushEnvoy is an Envoy as far as delta ADS is concerned.
func pushEnvoy(ctx context.Context, addr string, i int) error {
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		return err
	}
	for _, typeURL := range []string{resourcev3.ClusterType, resourcev3.ListenerType, resourcev3.RouteType} {
		req := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: typeURL, Node: &corev3.Node{Id: fmt.Sprintf("envoy-%d", i)}}
		if typeURL == resourcev3.RouteType {
			req.ResourceNamesSubscribe = []string{"callgate"}
		}
		if err := stream.Send(req); err != nil {
			return err
		}
	}
	for {
		m, err := stream.Recv()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("envoy-%d: %w", i, err)
		}
		if err := stream.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: m.GetTypeUrl(), ResponseNonce: m.GetNonce()}); err != nil && ctx.Err() == nil {
			return fmt.Errorf("envoy-%d: %w", i, err)
		}
	}
}
