package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/console"
)

// streams adds functions that stream and that speak HTTP/2 to the policy, and
// calls them with real clients.
func (f *fleet) streams(t *testing.T, before string) {
	var mu sync.Mutex
	var trailers []string
	echo := listenHTTP2(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		mu.Lock()
		defer mu.Unlock()
		n := 0
		for _, values := range r.Trailer { // names that were announced are there without values
			n += len(values)
		}
		trailers = append(trailers, fmt.Sprint(r.URL.Path, n))
	}))
	dir := t.TempDir()
	files := filepath.Join(dir, "files.pb")
	if err := os.WriteFile(files, uploads(t), 0o600); err != nil {
		t.Fatal(err)
	}
	extra := filepath.Join(dir, "extra.yaml")
	if err := os.WriteFile(extra, fmt.Appendf(nil, `connections:
  - {name: echo, protocol: http, match: {path: /echo}, upstream: {url: "http://%s", http2: true}, functions: [{name: put, method: POST, path: /x}]}
  - {name: files, protocol: grpc, match: {services: [test.Files]}, upstream: {url: "http://%s"}, grpc: {descriptors: files.pb, streaming: [test.Files/Upload, test.Files/Chat, test.Files/Peek]}}
rules:
  - {name: anybody, connections: [echo, files], action: allow}
  - {name: no secrets, connections: [files], functions: ["*/Peek"], when: 'has(call.args.value)', action: deny}
`, echo, serveUploads(t)), 0o600); err != nil {
		t.Fatal(err)
	}
	rules, err := os.ReadFile(filepath.Join(f.Policies, "rules.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	own := filepath.Join(dir, "rules.yaml")
	if err := os.WriteFile(own, rules, 0o600); err != nil {
		t.Fatal(err)
	}
	b, _, err := config.ReadBundle(filepath.Join(f.Policies, "connections.yaml"), own, extra)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.api().Push(t.Context(), console.Push{Files: b.Files, References: b.References}); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if _, err := f.api().Rollback(t.Context(), console.Change{Version: before}); err != nil {
			t.Error(err)
		}
	}()

	// No trailer reaches a function, whatever it is called.
	r, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+f.Addrs.Envoy+"/echo/x", io.NopCloser(strings.NewReader(`{"a":1}`)))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("authorization", "Bearer "+f.alice)
	r.Header.Set("content-type", "application/json")
	r.Trailer = http.Header{"X-Test": {"1"}, "X-User": {"root"}, "X-Forwarded-Authorization": {"Bearer " + f.alice}}
	resp, err := http2().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	mu.Lock()
	if got := strings.Join(trailers, " "); resp.StatusCode != 200 || got != "/echo/x0" {
		t.Errorf("%d, and the function got %q", resp.StatusCode, got)
	}
	mu.Unlock()

	conn, err := grpc.NewClient(f.Addrs.Envoy, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	open := func(token, method string) grpc.ClientStream {
		t.Helper()
		s, err := conn.NewStream(metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token),
			&grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/test.Files/"+method)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	// A conversation: each message is answered before the next is sent.
	chat := open(f.alice, "Chat")
	for i := range 20 {
		in, out := wrapperspb.String(fmt.Sprint("m", i)), new(wrapperspb.StringValue)
		if err := errors.Join(chat.SendMsg(in), chat.RecvMsg(out)); err != nil {
			t.Fatal(err)
		}
		if out.GetValue() != in.GetValue() {
			t.Fatalf("%q for %q", out.GetValue(), in.GetValue())
		}
	}
	if err := chat.CloseSend(); err != nil {
		t.Error(err)
	}
	if err := chat.RecvMsg(new(wrapperspb.StringValue)); !errors.Is(err, io.EOF) {
		t.Errorf("the end: %v", err)
	}
	// An upload that is larger than max_body, which bounds what is judged.
	up := open(f.alice, "Upload")
	for range 40 {
		if err := up.SendMsg(wrapperspb.String(strings.Repeat("x", 64<<10))); err != nil {
			t.Fatal(err)
		}
	}
	sum := new(wrapperspb.StringValue)
	if err := errors.Join(up.CloseSend(), up.RecvMsg(sum)); err != nil || sum.GetValue() != fmt.Sprint(40*64<<10) {
		t.Errorf("%q %v", sum.GetValue(), err)
	}
	// Who may not is denied before a message is through; so is whoever's rule
	// would look at messages, and what the connection does not list.
	for what, c := range map[string]struct {
		token, method string
		code          codes.Code
		says          string
	}{
		"no token":          {"x", "Chat", codes.Unauthenticated, ""},
		"a rule over args":  {f.alice, "Peek", codes.PermissionDenied, "not read"},
		"a listed one":      {f.bob, "Upload", codes.OK, ""},
		"not in the listed": {f.alice, "Other", codes.InvalidArgument, "streams its requests"},
	} {
		s := open(c.token, c.method)
		err := errors.Join(s.CloseSend(), s.RecvMsg(new(wrapperspb.StringValue)))
		if status.Code(err) != c.code || !strings.Contains(status.Convert(err).Message(), c.says) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func listenHTTP2(t *testing.T, h http.Handler) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	s := &http.Server{Handler: h, Protocols: p}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close() })
	return l.Addr().String()
}

