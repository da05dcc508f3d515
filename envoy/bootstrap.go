package envoy

import (
	"errors"
	"fmt"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/anypb"
)

// BootstrapConfig is what an Envoy must know to fetch the rest.
type BootstrapConfig struct {
	Node  string // node id, which audit rows name
	XDS   string // host:port of the control plane
	Admin string // host:port of Envoy's admin interface; empty: none
	TLS   BootstrapTLS
}

// BootstrapTLS protects the way to the control plane: files on the host of Envoy,
// which reads them at its start. (It watches the files of secrets alone, and those
// come over the very connection that these are for.)
type BootstrapTLS struct {
	// CertFile and KeyFile are what Envoy shows of itself; both or neither.
	CertFile, KeyFile string
	// CAFile is what the control plane's certificate must chain to. Empty, and
	// with no certificate to show either: plain text.
	CAFile string
	// ServerName is what that certificate must be for. Default: the host of XDS.
	ServerName string
}

// socket is how the control plane is reached; nil: in plain text.
func (t BootstrapTLS) socket(host string) (*corev3.TransportSocket, error) {
	if t.CertFile == "" && t.CAFile == "" {
		return nil, nil
	}
	if (t.CertFile == "") != (t.KeyFile == "") {
		return nil, errors.New("a certificate and its key go together; name both or neither")
	}
	ca := t.CAFile
	if ca == "" {
		ca = SystemRoots
	}
	name := t.ServerName
	if name == "" {
		name = host
	}
	context := &tlsv3.UpstreamTlsContext{}
	if !(target{host: name}).literal() {
		context.Sni = name
	}
	context.CommonTlsContext = &tlsv3.CommonTlsContext{
		TlsParams:     &tlsv3.TlsParameters{TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_2, TlsMaximumProtocolVersion: tlsv3.TlsParameters_TLSv1_3},
		AlpnProtocols: []string{"h2"},
		ValidationContextType: &tlsv3.CommonTlsContext_ValidationContext{ValidationContext: &tlsv3.CertificateValidationContext{
			TrustedCa: file(ca), MatchTypedSubjectAltNames: certified(name)}},
	}
	if t.CertFile != "" {
		context.CommonTlsContext.TlsCertificates = []*tlsv3.TlsCertificate{{CertificateChain: file(t.CertFile), PrivateKey: file(t.KeyFile)}}
	}
	return tlsSocket(context)
}

func file(name string) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_Filename{Filename: name}}
}

// Bootstrap returns Envoy's bootstrap as JSON, which Envoy reads as YAML. It
// names only the control plane.
func Bootstrap(c BootstrapConfig) ([]byte, error) {
	xds, err := parseTarget(c.XDS)
	if err != nil {
		return nil, fmt.Errorf("control plane: %w", err)
	}
	options, err := protocolOptions(true, false)
	if err != nil {
		return nil, err
	}
	socket, err := c.TLS.socket(xds.host)
	if err != nil {
		return nil, fmt.Errorf("control plane: %w", err)
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
			TransportSocket:               socket,
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
