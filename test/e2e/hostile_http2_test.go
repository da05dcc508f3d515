package e2e

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	h2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// hostile2 is a request in HTTP/2, written frame by frame. fields are "name
// value" pairs in their order, parted by the first space; data is the body,
// trailers are fields that follow it.
//
// want is the answer's status and reason, or how Envoy refused: "reset" with the
// error that it gave, or "closed"; and after "->" what reached the function.
type hostile2 struct {
	name     string
	fields   []string
	data     string
	trailers []string
	want     string
}

// h2get are the fields of an allowed call, and more.
func h2get(more ...string) []string {
	return append([]string{":method GET", ":scheme http", ":authority x", ":path /crm/customers/c-1", "authorization Bearer {token}"}, more...)
}

func h2post(more ...string) []string {
	return append([]string{":method POST", ":scheme http", ":authority x", ":path /crm/sql", "authorization Bearer {token}", "content-type application/json"}, more...)
}

// h2with is an allowed call with one of its pseudo-headers changed.
func h2with(name, value string) []string {
	fields := h2get()
	for i, f := range fields {
		if strings.HasPrefix(f, name+" ") {
			fields[i] = name + " " + value
		}
	}
	return fields
}

var hostiles2 = []hostile2{
	{"harmless", h2get(), "", nil, "200 -> GET /customers/c-1"},
	{"harmless with a body", h2post(), selectOne, nil, "200 -> POST /sql"},

	{"two paths", append([]string{":path /crm/reports/q3"}, h2get()...), "", nil, "closed"},
	{"two methods", append([]string{":method DELETE"}, h2get()...), "", nil, "closed"},
	{"two authorities", append([]string{":authority y"}, h2get()...), "", nil, "closed"},
	{"two schemes", append([]string{":scheme https"}, h2get()...), "", nil, "closed"},
	{"no path", h2get()[:3], "", nil, "closed"},
	{"no method", h2get()[1:], "", nil, "closed"},
	{"no scheme", append(h2get()[:1:1], h2get()[2:]...), "", nil, "closed"},
	{"empty path", h2with(":path", ""), "", nil, "closed"},
	{"absolute path", h2with(":path", "http://y/crm/customers/c-1"), "", nil, "closed"},
	{"path without a slash", h2with(":path", "crm/customers/c-1"), "", nil, "closed"},
	{"path with a space", h2with(":path", "/crm/customers/c-1 HTTP/1.1"), "", nil, "closed"},
	{"path with a line", h2with(":path", "/crm/customers/c-1 HTTP/1.1\r\nx-callgate-call-id: 1\r\nx:"), "", nil, "closed"},
	{"path with bytes beyond ASCII", h2with(":path", "/crm/customers/\xc0\xaf"), "", nil, "400 malformed_request"},
	{"path with a fragment", h2with(":path", "/crm/customers/c-1#x"), "", nil, "400"},
	{"path with //", h2with(":path", "/crm//customers/c-1"), "", nil, "200 -> GET /customers/c-1"},
	{"path with %2f", h2with(":path", "/crm/customers%2fc-1"), "", nil, "400"},
	{"path with ..", h2with(":path", "/mcp/../crm/customers/c-1"), "", nil, "200 -> GET /customers/c-1"},
	{"method with a line", h2with(":method", "GET /crm/reports/q3 HTTP/1.1\r\nx:"), "", nil, "closed"},
	{"method with a space", h2with(":method", "GET /"), "", nil, "closed"},
	{"method in lower case", h2with(":method", "get"), "", nil, "404 unknown_function"},
	{"CONNECT", []string{":method CONNECT", ":authority x:443", "authorization Bearer {token}"}, "", nil, "404"},
	{"extended CONNECT", append([]string{":protocol websocket"}, h2with(":method", "CONNECT")...), "", nil, "closed"},
	{":protocol on GET", append([]string{":protocol websocket"}, h2get()...), "", nil, "closed"},
	{"unknown pseudo-header", append([]string{":x y"}, h2get()...), "", nil, "closed"},
	{"a response's pseudo-header", append([]string{":status 200"}, h2get()...), "", nil, "closed"},
	{"pseudo-header at the end", append(h2get()[1:], ":method GET"), "", nil, "closed"},
	{"scheme with a line", h2with(":scheme", "http://x/\r\n"), "", nil, "closed"},
	{"another scheme", h2with(":scheme", "https"), "", nil, "200 -> GET /customers/c-1"},
	{"authority with userinfo", h2with(":authority", "root@x"), "", nil, "closed"},
	{"authority with a path", h2with(":authority", "x/crm/reports"), "", nil, "closed"},
	{"authority with a comma", h2with(":authority", "x,y"), "", nil, "400 malformed_request"},
	{"another host", h2get("host y"), "", nil, "200 -> GET /customers/c-1"},
	{"two hosts", h2get("host x", "host y"), "", nil, "closed"},
	{"host alone", append(h2get()[:2:2], append(h2get()[3:], "host x")...), "", nil, "200 -> GET /customers/c-1"},

	{"two authorizations", h2get("authorization Bearer {token}"), "", nil, "401 invalid_token"},
	{"callgate names", h2get("x-callgate-call-id 1", "x-callgate-identity root"), "", nil, "200 -> GET /customers/c-1"},
	{"callgate name with underscores", h2get("x_callgate_call_id 1"), "", nil, "reset INTERNAL_ERROR"},
	{"callgate name in capitals", h2get("X-Callgate-Call-Id 1"), "", nil, "closed"},
	{"envoy names", h2get("x-envoy-original-path /x", "x-envoy-retry-on 5xx", "x-envoy-upstream-rq-timeout-ms 1", "x-envoy-auth-partial-body false", "x-envoy-force-trace true"), "", nil, "200 -> GET /customers/c-1"},
	{"client certificate", h2get("x-forwarded-client-cert Hash=1;URI=spiffe://x/root"), "", nil, "200 -> GET /customers/c-1"},
	{"connection", h2get("connection authorization"), "", nil, "closed"},
	{"keep-alive", h2get("keep-alive 5"), "", nil, "closed"},
	{"upgrade", h2get("upgrade websocket"), "", nil, "closed"},
	{"TE", h2get("te gzip"), "", nil, "closed"},
	{"line in a value", h2get("x-test 1\r\nx-callgate-call-id: 1"), "", nil, "closed"},
	{"return in a value", h2get("x-test 1\r2"), "", nil, "closed"},
	{"NUL in a value", h2get("x-test 1\x002"), "", nil, "closed"},
	{"line in a name", h2get("x-test:\r\nx-callgate-call-id 1"), "", nil, "closed"},
	{"colon in a name", h2get("x-test:x 1"), "", nil, "closed"},
	{"empty name", h2get(" 1"), "", nil, "closed"},
	{"many headers", h2get(strings.Split(strings.TrimSuffix(strings.Repeat("x-test 1|", 101), "|"), "|")...), "", nil, "reset INTERNAL_ERROR"},
	{"huge header", h2get("x-test " + strings.Repeat("x", 70<<10)), "", nil, "reset INTERNAL_ERROR"},

	{"H2.CL shorter", h2post("content-length 3"), selectOne, nil, "reset PROTOCOL_ERROR"},
	{"H2.CL longer", h2post("content-length 100"), selectOne, nil, "reset PROTOCOL_ERROR"},
	{"H2.CL 0", h2post("content-length 0"), smuggled, nil, "reset PROTOCOL_ERROR"},
	{"H2.CL twice", h2post("content-length "+strconv.Itoa(len(selectOne)), "content-length 3"), selectOne, nil, "closed"},
	{"H2.CL with a sign", h2post("content-length +" + strconv.Itoa(len(selectOne))), selectOne, nil, "closed"},
	{"H2.CL without a body", h2get("content-length 5"), "", nil, "closed"},
	{"H2.TE", h2post("transfer-encoding chunked"), "0\r\n\r\n" + smuggled, nil, "closed"},
	{"H2.TE in another case", h2post("transfer-encoding Chunked"), chunked(selectOne), nil, "closed"},
	{"GET with a body", h2get("content-type application/json"), selectOne, nil, "400 malformed_request"},
	{"trailers", h2post(), selectOne, []string{"x-test 1", "x-callgate-call-id 1", "x-envoy-original-path /x", "authorization Bearer {token}"}, "200 -> POST /sql"},
	{"length in a trailer", h2post(), selectOne, []string{"content-length 3"}, "closed"},
	{"credential only in a trailer", append(h2post()[:4:4], "content-type application/json"), selectOne, []string{"authorization Bearer {token}"}, "401 no_credentials"},
	{"pseudo-header in a trailer", h2post(), selectOne, []string{":path /crm/reports/q3"}, "closed"},
}

