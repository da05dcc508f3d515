package app

import (
	"context"
	"crypto/tls"
	"log/slog"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/envoy"
	"github.com/callgate/callgate/test/authority"
	"github.com/callgate/callgate/xds"
	"github.com/callgate/callgate/xds/policyv1"
)

// Who has a certificate of the fleet's is one node and no other, on streams of
// both kinds and in reports; a stream can't become another node on its way.
func TestNodesAreWhoTheyAre(t *testing.T) {
	ca := authority.New(t)
	cert, key := ca.Issue(t, "control")
	edge, server := ca.Pair(t, "edge-9", "edge-1.edge"), ca.Pair(t, "server", "spiffe://prod.example/callgate/server-1")
	own := config.ControlNodes{FromCertificate: true}
	const may, mayNot = codes.OK, codes.PermissionDenied
	for _, c := range []struct {
		what  string
		nodes config.ControlNodes
		with  tls.Certificate
		id    string
		want  codes.Code
	}{
		{"nothing is tied", config.ControlNodes{}, edge, "anything", may},
		{"its DNS name", own, edge, "edge-1.edge", may},
		{"another's", own, edge, "edge-2.edge", mayNot},
		{"a part of its name", own, edge, "edge-1", mayNot},
		{"its common name", own, edge, "edge-9", mayNot},
		{"its SPIFFE ID", own, server, "spiffe://prod.example/callgate/server-1", may},
		{"the last part of it", own, server, "server-1", may},
		{"a part in the middle", own, server, "callgate", mayNot},
		{"its trust domain", own, server, "prod.example", mayNot},
		{"a node that is let", config.ControlNodes{Match: []config.NodeMatch{{Certificates: []string{"*.edge"}, Nodes: []string{"eu-*", "us-*"}}}}, edge, "eu-7", may},
		{"one that is not", config.ControlNodes{Match: []config.NodeMatch{{Certificates: []string{"*.edge"}, Nodes: []string{"eu-*"}}}}, edge, "us-7", mayNot},
		{"one that another certificate is let", config.ControlNodes{Match: []config.NodeMatch{{Certificates: []string{"spiffe://prod.example/callgate/*"}, Nodes: []string{"eu-*"}}}}, edge, "eu-7", mayNot},
		{"its own name, where others are let", config.ControlNodes{Match: []config.NodeMatch{{Certificates: []string{"*.edge"}, Nodes: []string{"eu-*"}}}}, edge, "edge-1.edge", mayNot},
		{"either", config.ControlNodes{FromCertificate: true, Match: []config.NodeMatch{{Certificates: []string{"*.edge"}, Nodes: []string{"eu-*"}}}}, edge, "edge-1.edge", may},
		{"a glob for an id", own, edge, "*", mayNot},
		{"no name", own, edge, "", codes.InvalidArgument},
	} {
		t.Run(c.what, func(t *testing.T) {
			cfg := &config.Config{Control: config.Control{Nodes: c.nodes, Servers: []string{"*.edge", "spiffe://*/*/*"}, TLS: config.ControlTLS{CertFile: cert, KeyFile: key, CAFile: ca.CAFile}}}
			a := &App{cfg: cfg, log: slog.New(slog.DiscardHandler)}
			a.xds = xds.New(xds.Config{Report: mayReport(cfg.Control), Node: mayBe(cfg.Control.Nodes), Log: a.log, Metrics: xds.NewMetrics(prometheus.NewRegistry())})
			a.xds.TakeReports(func(context.Context, *policyv1.ToolReport) error { return nil })
			r, err := envoy.Build(envoy.Input{Settings: config.Envoy{Listen: "127.0.0.1:1", Services: "127.0.0.1:2", DecideTimeout: time.Second}, Policy: config.Policy{Version: "v1"}})
			must(t, err)
			must(t, a.xds.Set(t.Context(), xds.Release{Stable: xds.Version{Name: "v1", Resources: r}}))
			conn := dial(t, serving(t, a.serveXDS), mutual(ca, c.with))
			client := discoveryv3.NewAggregatedDiscoveryServiceClient(conn)
			got := map[string]codes.Code{}

			stream, err := client.DeltaAggregatedResources(bounded(t))
			must(t, err)
			_ = stream.Send(&discoveryv3.DeltaDiscoveryRequest{Node: &corev3.Node{Id: c.id}, TypeUrl: resourcev3.ListenerType, ResourceNamesSubscribe: []string{"*"}})
			_, err = stream.Recv()
			got["delta"] = status.Code(err)
			if err == nil && c.nodes.Tied() {
				_ = stream.Send(&discoveryv3.DeltaDiscoveryRequest{Node: &corev3.Node{Id: "edge-2.edge"}, TypeUrl: resourcev3.ClusterType, ResourceNamesSubscribe: []string{"*"}})
				if _, err = stream.Recv(); status.Code(err) != mayNot {
					t.Errorf("as another on its way: %v", err)
				}
			}
			whole, err := client.StreamAggregatedResources(bounded(t))
			must(t, err)
			_ = whole.Send(&discoveryv3.DiscoveryRequest{Node: &corev3.Node{Id: c.id}, TypeUrl: resourcev3.ListenerType})
			_, err = whole.Recv()
			got["state of the world"] = status.Code(err)
			_, err = policyv1.NewToolsClient(conn).Report(bounded(t), &policyv1.ToolReport{Node: c.id, Connection: "tools"})
			if got["report"] = status.Code(err); c.id == "" {
				delete(got, "report") // whoever that is, it is not tied to a name
				if status.Code(err) != mayNot {
					t.Errorf("a report of nobody's: %v", err)
				}
			}
			for how, code := range got {
				if c.want == codes.InvalidArgument && code != may {
					continue
				}
				if code != c.want {
					t.Errorf("%s: %v, want %v", how, code, c.want)
				}
			}
		})
	}
}
