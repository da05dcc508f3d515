package accesslog

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	datav3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	alsv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/callgate/callgate/call"
)

// spool is a recorder that keeps events and can fail.
type spool struct {
	mu     sync.Mutex
	events []call.Event
	err    error
}

func (s *spool) Record(_ context.Context, e call.Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	s.events = append(s.events, e)
	return nil
}

// later keeps what could not be recorded.
type later struct{ events []call.Event }

func (l *later) Add(e call.Event) bool {
	l.events = append(l.events, e)
	return true
}

// als is a server with a client.
type als struct {
	*Server
	client alsv3.AccessLogServiceClient
	log    *text
}

// text is a log.
type text struct {
	mu sync.Mutex
	b  strings.Builder
}

func (w *text) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

func (w *text) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}

func serve(t *testing.T, rec Recorder) *als {
	t.Helper()
	a := &als{log: &text{}}
	srv := grpc.NewServer()
	now := time.Unix(8, 0)
	a.Server = New(Config{Recorder: rec, Backlog: &later{}, Metrics: NewMetrics(prometheus.NewRegistry()),
		Log: slog.New(slog.NewTextHandler(a.log, nil)), Now: func() time.Time { return now }})
	now = time.Unix(9, 0)
	alsv3.RegisterAccessLogServiceServer(srv, a.Server)
	lis := bufconn.Listen(1 << 20)
	go func() { _ = srv.Serve(lis) }()
	t.Cleanup(srv.Stop)
	conn, err := grpc.NewClient("passthrough:///als", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	a.client = alsv3.NewAccessLogServiceClient(conn)
	return a
}

func send(t *testing.T, c *als, messages ...*alsv3.StreamAccessLogsMessage) {
	t.Helper()
	stream, err := c.client.StreamAccessLogs(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range messages {
		if err := stream.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := stream.CloseAndRecv(); err != nil {
		t.Fatal(err)
	}
}

func message(node string, entries ...*datav3.HTTPAccessLogEntry) *alsv3.StreamAccessLogsMessage {
	m := &alsv3.StreamAccessLogsMessage{LogEntries: &alsv3.StreamAccessLogsMessage_HttpLogs{
		HttpLogs: &alsv3.StreamAccessLogsMessage_HTTPAccessLogEntries{LogEntry: entries}}}
	if node != "" {
		m.Identifier = &alsv3.StreamAccessLogsMessage_Identifier{Node: &corev3.Node{Id: node}}
	}
	return m
}

func entry(t *testing.T, id string) *datav3.HTTPAccessLogEntry {
	t.Helper()
	ours, err := structpb.NewStruct(map[string]any{"callgate": map[string]any{"call_id": id}})
	if err != nil {
		t.Fatal(err)
	}
	return &datav3.HTTPAccessLogEntry{
		ProtocolVersion: datav3.HTTPAccessLogEntry_HTTP2,
		CommonProperties: &datav3.AccessLogCommon{
			Metadata:                    &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{call.MetadataNamespace: ours}},
			StartTime:                   timestamppb.New(time.Unix(5, 0)),
			Duration:                    durationpb.New(30 * time.Millisecond),
			TimeToFirstUpstreamTxByte:   durationpb.New(10 * time.Millisecond),
			TimeToLastUpstreamRxByte:    durationpb.New(25 * time.Millisecond),
			UpstreamCluster:             "crm",
			UpstreamRequestAttemptCount: 1,
			UpstreamRemoteAddress: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
				Address: "::1", PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: 80}}}},
			ResponseFlags: &datav3.ResponseFlags{UpstreamRequestTimeout: true, DownstreamConnectionTermination: true},
		},
		Request: &datav3.HTTPRequestProperties{RequestHeadersBytes: 100, RequestBodyBytes: 20},
		Response: &datav3.HTTPResponseProperties{ResponseCode: wrapperspb.UInt32(504), ResponseCodeDetails: "response_timeout",
			ResponseHeadersBytes: 50, ResponseBodyBytes: 7},
	}
}

