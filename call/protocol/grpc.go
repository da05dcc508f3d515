package protocol

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/callgate/callgate/call"
)

// grpc reads gRPC over HTTP/2: the path names the method, its one request
// message the arguments. Methods whose client streams are refused, since a
// decision can't be right for messages that have not come yet.
type grpc struct{ methods Methods }

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
		return inv, malformed("a gRPC call is made with POST")
	}
	switch ct := req.Headers.Get("content-type"); {
	case ct == "application/grpc", ct == "application/grpc+proto":
	default:
		return inv, malformed("content-type must be application/grpc, not %q", printable(ct))
	}
	desc, err := g.methods.Method(inv.Function)
	if err != nil {
		return inv, &Error{Reason: call.ReasonUnknownFunction, Message: fmt.Sprintf(
			"no descriptor for %s, so its message can't be judged: %v; give the connection a descriptors file or switch on the service's reflection", printable(inv.Function), err)}
	}
	if desc.IsStreamingClient() {
		return inv, malformed("%s streams its requests, which can't be judged before the call; only unary and server-streaming methods are let through", inv.Function)
	}
	body, err := frame(req)
	if err != nil {
		return inv, err
	}
	m := dynamicpb.NewMessage(desc.Input())
	if err := (proto.UnmarshalOptions{RecursionLimit: maxDepth}).Unmarshal(body, m); err != nil {
		return inv, malformed("the message is not a valid %s", desc.Input().FullName())
	}
	w := walker{}
	if inv.Args, err = w.message(m, 0); err != nil {
		return inv, err
	}
	if inv.ArgsJSON, err = json.Marshal(inv.Args); err != nil {
		return inv, malformed("the message has a number that JSON can't hold (NaN or infinite)")
	}
	return inv, nil
}

// frameHeader is a gRPC frame's flag byte and four-byte length.
const frameHeader = 5

// frame takes the one message out of a request body.
func frame(req *call.Request) ([]byte, error) {
	b := req.Body
	if len(b) < frameHeader {
		return nil, malformed("the gRPC request has no message")
	}
	size := uint64(binary.BigEndian.Uint32(b[1:frameHeader]))
	switch rest := uint64(len(b) - frameHeader); {
	case b[0] == 1:
		return nil, malformed("a compressed gRPC message is not accepted; send it uncompressed")
	case b[0] != 0:
		return nil, malformed("the gRPC message has an unknown flag")
	case size > rest:
		return nil, malformed("the gRPC message is cut off")
	case size < rest:
		return nil, malformed("the gRPC request has more than one message")
	}
	return b[frameHeader:], nil
}

// walker turns a message into arguments: field names as in the .proto file,
// enums by name, bytes in base64, and fields without presence also where they
// have their zero value, so that a rule can compare them.
type walker struct{ nodes int }

func (w *walker) message(m protoreflect.Message, depth int) (map[string]any, error) {
	if len(m.GetUnknown()) > 0 {
		return nil, malformed("the message has fields that the descriptors in use do not know, so it can't be judged; refresh the connection's descriptors")
	}
	if depth > maxDepth {
		return nil, malformed("the message is nested more than %d deep", maxDepth)
	}
	fields := m.Descriptor().Fields()
	out := make(map[string]any, fields.Len())
	for i := range fields.Len() {
		fd := fields.Get(i)
		if fd.HasPresence() && !m.Has(fd) {
			continue
		}
		v, err := w.field(fd, m.Get(fd), depth)
		if err != nil {
			return nil, err
		}
		out[string(fd.Name())] = v
	}
	return out, nil
}

func (w *walker) field(fd protoreflect.FieldDescriptor, v protoreflect.Value, depth int) (any, error) {
	switch {
	case fd.IsMap():
		out := make(map[string]any, v.Map().Len())
		var err error
		v.Map().Range(func(k protoreflect.MapKey, e protoreflect.Value) bool {
			out[k.String()], err = w.value(fd.MapValue(), e, depth)
			return err == nil
		})
		return out, err
	case fd.IsList():
		out := make([]any, v.List().Len())
		for i := range out {
			var err error
			if out[i], err = w.value(fd, v.List().Get(i), depth); err != nil {
				return nil, err
			}
		}
		return out, nil
	default:
		return w.value(fd, v, depth)
	}
}

func (w *walker) value(fd protoreflect.FieldDescriptor, v protoreflect.Value, depth int) (any, error) {
	if w.nodes++; w.nodes > maxNodes {
		return nil, malformed("the message has more than %d values", maxNodes)
	}
	switch x := v.Interface().(type) {
	case int32:
		return int64(x), nil
	case uint32:
		return int64(x), nil
	case uint64:
		if x > math.MaxInt64 {
			return nil, malformed("field %s is over the largest signed 64-bit number and can't be judged exactly", fd.FullName())
		}
		return int64(x), nil
	case float32:
		return float64(x), nil
	case []byte:
		return base64.StdEncoding.EncodeToString(x), nil
	case protoreflect.EnumNumber:
		if e := fd.Enum().Values().ByNumber(x); e != nil {
			return string(e.Name()), nil
		}
		return int64(x), nil
	case protoreflect.Message:
		if x.Descriptor().ParentFile().Package() == "google.protobuf" {
			return wellKnown(x)
		}
		return w.message(x, depth+1)
	default: // bool, int64, float64, string
		return x, nil
	}
}

// wellKnown gives a google.protobuf message its usual JSON form, such as a
// timestamp's text.
func wellKnown(m protoreflect.Message) (any, error) {
	b, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m.Interface())
	if err != nil {
		return nil, malformed("a %s in the message can't be read", m.Descriptor().FullName())
	}
	return document(b)
}
