package e2e

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// What callers send in headers that Envoy or Callgate set never arrives.
func TestSpoofedHeaders(t *testing.T) {
	a := shared.call(t, http1(), shared.alice, "GET", "/crm/customers/c-1", "",
		"x-callgate-call-id", "01935b5e-7f6a-7c1e-9d3b-2f1f0a9c8b7d", "x-callgate-identity", "root", "x-envoy-auth-partial-body", "false",
		"x-envoy-upstream-rq-timeout-ms", "1", "x-envoy-retry-on", "5xx", "x-envoy-original-path", "/x", "cookie", "session=secret-of-alice",
		"proxy-authorization", "Basic c2VjcmV0", "x-api-key", "mine", "callgate-break-glass", "because I say so")
	if a.status != 200 || a.id() == "01935b5e-7f6a-7c1e-9d3b-2f1f0a9c8b7d" {
		t.Fatalf("%d %s", a.status, a.body)
	}
	last, ok := shared.REST.Last()
	if !ok {
		t.Fatal("the function was not called")
	}
	for name, values := range last.Header {
		n := strings.ToLower(name)
		if strings.HasPrefix(n, "x-envoy-") && n != "x-envoy-external-address" || n == "cookie" || n == "callgate-break-glass" || n == "proxy-authorization" ||
			strings.HasPrefix(n, "x-callgate-") && n != "x-callgate-call-id" {
			t.Errorf("the function got %s: %v", name, values)
		}
	}
	if got := last.Header.Values("x-callgate-call-id"); len(got) != 1 || got[0] != a.id() {
		t.Errorf("the function was told call ids %v", got)
	}
}

