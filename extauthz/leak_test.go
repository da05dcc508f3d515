package extauthz

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/andybalholm/brotli"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/klauspost/compress/zstd"

	"github.com/callgate/callgate/call"
)

// The caller's own credential is for the gateway alone, wherever it stands.
func TestCallersCredentialElsewhere(t *testing.T) {
	r := newRig(t)
	get := func(req *authv3.CheckRequest) { httpOf(req).Method = "GET" }
	for name, query := range map[string]string{
		"in a parameter":         "?access_token=" + plantedToken,
		"in the middle of it":    "?next=https://a.test/?t=" + plantedToken + "%26x",
		"as a key":               "?" + plantedToken + "=1",
		"in the path":            "/" + plantedToken,
		"with a letter escaped":  "?access_token=" + escapeFirst(plantedToken),
		"behind another of them": "?access_token=1&access_token=" + plantedToken,
	} {
		t.Run(name, func(t *testing.T) {
			r.check(t, request(to("crm", "/crm/refunds"+query), body(""), get)).denied(t, 400, call.ReasonMalformedRequest)
		})
	}

	a := r.check(t, request(add("x-forwarded-authorization", "Bearer "+plantedToken), add("x-team", "a"), add("x-id-token", plantedToken+", "+plantedToken)))
	if a.GetOkResponse() == nil {
		t.Fatalf("%v", a.CheckResponse)
	}
	removed := a.GetOkResponse().GetHeadersToRemove()
	for name, want := range map[string]bool{"x-forwarded-authorization": true, "x-id-token": true, "x-team": false, "content-type": false} {
		if got := slices.Contains(removed, name); got != want {
			t.Errorf("%s is removed: %v", name, got)
		}
	}
}

// Nor in the body, however it is written there. A line more is a case more.
func TestCallersCredentialInBody(t *testing.T) {
	r := newRig(t)
	unicode := `\u` + fmt.Sprintf("%04x", plantedToken[0]) + plantedToken[1:]
	for name, text := range map[string]string{
		"in an argument":        `{"amount":5,"note":"` + plantedToken + `"}`,
		"inside one":            `{"amount":5,"note":"use Bearer ` + plantedToken + `."}`,
		"with a letter escaped": `{"amount":5,"note":"` + unicode + `"}`,
		"deep":                  `{"amount":5,"a":[{"b":["` + unicode + `"]}]}`,
		"as a name":             `{"amount":5,"` + plantedToken + `":1}`,
		"in what is no JSON":    plantedToken,
		"twice":                 `{"amount":5,"note":"` + plantedToken + `","also":"` + unicode + `"}`,
	} {
		t.Run(name, func(t *testing.T) {
			r.check(t, request(to("crm", "/crm/refunds"), body(text))).denied(t, 400, call.ReasonMalformedRequest)
			events := r.recorder.all()
			e := events[len(events)-1].Decided
			if all := string(e.Body.Head) + string(e.ArgsJSON); strings.Contains(all, plantedToken) || strings.Contains(all, plantedToken[1:]) {
				t.Errorf("the record has it: %s", all)
			}
		})
	}
	if a := r.check(t, request(to("crm", "/crm/refunds"), body(`{"amount":5,"note":"`+plantedToken[:11]+`"}`))); a.GetOkResponse() == nil {
		t.Errorf("a part of it is no credential: %v", a.CheckResponse)
	}
}

func escapeFirst(s string) string {
	const hex = "0123456789ABCDEF"
	return "%" + string(hex[s[0]>>4]) + string(hex[s[0]&15]) + s[1:]
}