func TestHostileHTTP2(t *testing.T) {
	var ids []string
	for _, h := range hostiles2 {
		if closes(h.want) {
			continue
		}
		t.Run(h.name, func(t *testing.T) {
			before := shared.REST.Arrived()
			answers, end := shared.frames(t, h)
			arrived := arrivals(before)
			ids = append(ids, checkArrived(t, answers, arrived)...)
			if got := end + describe(answers, arrived, false); got != h.want {
				t.Errorf("\n got %s\nwant %s", got, h.want)
			}
		})
	}
	checkRows(t, ids)
}

// As with HTTP/1, what Envoy refuses by closing is sent at once.
func TestHostileHTTP2Refused(t *testing.T) {
	before := shared.REST.Arrived()
	t.Run("all", func(t *testing.T) {
		var wait sync.WaitGroup
		defer wait.Wait()
		for _, h := range hostiles2 {
			if closes(h.want) {
				wait.Go(func() {
					if answers, end := shared.frames(t, h); end != h.want {
						t.Errorf("%s:\n got %s\nwant %s", h.name, end+describe(answers, nil, false), h.want)
					}
				})
			}
		}
	})
	if n := shared.REST.Arrived() - before; n != 0 {
		t.Errorf("%d requests reached the function: %s", n, describe(nil, arrivals(before), false))
	}
}

