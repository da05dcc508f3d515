package protocol

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"io"
	"strconv"
	"strings"
	"testing"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"

	"github.com/callgate/callgate/call"
)

func compressed(t testing.TB, encoding, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	var err error
	switch encoding {
	case "gzip":
		w = gzip.NewWriter(&b)
	case "deflate":
		w = zlib.NewWriter(&b)
	case "raw":
		w, err = flate.NewWriter(&b, 6)
	case "br":
		w = brotli.NewWriter(&b)
	case "zstd":
		w, err = zstd.NewWriter(&b)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func encodedRequest(encoding string, body []byte) *call.Request {
	return &call.Request{Method: "POST", Authority: "gate.test", Path: "/refunds", Body: body, Headers: call.Headers{
		{Name: "content-type", Value: "application/json"}, {Name: "content-encoding", Value: encoding}, {Name: "content-length", Value: strconv.Itoa(len(body))}}}
}

func encodedParser(t testing.TB) Parser {
	t.Helper()
	p, err := New(Config{Protocol: call.HTTP, BasePath: "/", MaxBody: 1000, Functions: []Function{{Name: "refunds.create", Method: "POST", Path: "/refunds"}}})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestEncodings(t *testing.T) {
	p := encodedParser(t)
	for _, encoding := range []string{"gzip", "deflate", "br", "zstd", "GZIP"} {
		body := compressed(t, strings.ToLower(encoding), `{"amount":7}`)
		req := encodedRequest(encoding, body)
		inv, err := p.Parse(req)
		if err != nil || inv.Args["amount"] != int64(7) {
			t.Errorf("%s: %+v, %v", encoding, inv, err)
		}
		if !bytes.Equal(req.Body, body) || req.Headers.Get("content-encoding") != encoding {
			t.Errorf("%s: the request was changed", encoding)
		}
	}
	bomb := strings.Repeat("a", 1<<20)
	damaged := compressed(t, "gzip", `{"amount":7}`)
	damaged[len(damaged)-5] ^= 1
	two := append(compressed(t, "gzip", `{"amount":7}`), compressed(t, "gzip", `{"amount":9}`)...)
	for what, c := range map[string]struct {
		encoding string
		body     []byte
		want     call.Reason
	}{
		"a bomb in gzip":          {"gzip", compressed(t, "gzip", bomb), call.ReasonBodyTooLarge},
		"a bomb in deflate":       {"deflate", compressed(t, "deflate", bomb), call.ReasonBodyTooLarge},
		"a bomb in br":            {"br", compressed(t, "br", bomb), call.ReasonBodyTooLarge},
		"a bomb in zstd":          {"zstd", compressed(t, "zstd", bomb), call.ReasonBodyTooLarge},
		"two streams of gzip":     {"gzip", two, call.ReasonMalformedRequest},
		"gzip and something":      {"gzip", append(compressed(t, "gzip", `{"amount":7}`), 'x'), call.ReasonMalformedRequest},
		"br and something":        {"br", append(compressed(t, "br", `{"amount":7}`), 'x'), call.ReasonMalformedRequest},
		"deflate and something":   {"deflate", append(compressed(t, "deflate", `{"amount":7}`), 'x'), call.ReasonMalformedRequest},
		"zstd and something":      {"zstd", append(compressed(t, "zstd", `{"amount":7}`), 'x'), call.ReasonMalformedRequest},
		"raw deflate":             {"deflate", compressed(t, "raw", `{"amount":7}`), call.ReasonMalformedRequest},
		"a wrong checksum":        {"gzip", damaged, call.ReasonMalformedRequest},
		"half a stream":           {"gzip", compressed(t, "gzip", `{"amount":7}`)[:15], call.ReasonMalformedRequest},
		"plain JSON as gzip":      {"gzip", []byte(`{"amount":7}`), call.ReasonMalformedRequest},
		"nothing as gzip":         {"gzip", nil, call.ReasonMalformedRequest},
		"two encodings":           {"gzip, br", compressed(t, "gzip", `{"amount":7}`), call.ReasonMalformedRequest},
		"one that nobody knows":   {"lzma", []byte("x"), call.ReasonMalformedRequest},
		"JSON with a name twice":  {"gzip", compressed(t, "gzip", `{"amount":7,"amount":9}`), call.ReasonMalformedRequest},
		"what decodes to no JSON": {"gzip", compressed(t, "gzip", `amount=7`), call.ReasonMalformedRequest},
		"gzip inside gzip":        {"gzip", compressed(t, "gzip", string(compressed(t, "gzip", `{"amount":7}`))), call.ReasonMalformedRequest},
	} {
		_, err := p.Parse(encodedRequest(c.encoding, c.body))
		var known *Error
		if !errors.As(err, &known) || known.Reason != c.want {
			t.Errorf("%s: %v, want %s", what, err, c.want)
		}
	}
	// Two headers are refused, not the first believed.
	req := encodedRequest("gzip", compressed(t, "gzip", `{"amount":7}`))
	req.Headers = append(req.Headers, call.Header{Name: "content-encoding", Value: "identity"})
	if _, err := p.Parse(req); err == nil {
		t.Error("two content-encoding headers were taken")
	}
	req = encodedRequest("gzip", compressed(t, "gzip", `{"amount":7}`))
	req.Headers[2].Value = "3"
	if _, err := p.Parse(req); err == nil {
		t.Error("a wrong content-length was taken")
	}
}

func FuzzEncodings(f *testing.F) {
	for _, e := range []string{"gzip", "deflate", "br", "zstd"} {
		f.Add(e, compressed(f, e, `{"amount":7}`))
	}
	p := encodedParser(f)
	f.Fuzz(func(t *testing.T, encoding string, body []byte) {
		inv, err := p.Parse(encodedRequest(encoding, body))
		if err == nil && len(inv.ArgsJSON) > 100_000 {
			t.Error("more than the bound came out")
		}
	})
}
