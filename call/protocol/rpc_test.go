package protocol

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/callgate/callgate/call"
)

func parser(t testing.TB, p call.Protocol) Parser {
	t.Helper()
	parser, err := New(Config{Protocol: p})
	if err != nil {
		t.Fatal(err)
	}
	return parser
}

func TestJSONRPC(t *testing.T) {
	for name, tt := range map[string]struct{ body, function, id, args string }{
		"object":       {`{"jsonrpc":"2.0","method":"pay","params":{"amount": 5},"id":7}`, "pay", "7", `{"amount":5}`},
		"list":         {`{"jsonrpc":"2.0","method":"pay","params":[1,"x"],"id":"a\u0062"}`, "pay", `"a\u0062"`, `{"params":[1,"x"]}`},
		"no params":    {`{"jsonrpc":"2.0","method":"pay","id":-1}`, "pay", "-1", `{}`},
		"null params":  {`{"jsonrpc":"2.0","method":"pay","params":null,"id":1}`, "pay", "1", `{}`},
		"notification": {`{"jsonrpc":"2.0","method":"pay","params":{}}`, "pay", "", `{}`},
		"order":        {` {"params":{"params":{"arguments":1}} , "id" : 1 ,"method":"pay","jsonrpc":"2.0"} `, "pay", "1", `{"params":{"arguments":1}}`},
		"escaped keys": {`{"jsonrp\u0063":"2.0","m\u0065thod":"pay","par\u0061ms":{"a":1},"\u0069d":1}`, "pay", "1", `{"a":1}`},
	} {
		t.Run(name, func(t *testing.T) {
			inv, err := parser(t, call.JSONRPC).Parse(request("POST /rpc", tt.body, "content-type", jsonBody))
			if err != nil {
				t.Fatal(err)
			}
			if inv.Function != tt.function || string(inv.RPCID) != tt.id || (inv.RPCID == nil) != (tt.id == "") {
				t.Errorf("function %q id %s, want %q %s", inv.Function, inv.RPCID, tt.function, tt.id)
			}
			same(t, inv, tt.args)
		})
	}
}

func typed(contentType, line, body string, reason call.Reason, says string) attack {
	return attack{line, []string{"content-type", contentType}, body, reason, says}
}

