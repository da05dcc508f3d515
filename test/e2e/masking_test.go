package e2e

import (
	"bufio"
	"bytes"
	"compress/zlib"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// What functions return that must not get out. The e-mail address has no other
// spelling that a test could miss.
const (
	plantedCard  = "4111111111111111"
	plantedMail  = "jane.doe@example.com"
	plantedPhone = "hunter2-very-secret" // under the key "password"
)

// shown is what a response may be like: at most one of the texts must be there.
type shown struct {
	status int
	body   string // exactly, if it is not empty
	has    string
}

// returned is one way in which a function answers. Its answer holds planted
// values, and none of them may reach the caller, whatever the outcome is.
type returned struct {
	name   string
	answer func(w http.ResponseWriter, r *http.Request)
	want   shown
}

// says answers with headers (name, value) and a body.
func says(body string, headers ...string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(headers); i += 2 {
			w.Header().Add(headers[i], headers[i+1])
		}
		_, _ = io.WriteString(w, body)
	}
}

func typed(contentType, body string, headers ...string) func(http.ResponseWriter, *http.Request) {
	return says(body, append([]string{"content-type", contentType}, headers...)...)
}

// piecewise writes a body in chunks that leave by themselves.
func piecewise(contentType string, chunks ...string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("content-type", contentType)
		for _, c := range chunks {
			_, _ = io.WriteString(w, c)
			_ = http.NewResponseController(w).Flush()
		}
	}
}

// squeezed encodes a body.
func squeezed(contentType, body string, names ...string) func(http.ResponseWriter, *http.Request) {
	out := []byte(body)
	for _, name := range names {
		var b bytes.Buffer
		var w io.WriteCloser
		switch name {
		case "gzip":
			w = gzip.NewWriter(&b)
		case "deflate":
			w = zlib.NewWriter(&b)
		case "br":
			w = brotli.NewWriter(&b)
		case "zstd":
			w, _ = zstd.NewWriter(&b)
		}
		_, _ = w.Write(out)
		_ = w.Close()
		out = b.Bytes()
	}
	return typed(contentType, string(out), "content-encoding", strings.Join(names, ", "), "vary", "accept-encoding")
}

const (
	sensitive = `{"card":"` + plantedCard + `","to":"` + plantedMail + `","password":"` + plantedPhone + `","n":1}`
	cleaned   = `{"card":"[redacted:card]","to":"[redacted:email]","password":"[redacted]","n":1}`
	withheld  = "response_withheld"
)

