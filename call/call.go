package call

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"time"

	"github.com/google/uuid"
)

// ID names one call. It is a UUID version 7 (RFC 9562), so it sorts by time
// and its day can be read from it, which is what makes looking one call up in
// a table partitioned by day cheap.
type ID = uuid.UUID

// NewID returns a fresh call id.
func NewID() (ID, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return ID{}, fmt.Errorf("make call id: %w", err)
	}
	return id, nil
}

// Protocol says how the bytes of a request become a call.
type Protocol string

// The protocols a connection can speak.
const (
	HTTP    Protocol = "http"    // REST or JSON over HTTP; path templates name the function
	MCP     Protocol = "mcp"     // Model Context Protocol, streamable HTTP
	JSONRPC Protocol = "jsonrpc" // JSON-RPC 2.0 over HTTP POST
	GraphQL Protocol = "graphql" // GraphQL over HTTP, one operation a request
	SQL     Protocol = "sql"     // SQL texts as bodies
	GRPC    Protocol = "grpc"    // gRPC over HTTP/2
	OpenAI  Protocol = "openai"  // chat completions and responses, and the tool calls in them
)

// Call is one function invocation as it reached the gateway. Its fields are
// what rules see and what the audit trail keeps.
type Call struct {
	ID       ID
	Time     time.Time // when the gateway first saw it
	Identity Identity
	// Session is what the call belongs to: what the connection's session_header
	// says, the MCP session, the token's sid, or the trace id, in that order.
	Session string
	// SessionName is what session_header says, if it is set and sent.
	SessionName string

	Connection string
	Protocol   Protocol
	Function   string // "refunds.create", "tools/call search", "pkg.Service/Method"

	// Args are the function's arguments, parsed once and shared by every
	// rule. They are read-only after parsing. Numbers are int64 where they
	// fit, else float64; a number that neither can hold exactly is refused
	// by the parser.
	Args map[string]any
	// ArgsJSON is Args as one JSON object, as recorded.
	ArgsJSON json.RawMessage
	// RPCID is the caller's JSON-RPC id, kept raw so that a denial can
	// return exactly it; nil for a notification and for other protocols.
	RPCID json.RawMessage
	// Unread says that the arguments come in a stream after the decision:
	// nobody has seen them.
	Unread bool
	// Loose are the parts of the body that an approval is not bound to, in
	// order: what a protocol wants to be another in each message, whatever the
	// message says. It is set where a call is held.
	Loose []Span

	Request Request
}

// Span is a part of a body, in bytes.
type Span struct{ Start, End int }

// Request is what arrived on the wire, as far as it is kept.
type Request struct {
	Method    string
	Scheme    string
	Authority string
	Path      string // path and query as Envoy normalised them
	Headers   Headers
	Body      []byte
	Source    netip.AddrPort // the caller's address as Envoy saw it
	TraceID   string         // from traceparent (W3C Trace Context); empty without one
	RequestID string         // x-request-id; a hint, not unique
}

// Header is one header field. Names are lower case, as HTTP/2 sends them.
type Header struct {
	Name  string `cbor:"0,keyasint" json:"name"`
	Value string `cbor:"1,keyasint" json:"value"`
}

// Headers are header fields in the order they came; a name may repeat.
type Headers []Header

// Get returns the first value of name (lower case), or "".
func (h Headers) Get(name string) string {
	for _, f := range h {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

// Values returns all values of name (lower case).
func (h Headers) Values(name string) []string {
	var v []string
	for _, f := range h {
		if f.Name == name {
			v = append(v, f.Value)
		}
	}
	return v
}
