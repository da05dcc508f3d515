package extproc

import (
	"bytes"
	"compress/flate"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/callgate/callgate/call"
)

// flusher is a compressor as a function uses it.
type flusher interface {
	io.WriteCloser
	Flush() error
}

func encoder(t testing.TB, name string, w io.Writer) flusher {
	t.Helper()
	switch name {
	case "gzip", "x-gzip":
		return gzip.NewWriter(w)
	case "deflate":
		return zlib.NewWriter(w)
	case "raw":
		f, err := flate.NewWriter(w, 6)
		if err != nil {
			t.Fatal(err)
		}
		return f
	case "br":
		return brotli.NewWriter(w)
	case "zstd":
		z, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1))
		if err != nil {
			t.Fatal(err)
		}
		return z
	}
	t.Fatalf("no encoder for %s", name)
	return nil
}

func encode(t testing.TB, body string, names ...string) string {
	t.Helper()
	for _, name := range names {
		var b bytes.Buffer
		w := encoder(t, name, &b)
		if _, err := io.WriteString(w, body); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		body = b.String()
	}
	return body
}

// Encoded responses leave decoded and masked, wherever they are cut.
func TestEncodings(t *testing.T) {
	body := `{"card":"` + card + `","n":[1,2,3]}`
	for name, names := range map[string][]string{
		"gzip": {"gzip"}, "x-gzip": {"x-gzip"}, "deflate": {"deflate"}, "br": {"br"}, "zstd": {"zstd"}, "gzip, br": {"gzip", "br"}, "zstd, gzip, br": {"zstd", "gzip", "br"},
	} {
		sent := encode(t, body, names...)
		for _, step := range []int{1, 7, len(sent)} {
			b := start(t)
			x := exchange{mode: duplex, meta: decided(call.HTTP, cards), headers: append([]string{"content-encoding", name, "vary", "accept-encoding"}, jsonType...)}
			for rest := sent; len(rest) > 0; {
				n := min(step, len(rest))
				x.chunks, rest = append(x.chunks, rest[:n]), rest[n:]
			}
			got := b.run(t, x)
			if got.err != nil || !got.ended || got.body != strings.Replace(body, card, "[redacted:card]", 1) {
				t.Fatalf("%s by %d: %+v", name, step, got)
			}
			removed := strings.Join(got.removed, " ")
			if !strings.Contains(removed, "content-encoding") || !strings.Contains(removed, "content-length") || strings.Contains(removed, "vary") {
				t.Errorf("%s: removed %s", name, removed)
			}
			if a := b.one(t); string(a.Body.Head) != got.body || a.Body.Encoding != "" || a.Headers.Get("content-encoding") != "" {
				t.Errorf("%s: recorded %+v", name, a)
			}
		}
	}
	// Some send raw deflate.
	b := start(t)
	got := b.run(t, exchange{mode: duplex, meta: decided(call.HTTP, cards), headers: append([]string{"content-encoding", "deflate"}, jsonType...), chunks: []string{encode(t, body, "raw")}})
	if !strings.Contains(got.body, "[redacted:card]") {
		t.Errorf("raw deflate: %+v", got)
	}
}