var returns = []returned{
	{"json", typed("application/json", sensitive), shown{200, cleaned, ""}},
	{"json, chunked", piecewise("application/json", sensitive[:15], sensitive[15:30], sensitive[30:]), shown{200, cleaned, ""}},
	{"json as text", typed("text/plain", sensitive), shown{200, cleaned, ""}},
	{"json as html", typed("text/html", sensitive), shown{200, "", "[redacted:card]"}},
	{"json as csv", typed("text/csv", sensitive), shown{200, "", "[redacted:card]"}},
	{"json as an image", typed("image/png", sensitive), shown{502, "", withheld}},
	{"json of no type", typed("", sensitive), shown{200, "", "[redacted:card]"}},
	{"json cut off", typed("application/json", sensitive[:len(sensitive)-1]), shown{502, "", withheld}},
	{"json in utf-16", typed("application/json; charset=utf-16", sensitive), shown{502, "", withheld}},
	{"two documents", typed("application/json", sensitive+sensitive), shown{502, "", withheld}},
	{"problem", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("content-type", "application/problem+json")
		w.WriteHeader(http.StatusConflict)
		_, _ = io.WriteString(w, sensitive)
	}, shown{409, cleaned, ""}},
	{"json in a string", typed("application/json", `{"text":"{\"password\":\"`+plantedPhone+`\",\"c\":\"`+plantedCard+`\"}"}`), shown{200, `{"text":"{\"password\":\"[redacted]\",\"c\":\"[redacted:card]\"}"}`, ""}},
	{"escapes", typed("application/json", `{"c":"`+strings.ReplaceAll(plantedCard, "1", `\u0031`)+`"}`), shown{200, `{"c":"[redacted:card]"}`, ""}},
	{"digits of another script", typed("application/json", `{"c":"`+strings.ReplaceAll(plantedCard, "1", "١")+`"}`), shown{200, `{"c":"[redacted:card]"}`, ""}},
	{"dashes and spaces", typed("application/json", `{"c":"4111–1111 1111 1111"}`), shown{200, `{"c":"[redacted:card]"}`, ""}},
	{"a number", typed("application/json", `[`+plantedCard+`]`), shown{200, `["[redacted:card]"]`, ""}},
	{"events", piecewise("text/event-stream", "data: "+plantedCard[:7], plantedCard[7:]+"\n", "\n", "data: "+sensitive+"\n\n"), shown{200, "data: [redacted:card]\n\ndata: " + cleaned + "\n\n", ""}},
	{"json lines", piecewise("application/x-ndjson", sensitive+"\n"+sensitive[:9], sensitive[9:]+"\n"), shown{200, cleaned + "\n" + cleaned + "\n", ""}},
	{"text", typed("text/plain", "card "+plantedCard+"\npassword: "+plantedPhone+"\n"), shown{200, "card [redacted:card]\npassword: [redacted]\n", ""}},
	{"gzip", squeezed("application/json", sensitive, "gzip"), shown{200, cleaned, ""}},
	{"deflate", squeezed("application/json", sensitive, "deflate"), shown{200, cleaned, ""}},
	{"br", squeezed("application/json", sensitive, "br"), shown{200, cleaned, ""}},
	{"zstd", squeezed("application/json", sensitive, "zstd"), shown{200, cleaned, ""}},
	{"compressed twice", squeezed("application/json", sensitive, "gzip", "br"), shown{200, cleaned, ""}},
	{"compressed, not said", typed("application/json", string(rawGzip(sensitive))), shown{502, "", withheld}},
	{"compressed twice, said once", typed("application/json", string(rawGzip(string(rawGzip(sensitive)))), "content-encoding", "gzip"), shown{502, "", withheld}},
	{"said compressed, is not", typed("application/json", sensitive, "content-encoding", "gzip"), shown{502, "", withheld}},
	{"an encoding that nobody knows", typed("application/json", sensitive, "content-encoding", "rot13"), shown{502, "", withheld}},
	{"a bomb", squeezed("application/json", `["`+plantedCard+strings.Repeat(" ", 16<<20)+`"]`, "gzip"), shown{502, "", withheld}},
	{"a bomb in a bomb", squeezed("application/json", `["`+plantedCard+strings.Repeat(" ", 16<<20)+`"]`, "gzip", "gzip"), shown{502, "", withheld}},
	{"a part", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("content-type", "application/json")
		w.Header().Set("content-range", "bytes 0-20/100")
		w.WriteHeader(http.StatusPartialContent)
		_, _ = io.WriteString(w, sensitive[:21])
	}, shown{502, "", withheld}},
	{"a length that is too long", func(w http.ResponseWriter, r *http.Request) {
		raw(w, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n"+sensitive)
	}, shown{0, "", ""}},
	{"a length that is too short", func(w http.ResponseWriter, r *http.Request) {
		raw(w, fmt.Sprintf("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s", len(sensitive)-5, sensitive))
	}, shown{502, "", withheld}},
	{"xml", typed("application/xml", `<r><c n="`+plantedCard+`">4111<!-- -->111111111111</c><password>`+plantedPhone+`</password></r>`), shown{200, `<r><c n="[redacted:card]">[redacted:card]<!-- --></c><password>[redacted]</password></r>`, ""}},
	{"xml with a document type", typed("text/xml", `<!DOCTYPE r [<!ENTITY a "4111">]><r>&a;111111111111 `+plantedMail+`</r>`), shown{502, "", withheld}},
	{"html", typed("text/html", `<p>4111<b>1111</b>1111<i>1111</i><input name="password" value="`+plantedPhone+`"></p>`), shown{200, `<p>[redacted:card]<b></b><i></i><input name="password" value="[redacted]"></p>`, ""}},
	{"csv", piecewise("text/csv", "id,password\n1,hunter2", "-very-secret\n2,\""+plantedCard+"\"\n"), shown{200, "id,password\n1,[redacted]\n2,\"[redacted]\"\n", ""}},
	{"form", typed("application/x-www-form-urlencoded", "a=4111+1111+1111+1111&password="+plantedPhone), shown{200, "a=%5Bredacted%3Acard%5D&password=%5Bredacted%5D", ""}},
	{"multipart", typed("multipart/form-data; boundary=b", "--b\r\nContent-Disposition: form-data; name=\"password\"\r\n\r\n"+plantedPhone+"\r\n--b--\r\n"), shown{200, "", "[redacted]"}},
	{"ranges", typed("multipart/byteranges; boundary=b", "--b\r\nContent-Type: application/json\r\n\r\n"+sensitive+"\r\n--b--\r\n"), shown{502, "", withheld}},
	{"headers", typed("application/json", "{}", "x-card", plantedCard, "x-card", "two", "set-cookie", "password="+plantedPhone+"; Path=/", "set-cookie", "theme=dark",
		"link", "</a?to="+strings.Replace(plantedMail, "@", "%40", 1)+">; rel=next", "password", plantedPhone, "etag", `"`+plantedCard+`"`, "content-digest", "sha-256=:"+plantedCard+":"), shown{200, "{}", ""}},
	{"a redirect", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("location", "https://elsewhere.example/?card=4111%201111%201111%201111&m="+plantedMail)
		w.WriteHeader(http.StatusFound)
	}, shown{302, "", ""}},
	{"a challenge", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("www-authenticate", `Bearer realm="`+plantedMail+`", error_description="card `+plantedCard+`"`)
		w.Header().Set("content-type", "application/json")
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, sensitive)
	}, shown{401, cleaned, ""}},
	{"a redirect with a body", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("location", "/next?password="+plantedPhone)
		w.Header().Set("refresh", "0; url=/next?m="+strings.Replace(plantedMail, "@", "%40", 1))
		w.Header().Set("content-type", "text/html")
		w.WriteHeader(http.StatusSeeOther)
		_, _ = io.WriteString(w, `<a href="/next?password=`+plantedPhone+`&m=`+plantedMail+`">`+plantedCard+`</a>`)
	}, shown{303, "", "[redacted:card]"}},
	{"trailers with a digest", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("content-type", "application/json")
		w.Header().Set("trailer", "repr-digest, password")
		_, _ = io.WriteString(w, sensitive)
		w.Header().Set("repr-digest", "sha-256=:"+plantedCard+":")
		w.Header().Set("password", plantedPhone)
	}, shown{200, cleaned, ""}},
	{"not modified", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("etag", `"`+plantedCard+`"`)
		w.Header().Set("x-owner", plantedMail)
		w.WriteHeader(http.StatusNotModified)
	}, shown{304, "", ""}},
	{"no content", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("x-owner", plantedMail)
		w.WriteHeader(http.StatusNoContent)
	}, shown{204, "", ""}},
	{"trailers", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("content-type", "application/json")
		w.Header().Set("trailer", "x-owner")
		_, _ = io.WriteString(w, sensitive)
		w.Header().Set("x-owner", plantedMail)
	}, shown{200, cleaned, ""}},
	{"binary", typed("application/octet-stream", "\x00\x01"+plantedCard), shown{502, "", withheld}},
}

