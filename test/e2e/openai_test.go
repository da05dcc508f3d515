package e2e

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/responses"
	openaishared "github.com/openai/openai-go/v3/shared"
)

// model answers what it is asked to: the last word of the request names the
// tool that it calls.
type model struct {
	*httptest.Server
	asked atomic.Int64
	gone  chan struct{} // of each stream that broke off
}

func newModel(t *testing.T) *model {
	t.Helper()
	m := &model{gone: make(chan struct{}, 16)}
	m.Server = httptest.NewServer(http.HandlerFunc(m.serve))
	t.Cleanup(m.Close)
	return m
}

// left waits until the model is told that nobody hears it any more.
func (m *model) left(t *testing.T) {
	t.Helper()
	select {
	case <-m.gone:
	case <-time.After(patience):
		t.Error("the model goes on for nobody")
	}
}

func (m *model) serve(w http.ResponseWriter, r *http.Request) {
	m.asked.Add(1)
	body, _ := io.ReadAll(r.Body)
	tool, args := "get_customer", `{\"id\":\"c-1\"}`
	if strings.Contains(string(body), "please delete") {
		tool, args = "delete_customer", `{\"id\":\"c-1\",\"why\":\"4242 4242 4242 4242\"}`
	}
	item := fmt.Sprintf(`{"type":"function_call","id":"f1","call_id":"c1","name":%q,"arguments":"%s","status":"completed"}`, tool, args)
	var events []string
	switch chat := strings.HasSuffix(r.URL.Path, "/chat/completions"); {
	case !strings.Contains(string(body), `"stream":true`):
		w.Header().Set("content-type", "application/json")
		if chat {
			fmt.Fprintf(w, `{"id":"x","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"finish_reason":"tool_calls","message":{"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function","function":{"name":%q,"arguments":"%s"}}]}}]}`, tool, args)
		} else {
			fmt.Fprintf(w, `{"id":"x","object":"response","created_at":1,"model":"m","status":"completed","output":[%s]}`, item)
		}
		return
	case chat:
		piece := func(delta, finish string) string {
			return fmt.Sprintf(`{"id":"x","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":%s,"finish_reason":%s}]}`, delta, finish)
		}
		events = []string{piece(`{"role":"assistant","content":"one moment"}`, "null"),
			piece(fmt.Sprintf(`{"tool_calls":[{"index":0,"id":"c1","type":"function","function":{"name":%q,"arguments":""}}]}`, tool), "null"),
			piece(fmt.Sprintf(`{"tool_calls":[{"index":0,"function":{"arguments":"%s"}}]}`, args), "null"), piece(`{}`, `"tool_calls"`), `[DONE]`}
	default:
		events = []string{`{"type":"response.output_text.delta","item_id":"t1","output_index":0,"content_index":0,"delta":"one moment","sequence_number":1}`,
			fmt.Sprintf(`{"type":"response.output_item.added","output_index":1,"sequence_number":2,"item":{"type":"function_call","id":"f1","call_id":"c1","name":%q,"arguments":"","status":"in_progress"}}`, tool),
			fmt.Sprintf(`{"type":"response.function_call_arguments.delta","item_id":"f1","output_index":1,"sequence_number":3,"delta":"%s"}`, args),
			fmt.Sprintf(`{"type":"response.function_call_arguments.done","item_id":"f1","output_index":1,"sequence_number":4,"arguments":"%s"}`, args),
			`{"type":"response.output_item.done","output_index":1,"sequence_number":5,"item":` + item + `}`,
			`{"type":"response.completed","sequence_number":6,"response":{"id":"x","output":[` + item + `]}}`}
	}
	w.Header().Set("content-type", "text/event-stream")
	for _, e := range events {
		fmt.Fprintf(w, "data: %s\n\n", e)
		w.(http.Flusher).Flush()
	}
	if tool == "delete_customer" {
		// A model that goes on does so for nobody.
		for {
			select {
			case <-r.Context().Done():
				m.gone <- struct{}{}
				return
			default:
				fmt.Fprintf(w, "data: {\"choices\":[],\"x\":\"%s\"}\n\n", strings.Repeat("a", 1<<10))
				w.(http.Flusher).Flush()
			}
		}
	}
}

func modelRules(upstream string) func(string) string {
	return func(rules string) string {
		return rules + `
  - {name: support asks the model, connections: [model], functions: [chat.completions, responses], when: '"support" in identity.groups', action: allow}
  - {name: only tools that read, connections: [model], functions: [chat.completions], when: 'call.args.tool_names.exists(n, n == "run_shell")', action: deny}
  - {name: models read customers, connections: [model], functions: ["tool get_*"], when: '"support" in identity.groups && identity.claims.sub == identity.subject && session.id == call.session && call.args.id.startsWith("c-")', action: allow}
  - {name: nothing is deleted, connections: [model], functions: ["tool delete_*"], action: deny, message: models don't delete}
connections:
  - name: model
    protocol: openai
    upstream: {url: "` + upstream + `"}
    mask: [{name: cards, detect: [card], how: partial}]
`
	}
}

// TestOpenAI has the official client talk with a model that calls tools.
func TestOpenAI(t *testing.T) {
	m := newModel(t)
	withRules(t, modelRules(m.URL), func() {
		t.Run("requests", m.requests)
		t.Run("chat", m.chat)
		t.Run("responses", m.responses)
	})
}

