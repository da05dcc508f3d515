package protocol

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/callgate/callgate/call"
)

// told runs a body through an Outcome in pieces of the given size and says what
// it found.
func told(meta call.Metadata, contentType, body string, size int, trailers ...string) string {
	o := NewOutcome(meta, call.Headers{{Name: "content-type", Value: contentType}})
	for rest := body; rest != ""; {
		n := min(size, len(rest))
		o.Write([]byte(rest[:n]))
		rest = rest[n:]
	}
	var t call.Headers
	for i := 0; i+1 < len(trailers); i += 2 {
		t = append(t, call.Header{Name: trailers[i], Value: trailers[i+1]})
	}
	s, tool := o.Result(t)
	out := "-"
	if s != nil {
		out = fmt.Sprintf("%d %s", s.Code, s.Message)
	}
	if tool != nil {
		out += fmt.Sprintf(" tool=%t", *tool)
	}
	return strings.TrimSpace(out)
}

func TestOutcome(t *testing.T) {
	const sse, plain = "text/event-stream; charset=utf-8", "application/json"
	answer := `{"jsonrpc":"2.0","id":7,"result":{"content":[{"type":"text","text":"{\"isError\":true}"}],"isError":true}}`
	for name, tt := range map[string]struct{ function, id, contentType, body, want string }{
		"tool error":           {"tools/call x", "7", plain, answer, "0  tool=true"},
		"tool fine":            {"tools/call x", "7", plain, `{"id":7,"result":{"content":[],"isError":false}}`, "0  tool=false"},
		"tool says nothing":    {"tools/call x", "7", plain, `{"id":7,"result":{"content":[]}}`, "0  tool=false"},
		"tool isError a text":  {"tools/call x", "7", plain, `{"id":7,"result":{"isError":"true"}}`, "0  tool=false"},
		"isError deeper":       {"tools/call x", "7", plain, `{"id":7,"result":{"a":{"isError":true},"b":[{"isError":true}]}}`, "0  tool=false"},
		"isError beside":       {"tools/call x", "7", plain, `{"id":7,"isError":true,"result":{}}`, "0  tool=false"},
		"no tool":              {"tools/list", "7", plain, `{"id":7,"result":{"isError":true}}`, "0"},
		"result no object":     {"eth_call", "7", plain, `{"id":7,"result":"0x1"}`, "0"},
		"result null":          {"eth_call", "7", plain, `{"id":7,"result":null}`, "0"},
		"result null, error":   {"eth_call", "7", plain, `{"id":7,"result":null,"error":{"code":-1,"message":"no"}}`, "-1 no"},
		"result, error null":   {"eth_call", "7", plain, `{"id":7,"error":null,"result":1}`, "0"},
		"error":                {"eth_call", "7", plain, `{"error":{"message":"n\u006f","data":{"code":1},"code":-32602},"id":7}`, "-32602 no"},
		"error a text":         {"eth_call", "7", plain, `{"error":"x","id":7}`, "-32603"},
		"error for nobody":     {"eth_call", "7", plain, `{"error":{"code":-32700,"message":"parse"},"id":null}`, "-32700 parse"},
		"error, huge code":     {"eth_call", "7", plain, `{"error":{"code":1e99,"message":1},"id":7}`, "-32603"},
		"other id":             {"eth_call", "7", plain, `{"id":8,"result":1}`, "-"},
		"id as text":           {"eth_call", "7", plain, `{"id":"7","result":1}`, "-"},
		"id as fraction":       {"eth_call", "7", plain, `{"id":7.0,"result":1}`, "0"},
		"id escaped":           {"eth_call", `"a"`, plain, `{"id":"\u0061","result":1}`, "0"},
		"id in the result":     {"eth_call", "7", plain, `{"result":{"id":7},"id":8}`, "-"},
		"request":              {"eth_call", "7", plain, `{"id":7,"method":"x","result":1}`, "-"},
		"notification":         {"eth_call", "", plain, `{"id":7,"result":1}`, "-"},
		"list":                 {"eth_call", "7", plain, `[{"id":7,"result":1}]`, "-"},
		"cut":                  {"eth_call", "7", plain, `{"id":7,"result":1`, "-"},
		"no json":              {"eth_call", "7", plain, `<html>}{"id":7}`, "-"},
		"second message":       {"eth_call", "7", plain, `{"id":8,"result":1}{"id":7,"result":1}`, "-"},
		"long text":            {"tools/call x", "7", plain, `{"id":7,"result":{"t":"` + strings.Repeat(`\"`, 10_000) + `","isError":true}}`, "0  tool=true"},
		"long key":             {"tools/call x", "7", plain, `{"id":7,"result":{"` + strings.Repeat("isError", 1000) + `":1,"isError":true}}`, "0  tool=true"},
		"braces in a text":     {"tools/call x", "7", plain, `{"id":7,"result":{"t":"}}]\\\"}","u":{"t":"}]\\"},"isError":true}}`, "0  tool=true"},
		"escapes in a text":    {"tools/call x", "7", plain, `{"id":7,"result":{"u":{"t":"a\nb"},"isError":true}}`, "0  tool=true"},
		"event, mixed ends":    {"tools/call x", "7", sse, "data: {\"broken\r\n\ndata: " + answer + "\n\n", "0  tool=true"},
		"event":                {"tools/call x", "7", sse, "event: message\nid: 1\ndata: " + answer + "\n\n", "0  tool=true"},
		"event, no space":      {"tools/call x", "7", sse, "data:" + answer + "\n\n", "0  tool=true"},
		"event, CRLF":          {"tools/call x", "7", sse, ": hi\r\n\r\ndata: " + answer + "\r\n\r\n", "0  tool=true"},
		"event, CR":            {"tools/call x", "7", sse, "data: {}\r\rdata: " + answer + "\r\r", "0  tool=true"},
		"event, mark":          {"tools/call x", "7", sse, "\uFEFFdata: " + answer + "\n\n", "0  tool=true"},
		"event in lines":       {"tools/call x", "7", sse, "data: {\"id\":7,\ndata: \"result\":\ndata: {}}\n\n", "0  tool=false"},
		"event unended":        {"tools/call x", "7", sse, "data: " + answer, "0  tool=true"},
		"event after others":   {"tools/call x", "7", sse, "data: {\"method\":\"a\",\"id\":7}\n\ndata: {\"id\":6,\"result\":{}}\n\ndata: {\"broken\n\ndata: " + answer + "\n\n", "0  tool=true"},
		"event of another":     {"tools/call x", "7", sse, "data: {\"id\":8,\"result\":{}}\n\n", "-"},
		"event, error, no id":  {"tools/call x", "7", sse, "data: {\"error\":{\"code\":1,\"message\":\"x\"}}\n\n", "-"},
		"comment with data":    {"tools/call x", "7", sse, ":data: " + answer + "\nxdata: " + answer + "\ndatadata: " + answer + "\n\n", "-"},
		"encoded":              {"tools/call x", "7", plain, "\x1f\x8b\x08\x00\x00", "-"},
		"unreadable type":      {"tools/call x", "7", ";;", answer, "0  tool=true"},
		"error of a tool call": {"tools/call x", "7", plain, `{"id":7,"error":{"code":-32602,"message":"no such tool"}}`, "-32602 no such tool"},
	} {
		t.Run(name, func(t *testing.T) {
			meta := call.Metadata{Protocol: call.MCP, Function: tt.function, RPCID: tt.id}
			for _, size := range []int{1, 2, 3, 7, 1 << 20} {
				if got := told(meta, tt.contentType, tt.body, size); got != tt.want {
					t.Errorf("in pieces of %d: %q, want %q", size, got, tt.want)
				}
			}
		})
	}
}

