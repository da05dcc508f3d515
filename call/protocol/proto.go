package protocol

import (
	"encoding/base64"
	"math"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/callgate/callgate/call"
)

// weigher goes over a message's bytes before memory is spent on them: an empty
// sub-message is two bytes on the wire and a hundred in memory. It also refuses
// whatever the descriptors do not know, anywhere in the message, since a rule
// would not see it and the service might.
type weigher struct{ left int }

func (w *weigher) message(b []byte, md protoreflect.MessageDescriptor, depth int) error {
	if depth > maxDepth {
		return malformed("the message is nested more than %d deep", maxDepth)
	}
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return invalid(md)
		}
		b = b[n:]
		fd := md.Fields().ByNumber(num)
		if fd == nil {
			return unseen(md)
		}
		if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
			return invalid(md)
		}
		if err := w.field(b[:n], num, typ, fd, depth); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

func (w *weigher) field(b []byte, num protowire.Number, typ protowire.Type, fd protoreflect.FieldDescriptor, depth int) error {
	want := wireType(fd.Kind())
	count := 1
	switch {
	case typ == want && typ == protowire.BytesType && fd.Message() != nil:
		inner, _ := protowire.ConsumeBytes(b)
		if err := w.message(inner, fd.Message(), depth+1); err != nil {
			return err
		}
	case typ == want && typ == protowire.StartGroupType:
		inner, _ := protowire.ConsumeGroup(num, b)
		if err := w.message(inner, fd.Message(), depth+1); err != nil {
			return err
		}
	case typ == want:
	case typ == protowire.BytesType && fd.IsList() && want != protowire.StartGroupType:
		inner, _ := protowire.ConsumeBytes(b)
		count = packed(inner, want)
	default:
		return unseen(fd.ContainingMessage()) // a field of another type under this number
	}
	if w.left -= count; w.left < 0 {
		return malformed("the message has more than %d values", maxNodes)
	}
	return nil
}

// packed counts the numbers of a packed list.
func packed(b []byte, typ protowire.Type) int {
	switch typ {
	case protowire.Fixed32Type:
		return len(b) / 4
	case protowire.Fixed64Type:
		return len(b) / 8
	}
	n := 0
	for _, c := range b {
		if c < 0x80 {
			n++
		}
	}
	return n
}

func wireType(k protoreflect.Kind) protowire.Type {
	switch k {
	case protoreflect.Sfixed32Kind, protoreflect.Fixed32Kind, protoreflect.FloatKind:
		return protowire.Fixed32Type
	case protoreflect.Sfixed64Kind, protoreflect.Fixed64Kind, protoreflect.DoubleKind:
		return protowire.Fixed64Type
	case protoreflect.StringKind, protoreflect.BytesKind, protoreflect.MessageKind:
		return protowire.BytesType
	case protoreflect.GroupKind:
		return protowire.StartGroupType
	default:
		return protowire.VarintType
	}
}

func invalid(md protoreflect.MessageDescriptor) error {
	return malformed("the message is not a valid %s", md.FullName())
}

func unseen(md protoreflect.MessageDescriptor) error {
	return malformed("the %s in the message has a field or value that the descriptors in use do not know, so it can't be judged; refresh the connection's descriptors", md.FullName())
}

// arguments turns a message into arguments: field names as in the .proto file,
// enums by name, bytes in base64, 64-bit numbers as numbers, and fields without
// presence also where they have their zero value, so that a rule can compare
// them.
func arguments(m protoreflect.Message) (map[string]any, error) {
	fields := m.Descriptor().Fields()
	out := make(map[string]any, fields.Len())
	for i := range fields.Len() {
		fd := fields.Get(i)
		if fd.HasPresence() && !m.Has(fd) {
			continue
		}
		v, err := argument(fd, m.Get(fd))
		if err != nil {
			return nil, err
		}
		out[string(fd.Name())] = v
	}
	return out, nil
}

func argument(fd protoreflect.FieldDescriptor, v protoreflect.Value) (any, error) {
	switch {
	case fd.IsMap():
		out := make(map[string]any, v.Map().Len())
		var err error
		v.Map().Range(func(k protoreflect.MapKey, e protoreflect.Value) bool {
			var one any
			if one, err = single(fd.MapValue(), e); err != nil {
				return false
			}
			key := k.String()
			if !utf8.ValidString(key) {
				err = notText(fd)
			}
			out[key] = one
			return err == nil
		})
		return out, err
	case fd.IsList():
		out := make([]any, v.List().Len())
		for i := range out {
			var err error
			if out[i], err = single(fd, v.List().Get(i)); err != nil {
				return nil, err
			}
		}
		return out, nil
	default:
		return single(fd, v)
	}
}

func single(fd protoreflect.FieldDescriptor, v protoreflect.Value) (any, error) {
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
	case string:
		if !utf8.ValidString(x) { // possible in proto2
			return nil, notText(fd)
		}
		return x, nil
	case []byte:
		return base64.StdEncoding.EncodeToString(x), nil
	case protoreflect.EnumNumber:
		e := fd.Enum().Values().ByNumber(x)
		if e == nil {
			return nil, unseen(fd.ContainingMessage())
		}
		return string(e.Name()), nil
	case protoreflect.Message:
		return inner(x)
	default: // bool, int64, float64
		return x, nil
	}
}

func notText(fd protoreflect.FieldDescriptor) *Error {
	return &Error{Reason: call.ReasonMalformedRequest, Message: "field " + string(fd.FullName()) + " is not UTF-8, which parsers repair differently; send UTF-8"}
}

// inner is a message inside another one. Those of google.protobuf that have a
// JSON form of their own, such as a timestamp's text, take it.
func inner(m protoreflect.Message) (any, error) {
	switch name := m.Descriptor().FullName(); name {
	case "google.protobuf.Any":
		return nil, malformed("the message has a google.protobuf.Any, whose content can't be judged; only methods without one are let through")
	case "google.protobuf.BoolValue", "google.protobuf.BytesValue", "google.protobuf.DoubleValue",
		"google.protobuf.FloatValue", "google.protobuf.Int32Value", "google.protobuf.Int64Value",
		"google.protobuf.StringValue", "google.protobuf.UInt32Value", "google.protobuf.UInt64Value":
		if fd := m.Descriptor().Fields().ByNumber(1); fd != nil {
			return argument(fd, m.Get(fd))
		}
		return nil, invalid(m.Descriptor())
	case "google.protobuf.Timestamp", "google.protobuf.Duration", "google.protobuf.FieldMask",
		"google.protobuf.Struct", "google.protobuf.Value", "google.protobuf.ListValue":
		b, err := protojson.MarshalOptions{Resolver: new(protoregistry.Types)}.Marshal(m.Interface())
		if err != nil {
			return nil, malformed("a %s in the message has no valid value", name)
		}
		return document(b)
	default:
		return arguments(m)
	}
}
