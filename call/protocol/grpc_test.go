package protocol

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	_ "google.golang.org/protobuf/types/known/anypb"
	_ "google.golang.org/protobuf/types/known/structpb"
	_ "google.golang.org/protobuf/types/known/timestamppb"
	_ "google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/callgate/callgate/call"
)

// shop is a service with a field of every kind that matters.
const shop = `
name: "shop.proto" package: "shop" syntax: "proto3"
dependency: ["google/protobuf/timestamp.proto", "google/protobuf/any.proto", "google/protobuf/wrappers.proto", "google/protobuf/struct.proto"]
message_type {
  name: "Order"
  field { name: "order_id" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL }
  field { name: "amount" number: 2 type: TYPE_INT64 label: LABEL_OPTIONAL }
  field { name: "lines" number: 3 type: TYPE_MESSAGE type_name: ".shop.Order" label: LABEL_REPEATED }
  field { name: "state" number: 4 type: TYPE_ENUM type_name: ".shop.State" label: LABEL_OPTIONAL }
  field { name: "labels" number: 5 type: TYPE_MESSAGE type_name: ".shop.Order.LabelsEntry" label: LABEL_REPEATED }
  field { name: "at" number: 6 type: TYPE_MESSAGE type_name: ".google.protobuf.Timestamp" label: LABEL_OPTIONAL }
  field { name: "any" number: 7 type: TYPE_MESSAGE type_name: ".google.protobuf.Any" label: LABEL_OPTIONAL }
  field { name: "limit" number: 8 type: TYPE_MESSAGE type_name: ".google.protobuf.Int64Value" label: LABEL_OPTIONAL }
  field { name: "rate" number: 9 type: TYPE_DOUBLE label: LABEL_OPTIONAL }
  field { name: "big" number: 10 type: TYPE_UINT64 label: LABEL_OPTIONAL proto3_optional: true oneof_index: 0 }
  field { name: "raw" number: 11 type: TYPE_BYTES label: LABEL_OPTIONAL }
  field { name: "extra" number: 12 type: TYPE_MESSAGE type_name: ".google.protobuf.Struct" label: LABEL_OPTIONAL }
  field { name: "nums" number: 13 type: TYPE_INT32 label: LABEL_REPEATED }
  field { name: "fixed" number: 14 type: TYPE_FIXED32 label: LABEL_REPEATED }
  field { name: "share" number: 15 type: TYPE_FLOAT label: LABEL_OPTIONAL }
  nested_type {
    name: "LabelsEntry" options { map_entry: true }
    field { name: "key" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL }
    field { name: "value" number: 2 type: TYPE_INT64 label: LABEL_OPTIONAL }
  }
  oneof_decl { name: "_big" }
}
enum_type { name: "State" value { name: "OPEN" number: 0 } value { name: "PAID" number: 1 } }
service {
  name: "Shop"
  method { name: "Get" input_type: ".shop.Order" output_type: ".shop.Order" }
  method { name: "Watch" input_type: ".shop.Order" output_type: ".shop.Order" server_streaming: true }
  method { name: "Push" input_type: ".shop.Order" output_type: ".shop.Order" client_streaming: true }
  method { name: "Chat" input_type: ".shop.Order" output_type: ".shop.Order" client_streaming: true server_streaming: true }
}`

// old is a proto2 service, whose messages can be extended and hold any bytes.
const old = `
name: "old.proto" package: "old" dependency: "google/protobuf/descriptor.proto"
message_type {
  name: "Note"
  field { name: "text" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL }
  field { name: "part" number: 2 type: TYPE_GROUP type_name: ".old.Note.Part" label: LABEL_REPEATED }
  field { name: "kind" number: 3 type: TYPE_ENUM type_name: ".old.Kind" label: LABEL_OPTIONAL }
  nested_type { name: "Part" field { name: "n" number: 1 type: TYPE_INT32 label: LABEL_OPTIONAL } }
}
enum_type { name: "Kind" value { name: "A" number: 1 } }
service {
  name: "Old"
  method { name: "Put" input_type: ".old.Note" output_type: ".old.Note" }
  method { name: "Options" input_type: ".google.protobuf.MethodOptions" output_type: ".old.Note" }
}`

