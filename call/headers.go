package call

import "slices"

// recordedHeaders are kept of every request; a connection may add to them.
var recordedHeaders = []string{
	"accept", "content-encoding", "content-type", "grpc-timeout", "idempotency-key", "if-match", "mcp-protocol-version",
	"mcp-session-id", "traceparent", "tracestate", "user-agent", "x-forwarded-for", "x-request-id",
}

// HeaderRecorded reports whether a request header (lower case) is kept of
// every call, credentials in it apart: where it is not in the record, the
// request did not have it.
func HeaderRecorded(name string) bool { return slices.Contains(recordedHeaders, name) }