// Events of an encoded stream leave one by one.
func TestEncodedEventsFlow(t *testing.T) {
	for _, name := range []string{"gzip", "deflate", "br", "zstd"} {
		b := start(t)
		stream, err := b.client.Process(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var buf bytes.Buffer
		w := encoder(t, name, &buf)
		x := exchange{mode: duplex, meta: decided(call.HTTP, cards), headers: []string{"content-type", "text/event-stream", "content-encoding", name}, broken: true}
		for _, event := range []string{"data: " + card + "\n\n", "data: two\n\n"} {
			if _, err := io.WriteString(w, event); err != nil {
				t.Fatal(err)
			}
			if err := w.Flush(); err != nil {
				t.Fatal(err)
			}
			x.chunks = append(x.chunks, buf.String())
			buf.Reset()
		}
		var got result
		for i, req := range x.requests(t) {
			if err := stream.Send(req); err != nil {
				t.Fatal(err)
			}
			m, err := stream.Recv() // each is answered before the next is sent
			if err != nil {
				t.Fatalf("%s, message %d: %v", name, i, err)
			}
			got.take(t, m)
		}
		if got.body != "data: [redacted:card]\n\ndata: two\n\n" {
			t.Errorf("%s: %q", name, got.body)
		}
		_ = stream.CloseSend()
	}
}

// What is not the encoding that it claims, or decodes to far more than it is, is
// withheld.
func TestEncodingsRefused(t *testing.T) {
	body := `{"card":"` + card + `"}`
	zeros := `["` + strings.Repeat(" ", 8<<20) + `"]`
	for name, tt := range map[string]struct{ encoding, sent, says string }{
		"cut off":             {"gzip", encode(t, body, "gzip")[:20], "content-encoding gzip"},
		"data after the end":  {"gzip", encode(t, body, "gzip") + "x", "content-encoding gzip"},
		"zstd, then more":     {"zstd", encode(t, body, "zstd") + body, "content-encoding zstd"},
		"deflate, then more":  {"deflate", encode(t, body, "deflate") + body, "after the end"},
		"br, then more":       {"br", encode(t, body, "br") + body, "content-encoding br"},
		"wrong sum":           {"gzip", encode(t, body, "gzip")[:40] + "\x00\x00\x00\x00\x00\x00\x00\x00", "content-encoding gzip"},
		"another encoding":    {"br", encode(t, body, "gzip"), "content-encoding br"},
		"plain":               {"zstd", body, "content-encoding zstd"},
		"encoded twice":       {"gzip", encode(t, body, "gzip", "gzip"), "not valid"},
		"encoded, not said":   {"", encode(t, body, "gzip"), "not valid"},
		"encoded, said plain": {"identity", encode(t, body, "br"), "not valid"},
		"bomb in gzip":        {"gzip", encode(t, zeros, "gzip"), "256 times"},
		"bomb in br":          {"br", encode(t, zeros, "br"), "256 times"},
		"bomb in zstd":        {"zstd", encode(t, zeros, "zstd"), "256 times"},
		"bomb in a bomb":      {"gzip, gzip", encode(t, zeros, "gzip", "gzip"), "256 times"},
	} {
		t.Run(name, func(t *testing.T) {
			b := start(t)
			got := b.run(t, exchange{mode: duplex, meta: decided(call.HTTP, cards), headers: []string{"content-type", "application/json", "content-encoding", tt.encoding}, chunks: []string{tt.sent, ""}})
			if strings.Contains(got.body, card) || got.ended || got.immediate == nil && got.err == nil {
				t.Errorf("got %+v", got)
			}
			if a := b.one(t); !strings.Contains(a.Withheld, tt.says) {
				t.Errorf("recorded %q", a.Withheld)
			}
		})
	}
}

// A connection may let through what can't be masked; what is text all the same
// is masked.
func TestBinary(t *testing.T) {
	meta := decided(call.HTTP, cards)
	meta.Response.Binary = call.BinaryPass
	for name, tt := range map[string]struct {
		headers []string
		body    string
		want    string // "": the same
	}{
		"binary":           {[]string{"content-type", "image/png"}, "\x89PNG\r\n\x1a\n\x00" + card, ""},
		"unknown encoding": {[]string{"content-type", "application/json", "content-encoding", "compress"}, card, ""},
		"really text":      {[]string{"content-type", "image/png"}, "card " + card, "card [redacted:card]"},
		"really JSON":      {[]string{"content-type", "application/octet-stream"}, `{"a":"` + card + `"}`, `{"a":"[redacted:card]"}`},
		"really XML":       {[]string{"content-type", "application/octet-stream"}, `<a>&#52;111111111111111</a>`, `<a>[redacted:card]</a>`},
		"encoded text":     {[]string{"content-type", "image/png", "content-encoding", "gzip"}, encode(t, card, "gzip"), "[redacted:card]"},
		"a long text":      {[]string{"content-type", "image/png"}, strings.Repeat("é", 5000) + card, strings.Repeat("é", 5000) + "[redacted:card]"},
	} {
		t.Run(name, func(t *testing.T) {
			b := start(t)
			got := b.run(t, exchange{mode: duplex, meta: meta, headers: tt.headers, chunks: []string{tt.body[:1], tt.body[1:], ""}})
			want := tt.want
			if want == "" {
				want = tt.body
			}
			if got.err != nil || !got.ended || got.body != want {
				t.Errorf("got %+v", got)
			}
			if a := b.one(t); len(a.Masked) != 1 || (a.Masked[0].Type == "passed") != (tt.want == "") {
				t.Errorf("recorded %+v", a.Masked)
			}
		})
	}
}

// All responses together hold no more than they may.
func TestMemory(t *testing.T) {
	b := start(t, func(c *Config) { c.Memory = 256 << 10 })
	big := `["{\"a\":\"` + strings.Repeat("x", 400<<10) + `\"}"]`
	got := b.run(t, exchange{mode: duplex, meta: decided(call.HTTP, cards), headers: jsonType, chunks: []string{big[:200<<10], big[200<<10:]}})
	if got.immediate == nil {
		t.Errorf("got %+v", got)
	}
	if n := b.server.memory.used.Load(); n != 0 {
		t.Errorf("%d bytes are still counted", n)
	}
	if a := b.one(t); !strings.Contains(a.Withheld, "masking.memory") {
		t.Errorf("recorded %+v", a)
	}
}

// What a small message decodes to is handed on as it is decoded: neither the
// budget nor the heap ever has all of it. Where Envoy must get it in one piece, the
// budget bounds it.
func TestDecodedInSteps(t *testing.T) {
	const size = 10 << 20
	var plain strings.Builder
	for n := 0; plain.Len() < size; n++ { // a little under what a bomb is known by
		fmt.Fprintf(&plain, "%08x%s\n", n*2654435761, strings.Repeat("a", 4000))
	}
	sent := encode(t, plain.String()+card+"\n", "gzip")
	total := plain.Len()
	plain.Reset()
	if total/len(sent) < 100 || total/len(sent) >= maxRatio {
		t.Fatalf("%d bytes in %d: the body shows nothing", total, len(sent))
	}
	x := exchange{mode: duplex, meta: decided(call.HTTP, cards), headers: []string{"content-type", "text/plain", "content-encoding", "gzip"}, chunks: []string{sent}}
	b := start(t, func(c *Config) { c.Memory = 4 << 20 })
	stream, err := b.client.Process(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	before := liveHeap()
	for _, req := range x.requests(t) {
		if err := stream.Send(req); err != nil {
			t.Fatal(err)
		}
	}
	_ = stream.CloseSend()
	n, sampled, most, tail := 0, 0, int64(0), ""
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		body := m.GetResponseBody().GetResponse().GetBodyMutation().GetStreamedResponse().GetBody()
		tail = (tail + string(body))[max(0, len(tail)+len(body)-64):]
		if n += len(body); n-sampled > 2<<20 {
			sampled, most = n, max(most, liveHeap()-before)
		}
	}
	if n < total || !strings.HasSuffix(tail, "\n[redacted:card]\n") {
		t.Errorf("%d bytes of %d, at the end %q", n, total, tail)
	}
	t.Logf("%d bytes were held of %d", most, n)
	if most > 7<<20 {
		t.Errorf("%d bytes were held of %d", most, n)
	}
	b.quiet(t)
	x.mode = streaming
	whole := start(t, func(c *Config) { c.Memory = 4 << 20 })
	if got := whole.run(t, x); got.body != "" && got.ended {
		t.Errorf("%d bytes passed at once", len(got.body))
	}
	if a := whole.one(t); !strings.Contains(a.Withheld, "masking.memory") {
		t.Errorf("recorded %+v", a.Withheld)
	}
}

// liveHeap is what is reachable, pools apart.
func liveHeap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
