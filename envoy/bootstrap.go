package envoy

import (
	"fmt"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/anypb"
)

// BootstrapConfig is what an Envoy must know to fetch the rest.
type BootstrapConfig struct {
	Node  string // node id, which audit rows name
	XDS   string // host:port of the control plane
	Admin string // host:port of Envoy's admin interface; empty: none
}

// Bootstrap returns Envoy's bootstrap as JSON, which Envoy reads as YAML. It
// names only the control plane.
func Bootstrap(c BootstrapConfig) ([]byte, error) {
	xds, err := parseTarget(c.XDS)
	if err != nil {
		return nil, fmt.Errorf("control plane: %w", err)
	}
	options, err := protocolOptions(true)
	if err != nil {
		return nil, err
	}
	kind := clusterv3.Cluster_STRICT_DNS
	if xds.literal() {
		kind = clusterv3.Cluster_STATIC
	}
	b := &bootstrapv3.Bootstrap{
		Node: &corev3.Node{Id: c.Node, Cluster: "callgate"},
		DynamicResources: &bootstrapv3.Bootstrap_DynamicResources{
			LdsConfig: ads(), CdsConfig: ads(),
			AdsConfig: &corev3.ApiConfigSource{
				ApiType: corev3.ApiConfigSource_DELTA_GRPC, TransportApiVersion: corev3.ApiVersion_V3,
				GrpcServices: []*corev3.GrpcService{grpcService("xds", 0)}, SetNodeOnFirstMessageOnly: true,
			},
		},
		StaticResources: &bootstrapv3.Bootstrap_StaticResources{Clusters: []*clusterv3.Cluster{{
			Name: "xds", ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: kind}, ConnectTimeout: seconds(connectTimeout),
			TypedExtensionProtocolOptions: map[string]*anypb.Any{httpOptions: options},
			// A control plane that vanished without a word is noticed, so that
			// Envoy connects anew.
			UpstreamConnectionOptions: &clusterv3.UpstreamConnectionOptions{TcpKeepalive: &corev3.TcpKeepalive{}},
			LoadAssignment: &endpointv3.ClusterLoadAssignment{ClusterName: "xds", Endpoints: []*endpointv3.LocalityLbEndpoints{{
				LbEndpoints: []*endpointv3.LbEndpoint{{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: address(xds)}}}}}}},
		}}},
	}
	if c.Admin != "" {
		admin, err := parseTarget(c.Admin)
		if err != nil {
			return nil, fmt.Errorf("admin: %w", err)
		}
		b.Admin = &bootstrapv3.Admin{Address: address(admin)}
	}
	return protojson.MarshalOptions{Multiline: true, UseProtoNames: true}.Marshal(b)
}
