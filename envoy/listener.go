package envoy

import (
	"fmt"
	"time"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	celv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/filters/cel/v3"
	headermutationv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	earlyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/early_header_mutation/header_mutation/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const (
	headersTimeout = 10 * time.Second
	// bodyTimeout is how long a request may take to arrive. Envoy counts the
	// time a call is held towards it, so the longest hold is added.
	bodyTimeout = time.Minute
	// room is what a connection may buffer beyond the largest body.
	room = 1 << 20
)

// addListener adds the hardened listener that callers reach.
func addListener(out *Resources, p plan) error {
	at, err := parseTarget(p.Settings.Listen)
	if err != nil {
		return fmt.Errorf("envoy.listen: %w", err)
	}
	manager, err := httpManager(p)
	if err != nil {
		return err
	}
	chain := &listenerv3.FilterChain{Filters: []*listenerv3.Filter{{
		Name: "envoy.filters.network.http_connection_manager", ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: manager}}}}
	if p.Settings.TLS.CertFile != "" {
		if chain.TransportSocket, err = listenerTLS(out, p); err != nil {
			return err
		}
	}
	largest := uint32(defaultBody)
	for _, c := range p.connections {
		largest = max(largest, uint32(c.MaxBody))
	}
	out.Listeners = append(out.Listeners, &listenerv3.Listener{
		Name: listenerName, Address: address(at), FilterChains: []*listenerv3.FilterChain{chain},
		PerConnectionBufferLimitBytes: &wrapperspb.UInt32Value{Value: largest + room},
	})
	return nil
}

func listenerTLS(out *Resources, p plan) (*corev3.TransportSocket, error) {
	cert, ok1 := p.Files[p.Settings.TLS.CertFile]
	key, ok2 := p.Files[p.Settings.TLS.KeyFile]
	if !ok1 || !ok2 {
		return nil, fmt.Errorf("envoy.tls: the files were not read")
	}
	out.Secrets = append(out.Secrets, &tlsv3.Secret{Name: listenerSecret, Type: &tlsv3.Secret_TlsCertificate{
		TlsCertificate: &tlsv3.TlsCertificate{CertificateChain: inline(cert), PrivateKey: inline(key)}}})
	tls := &tlsv3.DownstreamTlsContext{CommonTlsContext: &tlsv3.CommonTlsContext{
		TlsParams:                      &tlsv3.TlsParameters{TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_2},
		AlpnProtocols:                  []string{"h2", "http/1.1"},
		TlsCertificateSdsSecretConfigs: []*tlsv3.SdsSecretConfig{{Name: listenerSecret, SdsConfig: ads()}},
	}}
	if file := p.Settings.TLS.ClientCAFile; file != "" {
		ca, ok := p.Files[file]
		if !ok {
			return nil, fmt.Errorf("envoy.tls: the files were not read")
		}
		out.Secrets = append(out.Secrets, &tlsv3.Secret{Name: clientsSecret, Type: &tlsv3.Secret_ValidationContext{
			ValidationContext: &tlsv3.CertificateValidationContext{TrustedCa: inline(ca)}}})
		tls.CommonTlsContext.ValidationContextType = &tlsv3.CommonTlsContext_ValidationContextSdsSecretConfig{
			ValidationContextSdsSecretConfig: &tlsv3.SdsSecretConfig{Name: clientsSecret, SdsConfig: ads()}}
		tls.RequireClientCertificate = &wrapperspb.BoolValue{Value: p.Settings.TLS.RequireClientCertificate}
	}
	typed, err := packed(tls)
	if err != nil {
		return nil, err
	}
	return &corev3.TransportSocket{Name: "envoy.transport_sockets.tls", ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: typed}}, nil
}

func httpManager(p plan) (*anypb.Any, error) {
	filters, err := httpFilters(p)
	if err != nil {
		return nil, err
	}
	log, err := accessLog()
	if err != nil {
		return nil, err
	}
	strip, err := stripCallers()
	if err != nil {
		return nil, err
	}
	replies, err := localReplies()
	if err != nil {
		return nil, err
	}
	yes := &wrapperspb.BoolValue{Value: true}
	return packed(&hcmv3.HttpConnectionManager{
		StatPrefix: "callgate",
		ServerName: "callgate", ServerHeaderTransformation: hcmv3.HttpConnectionManager_OVERWRITE,
		RouteSpecifier: &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{RouteConfigName: routesName, ConfigSource: ads()}},
		HttpFilters:    filters,
		AccessLog:      []*accesslogv3.AccessLog{log},

		// One meaning for every path: what ext_authz judges is what is routed.
		NormalizePath:                yes,
		MergeSlashes:                 true,
		PathWithEscapedSlashesAction: hcmv3.HttpConnectionManager_REJECT_REQUEST,
		StripPortMode:                &hcmv3.HttpConnectionManager_StripAnyHostPort{StripAnyHostPort: true},

		// What callers say of themselves is not believed.
		UseRemoteAddress:              yes,
		XffNumTrustedHops:             p.Settings.TrustedHops,
		ForwardClientCertDetails:      hcmv3.HttpConnectionManager_SANITIZE,
		EarlyHeaderMutationExtensions: []*corev3.TypedExtensionConfig{strip},
		CommonHttpProtocolOptions: &corev3.HttpProtocolOptions{
			HeadersWithUnderscoresAction: corev3.HttpProtocolOptions_REJECT_REQUEST,
			IdleTimeout:                  seconds(5 * time.Minute),
		},

		// No upgrade_configs: WebSocket and CONNECT are refused, since their
		// bytes could not be judged.
		RequestHeadersTimeout: seconds(headersTimeout),
		RequestTimeout:        seconds(p.bodyTimeout + p.longestHold + p.Settings.DecideTimeout),
		StreamIdleTimeout:     seconds(idle),
		DelayedCloseTimeout:   durationpb.New(time.Second),
		LocalReplyConfig:      replies,
	})
}