type methods map[string]protoreflect.MethodDescriptor

func (m methods) Method(name string) (protoreflect.MethodDescriptor, error) {
	if d, ok := m[name]; ok {
		return d, nil
	}
	return nil, errors.New("the descriptors have no such method")
}

func services(t testing.TB) methods {
	t.Helper()
	m := methods{}
	for _, text := range []string{shop, old} {
		var file descriptorpb.FileDescriptorProto
		if err := prototext.Unmarshal([]byte(text), &file); err != nil {
			t.Fatal(err)
		}
		d, err := protodesc.NewFile(&file, protoregistry.GlobalFiles)
		if err != nil {
			t.Fatal(err)
		}
		for i := range d.Services().Len() {
			s := d.Services().Get(i)
			for j := range s.Methods().Len() {
				m[string(s.FullName())+"/"+string(s.Methods().Get(j).Name())] = s.Methods().Get(j)
			}
		}
	}
	return m
}

func grpcParser(t testing.TB, m methods) Parser {
	t.Helper()
	p, err := New(Config{Protocol: call.GRPC, Methods: m, MaxMessage: 1 << 16})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// framed is a gRPC frame.
func framed(flag byte, message []byte) string {
	return string(append(binary.BigEndian.AppendUint32([]byte{flag}, uint32(len(message))), message...))
}

func zipped(t testing.TB, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if _, err := z.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// order encodes an Order from its JSON form.
func order(t testing.TB, m methods, text string) []byte {
	t.Helper()
	o := dynamicpb.NewMessage(m["shop.Shop/Get"].Input())
	if err := protojson.Unmarshal([]byte(text), o); err != nil {
		t.Fatal(err)
	}
	b, err := proto.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const grpcBody = "application/grpc"

// zero is what an empty Order has, without its first two fields.
const zero = `"lines":[],"state":"OPEN","labels":{},"rate":0.0,"raw":"","nums":[],"fixed":[],"share":0.0`

func TestGRPC(t *testing.T) {
	m := services(t)
	for name, tt := range map[string]struct{ line, message, args string }{
		"empty":      {"/shop.Shop/Get", `{}`, `{"order_id":"","amount":0,` + zero + `}`},
		"streamed":   {"/shop.Shop/Watch", `{"order_id":"x"}`, `{"order_id":"x","amount":0,` + zero + `}`},
		"int64":      {"/shop.Shop/Get", `{"amount":"9223372036854775807"}`, `{"order_id":"","amount":9223372036854775807,` + zero + `}`},
		"nested":     {"/shop.Shop/Get", `{"lines":[{"amount":1}]}`, `{"order_id":"","amount":0,` + strings.Replace(zero, `"lines":[]`, `"lines":[{"order_id":"","amount":1,`+zero+`}]`, 1) + `}`},
		"map":        {"/shop.Shop/Get", `{"labels":{"a":1,"b":-2}}`, `{"order_id":"","amount":0,` + strings.Replace(zero, `{}`, `{"a":1,"b":-2}`, 1) + `}`},
		"enum":       {"/shop.Shop/Get", `{"state":"PAID"}`, `{"order_id":"","amount":0,` + strings.Replace(zero, "OPEN", "PAID", 1) + `}`},
		"lists":      {"/shop.Shop/Get", `{"nums":[1,-2],"fixed":[3]}`, `{"order_id":"","amount":0,` + strings.NewReplacer(`"nums":[]`, `"nums":[1,-2]`, `"fixed":[]`, `"fixed":[3]`).Replace(zero) + `}`},
		"timestamp":  {"/shop.Shop/Get", `{"at":"2026-01-02T03:04:05Z"}`, `{"order_id":"","amount":0,"at":"2026-01-02T03:04:05Z",` + zero + `}`},
		"wrapper":    {"/shop.Shop/Get", `{"limit":"9007199254740993"}`, `{"order_id":"","amount":0,"limit":9007199254740993,` + zero + `}`},
		"presence":   {"/shop.Shop/Get", `{"big":"0"}`, `{"order_id":"","amount":0,"big":0,` + zero + `}`},
		"struct":     {"/shop.Shop/Get", `{"extra":{"a":[1,null,"x"]}}`, `{"order_id":"","amount":0,"extra":{"a":[1,null,"x"]},` + zero + `}`},
		"raw, float": {"/shop.Shop/Get", `{"raw":"/w==","rate":1e100,"share":0.5}`, `{"order_id":"","amount":0,` + strings.NewReplacer(`"raw":""`, `"raw":"/w=="`, `"rate":0.0`, `"rate":1e100`, `"share":0.0`, `"share":0.5`).Replace(zero) + `}`},
	} {
		t.Run(name, func(t *testing.T) {
			message := order(t, m, tt.message)
			for _, req := range []*call.Request{
				request("POST "+tt.line, framed(0, message), "content-type", grpcBody),
				request("POST "+tt.line, framed(0, message), "content-type", grpcBody+"+proto", "grpc-encoding", "gzip"),
				request("POST "+tt.line, framed(1, zipped(t, message)), "content-type", grpcBody, "grpc-encoding", "gzip"),
			} {
				inv, err := grpcParser(t, m).Parse(req)
				if err != nil {
					t.Fatal(err)
				}
				if inv.Function != tt.line[1:] {
					t.Errorf("function %q", inv.Function)
				}
				want, err := document([]byte(tt.args))
				if err != nil {
					t.Fatal(err)
				}
				if fmt.Sprintf("%#v", inv.Args) != fmt.Sprintf("%#v", want) {
					t.Errorf("args\n %#v, want\n %#v", inv.Args, want)
				}
				replayed(t, inv)
			}
		})
	}
}

func TestGRPCAttacks(t *testing.T) {
	m := services(t)
	good := order(t, m, `{"order_id":"x"}`)
	header := []string{"content-type", grpcBody}
	gzipped := []string{"content-type", grpcBody, "grpc-encoding", "gzip"}
	raw := func(parts ...[]byte) string { return framed(0, bytes.Join(parts, nil)) }
	field := func(n protowire.Number, b []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, n, protowire.BytesType), b)
	}
	number := func(n protowire.Number, v uint64) []byte {
		return protowire.AppendVarint(protowire.AppendTag(nil, n, protowire.VarintType), v)
	}
	deep := func(n int) []byte {
		var b []byte
		for range n {
			b = field(3, b)
		}
		return b
	}
	options := &descriptorpb.MethodOptions{}
	proto.SetExtension(options, annotations.E_Http, &annotations.HttpRule{Selector: "hidden"})
	extended, err := proto.Marshal(options)
	if err != nil {
		t.Fatal(err)
	}
	attacks(t, grpcParser(t, m), map[string]attack{
		"unknown method":      {"POST /shop.Shop/Nope", header, raw(good), none, "no descriptor for shop.Shop/Nope"},
		"method by case":      {"POST /shop.Shop/get", header, raw(good), none, "no descriptor"},
		"method escaped":      {"POST /shop.Shop/%47et", header, raw(good), bad, "%47"},
		"longer path":         {"POST /a/shop.Shop/Get", header, raw(good), bad, "must be /package.Service/Method"},
		"shorter path":        {"POST /shop.Shop", header, raw(good), bad, "must be /package.Service/Method"},
		"query":               {"POST /shop.Shop/Get?x", header, raw(good), bad, "must be /package.Service/Method"},
		"get":                 {"GET /shop.Shop/Get", header, raw(good), bad, "POST"},
		"json":                {"POST /shop.Shop/Get", []string{"content-type", jsonBody}, `{}`, bad, "application/grpc"},
		"grpc-web":            {"POST /shop.Shop/Get", []string{"content-type", "application/grpc-web"}, raw(good), bad, "application/grpc"},
		"grpc json":           {"POST /shop.Shop/Get", []string{"content-type", "application/grpc+json"}, raw(good), bad, "application/grpc"},
		"client stream":       {"POST /shop.Shop/Push", header, raw(good), bad, "streams its requests"},
		"both stream":         {"POST /shop.Shop/Chat", header, raw(good), bad, "streams its requests"},
		"no message":          {"POST /shop.Shop/Get", header, "", bad, "no message"},
		"half a header":       {"POST /shop.Shop/Get", header, "\x00\x00", bad, "no message"},
		"two messages":        {"POST /shop.Shop/Get", header, raw(good) + raw(good), bad, "more than one"},
		"cut off":             {"POST /shop.Shop/Get", header, raw(good)[:6], bad, "cut off"},
		"length of 4 GiB":     {"POST /shop.Shop/Get", header, "\x00\xff\xff\xff\xff", bad, "cut off"},
		"unknown flag":        {"POST /shop.Shop/Get", header, framed(2, good), bad, "flag"},
		"compressed unnamed":  {"POST /shop.Shop/Get", header, framed(1, zipped(t, good)), bad, "names no compression"},
		"compressed, another": {"POST /shop.Shop/Get", []string{"content-type", grpcBody, "grpc-encoding", "zstd"}, framed(1, good), bad, "zstd"},
		"encoding twice":      {"POST /shop.Shop/Get", append(gzipped, "grpc-encoding", "identity"), framed(1, good), bad, "more than once"},
		"not gzip":            {"POST /shop.Shop/Get", gzipped, framed(1, good), bad, "not the gzip"},
		"gzip cut":            {"POST /shop.Shop/Get", gzipped, framed(1, zipped(t, good)[:20]), bad, "not the gzip"},
		"gzip checksum":       {"POST /shop.Shop/Get", gzipped, framed(1, append(zipped(t, good)[:len(zipped(t, good))-8], make([]byte, 8)...)), bad, "not the gzip"},
		"gzip member more":    {"POST /shop.Shop/Get", gzipped, framed(1, append(zipped(t, good), zipped(t, good)...)), bad, "goes on"},
		"gzip and text":       {"POST /shop.Shop/Get", gzipped, framed(1, append(zipped(t, good), 'x')), bad, "goes on"},
		"gzip bomb":           {"POST /shop.Shop/Get", gzipped, framed(1, zipped(t, make([]byte, 10<<20))), call.ReasonBodyTooLarge, "65536"},
		"content-encoding":    {"POST /shop.Shop/Get", append(gzipped, "content-encoding", "gzip"), string(zipped(t, good)), bad, "content-encoding"},

		"unknown field":         {"POST /shop.Shop/Get", header, raw(number(99, 1)), bad, "do not know"},
		"unknown field, deep":   {"POST /shop.Shop/Get", header, raw(field(3, field(3, number(99, 1)))), bad, "do not know"},
		"unknown in a map":      {"POST /shop.Shop/Get", header, raw(field(5, number(9, 1))), bad, "do not know"},
		"unknown in well known": {"POST /shop.Shop/Get", header, raw(field(6, number(9, 1))), bad, "do not know"},
		"other wire type":       {"POST /shop.Shop/Get", header, raw(field(2, []byte("5000"))), bad, "do not know"},
		"other wire type, 2":    {"POST /shop.Shop/Get", header, raw(number(1, 5000)), bad, "do not know"},
		"other in well known":   {"POST /shop.Shop/Get", header, raw(field(6, field(1, []byte("x")))), bad, "do not know"},
		"unknown enum":          {"POST /shop.Shop/Get", header, raw(number(4, 7)), bad, "do not know"},
		"unknown enum, closed":  {"POST /old.Old/Put", header, raw(number(3, 7)), bad, "do not know"},
		"linked-in extension":   {"POST /old.Old/Options", header, framed(0, extended), bad, "do not know"},
		"garbage":               {"POST /shop.Shop/Get", header, framed(0, []byte("\xff\xff\xff")), bad, "not a valid shop.Order"},
		"text not UTF-8":        {"POST /shop.Shop/Get", header, raw(field(1, []byte("\xff"))), bad, "not a valid"},
		"text not UTF-8, old":   {"POST /old.Old/Put", header, raw(field(1, []byte("\xff"))), bad, "not UTF-8"},
		"any":                   {"POST /shop.Shop/Get", header, framed(0, order(t, m, `{"any":{"@type":"type.googleapis.com/google.protobuf.Timestamp","value":"2026-01-02T03:04:05Z"}}`)), bad, "google.protobuf.Any"},
		"over int64":            {"POST /shop.Shop/Get", header, raw(number(10, math.MaxInt64+1)), bad, "shop.Order.big"},
		"not a number":          {"POST /shop.Shop/Get", header, raw(protowire.AppendFixed64(protowire.AppendTag(nil, 9, protowire.Fixed64Type), math.Float64bits(math.NaN()))), bad, "not a number"},
		"timestamp too late":    {"POST /shop.Shop/Get", header, raw(field(6, number(1, math.MaxInt64))), bad, "Timestamp"},
		"too deep":              {"POST /shop.Shop/Get", header, raw(deep(65)), bad, "nested"},
		"too many messages":     {"POST /shop.Shop/Get", header, raw(bytes.Repeat([]byte{0x1a, 0}, 100_001)), bad, "more than 100000"},
		"too many packed":       {"POST /shop.Shop/Get", header, raw(field(13, make([]byte, 100_001))), bad, "more than 100000"},
		"too many fixed":        {"POST /shop.Shop/Get", header, raw(field(14, make([]byte, 400_004))), bad, "more than 100000"},
		"too many groups":       {"POST /old.Old/Put", header, raw(bytes.Repeat([]byte{0x13, 0x14}, 100_001)), bad, "more than 100000"},
	})
	if _, err := grpcParser(t, m).Parse(request("POST /shop.Shop/Get", raw(deep(64)), header...)); err != nil {
		t.Errorf("64 deep: %v", err)
	}
	if inv, err := grpcParser(t, m).Parse(request("POST /old.Old/Put", raw([]byte{0x13, 0x08, 0x05, 0x14}), header...)); err != nil || fmt.Sprint(inv.Args) != "map[part:[map[n:5]]]" {
		t.Errorf("a group: %v, %v", inv.Args, err)
	}
}

// What is accepted holds nothing that the arguments do not: written from them
// again it is the same message.
func FuzzGRPC(f *testing.F) {
	m := services(f)
	f.Add("shop.Shop/Get", byte(0), order(f, m, `{"order_id":"x","amount":"5","lines":[{"state":"PAID"}],"labels":{"a":"1"},"nums":[1,2]}`))
	f.Add("shop.Shop/Get", byte(0), order(f, m, `{"at":"2026-01-02T03:04:05Z","limit":"5","extra":{"a":[1,"x",{}]},"big":"1","raw":"/w=="}`))
	f.Add("shop.Shop/Get", byte(1), zipped(f, order(f, m, `{"order_id":"x"}`)))
	f.Add("old.Old/Put", byte(0), []byte{0x13, 0x08, 0x05, 0x14, 0x0a, 0x01, 'x'})
	p := grpcParser(f, m)
	f.Fuzz(func(t *testing.T, method string, flag byte, message []byte) {
		inv, err := p.Parse(request("POST /"+method, framed(flag, message), "content-type", grpcBody, "grpc-encoding", "gzip"))
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || e.Message == "" {
				t.Fatalf("%T is no *Error with a message", err)
			}
			return
		}
		replayed(t, inv)
		if flag != 0 {
			return
		}
		sent, judged := dynamicpb.NewMessage(m[method].Input()), dynamicpb.NewMessage(m[method].Input())
		if err := proto.Unmarshal(message, sent); err != nil {
			t.Fatalf("accepted what is no message: %v", err)
		}
		if err := protojson.Unmarshal(inv.ArgsJSON, judged); err != nil {
			t.Fatalf("%s: %v", inv.ArgsJSON, err)
		}
		if !proto.Equal(sent, judged) {
			t.Fatalf("sent %v, judged %v", sent, judged)
		}
	})
}
