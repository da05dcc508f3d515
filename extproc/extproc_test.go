package extproc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/extproc/mask"
)

func compact(t testing.TB, text []byte) string {
	t.Helper()
	var b bytes.Buffer
	if err := json.Compact(&b, text); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// quiet checks that no hidden value stands in what was recorded or logged.
func (b *bench) quiet(t testing.TB) {
	t.Helper()
	b.stop()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.events {
		text := fmt.Sprintf("%+v", *e.Answered) + string(e.Answered.Body.Head) + string(e.Answered.Body.Tail)
		if e.Answered.RPCStatus != nil {
			text += e.Answered.RPCStatus.Message
		}
		for _, hidden := range []string{card, secret} {
			if strings.Contains(text, hidden) {
				t.Errorf("the record has the hidden value: %s", text)
			}
		}
	}
	for _, hidden := range []string{card, secret} {
		if strings.Contains(b.logs.String(), hidden) {
			t.Errorf("the log has the hidden value: %s", b.logs)
		}
	}
}

// Both a JSON answer and its record are masked, the headers wait for the body,
// and what described the function's bytes goes.
func TestJSON(t *testing.T) {
	b := start(t)
	body := `{"name":"Ann","password":"` + secret + `","card":"` + card + `","n":1}`
	got := b.run(t, exchange{mode: duplex, meta: decided(call.HTTP, cards, passwords), headers: jsonType, chunks: []string{body[:30], body[30:], ""}})
	if got.err != nil || !got.ended || !json.Valid([]byte(got.body)) || strings.Contains(got.body, card) || strings.Contains(got.body, secret) || !strings.Contains(got.body, `"n":1`) {
		t.Fatalf("got %+v", got)
	}
	for _, name := range []string{"content-length", "etag", "digest", "content-digest"} {
		if !slices.Contains(got.removed, name) {
			t.Errorf("%s is left, though the body is another", name)
		}
	}
	if got := b.steps.list(); got != "record, headers, end" {
		t.Errorf("order: %s", got)
	}
	b.quiet(t)
	a := b.one(t)
	if string(a.Body.Head) != got.body || a.Status != 200 || a.Withheld != "" || a.Interrupted || a.Headers.Get("content-type") != "application/json" {
		t.Errorf("recorded %+v", a)
	}
	if len(a.Masked) != 2 {
		t.Errorf("masked %+v", a.Masked)
	}
	if n := testutil.ToFloat64(b.server.cfg.Metrics.masked.WithLabelValues("crm", "card")); n != 1 {
		t.Errorf("counted %v cards", n)
	}
}

// Text and JSON that another type was given are masked as a whole as well.
func TestWhole(t *testing.T) {
	for name, tt := range map[string]struct{ contentType, body string }{
		"problem":         {"application/problem+json; charset=utf-8", `{"detail":"` + card + `"}`},
		"text":            {"text/plain", "card " + card},
		"csv":             {"text/csv", "a,b\n1," + card},
		"json as text":    {"text/plain", `{"a":"4111\u0031111 11111111"}`[:6] + `"` + card + `"}`},
		"xml":             {"application/xml", "<a>" + card + "</a>"},
		"html":            {"text/html; charset=utf-8", "<p>" + card[:4] + "<b>" + card[4:] + "</b></p>"},
		"a form":          {"application/x-www-form-urlencoded", "a=" + card},
		"a form in parts": {"multipart/form-data; boundary=b", "--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n" + card + "\r\n--b--\r\n"},
		"no type at all":  {"", `{"a":"` + card + `"}`},
	} {
		t.Run(name, func(t *testing.T) {
			b := start(t)
			x := exchange{mode: duplex, meta: decided(call.HTTP, cards), chunks: []string{tt.body}}
			if tt.contentType != "" {
				x.headers = []string{"content-type", tt.contentType}
			}
			got := b.run(t, x)
			if got.err != nil || !got.ended || got.body == "" || strings.Contains(got.body, card) {
				t.Errorf("got %+v", got)
			}
			b.quiet(t)
		})
	}
}

// XML, HTML and forms that are larger than anything that is held flow through, and
// the headers wait for no more than their beginning. One that ends badly is cut off.
func TestDocumentsFlow(t *testing.T) {
	for contentType, tt := range map[string]struct{ before, part, after, bad string }{
		"application/xml":                   {"<r>", "<c>" + card + "</c>\n", "</r>", "</x>"},
		"text/html":                         {"<ul>", "<li>" + card + "</li>\n", "</ul>", "\xff"},
		"application/x-www-form-urlencoded": {"a=1", "&c=" + card, "", "&x=\xff"},
	} {
		for _, bad := range []bool{false, true} {
			b := start(t, func(c *Config) { c.Memory = 512 << 10 })
			m := decided(call.HTTP, cards)
			m.MaxResponse = 32 << 10
			x := exchange{mode: duplex, meta: m, headers: []string{"content-type", contentType}, chunks: []string{tt.before}}
			const parts = 40
			for range parts {
				x.chunks = append(x.chunks, strings.Repeat(tt.part, 1000))
			}
			end := tt.after
			if bad {
				end = tt.bad
			}
			x.chunks = append(x.chunks, end)
			got := b.run(t, x)
			if strings.Contains(got.body, card) || !got.headers || got.immediate != nil || got.ended == bad || (got.err != nil) != bad {
				t.Errorf("%s: %d bytes, %v", contentType, len(got.body), got.err)
			}
			if n := strings.Count(got.body, "redacted"); !bad && n != parts*1000 || n < parts*900 {
				t.Errorf("%s: %d of %d are hidden", contentType, n, parts*1000)
			}
			if a := b.one(t); (a.Withheld != "") != bad {
				t.Errorf("%s: recorded %q", contentType, a.Withheld)
			}
			if n := b.server.memory.used.Load(); n != 0 {
				t.Errorf("%s: %d bytes are still counted", contentType, n)
			}
		}
	}
}

// Wherever a stream is cut into chunks, the value is hidden, and what may leave
// early does.
func TestEventStream(t *testing.T) {
	answer := `{"jsonrpc":"2.0","id":7,"result":{"content":[{"type":"text","text":"card ` + card + `"}],"structuredContent":{"password":"` + secret + `"},"isError":true}}`
	body := "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\"}\n\n: ping\n\nevent: message\ndata: " + answer + "\n\n"
	headers := []string{"content-type", "text/event-stream", "cache-control", "no-cache"}
	var want string
	for cut := range len(body) {
		b := start(t)
		got := b.run(t, exchange{mode: duplex, meta: decided(call.MCP, cards, passwords), headers: headers, chunks: []string{body[:cut], body[cut:]}})
		if got.err != nil || !got.ended || strings.Contains(got.body, card) || strings.Contains(got.body, secret) {
			t.Fatalf("cut at %d: %+v", cut, got)
		}
		if want == "" {
			want = got.body
		}
		if got.body != want {
			t.Fatalf("cut at %d: %q, before %q", cut, got.body, want)
		}
		b.quiet(t)
		if a := b.one(t); string(a.Body.Head) != want || a.RPCStatus == nil || a.RPCStatus.Code != 0 || a.ToolError == nil || !*a.ToolError {
			t.Fatalf("cut at %d: recorded %+v", cut, a)
		}
	}
	b := start(t)
	b.run(t, exchange{mode: duplex, meta: decided(call.MCP, cards), headers: headers, chunks: []string{body, ""}})
	if got := b.steps.list(); got != "headers, body, record, end" {
		t.Errorf("order: %s", got)
	}
}

// A stream whose end never comes still gives what it has, event by event.
func TestEventsFlow(t *testing.T) {
	b := start(t)
	stream, err := b.client.Process(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	x := exchange{mode: duplex, meta: decided(call.HTTP, cards), headers: []string{"content-type", "text/event-stream"},
		chunks: []string{"data: " + card + "\n\n", "data: two\n\nda"}, broken: true}
	var got result
	for i, req := range x.requests(t) {
		if err := stream.Send(req); err != nil {
			t.Fatal(err)
		}
		m, err := stream.Recv() // each is answered before the next is sent
		if err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
		got.take(t, m)
	}
	if strings.Contains(got.body, card) || !strings.HasSuffix(got.body, "data: two\n\n") {
		t.Errorf("got %q", got.body)
	}
	_ = stream.CloseSend()
	a := b.one(t)
	if !a.Interrupted || string(a.Body.Head) != got.body || a.Withheld != "" {
		t.Errorf("recorded %+v", a)
	}
}

// What nothing hides is passed on byte for byte, whatever it is.
func TestUntouched(t *testing.T) {
	body := "\x1f\x8b\x00\xff" + card
	for name, headers := range map[string][]string{
		"encoded":    {"content-type", "image/png", "content-encoding", "gzip", "etag", "x", "content-length", "20"},
		"unreadable": {"content-type", ";;", "content-type", "again"},
	} {
		t.Run(name, func(t *testing.T) {
			b := start(t)
			got := b.run(t, exchange{mode: duplex, meta: decided(call.HTTP), status: "206", headers: headers, chunks: []string{body[:3], body[3:]}})
			if got.err != nil || !got.ended || got.body != body || len(got.removed)+len(got.set) != 0 {
				t.Errorf("got %+v", got)
			}
			if a := b.one(t); string(a.Body.Head) != body || a.Status != 206 {
				t.Errorf("recorded %+v", a)
			}
		})
	}
}

func TestLargeOutput(t *testing.T) {
	for name, rules := range map[string][]call.MaskRule{"masked": {cards}, "untouched": nil} {
		t.Run(name, func(t *testing.T) {
			b := start(t)
			body := `["` + strings.Repeat("x", 3*chunkSize) + `"]`
			got := b.run(t, exchange{mode: duplex, meta: decided(call.HTTP, rules...), headers: jsonType, chunks: []string{body}})
			if got.body != body || !got.ended || got.largest > 64<<10 {
				t.Errorf("%d of %d bytes, ended %t, largest %d", len(got.body), len(body), got.ended, got.largest)
			}
			a := b.one(t)
			if a.Body.Length != int64(len(body)) || !a.Body.Truncated || len(a.Body.Head)+len(a.Body.Tail) != 1<<16 {
				t.Errorf("recorded %d bytes, %d kept", a.Body.Length, len(a.Body.Head)+len(a.Body.Tail))
			}
		})
	}
}

// What Envoy answered itself, and our own denials, pass as they are.
func TestLocalReplies(t *testing.T) {
	denied := decided(call.HTTP, cards)
	denied.Outcome = call.HoldExpired
	for name, tt := range map[string]struct {
		meta     *call.Metadata
		details  string
		recorded bool
	}{
		"our denial":            {denied, "ext_authz_denied", false},
		"no route, undecided":   {nil, "route_not_found", false},
		"upstream away, masked": {decided(call.HTTP, cards), "upstream_reset_before_response_started{connection_failure}", true},
	} {
		t.Run(name, func(t *testing.T) {
			b := start(t)
			body := "no healthy upstream"
			got := b.run(t, exchange{mode: duplex, meta: tt.meta, details: tt.details, status: "503", headers: []string{"content-type", "application/problem+weird", "content-length", "19"}, chunks: []string{body}})
			if got.err != nil || got.body != body || !got.ended || len(got.removed) != 0 {
				t.Errorf("got %+v", got)
			}
			b.stop()
			if (len(b.events) == 1) != tt.recorded {
				t.Errorf("recorded %d", len(b.events))
			}
		})
	}
}

// An answer that nobody decided about, or that can't be read to be masked,
// does not reach the caller.
func TestWithheld(t *testing.T) {
	of := func(headers ...string) exchange {
		return exchange{mode: duplex, meta: decided(call.HTTP, cards), headers: headers, chunks: []string{`{"a":"` + secret + `"}`}}
	}
	with := func(x exchange, change func(*exchange)) exchange { change(&x); return x }
	good := of("content-type", "application/json")
	odd := decided(call.HTTP, call.MaskRule{Name: "odd", Detect: []string{"nothing of the kind"}})
	small := decided(call.HTTP, cards)
	small.MaxResponse = 8
	for name, tt := range map[string]struct {
		x    exchange
		says string // in the record; empty: there is none
	}{
		"no decision":       {with(good, func(x *exchange) { x.meta = nil }), ""},
		"no struct":         {with(good, func(x *exchange) { x.meta, x.metaAs = nil, structpb.NewStringValue("x") }), ""},
		"no call id":        {with(good, func(x *exchange) { x.meta = &call.Metadata{Outcome: call.Allow} }), ""},
		"not encoded":       {of("content-type", "application/json", "content-encoding", "br"), "content-encoding br says"},
		"encoded after all": {of("content-type", "application/json", "content-encoding", "identity", "content-encoding", "gzip"), "content-encoding gzip says"},
		"encoded in a list": {of("content-type", "application/json", "content-encoding", "identity, gzip"), "content-encoding gzip says"},
		"encoding unknown":  {of("content-type", "application/json", "content-encoding", "compress"), "compress"},
		"encoded too often": {of("content-type", "application/json", "content-encoding", "gzip, br, gzip, br"), "4 content encodings"},
		"partial":           {with(good, func(x *exchange) { x.status = "206" }), "partial"},
		"type unknown":      {of("content-type", "application/pdf"), "application/pdf"},
		"multipart":         {of("content-type", "multipart/byteranges; boundary=x"), "multipart"},
		"type unreadable":   {of("content-type", "application/json;;="), "can't be read"},
		"type twice":        {of("content-type", "application/json", "content-type", "text/plain"), "more than one"},
		"charset":           {of("content-type", "application/json; charset=utf-16"), "utf-16"},
		"charset of events": {of("content-type", "text/event-stream; charset=utf-7"), "utf-7"},
		"broken json":       {with(good, func(x *exchange) { x.chunks = []string{`{"a":`} }), "not valid"},
		"two documents":     {with(good, func(x *exchange) { x.chunks = []string{`{}{"a":"` + secret + `"}`} }), "not valid"},
		"text not UTF-8":    {with(of("content-type", "text/plain"), func(x *exchange) { x.chunks = []string{"\xff\xfa"} }), "not UTF-8"},
		"over max_response": {with(good, func(x *exchange) {
			x.meta, x.chunks = small, []string{`["{\"a\":\"` + strings.Repeat("x", 70<<10) + `\"}"]`}
		}), "65536"},
		"over ours":       {with(good, func(x *exchange) { x.chunks = []string{`["{\"a\":\"` + strings.Repeat("x", 1<<20) + `\"}"]`} }), "1048576"},
		"mask unreadable": {with(good, func(x *exchange) { x.meta = odd }), "compile mask"},
		"body not sent":   {with(good, func(x *exchange) { x.mode, x.chunks = nobody, nil }), "response_body_mode"},
	} {
		t.Run(name, func(t *testing.T) {
			b := start(t)
			got := b.run(t, tt.x)
			if got.headers || got.body != "" || got.immediate == nil || got.err != nil {
				t.Fatalf("got %+v", got)
			}
			if code := got.immediate.GetStatus().GetCode(); code != 502 {
				t.Errorf("status %d", code)
			}
			var problem struct {
				Reason, CallID string
				Status         int
			}
			if err := json.Unmarshal(got.immediate.GetBody(), &problem); err != nil || problem.Reason != "response_withheld" || problem.Status != 502 {
				t.Errorf("body %s: %v", got.immediate.GetBody(), err)
			}
			if strings.Contains(string(got.immediate.GetBody()), secret) || tt.says != "" && strings.Contains(string(got.immediate.GetBody()), tt.says) {
				t.Errorf("the caller is told of the function's insides: %s", got.immediate.GetBody())
			}
			if n := testutil.ToFloat64(b.server.cfg.Metrics.withheld.WithLabelValues(connectionOf(tt.x))); n != 1 {
				t.Errorf("counted %v", n)
			}
			b.quiet(t)
			if tt.says == "" {
				b.stop()
				if len(b.events) != 0 {
					t.Errorf("recorded %+v", b.events)
				}
				return
			}
			if a := b.one(t); !strings.Contains(a.Withheld, tt.says) || a.Body.Length != 0 || a.Interrupted {
				t.Errorf("recorded %+v, want %q", a, tt.says)
			}
		})
	}
}

func connectionOf(x exchange) string {
	if x.meta == nil {
		return ""
	}
	return x.meta.Connection
}

// A JSON-RPC caller is told in its own protocol, with its own id.
func TestWithheldRPC(t *testing.T) {
	b := start(t)
	got := b.run(t, exchange{mode: duplex, meta: decided(call.MCP, cards), headers: jsonType, chunks: []string{"{"}})
	var m struct {
		ID    int
		Error struct {
			Data struct{ Reason string }
		}
	}
	if got.immediate == nil || json.Unmarshal(got.immediate.GetBody(), &m) != nil || m.ID != 7 || m.Error.Data.Reason != "response_withheld" {
		t.Errorf("got %v", got.immediate)
	}
}

// A stream that has begun can only be cut off, and the record keeps what the
// caller had got by then.
func TestCut(t *testing.T) {
	b := start(t)
	meta := decided(call.HTTP, cards)
	meta.MaxResponse = 64
	got := b.run(t, exchange{mode: duplex, meta: meta, headers: []string{"content-type", "text/event-stream"},
		chunks: []string{"data: one\n\n", "data: " + strings.Repeat("x", 100) + secret, "\n\n"}})
	if got.err == nil || got.ended || got.immediate != nil || got.body != "data: one\n\n" {
		t.Errorf("got %+v", got)
	}
	b.quiet(t)
	if a := b.one(t); string(a.Body.Head) != got.body || !strings.Contains(a.Withheld, "64 bytes") {
		t.Errorf("recorded %+v", a)
	}
}

var errDisk = errors.New("no space left on device")

// The caller gets nothing that could not be recorded: neither the answer that
// is held nor the last part of one that flows.
func TestRecorderFails(t *testing.T) {
	always := func(int) error { return errDisk }
	b := start(t)
	b.fail = always
	got := b.run(t, exchange{mode: duplex, meta: decided(call.HTTP, cards), headers: jsonType, chunks: []string{"{}"}})
	if got.immediate == nil || got.headers {
		t.Errorf("held: %+v", got)
	}
	b.stop()
	if b.tries != 2 {
		t.Errorf("tried %d times, want 2", b.tries)
	}

	for _, rules := range [][]call.MaskRule{nil, {cards}} {
		b = start(t)
		b.fail = always
		got = b.run(t, exchange{mode: duplex, meta: decided(call.HTTP, rules...), headers: []string{"content-type", "text/event-stream"}, chunks: []string{"data: 1\n\n", "data: 2\n\n"}})
		if got.err == nil || got.ended || strings.Contains(got.body, "2") {
			t.Errorf("flowing: %+v", got)
		}
	}

	b = start(t)
	b.fail = always
	got = b.run(t, exchange{mode: duplex, meta: decided(call.HTTP), status: "204", headersEnd: true})
	if got.immediate == nil || got.headers {
		t.Errorf("headers alone: %+v", got)
	}

	// The second try tells that the response was withheld.
	b = start(t)
	b.fail = func(n int) error {
		if n == 0 {
			return errDisk
		}
		return nil
	}
	got = b.run(t, exchange{mode: duplex, meta: decided(call.HTTP, cards), headers: jsonType, chunks: []string{"{}"}})
	if a := b.one(t); got.immediate == nil || !strings.Contains(a.Withheld, "can't be made durable") || a.Interrupted || a.Body.Length != 0 {
		t.Errorf("second try: %+v, recorded %+v", got, a)
	}
}

// A third attempt must not turn "withheld" into "interrupted".
func TestWithheldIsNotInterrupted(t *testing.T) {
	b := start(t)
	b.fail = func(n int) error {
		if n < 2 {
			return errDisk
		}
		return nil
	}
	b.run(t, exchange{mode: duplex, meta: decided(call.HTTP, cards), headers: jsonType, chunks: []string{"{}"}})
	b.stop()
	if b.tries != 2 || len(b.events) != 0 {
		t.Errorf("tried %d times, recorded %+v", b.tries, b.events)
	}
}

func TestRecordModes(t *testing.T) {
	t.Run("async", func(t *testing.T) {
		b := start(t)
		b.wait = make(chan struct{})
		meta := decided(call.HTTP, cards)
		meta.Record.Response = call.RecordAsync
		got := b.run(t, exchange{mode: duplex, meta: meta, headers: jsonType, chunks: []string{"{}"}})
		if !got.ended || got.body != "{}" { // though nothing is recorded yet
			t.Errorf("got %+v", got)
		}
		close(b.wait)
		for range asyncRecords { // all records written behind are done
			b.server.async <- struct{}{}
		}
		if a := b.one(t); string(a.Body.Head) != "{}" {
			t.Errorf("recorded %+v", a)
		}
	})
	t.Run("async, failing", func(t *testing.T) {
		b := start(t)
		b.fail = func(int) error { return errDisk }
		meta := decided(call.HTTP)
		meta.Record.Response = call.RecordAsync
		if got := b.run(t, exchange{mode: duplex, meta: meta, headers: jsonType, chunks: []string{"{}"}}); !got.ended {
			t.Errorf("got %+v", got)
		}
		for range asyncRecords {
			b.server.async <- struct{}{}
		}
		if n := testutil.ToFloat64(b.server.cfg.Metrics.lost); n != 1 {
			t.Errorf("counted %v lost", n)
		}
	})
	// A connection whose calls go on unrecorded: as long as its events can wait.
	for _, how := range []string{call.RecordDurable, call.RecordAsync} {
		t.Run("by choice, "+how, func(t *testing.T) {
			b := start(t)
			b.fail = func(int) error { return errDisk }
			meta := decided(call.HTTP)
			meta.Record.Response, meta.Record.Unrecorded = how, true
			got := b.run(t, exchange{mode: duplex, meta: meta, headers: jsonType, chunks: []string{"{}"}})
			for range asyncRecords {
				b.server.async <- struct{}{}
			}
			if !got.ended || got.body != "{}" || len(b.later.events) != 1 || b.later.events[0].CallID != someID || testutil.ToFloat64(b.server.cfg.Metrics.lost) != 0 {
				t.Errorf("got %+v, %+v waits", got, b.later.events)
			}
		})
	}
	t.Run("by choice, no room", func(t *testing.T) {
		b := start(t)
		b.fail, b.later.full = func(int) error { return errDisk }, true
		meta := decided(call.HTTP)
		meta.Record.Unrecorded = true
		if got := b.run(t, exchange{mode: duplex, meta: meta, headers: jsonType, chunks: []string{`{"a":"` + secret + `"}`}}); strings.Contains(got.body, secret) {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("off", func(t *testing.T) {
		b := start(t)
		b.fail = func(int) error { return errDisk }
		meta := decided(call.HTTP, cards)
		meta.Record.Response = call.RecordOff
		got := b.run(t, exchange{mode: duplex, meta: meta, headers: jsonType, chunks: []string{`"` + card + `"`}})
		if !got.ended || strings.Contains(got.body, card) || b.tries != 0 {
			t.Errorf("got %+v, %d tries", got, b.tries)
		}
	})
	t.Run("headers asked for", func(t *testing.T) {
		b := start(t)
		meta := decided(call.HTTP)
		meta.Record.Headers = []string{"x-cost"}
		b.run(t, exchange{mode: duplex, meta: meta, headers: []string{"x-cost", "3\xff", "set-cookie", secret, "Content-Type", "a/b"}, chunks: []string{"x"}})
		b.quiet(t)
		if a := b.one(t); fmt.Sprint(a.Headers) != "[{x-cost 3\uFFFD} {content-type a/b}]" {
			t.Errorf("recorded %v", a.Headers)
		}
	})
	t.Run("credentials in headers asked for", func(t *testing.T) {
		b := start(t)
		meta := decided(call.HTTP)
		meta.Record.Headers = []string{"set-cookie", "x-auth-token", "location", "x-team"}
		b.run(t, exchange{mode: duplex, meta: meta, chunks: []string{"x"}, headers: []string{"set-cookie", "sid=" + secret + "; Path=/; HttpOnly", "Set-Cookie", "b=" + secret,
			"X-Auth-Token", secret, "location", "/cb?code=1&access_token=" + secret, "x-team", "Bearer " + secret}})
		b.quiet(t)
		sum := b.server.cfg.Redact.Secret(secret)
		a := b.one(t)
		if got := a.Headers.Values("set-cookie"); len(got) != 2 || got[0] != "sid="+sum+"; Path=/; HttpOnly" || got[1] != "b="+sum {
			t.Errorf("recorded %v", a.Headers)
		}
		if a.Headers.Get("x-auth-token") != sum || a.Headers.Get("x-team") != "Bearer "+sum {
			t.Errorf("recorded %v", a.Headers)
		}
	})
}

// A caller that hangs up, and an Envoy that ends the stream early.
func TestBrokenOff(t *testing.T) {
	t.Run("held", func(t *testing.T) {
		b := start(t)
		got := b.run(t, exchange{mode: duplex, meta: decided(call.HTTP, passwords), headers: jsonType, chunks: []string{`{"password":"` + secret}, broken: true})
		if got.messages != 0 {
			t.Errorf("got %+v", got)
		}
		b.quiet(t)
		if a := b.one(t); !a.Interrupted || a.Body.Length != 0 {
			t.Errorf("recorded %+v", a)
		}
	})
	t.Run("canceled", func(t *testing.T) {
		b := start(t)
		ctx, cancel := context.WithCancel(t.Context())
		stream, err := b.client.Process(ctx)
		if err != nil {
			t.Fatal(err)
		}
		x := exchange{mode: duplex, meta: decided(call.HTTP), headers: jsonType, chunks: []string{"{"}, broken: true}
		for _, req := range x.requests(t) {
			if err := stream.Send(req); err != nil {
				t.Fatal(err)
			}
			if _, err := stream.Recv(); err != nil {
				t.Fatal(err)
			}
		}
		cancel()
		a := b.one(t)
		if !a.Interrupted || string(a.Body.Head) != "{" || b.live != nil {
			t.Errorf("recorded %+v, with a context that is over: %v", a, b.live)
		}
	})
	t.Run("a denial of ours", func(t *testing.T) {
		b := start(t)
		denied := decided(call.HTTP)
		denied.Outcome = call.Deny
		b.run(t, exchange{mode: duplex, meta: denied, details: "ext_authz_denied", chunks: []string{"x"}, broken: true})
		if b.stop(); len(b.events) != 0 {
			t.Errorf("recorded %+v", b.events)
		}
	})
	t.Run("before the headers", func(t *testing.T) {
		b := start(t)
		for _, x := range [][]int{{}, {1}, {2}} { // a chunk, or trailers, come first
			stream, err := b.client.Process(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			all := exchange{chunks: []string{"x"}, trailers: []string{"a", "b"}}.requests(t)
			for _, i := range x {
				if err := stream.Send(all[i]); err != nil {
					t.Fatal(err)
				}
			}
			_ = stream.CloseSend()
			if m, err := stream.Recv(); m != nil || err == nil {
				t.Errorf("%v: got %v, %v", x, m, err)
			}
		}
		if b.stop(); len(b.events) != 0 {
			t.Errorf("recorded %+v", b.events)
		}
	})
}

// A fault while one response is handled ends that response alone, even if it
// comes back while that is recorded.
func TestPanic(t *testing.T) {
	b := start(t, func(c *Config) { c.Messages = messages{panic: true} })
	got := b.run(t, exchange{mode: duplex, meta: decided(call.GRPC, cards), headers: []string{"content-type", "application/grpc"}, chunks: []string{customer(t, `{}`)}})
	if got.err == nil || got.messages != 0 || strings.Contains(got.err.Error(), secret) {
		t.Errorf("got %+v", got)
	}
	if got := b.run(t, exchange{mode: duplex, meta: decided(call.HTTP), headers: jsonType, chunks: []string{"{}"}}); !got.ended {
		t.Errorf("the next response: %+v", got)
	}
	b.quiet(t)
	if n := testutil.ToFloat64(b.server.cfg.Metrics.panics); n != 1 || !strings.Contains(b.logs.String(), someID.String()) {
		t.Errorf("counted %v; log %s", n, b.logs)
	}
	if len(b.events) != 2 || !b.events[0].Answered.Interrupted {
		t.Errorf("recorded %+v", b.events)
	}
}

// broken is an analyzer with a fault.
type broken struct{}

func (broken) Analyze(context.Context, []string) ([][]mask.Span, error) {
	panic("a fault that quotes " + secret)
}

// known has one detector of the user's own.
type known struct{ c *mask.Custom }

func (k known) Detector(ref string) *mask.Custom {
	if ref == "own@1" {
		return k.c
	}
	return nil
}

// A fault in a detector withholds that response, and no other; so does a detector
// that this replica has not got.
func TestDetectorPanics(t *testing.T) {
	b := start(t, func(c *Config) { c.Detectors = known{mask.NewAnalyzed("own", broken{})} })
	for _, ref := range []string{"own@1", "own@2"} {
		m := decided(call.HTTP, call.MaskRule{Name: "own", Detect: []string{ref}})
		got := b.run(t, exchange{mode: duplex, meta: m, headers: jsonType, chunks: []string{`{"a":"` + secret + `"}`}})
		if got.ended && strings.Contains(got.body, secret) || got.err != nil && strings.Contains(got.err.Error(), secret) {
			t.Errorf("%s: got %+v", ref, got)
		}
	}
	if got := b.run(t, exchange{mode: duplex, meta: decided(call.HTTP, cards), headers: jsonType, chunks: []string{`{"a":1}`}}); !got.ended || got.body != `{"a":1}` {
		t.Errorf("the next response: %+v", got)
	}
	b.quiet(t)
	if n := testutil.ToFloat64(b.server.cfg.Metrics.panics); n != 1 {
		t.Errorf("counted %v panics", n)
	}
}

// stalled is an analyzer that never answers.
type stalled struct{}

func (stalled) Analyze(ctx context.Context, _ []string) ([][]mask.Span, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// What never comes back holds no response for ever: it is withheld, and its row
// says why if it can.
func TestStalled(t *testing.T) {
	own := call.MaskRule{Name: "own", Detect: []string{"own@1"}}
	for name, adapt := range map[string]func(*Config){
		"analyzer": func(c *Config) { c.Detectors = known{mask.NewAnalyzed("own", stalled{})} },
		"recorder": func(c *Config) {
			own, err := mask.NewCustom(mask.Definition{Name: "own", Words: []string{secret}})
			if err != nil {
				t.Fatal(err)
			}
			c.Detectors = known{own}
			c.Recorder = &memory{wait: make(chan struct{})}
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := start(t, func(c *Config) { c.Timeout = time.Millisecond; adapt(c) })
			got := b.run(t, exchange{mode: duplex, meta: decided(call.HTTP, own), headers: jsonType, chunks: []string{`{"a":"` + secret + `"}`}})
			if got.immediate == nil || got.body != "" || strings.Contains(string(got.immediate.Body), secret) {
				t.Errorf("got %+v", got)
			}
			b.quiet(t)
			if name == "analyzer" {
				if a := b.one(t); !strings.Contains(a.Withheld, "masking.timeout") {
					t.Errorf("recorded %+v", a)
				}
			}
			if !strings.Contains(b.logs.String(), "masking.timeout") {
				t.Errorf("log %s", b.logs)
			}
		})
	}
}

func TestRecorderPanics(t *testing.T) {
	b := start(t)
	b.fail = func(int) error { panic("a fault that quotes " + secret) }
	got := b.run(t, exchange{mode: duplex, meta: decided(call.HTTP, cards), headers: jsonType, chunks: []string{"{}"}})
	if got.err == nil || got.messages != 0 {
		t.Errorf("got %+v", got)
	}
	meta := decided(call.HTTP, cards)
	meta.Record.Response = call.RecordAsync
	b.run(t, exchange{mode: duplex, meta: meta, headers: jsonType, chunks: []string{"{}"}})
	for range asyncRecords {
		b.server.async <- struct{}{}
	}
	b.quiet(t)
	if n := testutil.ToFloat64(b.server.cfg.Metrics.lost); n != 1 {
		t.Errorf("counted %v lost", n)
	}
}

// What describes the function's bytes goes also where there are none: of a HEAD
// or 304 answer it could tell what a GET would hide.
func TestHeadersAlone(t *testing.T) {
	b := start(t)
	got := b.run(t, exchange{mode: duplex, meta: decided(call.HTTP, cards), headers: append(jsonType, "content-encoding", "gzip"), headersEnd: true})
	if got.err != nil || !got.headers || !slices.Contains(got.removed, "etag") || !slices.Contains(got.removed, "content-length") || got.immediate != nil {
		t.Errorf("got %+v", got)
	}
	if got := b.steps.list(); got != "record, headers" {
		t.Errorf("order: %s", got)
	}
	if a := b.one(t); a.Status != 200 || a.Body.Length != 0 || a.Interrupted {
		t.Errorf("recorded %+v", a)
	}
}

// The body modes of an Envoy that somebody else configures.
func TestOtherModes(t *testing.T) {
	body := `{"card":"` + card + `"}`
	t.Run("buffered", func(t *testing.T) {
		b := start(t)
		got := b.run(t, exchange{mode: buffered, meta: decided(call.HTTP, cards), headers: jsonType, chunks: []string{body}})
		if got.err != nil || strings.Contains(got.body, card) || got.set["content-length"] != fmt.Sprint(len(got.body)) || got.body == "" {
			t.Errorf("got %+v", got)
		}
		if got := b.steps.list(); got != "headers, record, body" {
			t.Errorf("order: %s", got)
		}
		b.quiet(t)
	})
	t.Run("buffered, broken json", func(t *testing.T) {
		b := start(t)
		got := b.run(t, exchange{mode: buffered, meta: decided(call.HTTP, passwords), headers: jsonType, chunks: []string{`{"password":"` + secret}})
		if got.err == nil || got.body != "" {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("streamed", func(t *testing.T) {
		b := start(t)
		got := b.run(t, exchange{mode: streaming, meta: decided(call.HTTP, cards), headers: jsonType, chunks: []string{body[:20], body[20:]}})
		if got.err != nil || strings.Contains(got.body, card) || got.messages != 3 || !json.Valid([]byte(got.body)) {
			t.Errorf("got %+v", got)
		}
		if a := b.one(t); string(a.Body.Head) != got.body {
			t.Errorf("recorded %+v", a)
		}
	})
	t.Run("none, nothing to hide", func(t *testing.T) {
		b := start(t)
		if got := b.run(t, exchange{mode: nobody, meta: decided(call.HTTP), headers: jsonType}); got.err != nil || !got.headers {
			t.Errorf("got %+v", got)
		}
		b.one(t)
	})
}

// What is compiled for masks stays bounded, and works on after it was dropped.
func TestMaskers(t *testing.T) {
	m := maskers{hashKey: bytes.Repeat([]byte("k"), 32)}
	for i := range maxMaskers + 1 {
		meta := *decided(call.HTTP, call.MaskRule{Name: fmt.Sprint(i), Keys: []string{"k"}, How: "hash"})
		first, err := m.get(meta)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := m.get(meta); again != first || err != nil {
			t.Fatalf("compiled twice: %v", err)
		}
		if len(m.kept) > maxMaskers {
			t.Fatalf("%d are kept", len(m.kept))
		}
	}
	// A path means the same for a tool as for REST, so the two differ.
	rest, err := m.get(*decided(call.HTTP, passwords))
	if err != nil {
		t.Fatal(err)
	}
	if tool, err := m.get(*decided(call.MCP, passwords)); err != nil || tool == rest {
		t.Errorf("one masker for two protocols, %v", err)
	}
}

// A path names what a JSON-RPC server says, wherever in a message it says it.
func TestMaskedMessages(t *testing.T) {
	for _, p := range []call.Protocol{call.MCP, call.JSONRPC} {
		m := maskers{}
		masker, err := m.get(*decided(p, call.MaskRule{Name: "path", Paths: []string{"customer.card"}}))
		if err != nil {
			t.Fatal(err)
		}
		for _, message := range []string{
			`{"id":1,"result":{"customer":{"card":"x"}}}`, `{"id":1,"result":{"structuredContent":{"customer":{"card":"x"}}}}`,
			`{"id":1,"result":{"content":[{"type":"text","text":"{\"customer\":{\"card\":\"x\"}}"}]}}`,
			`{"id":1,"error":{"code":1,"message":"m","data":{"customer":{"card":"x"}}}}`,
			`{"method":"notifications/message","params":{"level":"info","data":{"customer":{"card":"x"}}}}`, `{"method":"told","params":{"customer":{"card":"x"}}}`,
		} {
			if out, found, err := masker.JSON([]byte(message)); err != nil || len(found) != 1 || !strings.Contains(string(out), "[redacted]") {
				t.Errorf("%s: %s became %s, %v", p, message, out, err)
			}
		}
	}
}

// Whatever comes, hidden values don't leave, however it is cut into chunks.
func FuzzHTTP(f *testing.F) {
	f.Add("application/json", []byte(`{"password":"x","a":["`+card+`"]}`), uint8(5))
	f.Add("text/event-stream", []byte("data: {\"password\":\"x\"}\n\ndata: "+card+"\r\r"), uint8(1))
	f.Add("application/x-ndjson", []byte("{}\n{\"a\":\""+card+"\"}"), uint8(3))
	f.Add("text/plain; charset=utf-8", []byte("password: x"), uint8(2))
	m := maskers{hashKey: bytes.Repeat([]byte("k"), 32)}
	meta := *decided(call.HTTP, cards, passwords)
	f.Fuzz(func(t *testing.T, contentType string, body []byte, step uint8) {
		masker, err := m.get(meta)
		if err != nil {
			t.Fatal(err)
		}
		through := func(size int) (string, error) {
			fl, err := shape{masker: masker, meta: meta, headers: call.Headers{{Name: "content-type", Value: contentType}}, ends: func(stop func()) { t.Cleanup(stop) }, limits: mask.Limits{LookBehind: 1 << 10, Whole: 1 << 16}}.flow()
			if err != nil {
				return "", err
			}
			var out []byte
			for rest := body; len(rest) > 0; {
				n := min(len(rest), size)
				p, err := fl.write(rest[:n])
				if err != nil {
					return "", err
				}
				out, rest = append(out, p...), rest[n:]
			}
			p, err := fl.close()
			return string(append(out, p...)), err
		}
		whole, err := through(len(body) + 1)
		cut, cutErr := through(int(step) + 1)
		if (err == nil) != (cutErr == nil) || err == nil && whole != cut {
			t.Fatalf("whole %q, %v; in pieces %q, %v", whole, err, cut, cutErr)
		}
	})
}