// rpcAttacks hold for JSON-RPC and MCP alike.
var rpcAttacks = map[string]attack{
	"batch":              typed(jsonBody, "POST /rpc", `[{"jsonrpc":"2.0","method":"a","id":1}]`, bad, "batches are not accepted"),
	"batch, empty":       typed(jsonBody, "POST /rpc", ` []`, bad, "batches are not accepted"),
	"two messages":       typed(jsonBody, "POST /rpc", `{"jsonrpc":"2.0","method":"a","id":1}{"jsonrpc":"2.0","method":"b","id":1}`, bad, "goes on"),
	"text":               typed(jsonBody, "POST /rpc", `"x"`, bad, "one JSON object"),
	"empty":              typed(jsonBody, "POST /rpc", ``, bad, "one JSON object"),
	"as text":            typed("text/plain", "POST /rpc", `{"jsonrpc":"2.0","method":"a"}`, bad, "content-type application/json"),
	"method twice":       typed(jsonBody, "POST /rpc", `{"jsonrpc":"2.0","method":"a","method":"b","id":1}`, bad, "key twice"),
	"method twice, 2":    typed(jsonBody, "POST /rpc", `{"jsonrpc":"2.0","method":"a","m\u0065thod":"b","id":1}`, bad, "key twice"),
	"method by case":     typed(jsonBody, "POST /rpc", `{"jsonrpc":"2.0","method":"a","Method":"b","id":1}`, bad, "only in case"),
	"params by case":     typed(jsonBody, "POST /rpc", `{"jsonrpc":"2.0","method":"a","Params":{"x":1},"id":1}`, bad, `must be written "params"`),
	"params folded":      typed(jsonBody, "POST /rpc", `{"jsonrpc":"2.0","method":"a","paramſ":{"x":1},"id":1}`, bad, `must be written "params"`),
	"id by case":         typed(jsonBody, "POST /rpc", `{"jsonrpc":"2.0","method":"a","ID":1}`, bad, `must be written "id"`),
	"another member":     typed(jsonBody, "POST /rpc", `{"jsonrpc":"2.0","method":"a","auth":"x","id":1}`, bad, "none of JSON-RPC 2.0"),
	"version 1":          typed(jsonBody, "POST /rpc", `{"method":"a","params":[],"id":1}`, bad, `"jsonrpc": "2.0"`),
	"version as number":  typed(jsonBody, "POST /rpc", `{"jsonrpc":2.0,"method":"a","id":1}`, bad, `"jsonrpc": "2.0"`),
	"no method":          typed(jsonBody, "POST /rpc", `{"jsonrpc":"2.0","id":1}`, bad, "method"),
	"method a number":    typed(jsonBody, "POST /rpc", `{"jsonrpc":"2.0","method":1,"id":1}`, bad, "method must be a text"),
	"method null":        typed(jsonBody, "POST /rpc", `{"jsonrpc":"2.0","method":null,"id":1}`, bad, "method must be a text"),
	"method empty":       typed(jsonBody, "POST /rpc", `{"jsonrpc":"2.0","method":"","id":1}`, bad, "method must be a text"),
	"method with space":  typed(jsonBody, "POST /rpc", `{"jsonrpc":"2.0","method":"tools/call search","id":1}`, bad, "without spaces"),
	"method with tab":    typed(jsonBody, "POST /rpc", `{"jsonrpc":"2.0","method":"a\tb","id":1}`, bad, "without spaces"),
	"method with nbsp":   typed(jsonBody, "POST /rpc", `{"jsonrpc":"2.0","method":"a\u00a0b","id":1}`, bad, "without spaces"),
	"method long":        typed(jsonBody, "POST /rpc", `{"jsonrpc":"2.0","method":"`+strings.Repeat("a", 257)+`","id":1}`, bad, "256 bytes"),
	"params a text":      typed(jsonBody, "POST /rpc", `{"jsonrpc":"2.0","method":"a","params":"x","id":1}`, bad, "object or a list"),
	"id null":            typed(jsonBody, "POST /rpc", `{"jsonrpc":"2.0","method":"a","id":null}`, bad, "id is null"),
	"id fraction":        typed(jsonBody, "POST /rpc", `{"jsonrpc":"2.0","method":"a","id":1.5}`, bad, "whole number"),
	"id object":          typed(jsonBody, "POST /rpc", `{"jsonrpc":"2.0","method":"a","id":{}}`, bad, "whole number"),
	"id boolean":         typed(jsonBody, "POST /rpc", `{"jsonrpc":"2.0","method":"a","id":false}`, bad, "whole number"),
	"id huge":            typed(jsonBody, "POST /rpc", `{"jsonrpc":"2.0","method":"a","id":99999999999999999999}`, bad, "64 bits"),
	"id long":            typed(jsonBody, "POST /rpc", `{"jsonrpc":"2.0","method":"a","id":"`+strings.Repeat("a", 256)+`"}`, bad, "256 bytes"),
	"method and result":  typed(jsonBody, "POST /rpc", `{"jsonrpc":"2.0","method":"a","result":1,"id":1}`, bad, "result"),
	"method and error":   typed(jsonBody, "POST /rpc", `{"jsonrpc":"2.0","method":"a","error":null,"id":1}`, bad, "result"),
	"key twice in args":  typed(jsonBody, "POST /rpc", `{"jsonrpc":"2.0","method":"a","params":{"amount":1,"amount":2},"id":1}`, bad, "key twice"),
	"put":                typed(jsonBody, "PUT /rpc", `{"jsonrpc":"2.0","method":"a","id":1}`, none, "POST"),
	"dot segment":        typed(jsonBody, "POST /rpc/../x", `{"jsonrpc":"2.0","method":"a","id":1}`, bad, "dot segment"),
	"encoded":            {"POST /rpc", []string{"content-type", jsonBody, "content-encoding", "br"}, `{}`, bad, "content-encoding br"},
	"override":           {"POST /rpc", []string{"content-type", jsonBody, "x-http-method-override", "GET"}, `{}`, bad, "x-http-method-override"},
	"text after message": typed(jsonBody, "POST /rpc", `{"jsonrpc":"2.0","method":"a","id":1} x`, bad, "goes on"),
}

func TestJSONRPCAttacks(t *testing.T) {
	attacks(t, parser(t, call.JSONRPC), rpcAttacks)
	attacks(t, parser(t, call.JSONRPC), map[string]attack{
		"response": typed(jsonBody, "POST /rpc", `{"jsonrpc":"2.0","result":1,"id":1}`, bad, "only a server sends"),
		"get":      {"GET /rpc", nil, "", none, "POST"},
	})
}