func clientOf(token string, header *http.Header) openai.Client {
	return openai.NewClient(option.WithBaseURL("http://"+shared.Addrs.Envoy+"/v1"), option.WithAPIKey(token),
		option.WithMiddleware(func(r *http.Request, next option.MiddlewareNext) (*http.Response, error) {
			resp, err := next(r)
			if err == nil {
				*header = resp.Header
			}
			return resp, err
		}))
}

// denied is what the client makes of a denial.
func denied(t *testing.T, err error, status int, message string) {
	t.Helper()
	if wire := new(openai.Error); !errors.As(err, &wire) || wire.StatusCode != status || !strings.Contains(wire.Message, message) {
		t.Errorf("%v, want %d %s", err, status, message)
	}
}

func chatParams(text string, offers ...string) openai.ChatCompletionNewParams {
	p := openai.ChatCompletionNewParams{Model: "m", Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage(text)}}
	for _, name := range offers {
		p.Tools = append(p.Tools, openai.ChatCompletionFunctionTool(openaishared.FunctionDefinitionParam{Name: name}))
	}
	return p
}

func (m *model) requests(t *testing.T) {
	var h http.Header
	before := m.asked.Load()
	support := clientOf(shared.alice, &h)
	_, err := support.Chat.Completions.New(t.Context(), chatParams("hello", "run_shell"))
	denied(t, err, 403, "only tools that read")
	shared.row(t, h.Get("x-callgate-call-id"), "function", "chat.completions", "decision", "deny", "rule", "only tools that read")
	_, err = support.Models.List(t.Context())
	denied(t, err, 403, "no rule allows")
	_, err = support.Files.List(t.Context(), openai.FileListParams{})
	denied(t, err, 404, "nothing else is let through")
	other := clientOf(shared.stale, &h)
	_, err = other.Chat.Completions.New(t.Context(), chatParams("hello"))
	denied(t, err, 401, "")
	if m.asked.Load() != before {
		t.Error("a denied request reached the model")
	}
}

func (m *model) chat(t *testing.T) {
	var h http.Header
	client := clientOf(shared.alice, &h)
	got, err := client.Chat.Completions.New(t.Context(), chatParams("hello", "get_customer"))
	if err != nil || got.Choices[0].Message.ToolCalls[0].Function.Name != "get_customer" {
		t.Fatalf("%+v %v", got, err)
	}
	before := m.asked.Load()
	_, err = client.Chat.Completions.New(t.Context(), chatParams("please delete"))
	denied(t, err, 403, "models don't delete")
	if m.asked.Load() != before+1 {
		t.Error("the client tries again")
	}
	whyWithheld(t, h)

	stream := client.Chat.Completions.NewStreaming(t.Context(), chatParams("hello"))
	var all openai.ChatCompletionAccumulator
	for stream.Next() {
		all.AddChunk(stream.Current())
	}
	if err := stream.Err(); err != nil || all.Choices[0].Message.ToolCalls[0].Function.Arguments != `{"id":"c-1"}` {
		t.Errorf("%+v %v", all, err)
	}
	stream = client.Chat.Completions.NewStreaming(t.Context(), chatParams("please delete"))
	all = openai.ChatCompletionAccumulator{}
	for stream.Next() {
		all.AddChunk(stream.Current())
	}
	if err := stream.Err(); err == nil || !strings.Contains(err.Error(), "models don't delete") {
		t.Errorf("%v", err)
	}
	if len(all.Choices) != 1 || all.Choices[0].Message.Content != "one moment" || len(all.Choices[0].Message.ToolCalls) > 0 {
		t.Errorf("%+v", all.Choices)
	}
	whyWithheld(t, h)
	m.left(t)
}

func (m *model) responses(t *testing.T) {
	var h http.Header
	client := clientOf(shared.alice, &h)
	params := func(text string) responses.ResponseNewParams {
		return responses.ResponseNewParams{Model: "m", Input: responses.ResponseNewParamsInputUnion{OfString: openai.String(text)}}
	}
	got, err := client.Responses.New(t.Context(), params("hello"))
	if err != nil || got.Output[0].Name != "get_customer" {
		t.Fatalf("%+v %v", got, err)
	}
	_, err = client.Responses.New(t.Context(), params("please delete"))
	denied(t, err, 403, "models don't delete")
	whyWithheld(t, h)
	for text, want := range map[string]string{
		"hello":         "response.output_text.delta response.output_item.added response.function_call_arguments.delta response.function_call_arguments.done response.output_item.done response.completed",
		"please delete": "response.output_text.delta error",
	} {
		var kinds []string
		stream := client.Responses.NewStreaming(t.Context(), params(text))
		for stream.Next() {
			kinds = append(kinds, stream.Current().Type)
		}
		if err := stream.Err(); err != nil || strings.Join(kinds, " ") != want {
			t.Errorf("%s: %v, %v", text, kinds, err)
		}
	}
	m.left(t)
}

// whyWithheld finds in the audit trail why an answer was.
func whyWithheld(t *testing.T, h http.Header) {
	t.Helper()
	if r := shared.row(t, h.Get("x-callgate-call-id"), "decision", "allow"); !strings.Contains(fmt.Sprint(r["withheld"]), `denied by rule "nothing is deleted"`) {
		t.Errorf("%v", r["withheld"])
	}
}
