package protocol

import (
	"strings"
	"testing"

	"github.com/callgate/callgate/call"
)

// bound is a call of an MCP or JSON-RPC body as it is held.
func bound(p call.Protocol, body string, header ...string) [32]byte {
	c := &call.Call{Protocol: p, Connection: "tools", Function: "tools/call pay", Request: call.Request{Method: "POST", Body: []byte(body)}}
	if len(header) > 0 {
		c.Request.Headers = call.Headers{{Name: header[0], Value: header[1]}}
	}
	c.Loose = Loose(p, &c.Request)
	return c.Binding("v1")
}

const payment = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"pay","arguments":{"amount":5,"id":1},"_meta":{"progressToken":"a","x":1}}}`

// A call sent again differs from the first in what the protocol wants to differ,
// and in nothing else: else the approval is not for it.
func TestLoose(t *testing.T) {
	for again, same := range map[string]bool{
		payment: true,
		strings.Replace(payment, `"id":1,"method"`, `"id":20,"method"`, 1):                            true,
		strings.Replace(payment, `"id":1,"method"`, `"id":"x","method"`, 1):                           true,
		strings.Replace(payment, `"progressToken":"a"`, `"progressToken":17`, 1):                      true,
		strings.Replace(payment, `"amount":5`, `"amount":6`, 1):                                       false,
		strings.Replace(payment, `"amount":5,"id":1`, `"amount":5,"id":2`, 1):                         false,
		strings.Replace(payment, `"name":"pay"`, `"name":"pal"`, 1):                                   false,
		strings.Replace(payment, `"x":1`, `"x":2`, 1):                                                 false,
		strings.Replace(payment, `"id":1,"method"`, `"id": 1,"method"`, 1):                            false,
		strings.Replace(payment, `"progressToken":"a"`, `"progressToken":{"amount":6}`, 1):            false,
		strings.Replace(payment, `,"x":1`, ``, 1):                                                     false,
		strings.Replace(payment, `"progressToken":"a",`, ``, 1):                                       false,
		strings.Replace(payment, `"id":1,"method":"tools/call"`, `"method":"tools/call","id":1`, 1):   false,
		strings.Replace(payment, `"arguments":{`, `"arguments":{"_meta":{"progressToken":"a"},`, 1):   false,
		strings.Replace(payment, `"arguments":{"amount"`, `"arguments":{"progressToken":"b","am"`, 1): false,
		strings.Replace(payment, `"id":1,"method"`, `"id":"1\",\"x","method"`, 1):                     true,
	} {
		if (bound(call.MCP, again) == bound(call.MCP, payment)) != same {
			t.Errorf("bound to the same: %v, want %v\n%s", !same, same, again)
		}
	}
	// What stands in an argument's _meta is the function's.
	inner := strings.Replace(payment, `"amount":5`, `"_meta":{"progressToken":1}`, 1)
	if bound(call.MCP, inner) == bound(call.MCP, strings.Replace(inner, `"_meta":{"progressToken":1}`, `"_meta":{"progressToken":2}`, 1)) {
		t.Error("an argument is not bound")
	}
	// JSON-RPC knows no progress tokens; other protocols and bodies in an
	// encoding are bound byte for byte.
	if bound(call.JSONRPC, payment) == bound(call.JSONRPC, strings.Replace(payment, `"progressToken":"a"`, `"progressToken":"b"`, 1)) {
		t.Error("a progress token of plain JSON-RPC is not bound")
	}
	other := strings.Replace(payment, `"id":1,"method"`, `"id":2,"method"`, 1)
	if bound(call.HTTP, payment) == bound(call.HTTP, other) || bound(call.MCP, payment, "content-encoding", "gzip") == bound(call.MCP, other, "content-encoding", "gzip") {
		t.Error("more is loose than may be")
	}
}

// Whatever is loose is a scalar, is inside the body, and comes in order.
func FuzzLoose(f *testing.F) {
	f.Add([]byte(payment))
	f.Add([]byte(`[{"id":1}]`))
	f.Add([]byte(`{"id":1,"id":2}`))
	f.Add([]byte(`{"params":{"_meta":{"progressToken":1}},"id":"x"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		at := 0
		for _, s := range Loose(call.MCP, &call.Request{Body: body}) {
			if s.Start < at || s.End <= s.Start || s.End > len(body) {
				t.Fatalf("%v of %d bytes", s, len(body))
			}
			at = s.End
		}
		c := &call.Call{Request: call.Request{Body: body}, Loose: Loose(call.MCP, &call.Request{Body: body})}
		c.Binding("v")
	})
}
