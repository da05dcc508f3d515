package extproc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocfilterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/call/redact"
)

const (
	duplex    = extprocfilterv3.ProcessingMode_FULL_DUPLEX_STREAMED
	buffered  = extprocfilterv3.ProcessingMode_BUFFERED
	streaming = extprocfilterv3.ProcessingMode_STREAMED
	nobody    = extprocfilterv3.ProcessingMode_NONE
)

// steps is what happened, in order: what was sent to Envoy and what recorded.
type steps struct {
	mu  sync.Mutex
	all []string
}

func (s *steps) add(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, what)
}

func (s *steps) list() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.all, ", ")
}

// memory is a Recorder with faults.
type memory struct {
	steps  *steps
	fail   func(n int) error // of the nth event, from 0
	wait   chan struct{}     // if set, Record returns after it is closed
	mu     sync.Mutex
	tries  int
	events []call.Event
	live   error // the context's error while recording
}

func (m *memory) Record(ctx context.Context, e call.Event) error {
	if m.wait != nil {
		select {
		case <-m.wait:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.tries
	m.tries++
	m.live = ctx.Err()
	if m.fail != nil {
		if err := m.fail(n); err != nil {
			return err
		}
	}
	m.steps.add("record")
	m.events = append(m.events, e)
	return nil
}

// bench is a server behind a real connection, with what it reported.
type bench struct {
	later *later
	*memory
	client   extprocv3.ExternalProcessorClient
	registry *prometheus.Registry
	server   *Server
	logs     *logs
	stop     func() // ends the server, after every stream's end
}

type logs struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// watched tells of what a server sends, before it leaves.
type watched struct {
	grpc.ServerStream
	steps *steps
}

func (w watched) SendMsg(m any) error {
	w.steps.add(describe(m.(*extprocv3.ProcessingResponse)))
	return w.ServerStream.SendMsg(m)
}

func describe(m *extprocv3.ProcessingResponse) string {
	switch m := m.GetResponse().(type) {
	case *extprocv3.ProcessingResponse_ResponseHeaders:
		return "headers"
	case *extprocv3.ProcessingResponse_ResponseBody:
		if m.ResponseBody.GetResponse().GetBodyMutation().GetStreamedResponse().GetEndOfStream() {
			return "end"
		}
		return "body"
	case *extprocv3.ProcessingResponse_ResponseTrailers:
		return "trailers"
	case *extprocv3.ProcessingResponse_ImmediateResponse:
		return "immediate"
	}
	return "other"
}

// later keeps what could not be recorded.
type later struct {
	mu     sync.Mutex
	events []call.Event
	full   bool
}

func (l *later) Add(e call.Event) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.full {
		l.events = append(l.events, e)
	}
	return !l.full
}

// start runs a Server as Envoy reaches it.
func start(t *testing.T, adapt ...func(*Config)) *bench {
	t.Helper()
	seen := &steps{}
	b := &bench{memory: &memory{steps: seen}, later: &later{}, registry: prometheus.NewRegistry(), logs: &logs{}}
	hidden, err := redact.New(bytes.Repeat([]byte("k"), redact.MinKey))
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{
		Recorder: b.memory, Backlog: b.later, Redact: hidden, HashKey: bytes.Repeat([]byte("k"), 32), MaxResponse: 1 << 20,
		Log: slog.New(slog.NewTextHandler(b.logs, nil)), Metrics: NewMetrics(b.registry), Messages: shopMessages(t),
	}
	for _, a := range adapt {
		a(&cfg)
	}
	listener := bufconn.Listen(1 << 20)
	srv := grpc.NewServer(grpc.StreamInterceptor(func(s any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, h grpc.StreamHandler) error {
		return h(s, watched{stream, seen})
	}))
	b.server = New(cfg)
	extprocv3.RegisterExternalProcessorServer(srv, b.server)
	served := make(chan struct{})
	go func() { defer close(served); _ = srv.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:///bufconn", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithStaticStreamWindowSize(64<<10), grpc.WithStaticConnWindowSize(64<<10), // as Envoy, it buffers little
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	b.client = extprocv3.NewExternalProcessorClient(conn)
	b.stop = sync.OnceFunc(func() { srv.GracefulStop(); <-served; _ = conn.Close() })
	t.Cleanup(b.stop)
	return b
}

// exchange is a response as Envoy hands it over.
type exchange struct {
	mode       extprocfilterv3.ProcessingMode_BodySendMode
	meta       *call.Metadata // nil: there was no decision
	metaAs     *structpb.Value
	details    string // response.code_details
	status     string
	headers    []string // pairs
	headersEnd bool     // the headers end the response
	chunks     []string
	trailers   []string // pairs; nil: the last chunk ends the response
	broken     bool     // neither: the stream ends early
}

// result is what a caller would have got through Envoy.
type result struct {
	headers   bool
	removed   []string
	set       map[string]string
	body      string
	ended     bool // by a last chunk or trailers
	immediate *extprocv3.ImmediateResponse
	err       error
	largest   int
	messages  int
}

func headerMap(pairs ...string) *corev3.HeaderMap {
	m := &corev3.HeaderMap{}
	for i := 0; i+1 < len(pairs); i += 2 {
		m.Headers = append(m.Headers, &corev3.HeaderValue{Key: pairs[i], RawValue: []byte(pairs[i+1])})
	}
	return m
}

func structOf(t testing.TB, v any) *structpb.Struct {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	s := &structpb.Struct{}
	if err := protojson.Unmarshal(data, s); err != nil {
		t.Fatal(err)
	}
	return s
}

// requests are the messages of an exchange.
func (x exchange) requests(t testing.TB) []*extprocv3.ProcessingRequest {
	t.Helper()
	status := x.status
	if status == "" {
		status = "200"
	}
	first := &extprocv3.ProcessingRequest{
		ProtocolConfig: &extprocv3.ProtocolConfiguration{ResponseBodyMode: x.mode},
		Request: &extprocv3.ProcessingRequest_ResponseHeaders{ResponseHeaders: &extprocv3.HttpHeaders{
			Headers: headerMap(append([]string{":status", status}, x.headers...)...), EndOfStream: x.headersEnd}},
	}
	details := x.details
	if details == "" {
		details = "via_upstream"
	}
	first.Attributes = map[string]*structpb.Struct{"envoy.filters.http.ext_proc": structOf(t, map[string]string{"response.code_details": details})}
	value := x.metaAs
	if x.meta != nil {
		value = structpb.NewStructValue(structOf(t, x.meta))
	}
	if value != nil {
		first.MetadataContext = &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{
			"envoy.filters.http.ext_authz": {Fields: map[string]*structpb.Value{"callgate": value}}}}
	}
	out := []*extprocv3.ProcessingRequest{first}
	for i, c := range x.chunks {
		end := i == len(x.chunks)-1 && x.trailers == nil && !x.broken
		out = append(out, &extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_ResponseBody{
			ResponseBody: &extprocv3.HttpBody{Body: []byte(c), EndOfStream: end}}})
	}
	if x.trailers != nil {
		out = append(out, &extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_ResponseTrailers{
			ResponseTrailers: &extprocv3.HttpTrailers{Trailers: headerMap(x.trailers...)}}})
	}
	return out
}

