package extauthz

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/call/protocol"
	"github.com/callgate/callgate/call/redact"
	"github.com/callgate/callgate/extauthz/connection"
	"github.com/callgate/callgate/extauthz/identity"
)

const (
	plantedToken      = "planted-t0ken"
	plantedCredential = "planted-cr3dential"
)

// recorder keeps events, and fails or waits where a test says so.
type recorder struct {
	mu     sync.Mutex
	events []call.Event
	before func(call.Event) error // nil: succeed
}

func (r *recorder) Record(_ context.Context, e call.Event) error {
	r.mu.Lock()
	before := r.before
	r.mu.Unlock()
	if before != nil {
		if err := before(e); err != nil {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
	return nil
}

func (r *recorder) faulty(before func(call.Event) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.before = before
}

func (r *recorder) all() []call.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.events)
}

// backlog keeps what could not be recorded.
type backlog struct {
	mu     sync.Mutex
	events []call.Event
	full   bool
}

func (b *backlog) Add(e call.Event) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.full {
		return false
	}
	b.events = append(b.events, e)
	return true
}

var errDisk = errors.New("disk is full")

// The stages, as functions.
type (
	identifier func(context.Context, call.Headers) (call.Identity, error)
	asked      struct {
		identifier
		still func(call.Identity) error
	}
	policy    func(context.Context, *call.Call) call.Ruling
	approvals func(context.Context, *call.Call, call.Ruling) call.Decision
)

func (f identifier) Caller(ctx context.Context, r identity.Request) (call.Identity, error) {
	return f(ctx, r.Headers)
}
func (c asked) Still(id call.Identity) error                          { return c.still(id) }
func (f identifier) CredentialHeaders() []string                      { return []string{"authorization", "dpop"} }
func (f policy) Decide(ctx context.Context, c *call.Call) call.Ruling { return f(ctx, c) }
func (f approvals) Hold(ctx context.Context, c *call.Call, r *call.Ruling) *call.Decision {
	d := f(ctx, c, *r)
	return &d
}

// secret is a service's credential.
type secret struct {
	name, value string
	err         error
}

func (s secret) Name() string                    { return s.name }
func (s secret) Header() (string, string, error) { return s.name, s.value, s.err }

