package endpoint_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/callgate/callgate/demo/endpoint"
)

func startREST(t *testing.T) (*endpoint.REST, *http.Client) {
	t.Helper()
	server, transport := certified(t)
	s, err := endpoint.NewREST(endpoint.Config{TLS: server, Credential: serviceKey})
	if err != nil {
		t.Fatal(err)
	}
	run(t, s.Run)
	t.Cleanup(transport.CloseIdleConnections)
	return s, &http.Client{Transport: transport}
}

func send(t *testing.T, c *http.Client, method, url, body string, header http.Header) (int, http.Header, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if header != nil {
		req.Header = header
	} else {
		req.Header.Set("Authorization", "Bearer "+serviceKey)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(text)
}

func TestREST(t *testing.T) {
	t.Parallel()
	s, c := startREST(t)
	for _, step := range []struct {
		function, method, path, body string
		status                       int
		want                         string // in the answer
	}{
		{"customers.get", "GET", "/customers/c-1", "", 200, `"card_number":"4242 4242 4242 4242"`},
		{"customers.get", "GET", "/customers/c-9", "", 404, "no such customer"},
		{"customers.search", "GET", "/customers?query=ben@", "", 200, `"id":"c-2"`},
		{"customers.search", "GET", "/customers?query=%25", "", 200, `{"customers":[]}`},
		{"refunds.create", "POST", "/refunds", `{"customer":"c-1","amount":12.5,"currency":"EUR","reason":"broken"}`, 201, `"id":"r-1"`},
		{"refunds.create", "POST", "/refunds", `{"customer":"c-1","amount":-1,"currency":"EUR"}`, 400, "more than 0"},
		{"refunds.create", "POST", "/refunds", `{"customer":"c-9","amount":1,"currency":"EUR"}`, 404, "no such customer"},
		{"refunds.create", "POST", "/refunds", `{`, 400, "not the JSON object"},
		{"sql.run", "POST", "/sql", `{"query":"select id, total from orders where customer = 'c-1'"}`, 200, `{"columns":["id","total"],"rows":[[1,129.9],[2,19]]}`},
		{"sql.run", "POST", "/sql", `{"query":"selec"}`, 400, "syntax error"},
		{"reports.get", "GET", "/reports/quarter", "", 200, "ada@example.com"},
		{"reports.delete", "DELETE", "/reports/outdated", "", 204, ""},
		{"reports.delete", "DELETE", "/reports/outdated", "", 404, "no such report"},
		{"slow.get", "GET", "/slow?ms=1", "", 200, `{"waited_ms":1}`},
		{"slow.get", "GET", "/slow?ms=3600000", "", 400, "0 to 60000"},
		// What the gateway must keep from happening does happen here.
		{"sql.run", "POST", "/sql", `{"query":"drop table orders"}`, 200, `"rows":[]`},
		{"sql.run", "POST", "/sql", `{"query":"select 1 from orders"}`, 400, "no such table"},
		{"", "GET", "/elsewhere", "", 404, "no such function"},
	} {
		before := s.Served(step.function)
		status, _, text := send(t, c, step.method, s.URL()+step.path, step.body, nil)
		if status != step.status || !strings.Contains(text, step.want) {
			t.Errorf("%s %s %s: %d %s, want %d with %q", step.method, step.path, step.body, status, text, step.status, step.want)
		}
		if step.function != "" && s.Served(step.function) != before+1 {
			t.Errorf("%s %s: %s was not counted", step.method, step.path, step.function)
		}
		last, _ := s.Last()
		if last.Method != step.method || last.Target != step.path || string(last.Body) != step.body {
			t.Errorf("the journal has %s %s %q", last.Method, last.Target, last.Body)
		}
	}
}

// A call around the gateway has no credential or the caller's; neither may run.
func TestRESTRefuses(t *testing.T) {
	t.Parallel()
	s, c := startREST(t)
	for name, x := range map[string]struct {
		header http.Header
		want   string
	}{
		"nothing":              {http.Header{}, "no credential"},
		"a caller's token":     {http.Header{"Authorization": {"Bearer " + callerToken}}, "wrong credential"},
		"the key bare":         {http.Header{"Authorization": {serviceKey}}, "wrong credential"},
		"an empty one":         {http.Header{"Authorization": {"Bearer"}}, "wrong credential"},
		"the key twice":        {http.Header{"Authorization": {"Bearer " + serviceKey, "Bearer " + serviceKey}}, "more than one"},
		"both":                 {http.Header{"Authorization": {"Bearer " + callerToken, "Bearer " + serviceKey}}, "more than one"},
		"the key elsewhere":    {http.Header{"X-Api-Key": {serviceKey}}, "no credential"},
		"part of the key":      {http.Header{"Authorization": {"Bearer " + serviceKey[:5]}}, "wrong credential"},
		"the key in uppercase": {http.Header{"Authorization": {"Bearer " + strings.ToUpper(serviceKey)}}, "wrong credential"},
	} {
		refused := s.Refused()
		status, header, text := send(t, c, "POST", s.URL()+"/refunds", `{"customer":"c-1","amount":1,"currency":"EUR"}`, x.header)
		if status != http.StatusUnauthorized || !strings.Contains(text, x.want) || header.Get("WWW-Authenticate") == "" {
			t.Errorf("%s: %d %s", name, status, text)
		}
		if strings.Contains(text, serviceKey) || strings.Contains(text, callerToken) {
			t.Errorf("%s: the answer has a secret: %s", name, text)
		}
		last, _ := s.Last()
		if s.Refused() != refused+1 || !last.Refused || !slices.Equal(last.Header["Authorization"], x.header["Authorization"]) {
			t.Errorf("%s: the journal has %+v", name, last)
		}
	}
	if n := s.Served("refunds.create"); n != 0 {
		t.Errorf("%d refunds were made", n)
	}
}

func TestRESTProtocols(t *testing.T) {
	t.Parallel()
	server, transport := certified(t)
	plain, err := endpoint.NewREST(endpoint.Config{Credential: serviceKey})
	if err != nil {
		t.Fatal(err)
	}
	secure, err := endpoint.NewREST(endpoint.Config{Credential: serviceKey, TLS: server})
	if err != nil {
		t.Fatal(err)
	}
	run(t, plain.Run)
	run(t, secure.Run)
	var h1, h2, h2c http.Protocols
	h1.SetHTTP1(true)
	h2.SetHTTP2(true)
	h2c.SetUnencryptedHTTP2(true)
	for _, x := range []struct {
		s         *endpoint.REST
		protocols *http.Protocols
		want      string
	}{{plain, &h1, "HTTP/1.1"}, {plain, &h2c, "HTTP/2.0"}, {secure, &h1, "HTTP/1.1"}, {secure, &h2, "HTTP/2.0"}} {
		tr := transport.Clone()
		tr.Protocols = x.protocols
		status, _, _ := send(t, &http.Client{Transport: tr}, "GET", x.s.URL()+"/customers/c-1", "", nil)
		tr.CloseIdleConnections()
		if last, _ := x.s.Last(); status != 200 || last.Proto != x.want {
			t.Errorf("%s: %d over %s, want %s", x.s.URL(), status, last.Proto, x.want)
		}
	}
}

// SQL that comes in must stay in: no file, no endless query, no endless answer.
func TestRESTQueriesStayIn(t *testing.T) {
	t.Parallel()
	s, c := startREST(t)
	file := filepath.Join(t.TempDir(), "out.db")
	for query, want := range map[string]int{
		"attach database '" + file + "' as other": 400,
		"vacuum into '" + file + "'":              400,
		"select load_extension('x')":              400,
		"select hex(randomblob(1000000))":         400,
		"":                                        400,
		"with recursive t(n) as (select 1 union all select n+1 from t) select n from t": 200,
	} {
		body, err := json.Marshal(map[string]string{"query": query})
		if err != nil {
			t.Fatal(err)
		}
		status, _, text := send(t, c, "POST", s.URL()+"/sql", string(body), nil)
		if status != want {
			t.Errorf("%s: %d %.200s", query, status, text)
		}
		var rows endpoint.Rows
		if status == 200 && (json.Unmarshal([]byte(text), &rows) != nil || len(rows.Rows) > 1000) {
			t.Errorf("%s: %d rows", query, len(rows.Rows))
		}
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("a query wrote a file")
	}

	ctx, cancel := context.WithCancel(t.Context())
	before := s.Served("sql.run")
	req, err := http.NewRequestWithContext(ctx, "POST", s.URL()+"/sql", strings.NewReader(
		`{"query":"with recursive t(n) as (select 1 union all select n+1 from t) select count(*) from t"}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+serviceKey)
	go func() {
		for s.Served("sql.run") == before && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
		cancel()
	}()
	if resp, err := c.Do(req); err == nil {
		resp.Body.Close()
		t.Errorf("an endless query ended with %s", resp.Status)
	}
	if status, _, text := send(t, c, "GET", s.URL()+"/customers/c-1", "", nil); status != 200 {
		t.Errorf("after a query that was given up: %d %s", status, text)
	}
}

// The card number must reach the wire in two writes, neither of which has it.
func TestRESTEvents(t *testing.T) {
	t.Parallel()
	s, err := endpoint.NewREST(endpoint.Config{Credential: serviceKey})
	if err != nil {
		t.Fatal(err)
	}
	run(t, s.Run)
	conn, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /events?count=4&ms=0 HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer "+serviceKey+"\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	const card = "4242 4242 4242 4242"
	if bytes.Contains(raw, []byte(card)) {
		t.Error("a card number is whole in one chunk")
	}
	resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(raw)), nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(text, []byte(card)); n != 2 || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Errorf("%d card numbers in %s", n, text)
	}
	for line := range strings.Lines(string(text)) {
		if data, ok := strings.CutPrefix(line, "data: "); ok && !json.Valid([]byte(data)) {
			t.Errorf("not JSON: %s", data)
		}
	}
}

func TestRESTTooLarge(t *testing.T) {
	t.Parallel()
	s, c := startREST(t)
	status, _, text := send(t, c, "POST", s.URL()+"/sql", strings.Repeat("a", 1<<20+1), nil)
	if status != http.StatusRequestEntityTooLarge {
		t.Errorf("%d %s", status, text)
	}
	if last, _ := s.Last(); len(last.Body) != 64<<10 {
		t.Errorf("the journal keeps %d bytes", len(last.Body))
	}
}

func TestRESTComesBack(t *testing.T) {
	t.Parallel()
	s, err := endpoint.NewREST(endpoint.Config{Credential: serviceKey})
	if err != nil {
		t.Fatal(err)
	}
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	stop := run(t, s.Run)
	send(t, c, "GET", s.URL()+"/customers/c-1", "", nil)
	wantError(t, s.Run(t.Context()), "is running already")

	// A stream under way is cut off, not waited for.
	req, err := http.NewRequestWithContext(t.Context(), "GET", s.URL()+"/events?count=2&ms=60000", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+serviceKey)
	stream, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	stop()
	if _, err := c.Get(s.URL()); err == nil {
		t.Error("still served")
	}
	run(t, s.Run)
	for t.Context().Err() == nil {
		if resp, err := c.Get(s.URL()); err == nil {
			resp.Body.Close()
			break
		}
	}
	if status, _, _ := send(t, c, "GET", s.URL()+"/customers/c-1", "", nil); status != 200 {
		t.Errorf("after coming back: %d", status)
	}
}

func TestJournalKeepsTheLast(t *testing.T) {
	t.Parallel()
	s, c := startREST(t)
	if _, any := s.Last(); any {
		t.Error("a request before the first one")
	}
	const n = 70
	for i := range n {
		send(t, c, "GET", s.URL()+"/customers?query="+strings.Repeat("x", i), "", nil)
	}
	all := s.Requests()
	if len(all) != 64 || s.Arrived() != n {
		t.Fatalf("%d kept of %d", len(all), s.Arrived())
	}
	for i, r := range all {
		if want := "/customers?query=" + strings.Repeat("x", n-64+i); r.Target != want {
			t.Fatalf("request %d is %s, want %s", i, r.Target, want)
		}
	}
}

func TestNoCredential(t *testing.T) {
	t.Parallel()
	for _, credential := range []string{"", " \t"} {
		c := endpoint.Config{Credential: credential}
		_, err := endpoint.NewREST(c)
		wantError(t, err, "needs a credential")
		_, err = endpoint.NewMCP(c)
		wantError(t, err, "needs a credential")
		_, err = endpoint.NewGRPC(c)
		wantError(t, err, "needs a credential")
	}
}
