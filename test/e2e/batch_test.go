package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// desk is a function that answers JSON-RPC batches: as a document in reverse
// order, or as a stream of events.
type desk struct {
	*httptest.Server
	mu   sync.Mutex
	last struct {
		body, length, encoding string
		proto                  string
		n                      int
	}
}

func newDesk(t *testing.T) *desk {
	d := &desk{}
	d.Server = httptest.NewUnstartedServer(http.HandlerFunc(d.serve))
	d.Config.Protocols = new(http.Protocols)
	d.Config.Protocols.SetHTTP1(true)
	d.Config.Protocols.SetUnencryptedHTTP2(true)
	d.Start()
	t.Cleanup(d.Close)
	return d
}

func (d *desk) serve(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	d.mu.Lock()
	d.last.body, d.last.length, d.last.proto = string(body), r.Header.Get("content-length"), r.Proto
	d.last.encoding = strings.Join(r.TransferEncoding, ",")
	d.last.n++
	d.mu.Unlock()
	body = bytes.TrimSpace(body)
	alone := !bytes.HasPrefix(body, []byte("["))
	if alone {
		body = []byte("[" + string(body) + "]")
	}
	type message struct {
		ID     json.RawMessage `json:"id"`
		Method string          `json:"method"`
	}
	var list []message
	if err := json.Unmarshal(body, &list); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var out []string
	for _, m := range list {
		if m.ID == nil {
			continue
		}
		text := `{"card":"5555 5555 5555 4444","mail":"ada@example.com"}`
		switch m.Method {
		case "lost":
			continue
		case "boom":
			out = append(out, fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"error":{"code":-7,"message":"boom"}}`, m.ID))
			continue
		case "stray":
			out = append(out, `{"jsonrpc":"2.0","id":4711,"result":"5555 5555 5555 4444"}`)
		}
		out = append(out, fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":%s}`, m.ID, text))
	}
	switch {
	case len(out) == 0:
		w.WriteHeader(http.StatusAccepted)
	case strings.HasSuffix(r.URL.Path, "/events"):
		w.Header().Set("content-type", "text/event-stream")
		for _, m := range out {
			fmt.Fprintf(w, "event: message\ndata: %s\n\n", m)
			_ = http.NewResponseController(w).Flush()
		}
	default:
		w.Header().Set("content-type", "application/json")
		for i, j := 0, len(out)-1; i < j; i, j = i+1, j-1 {
			out[i], out[j] = out[j], out[i]
		}
		if text := strings.Join(out, ","); alone {
			_, _ = io.WriteString(w, text)
		} else {
			_, _ = io.WriteString(w, "["+text+"]")
		}
	}
}

// got is the last body that the function got, and how many it got so far.
func (d *desk) got() (body string, n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.last.body, d.last.n
}

// batchPolicy has a connection for each way a batch can go, and rules under which
// its calls differ.
func batchPolicy(d *desk) func(string) string {
	connection := func(name, protocol, path, more string) string {
		return fmt.Sprintf("  - name: %s\n    protocol: %s\n    match: {path: /%s}\n    upstream: {url: \"%s/%s\"%s}\n    batch: {accept: true, max: 5}\n", name, protocol, name, d.URL, path, more)
	}
	return func(rules string) string {
		return strings.Replace(rules, "rules:\n", "connections:\n"+
			connection("batch1", "jsonrpc", "document", "")+connection("batch2", "jsonrpc", "document", ", http2: true")+connection("batch3", "mcp", "events", "")+"    mcp: {tools: {pin: off}}\n"+
			`rules:
  - {name: batches, connections: ["batch*"], when: '"support" in identity.groups', action: allow}
  - {name: no drops, connections: ["batch*"], functions: [drop], action: deny, message: nothing is dropped here}
  - {name: payments, connections: ["batch*"], functions: [pay], action: hold, hold: {approvers: {groups: [refund-approvers]}}}
  - {name: cards, connections: ["batch*"], functions: [get, stray], action: mask, mask: {detect: [card]}}
  - {name: mails, connections: ["batch*"], functions: [find], action: mask, mask: {detect: [email]}}
`, 1)
	}
}

// told is a message of an answer, whichever way it came.
type told struct {
	ID     json.RawMessage `json:"id"`
	Result *struct{ Card, Mail string }
	Error  *struct {
		Code    int
		Message string
		Data    struct {
			CallID string `json:"call_id"`
			Reason string
		}
	}
}