func TestMCP(t *testing.T) {
	for name, tt := range map[string]struct{ line, body, function, id, args string }{
		"tool":             {"POST /mcp", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"search","arguments":{"q":"x", "n":5},"_meta":{"progressToken":1}}}`, "tools/call search", "1", `{"q":"x","n":5}`},
		"tool, no args":    {"POST /mcp", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a b"}}`, "tools/call a b", "1", `{}`},
		"tool, null args":  {"POST /mcp", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":null}}`, "tools/call a", "1", `{}`},
		"prompt":           {"POST /mcp", `{"jsonrpc":"2.0","id":"x","method":"prompts/get","params":{"arguments":{"who":"me"},"name":"greet"}}`, "prompts/get greet", `"x"`, `{"who":"me"}`},
		"resource":         {"POST /mcp", `{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"file:\/\/\/a%20b?x=../y"}}`, "resources/read file:///a%20b?x=../y", "1", `{"uri":"file:///a%20b?x=../y"}`},
		"resource, 100%":   {"POST /mcp", `{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"note://100%25"}}`, "resources/read note://100%25", "1", `{"uri":"note://100%25"}`},
		"subscription":     {"POST /mcp", `{"jsonrpc":"2.0","id":1,"method":"resources/subscribe","params":{"uri":"file:///a"}}`, "resources/subscribe file:///a", "1", `{"uri":"file:///a"}`},
		"its end":          {"POST /mcp", `{"jsonrpc":"2.0","id":1,"method":"resources/unsubscribe","params":{"uri":"file:///a"}}`, "resources/unsubscribe file:///a", "1", `{"uri":"file:///a"}`},
		"completion":       {"POST /mcp", `{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{"ref":{"type":"ref/prompt","name":"greet"},"argument":{"name":"who","value":"a"}}}`, "completion/complete ref/prompt greet", "1", `{"ref":{"type":"ref/prompt","name":"greet"},"argument":{"name":"who","value":"a"}}`},
		"of a template":    {"POST /mcp", `{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{"argument":{"name":"path","value":"a"},"ref":{"uri":"file:///{path}","type":"ref/resource"}}}`, "completion/complete ref/resource file:///{path}", "1", `{"argument":{"name":"path","value":"a"},"ref":{"uri":"file:///{path}","type":"ref/resource"}}`},
		"initialize":       {"POST /mcp", `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{}}}`, "initialize", "0", `{"protocolVersion":"2025-06-18","capabilities":{}}`},
		"list":             {"POST /mcp", `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`, "tools/list", "1", `{}`},
		"notification":     {"POST /mcp", `{"jsonrpc":"2.0","method":"notifications/initialized"}`, "notifications/initialized", "", `{}`},
		"answer":           {"POST /mcp", `{"jsonrpc":"2.0","id":3,"result":{"action":"accept","content":{"ssn":"x"}}}`, "response", "", `{"id":3,"result":{"action":"accept","content":{"ssn":"x"}}}`},
		"answer, error":    {"POST /mcp", `{"jsonrpc":"2.0","id":3,"error":{"code":-1,"message":"no"}}`, "response", "", `{"id":3,"error":{"code":-1,"message":"no"}}`},
		"answer, no id":    {"POST /mcp", `{"jsonrpc":"2.0","id":null,"error":{"code":-1,"message":"no"}}`, "response", "", `{"id":null,"error":{"code":-1,"message":"no"}}`},
		"stream":           {"GET /mcp", ``, "session/stream", "", `{}`},
		"end":              {"DELETE /mcp", ``, "session/end", "", `{}`},
		"deep arguments":   {"POST /mcp", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"arguments":{"name":"b"}}}}`, "tools/call a", "1", `{"arguments":{"name":"b"}}`},
		"arguments in id?": {"POST /mcp", `{"jsonrpc":"2.0","id":1,"method":"custom/x","params":{"arguments":{"a":1}}}`, "custom/x", "1", `{"arguments":{"a":1}}`},
	} {
		t.Run(name, func(t *testing.T) {
			inv, err := parser(t, call.MCP).Parse(request(tt.line, tt.body, "content-type", jsonBody, "mcp-session-id", "s1"))
			if err != nil {
				t.Fatal(err)
			}
			if inv.Function != tt.function || string(inv.RPCID) != tt.id || inv.Session != "s1" {
				t.Errorf("function %q id %s session %q, want %q %s s1", inv.Function, inv.RPCID, inv.Session, tt.function, tt.id)
			}
			same(t, inv, tt.args)
		})
	}
}

// tool is an MCP message with the given method and params.
func tool(method, params, says string) attack {
	return typed(jsonBody, "POST /mcp", `{"jsonrpc":"2.0","id":1,"method":"`+method+`","params":`+params+`}`, bad, says)
}

func mirror(header, value string) attack {
	return attack{"POST /mcp", []string{"content-type", jsonBody, header, value},
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"search"}}`, bad, header}
}

