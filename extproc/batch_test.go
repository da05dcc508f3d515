package extproc

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"
	extprocfilterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/call/protocol"
	"github.com/callgate/callgate/extproc/sealed"
)

// part is one call of a batch: its text, its mask, and whether it is denied.
type part struct {
	id     string // JSON
	name   string
	denied bool
	mask   int
}

var (
	getCards = part{id: "1", name: "get", mask: 1}
	findPass = part{id: `"1"`, name: "find", mask: 2}
	dropped  = part{id: "2", name: "drop", denied: true}
	notice   = part{name: "note"}
)

func (p part) text() string { return fmt.Sprintf(`{"method":%q,"id":%s}`, p.name, p.id) }

func callID(i int) call.ID {
	id := someID
	id[15] = byte(0x80 + i)
	return id
}

// batchOf is what the decision about a batch leaves, and its body.
func batchOf(parts ...part) (*call.Metadata, string) {
	m := decided(call.JSONRPC)
	m.Function, m.RPCID = "", ""
	m.Batch = &call.Batch{Masks: []call.Mask{{Rules: []call.MaskRule{cards}}, {Rules: []call.MaskRule{passwords}}}}
	body := "[ "
	for i, p := range parts {
		if i > 0 {
			body += " , "
		}
		c := call.BatchCall{CallID: callID(i), Function: p.name, RPCID: p.id, Mask: p.mask, Start: len(body)}
		body += p.text()
		c.End = len(body)
		if p.denied {
			m.Batch.Edit = true
			c.Denied = &call.Decision{Outcome: call.Deny, Reason: call.ReasonRule, Message: "not this"}
		}
		m.Batch.Calls = append(m.Batch.Calls, c)
	}
	body += "]"
	sum := sha256.Sum256([]byte(body))
	m.CallID, m.Batch.SHA256 = callID(0), hex.EncodeToString(sum[:])
	return m, body
}

// passage is a request and its response on one stream, as Envoy sends them.
type passage struct {
	exchange
	requestMode extprocfilterv3.ProcessingMode_BodySendMode
	requestHead []string // pairs
	requestBody string   // "": the headers end it
}

// through plays a passage. body is what the function gets, and req the answer
// about it.
func (b *bench) through(t testing.TB, p passage) (body string, req *extprocv3.CommonResponse, out result) {
	t.Helper()
	stream, err := b.client.Process(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	rest := p.exchange.requests(t)
	ask := func(m *extprocv3.ProcessingRequest) *extprocv3.ProcessingResponse {
		t.Helper()
		m.MetadataContext = rest[0].MetadataContext
		if err := stream.Send(m); err != nil {
			t.Fatal(err)
		}
		answer, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if now := answer.GetImmediateResponse(); now != nil {
			out.immediate = now
		}
		return answer
	}
	ask(&extprocv3.ProcessingRequest{
		ProtocolConfig: &extprocv3.ProtocolConfiguration{RequestBodyMode: p.requestMode, ResponseBodyMode: p.mode},
		Request: &extprocv3.ProcessingRequest_RequestHeaders{RequestHeaders: &extprocv3.HttpHeaders{
			Headers: headerMap(append([]string{":method", "POST"}, p.requestHead...)...), EndOfStream: p.requestBody == ""}},
	})
	body = p.requestBody
	if out.immediate == nil && body != "" && p.requestMode == buffered {
		req = ask(&extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_RequestBody{
			RequestBody: &extprocv3.HttpBody{Body: []byte(body), EndOfStream: true}}}).GetRequestBody().GetResponse()
		if m := req.GetBodyMutation(); m != nil {
			body = string(m.GetBody())
		}
	}
	if out.immediate != nil {
		return "", nil, out
	}
	rest[0].ProtocolConfig = nil // the first message of a stream has it
	for _, m := range rest {
		if err := stream.Send(m); err != nil {
			break
		}
	}
	_ = stream.CloseSend()
	for {
		m, err := stream.Recv()
		if err != nil {
			if err.Error() != "EOF" {
				out.err = err
			}
			return body, req, out
		}
		out.take(t, m)
	}
}

