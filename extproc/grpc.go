package extproc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/callgate/callgate/extproc/mask"
)

// framed masks the messages of a gRPC response one by one. Frames are those of
// the gRPC over HTTP/2 protocol: a flag byte, a four-byte length, the message.
type framed struct {
	masker *mask.Masker
	output protoreflect.MessageDescriptor
	limit  int // bytes of one message
	buf    []byte
	found  []mask.Finding
}

const frameHeader = 5

func (f *framed) write(p []byte) ([]byte, error) {
	f.buf = append(f.buf, p...)
	var out []byte
	for len(f.buf) >= frameHeader {
		if f.buf[0] != 0 {
			return nil, errors.New("a compressed gRPC message can't be masked; let the service answer uncompressed")
		}
		size := int(binary.BigEndian.Uint32(f.buf[1:frameHeader]))
		if size > f.limit {
			return nil, fmt.Errorf("a gRPC message of %d bytes is over the %d that can be masked; raise the connection's max_response", size, f.limit)
		}
		if len(f.buf) < frameHeader+size {
			break
		}
		message, err := f.message(f.buf[frameHeader : frameHeader+size])
		if err != nil {
			return nil, err
		}
		out = append(out, 0)
		out = binary.BigEndian.AppendUint32(out, uint32(len(message)))
		out = append(out, message...)
		f.buf = append(f.buf[:0], f.buf[frameHeader+size:]...)
	}
	return out, nil
}

func (f *framed) close() ([]byte, error) {
	if len(f.buf) > 0 {
		return nil, errors.New("the gRPC response ends within a message")
	}
	return nil, nil
}

func (f *framed) findings() []mask.Finding { return f.found }
func (*framed) waits() bool                { return false }
func (f *framed) held() int                { return cap(f.buf) }

func (f *framed) message(b []byte) ([]byte, error) {
	m := dynamicpb.NewMessage(f.output)
	if err := proto.Unmarshal(b, m); err != nil {
		return nil, fmt.Errorf("the gRPC message is not a %s: %w", f.output.FullName(), err)
	}
	if err := f.walk("", m); err != nil {
		return nil, err
	}
	// Written anew even where nothing is hidden: the bytes may hold what was
	// not looked at, such as the first of two values of one field.
	out, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("write the masked gRPC message: %w", err)
	}
	return out, nil
}

// walk masks the fields of m in place. Field names are those of the .proto
// file, as in paths of rules.
func (f *framed) walk(path string, m protoreflect.Message) error {
	if m.Descriptor().FullName() == "google.protobuf.Any" {
		return fmt.Errorf("the field %q is a google.protobuf.Any, whose fields can't be masked; let the service return the message itself, or hide the field by its path", path)
	}
	if len(m.GetUnknown()) > 0 {
		// They could hold what must be hidden, and nothing can tell.
		return fmt.Errorf("the message at %q has fields that the descriptors in use do not know, so it can't be masked; refresh the connection's descriptors", path)
	}
	var err error
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		err = f.field(join(path, string(fd.Name())), m, fd, v)
		return err == nil
	})
	return err
}

func (f *framed) field(path string, m protoreflect.Message, fd protoreflect.FieldDescriptor, v protoreflect.Value) error {
	switch {
	case fd.IsMap():
		return f.entries(path, m, fd, v.Map())
	case fd.IsList():
		list := v.List()
		for i := range list.Len() {
			next, clear, err := f.value(path+"["+strconv.Itoa(i)+"]", fd, list.Get(i))
			switch {
			case err != nil:
				return err
			case clear:
				list.Set(i, list.NewElement()) // empty, or zero
			default:
				list.Set(i, next)
			}
		}
		return nil
	default:
		next, clear, err := f.value(path, fd, v)
		switch {
		case err != nil:
			return err
		case clear:
			m.Clear(fd)
		case fd.Message() == nil:
			m.Set(fd, next)
		}
		return nil
	}
}

func (f *framed) entries(path string, m protoreflect.Message, fd protoreflect.FieldDescriptor, entries protoreflect.Map) error {
	var err error
	entries.Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
		s := k.String()
		at := path + `["` + quoted.Replace(s) + `"]`
		// A key can't be replaced without the risk of two becoming one.
		masked, found, keyErr := f.masker.String(path, s)
		if keyErr != nil {
			err = keyErr
			return false
		}
		if masked != s {
			f.found = append(f.found, found...)
			entries.Clear(k)
			return true
		}
		next, clear, valueErr := f.value(at, fd.MapValue(), v)
		switch {
		case valueErr != nil:
			err = valueErr
		case clear:
			entries.Clear(k)
		case fd.MapValue().Message() == nil:
			entries.Set(k, next)
		}
		return err == nil
	})
	return err
}

// value masks one value. clear means that it must go altogether: what a path
// hides and is not text has no masked form.
func (f *framed) value(path string, fd protoreflect.FieldDescriptor, v protoreflect.Value) (next protoreflect.Value, clear bool, err error) {
	switch fd.Kind() {
	case protoreflect.StringKind:
		s, found, err := f.masker.String(path, v.String())
		f.found = append(f.found, found...)
		return protoreflect.ValueOfString(s), false, err
	case protoreflect.BytesKind:
		s, found, err := f.masker.String(path, string(v.Bytes()))
		f.found = append(f.found, found...)
		return protoreflect.ValueOfBytes([]byte(s)), false, err
	case protoreflect.BoolKind, protoreflect.EnumKind:
		hides, err := f.hidden(path)
		return v, hides, err
	case protoreflect.MessageKind, protoreflect.GroupKind:
		if hides, err := f.hidden(path); hides || err != nil {
			return v, hides, err
		}
		return v, false, f.walk(path, v.Message())
	default:
		if hides, err := f.hidden(path); hides || err != nil {
			return v, hides, err
		}
		// A card number may be sent as a number.
		_, found, err := f.masker.String(path, digits(fd, v))
		f.found = append(f.found, found...)
		return v, len(found) > 0, err
	}
}

// digits writes a number as people do, without an exponent.
func digits(fd protoreflect.FieldDescriptor, v protoreflect.Value) string {
	if fd.Kind() == protoreflect.DoubleKind || fd.Kind() == protoreflect.FloatKind {
		return strconv.FormatFloat(v.Float(), 'f', -1, 64)
	}
	return v.String()
}

// quoted is a map's key as a path of a rule has it.
var quoted = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

// hidden reports whether a path or key rule hides the field as a whole.
func (f *framed) hidden(path string) (bool, error) {
	_, found, hides, err := f.masker.Field(path)
	if hides {
		f.found = append(f.found, found)
	}
	return hides, err
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return strings.Join([]string{path, name}, ".")
}
