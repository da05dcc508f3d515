package envoy

import (
	procv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/anypb"
)

const procFilter = "envoy.filters.http.ext_proc"

// extProc is the filter that hands responses over to be masked and recorded.
// The request does not go there: it was judged and recorded whole before.
func extProc() (*anypb.Any, error) {
	return packed(&procv3.ExternalProcessor{
		GrpcService:      grpcService(servicesName, 0),
		FailureModeAllow: false,
		StatusOnError:    &typev3.HttpStatus{Code: typev3.StatusCode_BadGateway},
		ProcessingMode: &procv3.ProcessingMode{
			RequestHeaderMode:   procv3.ProcessingMode_SKIP,
			ResponseHeaderMode:  procv3.ProcessingMode_SEND,
			RequestBodyMode:     procv3.ProcessingMode_NONE,
			ResponseBodyMode:    procv3.ProcessingMode_FULL_DUPLEX_STREAMED,
			RequestTrailerMode:  procv3.ProcessingMode_SKIP,
			ResponseTrailerMode: procv3.ProcessingMode_SEND,
		},
		MetadataOptions: &procv3.MetadataOptions{ForwardingNamespaces: &procv3.MetadataOptions_MetadataNamespaces{Untyped: []string{authzFilter}}},
		// Tells Envoy's own answers from a function's.
		ResponseAttributes: []string{"response.code_details"},
		StatPrefix:         "callgate",
	})
}