// A path means one thing: what is judged is what is called.
func TestPathTricks(t *testing.T) {
	before := shared.REST.Served("reports.delete")
	for _, path := range []string{
		"/crm/customers/c-1/../../reports/q3", "/crm/customers/%2e%2e/reports/q3", "/crm//reports/q3", "/crm/reports%2fq3", "/crm/reports%5cq3",
		"/crm/reports/q3%00", "/crm/reports/q3;x=1", "/crm/%72eports/q3", "/CRM/reports/q3", "/crmx/reports/q3", "/crm/./reports/q3", `/crm\reports\q3`,
		"/crm/reports/q3%25", "/crm/reports/q3#x",
	} {
		a := shared.raw(t, "DELETE "+path+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer "+shared.alice+"\r\n\r\n")
		if a.status < 400 || a.status >= 500 {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	if shared.REST.Served("reports.delete") != before {
		t.Error("a trick reached a function that nobody may call")
	}
}

// Requests that two servers could read differently never arrive.
func TestAmbiguousRequests(t *testing.T) {
	auth := "Authorization: Bearer " + shared.alice + "\r\n"
	body := `{"query":"select 1"}`
	post := func(headers, body string) string {
		return "POST /crm/sql HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + auth + headers + "\r\n" + body
	}
	plain := fmt.Sprintf("Content-Type: application/json\r\nContent-Length: %d\r\n", len(body))
	if a := shared.raw(t, post(plain, body)); a.status != 200 {
		t.Fatalf("the harmless request: %d %s", a.status, a.body)
	}
	for name, request := range map[string]string{
		"websocket":            strings.Replace(post(plain, body), "Connection: close", "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13", 1),
		"connect":              "CONNECT 127.0.0.1:80 HTTP/1.1\r\nHost: 127.0.0.1:80\r\n" + auth + "\r\n",
		"two lengths":          post(plain+"Content-Length: 5\r\n", body),
		"length and chunks":    post(plain+"Transfer-Encoding: chunked\r\n", "0\r\n\r\nGET /crm/reports/q3 HTTP/1.1\r\n\r\n"),
		"two types":            post(plain+"Content-Type: text/plain\r\n", body),
		"two authorizations":   post(plain+"Authorization: Bearer other\r\n", body),
		"two hosts":            post(plain+"Host: y\r\n", body),
		"underscores":          post(plain+"x_callgate_call_id: 1\r\n", body),
		"override":             post(plain+"X-HTTP-Method-Override: DELETE\r\n", body),
		"gzip":                 post(plain+"Content-Encoding: gzip\r\n", body),
		"utf-16":               post(strings.Replace(plain, "application/json", "application/json; charset=utf-16", 1), body),
		"no type":              post(fmt.Sprintf("Content-Length: %d\r\n", len(body)), body),
		"key twice":            post("Content-Type: application/json\r\nContent-Length: 40\r\n", `{"query":"drop table x","query":"select"}`),
		"key in another case":  post("Content-Type: application/json\r\nContent-Length: 34\r\n", `{"query":"select","Query":"drop x"}`[:34]),
		"escaped key":          post("Content-Type: application/json\r\nContent-Length: 41\r\n", `{"query":"select","\u0071uery":"drop it"}`),
		"trailing data":        post("Content-Type: application/json\r\nContent-Length: 22\r\n", body+`{}`),
		"invalid utf-8":        post("Content-Type: application/json\r\nContent-Length: 13\r\n", "{\"query\":\"\xff\"}"),
		"get with a body":      "GET /crm/customers/c-1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + auth + plain + "\r\n" + body,
		"method in the query":  strings.Replace(post(plain, body), "/crm/sql", "/crm/sql?_method=DELETE", 1),
		"argument twice":       strings.Replace(post(plain, body), "/crm/sql", "/crm/sql?query=drop", 1),
		"bare newline header":  "POST /crm/sql HTTP/1.1\nHost: x\n" + auth + "\n" + body,
		"space before a colon": post(plain+"X-Test : 1\r\n", body),
	} {
		t.Run(name, func(t *testing.T) {
			before := shared.REST.Arrived()
			a := shared.raw(t, request)
			// 0 is a connection that Envoy cut without a word.
			if a.status != 0 && a.status < 400 || shared.REST.Arrived() != before {
				t.Errorf("%d %s", a.status, a.body)
			}
		})
	}
}

func TestBodyLimit(t *testing.T) {
	versions(t, func(t *testing.T, c *http.Client) {
		const limit = 1 << 20
		frame := len(`{"query":"select 1 -- "}`)
		fits := `{"query":"select 1 -- ` + strings.Repeat("x", limit-frame) + `"}`
		// The function finds it too long for SQL, but it got there.
		before := shared.REST.Served("sql.run")
		if a := shared.call(t, c, shared.alice, "POST", "/crm/sql", fits); a.reason() != "" || shared.REST.Served("sql.run") != before+1 {
			t.Errorf("exactly the limit: %d %s", a.status, a.body)
		}
		over := `{"query":"select 1 -- ` + strings.Repeat("x", limit) + `"}`
		a := shared.call(t, c, shared.alice, "POST", "/crm/sql", over)
		if a.status != 413 || a.reason() != "body_too_large" || !strings.Contains(a.body, "over the 1048576 bytes that connection crm takes") {
			t.Errorf("over the limit: %d %s", a.status, a.body)
		}
		shared.row(t, a.id(), "decision", "deny", "reason", "body_too_large", "http_status", 413)
	})
	// Chunked: nothing says beforehand how long it will be.
	request := "POST /crm/sql HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer " + shared.alice +
		"\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
	chunk := strings.Repeat("x", 1<<16)
	for range 17 {
		request += fmt.Sprintf("%x\r\n%s\r\n", len(chunk), chunk)
	}
	if a := shared.raw(t, request+"0\r\n\r\n"); a.status != 413 || a.reason() != "body_too_large" {
		t.Errorf("chunked: %d %s", a.status, a.body)
	}
}

func TestUnknownPlaces(t *testing.T) {
	for path, reason := range map[string]string{"/nowhere": "unknown_connection", "/crm/nothing": "unknown_function"} {
		a := shared.call(t, http1(), shared.alice, "GET", path, "")
		if a.status != 404 || a.reason() != reason {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
		shared.row(t, a.id(), "decision", "deny", "reason", reason, "http_status", 404)
	}
}

// A service that is away or slow is a clean answer and a whole row.
func TestUpstreamTrouble(t *testing.T) {
	release := make(chan struct{})
	function := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	defer function.Close()
	defer close(release)
	withRules(t, func(rules string) string {
		return strings.Replace(rules, "rules:\n", "connections:\n  - {name: silent, protocol: http, match: {path: /silent}, upstream: {url: \""+function.URL+"/\", timeout: 1s}, functions: [{name: wait, method: GET, path: /}]}\n"+
			"rules:\n  - {name: silent, connections: [silent], action: allow}\n", 1)
	}, func() {
		a := shared.call(t, http1(), shared.alice, "GET", "/silent", "")
		if a.status != 504 {
			t.Errorf("silent: %d %s", a.status, a.body)
		}
		row := shared.row(t, a.id(), "decision", "allow", "http_status", 504, "finished", "seen")
		if got := fmt.Sprint(row["response_flags"]); got != "[UT]" {
			t.Errorf("flags %s", got)
		}
	})
}

// The listener speaks TLS with a certificate that came by SDS.
func TestTLSListener(t *testing.T) {
	t.Parallel()
	w, stop, err := start(t.Context(), demoTLS(t), true)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	}()
	for _, h2 := range []bool{false, true} {
		c := &http.Client{Transport: &http.Transport{ForceAttemptHTTP2: h2, TLSClientConfig: &tls.Config{RootCAs: w.Authority.Pool()}}}
		if !h2 {
			c.Transport.(*http.Transport).TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
		}
		a := w.call(t, c, w.alice, "GET", "/crm/customers/c-1", "")
		if a.status != 200 {
			t.Errorf("%d %s", a.status, a.body)
		}
		version := map[bool]string{false: "HTTP/1.1", true: "HTTP/2"}[h2]
		w.row(t, a.id(), "http_status", 200, "http_version", version, "tls_version", "TLSv1.3")
	}
	if c := (&tls.Config{RootCAs: w.Authority.Pool(), MaxVersion: tls.VersionTLS11}); true {
		conn, err := tls.DialWithDialer(dialer(5*time.Second), "tcp", w.Addrs.Envoy, c)
		if err == nil {
			conn.Close()
			t.Error("TLS 1.1 was accepted")
		}
	}
}

// An upgrade to HTTP/2 is never made: Envoy leaves the offer out, and what was
// judged is what is called.
func TestUpgradeOfferIsIgnored(t *testing.T) {
	a := shared.raw(t, "GET /crm/customers/c-1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nAuthorization: Bearer "+shared.alice+"\r\n\r\n")
	if a.status == http.StatusSwitchingProtocols {
		t.Error("the connection was upgraded")
	}
	if last, ok := shared.REST.Last(); !ok || last.Header.Get("upgrade") != "" {
		t.Errorf("the function got the offer: %v", last.Header)
	}
}

// A request without a body has none, whatever its method.
func TestNoBody(t *testing.T) {
	before := shared.REST.Arrived()
	a := shared.raw(t, "POST /crm/refunds HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer "+shared.alice+"\r\n\r\n")
	// The rule about amounts can't be evaluated without one.
	if a.status != 403 || a.reason() != "policy_error" || shared.REST.Arrived() != before {
		t.Errorf("%d %s", a.status, a.body)
	}
	shared.row(t, a.id(), "decision", "deny", "reason", "policy_error", "rule", "very large refunds need security, then an approver")
}