// run plays an exchange and collects what would reach the caller.
func (b *bench) run(t testing.TB, x exchange) result {
	t.Helper()
	stream, err := b.client.Process(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	list := x.requests(t)
	sent := make(chan struct{})
	defer func() { <-sent }()
	go func() { // as Envoy does, which takes answers meanwhile
		defer close(sent)
		for _, req := range list {
			if err := stream.Send(req); err != nil {
				break // the server ended the stream; Recv says how
			}
		}
		_ = stream.CloseSend()
	}()
	var out result
	for {
		m, err := stream.Recv()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				out.err = err
			}
			return out
		}
		out.take(t, m)
	}
}

func (out *result) take(t testing.TB, m *extprocv3.ProcessingResponse) {
	t.Helper()
	out.messages++
	if out.immediate != nil {
		t.Errorf("%s after an answer of its own", describe(m))
	}
	mutated := func(h *extprocv3.HeaderMutation) {
		out.removed = append(out.removed, h.GetRemoveHeaders()...)
		for _, s := range h.GetSetHeaders() {
			if out.set == nil {
				out.set = map[string]string{}
			}
			out.set[s.GetHeader().GetKey()] = string(s.GetHeader().GetRawValue())
		}
	}
	switch m := m.GetResponse().(type) {
	case *extprocv3.ProcessingResponse_ResponseHeaders:
		if out.headers {
			t.Error("the headers left twice")
		}
		out.headers = true
		mutated(m.ResponseHeaders.GetResponse().GetHeaderMutation())
	case *extprocv3.ProcessingResponse_ResponseBody:
		if !out.headers || out.ended {
			t.Error("a chunk before the headers or after the end")
		}
		c := m.ResponseBody.GetResponse()
		mutated(c.GetHeaderMutation())
		p := c.GetBodyMutation().GetBody()
		if s := c.GetBodyMutation().GetStreamedResponse(); s != nil {
			p, out.ended = s.GetBody(), s.GetEndOfStream()
		}
		out.body += string(p)
		out.largest = max(out.largest, len(p))
	case *extprocv3.ProcessingResponse_ResponseTrailers:
		if !out.headers || out.ended {
			t.Error("trailers before the headers or after the end")
		}
		mutated(m.ResponseTrailers.GetHeaderMutation())
		out.ended = true
	case *extprocv3.ProcessingResponse_ImmediateResponse:
		if out.headers {
			t.Error("an answer of its own after the headers left")
		}
		out.immediate = m.ImmediateResponse
	default:
		t.Errorf("unexpected %T", m)
	}
}

// one checks that exactly one event was recorded and returns its payload.
func (b *bench) one(t testing.TB) *call.AnsweredEvent {
	t.Helper()
	b.stop()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.events) != 1 {
		t.Fatalf("recorded %d events, want 1", len(b.events))
	}
	e := b.events[0]
	if e.Kind != call.Answered || e.CallID != someID || e.Answered == nil || e.Time.IsZero() {
		t.Fatalf("recorded %+v", e)
	}
	return e.Answered
}

var someID = uuid.MustParse("0198f3a0-1111-7222-8333-444455556666")

// decided is what a decision to allow leaves behind.
func decided(protocol call.Protocol, rules ...call.MaskRule) *call.Metadata {
	m := &call.Metadata{CallID: someID, Outcome: call.Allow, Connection: "crm", Protocol: protocol, Function: "customers.get",
		Mask: call.Mask{Rules: rules}, Record: call.RecordSettings{MaxBody: 1 << 16, Response: call.RecordDurable}}
	switch protocol {
	case call.MCP:
		m.Function, m.RPCID = "tools/call search", "7"
	case call.GRPC:
		m.Function = "shop.Shop/Get"
	}
	return m
}

const (
	card   = "4111111111111111"
	secret = "hunter2-very-secret"
)

var (
	cards     = call.MaskRule{Name: "cards", Detect: []string{"card"}}
	passwords = call.MaskRule{Name: "passwords", Paths: []string{"**.password"}}
)

var jsonType = []string{"content-type", "application/json", "content-length", "99", "etag", `"x"`}
