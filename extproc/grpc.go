package extproc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/klauspost/compress/gzip"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/callgate/callgate/extproc/mask"
	"github.com/callgate/callgate/proto/callgate"
)

// framed masks the messages of a gRPC response or request one by one. Frames are those of
// the gRPC over HTTP/2 protocol: a flag byte, a four-byte length, the message.
type framed struct {
	masker   *mask.Masker
	messages protoreflect.MessageDescriptor // their type
	what     string                         // response or request
	limit    int                            // bytes of one message
	// encoding is how the messages are compressed that are (grpc-encoding).
	encoding string
	marked   map[protoreflect.FieldDescriptor][]string
	buf      []byte
	found    []mask.Finding
}

const frameHeader = 5

func (f *framed) write(p []byte) ([]byte, error) {
	f.buf = append(f.buf, p...)
	var out []byte
	for len(f.buf) >= frameHeader {
		if f.buf[0] > 1 {
			return nil, fmt.Errorf("the %s is not of gRPC messages", f.what)
		}
		size := int(binary.BigEndian.Uint32(f.buf[1:frameHeader]))
		if size > f.limit {
			return nil, fmt.Errorf("a gRPC message of %d bytes is over the %d that can be masked; raise the connection's max_response", size, f.limit)
		}
		if len(f.buf) < frameHeader+size {
			break
		}
		plain := f.buf[frameHeader : frameHeader+size]
		if f.buf[0] == 1 {
			var err error
			if plain, err = f.decompress(plain); err != nil {
				return nil, err
			}
		}
		message, err := f.message(plain)
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
		return nil, fmt.Errorf("the gRPC %s ends within a message", f.what)
	}
	return nil, nil
}

func (f *framed) findings() []mask.Finding { return f.found }
func (*framed) waits() bool                { return false }
func (f *framed) held() int                { return cap(f.buf) }

// maxFindings bounds what is told of a stream, which may not end; further places
// are counted under the path "...".
const maxFindings = 128

// note takes note of what was hidden, equal ones together.
func (f *framed) note(list ...mask.Finding) {
	for _, n := range list {
		same := func(path string) func(mask.Finding) bool {
			return func(o mask.Finding) bool {
				return o.Rule == n.Rule && o.Type == n.Type && o.Detail == n.Detail && o.Path == path
			}
		}
		i := slices.IndexFunc(f.found, same(n.Path))
		if i < 0 && len(f.found) >= maxFindings {
			n.Path = "..."
			i = slices.IndexFunc(f.found, same(n.Path))
		}
		if i < 0 {
			f.found = append(f.found, n)
		} else {
			f.found[i].Count += n.Count
		}
	}
}

// decompress undoes the compression of a message; it leaves uncompressed, as any
// single message may.
func (f *framed) decompress(b []byte) ([]byte, error) {
	if f.encoding != "gzip" {
		return nil, fmt.Errorf("a gRPC message compressed by %q can't be masked; let the service answer uncompressed, or in gzip", f.encoding)
	}
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, errors.New("a compressed gRPC message is not gzip")
	}
	plain, err := io.ReadAll(io.LimitReader(z, int64(f.limit)+1))
	switch {
	case err != nil:
		return nil, errors.New("a compressed gRPC message is not gzip")
	case len(plain) > f.limit:
		return nil, fmt.Errorf("a gRPC message decompresses to more than the %d bytes that can be masked; raise the connection's max_response", f.limit)
	}
	return plain, nil
}

func (f *framed) message(b []byte) ([]byte, error) {
	m := dynamicpb.NewMessage(f.messages)
	if err := proto.Unmarshal(b, m); err != nil {
		return nil, fmt.Errorf("the gRPC message is not a %s: %w", f.messages.FullName(), err)
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
	if done, err := f.option(path, m, fd, v); done || err != nil {
		return err
	}
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

// The options by which a field says that it is sensitive, as paths of rules have
// them.
const (
	optionSensitive = "(callgate.sensitive)"
	optionRedact    = "(debug_redact)"
)

// optionsOf lists those of a field.
func (f *framed) optionsOf(fd protoreflect.FieldDescriptor) []string {
	if list, known := f.marked[fd]; known {
		return list
	}
	// Descriptors that came from elsewhere may hold options that were not known
	// when they were read.
	var list []string
	options := &descriptorpb.FieldOptions{}
	if b, err := proto.Marshal(fd.Options()); err == nil && proto.Unmarshal(b, options) == nil {
		if options.GetDebugRedact() {
			list = append(list, optionRedact)
		}
		if sensitive, _ := proto.GetExtension(options, callgate.E_Sensitive).(bool); sensitive {
			list = append(list, optionSensitive)
		}
	}
	if f.marked == nil {
		f.marked = map[protoreflect.FieldDescriptor][]string{}
	}
	f.marked[fd] = list
	return list
}

// option hides a field whose option a rule names, and reports whether it did.
func (f *framed) option(path string, m protoreflect.Message, fd protoreflect.FieldDescriptor, v protoreflect.Value) (bool, error) {
	for _, name := range f.optionsOf(fd) {
		_, found, hides, err := f.masker.Field(name)
		if err != nil {
			return false, err
		}
		if !hides {
			continue
		}
		found.Path = path
		f.note(found)
		if fd.Kind() != protoreflect.StringKind || fd.IsList() || fd.IsMap() {
			m.Clear(fd)
			return true, nil
		}
		s, _, err := f.masker.String(name, v.String())
		if err != nil {
			return false, err
		}
		m.Set(fd, protoreflect.ValueOfString(s))
		return true, nil
	}
	return false, nil
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
			f.note(found...)
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
		f.note(found...)
		return protoreflect.ValueOfString(s), false, err
	case protoreflect.BytesKind:
		s, found, err := f.masker.String(path, string(v.Bytes()))
		f.note(found...)
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
		f.note(found...)
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
		f.note(found)
	}
	return hides, err
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return strings.Join([]string{path, name}, ".")
}
