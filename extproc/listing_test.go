package extproc

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/callgate/callgate/call"
)

// some lets callers see what has "good" in its name.
type some struct{ err error }

func (s some) Visible(_ call.Metadata, functions []string) ([]bool, error) {
	out := make([]bool, len(functions))
	for i, f := range functions {
		out[i] = strings.HasPrefix(f, "tools/call ") && strings.Contains(f, "good")
	}
	return out, s.err
}

func listed(t testing.TB, contentType, body string, v Visible) (string, error) {
	t.Helper()
	s := &Server{cfg: Config{Visible: v}}
	meta := call.Metadata{Protocol: call.MCP, Function: "tools/list", Caller: &call.Identity{Subject: "ann"}}
	f, err := s.listingOf(meta, call.Headers{{Name: ":status", Value: "200"}, {Name: "content-type", Value: contentType}}, 1<<16, &passing{})
	if err != nil {
		return "", err
	}
	for i := range len(body) {
		out, err := f.write([]byte{body[i]})
		if err != nil || len(out) > 0 {
			return string(out), err
		}
	}
	out, err := f.close()
	return string(out), err
}

func TestListing(t *testing.T) {
	const two = `{"jsonrpc":"2.0","id":1,"result":{"nextCursor":"c","tools":[{"name":"good-one","description":"d","inputSchema":{"type":"object"}},{"name":"bad-one"},{"name":"good-two"}]}}`
	for what, c := range map[string]struct{ contentType, body, want string }{
		"JSON":                 {"application/json", two, `{"id":1,"jsonrpc":"2.0","result":{"nextCursor":"c","tools":[{"description":"d","inputSchema":{"type":"object"},"name":"good-one"},{"name":"good-two"}]}}`},
		"none is left":         {"application/json", `{"id":1,"result":{"tools":[{"name":"bad"}]}}`, `{"id":1,"result":{"tools":[]}}`},
		"an error":             {"application/json; charset=utf-8", `{"id":1,"error":{"code":-32601,"message":"no"}}`, `{"error":{"code":-32601,"message":"no"},"id":1}`},
		"a stream":             {"text/event-stream", "event: message\nid: 7\ndata: {\"id\":1,\"result\":{\"tools\":[{\"name\":\"bad\"},\ndata: {\"name\":\"good\"}]}}\n\n", "event: message\nid: 7\ndata: {\"id\":1,\"result\":{\"tools\":[{\"name\":\"good\"}]}}\n\n"},
		"a stream of CRLF":     {"text/event-stream", "data: {\"id\":1,\"result\":{\"tools\":[{\"name\":\"bad\"}]}}\r\n\r\n", "data: {\"id\":1,\"result\":{\"tools\":[]}}\n\n"},
		"a stream without end": {"text/event-stream", "data: {\"id\":1,\"result\":{\"tools\":[{\"name\":\"bad\"}]}}", "data: {\"id\":1,\"result\":{\"tools\":[]}}"},
		"a notification first": {"text/event-stream", "data: {\"method\":\"notifications/progress\"}\n\ndata: {\"id\":1,\"result\":{\"tools\":[{\"name\":\"bad\"}]}}\n\n", "data: {\"method\":\"notifications/progress\"}\n\ndata: {\"id\":1,\"result\":{\"tools\":[]}}\n\n"},
		"the list twice":       {"application/json", `{"id":1,"result":{"tools":[{"name":"bad"}],"tools":[{"name":"good"}]}}`, `{"id":1,"result":{"tools":[{"name":"good"}]}}`},
		"the name twice":       {"application/json", `{"id":1,"result":{"tools":[{"name":"bad","name":"good"}]}}`, `{"id":1,"result":{"tools":[{"name":"good"}]}}`},
		"nothing":              {"application/json", ``, ``},
	} {
		got, err := listed(t, c.contentType, c.body, some{})
		if err != nil || strings.TrimRight(got, "\n") != strings.TrimRight(c.want, "\n") {
			t.Errorf("%s: %q, %v\nwant %q", what, got, err, c.want)
		}
	}
	for what, c := range map[string]struct {
		contentType, body string
		v                 Visible
	}{
		"no JSON":              {"application/json", `tools`, some{}},
		"a list of texts":      {"application/json", `{"result":{"tools":["bad"]}}`, some{}},
		"an entry of no name":  {"application/json", `{"result":{"tools":[{"title":"bad"}]}}`, some{}},
		"a name that is none":  {"application/json", `{"result":{"tools":[{"name":7}]}}`, some{}},
		"a batch":              {"application/json", `[{"result":{"tools":[{"name":"bad"}]}}]`, some{}},
		"a result of no shape": {"application/json", `{"result":[{"tools":[{"name":"bad"}]}]}`, some{}},
		"HTML":                 {"text/html", `<p>`, some{}},
		"too much":             {"application/json", `{"result":{"tools":[]},"x":"` + strings.Repeat("a", 1<<16) + `"}`, some{}},
		"no answer":            {"application/json", `{"result":{"tools":[{"name":"good"}]}}`, some{errors.New("no policy")}},
	} {
		if got, err := listed(t, c.contentType, c.body, c.v); err == nil {
			t.Errorf("%s: %q", what, got)
		}
	}
}

func FuzzListing(f *testing.F) {
	f.Add("application/json", `{"id":1,"result":{"tools":[{"name":"bad"},{"name":"good"}]}}`)
	f.Add("text/event-stream", "data: {\"id\":1,\"result\":{\"tools\":[{\"name\":\"bad\"}]}}\n\n")
	f.Fuzz(func(t *testing.T, contentType, body string) {
		out, err := listed(t, contentType, body, some{})
		if err != nil || contentType != "application/json" {
			return
		}
		var m struct {
			Result struct{ Tools []struct{ Name string } }
		}
		if json.Unmarshal([]byte(out), &m) != nil {
			return
		}
		for _, tool := range m.Result.Tools {
			if !strings.Contains(tool.Name, "good") {
				t.Errorf("%q is listed", tool.Name)
			}
		}
	})
}
