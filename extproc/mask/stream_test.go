package mask

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// stream sends body through a stream in chunks that end at the given offsets.
func stream(m *Masker, contentType, body string, limit int, cuts ...int) (string, []Finding, error) {
	s := m.NewStream(contentType, limit)
	var out []byte
	last := 0
	for _, c := range append(cuts, len(body)) {
		b, err := s.Write([]byte(body[last:c]))
		if err != nil {
			return string(out), s.Findings(), err
		}
		out, last = append(out, b...), c
	}
	b, err := s.Close()
	return string(append(out, b...)), s.Findings(), err
}

const (
	sse   = "text/event-stream; charset=utf-8"
	lines = "application/x-ndjson"
	plain = "text/plain"
)

func TestStream(t *testing.T) {
	all := Rule{Name: "r", Detect: []string{"all"}, Keys: []string{"password"}}
	m := mustCompile(t, Spec{Rules: []Rule{all}})
	for _, c := range []struct{ name, contentType, in, want string }{
		{"json event", sse, "event: message\nid: 1\ndata: {\"n\":4111111111111111, \"x\":1}\n\n", "event: message\nid: 1\ndata: {\"n\":\"[redacted:card]\", \"x\":1}\n\n"},
		{"text event", sse, "data: pay 4111 1111 1111 1111 now\n\n", "data: pay [redacted:card] now\n\n"},
		{"no space", sse, "data:4111111111111111\n\n", "data:[redacted:card]\n\n"},
		{"crlf", sse, "data: a\r\ndata: 4111111111111111\r\n\r\ndata: b\r\n\r\n", "data: a\r\ndata: [redacted:card]\r\n\r\ndata: b\r\n\r\n"},
		{"cr", sse, "data: 4111111111111111\r\rdata: jane@example.com\r\r", "data: [redacted:card]\r\rdata: [redacted:email]\r\r"},
		{"json over lines", sse, "data: {\"password\":\ndata: {\"a\":1,\ndata: \"b\":2},\ndata: \"c\": 3}\n\n", "data: {\"password\":\ndata: \"[redacted]\",\ndata: \"c\": 3}\n\n"},
		{"json over lines with crlf", sse, "data: {\"password\":\r\ndata: [1,\r\ndata: 2]}\r\n\r\n", "data: {\"password\":\r\ndata: \"[redacted]\"}\r\n\r\n"},
		{"fields after data", sse, "data: 4111111111111111\nid: jane@example.com\ndata: 378282246310005\n\n", "data: [redacted:card]\nid: [redacted:email]\ndata: [redacted:card]\n\n"},
		{"line between", sse, "data: {\"password\": [1,\nid: 7\ndata: 2], \"c\":3}\n\n", "data: {\"password\": \"[redacted]\", \"c\":3}\n\n"},
		{"comment", sse, ": 4111111111111111\nid: 4111111111111111\ndata: x\n\n", ": [redacted:card]\nid: [redacted:card]\ndata: x\n\n"},
		{"unknown field", sse, "dataa: 4111111111111111\n4111111111111111\n\n", "dataa: [redacted:card]\n[redacted:card]\n\n"},
		{"mark", sse, "\xEF\xBB\xBFdata: 4111111111111111\n\n", "\xEF\xBB\xBFdata: [redacted:card]\n\n"},
		{"no end", sse, "data: x\n\ndata: 4111111111111111", "data: x\n\ndata: [redacted:card]"},
		{"no end cr", sse, "data: 4111111111111111\r", "data: [redacted:card]\r"},
		{"empty", sse, "\n\n\r\n\r\r\n:\n\ndata\n\ndata:\n\n", "\n\n\r\n\r\r\n:\n\ndata\n\ndata:\n\n"},
		{"done", sse, "data: [DONE]\n\n", "data: [DONE]\n\n"},
		{"private key over lines", sse, "data: -----BEGIN PRIVATE KEY-----\ndata: MIIE\ndata: -----END PRIVATE KEY-----\ndata: x\n\n", "data: [redacted:private_key]\ndata: x\n\n"},
		{"broken json with a key", sse, "data: {\"password\":\"hunter2\n\n", "data: {\"password\":\"[redacted]\n\n"},

		{"lines", lines, "{\"n\":4111111111111111}\n\n  [\"jane@example.com\"]\r\n1", "{\"n\":\"[redacted:card]\"}\n\n  [\"[redacted:email]\"]\r\n1"},
		{"text", plain, "a\n4111111111111111\npassword=x\r\n{\"password\":1}\nend", "a\n[redacted:card]\npassword=[redacted]\r\n{\"password\":\"[redacted]\"}\nend"},
		{"private key", plain, "a\n-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\nb\n", "a\n[redacted:private_key]\nb\n"},
		{"private key in disguise", plain, "a\n-----BE\u200bGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\nb\n", "a\n[redacted:private_key]\nb\n"},
		{"private key without an end", plain, "-----BEGIN PRIVATE KEY-----\nMIIE\n", "[redacted:private_key]"},
		{"two keys on a line", plain, "-----BEGIN PRIVATE KEY-----MIIE-----END PRIVATE KEY----- -----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\n", "[redacted:private_key] [redacted:private_key]\n"},
		{"certificate", plain, "-----BEGIN CERTIFICATE-----\nMIIE\n-----END CERTIFICATE-----\n", "-----BEGIN CERTIFICATE-----\nMIIE\n-----END CERTIFICATE-----\n"},
		{"unknown type", "application/x-unknown", "4111111111111111\n", "[redacted:card]\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, f, err := stream(m, c.contentType, c.in, 0)
			if err != nil || got != c.want {
				t.Fatalf("got %q, %v\nwant %q", got, err, c.want)
			}
			if (len(f) == 0) != (c.in == c.want) {
				t.Errorf("findings %+v", f)
			}
			// The same for every cut in two, and byte by byte.
			every := make([]int, 0, len(c.in))
			for i := range len(c.in) {
				every = append(every, i)
				got, _, err := stream(m, c.contentType, c.in, 0, i)
				if err != nil || got != c.want {
					t.Errorf("cut at %d: got %q, %v", i, got, err)
				}
			}
			got, _, err = stream(m, c.contentType, c.in, 0, every...)
			if err != nil || got != c.want {
				t.Errorf("byte by byte: got %q, %v", got, err)
			}
		})
	}
}