func TestRecord(t *testing.T) {
	id, err := call.NewID()
	if err != nil {
		t.Fatal(err)
	}
	rec := &spool{}
	c := serve(t, rec)
	start := entry(t, id.String())
	start.CommonProperties.AccessLogType = datav3.AccessLogType_DownstreamStart
	unseen := entry(t, "no id")
	// The node is named in the first message of a stream only.
	send(t, c, message("edge-1", start), message("", entry(t, id.String()), unseen))

	want := call.Event{Kind: call.Finished, CallID: id, Time: time.Unix(9, 0), Finished: &call.FinishedEvent{
		Status: 504, Details: "response_timeout", Flags: []string{"UT", "DC"}, Upstream: "[::1]:80", Cluster: "crm", Attempts: 1,
		Started: time.Unix(5, 0).UTC(), Duration: 30 * time.Millisecond, UpstreamTook: 15 * time.Millisecond,
		BytesIn: 120, BytesOut: 57, EnvoyNode: "edge-1", HTTPVersion: "HTTP/2"}}
	if len(rec.events) != 1 || !reflect.DeepEqual(rec.events[0], want) {
		t.Errorf("recorded %+v\nwant     %+v", rec.events, want)
	}
	if got := testutil.ToFloat64(c.cfg.Metrics.undecided); got != 1 {
		t.Errorf("undecided entries: %v, want 1", got)
	}
}

// An entry of a batch tells of each of its calls, and counts as one entry and
// that many calls. What can't be read of them is left out.
func TestRecordBatch(t *testing.T) {
	var calls []any
	var ids []call.ID
	for range 3 {
		id, err := call.NewID()
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
		calls = append(calls, map[string]any{"call_id": id.String()})
	}
	rec := &spool{}
	c := serve(t, rec)
	e := entry(t, ids[0].String())
	batch, err := structpb.NewValue(map[string]any{"calls": append(calls, "x", map[string]any{"call_id": 7})})
	if err != nil {
		t.Fatal(err)
	}
	metadata(e)["batch"] = batch
	send(t, c, message("edge-1", e))
	if err := c.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	seen := map[call.ID]int{}
	for _, e := range rec.events {
		if e.Kind == call.Finished {
			seen[e.CallID]++
		}
	}
	for _, id := range ids {
		if seen[id] != 1 {
			t.Errorf("call %s has %d finished events", id, seen[id])
		}
	}
	if n := rec.counted(t)["edge-1"]; len(seen) != len(ids) || n.Entries != 1 || n.Decided != 1 || n.Calls != 3 {
		t.Errorf("%d calls recorded, counted %+v", len(seen), n)
	}
}

// A spool that fails must neither end the stream nor go unnoticed.
func TestRecordFails(t *testing.T) {
	id, err := call.NewID()
	if err != nil {
		t.Fatal(err)
	}
	rec := &spool{err: errors.New("disk full")}
	c := serve(t, rec)
	send(t, c, message("edge-1", entry(t, id.String())), message("", entry(t, id.String())))
	if got := testutil.ToFloat64(c.cfg.Metrics.lost); got != 2 {
		t.Errorf("lost entries: %v, want 2", got)
	}
}

// A connection whose calls go on unrecorded has its entries recorded later.
func TestRecordLater(t *testing.T) {
	id, err := call.NewID()
	if err != nil {
		t.Fatal(err)
	}
	c := serve(t, &spool{err: errors.New("disk full")})
	e := entry(t, id.String())
	record, err := structpb.NewValue(map[string]any{"unrecorded": true})
	if err != nil {
		t.Fatal(err)
	}
	metadata(e)["record"] = record
	send(t, c, message("edge-1", e))
	if waits := c.cfg.Backlog.(*later).events; len(waits) != 1 || waits[0].CallID != id || testutil.ToFloat64(c.cfg.Metrics.lost) != 0 {
		t.Errorf("%+v waits", waits)
	}
}

// Whatever bytes arrive as an entry, they become an event or a count.
func FuzzEntry(f *testing.F) {
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		var e datav3.HTTPAccessLogEntry
		if proto.Unmarshal(data, &e) != nil {
			return
		}
		if _, ended := callsOf(&e); ended {
			finished(&e, "n")
		}
	})
}

// Each flag of the proto has a name, so that a new Envoy's flag is noticed here.
func TestEveryFlagNamed(t *testing.T) {
	fields := (&datav3.ResponseFlags{}).ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		f := &datav3.ResponseFlags{}
		r := f.ProtoReflect()
		if fd.Message() != nil {
			r.Mutable(fd)
		} else {
			r.Set(fd, protoreflect.ValueOfBool(true))
		}
		if got := flags(f); len(got) != 1 {
			t.Errorf("flag %s: named %v", fd.Name(), got)
		}
	}
}