func messages(t *testing.T, a answer) map[string]told {
	t.Helper()
	var list []told
	if strings.HasPrefix(a.header.Get("content-type"), "text/event-stream") {
		for line := range strings.SplitSeq(a.body, "\n") {
			if data, ok := strings.CutPrefix(line, "data: "); ok {
				var m told
				if err := json.Unmarshal([]byte(data), &m); err != nil {
					t.Fatalf("%v: %s", err, a.body)
				}
				list = append(list, m)
			}
		}
	} else if err := json.Unmarshal([]byte(a.body), &list); err != nil {
		t.Fatalf("%d %v: %s", a.status, err, a.body)
	}
	out := map[string]told{}
	for _, m := range list {
		if _, twice := out[string(m.ID)]; twice {
			t.Errorf("id %s is answered twice: %s", m.ID, a.body)
		}
		out[string(m.ID)] = m
	}
	return out
}

func rpcCall(method, id string) string {
	if id == "" {
		return `{"jsonrpc":"2.0","method":"` + method + `"}`
	}
	return `{"jsonrpc": "2.0", "method":"` + method + `" ,"id":` + id + `}`
}

// Through a real Envoy: the function gets the allowed calls as they were written
// and no other, each caller's answer is masked as its call says, and each call
// has its row.
func TestBatches(t *testing.T) {
	d := newDesk(t)
	withRules(t, batchPolicy(d), func() {
		for path, c := range map[string]*http.Client{"/batch1": http1(), "/batch2": http2(), "/batch3": http2()} {
			t.Run(path[1:], func(t *testing.T) { batchCalls(t, d, c, path) })
		}
	})
}

