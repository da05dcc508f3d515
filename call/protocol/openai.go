package protocol

import (
	"net/http"
	"strings"

	"github.com/callgate/callgate/call"
)

// The functions of an openai connection that a model answers, perhaps with calls
// of tools.
const (
	ChatCompletions = "chat.completions"
	Responses       = "responses"
)

// openAIFunctions are what an openai connection offers, by method and path below
// match.path. What is not here is denied: no rule would see what it does.
var openAIFunctions = map[string]string{
	"POST /chat/completions": ChatCompletions,
	"POST /responses":        Responses,
	"POST /embeddings":       "embeddings",
	"POST /moderations":      "moderations",
	"GET /models":            "models.list",
}

// openAIMembers are the members that must be spelt like this: what this reader
// would not see, another might.
var openAIMembers = []string{"model", "stream", "messages", "input", "tools", "functions", "tool_calls", "function_call", "function", "custom",
	"type", "name", "arguments", "index", "choices", "message", "delta", "finish_reason", "output", "output_index", "item", "item_id", "response"}

// openAI reads the requests of OpenAI's API (platform.openai.com/docs/api-reference)
// and of the many that are compatible. The path names the function. The
// arguments are the body's members, and of what a model answers also tool_names
// (the tools that the request offers), tool_calls (those that the conversation
// holds, each with name and arguments) and stream, always a boolean.
type openAI struct{ base string }

func newOpenAI(base string) openAI { return openAI{strings.TrimSuffix(base, "/")} }

func (o openAI) Parse(req *call.Request) (Invocation, error) {
	inv := Invocation{Args: map[string]any{}}
	if err := sane(req); err != nil {
		return inv, err
	}
	path, query, err := split(req.Path)
	if err != nil {
		return inv, err
	}
	below, under := strings.CutPrefix(path, o.base)
	function := openAIFunctions[req.Method+" "+below]
	if !under || function == "" {
		return inv, &Error{Reason: call.ReasonUnknownFunction, Message: "this connection has POST /chat/completions, /responses, /embeddings and /moderations and GET /models; nothing else is let through"}
	}
	inv.Function = function
	if query != "" {
		return inv, malformed("the request has its arguments in the body alone; leave the URL's query out")
	}
	if req.Method == http.MethodGet {
		if len(req.Body) > 0 {
			return inv, malformed("a GET has no body here; leave it out")
		}
		return inv, inv.write()
	}
	media, err := mediaType(req)
	if err != nil {
		return inv, err
	}
	if !isJSON(media) {
		return inv, malformed("a body of type %s is not accepted; send application/json", printable(media))
	}
	v, err := document(req.Body)
	if err != nil {
		return inv, err
	}
	body, ok := v.(map[string]any)
	if !ok {
		return inv, malformed("the body must be one JSON object")
	}
	if function != ChatCompletions && function != Responses {
		inv.Args = body
		return inv, inv.write()
	}
	for _, derived := range []string{"tool_names", "tool_calls"} {
		for name := range body {
			if canonical(name) == derived {
				return inv, malformed("%s is what rules find in the messages, no member of a request; leave it out", derived)
			}
		}
	}
	names, err := offered(body)
	if err != nil {
		return inv, err
	}
	calls, err := conversation(body)
	if err != nil {
		return inv, err
	}
	stream, _ := body["stream"].(bool)
	if v := body["stream"]; v != nil && v != stream {
		return inv, malformed("stream must be true or false")
	}
	inv.Args = body
	inv.Args["tool_names"], inv.Args["tool_calls"], inv.Args["stream"] = orEmpty(names), orEmpty(calls), stream
	return inv, inv.write()
}

// offered names the tools that a request offers. One of the service's own, which
// has no name, is called by its type.
func offered(body map[string]any) ([]any, error) {
	var names []any
	for _, member := range []string{"tools", "functions"} {
		tools, err := objects(body, member)
		if err != nil {
			return nil, err
		}
		for _, tool := range tools {
			name, ok := tool["type"].(string)
			for _, in := range []map[string]any{tool, within(tool, "function"), within(tool, "custom")} {
				if err := misspelt("tool", in, openAIMembers, false); err != nil {
					return nil, err
				}
				if s, is := in["name"].(string); is {
					name, ok = s, true
				}
			}
			if !ok {
				return nil, malformed("an entry of %s has neither name nor type", member)
			}
			names = append(names, name)
		}
	}
	return names, nil
}

