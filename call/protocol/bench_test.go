package protocol

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
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

func BenchmarkStd(b *testing.B) {
	for b.Loop() {
		var v map[string]any
		if err := json.Unmarshal(kilobyte, &v); err != nil {
			b.Fatal(err)
		}
	}
}