func TestMCPAttacks(t *testing.T) {
	attacks(t, parser(t, call.MCP), rpcAttacks)
	attacks(t, parser(t, call.MCP), map[string]attack{
		"name twice":            tool("tools/call", `{"name":"a","name":"b"}`, "key twice"),
		"name by case":          tool("tools/call", `{"name":"a","Name":"b"}`, "only in case"),
		"name in capitals":      tool("tools/call", `{"NAME":"a"}`, `must be written "name"`),
		"arguments by case":     tool("tools/call", `{"name":"a","Arguments":{"amount":5000}}`, `must be written "arguments"`),
		"arguments folded":      tool("tools/call", `{"name":"a","argumentſ":{"amount":5000}}`, `must be written "arguments"`),
		"no name":               tool("tools/call", `{}`, "params.name"),
		"name empty":            tool("tools/call", `{"name":""}`, "params.name"),
		"name a number":         tool("tools/call", `{"name":1}`, "params.name"),
		"name with newline":     tool("tools/call", `{"name":"a\nb"}`, "control characters"),
		"name long":             tool("tools/call", `{"name":"`+strings.Repeat("a", 4097)+`"}`, "4096 bytes"),
		"no params":             tool("tools/call", `null`, "needs params"),
		"params a list":         tool("tools/call", `["a"]`, "needs params"),
		"arguments a list":      tool("tools/call", `{"name":"a","arguments":[1]}`, "must be an object"),
		"arguments a text":      tool("prompts/get", `{"name":"a","arguments":"{}"}`, "must be an object"),
		"no uri":                tool("resources/read", `{"name":"a"}`, "params.uri"),
		"uri climbs":            tool("resources/read", `{"uri":"file:///public/../etc/passwd"}`, "dot segment"),
		"uri climbs at the end": tool("resources/read", `{"uri":"file:///public/.."}`, "dot segment"),
		"uri climbs, escaped":   tool("resources/read", `{"uri":"file:///public/%2e%2E/etc"}`, "dot segment"),
		"uri climbs, slash":     tool("resources/read", `{"uri":"file:///public/..%2fetc"}`, "dot segment"),
		"uri climbs, twice":     tool("resources/read", `{"uri":"file:///public/%252e%252e/etc"}`, "dot segment"),
		"uri climbs, thrice":    tool("resources/read", `{"uri":"file:///public/%25252e./etc"}`, "dot segment"),
		"uri climbs, backslash": tool("resources/read", `{"uri":"file:///public\\..\\etc"}`, "dot segment"),
		"uri climbs, escape 2":  tool("resources/read", `{"uri":"file:///public/..%5cetc"}`, "dot segment"),
		"uri dot":               tool("resources/read", `{"uri":"file:///public/./x"}`, "dot segment"),
		"a subscription climbs": tool("resources/subscribe", `{"uri":"file:///public/../etc/passwd"}`, "dot segment"),
		"a subscription of no":  tool("resources/subscribe", `{"url":"file:///a"}`, "params.uri"),
		"a completion of none":  tool("completion/complete", `{"argument":{"name":"a","value":"b"}}`, "needs params.ref"),
		"of another type":       tool("completion/complete", `{"ref":{"type":"ref/tool","name":"a"}}`, "needs params.ref"),
		"of a type by case":     tool("completion/complete", `{"ref":{"Type":"ref/prompt","name":"a"}}`, `must be written "type"`),
		"of two types":          tool("completion/complete", `{"ref":{"type":"ref/prompt","type":"ref/resource","name":"a","uri":"b"}}`, "key twice"),
		"of the other's name":   tool("completion/complete", `{"ref":{"type":"ref/resource","name":"a"}}`, "needs params.ref"),
		"ref by case":           tool("completion/complete", `{"Ref":{"type":"ref/prompt","name":"a"}}`, `must be written "ref"`),
		"ref a text":            tool("completion/complete", `{"ref":"greet"}`, "needs params.ref"),
		"ref climbs":            tool("completion/complete", `{"ref":{"type":"ref/resource","uri":"file:///public/%2e%2e/{x}"}}`, "dot segment"),
		"a name with a newline": tool("completion/complete", `{"ref":{"type":"ref/prompt","name":"a\nb"}}`, "control characters"),
		"other header method":   mirror("mcp-method", "tools/list"),
		"other header name":     mirror("mcp-name", "delete"),
		"header name by case":   mirror("mcp-name", "Search"),
		"header name in base64": mirror("mcp-name", "=?base64?ZGVsZXRl?="),
		"header name no base64": mirror("mcp-name", "=?base64?*?="),
		"body of a stream":      {"GET /mcp", nil, `{}`, bad, "has no body"},
		"body of an end":        {"DELETE /mcp", nil, `{}`, bad, "has no body"},
		"session twice":         {"GET /mcp", []string{"mcp-session-id", "a", "mcp-session-id", "b"}, ``, bad, "more than once"},
	})
}