// Events leave as soon as they are complete.
func TestStreamFlows(t *testing.T) {
	s := detecting(t, "all").NewStream(sse, 0)
	for _, c := range []struct{ in, out string }{
		{"data: a\n", ""}, {"\n", "data: a\n\n"}, {"data: b\r\n\r", "data: b\r\n\r"}, {"\ndata: c", "\n"}, {"\r", ""}, {"\r", "data: c\r\r"}, {"data", ""},
	} {
		out, err := s.Write([]byte(c.in))
		if err != nil || string(out) != c.out {
			t.Fatalf("%q: got %q, %v, want %q", c.in, out, err, c.out)
		}
	}
	if out, err := s.Close(); err != nil || string(out) != "data" {
		t.Fatalf("close: %q, %v", out, err)
	}
	if _, err := s.Write([]byte("x")); err == nil {
		t.Fatal("a write after close is no error")
	}
}

func TestStreamLimit(t *testing.T) {
	m := detecting(t, "all")
	for _, contentType := range []string{sse, lines, plain} {
		unit := "\"" + strings.Repeat("x", 98) + "\"" // 100 bytes
		for _, c := range []struct {
			limit int
			ok    bool
		}{{100, true}, {99, false}} {
			for _, cut := range []int{1, 50, 99, 100, 101} {
				out, _, err := stream(m, contentType, unit+"\r\n\r\n"+unit, c.limit, cut)
				if c.ok && (err != nil || out != unit+"\r\n\r\n"+unit) {
					t.Errorf("%s, limit %d, cut %d: %q, %v", contentType, c.limit, cut, out, err)
				}
				if !c.ok && !errors.Is(err, ErrTooLarge) {
					t.Errorf("%s, limit %d, cut %d: %v", contentType, c.limit, cut, err)
				}
			}
		}
	}
	// An error is final and lets nothing more out.
	s := m.NewStream(plain, 10)
	if _, err := s.Write(bytes.Repeat([]byte("x"), 11)); !errors.Is(err, ErrTooLarge) {
		t.Fatal(err)
	}
	if out, err := s.Write([]byte("\n")); err == nil || out != nil {
		t.Fatalf("after an error: %q, %v", out, err)
	}
	if out, err := s.Close(); err == nil || out != nil {
		t.Fatalf("close after an error: %q, %v", out, err)
	}
	// A key block without an end can't make it hold everything.
	if _, _, err := stream(m, plain, "-----BEGIN PRIVATE KEY-----\n"+strings.Repeat("abc\n", 100), 200); !errors.Is(err, ErrTooLarge) {
		t.Errorf("endless key: %v", err)
	}
}

func TestStreamInvalid(t *testing.T) {
	m := mustCompile(t, Spec{Rules: []Rule{{Name: "r", Paths: []string{"customer.name"}}}})
	if _, _, err := stream(m, lines, "{\"a\":1}\n{\"a\":\n", 0); !errors.Is(err, ErrInvalid) {
		t.Errorf("a broken line: %v", err)
	}
	if out, _, err := stream(m, sse, "data: {\"customer\":{\"name\":\"Ja\n\n", 0); !errors.Is(err, ErrInvalid) || out != "" {
		t.Errorf("a broken event under a path rule: %q, %v", out, err)
	}
	got, _, err := stream(m, sse, "data: {\"customer\":{\"name\":\"Jane\"}}\n\ndata: [DONE]\n\ndata: \n\n", 0)
	if want := "data: {\"customer\":{\"name\":\"[redacted]\"}}\n\ndata: [DONE]\n\ndata: \n\n"; err != nil || got != want {
		t.Errorf("got %q, %v", got, err)
	}
}

// A long stream of small events is held only a little at a time.
func TestStreamManyEvents(t *testing.T) {
	m := detecting(t, "all")
	s := m.NewStream(sse, 1<<10)
	chunk := bytes.Repeat([]byte("data: {\"n\":1}\n\n"), 1000)
	total := 0
	for range 100 {
		out, err := s.Write(chunk)
		if err != nil {
			t.Fatal(err)
		}
		total += len(out)
	}
	if total != 100*len(chunk) || cap(s.buf) > 4*len(chunk) {
		t.Fatalf("%d bytes out, %d held", total, cap(s.buf))
	}
}

func ExampleMasker_NewStream() {
	m, err := Compile(Spec{Rules: []Rule{{Name: "cards", Detect: []string{"card"}, How: Partial}}}, Options{})
	if err != nil {
		panic(err)
	}
	s := m.NewStream("text/event-stream", 64<<10)
	for _, chunk := range []string{"data: paid with 4111 11", "11 1111 1111\n", "\n"} {
		out, err := s.Write([]byte(chunk))
		if err != nil {
			panic(err)
		}
		fmt.Printf("%q\n", out)
	}
	// Output:
	// ""
	// ""
	// "data: paid with ****1111\n\n"
}