func rawGzip(s string) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = io.WriteString(w, s)
	_ = w.Close()
	return b.Bytes()
}

// raw answers with bytes as they are, and hangs up.
func raw(w http.ResponseWriter, response string) {
	conn, out, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	_, _ = out.WriteString(response)
	_ = out.Flush()
	_ = conn.Close()
}

// functions is what answers for the tests of masking.
var functions struct {
	sync.Once
	sync.Mutex
	answers map[string]func(http.ResponseWriter, *http.Request)
	got     map[string]http.Header
	err     error
}

// masked makes an answer reachable below /shapes/ of the shared stack, with all
// planted values under its masks. The function's server ends with the process.
func masked(t *testing.T, w *world, name string, answer func(http.ResponseWriter, *http.Request)) string {
	t.Helper()
	functions.Do(func() {
		functions.answers, functions.got = map[string]func(http.ResponseWriter, *http.Request){}, map[string]http.Header{}
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
			name := strings.TrimPrefix(r.URL.Path, "/")
			functions.Lock()
			answer := functions.answers[name]
			functions.got[name] = r.Header.Clone()
			functions.Unlock()
			if answer == nil {
				http.NotFound(out, r)
				return
			}
			answer(out, r)
		}))
		server.Start()
		policy := `connections:
  - name: shapes
    protocol: http
    match: {path: /shapes}
    upstream: {url: "` + server.URL + `/", timeout: 60s}
    functions: [{name: get, method: GET, path: "/{name}"}, {name: head, method: HEAD, path: "/{name}"}, {name: post, method: POST, path: "/{name}"}]
    max_response: 1MiB
    record: {max_body: 64KiB}
    mask:
      - {name: all, detect: [all], keys: [password]}
      - {name: paths, paths: ["secret.value", "[*].secret"]}
  - name: strangers
    protocol: http
    match: {path: /strangers}
    upstream: {url: "` + server.URL + `/"}
    functions: [{name: post, method: POST, path: "/{name}"}]
    mask_requests: [{detect: [card, email], keys: [password]}]
rules:
  - {name: anybody uses the shapes, connections: [shapes, strangers], when: '"support" in identity.groups', action: allow}
`
		functions.err = os.WriteFile(filepath.Join(w.Policies, "shapes.yaml"), []byte(policy), 0o600)
	})
	if functions.err != nil {
		t.Fatal(functions.err)
	}
	name = strings.NewReplacer(" ", "-", ",", "", "'", "").Replace(name)
	functions.Lock()
	functions.answers[name] = answer
	functions.Unlock()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		a, err := w.try(t.Context(), http1(), w.alice, "GET", "/shapes/nothing-of-the-kind", "")
		if err == nil && a.status == http.StatusNotFound && a.reason() == "" {
			return "/shapes/" + name
		}
		if time.Now().After(deadline) {
			t.Fatalf("the functions can't be reached: %v %+v", err, a)
		}
	}
}