func TestMCPMirroredHeaders(t *testing.T) {
	for _, name := range []string{"search", "=?base64?c2VhcmNo?="} {
		_, err := parser(t, call.MCP).Parse(request("POST /mcp", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"search"}}`,
			"content-type", jsonBody, "mcp-method", "tools/call", "mcp-name", name))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A denial needs the caller's id also where the request is refused.
func TestRefusedKeepsID(t *testing.T) {
	inv, err := parser(t, call.MCP).Parse(request("POST /mcp", `{"jsonrpc":"2.0","id":"x","method":"tools/call","params":{"name":1}}`, "content-type", jsonBody, "mcp-session-id", "s"))
	if err == nil || string(inv.RPCID) != `"x"` || inv.Function != "tools/call" || inv.Session != "s" {
		t.Errorf("got %+v, %v", inv, err)
	}
}

func FuzzRPC(f *testing.F) {
	for _, table := range []map[string]attack{rpcAttacks} {
		for _, tt := range table {
			f.Add([]byte(tt.body))
		}
	}
	f.Add([]byte(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"search","arguments":{"q":"x", "n":5e1}}}`))
	f.Add([]byte(`{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"file:///%2e"}}`))
	f.Add([]byte(`{"jsonrpc":"2.0","id":1,"result":{"a":[1]}}`))
	parsers := []Parser{parser(f, call.MCP), parser(f, call.JSONRPC)}
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, p := range parsers {
			inv, err := p.Parse(request("POST /mcp", string(body), "content-type", jsonBody))
			if err != nil {
				var e *Error
				if !errors.As(err, &e) || e.Message == "" {
					t.Fatalf("%T is no *Error with a message", err)
				}
				continue
			}
			var m struct {
				Method string
				ID     json.RawMessage
				Params json.RawMessage
			}
			if err := json.Unmarshal(body, &m); err != nil {
				t.Fatalf("accepted what encoding/json refuses: %v", err)
			}
			if m.Method != "" && strings.SplitN(inv.Function, " ", 2)[0] != m.Method {
				t.Fatalf("function %q, method %q", inv.Function, m.Method)
			}
			if inv.Function != mcpAnswer && string(inv.RPCID) != string(m.ID) {
				t.Fatalf("id %s, want %s", inv.RPCID, m.ID)
			}
			var params struct {
				Name, URI string
				Arguments json.RawMessage
			}
			args := m.Params
			switch key, names := named(m.Method); {
			case p == parsers[1] || !names:
			case json.Unmarshal(m.Params, &params) != nil:
				t.Fatal("params that can't be read")
			case key == "uri":
				args, _ = json.Marshal(map[string]string{"uri": params.URI})
			default:
				args = params.Arguments
				if inv.Function != m.Method+" "+params.Name {
					t.Fatalf("function %q, name %q", inv.Function, params.Name)
				}
			}
			if inv.Function == mcpAnswer {
				return
			}
			var want any
			if len(args) > 0 {
				want, err = document(args)
			}
			switch w := want.(type) {
			case nil:
				want = map[string]any{}
			case []any:
				want = map[string]any{"params": w}
			}
			if err != nil || !reflect.DeepEqual(any(inv.Args), want) {
				t.Fatalf("args %#v, want %#v, %v", inv.Args, want, err)
			}
			if written, err := document(inv.ArgsJSON); err != nil || !reflect.DeepEqual(written, want) {
				t.Fatalf("args as JSON %s, want %#v, %v", inv.ArgsJSON, want, err)
			}
		}
	})
}
