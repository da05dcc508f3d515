package extproc

import (
	"encoding/binary"
	"errors"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	_ "google.golang.org/protobuf/types/known/anypb" // shop.proto imports it
)

const shop = `
name: "shop.proto" package: "shop" syntax: "proto3" dependency: "google/protobuf/any.proto" dependency: "callgate/options.proto"
message_type {
  name: "Customer"
  field { name: "name" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL }
  field { name: "password" number: 2 type: TYPE_STRING label: LABEL_OPTIONAL }
  field { name: "card" number: 3 type: TYPE_STRING label: LABEL_OPTIONAL }
  field { name: "card_number" number: 4 type: TYPE_INT64 label: LABEL_OPTIONAL }
  field { name: "card_float" number: 5 type: TYPE_DOUBLE label: LABEL_OPTIONAL }
  field { name: "friends" number: 6 type: TYPE_MESSAGE type_name: ".shop.Customer" label: LABEL_REPEATED }
  field { name: "labels" number: 7 type: TYPE_MESSAGE type_name: ".shop.Customer.LabelsEntry" label: LABEL_REPEATED }
  field { name: "scores" number: 8 type: TYPE_INT64 label: LABEL_REPEATED }
  field { name: "raw" number: 9 type: TYPE_BYTES label: LABEL_OPTIONAL }
  field { name: "active" number: 10 type: TYPE_BOOL label: LABEL_OPTIONAL }
  field { name: "extra" number: 11 type: TYPE_MESSAGE type_name: ".google.protobuf.Any" label: LABEL_OPTIONAL }
  field { name: "by_number" number: 12 type: TYPE_MESSAGE type_name: ".shop.Customer.ByNumberEntry" label: LABEL_REPEATED }
  field { name: "notes" number: 13 type: TYPE_STRING label: LABEL_REPEATED }
  field { name: "iban" number: 15 type: TYPE_STRING label: LABEL_OPTIONAL options { [callgate.sensitive]: true } }
  field { name: "pins" number: 16 type: TYPE_INT64 label: LABEL_REPEATED options { debug_redact: true } }
  field { name: "boss" number: 14 type: TYPE_MESSAGE type_name: ".shop.Customer" label: LABEL_OPTIONAL }
  nested_type {
    name: "LabelsEntry" options { map_entry: true }
    field { name: "key" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL }
    field { name: "value" number: 2 type: TYPE_STRING label: LABEL_OPTIONAL }
  }
  nested_type {
    name: "ByNumberEntry" options { map_entry: true }
    field { name: "key" number: 1 type: TYPE_INT64 label: LABEL_OPTIONAL }
    field { name: "value" number: 2 type: TYPE_STRING label: LABEL_OPTIONAL }
  }
}
service {
  name: "Shop"
  method { name: "Get" input_type: ".shop.Customer" output_type: ".shop.Customer" }
}`

// messages are the types of responses; nil stands for a fault of whoever asks.
type messages struct {
	types map[string]protoreflect.MessageDescriptor
	panic bool
}

func (m messages) Output(connection, function string) (protoreflect.MessageDescriptor, error) {
	if m.panic {
		panic("a fault that quotes " + secret)
	}
	if d, ok := m.types[connection+" "+function]; ok {
		return d, nil
	}
	return nil, errors.New("the service's reflection does not answer")
}

func (m messages) Input(connection, function string) (protoreflect.MessageDescriptor, error) {
	return m.Output(connection, function) // in a shop they are the same
}

func shopMessages(t testing.TB) messages {
	t.Helper()
	var file descriptorpb.FileDescriptorProto
	if err := prototext.Unmarshal([]byte(shop), &file); err != nil {
		t.Fatal(err)
	}
	d, err := protodesc.NewFile(&file, protoregistry.GlobalFiles)
	if err != nil {
		t.Fatal(err)
	}
	return messages{types: map[string]protoreflect.MessageDescriptor{"crm shop.Shop/Get": d.Messages().ByName("Customer")}}
}

// customer is a frame with a customer given as JSON.
func customer(t testing.TB, text string) string {
	t.Helper()
	m := dynamicpb.NewMessage(shopMessages(t).types["crm shop.Shop/Get"])
	if err := protojson.Unmarshal([]byte(text), m); err != nil {
		t.Fatal(err)
	}
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return frame(0, b)
}

func frame(flag byte, message []byte) string {
	return string(append(binary.BigEndian.AppendUint32([]byte{flag}, uint32(len(message))), message...))
}

// customers reads frames back, as JSON without spaces.
func customers(t testing.TB, frames string) []string {
	t.Helper()
	var out []string
	for b := []byte(frames); len(b) > 0; {
		n := int(binary.BigEndian.Uint32(b[1:])) + frameHeader
		m := dynamicpb.NewMessage(shopMessages(t).types["crm shop.Shop/Get"])
		if err := proto.Unmarshal(b[frameHeader:n], m); err != nil {
			t.Fatal(err)
		}
		text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, compact(t, text))
		b = b[n:]
	}
	return out
}
