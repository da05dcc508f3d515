package envoy

import (
	"fmt"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/callgate/callgate/config"
)

const (
	connectTimeout = 5 * time.Second
	// inFlight bounds what one cluster may have under way. Envoy's default
	// of 1024 would let that many held calls or open event streams block all
	// others; memory is bounded by what the calls themselves hold.
	inFlight = 100_000
	// SystemRoots is where Debian, Ubuntu, Alpine and Envoy's own images keep
	// the trusted roots.
	SystemRoots = "/etc/ssl/certs/ca-certificates.crt"
)

// httpOptions is the extension name under which a cluster says how it speaks HTTP.
const httpOptions = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

// addServices adds the clusters of Callgate's own gRPC services. Calls that can
// be held wait on one of their own, so that they never use up the others' share.
func addServices(out *Resources, p plan) error {
	socket, err := servicesSocket(out, p)
	if err != nil {
		return err
	}
	for _, name := range []string{servicesName, holdName} {
		if err := addCluster(out, name, p.services, true, socket); err != nil {
			return err
		}
	}
	return nil
}

// servicesSocket is how Envoys reach the services; nil: in plain text. The
// certificates travel as secrets that name files on Envoy's host, since Envoy
// watches the files of secrets alone, and no key leaves that host.
func servicesSocket(out *Resources, p plan) (*corev3.TransportSocket, error) {
	t := p.Settings.ServicesTLS
	if t == (config.TowardsServices{}) {
		return nil, nil
	}
	name := t.ServerName
	if name == "" {
		name = p.services.host
	}
	names := certified(name)
	out.Secrets = append(out.Secrets,
		&tlsv3.Secret{Name: servicesCert, Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{
			CertificateChain: file(t.CertFile), PrivateKey: file(t.KeyFile)}}},
		&tlsv3.Secret{Name: servicesCA, Type: &tlsv3.Secret_ValidationContext{ValidationContext: &tlsv3.CertificateValidationContext{TrustedCa: file(t.CAFile)}}})
	context := &tlsv3.UpstreamTlsContext{CommonTlsContext: &tlsv3.CommonTlsContext{
		TlsParams:                      &tlsv3.TlsParameters{TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_3, TlsMaximumProtocolVersion: tlsv3.TlsParameters_TLSv1_3},
		AlpnProtocols:                  []string{"h2"},
		TlsCertificateSdsSecretConfigs: []*tlsv3.SdsSecretConfig{{Name: servicesCert, SdsConfig: ads()}},
		ValidationContextType: &tlsv3.CommonTlsContext_CombinedValidationContext{CombinedValidationContext: &tlsv3.CommonTlsContext_CombinedCertificateValidationContext{
			DefaultValidationContext:         &tlsv3.CertificateValidationContext{MatchTypedSubjectAltNames: names},
			ValidationContextSdsSecretConfig: &tlsv3.SdsSecretConfig{Name: servicesCA, SdsConfig: ads()}}}}}
	if !(target{host: name}).literal() {
		context.Sni = name
	}
	return tlsSocket(context)
}

// certified says what name a certificate must be for.
func certified(name string) []*tlsv3.SubjectAltNameMatcher {
	kind := tlsv3.SubjectAltNameMatcher_DNS
	if (target{host: name}).literal() {
		kind = tlsv3.SubjectAltNameMatcher_IP_ADDRESS
	}
	return []*tlsv3.SubjectAltNameMatcher{{SanType: kind, Matcher: &matcherv3.StringMatcher{
		MatchPattern: &matcherv3.StringMatcher_Exact{Exact: name}}}}
}

func tlsSocket(context *tlsv3.UpstreamTlsContext) (*corev3.TransportSocket, error) {
	typed, err := packed(context)
	if err != nil {
		return nil, err
	}
	return &corev3.TransportSocket{Name: "envoy.transport_sockets.tls", ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: typed}}, nil
}

func addConnections(out *Resources, p plan) error {
	for _, c := range p.connections {
		name := upstreamName(c.Name)
		var socket *corev3.TransportSocket
		if c.tls {
			validation, err := addValidation(out, p, c)
			if err != nil {
				return err
			}
			context := &tlsv3.UpstreamTlsContext{CommonTlsContext: &tlsv3.CommonTlsContext{
				TlsParams: &tlsv3.TlsParameters{TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_2}}}
			context.CommonTlsContext.AlpnProtocols = []string{"http/1.1"}
			if *c.Upstream.HTTP2 {
				context.CommonTlsContext.AlpnProtocols = []string{"h2"}
			}
			if !(target{host: c.server}).literal() {
				context.Sni = c.server
			}
			validation(context.CommonTlsContext)
			if socket, err = tlsSocket(context); err != nil {
				return err
			}
		}
		if err := addCluster(out, name, c.upstream, *c.Upstream.HTTP2, socket); err != nil {
			return fmt.Errorf("connection %q: %w", c.Name, err)
		}
	}
	return nil
}

