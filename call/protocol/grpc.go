package protocol

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/callgate/callgate/call"
)

// grpc reads gRPC over HTTP/2: the path names the method, its one request
// message the arguments. Methods with client streams are refused, since a
// decision can't be right for messages that have not come yet, but for those
// that are to be judged without.
type grpc struct {
	methods Methods
	limit   int64 // bytes of an unpacked message
	// streaming are methods that are let through with their messages unread.
	streaming []string
}

func (g grpc) Parse(req *call.Request) (Invocation, error) {
	if err := sane(req); err != nil {
		return Invocation{}, err
	}
	path, query, err := split(req.Path)
	if err != nil {
		return Invocation{}, err
	}
	service, method, ok := strings.Cut(path[1:], "/")
	if !ok || service == "" || method == "" || strings.Contains(method, "/") || query != "" {
		return Invocation{}, malformed("the path of a gRPC call must be /package.Service/Method")
	}
	inv := Invocation{Function: service + "/" + method}
	if req.Method != http.MethodPost {
		return inv, malformed("a gRPC call is made with POST; send one")
	}
	if ct := req.Headers.Get("content-type"); ct != "application/grpc" && ct != "application/grpc+proto" {
		return inv, malformed("content-type must be application/grpc, not %q", printable(ct))
	}
	if slices.Contains(g.streaming, inv.Function) {
		inv.Unread = true
		return inv, nil
	}
	desc, err := g.methods.Method(inv.Function)
	if err != nil {
		return inv, &Error{Reason: call.ReasonUnknownFunction, Message: fmt.Sprintf(
			"no descriptor for %s, so its message can't be judged: %v; give the connection a descriptors file or switch on the service's reflection", printable(inv.Function), err)}
	}
	if desc.IsStreamingClient() {
		return inv, malformed("%s streams its requests, which can't be judged before the call; only unary and server-streaming methods are let through, and those that the connection lists in grpc.streaming", inv.Function)
	}
	body, err := g.frame(req)
	if err != nil {
		return inv, err
	}
	w := weigher{left: maxNodes}
	if err := w.message(body, desc.Input(), 0); err != nil {
		return inv, err
	}
	m := dynamicpb.NewMessage(desc.Input())
	// Without a resolver of its own it would take extensions that are linked
	// into this program, which no rule would see.
	if err := (proto.UnmarshalOptions{RecursionLimit: maxDepth + 1, Resolver: new(protoregistry.Types)}).Unmarshal(body, m); err != nil {
		return inv, malformed("the message is not a valid %s", desc.Input().FullName())
	}
	if inv.Args, err = arguments(m); err != nil {
		return inv, err
	}
	return inv, inv.write()
}

// frameHeader is a gRPC frame's flag byte and four-byte length.
const frameHeader = 5

// frame takes the one message out of a request body.
func (g grpc) frame(req *call.Request) ([]byte, error) {
	b := req.Body
	if len(b) < frameHeader {
		return nil, malformed("the gRPC request has no message; send exactly one")
	}
	size := uint64(binary.BigEndian.Uint32(b[1:frameHeader]))
	switch rest := uint64(len(b) - frameHeader); {
	case b[0] > 1:
		return nil, malformed("the gRPC message has a flag that is not known")
	case size > rest:
		return nil, malformed("the gRPC message is cut off; send the whole message")
	case size < rest:
		return nil, malformed("the gRPC request has more than one message; send exactly one")
	case b[0] == 0:
		return b[frameHeader:], nil
	}
	switch e := req.Headers.Get("grpc-encoding"); e {
	case "gzip":
		return g.unzip(b[frameHeader:])
	case "", "identity":
		return nil, malformed("the gRPC message is marked as compressed, but grpc-encoding names no compression; send it uncompressed")
	default:
		return nil, malformed("a gRPC message in grpc-encoding %s can't be judged; send it uncompressed or in gzip", printable(e))
	}
}

// unzip unpacks a message. Only one gzip member is taken, since libraries
// differ in what they do with a second one, or with what follows.
func (g grpc) unzip(b []byte) ([]byte, error) {
	packed := bytes.NewReader(b)
	z, err := gzip.NewReader(packed)
	if err != nil {
		return nil, malformed("the gRPC message is not the gzip that it says")
	}
	z.Multistream(false)
	out, err := io.ReadAll(io.LimitReader(z, g.limit+1))
	switch {
	case int64(len(out)) > g.limit:
		return nil, &Error{Reason: call.ReasonBodyTooLarge, Message: fmt.Sprintf("the gRPC message unpacks to more than %d bytes; send less", g.limit)}
	case err != nil:
		return nil, malformed("the gRPC message is not the gzip that it says")
	case packed.Len() > 0:
		return nil, malformed("the gRPC message goes on after its gzip data; send one gzip member")
	}
	return out, nil
}