// Nor in a body that is packed, whatever it is packed with. What can't be
// unpacked is refused for that; either way nothing of it is recorded.
func TestCallersCredentialInPackedBody(t *testing.T) {
	r := newRig(t)
	unicode := `\u` + fmt.Sprintf("%04x", plantedToken[0]) + plantedToken[1:]
	packed := map[string]func(io.Writer) io.WriteCloser{
		"gzip":    func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) },
		"deflate": func(w io.Writer) io.WriteCloser { return zlib.NewWriter(w) },
		"br":      func(w io.Writer) io.WriteCloser { return brotli.NewWriter(w) },
		"zstd": func(w io.Writer) io.WriteCloser {
			z, err := zstd.NewWriter(w)
			if err != nil {
				t.Fatal(err)
			}
			return z
		},
	}
	bodies := map[string]struct{ text, kind string }{
		"plain":   {`{"amount":5,"note":"` + plantedToken + `"}`, "application/json"},
		"escaped": {`{"amount":5,"note":"` + unicode + `"}`, "application/json"},
		"a name":  {`{"amount":5,"` + unicode + `":1}`, "application/json"},
		"a form":  {"amount=5&note=" + escapeFirst(plantedToken), "application/x-www-form-urlencoded"},
		"a part":  {"--b\r\nContent-Disposition: form-data; name=\"note\"\r\n\r\n" + plantedToken + "\r\n--b--\r\n", "multipart/form-data; boundary=b"},
	}
	for encoding, pack := range packed {
		for name, b := range bodies {
			t.Run(encoding+", "+name, func(t *testing.T) {
				var out bytes.Buffer
				w := pack(&out)
				if _, err := io.WriteString(w, b.text); err != nil {
					t.Fatal(err)
				}
				if err := w.Close(); err != nil {
					t.Fatal(err)
				}
				ask := request(to("crm", "/crm/refunds"), body(out.String()), drop("content-type"), add("content-type", b.kind), add("content-encoding", encoding))
				r.check(t, ask).denied(t, 400, call.ReasonMalformedRequest)
				events := r.recorder.all()
				e := events[len(events)-1].Decided
				if !strings.Contains(e.Decision.Message, "credential in it") || len(e.Body.Head)+len(e.ArgsJSON) > 0 {
					t.Errorf("%s; the record has %q %q", e.Decision.Message, e.Body.Head, e.ArgsJSON)
				}
			})
		}
	}
}

// Nor in any call of a batch, of which then none is let through.
func TestCallersCredentialInBatch(t *testing.T) {
	r := newBatchRig(t)
	unicode := `\u` + fmt.Sprintf("%04x", plantedToken[0]) + plantedToken[1:]
	clean := rpcOf("get", "1")
	element := func(params string) string { return `{"jsonrpc":"2.0","method":"get","id":2,"params":` + params + `}` }
	for name, text := range map[string]string{
		"plain":           element(`{"note":"` + plantedToken + `"}`),
		"escaped":         element(`{"note":"` + unicode + `"}`),
		"deep":            element(`{"a":[{"b":["x ` + unicode + ` y"]}]}`),
		"as a name":       element(`{"` + unicode + `":1}`),
		"in a list":       element(`["` + unicode + `"]`),
		"a notification":  `{"jsonrpc":"2.0","method":"note","params":["` + unicode + `"]}`,
		"in the method":   `{"jsonrpc":"2.0","method":"` + unicode + `","id":2}`,
		"in the id":       `{"jsonrpc":"2.0","method":"get","id":"` + unicode + `"}`,
		"in another name": `{"jsonrpc":"2.0","method":"get","id":2,"` + unicode + `":1}`,
	} {
		t.Run(name, func(t *testing.T) {
			before := len(r.recorder.all())
			resp, err := r.Check(t.Context(), request(to("rpc", "/rpc"), editable, body("["+clean+","+text+"]")))
			if err != nil {
				t.Fatal(err)
			}
			if resp.GetOkResponse() != nil {
				t.Error("the batch is let through")
			}
			for _, e := range r.recorder.all()[before:] {
				d := e.Decided
				if all := string(d.Body.Head) + string(d.ArgsJSON) + d.Function + string(d.RPCID); strings.Contains(all, plantedToken[1:]) {
					t.Errorf("a record has it: %s", all)
				}
			}
		})
	}
}
