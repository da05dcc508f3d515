package mask

import (
	"bytes"
	"fmt"
	"testing"
)

// sample is a JSON body of about size bytes such as a REST service answers with:
// no value in it is one that a detector hides, but for one card in every hits
// records, if hits > 0.
func sample(size, hits int) []byte {
	var b bytes.Buffer
	b.WriteString(`{"items":[`)
	for i := 0; b.Len() < size-300 || i == 0; i++ {
		if i > 0 {
			b.WriteByte(',')
		}
		number := "ORD-2026-000123"
		if hits > 0 && i%hits == 0 {
			number = "4111 1111 1111 1111"
		}
		fmt.Fprintf(&b, `{"id":"%016x-%d","created_at":"2026-11-23T12:16:%02dZ","ts":1732377600123,"status":"completed",`+
			`"amount":%d.99,"currency":"EUR","customer":{"company":"Doe & Sons","city":"Lisbon","tags":["new","b2b"]},`+
			`"reference":%q,"note":"Left at the reception desk, please ring twice."}`, mix(uint64(i)), i, i%60, i, number)
	}
	b.WriteString(`]}`)
	return b.Bytes()
}

func benchMasker(b *testing.B) *Masker {
	return mustCompile(b, Spec{Rules: []Rule{
		{Name: "all", Detect: []string{"all"}},
		{Name: "keys", Keys: []string{"password", "iban", "ssn", "card_number", "date_of_birth"}},
		{Name: "paths", Paths: []string{"items[*].customer.card.number", "**.secret"}},
	}})
}

func BenchmarkJSON(b *testing.B) {
	m := benchMasker(b)
	for _, c := range []struct {
		name       string
		size, hits int
	}{{"1k", 1 << 10, 0}, {"1k_hit", 1 << 10, 2}, {"64k", 64 << 10, 0}, {"64k_hits", 64 << 10, 4}, {"10m", 10 << 20, 0}} {
		b.Run(c.name, func(b *testing.B) {
			body := sample(c.size, c.hits)
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := m.JSON(body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// Detectors alone, without the walk by names and paths.
func BenchmarkJSONDetectors(b *testing.B) {
	m := detecting(b, "all")
	body := sample(64<<10, 0)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := m.JSON(body); err != nil {
			b.Fatal(err)
		}
	}
}

// An MCP answer: JSON in a string, and prose.
func BenchmarkMCP(b *testing.B) {
	m := benchMasker(b)
	body := fmt.Appendf(nil, `{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":%q}]}}`, sample(64<<10, 0))
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := m.JSON(body); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkText(b *testing.B) {
	m := benchMasker(b)
	body := bytes.Repeat([]byte("On 2026-11-23 Jane wrote: the parcel no. 00340434161094 (https://example.com/t/12) was late again, by 3.5 days.\n"), 600)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := m.Text(body); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSSE(b *testing.B) {
	m := benchMasker(b)
	var chunk bytes.Buffer
	for i := range 64 {
		fmt.Fprintf(&chunk, "event: message\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"progress\",\"params\":{\"n\":%d,\"text\":\"a short line of progress, as tools send it\"}}\n\n", i)
	}
	s := m.NewStream("text/event-stream", 0)
	b.SetBytes(int64(chunk.Len()))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Write(chunk.Bytes()); err != nil {
			b.Fatal(err)
		}
	}
}