func batchCalls(t *testing.T, d *desk, c *http.Client, path string) {
	send := func(calls ...string) answer {
		t.Helper()
		return shared.call(t, c, shared.alice, "POST", path, " [\n"+strings.Join(calls, " ,\t")+"] ", "accept", "application/json, text/event-stream")
	}
	_, before := d.got()

	t.Run("mixed", func(t *testing.T) {
		get, find, drop, note := rpcCall("get", "1"), rpcCall("find", `"1"`), rpcCall("drop", "2"), rpcCall("note", "")
		a := send(get, drop, find, note, `{"jsonrpc":"2.0","method":"get","method":"drop","id":9}`)
		if body, n := d.got(); body != "["+get+","+find+","+note+"]" || n != before+1 {
			t.Errorf("the function got %s", body)
		}
		d.mu.Lock()
		if want := fmt.Sprint(len(d.last.body)); d.last.length != want || d.last.encoding != "" || (path == "/batch2") != (d.last.proto == "HTTP/2.0") {
			t.Errorf("content-length %s of %s, transfer-encoding %s, %s", d.last.length, want, d.last.encoding, d.last.proto)
		}
		d.mu.Unlock()
		got := messages(t, a)
		if m := got["1"]; a.status != 200 || m.Result == nil || strings.Contains(m.Result.Card, "4444 4444") || m.Result.Mail != "ada@example.com" {
			t.Errorf("get: %d %s", a.status, a.body)
		}
		if m := got[`"1"`]; m.Result == nil || m.Result.Card != "5555 5555 5555 4444" || strings.Contains(m.Result.Mail, "ada@") {
			t.Errorf("find: %s", a.body)
		}
		denied, malformed := got["2"], got["null"]
		if len(got) != 4 || denied.Error == nil || denied.Error.Data.Reason != "rule" || denied.Error.Message != "nothing is dropped here" || malformed.Error == nil || malformed.Error.Data.Reason != "malformed_request" {
			t.Fatalf("%s", a.body)
		}
		shared.row(t, a.id(), "function", "get", "decision", "allow", "batch_index", 0, "batch_size", 5, "batch_id", a.id(), "rpc_id", "1", "rpc_code", 0, "request_body", get,
			"answered", "seen", "finished", "seen", "masked.rule", "[cards]")
		shared.row(t, denied.Error.Data.CallID, "function", "drop", "decision", "deny", "rule", "no drops", "batch_index", 1, "batch_id", a.id(), "answered", "none", "finished", "seen", "request_body", drop)
		shared.row(t, malformed.Error.Data.CallID, "reason", "malformed_request", "batch_index", 4, "rpc_id", "")
		rows := shared.query(t, "SELECT call_id, function, response_body, rpc_code FROM calls WHERE batch_id = '"+a.id()+"' ORDER BY batch_index")
		if len(rows) != 5 || !strings.Contains(fmt.Sprint(rows[2]["response_body"]), "5555 5555 5555 4444") || strings.Contains(fmt.Sprint(rows[2]["response_body"]), "ada@") || rows[3]["response_body"] != "" || rows[3]["rpc_code"] != nil {
			t.Errorf("%v", rows)
		}
		if out, err := shared.cli(t, "", "calls", "show", denied.Error.Data.CallID); err != nil || !strings.Contains(out, "call 2 of 5 in one request") || !strings.Contains(out, "3  "+fmt.Sprint(rows[2]["call_id"])+"  find, allow") {
			t.Errorf("%v: %s", err, out)
		}
	})

	t.Run("all allowed", func(t *testing.T) {
		get, boom, lost := rpcCall("get", "1"), rpcCall("boom", "2"), rpcCall("lost", "3")
		a := send(get, boom, lost)
		if body, _ := d.got(); body != " [\n"+get+" ,\t"+boom+" ,\t"+lost+"] " {
			t.Errorf("the function got %q", body)
		}
		got := messages(t, a)
		if m := got["1"]; len(got) != 2 || m.Result == nil || strings.Contains(m.Result.Card, "4444 4444") || got["2"].Error == nil || got["2"].Error.Code != -7 {
			t.Errorf("%s", a.body)
		}
		shared.row(t, a.id(), "rpc_code", 0)
		rows := shared.query(t, "SELECT answered, rpc_code, response_body FROM calls WHERE batch_id = '"+a.id()+"' ORDER BY batch_index")
		if len(rows) != 3 || fmt.Sprint(rows[1]["rpc_code"]) != "-7" || rows[2]["answered"] != "seen" || rows[2]["rpc_code"] != nil || rows[2]["response_body"] != "" {
			t.Errorf("%v", rows)
		}
	})

	t.Run("all denied", func(t *testing.T) {
		_, before := d.got()
		a := send(rpcCall("drop", "1"), rpcCall("pay", `"p"`), rpcCall("drop", ""))
		got := messages(t, a)
		if _, n := d.got(); n != before || a.status != 200 || len(got) != 2 || got["1"].Error == nil || got[`"p"`].Error.Data.Reason != "batch_hold" {
			t.Errorf("%d calls, %d %s", n-before, a.status, a.body)
		}
		shared.row(t, got[`"p"`].Error.Data.CallID, "decision", "deny", "rule", "payments", "reason", "batch_hold", "answered", "none", "finished", "seen")
		if a := send(rpcCall("drop", ""), rpcCall("drop", "")); a.status != 403 || a.reason() != "rule" {
			t.Errorf("notifications: %d %s", a.status, a.body)
		}
	})

	t.Run("notifications", func(t *testing.T) {
		note := rpcCall("note", "")
		if a := send(note, note); a.status != 202 || a.body != "" {
			t.Errorf("%d %s", a.status, a.body)
		}
		// The function has nothing to say, and the denied call is owed an answer.
		a := send(note, rpcCall("drop", "7"))
		if got := messages(t, a); a.status != 200 || len(got) != 1 || got["7"].Error == nil {
			t.Errorf("%d %s", a.status, a.body)
		}
		if body, _ := d.got(); body != "["+note+"]" {
			t.Errorf("the function got %s", body)
		}
		shared.row(t, a.id(), "function", "note", "answered", "seen", "finished", "seen", "decision", "allow")
	})

	t.Run("without content-length", func(t *testing.T) {
		get, drop := rpcCall("get", "1"), rpcCall("drop", "2")
		req, err := http.NewRequestWithContext(t.Context(), "POST", shared.scheme+"://"+shared.Addrs.Envoy+path, io.MultiReader(strings.NewReader("["+drop+","), strings.NewReader(get+"]")))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("authorization", "Bearer "+shared.alice)
		req.Header.Set("content-type", "application/json")
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if got := messages(t, answer{resp.StatusCode, resp.Header, string(text)}); err != nil || len(got) != 2 || got["1"].Result == nil {
			t.Errorf("%v %s", err, text)
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.last.body != "["+get+"]" || d.last.length != "" {
			t.Errorf("the function got %s of length %s", d.last.body, d.last.length)
		}
	})

	t.Run("strays", func(t *testing.T) {
		a := send(rpcCall("stray", "1"))
		if got := messages(t, a); len(got) != 1 || got["1"].Result == nil || strings.Contains(a.body, "4444 4444") {
			t.Errorf("%s", a.body)
		}
	})

	t.Run("refused whole", func(t *testing.T) {
		_, before := d.got()
		get := rpcCall("get", "1")
		for body, says := range map[string]string{
			"[]": "no message", "[" + get: "not valid JSON", "[" + strings.Repeat("1,", 5) + "1]": "more than the 5 messages",
		} {
			a := shared.call(t, c, shared.alice, "POST", path, body)
			if a.status != 400 || a.reason() != "malformed_request" || !strings.Contains(a.body, says) {
				t.Errorf("%s: %d %s", body, a.status, a.body)
			}
			shared.row(t, a.id(), "decision", "deny", "batch_size", 0)
		}
		if _, n := d.got(); n != before {
			t.Error("the function was reached")
		}
	})

	t.Run("alone", func(t *testing.T) {
		a := shared.call(t, c, shared.alice, "POST", path, rpcCall("get", "1"))
		if a.status != 200 || strings.Contains(a.body, "4444 4444") {
			t.Errorf("%d %s", a.status, a.body)
		}
		shared.row(t, a.id(), "function", "get", "batch_size", 0, "rpc_code", 0)
	})
}