// passageOf is a batch on its way, whose function answers with these chunks.
func passageOf(m *call.Metadata, body string, chunks ...string) passage {
	return passage{exchange: exchange{mode: duplex, meta: m, headers: jsonType, chunks: chunks}, requestMode: buffered, requestBody: body,
		requestHead: []string{"content-length", fmt.Sprint(len(body)), "content-digest", "x"}}
}

// answers are the recorded events, by call.
func (b *bench) answers(t testing.TB) map[call.ID]*call.AnsweredEvent {
	t.Helper()
	b.stop()
	b.mu.Lock()
	defer b.mu.Unlock()
	out := map[call.ID]*call.AnsweredEvent{}
	for _, e := range b.events {
		if out[e.CallID] != nil || e.Kind != call.Answered {
			t.Errorf("a second event of %s", e.CallID)
		}
		out[e.CallID] = e.Answered
	}
	return out
}

func result1(id, more string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":{"card":"%s","password":"%s"%s}}`, id, card, secret, more)
}

// idsOf are the ids that a body answers, in its order.
func idsOf(t testing.TB, body string) string {
	t.Helper()
	var list []struct {
		ID    json.RawMessage
		Error *struct{ Data struct{ Reason string } }
	}
	if err := json.Unmarshal([]byte(body), &list); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	var ids []string
	for _, m := range list {
		id := string(m.ID)
		if m.Error != nil && m.Error.Data.Reason != "" {
			id += "!"
		}
		ids = append(ids, id)
	}
	return strings.Join(ids, " ")
}

// The function gets the allowed calls and each caller its answer, masked as its
// call says; all is recorded before any of it leaves.
func TestBatch(t *testing.T) {
	m, body := batchOf(getCards, dropped, findPass, notice)
	for _, mode := range []extprocfilterv3.ProcessingMode_BodySendMode{duplex, buffered, streaming} {
		b := start(t)
		p := passageOf(m, body, "["+result1(`"1"`, "")[:30], result1(`"1"`, "")[30:]+" ,\n"+result1("1", "")+"]")
		p.mode = mode
		if mode == buffered {
			p.chunks = []string{strings.Join(p.chunks, "")}
		}
		got, req, out := b.through(t, p)
		want := "[" + getCards.text() + "," + findPass.text() + "," + notice.text() + "]"
		set := req.GetHeaderMutation().GetSetHeaders()
		if got != want || len(set) != 1 || string(set[0].Header.RawValue) != fmt.Sprint(len(want)) || !slices.Contains(req.GetHeaderMutation().GetRemoveHeaders(), "content-digest") {
			t.Errorf("the function gets %s with %v", got, req.GetHeaderMutation())
		}
		if ids := idsOf(t, out.body); ids != `"1" 1 2!` || out.err != nil {
			t.Fatalf("mode %s: %s %v: %s", mode, ids, out.err, out.body)
		}
		var list []struct {
			Result struct{ Card, Password string }
		}
		if err := json.Unmarshal([]byte(out.body), &list); err != nil {
			t.Fatal(err)
		}
		if find, get := list[0].Result, list[1].Result; find.Card != card || find.Password == secret || get.Card == card || get.Password != secret {
			t.Errorf("%s", out.body)
		}
		if mode != streaming && !strings.HasPrefix(b.steps.list(), "other, other, record, record, record, headers") && mode == duplex {
			t.Errorf("steps: %s", b.steps.list())
		}
		events := b.answers(t)
		get, find, note := events[callID(0)], events[callID(2)], events[callID(3)]
		if len(events) != 3 || get == nil || find == nil || note == nil {
			t.Fatalf("events of %d calls", len(events))
		}
		if text := string(get.Body.Head); strings.Contains(text, card) || !strings.Contains(text, secret) || get.RPCStatus == nil || get.RPCStatus.Code != 0 || len(get.Masked) != 1 || get.Masked[0].Rule != "cards" || strings.HasPrefix(text, "[") {
			t.Errorf("get: %s %+v", text, get)
		}
		if text := string(find.Body.Head); !strings.Contains(text, card) || strings.Contains(text, secret) || find.Masked[0].Rule != "passwords" {
			t.Errorf("find: %s %+v", text, find)
		}
		if note.Body.Length != 0 || note.RPCStatus != nil {
			t.Errorf("note: %+v", note)
		}
	}
}