// text is a log.
type text struct {
	mu sync.Mutex
	b  bytes.Buffer
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

// rig is a Server whose every stage lets calls through, until a test changes it.
type rig struct {
	*Server
	recorder *recorder
	backlog  *backlog
	log      *text
	identify identifier
	still    func(call.Identity) error
	decide   policy
	hold     approvals
	conns    map[string]*connection.Connection
}

func newRig(t testing.TB) *rig {
	t.Helper()
	r := &rig{recorder: &recorder{}, backlog: &backlog{}, log: &text{}}
	r.identify = func(context.Context, call.Headers) (call.Identity, error) {
		return call.Identity{Issuer: "https://idp", Subject: "ann", Kind: call.Human, Method: "oidc", Claims: map[string]any{"sid": "s-1"}}, nil
	}
	r.still = func(call.Identity) error { return nil }
	r.decide = func(context.Context, *call.Call) call.Ruling {
		return call.Ruling{Action: call.ActionAllow, Rule: "yes", Shadow: []string{"later"}}
	}
	r.conns = map[string]*connection.Connection{
		"crm":  newConn(t, protocol.Config{Protocol: call.HTTP, BasePath: "/crm", Functions: []protocol.Function{{Name: "refunds.create", Method: "POST", Path: "/refunds"}, {Name: "refunds.list", Method: "GET", Path: "/refunds"}}}, "crm", "/crm"),
		"tool": newConn(t, protocol.Config{Protocol: call.MCP}, "tool", "/mcp"),
		"rpc":  newConn(t, protocol.Config{Protocol: call.JSONRPC}, "rpc", "/rpc"),
	}
	hidden, err := redact.New([]byte(strings.Repeat("k", redact.MinKey)))
	if err != nil {
		t.Fatal(err)
	}
	r.Server = New(Config{Redact: hidden, Backlog: r.backlog,
		Identifier: asked{func(ctx context.Context, h call.Headers) (call.Identity, error) { return r.identify(ctx, h) },
			func(id call.Identity) error { return r.still(id) }},
		Approvals: approvals(func(ctx context.Context, c *call.Call, g call.Ruling) call.Decision { return r.hold(ctx, c, g) }),
		Recorder:  r.recorder, Log: slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Metrics: NewMetrics(prometheus.NewRegistry()),
	})
	r.activate(t)
	return r
}

func newConn(t testing.TB, cfg protocol.Config, name, path string) *connection.Connection {
	t.Helper()
	p, err := protocol.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return &connection.Connection{Name: name, Protocol: cfg.Protocol, Path: path, Parser: p, MaxBody: 4096, MaxResponse: 8192,
		Credential: secret{name: "authorization", value: "Bearer " + plantedCredential},
		Record:     call.RecordSettings{MaxBody: 1024, Response: call.RecordDurable, Headers: []string{"x-team"}},
		Mask:       call.Mask{Rules: []call.MaskRule{{Name: "own", Paths: []string{"$.a"}, Keys: []string{"k"}, Detect: []string{"card"}, How: "redact"}}}}
}

func (r *rig) activate(t testing.TB) {
	t.Helper()
	var list []*connection.Connection
	for _, c := range r.conns {
		list = append(list, c)
	}
	set, err := connection.NewSet(list)
	if err != nil {
		t.Fatal(err)
	}
	r.Activate(Versions{Stable: Active{Version: "v1", Connections: set, Policy: policy(func(ctx context.Context, c *call.Call) call.Ruling { return r.decide(ctx, c) })}})
}

const refundBody = `{"amount":150,"note":"ü"}`

// request is Envoy's question about a refund; change makes another of it.
func request(change ...func(*authv3.CheckRequest)) *authv3.CheckRequest {
	req := &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		ContextExtensions: map[string]string{"connection": "crm", "legs": "answered,finished"},
		Source: &authv3.AttributeContext_Peer{Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
			Address: "10.0.0.7", PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: 999}}}}},
		Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
			Method: "POST", Scheme: "https", Host: "gate.test", Path: "/crm/refunds", RawBody: []byte(refundBody)}},
	}}
	for _, f := range []string{"content-type:application/json", "x-envoy-auth-partial-body:false", "authorization:Bearer " + plantedToken,
		"cookie:sid=" + plantedToken, "proxy-authorization:Basic " + plantedToken, "x-request-id:r-1",
		"traceparent:00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "x-team:a", "content-length:" + strconv.Itoa(len(refundBody))} {
		name, value, _ := strings.Cut(f, ":")
		add(name, value)(req)
	}
	for _, f := range change {
		f(req)
	}
	return req
}

func httpOf(req *authv3.CheckRequest) *authv3.AttributeContext_HttpRequest {
	return req.Attributes.Request.Http
}

// add adds a header.
func add(name, value string) func(*authv3.CheckRequest) {
	return func(req *authv3.CheckRequest) {
		h := httpOf(req)
		if h.HeaderMap == nil {
			h.HeaderMap = &corev3.HeaderMap{}
		}
		h.HeaderMap.Headers = append(h.HeaderMap.Headers, &corev3.HeaderValue{Key: name, RawValue: []byte(value)})
	}
}

// drop takes a header away.
func drop(name string) func(*authv3.CheckRequest) {
	return func(req *authv3.CheckRequest) {
		m := httpOf(req).HeaderMap
		m.Headers = slices.DeleteFunc(m.Headers, func(h *corev3.HeaderValue) bool { return h.Key == name })
	}
}

// body sets the body, with its length.
func body(b string) func(*authv3.CheckRequest) {
	return func(req *authv3.CheckRequest) {
		httpOf(req).RawBody = []byte(b)
		drop("content-length")(req)
		add("content-length", strconv.Itoa(len(b)))(req)
	}
}

