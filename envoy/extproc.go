package envoy

import (
	procv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/anypb"
)

const procFilter = "envoy.filters.http.ext_proc"

// extProc is the filter that hands responses over to be masked and recorded.
// The request does not go there: it was judged and recorded whole before. That of
// a connection with batches, or that masks requests, does; see [editing].
func extProc(p plan) (*anypb.Any, error) {
	return packed(&procv3.ExternalProcessor{
		GrpcService:      grpcService(servicesName, 0),
		FailureModeAllow: false,
		StatusOnError:    &typev3.HttpStatus{Code: typev3.StatusCode_BadGateway},
		// Of an answer about a request; responses that stream have no such bound.
		MessageTimeout:  seconds(p.Settings.DecideTimeout),
		ProcessingMode:  processing(procv3.ProcessingMode_SKIP, procv3.ProcessingMode_NONE),
		MetadataOptions: &procv3.MetadataOptions{ForwardingNamespaces: &procv3.MetadataOptions_MetadataNamespaces{Untyped: []string{authzFilter}}},
		// Tells Envoy's own answers from a function's.
		ResponseAttributes: []string{"response.code_details"},
		StatPrefix:         "callgate",
	})
}

func processing(headers procv3.ProcessingMode_HeaderSendMode, body procv3.ProcessingMode_BodySendMode) *procv3.ProcessingMode {
	return &procv3.ProcessingMode{
		RequestHeaderMode:   headers,
		RequestBodyMode:     body,
		RequestTrailerMode:  procv3.ProcessingMode_SKIP,
		ResponseHeaderMode:  procv3.ProcessingMode_SEND,
		ResponseBodyMode:    procv3.ProcessingMode_FULL_DUPLEX_STREAMED,
		ResponseTrailerMode: procv3.ProcessingMode_SEND,
	}
}

// editing is the part of a route whose requests may be batches, or are masked:
// ext_proc gets them after they were judged, and takes out what is denied of one.
// The body is buffered, as it was to be judged, and with the headers at hand
// ext_proc can correct content-length.
func editing() (*anypb.Any, error) {
	return overriding(processing(procv3.ProcessingMode_SEND, procv3.ProcessingMode_BUFFERED))
}

// editingStream is the same for requests whose messages stream, which nobody has
// judged.
func editingStream() (*anypb.Any, error) {
	mode := processing(procv3.ProcessingMode_SEND, procv3.ProcessingMode_FULL_DUPLEX_STREAMED)
	mode.RequestTrailerMode = procv3.ProcessingMode_SEND
	return overriding(mode)
}

func overriding(mode *procv3.ProcessingMode) (*anypb.Any, error) {
	return packed(&procv3.ExtProcPerRoute{Override: &procv3.ExtProcPerRoute_Overrides{Overrides: &procv3.ExtProcOverrides{ProcessingMode: mode}}})
}