// clean fails if something planted is in what a caller got.
func clean(t *testing.T, a answer) {
	t.Helper()
	all := a.body + fmt.Sprint(a.header)
	for _, secret := range []string{plantedCard, plantedMail, plantedPhone} {
		if strings.Contains(all, secret) {
			t.Errorf("%s got out: %.500q", secret, all)
		}
	}
}

// None of the answers shows what is masked, over both versions of HTTP.
func TestMaskedAnswers(t *testing.T) {
	versions(t, func(t *testing.T, c *http.Client) {
		c.Transport.(*http.Transport).DisableCompression = true
		c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		for _, r := range returns {
			t.Run(r.name, func(t *testing.T) {
				path := masked(t, shared, r.name, r.answer)
				a, err := shared.try(t.Context(), c, shared.alice, "GET", path, "", "range", "bytes=0-20", "accept-encoding", "gzip, br")
				clean(t, a)
				if head, err := shared.try(t.Context(), c, shared.alice, "HEAD", path, ""); err == nil {
					clean(t, head)
				}
				if r.want.status == 0 {
					if err == nil && a.status == http.StatusOK {
						t.Errorf("passed: %+v", a)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if a.status != r.want.status || r.want.body != "" && a.body != r.want.body || !strings.Contains(a.body, r.want.has) {
					t.Errorf("%d %.600s", a.status, a.body)
				}
				for _, name := range []string{"content-encoding", "etag", "content-range"} {
					if a.header.Get(name) != "" {
						t.Errorf("%s: %s", name, a.header.Get(name))
					}
				}
				if n := a.header.Get("content-length"); n != "" && n != fmt.Sprint(len(a.body)) {
					t.Errorf("content-length %s of %d bytes", n, len(a.body))
				}
				functions.Lock()
				got := functions.got[strings.TrimPrefix(path, "/shapes/")]
				functions.Unlock()
				for _, name := range []string{"range", "accept-encoding"} {
					if got.Get(name) != "" {
						t.Errorf("the function was asked for %s: %s", name, got.Get(name))
					}
				}
			})
		}
	})
}

// A value is hidden at whichever byte a response is cut in two on its way.
func TestMaskedCuts(t *testing.T) {
	for contentType, body := range map[string]string{
		"application/json":  sensitive,
		"text/event-stream": "data: " + sensitive + "\n\ndata: " + plantedCard + "\n\n",
		"text/plain":        "a " + plantedCard + " b " + plantedMail,
	} {
		path := masked(t, shared, "cut "+contentType[:4], func(w http.ResponseWriter, r *http.Request) {
			cut, _ := strconv.Atoi(r.URL.Query().Get("at"))
			piecewise(contentType, body[:cut], body[cut:])(w, r)
		})
		c := http1()
		for cut := 1; cut < len(body); cut++ {
			a := shared.call(t, c, shared.alice, "GET", path+"?at="+strconv.Itoa(cut), "")
			if clean(t, a); a.status != 200 || !strings.Contains(a.body, "[redacted:card]") {
				t.Errorf("%s cut at %d: %d %s", contentType, cut, a.status, a.body)
			}
		}
	}
}

// Events leave one by one, encoded ones too.
func TestMaskedEventsFlow(t *testing.T) {
	for _, encoding := range []string{"", "gzip"} {
		more := make(chan struct{})
		path := masked(t, shared, "flow"+encoding, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("content-type", "text/event-stream")
			out, flush := io.Writer(w), func() error { return nil }
			if encoding != "" {
				w.Header().Set("content-encoding", encoding)
				z := gzip.NewWriter(w)
				out, flush = z, z.Flush
				defer z.Close()
			}
			for range 3 {
				_, _ = io.WriteString(out, "data: "+plantedCard+"\n\n")
				_ = flush()
				_ = http.NewResponseController(w).Flush()
				select {
				case <-more:
				case <-r.Context().Done():
				}
			}
		})
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, "GET", shared.scheme+"://"+shared.Addrs.Envoy+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("authorization", "Bearer "+shared.alice)
		resp, err := http1().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		in := bufio.NewReader(resp.Body)
		for range 3 {
			// The next event is sent once this one has arrived.
			line, err := in.ReadString('\n')
			if err != nil || line != "data: [redacted:card]\n" {
				t.Fatalf("%q %v", line, err)
			}
			if _, err := in.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
			select {
			case more <- struct{}{}:
			case <-ctx.Done():
				t.Fatal("the function does not go on")
			}
		}
		_ = resp.Body.Close()
	}
}

// endless is a large body, made as it is read: JSON on one line, or events.
type endless struct {
	head, piece, tail string
	n                 int
}

func (e endless) ServeHTTP(contentType string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("content-type", contentType)
		out := bufio.NewWriterSize(w, 64<<10)
		_, _ = out.WriteString(e.head)
		for range e.n {
			_, _ = out.WriteString(e.piece)
		}
		_, _ = out.WriteString(e.tail)
		_ = out.Flush()
	}
}