func TestOutcomeGRPC(t *testing.T) {
	for name, tt := range map[string]struct{ code, message, want string }{
		"fine":      {"0", "", "0"},
		"error":     {"7", "gr%C3%B6%C3%9Fer 100%25", "7 größer 100%"},
		"no escape": {"7", "100%", "7 100%"},
		"not UTF-8": {"7", "%ff", "7 \uFFFD"},
		"absent":    {"", "", "-"},
		"nonsense":  {"seven", "", "-"},
		"negative":  {"-1", "", "-"},
		"huge":      {"99999999999999999999", "", "-"},
	} {
		t.Run(name, func(t *testing.T) {
			got := told(call.Metadata{Protocol: call.GRPC}, grpcBody, "\x00\x00\x00\x00\x00", 2, "grpc-status", tt.code, "grpc-message", tt.message)
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	if got := told(call.Metadata{Protocol: call.HTTP, RPCID: "7"}, jsonBody, `{"id":7,"result":1}`, 10, "grpc-status", "5"); got != "-" {
		t.Errorf("http: %q", got)
	}
	if o := NewOutcome(call.Metadata{Protocol: call.GRPC}, nil); func() bool { s, _ := o.Result(nil); return s != nil }() {
		t.Error("a status without trailers")
	}
}

// A response as long as you like must not be kept.
func TestOutcomeBounded(t *testing.T) {
	o := NewOutcome(call.Metadata{Protocol: call.MCP, RPCID: "7"}, nil)
	for _, part := range []string{`{"a":"`, `","`, `":`, `9`, `,"result":{"k":"`} {
		o.Write([]byte(part))
		for range 100 {
			o.Write([]byte(strings.Repeat("1", 10_000)))
		}
	}
	if n := cap(o.scan.token); n > 3*maxToken {
		t.Errorf("keeps %d bytes", n)
	}
}

// However a response is cut into writes, the same is found in it.
func FuzzOutcome(f *testing.F) {
	f.Add("application/json", `{"id":7,"result":{"isError":true}}`, uint64(1))
	f.Add("text/event-stream", "data: {\"id\":7,\r\ndata: \"error\":{\"code\":5}}\r\r", uint64(1))
	f.Add("text/event-stream", "}]\"\\\n\n\r\n:", uint64(1))
	f.Fuzz(func(t *testing.T, contentType, body string, seed uint64) {
		meta := call.Metadata{Protocol: call.MCP, Function: "tools/call x", RPCID: "7"}
		whole := told(meta, contentType, body, len(body)+1)
		if parts := told(meta, contentType, body, 1+int(rand.New(rand.NewPCG(seed, 0)).Uint32N(8))); parts != whole {
			t.Fatalf("whole %q, in pieces %q", whole, parts)
		}
	})
}

func BenchmarkOutcome(b *testing.B) {
	body := []byte(`{"jsonrpc":"2.0","id":7,"result":{"structuredContent":` + string(kilobyte) + `,"isError":false}}`)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		o := NewOutcome(call.Metadata{Protocol: call.MCP, Function: "tools/call x", RPCID: "7"}, nil)
		o.Write(body)
		if s, _ := o.Result(nil); s == nil {
			b.Fatal("not found")
		}
	}
}