// What a function may answer to a batch, and what its caller gets of it.
func TestBatchAnswers(t *testing.T) {
	plain := func(id string) string { return fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":1}`, id) }
	for name, tt := range map[string]struct {
		body string
		want string // ids in the answer; "!" and what is recorded of a response that is withheld
		lost string // ids of calls without an answer of their own
	}{
		"in order":                   {"[" + plain("1") + "," + plain(`"1"`) + "]", `1 "1" 2!`, ""},
		"the other way":              {"[" + plain(`"1"`) + "," + plain("1") + "]", `"1" 1 2!`, ""},
		"an id as another number":    {"[" + plain("1.0") + "]", `1.0 2!`, `"1"`},
		"an id with escapes":         {"[" + plain(`"\u0031"`) + "]", `"\u0031" 2!`, `1`},
		"only one":                   {"[" + plain("1") + "]", `1 2!`, `"1"`},
		"one without a list":         {plain("1"), `1 2!`, `"1"`},
		"none":                       {"[]", `2!`, `1 "1"`},
		"an answer to a denied call": {"[" + plain("2") + "," + plain("1") + "]", `1 2!`, `"1"`},
		"to nothing":                 {"[" + plain("99") + "," + plain("1") + "]", `1 2!`, `"1"`},
		"to nobody":                  {"[" + plain("null") + "," + plain("1") + "]", `1 2!`, `"1"`},
		"twice":                      {"[" + plain("1") + "," + plain("1") + "]", `1 2!`, `"1"`},
		"twice, spelt otherwise":     {"[" + plain("1") + "," + plain("1.0") + "]", `1 2!`, `"1"`},
		"an error for all":           {`{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"what?"}}`, `null 2!`, ""},
		"two ids":                    {`[{"jsonrpc":"2.0","id":1,"id":"1","result":1}]`, "!more than once", ""},
		"two ids by case":            {`[{"jsonrpc":"2.0","id":1,"Id":"1","result":1}]`, "!another case", ""},
		"a list in it":               {"[[" + plain("1") + "]]", "!no JSON-RPC message", ""},
		"no JSON":                    {"[" + plain("1"), "!not a JSON document", ""},
		"text":                       {"hello", "!not a JSON document", ""},
	} {
		t.Run(name, func(t *testing.T) {
			b := start(t)
			m, body := batchOf(getCards, dropped, findPass)
			_, _, out := b.through(t, passageOf(m, body, tt.body))
			events := b.answers(t)
			if says, withheld := strings.CutPrefix(tt.want, "!"); withheld {
				if out.immediate == nil || idsOf(t, string(out.immediate.Body)) != `1! 2! "1"!` || !strings.Contains(events[callID(0)].Withheld, says) || !strings.Contains(events[callID(2)].Withheld, says) {
					t.Errorf("%v %+v", out.immediate, events[callID(0)])
				}
				return
			}
			if ids := idsOf(t, out.body); ids != tt.want || len(events) != 2 {
				t.Errorf("%s, want %s", ids, tt.want)
			}
			var lost []string
			for i, id := range map[int]string{0: "1", 2: `"1"`} {
				if events[callID(i)].RPCStatus == nil {
					lost = append(lost, id)
				}
			}
			slices.Sort(lost)
			slices.Reverse(lost) // texts sort before numbers
			if got := strings.Join(lost, " "); got != tt.lost {
				t.Errorf("without an answer: %s, want %s", got, tt.lost)
			}
		})
	}
}

// The same over a stream of events: denied calls come first, and what the
// function says goes on as it comes, wherever it is cut.
func TestBatchEvents(t *testing.T) {
	m, body := batchOf(getCards, dropped, findPass)
	text := ": hi " + card + "\r\nevent: message\r\nid: e1\r\ndata: " + result1("1", "") + "\r\n\r\n" +
		"data: {\"jsonrpc\":\"2.0\",\"method\":\"progress\",\"params\":{\"password\":\"" + secret + "\"}}\n\n" +
		"data:\n\n" +
		"data: [" + result1(`"1"`, "") + ",\ndata: " + result1("99", "") + "]\r\r" +
		"data: " + result1("1", `,"again":1`) + "\n\n" +
		"data: cut off"
	for _, size := range []int{len(text), 1, 7} {
		b := start(t)
		p := passageOf(m, body)
		p.headers = []string{"content-type", "text/event-stream; charset=utf-8"}
		for rest := text; rest != ""; rest = rest[min(size, len(rest)):] {
			p.chunks = append(p.chunks, rest[:min(size, len(rest))])
		}
		_, _, out := b.through(t, p)
		var data []string
		for line := range strings.SplitSeq(out.body, "\n") {
			if d, ok := strings.CutPrefix(line, "data: "); ok {
				data = append(data, d)
			}
		}
		if len(data) != 5 || !strings.Contains(data[0], "not this") || strings.Contains(data[1], card) || !strings.Contains(data[1], secret) ||
			!strings.Contains(data[2], "progress") || strings.Contains(data[2], secret) || data[3] != "" || !strings.HasPrefix(data[4], "[") || !strings.Contains(data[4], card) || strings.Contains(data[4], secret) || strings.Contains(data[4], "99") {
			t.Fatalf("chunks of %d: %q", size, out.body)
		}
		if !out.ended || strings.Contains(out.body, "hi "+card) || !strings.Contains(out.body, "id: e1") || strings.Contains(out.body, "again") {
			t.Errorf("%q", out.body)
		}
		events := b.answers(t)
		if e := events[callID(0)]; len(events) != 2 || e.RPCStatus == nil || strings.Contains(string(e.Body.Head), card) || !strings.Contains(string(e.Body.Head), "progress") {
			t.Errorf("%+v", e)
		}
	}
}

// Where the answer has no place for what denied calls are owed, they get it all
// the same; where none is owed anything the answer stays as it is.
func TestBatchWithoutBody(t *testing.T) {
	for _, end := range []bool{true, false} {
		m, body := batchOf(notice, dropped)
		b := start(t)
		p := passageOf(m, body, "")
		p.status, p.headers, p.headersEnd = "202", []string{"mcp-session-id", "s"}, end
		if end {
			p.chunks = nil
		}
		_, _, out := b.through(t, p)
		if out.immediate == nil || out.immediate.Status.Code != 200 || idsOf(t, string(out.immediate.Body)) != "2!" || !strings.Contains(out.immediate.Headers.String(), "mcp-session-id") {
			t.Errorf("end %t: %v", end, out.immediate)
		}
		if e := b.answers(t)[callID(0)]; e == nil || e.Status != 202 || e.Withheld != "" {
			t.Errorf("end %t: %+v", end, e)
		}
		m, body = batchOf(notice, notice)
		b = start(t)
		p.meta, p.requestBody, p.exchange.meta = m, body, m
		if _, _, out = b.through(t, p); out.immediate != nil || out.body != "" || !out.headers || len(b.answers(t)) != 2 {
			t.Errorf("end %t: %v", end, out)
		}
	}
}

// What must not pass: a request that is not the one that was judged, and a
// response that can't be told apart.
func TestBatchWithheld(t *testing.T) {
	m, body := batchOf(getCards, dropped)
	other := func(change func(*call.Batch)) *call.Metadata {
		m, _ := batchOf(getCards, dropped)
		change(m.Batch)
		return m
	}
	ok := "[" + result1("1", "") + "]"
	for name, tt := range map[string]struct {
		passage passage
		says    string
		called  bool // the function was reached all the same
	}{
		"another body":        {passageOf(m, strings.Replace(body, "get", "GET", 1), ok), "not the one that was judged", false},
		"a longer body":       {passageOf(m, body+" ", ok), "not the one that was judged", false},
		"no body":             {passageOf(m, "", ok), "and this has none", false},
		"no hash":             {passageOf(other(func(b *call.Batch) { b.SHA256 = "" }), body, ok), "not the one that was judged", false},
		"places that cross":   {passageOf(other(func(b *call.Batch) { b.Calls[0].End = 1 }), body, ok), "does not stand in the batch", false},
		"places beyond":       {passageOf(other(func(b *call.Batch) { b.Calls[0].End = 999 }), body, ok), "does not stand in the batch", false},
		"places before":       {passageOf(other(func(b *call.Batch) { b.Calls[0].Start = -1 }), body, ok), "does not stand in the batch", false},
		"nothing allowed":     {passageOf(other(func(b *call.Batch) { b.Calls = b.Calls[1:] }), body, ok), "no call of the batch", false},
		"a body in parts":     {func() passage { p := passageOf(m, body, ok); p.requestMode = streaming; return p }(), "does not hand the request body over", false},
		"request body unsent": {func() passage { p := passageOf(m, body, ok); p.requestMode = nobody; return p }(), "does not hand the request body over", false},
		"response unsent":     {func() passage { p := passageOf(m, body); p.mode, p.chunks = nobody, []string{}; return p }(), "does not send the response body", true},
		"encoded": {func() passage {
			p := passageOf(m, body, ok)
			p.headers = append([]string{"content-encoding", "gzip"}, jsonType...)
			return p
		}(), "is not what content-encoding gzip says", true},
		"another charset": {func() passage {
			p := passageOf(m, body, ok)
			p.headers = []string{"content-type", "application/json; charset=utf-16"}
			return p
		}(), "charset", true},
		"a page": {func() passage {
			p := passageOf(m, body, ok)
			p.headers = []string{"content-type", "text/html"}
			return p
		}(), "can't be told apart", true},
		"two types": {func() passage {
			p := passageOf(m, body, ok)
			p.headers = append([]string{"content-type", "text/html"}, jsonType...)
			return p
		}(), "no content-type that can be read", true},
		"too long": {passageOf(m, body, "["+strings.Repeat(" ", 1<<20)+"]"), "can't be held", true},
	} {
		t.Run(name, func(t *testing.T) {
			b := start(t)
			got, _, out := b.through(t, tt.passage)
			if out.immediate == nil || out.body != "" || (got != "") != tt.called || strings.Contains(string(out.immediate.Body), card) {
				t.Fatalf("the function got %q, the caller %v %q", got, out.immediate, out.body)
			}
			events := b.answers(t)
			for id, e := range events {
				if !strings.Contains(e.Withheld, tt.says) || e.Body.Length != 0 {
					t.Errorf("%s: %+v, want %s", id, e, tt.says)
				}
			}
			if len(events) != 1 && name != "nothing allowed" {
				t.Errorf("%d events", len(events))
			}
		})
	}
}

// An Envoy whose route says that it hands requests over, and does not: that is
// too late to stop, and the response does not pass, loudly.
func TestBatchNotEdited(t *testing.T) {
	b := start(t)
	m, _ := batchOf(getCards, dropped)
	out := b.run(t, exchange{mode: duplex, meta: m, headers: jsonType, chunks: []string{"[" + result1("1", "") + "]"}})
	if out.immediate == nil || !strings.Contains(b.logs.String(), "a function got a batch with calls that are denied") {
		t.Errorf("%+v %s", out, b.logs)
	}
}

// A request that nobody decided does not pass a route that edits batches; others
// go as they did.
func TestRequestUndecided(t *testing.T) {
	for _, mode := range []extprocfilterv3.ProcessingMode_BodySendMode{buffered, nobody} {
		b := start(t)
		body, _, out := b.through(t, passage{exchange: exchange{mode: duplex, headers: jsonType, chunks: []string{"{}"}}, requestMode: mode, requestBody: "[]"})
		if (mode == buffered) != (body == "") || out.immediate == nil {
			t.Errorf("mode %s: %q %v", mode, body, out.immediate)
		}
	}
	// A single call passes such a route untouched.
	b := start(t)
	body, req, out := b.through(t, passage{exchange: exchange{mode: duplex, meta: decided(call.MCP, cards), headers: jsonType, chunks: []string{result1("7", "")}}, requestMode: buffered, requestBody: `{"id":7}`})
	if body != `{"id":7}` || req.GetHeaderMutation() != nil || req.GetBodyMutation() != nil || strings.Contains(out.body, card) {
		t.Errorf("%q %v %q", body, req, out.body)
	}
	b.one(t)
}

// Nothing of an answer leaves before the records of all calls are on disk.
func TestBatchUnrecorded(t *testing.T) {
	for which := range 2 {
		b := start(t)
		b.fail = func(n int) error {
			if n == which {
				return errors.New("disk full")
			}
			return nil
		}
		m, body := batchOf(getCards, findPass)
		_, _, out := b.through(t, passageOf(m, body, "["+result1("1", "")+"]"))
		if out.immediate == nil || out.headers || idsOf(t, string(out.immediate.Body)) != `1! "1"!` {
			t.Errorf("%+v", out)
		}
		if n := len(b.answers(t)); n != 2 {
			t.Errorf("%d events", n) // the one that failed is tried again, to tell of what happened
		}
	}
}

// A response that breaks off is recorded as that for each call.
func TestBatchInterrupted(t *testing.T) {
	b := start(t)
	m, body := batchOf(getCards, findPass)
	p := passageOf(m, body, "data: "+result1("1", "")+"\n\n", "data: ")
	p.headers, p.broken = []string{"content-type", "text/event-stream"}, true
	b.through(t, p)
	events := b.answers(t)
	if len(events) != 2 || !events[callID(0)].Interrupted || !events[callID(1)].Interrupted || events[callID(0)].RPCStatus == nil || events[callID(1)].RPCStatus != nil {
		t.Errorf("%+v", events)
	}
}

// A tool that the caller may not call is not in a list that comes in a batch.
func TestBatchListing(t *testing.T) {
	b := start(t, func(c *Config) { c.Visible = some{} })
	m, body := batchOf(part{id: "1", name: "tools/list"}, part{id: "2", name: "tools/call x"})
	m.Protocol, m.Caller = call.MCP, &call.Identity{Subject: "ann"}
	list := func(more string) string {
		return `{"jsonrpc":"2.0",` + more + `"result":{"tools":[{"name":"good"},{"name":"bad"}]}}`
	}
	_, _, out := b.through(t, passageOf(m, body, "["+list(`"id":1,`)+","+list(`"id":2,`)+","+list(`"method":"x",`)+"]"))
	if strings.Contains(out.body, "bad") || strings.Count(out.body, "good") != 3 {
		t.Errorf("%s", out.body)
	}
}

// An error page is about all calls alike.
func TestBatchErrorPage(t *testing.T) {
	b := start(t)
	m, body := batchOf(getCards, findPass)
	p := passageOf(m, body, "no "+card)
	p.status, p.headers = "503", []string{"content-type", "text/plain"}
	_, _, out := b.through(t, p)
	events := b.answers(t)
	if strings.Contains(out.body, card) || len(events) != 2 || events[callID(0)].Status != 503 || string(events[callID(0)].Body.Head) != out.body || string(events[callID(1)].Body.Head) != out.body {
		t.Errorf("%q %+v", out.body, events[callID(0)])
	}
	// So are Envoy's own words.
	b = start(t)
	p.details = "upstream_reset"
	if _, _, out = b.through(t, p); len(b.answers(t)) != 2 || out.body != "no "+card {
		t.Errorf("%q", out.body)
	}
}

// Each call keeps its own part as the function sent it, and no other's; an answer
// in a content encoding is decoded.
func TestBatchOriginals(t *testing.T) {
	release, err := sealed.NewReleaseKey()
	if err != nil {
		t.Fatal(err)
	}
	investigator, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	b := start(t)
	b.server.cfg.Sealer = release
	m, body := batchOf(getCards, findPass, part{id: "3", name: "plain"})
	m.Record.Originals = []string{investigator.Recipient().String()}
	get, find, plain := result1("1", ""), result1(`"1"`, ""), result1("3", "")
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	fmt.Fprintf(z, "[%s,%s,%s]", find, plain, get)
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	p := passageOf(m, body, packed.String())
	p.headers = append([]string{"content-encoding", "gzip"}, jsonType...)
	if _, _, out := b.through(t, p); idsOf(t, out.body) != `"1" 3 1` || !slices.Contains(out.removed, "content-encoding") {
		t.Errorf("%+v", out)
	}
	events := b.answers(t)
	for i, want := range []string{get, find, ""} {
		o := events[callID(i)].Original
		if (o != nil) != (want != "") {
			t.Fatalf("call %d: %+v", i, o)
		}
		if o == nil {
			continue
		}
		inner, err := release.Release(o.Sealed, callID(i).String())
		if err != nil {
			t.Fatal(err)
		}
		if got, err := sealed.Open(inner, strings.NewReader(investigator.String()), callID(i).String(), o.Commitment); err != nil || string(got.Body) != want {
			t.Errorf("call %d: %s, %v", i, got.Body, err)
		}
	}
}

// Whatever a function answers, an answer that leaves is one to a call that was
// asked, and the only one.
func FuzzBatchAnswer(f *testing.F) {
	f.Add("["+result1("1", "")+"]", false)
	f.Add("["+result1("2", "")+","+result1("1", "")+","+result1("1", "")+"]", false)
	f.Add(result1("9", ""), false)
	f.Add("data: "+result1("1", "")+"\n\ndata:\r\rid: x\n\n", true)
	f.Add(`{"id":null,"error":{}}`, false)
	srv := New(Config{HashKey: []byte(strings.Repeat("k", 32)), Metrics: NewMetrics(prometheus.NewRegistry()), Log: slog.New(slog.DiscardHandler)})
	f.Fuzz(func(t *testing.T, text string, stream bool) {
		m, _ := batchOf(getCards, dropped)
		b, err := srv.newBatch(t.Context(), *m)
		if err != nil {
			t.Fatal(err)
		}
		var fl flow = &batchDocument{b: b, limit: 1 << 20}
		if stream {
			fl = &batchEvents{b: b, limit: 1 << 20}
		}
		out, err := fl.write([]byte(text))
		if err != nil {
			return
		}
		rest, err := fl.close()
		if err != nil {
			return
		}
		out = append(out, rest...)
		docs := []string{string(out)}
		if stream {
			docs = nil
			for line := range strings.SplitSeq(string(out), "\n") {
				if d, ok := strings.CutPrefix(line, "data: "); ok && strings.TrimSpace(d) != "" {
					docs = append(docs, d)
				}
			}
		}
		seen := map[string]int{}
		for _, d := range docs {
			list, _, err := protocol.Replies([]byte(d))
			if err != nil {
				t.Fatalf("%v: %q", err, d)
			}
			for _, r := range list {
				if r.Answers && !(r.ID == "" && r.Failed) {
					seen[r.ID]++
				}
			}
		}
		if seen["1"] > 1 || seen["2"] != 1 || len(seen) > 2 || len(seen) == 2 && seen["1"] == 0 {
			t.Errorf("%q answers %v", out, seen)
		}
	})
}

// Headers of an answer belong to all calls of a batch, so what any of them hides
// is hidden there.
func TestBatchHeaders(t *testing.T) {
	m, body := batchOf(getCards, findPass)
	b := start(t)
	p := passageOf(m, body, "["+result1(`"1"`, "")+","+result1("1", "")+"]")
	p.headers = append([]string{"x-customer", "card " + card}, jsonType...)
	_, _, out := b.through(t, p)
	if got := out.set["x-customer"]; got == "" || strings.Contains(got, card) {
		t.Errorf("the caller gets %q: %+v", got, out)
	}
	for _, a := range b.answers(t) {
		if !slices.ContainsFunc(a.Masked, func(m call.Masked) bool { return m.Path == "header.x-customer" && m.Type == "card" }) {
			t.Errorf("recorded as %+v", a.Masked)
		}
	}
}