// addedMemory is the most that the serving process may need while a response
// passes, whatever its size, in bytes.
const addedMemory = 64 << 20

// memoryInUse is what the Go runtime has of the machine's memory, in bytes. The
// serving process is this one, with the function and the caller beside it.
func memoryInUse() int64 {
	s := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(s)
	return int64(s[0].Value.Uint64() - s[1].Value.Uint64())
}

// Large responses go through whole, in little memory. CALLGATE_SOAK makes them as
// large as anybody should send: 1 GiB of JSON on one line, a million events.
func TestMaskedLargeSoak(t *testing.T) {
	soak := os.Getenv("CALLGATE_SOAK") != ""
	size := func(small, large int) int {
		if soak {
			return large
		}
		return small
	}
	const (
		item = `{"id":1,"note":"nothing to hide here, and so on and on","card":"` + plantedCard + `"},`
		text = "nothing to hide, but " + plantedCard + " here. "
	)
	for name, tt := range map[string]struct {
		contentType string
		endless
	}{
		"one line of JSON": {"application/json", endless{"[", item, "0]", size(10_000, 1<<30/len(item))}},
		"one long string":  {"application/json", endless{`{"text":"`, text, `"}`, size(10_000, 100_000_000/len(text))}},
		"events":           {"text/event-stream", endless{"", "data: " + plantedCard + "\n\n", "", size(10_000, 1_000_000)}},
		"text":             {"text/plain", endless{"", text, "", size(10_000, 100_000_000/len(text))}},
	} {
		t.Run(name, func(t *testing.T) {
			path := masked(t, shared, "large "+name, tt.ServeHTTP(tt.contentType))
			req, err := http.NewRequestWithContext(t.Context(), "GET", shared.scheme+"://"+shared.Addrs.Envoy+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("authorization", "Bearer "+shared.alice)
			debug.FreeOSMemory()
			before, most := memoryInUse(), int64(0)
			resp, err := http1().Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			n, hidden, sampled := 0, 0, 0
			buf, rest := make([]byte, 64<<10), ""
			for {
				k, err := resp.Body.Read(buf)
				text := rest + string(buf[:k])
				if strings.Contains(text, plantedCard) {
					t.Fatal("a card got out")
				}
				last := strings.LastIndex(text, "[redacted:card]")
				hidden += strings.Count(text, "[redacted:card]")
				rest = text[max(last+1, len(text)-32):]
				if n += k; n-sampled > 256<<10 {
					sampled, most = n, max(most, memoryInUse())
				}
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatalf("after %d bytes: %v", n, err)
				}
			}
			if hidden != tt.n {
				t.Errorf("%d cards of %d are hidden, in %d bytes", hidden, tt.n, n)
			}
			t.Logf("%d bytes in %d bytes of added memory", n, most-before)
			if most-before > addedMemory {
				t.Errorf("%d bytes of memory were needed for %d bytes of response, at most %d may be", most-before, n, addedMemory)
			}
		})
	}
}

