package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/callgate/callgate/call/sql"
)

// Through a real Envoy, no function is sent what mask_requests hides, wherever a
// request has it; where it can't be hidden the request does not go.
func TestMaskedRequestShapes(t *testing.T) {
	heard := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if strings.HasPrefix(r.URL.Path, "/rpc") { // answers every message with what it was sent
			var list []struct{ ID, Params json.RawMessage }
			if err := json.Unmarshal(body, &list); err != nil {
				w.WriteHeader(http.StatusBadRequest)
				return
			}
			var out []string
			for _, m := range list {
				out = append(out, fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":%s}`, m.ID, m.Params))
			}
			w.Header().Set("content-type", "application/json")
			_, _ = io.WriteString(w, "["+strings.Join(out, ",")+"]")
			return
		}
		w.Header().Set("content-type", "application/octet-stream")
		_, _ = fmt.Fprintf(w, "%s %s", r.RequestURI, body)
	}))
	t.Cleanup(heard.Close)
	if _, err := sql.Parse(sql.Generic, "SELECT 1"); err != nil { // it takes its time where it is used first
		t.Fatal(err)
	}
	dir := t.TempDir()
	files := filepath.Join(dir, "files.pb")
	if err := os.WriteFile(files, uploads(t), 0o600); err != nil {
		t.Fatal(err)
	}
	const masks = "[{detect: [card, email], keys: [password]}]"
	policy := fmt.Sprintf(`connections:
  - {name: sent, protocol: http, match: {path: /sent}, upstream: {url: "%[1]s/inner"}, functions: [{name: find, method: GET, path: /}, {name: one, method: GET, path: "/{id}"}, {name: put, method: POST, path: /}], mask_requests: %[2]s}
  - {name: sentrpc, protocol: jsonrpc, match: {path: /sentrpc}, upstream: {url: "%[1]s/rpc"}, batch: {accept: true}, mask_requests: %[2]s}
  - {name: sentsql, protocol: sql, match: {path: /sentsql}, upstream: {url: "%[1]s/sql"}, mask_requests: %[2]s}
  - {name: sentfiles, protocol: grpc, match: {services: [test.Files]}, upstream: {url: "http://%[3]s"}, grpc: {descriptors: %[4]s, streaming: [test.Files/Upload, test.Files/Chat]}, mask_requests: %[2]s, mask: %[2]s}
rules:
  - {name: no drops of what is sent, connections: [sentrpc], functions: [drop], action: deny}
  - {name: anybody sends, connections: [sent, sentrpc, sentsql, sentfiles], when: '"support" in identity.groups', action: allow}
`, heard.URL, masks, serveUploads(t), files)
	file := filepath.Join(shared.Policies, "sent.yaml")
	if err := os.WriteFile(file, []byte(policy), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(file) })
	c := http1()
	send := func(method, path, body string, header ...string) (answer, error) {
		req, err := http.NewRequestWithContext(t.Context(), method, "http://"+shared.Addrs.Envoy+path, strings.NewReader(body))
		if err != nil {
			return answer{}, err
		}
		req.Header.Set("authorization", "Bearer "+shared.alice)
		if body != "" {
			req.Header.Set("content-type", "application/json")
		}
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		resp, err := c.Do(req)
		if err != nil {
			return answer{}, err
		}
		defer resp.Body.Close()
		got, err := io.ReadAll(resp.Body)
		return answer{resp.StatusCode, resp.Header, string(got)}, err
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(200 * time.Millisecond) {
		a, err := shared.try(t.Context(), c, shared.alice, "GET", "/sent/?n=1", "")
		if err == nil && a.status == http.StatusOK && a.body == "/inner/?n=1 " {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the functions can't be reached: %v %+v", err, a)
		}
	}

	t.Run("http", func(t *testing.T) {
		for name, tt := range map[string]struct {
			method, path, body string
			header             []string
			want               string // what the function hears
			reason             string
		}{
			"query":          {"GET", "/sent/?card=" + plantedCard + "&n=1&mail=" + url.QueryEscape(plantedMail), "", nil, "/inner/?card=%5Bredacted%3Acard%5D&n=1&mail=%5Bredacted%3Aemail%5D ", ""},
			"query and body": {"POST", "/sent/?password=" + plantedPhone, `{"a":"` + plantedCard + `"}`, nil, `/inner/?password=%5Bredacted%5D {"a":"[redacted:card]"}`, ""},
			"form":           {"POST", "/sent/", "a=" + plantedCard + "&password=" + plantedPhone, []string{"content-type", "application/x-www-form-urlencoded"}, `/inner/ a=%5Bredacted%3Acard%5D&password=%5Bredacted%5D`, ""},
			"path":           {"GET", "/sent/" + plantedCard, "", nil, "", "request_whole"},
			"header":         {"GET", "/sent/?n=1", "", []string{"x-note", plantedMail}, "", "request_whole"},
			"sql":            {"POST", "/sentsql", "SELECT 1", []string{"content-type", "text/plain"}, "/sql SELECT 1", ""},
			"sql, a card":    {"POST", "/sentsql", "SELECT * FROM t WHERE c='" + plantedCard + "'", []string{"content-type", "text/plain"}, "", "request_whole"},
		} {
			t.Run(name, func(t *testing.T) {
				a, err := send(tt.method, tt.path, tt.body, tt.header...)
				if err != nil {
					t.Fatal(err)
				}
				if clean(t, a); a.reason() != tt.reason || tt.reason == "" && a.body != tt.want {
					t.Fatalf("%d %s %s", a.status, a.reason(), a.body)
				}
				row := shared.row(t, a.id())
				if tt.reason != "" { // it went nowhere, and the row has what the caller sent
					return
				}
				if all := fmt.Sprint(row["path"], row["args"], row["request_body"]); strings.Contains(all, plantedCard) || strings.Contains(all, plantedPhone) || strings.Contains(all, plantedMail) {
					t.Errorf("recorded %s", all)
				}
				if n := len(row["request_masked.path"].([]any)); (n > 0) != strings.Contains(tt.want, "redacted") {
					t.Errorf("%d were hidden", n)
				}
			})
		}
	})
	t.Run("batch", func(t *testing.T) {
		message := func(method, id, more string) string {
			return `{"jsonrpc":"2.0","method":"` + method + `","id":` + id + `,"params":{"n":` + id + more + `}}`
		}
		for name, list := range map[string][]string{
			"all allowed": {message("get", "1", `,"card":"`+plantedCard+`"`), message("get", "2", "")},
			"one denied":  {message("get", "1", `,"card":"`+plantedCard+`"`), message("drop", "3", ""), message("get", "2", "")},
		} {
			a := shared.call(t, c, shared.alice, "POST", "/sentrpc", "["+strings.Join(list, " , ")+"]")
			if clean(t, a); a.status != 200 || !strings.Contains(a.body, `{"n":1,"card":"[redacted:card]"}`) || !strings.Contains(a.body, `{"n":2}`) {
				t.Errorf("%s: %d %s", name, a.status, a.body)
			}
			shared.row(t, a.id(), "request_body", strings.Replace(list[0], plantedCard, "[redacted:card]", 1), "request_masked.path", "[params.card]", "request_masked.count", "[1]")
		}
	})
	t.Run("grpc", func(t *testing.T) {
		conn, err := grpc.NewClient(shared.Addrs.Envoy, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+shared.alice)
		out := new(wrapperspb.StringValue)
		var header metadata.MD
		if err := conn.Invoke(ctx, "/test.Files/Say", wrapperspb.String("pay "+plantedCard), out, grpc.Header(&header)); err != nil || out.GetValue() != "pay [redacted:card]" {
			t.Errorf("%q %v", out.GetValue(), err)
		} else {
			shared.row(t, header.Get("x-callgate-call-id")[0], "args", `{"value":"pay [redacted:card]"}`, "request_masked.path", "[value]")
		}
		if err := conn.Invoke(metadata.AppendToOutgoingContext(ctx, "x-note", plantedMail), "/test.Files/Say", wrapperspb.String("a"), out); status.Code(err) != codes.PermissionDenied {
			t.Errorf("%v", err)
		}
		// What a service's error says is masked too, and its details go.
		err = conn.Invoke(ctx, "/test.Files/Say", wrapperspb.String("fail"), out)
		if st := status.Convert(err); st.Code() != codes.Internal || st.Message() != "no card [redacted:card], 100% sure" || len(st.Details()) != 0 {
			t.Errorf("%v %v", err, st.Details())
		}
		open := func(method string) grpc.ClientStream {
			s, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/test.Files/"+method)
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		// Each message is masked and answered before the next is sent.
		chat := open("Chat")
		for range 5 {
			if err := errors.Join(chat.SendMsg(wrapperspb.String("to "+plantedMail)), chat.RecvMsg(out)); err != nil || out.GetValue() != "to [redacted:email]" {
				t.Fatalf("%q %v", out.GetValue(), err)
			}
		}
		if err := errors.Join(chat.CloseSend(), chat.RecvMsg(out)); !errors.Is(err, io.EOF) {
			t.Errorf("the end: %v", err)
		}
		head, err := chat.Header()
		if err != nil {
			t.Fatal(err)
		}
		shared.row(t, head.Get("x-callgate-call-id")[0], "answered", "seen", "request_stream_masked.path", "[value]", "request_stream_masked.type", "[email]", "request_stream_masked.count", "[5]")
		up := open("Upload")
		for range 40 {
			if err := up.SendMsg(wrapperspb.String(strings.Repeat("x", 64<<10))); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(up.CloseSend(), up.RecvMsg(out)); err != nil || out.GetValue() != fmt.Sprint(40*64<<10) {
			t.Errorf("%q %v", out.GetValue(), err)
		}
	})
}