// frames sends a request and reads until it is answered, or refused: then it
// tells how.
func (w *world) frames(t *testing.T, h hostile2) ([]answer, string) {
	t.Helper()
	must := func(err error) {
		if err != nil {
			t.Error(err)
			runtime.Goexit() // of whichever goroutine asks
		}
	}
	conn, err := net.Dial("tcp", w.Addrs.Envoy)
	must(err)
	defer conn.Close()
	must(conn.SetDeadline(time.Now().Add(20 * time.Second)))
	var out bytes.Buffer
	out.WriteString(h2.ClientPreface)
	f := h2.NewFramer(&out, conn)
	f.AllowIllegalWrites = true
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	must(f.WriteSettings())
	const stream, most = 1, 16 << 10
	block := func(fields []string, end bool) {
		var b bytes.Buffer
		enc := hpack.NewEncoder(&b)
		for _, field := range fields {
			name, value, _ := strings.Cut(w.filled(field), " ")
			must(enc.WriteField(hpack.HeaderField{Name: name, Value: value}))
		}
		all := b.Bytes()
		first := all[:min(most, len(all))]
		rest := all[len(first):]
		must(f.WriteHeaders(h2.HeadersFrameParam{StreamID: stream, BlockFragment: first, EndStream: end, EndHeaders: len(rest) == 0}))
		for len(rest) > 0 {
			piece := rest[:min(most, len(rest))]
			rest = rest[len(piece):]
			must(f.WriteContinuation(stream, len(rest) == 0, piece))
		}
	}
	block(h.fields, h.data == "" && h.trailers == nil)
	if h.data != "" {
		must(f.WriteData(stream, h.trailers == nil, []byte(w.filled(h.data))))
	}
	if h.trailers != nil {
		block(h.trailers, true)
	}
	go io.Copy(conn, &out)

	var a answer
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			if err == io.EOF {
				return nil, "closed"
			}
			return nil, err.Error()
		}
		switch frame := frame.(type) {
		case *h2.MetaHeadersFrame:
			if frame.StreamID != stream {
				continue
			}
			if a.header == nil {
				a.header = http.Header{}
			}
			for _, field := range frame.Fields {
				if field.Name == ":status" {
					a.status, err = strconv.Atoi(field.Value)
					must(err)
				}
				a.header.Add(field.Name, field.Value)
			}
			if frame.StreamEnded() {
				return []answer{a}, ""
			}
		case *h2.DataFrame:
			a.body += string(frame.Data())
			if frame.StreamEnded() {
				return []answer{a}, ""
			}
		case *h2.RSTStreamFrame:
			if a.status != 0 {
				return []answer{a}, ""
			}
			return nil, "reset " + frame.ErrCode.String()
		case *h2.GoAwayFrame:
			return nil, "goaway " + frame.ErrCode.String()
		}
	}
}
