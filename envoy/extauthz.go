package envoy

import (
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/anypb"
)

const authzFilter = "envoy.filters.http.ext_authz"

// defaultBody is what the filter would buffer on a route without settings of
// its own; every route has some.
const defaultBody = 64 << 10

// extAuthz is the filter that asks before a call goes on. Everything that goes
// wrong with asking denies.
func extAuthz(p plan) (*anypb.Any, error) {
	return packed(&authzv3.ExtAuthz{
		Services:            &authzv3.ExtAuthz_GrpcService{GrpcService: grpcService(servicesName, p.Settings.DecideTimeout)},
		TransportApiVersion: corev3.ApiVersion_V3,
		FailureModeAllow:    false,
		StatusOnError:       &typev3.HttpStatus{Code: typev3.StatusCode_ServiceUnavailable},
		WithRequestBody:     body(defaultBody),
		// Duplicates stay apart and bytes stay bytes.
		EncodeRawHeaders:       true,
		IncludePeerCertificate: true,
		IncludeTlsSession:      true,
		ValidateMutations:      true,
		StatPrefix:             "callgate",
	})
}

// body asks for the request body, as bytes. A longer one arrives cut off and is
// denied by the decision service, with a clear answer and a row; the filter's
// own refusal would leave neither.
func body(most uint32) *authzv3.BufferSettings {
	return &authzv3.BufferSettings{MaxRequestBytes: most, AllowPartialMessage: true, PackAsBytes: true}
}

// checkOf is a route's part: which connection it is, how much body there may
// be (nil: it is not waited for, since it streams), and how long the answer may
// take.
func checkOf(p plan, connection, version string, body *authzv3.BufferSettings, hold time.Duration, edits bool) (*anypb.Any, error) {
	sent := "sent"
	if body == nil {
		sent = "streamed"
	}
	settings := &authzv3.CheckSettings{
		ContextExtensions: map[string]string{
			"connection": connection,
			// Which policy this Envoy runs, and what that says of the connection:
			// the call must be judged by the same.
			"policy_version":     p.Policy.Version,
			"connection_version": version,
			// What else this Envoy reports, so that a row can tell "did not
			// happen" from "not seen".
			"legs": "answered,finished",
			// With this set, a request that came without a body has none.
			"body": sent,
		},
		WithRequestBody: body, DisableRequestBodyBuffering: body == nil,
	}
	if edits {
		// What is denied of a batch is taken out by ext_proc, which this route
		// hands its requests to.
		settings.ContextExtensions["batch"] = "edit"
	}
	if hold > 0 {
		settings.ServiceOverride = &authzv3.CheckSettings_GrpcService{GrpcService: grpcService(holdName, hold+p.Settings.DecideTimeout+margin/3)}
	}
	return packed(&authzv3.ExtAuthzPerRoute{Override: &authzv3.ExtAuthzPerRoute_CheckSettings{CheckSettings: settings}})
}

func grpcService(cluster string, timeout time.Duration) *corev3.GrpcService {
	s := &corev3.GrpcService{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: cluster}}}
	if timeout > 0 {
		s.Timeout = seconds(timeout)
	}
	return s
}