func to(conn, path string) func(*authv3.CheckRequest) {
	return func(req *authv3.CheckRequest) {
		req.Attributes.ContextExtensions["connection"], httpOf(req).Path = conn, path
	}
}

// answer is what the server said, with its last event.
type answer struct {
	*authv3.CheckResponse
	event *call.DecidedEvent // nil: none
	meta  call.Metadata
}

func (r *rig) check(t testing.TB, req *authv3.CheckRequest) answer {
	t.Helper()
	before := len(r.recorder.all())
	resp, err := r.Check(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	a := answer{CheckResponse: resp, meta: metadata(t, resp)}
	if all := r.recorder.all(); len(all) == before+1 {
		a.event = all[before].Decided
		if all[before].Kind != call.Decided || all[before].CallID != a.meta.CallID {
			t.Errorf("event %+v is not of call %s", all[before], a.meta.CallID)
		}
	} else if len(all) > before {
		t.Errorf("%d events for one call", len(all)-before)
	}
	return a
}

// metadata reads the metadata as ext_proc and the access log get it.
func metadata(t testing.TB, resp *authv3.CheckResponse) call.Metadata {
	t.Helper()
	if len(resp.GetDynamicMetadata().GetFields()) != 1 {
		t.Fatalf("metadata %v", resp.GetDynamicMetadata())
	}
	data, err := protojson.Marshal(resp.DynamicMetadata.Fields[call.MetadataKey])
	if err != nil {
		t.Fatal(err)
	}
	var m call.Metadata
	if err := json.Unmarshal(data, &m); err != nil {
		t.Fatalf("%s: %v", data, err)
	}
	return m
}

// denied checks a denial: its status, its reason wherever it stands, and that
// nothing in it lets the call on.
func (a answer) denied(t testing.TB, status int32, reason call.Reason) {
	t.Helper()
	no := a.GetDeniedResponse()
	if a.Status.GetCode() == 0 || no == nil || a.GetOkResponse() != nil {
		t.Fatalf("not denied: %v", a.CheckResponse)
	}
	if int32(no.Status.Code) != status || a.Status.Message != string(reason) {
		t.Errorf("denied with %d %s, want %d %s", no.Status.Code, a.Status.Message, status, reason)
	}
	headers := set(t, no.Headers)
	if headers[call.HeaderReason] != string(reason) || headers[call.HeaderCallID] != a.meta.CallID.String() {
		t.Errorf("headers %v", headers)
	}
	if a.meta.Outcome.Allowed() {
		t.Errorf("the metadata says %s", a.meta.Outcome)
	}
	if a.event != nil && (a.event.Decision.Outcome.Allowed() || a.event.Decision.Reason != reason) {
		t.Errorf("recorded as %+v", a.event.Decision)
	}
	a.hides(t)
}

// hides checks that the planted secrets stand nowhere in a denial or an event.
func (a answer) hides(t testing.TB) {
	t.Helper()
	all := ""
	if a.GetDeniedResponse() != nil {
		all = a.CheckResponse.String()
	}
	all += a.DynamicMetadata.String()
	if e := a.event; e != nil {
		data, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		all += string(data) + string(e.ArgsJSON) + string(e.Body.Head) + string(e.Body.Tail)
	}
	for _, s := range []string{plantedToken, plantedCredential} {
		if strings.Contains(all, s) {
			t.Errorf("%s stands in %s", s, all)
		}
	}
}

// set reads header options, all of which must overwrite what was there.
func set(t testing.TB, options []*corev3.HeaderValueOption) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, o := range options {
		if o.AppendAction != corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD {
			t.Errorf("%s is set with %s", o.Header.Key, o.AppendAction)
		}
		if _, twice := out[o.Header.Key]; twice {
			t.Errorf("%s is set twice", o.Header.Key)
		}
		out[o.Header.Key] = o.Header.Value
	}
	return out
}