// uploads describes the service test.Files.
func uploads(t *testing.T) []byte {
	t.Helper()
	method := func(name string, client, server bool) *descriptorpb.MethodDescriptorProto {
		return &descriptorpb.MethodDescriptorProto{Name: proto.String(name), InputType: proto.String(".google.protobuf.StringValue"), OutputType: proto.String(".google.protobuf.StringValue"),
			ClientStreaming: proto.Bool(client), ServerStreaming: proto.Bool(server)}
	}
	set := &descriptorpb.FileDescriptorSet{File: []*descriptorpb.FileDescriptorProto{
		protodesc.ToFileDescriptorProto(wrapperspb.File_google_protobuf_wrappers_proto),
		{Name: proto.String("test/files.proto"), Package: proto.String("test"), Syntax: proto.String("proto3"), Dependency: []string{"google/protobuf/wrappers.proto"},
			Service: []*descriptorpb.ServiceDescriptorProto{{Name: proto.String("Files"), Method: []*descriptorpb.MethodDescriptorProto{
				method("Upload", true, false), method("Chat", true, true), method("Other", true, true), method("Peek", true, true), method("Say", false, false)}}}},
	}}
	data, err := proto.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// serveUploads serves it: Upload counts bytes, Chat and Say repeat what they hear, and Say can fail.
func serveUploads(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	s.RegisterService(&grpc.ServiceDesc{ServiceName: "test.Files", HandlerType: (*any)(nil), Methods: []grpc.MethodDesc{
		{MethodName: "Say", Handler: func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			m := new(wrapperspb.StringValue)
			if err := decode(m); err != nil {
				return nil, err
			}
			if m.GetValue() == "fail" { // with a status that says too much
				st, err := status.New(codes.Internal, "no card "+plantedCard+", 100% sure").WithDetails(wrapperspb.String(plantedMail))
				if err != nil {
					return nil, err
				}
				return nil, st.Err()
			}
			return m, nil
		}},
	}, Streams: []grpc.StreamDesc{
		{StreamName: "Upload", ClientStreams: true, Handler: func(_ any, stream grpc.ServerStream) error {
			for n := 0; ; {
				m := new(wrapperspb.StringValue)
				if err := stream.RecvMsg(m); errors.Is(err, io.EOF) {
					return stream.SendMsg(wrapperspb.String(fmt.Sprint(n)))
				} else if err != nil {
					return err
				}
				n += len(m.GetValue())
			}
		}},
		{StreamName: "Chat", ClientStreams: true, ServerStreams: true, Handler: func(_ any, stream grpc.ServerStream) error {
			for {
				m := new(wrapperspb.StringValue)
				if err := stream.RecvMsg(m); errors.Is(err, io.EOF) {
					return nil
				} else if err != nil {
					return err
				}
				if err := stream.SendMsg(m); err != nil {
					return err
				}
			}
		}},
	}}, struct{}{})
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
	return l.Addr().String()
}
