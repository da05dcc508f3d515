package protocol

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/callgate/callgate/call"
)

// kilobyte is a request body of about 1 KB, of the shape that functions take.
var kilobyte = func() []byte {
	var sb strings.Builder
	sb.WriteString(`{"id":"cus_19283","amount":1234.5,"currency":"EUR","ok":true,"note":null,"items":[`)
	for i := range 9 {
		if i > 0 {
			sb.WriteByte(',')
		}
		fmt.Fprintf(&sb, `{"sku":"sku-%d","qty":%d,"price":%d.25,"tags":["a","b"],"desc":"some text about the item, %d"}`, i, i*3, i*10, i)
	}
	sb.WriteString(`],"query":"select * from customers where id = 12 and name like 'x'"}`)
	return []byte(sb.String())
}()

func BenchmarkDocument(b *testing.B) {
	b.SetBytes(int64(len(kilobyte)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := document(kilobyte); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkEncodingJSON is what BenchmarkDocument is to be held against.
func BenchmarkEncodingJSON(b *testing.B) {
	b.SetBytes(int64(len(kilobyte)))
	b.ReportAllocs()
	for b.Loop() {
		var v map[string]any
		if err := json.Unmarshal(kilobyte, &v); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	m := services(b)
	for name, bb := range map[string]struct {
		parser Parser
		req    *call.Request
	}{
		"http":          {crm(b), request("POST /crm/refunds", string(kilobyte), "content-type", jsonBody)},
		"http_and_path": {crm(b), request("POST /crm/refunds/7", string(kilobyte[:1])+`"k":`+string(kilobyte)+"}", "content-type", jsonBody)},
		"mcp": {parser(b, call.MCP), request("POST /mcp", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"search","arguments":`+string(kilobyte)+`}}`,
			"content-type", jsonBody)},
		"grpc": {grpcParser(b, m), request("POST /shop.Shop/Get", framed(0, order(b, m, `{"order_id":"x","amount":"5","lines":[{"state":"PAID"}],"labels":{"a":"1"},"nums":[1,2],"raw":"`+strings.Repeat("abcd", 200)+`"}`)),
			"content-type", grpcBody)},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := bb.parser.Parse(bb.req); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