func upstreamName(connection string) string { return "connection_" + connection }

// addValidation says whom an upstream's certificate must come from and what it
// must be for. Roots of the connection's own travel as a secret.
func addValidation(out *Resources, p plan, c connection) (func(*tlsv3.CommonTlsContext), error) {
	names := certified(c.server)
	if c.Upstream.CAFile == "" {
		return func(t *tlsv3.CommonTlsContext) {
			t.ValidationContextType = &tlsv3.CommonTlsContext_ValidationContext{ValidationContext: &tlsv3.CertificateValidationContext{
				TrustedCa:                 &corev3.DataSource{Specifier: &corev3.DataSource_Filename{Filename: SystemRoots}},
				MatchTypedSubjectAltNames: names}}
		}, nil
	}
	ca, ok := p.Files[c.Upstream.CAFile]
	if !ok {
		return nil, fmt.Errorf("connection %q: upstream.ca_file %s was not read", c.Name, c.Upstream.CAFile)
	}
	name := upstreamName(c.Name) + "_ca"
	out.Secrets = append(out.Secrets, &tlsv3.Secret{Name: name, Type: &tlsv3.Secret_ValidationContext{
		ValidationContext: &tlsv3.CertificateValidationContext{TrustedCa: inline(ca)}}})
	return func(t *tlsv3.CommonTlsContext) {
		t.ValidationContextType = &tlsv3.CommonTlsContext_CombinedValidationContext{CombinedValidationContext: &tlsv3.CommonTlsContext_CombinedCertificateValidationContext{
			DefaultValidationContext:         &tlsv3.CertificateValidationContext{MatchTypedSubjectAltNames: names},
			ValidationContextSdsSecretConfig: &tlsv3.SdsSecretConfig{Name: name, SdsConfig: ads()}}}
	}, nil
}

func inline(b []byte) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: b}}
}

// ads says that a resource comes over the stream that everything comes over.
func ads() *corev3.ConfigSource {
	return &corev3.ConfigSource{ResourceApiVersion: corev3.ApiVersion_V3,
		ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}}}
}

// addCluster adds a cluster of one target: its endpoint by EDS where it is an
// address, by DNS where it is a name.
func addCluster(out *Resources, name string, to target, http2 bool, socket *corev3.TransportSocket) error {
	options, err := protocolOptions(http2, name == servicesName || name == holdName)
	if err != nil {
		return err
	}
	unlimited := &wrapperspb.UInt32Value{Value: inFlight}
	cluster := &clusterv3.Cluster{
		Name:            name,
		ConnectTimeout:  seconds(connectTimeout),
		TransportSocket: socket,
		CircuitBreakers: &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{
			MaxConnections: unlimited, MaxPendingRequests: unlimited, MaxRequests: unlimited}}},
		TypedExtensionProtocolOptions: map[string]*anypb.Any{httpOptions: options},
	}
	endpoint := &endpointv3.ClusterLoadAssignment{ClusterName: name, Endpoints: []*endpointv3.LocalityLbEndpoints{{
		LbEndpoints: []*endpointv3.LbEndpoint{{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{
			Endpoint: &endpointv3.Endpoint{Address: address(to)}}}}}}}
	if to.literal() {
		cluster.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS}
		cluster.EdsClusterConfig = &clusterv3.Cluster_EdsClusterConfig{EdsConfig: ads()}
		out.Endpoints = append(out.Endpoints, endpoint)
	} else {
		cluster.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STRICT_DNS}
		cluster.LoadAssignment = endpoint
	}
	out.Clusters = append(out.Clusters, cluster)
	return nil
}

// How soon it shows that a service of Callgate's is there and does not move: a
// process that is stopped, a host that is gone. What waits for it then fails.
const (
	pingEvery   = 10 * time.Second
	pingTimeout = 5 * time.Second
)

func protocolOptions(http2, ping bool) (*anypb.Any, error) {
	explicit := &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
		ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_HttpProtocolOptions{HttpProtocolOptions: &corev3.Http1ProtocolOptions{}}}
	if http2 {
		h2 := &corev3.Http2ProtocolOptions{MaxConcurrentStreams: &wrapperspb.UInt32Value{Value: inFlight}}
		if ping {
			h2.ConnectionKeepalive = &corev3.KeepaliveSettings{Interval: seconds(pingEvery), Timeout: seconds(pingTimeout)}
		}
		explicit.ProtocolConfig = &httpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{Http2ProtocolOptions: h2}
	}
	return packed(&httpv3.HttpProtocolOptions{UpstreamProtocolOptions: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{ExplicitHttpConfig: explicit}})
}

func address(t target) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: t.host, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: t.port}}}}
}
