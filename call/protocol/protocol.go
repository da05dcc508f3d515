// Package protocol turns the bytes of a request into a call's function and
// arguments, and a denial into the shape that the caller's protocol has for it.
//
// The one rule that everything here serves: what the policy judges is what the
// function receives. Where two parsers could read the same bytes differently
// (a key twice, an escape that one decodes and another does not, a body in an
// encoding) the request is refused with the reason, never guessed at.
package protocol

import (
	"encoding/json"
	"fmt"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/call/sql"
)

// Invocation is what a request asks for.
type Invocation struct {
	Function string
	Args     map[string]any  // see [call.Call]
	ArgsJSON json.RawMessage // Args as one JSON object
	RPCID    json.RawMessage // JSON-RPC id as sent; nil for a notification and elsewhere
	Session  string          // the protocol's own session, if it has one
	Unread   bool            // the arguments stream, and were not read; see [call.Call]
	InPath   []string        // the arguments that stand in the path
	// Aliases are the names under which the caller wants fields back, and what
	// the fields are called (graphql).
	Aliases map[string][]string
}

// Error is a request that can't be judged. Its message names cause and fix, and
// goes to the caller.
type Error struct {
	Reason  call.Reason
	Message string
}

func (e *Error) Error() string { return e.Message }

func malformed(format string, args ...any) *Error {
	return &Error{Reason: call.ReasonMalformedRequest, Message: fmt.Sprintf(format, args...)}
}

// Parser reads the requests of one connection. It is safe for concurrent use.
type Parser interface {
	// Parse returns what the request asks for. Its error is an *[Error]; the
	// invocation then holds what was understood so far, for the record.
	Parse(*call.Request) (Invocation, error)
}

// Methods finds gRPC methods by full name.
type Methods interface {
	// Method returns the method "pkg.Service/Method", or an error that says
	// why it is not known.
	Method(name string) (protoreflect.MethodDescriptor, error)
}

// Function names the requests of an http connection that match a method and a
// path template, such as /customers/{id}. Where several templates match, a
// literal segment wins over a parameter, from left to right.
//
// The arguments of such a request are one flat map: the path's parameters, the
// fields of the query, and those of a JSON object or a form (multipart too) in the body; a JSON
// body that is no object is the argument "body". A field of a query or form
// that comes more than once is a list. No name may come from two places, nor be
// one that a framework could take for another (amount, Amount, amount[]).
//
// A body of any other type is not judged: no argument comes from it, and rules
// see only call.body_size and the content-type in call.headers. What looks like
// JSON under such a type is refused, since many functions read it all the same.
type Function struct {
	Name, Method, Path string
}

// Config says how a connection's requests are read.
type Config struct {
	Protocol  call.Protocol
	BasePath  string      // http, openai: the path below which the templates stand
	Functions []Function  // http
	Methods   Methods     // grpc
	Streaming []string    // grpc: methods whose requests stream and are not read
	GraphQL   GraphQL     // graphql
	Dialect   sql.Dialect // sql; default generic
	// MaxBody bounds a body that came in a content encoding, once decoded, in
	// bytes. Default 1 MiB.
	MaxBody int64
	// MaxMessage bounds a gRPC message that came packed, in bytes. Default
	// 4 MiB, which is what gRPC servers take by default.
	MaxMessage int64
}

// New returns the parser for a connection.
func New(cfg Config) (Parser, error) {
	p, err := unencoded(cfg)
	if err != nil || cfg.Protocol == call.GRPC { // which has encodings of its own
		return p, err
	}
	if cfg.MaxBody <= 0 {
		cfg.MaxBody = 1 << 20
	}
	return decoded{p, cfg.MaxBody}, nil
}

// unencoded is the parser of requests that come as they are.
func unencoded(cfg Config) (Parser, error) {
	switch cfg.Protocol {
	case call.HTTP:
		return newRoutes(cfg.BasePath, cfg.Functions)
	case call.GraphQL:
		return newGraphQL(cfg.GraphQL), nil
	case call.SQL:
		if cfg.Dialect == "" {
			cfg.Dialect = sql.Generic
		}
		sql.Warm()
		return sqlBody{cfg.Dialect}, nil
	case call.JSONRPC:
		return jsonrpc{}, nil
	case call.MCP:
		return mcp{}, nil
	case call.OpenAI:
		return newOpenAI(cfg.BasePath), nil
	case call.GRPC:
		if cfg.Methods == nil {
			return nil, fmt.Errorf("a grpc connection needs descriptors; give it a file or the service's reflection")
		}
		if cfg.MaxMessage <= 0 {
			cfg.MaxMessage = 4 << 20
		}
		return grpc{methods: cfg.Methods, limit: cfg.MaxMessage, streaming: cfg.Streaming}, nil
	default:
		return nil, fmt.Errorf("protocol %q is not known; choose http, mcp, jsonrpc, grpc, graphql, sql or openai", cfg.Protocol)
	}
}
