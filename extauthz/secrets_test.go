package extauthz_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/call/protocol"
	"github.com/callgate/callgate/call/redact"
	"github.com/callgate/callgate/extauthz"
	"github.com/callgate/callgate/extauthz/connection"
	"github.com/callgate/callgate/policies"
	"github.com/callgate/callgate/policies/library"
)

// decided keeps what was recorded.
type decided struct {
	mu     sync.Mutex
	events []call.Event
}

func (d *decided) Record(_ context.Context, e call.Event) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.events = append(d.events, e)
	return nil
}

// Somebody's credential in a request is denied whatever the body is packed in, and
// in each call of a batch by itself. A line more is a case more.
func TestSecretsInRequests(t *testing.T) {
	const key = "AKIAIOSFODNN7EXAMPLE"
	escaped := `\u0041` + key[1:]
	ids := 0
	rpc := func(text string) string {
		ids++
		return `{"jsonrpc":"2.0","id":` + strconv.Itoa(ids) + `,"method":"get","params":{"text":"` + text + `"}}`
	}
	verifier, token := issued(t)
	web, err := protocol.New(protocol.Config{Protocol: call.HTTP, BasePath: "/crm", Functions: []protocol.Function{{Name: "notes.add", Method: "POST", Path: "/notes"}}})
	must(t, err)
	messages, err := protocol.New(protocol.Config{Protocol: call.JSONRPC, BasePath: "/rpc"})
	must(t, err)
	batches, err := protocol.NewBatches(call.JSONRPC, 10)
	must(t, err)
	conns, err := connection.NewSet([]*connection.Connection{
		{Name: "crm", Protocol: call.HTTP, Path: "/crm", Parser: web, MaxBody: 1 << 20, MaxResponse: 1 << 20},
		{Name: "rpc", Protocol: call.JSONRPC, Path: "/rpc", Parser: messages, Batches: batches, MaxBody: 1 << 20, MaxResponse: 1 << 20}})
	must(t, err)
	when, err := library.Find("secrets-in-requests").Condition(nil)
	must(t, err)
	rules, err := policies.Compile([]policies.Rule{{Name: "no secrets", Action: policies.Deny, When: when}, {Name: "rest", Action: policies.Allow}},
		policies.Config{Version: "v1", Connections: []policies.Connection{{Name: "crm", Protocol: call.HTTP}, {Name: "rpc", Protocol: call.JSONRPC}}})
	must(t, err)
	hidden, err := redact.New([]byte(strings.Repeat("k", redact.MinKey)))
	must(t, err)
	gz := func(s string) string {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		_, err := io.WriteString(w, s)
		must(t, err)
		must(t, w.Close())
		return b.String()
	}
	zst := func(s string) string {
		w, err := zstd.NewWriter(nil)
		must(t, err)
		return string(w.EncodeAll([]byte(s), nil))
	}
	for name, c := range map[string]struct {
		connection, kind, encoding, body string
		denied                           []bool // of each call in it
	}{
		"plain":                     {"crm", "application/json", "", `{"text":"` + key + `"}`, []bool{true}},
		"escaped":                   {"crm", "application/json", "", `{"text":"` + escaped + `"}`, []bool{true}},
		"as a name":                 {"crm", "application/json", "", `{"` + escaped + `":1}`, []bool{true}},
		"a form":                    {"crm", "application/x-www-form-urlencoded", "", "text=%41" + key[1:], []bool{true}},
		"a part":                    {"crm", "multipart/form-data; boundary=b", "", "--b\r\nContent-Disposition: form-data; name=\"text\"\r\n\r\n" + key + "\r\n--b--\r\n", []bool{true}},
		"packed":                    {"crm", "application/json", "gzip", gz(`{"text":"` + key + `"}`), []bool{true}},
		"packed and escaped":        {"crm", "application/json", "zstd", zst(`{"text":"` + escaped + `"}`), []bool{true}},
		"a packed form":             {"crm", "application/x-www-form-urlencoded", "gzip", gz("text=" + key), []bool{true}},
		"none, packed":              {"crm", "application/json", "gzip", gz(`{"text":"hello"}`), []bool{false}},
		"another character set":     {"crm", "application/json; charset=utf-16le", "", utf16(`{"text":"` + key + `"}`), []bool{true}},
		"one of a batch":            {"rpc", "application/json", "", "[" + rpc("hello") + "," + rpc(key) + "]", []bool{false, true}},
		"one of a batch, escaped":   {"rpc", "application/json", "", "[" + rpc(escaped) + "," + rpc("hello") + "]", []bool{true, false}},
		"all of a batch":            {"rpc", "application/json", "", "[" + rpc(key) + "," + rpc(escaped) + "]", []bool{true, true}},
		"over two calls of a batch": {"rpc", "application/json", "", "[" + rpc(key[:9]) + "," + rpc(key[9:]) + "]", []bool{false, false}},
		"a packed batch":            {"rpc", "application/json", "gzip", gz("[" + rpc(key) + "]"), []bool{true}},
	} {
		t.Run(name, func(t *testing.T) {
			record := &decided{}
			s := extauthz.New(extauthz.Config{Identifier: verifier, Redact: hidden, Recorder: record, Log: slog.New(slog.DiscardHandler), Metrics: extauthz.NewMetrics(prometheus.NewRegistry())})
			s.Activate(extauthz.Versions{Stable: extauthz.Active{Version: "v1", Connections: conns, Policy: rules}})
			fields := [][2]string{{"authorization", "Bearer " + token}, {"content-type", c.kind}, {"content-length", strconv.Itoa(len(c.body))}, {"x-envoy-auth-partial-body", "false"}}
			if c.encoding != "" {
				fields = append(fields, [2]string{"content-encoding", c.encoding})
			}
			var headers []*corev3.HeaderValue
			for _, f := range fields {
				headers = append(headers, &corev3.HeaderValue{Key: f[0], RawValue: []byte(f[1])})
			}
			resp, err := s.Check(t.Context(), &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
				ContextExtensions: map[string]string{"connection": c.connection, "legs": "answered,finished", "batch": "edit"},
				Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{Method: "POST", Scheme: "https", Host: "gate", Path: map[string]string{"crm": "/crm/notes", "rpc": "/rpc"}[c.connection],
					RawBody: []byte(c.body), HeaderMap: &corev3.HeaderMap{Headers: headers}}}}})
			must(t, err)
			passes := false
			got := make([]bool, len(c.denied))
			for _, e := range record.events {
				got[e.Decided.Batch.Index] = !e.Decided.Decision.Outcome.Allowed()
				if strings.Contains(e.Decided.Decision.Message, key) {
					t.Errorf("the message quotes it: %s", e.Decided.Decision.Message)
				}
			}
			for i, denied := range c.denied {
				passes = passes || !denied
				if got[i] != denied {
					t.Errorf("call %d is denied: %v (%+v)", i, got[i], record.events[i].Decided.Decision)
				}
			}
			if ok := resp.GetOkResponse() != nil; ok != passes || len(record.events) != len(c.denied) {
				t.Errorf("let through: %v, with %d events", ok, len(record.events))
			}
		})
	}
}

func utf16(s string) string {
	var b strings.Builder
	for _, r := range s {
		b.WriteByte(byte(r))
		b.WriteByte(byte(r >> 8))
	}
	return b.String()
}