// A function that must not be sent some values does not get them, and the record
// has what it got.
func TestMaskedRequests(t *testing.T) {
	versions(t, func(t *testing.T, c *http.Client) {
		path := strings.Replace(masked(t, shared, "echo", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("content-type", "application/octet-stream")
			w.Header().Set("x-length", r.Header.Get("content-length"))
			_, _ = io.Copy(w, r.Body)
		}), "/shapes/", "/strangers/", 1)
		a := shared.call(t, c, shared.alice, "POST", path, sensitive, "content-digest", "sha-256=:"+plantedCard+":")
		if clean(t, a); a.status != 200 || a.body != cleaned {
			t.Fatalf("%d %s", a.status, a.body)
		}
		shared.row(t, a.id(), "decision", "allow", "request_body", cleaned, "http_status", 200,
			"request_masked.path", "[card to password]", "request_masked.count", "[1 1 1]")
		plain := `{"n":1}`
		if a := shared.call(t, c, shared.alice, "POST", path, plain); a.status != 200 || a.body != plain {
			t.Errorf("%d %s", a.status, a.body)
		}
		if a := shared.call(t, c, shared.alice, "POST", path, "\x00"+plantedCard, "content-type", "image/png"); a.status < 400 {
			t.Errorf("%d %s", a.status, a.body)
		}
	})
}