// conversation are the calls of tools that a request holds: a model made them
// before, or so the caller says.
func conversation(body map[string]any) ([]any, error) {
	if err := misspelt("request", body, openAIMembers, false); err != nil {
		return nil, err
	}
	var calls []any
	take := func(list []rawCall, err error) error {
		for _, c := range list {
			calls = append(calls, map[string]any{"name": c.name, "arguments": c.asSent()})
		}
		return err
	}
	messages, err := objects(body, "messages")
	if err != nil {
		return nil, err
	}
	for _, m := range messages {
		if err := take(messageCalls(m)); err != nil {
			return nil, err
		}
	}
	if _, text := body["input"].(string); text {
		return calls, nil
	}
	items, err := objects(body, "input")
	if err != nil {
		return nil, err
	}
	for _, item := range items {
		if t, _ := item["type"].(string); !strings.HasSuffix(t, "_call") {
			if err := misspelt("input", item, openAIMembers, false); err != nil {
				return nil, err
			}
			continue
		}
		if err := take(itemCalls(item)); err != nil {
			return nil, err
		}
	}
	return calls, nil
}

// objects is a member that is a list of objects; null and none are empty.
func objects(in map[string]any, member string) ([]map[string]any, error) {
	v := in[member]
	if v == nil {
		return nil, nil
	}
	list, ok := v.([]any)
	if !ok {
		return nil, malformed("%s is not a list", member)
	}
	out := make([]map[string]any, len(list))
	for i, e := range list {
		if out[i], ok = e.(map[string]any); !ok {
			return nil, malformed("an entry of %s is not an object", member)
		}
	}
	return out, nil
}

func within(in map[string]any, member string) map[string]any {
	m, _ := in[member].(map[string]any)
	return m
}

// openai is a denial as OpenAI's API has errors. Its clients make a call again
// by the status, unless they are told not to.
func (out *Denial) openai(s shape, detail string, id call.ID, d call.Decision) {
	kind := "invalid_request_error"
	switch {
	case s.status == http.StatusUnauthorized:
		kind = "authentication_error"
	case s.status == http.StatusForbidden:
		kind = "permission_error"
	case s.status == http.StatusTooManyRequests:
		kind = "rate_limit_error"
	case s.status >= 500:
		kind = "server_error"
	}
	out.Headers = append(out.Headers, call.Header{Name: "content-type", Value: "application/json"})
	if d.Reason == call.ReasonResponseWithheld { // the model has answered, and would be paid again
		out.Headers = append(out.Headers, call.Header{Name: "x-should-retry", Value: "false"})
	}
	out.Body = marshal(struct {
		Error any `json:"error"`
	}{openAIErrorOf(kind, detail, id, d)})
}

type openAIError struct {
	Message string      `json:"message"`
	Type    string      `json:"type"`
	Param   *string     `json:"param"`
	Code    call.Reason `json:"code"`
	extra
}

func openAIErrorOf(kind, detail string, id call.ID, d call.Decision) openAIError {
	return openAIError{Message: detail, Type: kind, Code: d.Reason, extra: extraOf(id, d)}
}

// OpenAIErrorEvent is a denial as the last event of a stream that has begun.
// function is that of the request.
func OpenAIErrorEvent(function string, id call.ID, d call.Decision) []byte {
	e := openAIErrorOf("permission_error", detailOf(shapeOf(d), d), id, d)
	if function != Responses {
		return append(append([]byte("data: "), marshal(struct {
			Error openAIError `json:"error"`
		}{e})...), "\n\n"...)
	}
	e.Type = "error"
	return append(append([]byte("event: error\ndata: "), marshal(e)...), "\n\n"...)
}
