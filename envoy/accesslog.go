package envoy

import (
	"time"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	grpclogv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/grpc/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// accessLog streams what became of each request. Entries wait a tenth of a
// second for company, which is how late a call's row may be for it.
func accessLog() (*accesslogv3.AccessLog, error) {
	typed, err := packed(&grpclogv3.HttpGrpcAccessLogConfig{CommonConfig: &grpclogv3.CommonGrpcAccessLogConfig{
		LogName:             "callgate",
		GrpcService:         grpcService(servicesName, 0),
		TransportApiVersion: corev3.ApiVersion_V3,
		BufferFlushInterval: seconds(100 * time.Millisecond),
		BufferSizeBytes:     &wrapperspb.UInt32Value{Value: 256 << 10},
	}})
	if err != nil {
		return nil, err
	}
	return &accesslogv3.AccessLog{Name: "envoy.access_loggers.http_grpc", ConfigType: &accesslogv3.AccessLog_TypedConfig{TypedConfig: typed}}, nil
}