// stripCallers removes, before routing and before any filter, headers that
// Callgate or Envoy set and callers must not.
func stripCallers() (*corev3.TypedExtensionConfig, error) {
	m := &earlyv3.HeaderMutation{}
	for _, prefix := range []string{"x-callgate-", "x-envoy-"} {
		m.Mutations = append(m.Mutations, &mutationv3.HeaderMutation{Action: &mutationv3.HeaderMutation_RemoveOnMatch_{
			RemoveOnMatch: &mutationv3.HeaderMutation_RemoveOnMatch{KeyMatcher: &matcherv3.StringMatcher{
				MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: prefix}, IgnoreCase: true}}}})
	}
	typed, err := packed(m)
	if err != nil {
		return nil, err
	}
	return &corev3.TypedExtensionConfig{Name: "envoy.http.early_header_mutation.header_mutation", TypedConfig: typed}, nil
}

// dropTrailers takes all trailers off a request. They come after the decision,
// so nobody has judged them, and no protocol that is spoken here needs them.
func dropTrailers() (*anypb.Any, error) {
	return packed(&headermutationv3.HeaderMutation{Mutations: &headermutationv3.Mutations{
		RequestTrailersMutations: []*mutationv3.HeaderMutation{{Action: &mutationv3.HeaderMutation_RemoveOnMatch_{
			RemoveOnMatch: &mutationv3.HeaderMutation_RemoveOnMatch{KeyMatcher: &matcherv3.StringMatcher{
				MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: ".*"}}}}}}}}})
}

func httpFilters(p plan) ([]*hcmv3.HttpFilter, error) {
	authz, err := extAuthz(p)
	if err != nil {
		return nil, err
	}
	proc, err := extProc(p)
	if err != nil {
		return nil, err
	}
	trailers, err := dropTrailers()
	if err != nil {
		return nil, err
	}
	router, err := packed(&routerv3.Router{SuppressEnvoyHeaders: true})
	if err != nil {
		return nil, err
	}
	var out []*hcmv3.HttpFilter
	for _, f := range []struct {
		name  string
		typed *anypb.Any
	}{{authzFilter, authz}, {procFilter, proc}, {"envoy.filters.http.header_mutation", trailers}, {"envoy.filters.http.router", router}} {
		out = append(out, &hcmv3.HttpFilter{Name: f.name, ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: f.typed}})
	}
	return out, nil
}

// localReplies gives Envoy's own refusals the shape that Callgate's have. They
// are known by their response flags, and where Callgate could not be asked by their
// details; denials of ext_authz keep theirs.
func localReplies() (*hcmv3.LocalReplyConfig, error) {
	undecided, err := replyTo("ext_authz_error", "Calls can't be decided now", "the call was not made, since the service that decides could not be asked; try again later")
	if err != nil {
		return nil, err
	}
	unseen, err := replyTo("ext_proc_error", "Answers can't be checked now", "the call may have been made, but its answer is withheld, since the service that masks and records answers could not be asked")
	if err != nil {
		return nil, err
	}
	undecided.HeadersToAdd = []*corev3.HeaderValueOption{{Header: &corev3.HeaderValue{Key: "retry-after", Value: "5"}, AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD}}
	body, err := problem("The gateway could not serve the call", "%LOCAL_REPLY_BODY%", "%RESPONSE_CODE_DETAILS%")
	if err != nil {
		return nil, err
	}
	return &hcmv3.LocalReplyConfig{Mappers: []*hcmv3.ResponseMapper{undecided, unseen, {
		Filter: &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_ResponseFlagFilter{
			ResponseFlagFilter: &accesslogv3.ResponseFlagFilter{Flags: []string{"NR", "UH", "UF", "UO", "UC", "UR", "UT", "UPE", "DPE", "SI", "DT", "NC", "OM", "IH"}}}},
		BodyFormatOverride: body,
	}}}, nil
}

// replyTo is what a caller gets where a filter had an error of this kind.
func replyTo(details, title, detail string) (*hcmv3.ResponseMapper, error) {
	filter, err := packed(&celv3.ExpressionFilter{Expression: fmt.Sprintf("response.code_details.startsWith(%q)", details)})
	if err != nil {
		return nil, err
	}
	body, err := problem(title, detail, details) // what else Envoy knows is no caller's business
	if err != nil {
		return nil, err
	}
	return &hcmv3.ResponseMapper{
		Filter: &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_ExtensionFilter{
			ExtensionFilter: &accesslogv3.ExtensionFilter{Name: "envoy.access_loggers.extension_filters.cel", ConfigType: &accesslogv3.ExtensionFilter_TypedConfig{TypedConfig: filter}}}},
		BodyFormatOverride: body,
	}, nil
}

// problem is the body of a reply (RFC 9457).
func problem(title, detail, reason string) (*corev3.SubstitutionFormatString, error) {
	body, err := structpb.NewStruct(map[string]any{
		"type": "about:blank", "title": title, "status": "%RESPONSE_CODE%",
		"detail": detail, "reason": reason, "request_id": "%REQ(X-REQUEST-ID)%",
	})
	if err != nil {
		return nil, fmt.Errorf("write local replies: %w", err)
	}
	return &corev3.SubstitutionFormatString{Format: &corev3.SubstitutionFormatString_JsonFormat{JsonFormat: body}, ContentType: "application/problem+json"}, nil
}
