package protocol

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/callgate/callgate/call"
)

func asked(method, path, body string) *call.Request {
	req := &call.Request{Method: method, Authority: "gate.test", Path: path, Body: []byte(body)}
	if body != "" {
		req.Headers = call.Headers{{Name: "content-type", Value: "application/json"}}
	}
	return req
}

func TestOpenAI(t *testing.T) {
	p, err := New(Config{Protocol: call.OpenAI, BasePath: "/v1"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ path, body, want string }{ // function, names, calls, stream
		{"/chat/completions", `{"model":"m","messages":[{"role":"user","content":"hi"}]}`, `chat.completions [] [] false`},
		{"/chat/completions", `{"stream":true,"tools":[{"type":"function","function":{"name":"a"}},{"type":"custom","custom":{"name":"b"}}],"functions":[{"name":"c"}]}`, `chat.completions ["a","b","c"] [] true`},
		{"/chat/completions", `{"messages":[{"role":"assistant","tool_calls":[{"id":"1","type":"function","function":{"name":"a","arguments":"{\"n\":7}"}},{"type":"custom","custom":{"name":"b","input":"x"}}],"function_call":{"name":"c","arguments":"no"}}]}`,
			`chat.completions [] [{"arguments":{"n":7},"name":"a"},{"arguments":{"input":"x"},"name":"b"},{"arguments":"no","name":"c"}] false`},
		{"/chat/completions", `{"messages":[{"role":"user","tool_calls":[{"function":{"name":"a","arguments":"{\"n\":1,\"n\":2}"}}]}]}`, `chat.completions [] [{"arguments":"{\"n\":1,\"n\":2}","name":"a"}] false`},
		{"/responses", `{"model":"m","input":"hi","stream":null,"tools":[{"type":"function","name":"a"},{"type":"web_search"}]}`, `responses ["a","web_search"] [] false`},
		{"/responses", `{"input":[{"role":"user","content":"hi"},{"type":"function_call","name":"a","arguments":"{}","call_id":"1"},{"type":"function_call_output","call_id":"1","output":"x"},{"type":"custom_tool_call","name":"b","input":"y"}]}`,
			`responses [] [{"arguments":{},"name":"a"},{"arguments":{"input":"y"},"name":"b"}] false`},
		{"/embeddings", `{"model":"m","input":[1,2]}`, `embeddings null null null`},
	} {
		inv, err := p.Parse(asked("POST", "/v1"+c.path, c.body))
		got, _ := json.Marshal([]any{inv.Args["tool_names"], inv.Args["tool_calls"], inv.Args["stream"]})
		var parts []json.RawMessage
		_ = json.Unmarshal(got, &parts)
		if line := fmt.Sprintf("%s %s %s %s", inv.Function, parts[0], parts[1], parts[2]); err != nil || line != c.want {
			t.Errorf("%s: %s, %v\nwant %s", c.body, line, err, c.want)
		}
		if again, err := Arguments(inv.ArgsJSON); err != nil || fmt.Sprint(again) != fmt.Sprint(inv.Args) {
			t.Errorf("%s: recorded as %v, %v", c.body, again, err)
		}
	}
	if inv, err := p.Parse(asked("GET", "/v1/models", "")); err != nil || inv.Function != "models.list" {
		t.Errorf("%+v %v", inv, err)
	}
}

// Ways to have the function see another request than the rules: add a line.
func TestOpenAIRefused(t *testing.T) {
	p, err := New(Config{Protocol: call.OpenAI, BasePath: "/v1"})
	if err != nil {
		t.Fatal(err)
	}
	for what, req := range map[string]*call.Request{
		"a key twice":             asked("POST", "/v1/chat/completions", `{"stream":false,"stream":true}`),
		"a tool in capitals":      asked("POST", "/v1/chat/completions", `{"Tools":[{"type":"function","function":{"name":"a"}}]}`),
		"a name in capitals":      asked("POST", "/v1/chat/completions", `{"tools":[{"type":"function","function":{"Name":"a"}}]}`),
		"calls in capitals":       asked("POST", "/v1/chat/completions", `{"messages":[{"Tool_Calls":[]}]}`),
		"tool_names of one's own": asked("POST", "/v1/chat/completions", `{"tool_names":[]}`),
		"and spelt otherwise":     asked("POST", "/v1/chat/completions", `{"Tool.Calls":[]}`),
		"a tool without a name":   asked("POST", "/v1/chat/completions", `{"tools":[{}]}`),
		"tools that are no list":  asked("POST", "/v1/chat/completions", `{"tools":{"a":{}}}`),
		"messages of no shape":    asked("POST", "/v1/chat/completions", `{"messages":[7]}`),
		"a stream that is a text": asked("POST", "/v1/chat/completions", `{"stream":"true"}`),
		"two kinds of call":       asked("POST", "/v1/chat/completions", `{"messages":[{"tool_calls":[{"function":{"name":"a"},"custom":{"name":"b"}}]}]}`),
		"an item in capitals":     asked("POST", "/v1/responses", `{"input":[{"Type":"function_call","name":"a"}]}`),
		"a list":                  asked("POST", "/v1/responses", `[{}]`),
		"no JSON":                 asked("POST", "/v1/responses", `x`),
		"a form":                  {Method: "POST", Authority: "gate.test", Path: "/v1/responses", Body: []byte("a=b"), Headers: call.Headers{{Name: "content-type", Value: "application/x-www-form-urlencoded"}}},
		"a query":                 asked("POST", "/v1/responses?stream=true", `{}`),
		"another method":          asked("GET", "/v1/responses", ``),
		"another path":            asked("POST", "/v1/files", `{}`),
		"a response by id":        asked("GET", "/v1/responses/r1", ``),
		"another base":            asked("POST", "/v2/responses", `{}`),
		"a slash too many":        asked("POST", "/v1/responses/", `{}`),
		"an escape":               asked("POST", "/v1/%72esponses", `{}`),
	} {
		inv, err := p.Parse(req)
		if no := new(Error); !errors.As(err, &no) {
			t.Errorf("%s: %q, %v", what, inv.Function, err)
		}
	}
}

// answered reads a document, or the events of a stream, one a line.
func answered(text string) (string, error) {
	var r ToolCalls
	var out []string
	for line := range strings.SplitSeq(text, "\n") {
		calls, err := r.Event([]byte(line))
		if err != nil {
			return strings.Join(out, " "), err
		}
		for _, c := range calls {
			args, _ := json.Marshal(c.Args)
			out = append(out, c.Function()+string(args))
		}
		if r.Open() {
			out = append(out, "…")
		}
	}
	return strings.Join(out, " "), r.Close()
}

func chunk(delta, finish string) string {
	return `{"choices":[{"index":0,"delta":` + delta + `,"finish_reason":` + finish + `}]}`
}

func TestToolCalls(t *testing.T) {
	for text, want := range map[string]string{
		`{"choices":[{"message":{"content":"hi","tool_calls":null},"finish_reason":"stop"}]}`: ``,
		`{"choices":[{"message":{"tool_calls":[{"id":"1","type":"function","function":{"name":"a","arguments":"{\"n\":1}"}},{"type":"custom","custom":{"name":"b","input":"x"}}]}},{"message":{"function_call":{"name":"c","arguments":""}}}]}`: `tool a{"n":1} tool b{"input":"x"} tool c{}`,
		`{"output":[{"type":"message","content":[]},{"type":"reasoning"},{"type":"function_call","name":"a","arguments":"{}"},{"type":"local_shell_call","action":"ls"}]}`:                                                                      `tool a{} tool local_shell{"action":"ls","type":"local_shell_call"}`,
		`{"error":{"message":"no"}}`: ``,
		chunk(`{"content":"hi"}`, `null`) + "\n" + chunk(`{"tool_calls":[{"index":0,"id":"x","function":{"name":"a","arguments":""}}]}`, `null`) + "\n" +
			chunk(`{"tool_calls":[{"index":0,"function":{"arguments":"{\"n\""}}]}`, `""`) + "\n" + chunk(`{"tool_calls":[{"index":1,"id":"y","function":{"name":"b"}},{"index":0,"function":{"arguments":":1}"}}]}`, `null`) + "\n" +
			chunk(`{}`, `"tool_calls"`) + "\n" + `{"choices":[],"usage":{}}` + "\n[DONE]": `… … … tool a{"n":1} tool b{}`,
		chunk(`{"tool_calls":[{"index":0,"function":{"name":"a","arguments":"{}"}}]}`, `"stop"`):                                                                                `tool a{}`,
		chunk(`{"function_call":{"name":"a","arguments":"{"}}`, `null`) + "\n" + chunk(`{"function_call":{"arguments":"}"}}`, `null`) + "\n" + chunk(`null`, `"function_call"`): `… … tool a{}`,
		`{"type":"response.output_item.added","output_index":0,"item":{"type":"function_call","name":"a","arguments":""}}` + "\n" +
			`{"type":"response.function_call_arguments.delta","output_index":0,"delta":"{\"n\":"}` + "\n" + `{"type":"response.function_call_arguments.delta","output_index":0,"delta":"1}"}` + "\n" +
			`{"type":"response.function_call_arguments.done","output_index":0,"arguments":"{\"n\":1}"}` + "\n" +
			`{"type":"response.output_item.done","output_index":0,"item":{"type":"function_call","name":"a","arguments":"{\"n\":1}"}}` + "\n" +
			`{"type":"response.completed","response":{"output":[{"type":"function_call","name":"a","arguments":"{\"n\":1}"}]}}`: `… … … … tool a{"n":1} tool a{"n":1}`,
		`{"type":"response.output_text.delta","delta":"hi"}` + "\n" + `{"type":"response.output_item.done","output_index":0,"item":{"type":"message"}}`: ``,
	} {
		if got, err := answered(text); got != want || err != nil {
			t.Errorf("%s:\n%s, %v\nwant %s", text, got, err, want)
		}
	}
}

// Ways to have a client find another call than the judge: add a line.
func TestToolCallsRefused(t *testing.T) {
	begun := chunk(`{"tool_calls":[{"index":0,"id":"x","function":{"name":"a","arguments":"{}"}}]}`, `null`) + "\n"
	added := `{"type":"response.output_item.added","output_index":0,"item":{"type":"function_call","name":"a","arguments":""}}` + "\n"
	for what, text := range map[string]string{
		"no JSON":                 `hi`,
		"a list":                  `[{"choices":[]}]`,
		"two documents":           `{} {"choices":[{"message":{"tool_calls":[{"function":{"name":"a"}}]}}]}`,
		"a key twice":             `{"choices":[],"choices":[]}`,
		"choices in capitals":     `{"Choices":[]}`,
		"a message in capitals":   `{"choices":[{"Message":{}}]}`,
		"calls in capitals":       `{"choices":[{"message":{"Tool_calls":[]}}]}`,
		"a name in capitals":      `{"choices":[{"message":{"tool_calls":[{"function":{"name":"a","Name":"b"}}]}}]}`,
		"calls that are no list":  `{"choices":[{"message":{"tool_calls":{"0":{}}}}]}`,
		"no name":                 `{"choices":[{"message":{"tool_calls":[{"function":{"arguments":"{}"}}]}}]}`,
		"a name with a space":     `{"choices":[{"message":{"tool_calls":[{"function":{"name":"a "}}]}}]}`,
		"neither kind":            `{"choices":[{"message":{"tool_calls":[{"id":"1"}]}}]}`,
		"arguments twice":         `{"choices":[{"message":{"tool_calls":[{"function":{"name":"a","arguments":"{\"n\":1,\"n\":2}"}}]}}]}`,
		"arguments, an object":    `{"choices":[{"message":{"tool_calls":[{"function":{"name":"a","arguments":{"n":1}}}]}}]}`,
		"arguments, no object":    `{"choices":[{"message":{"tool_calls":[{"function":{"name":"a","arguments":"7"}}]}}]}`,
		"output beside a type":    `{"type":"x","output":["x",{"type":"function_call","name":"a"}]}`,
		"an item without a type":  `{"output":[{"name":"a"}]}`,
		"an item in capitals":     `{"output":[{"type":"message","Type":"function_call"}]}`,
		"response, no object":     `{"type":"response.completed","response":[]}`,
		"never finished":          begun + "[DONE]",
		"named again":             begun + chunk(`{"tool_calls":[{"index":0,"function":{"name":"b"}}]}`, `"stop"`),
		"another id":              begun + chunk(`{"tool_calls":[{"index":0,"id":"y","function":{"arguments":""}}]}`, `"stop"`),
		"another kind":            begun + chunk(`{"tool_calls":[{"index":0,"custom":{"input":"x"}}]}`, `"stop"`),
		"no index":                chunk(`{"tool_calls":[{"function":{"name":"a"}}]}`, `"stop"`),
		"an index below":          chunk(`{"tool_calls":[{"index":-1,"function":{"name":"a"}}]}`, `"stop"`),
		"an index that is none":   chunk(`{"tool_calls":[{"index":0.0,"function":{"name":"a"}}]}`, `"stop"`),
		"a choice without index":  `{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"name":"a"}}]}}]}`,
		"on after the end":        begun + chunk(`{}`, `"stop"`) + "\n" + chunk(`{"tool_calls":[{"index":0,"function":{"arguments":"x"}}]}`, `null`),
		"pieces before the call":  `{"type":"response.function_call_arguments.delta","output_index":0,"delta":"{}"}`,
		"an item is not whole":    added,
		"other pieces":            added + `{"type":"response.function_call_arguments.delta","output_index":0,"delta":"{\"n\":2}"}` + "\n" + `{"type":"response.output_item.done","output_index":0,"item":{"type":"function_call","name":"a","arguments":"{}"}}`,
		"other pieces when done":  added + `{"type":"response.function_call_arguments.done","output_index":0,"arguments":"{\"n\":2}"}` + "\n" + `{"type":"response.output_item.done","output_index":0,"item":{"type":"function_call","name":"a","arguments":"{}"}}`,
		"another name when done":  added + `{"type":"response.output_item.done","output_index":0,"item":{"type":"function_call","name":"b","arguments":"{}"}}`,
		"arguments already begun": strings.Replace(added, `"arguments":""`, `"arguments":"{\"n\":2}"`, 1) + `{"type":"response.output_item.done","output_index":0,"item":{"type":"function_call","name":"a","arguments":"{}"}}`,
		"another becomes text":    added + `{"type":"response.output_item.done","output_index":0,"item":{"type":"message"}}`,
		"an unknown event's item": `{"type":"response.x","output_index":0,"item":{"type":"function_call","name":"a"}}`,
		"an item without place":   `{"type":"response.output_item.done","item":{"type":"function_call","name":"a"}}`,
	} {
		if got, err := answered(text); err == nil {
			t.Errorf("%s: %q", what, got)
		}
	}
}

func FuzzOpenAI(f *testing.F) {
	f.Add(`{"stream":true,"tools":[{"type":"function","function":{"name":"a"}}],"messages":[{"tool_calls":[{"function":{"name":"a","arguments":"{}"}}]}]}`, chunk(`{"tool_calls":[{"index":0,"function":{"name":"a","arguments":"{}"}}]}`, `"stop"`))
	f.Add(`{"input":[{"type":"function_call","name":"a","arguments":"{}"}]}`, `{"type":"response.output_item.done","output_index":0,"item":{"type":"function_call","name":"a"}}`)
	p := newOpenAI("/v1")
	f.Fuzz(func(t *testing.T, request, answer string) {
		for _, path := range []string{"/v1/chat/completions", "/v1/responses"} {
			inv, err := p.Parse(asked("POST", path, request))
			if no := new(Error); err != nil && !errors.As(err, &no) {
				t.Errorf("%T %v", err, err)
			}
			if err == nil && !json.Valid(inv.ArgsJSON) {
				t.Errorf("recorded as %s", inv.ArgsJSON)
			}
		}
		// Whatever a lenient reader finds in a message was found here, too.
		var lenient struct {
			Choices []struct {
				Message struct {
					Calls []struct{ Function struct{ Name string } } `json:"tool_calls"`
				}
			}
		}
		found, err := answered(answer)
		if err != nil || json.Unmarshal([]byte(answer), &lenient) != nil {
			return
		}
		for _, c := range lenient.Choices {
			for _, call := range c.Message.Calls {
				if !strings.Contains(found, "tool "+call.Function.Name) {
					t.Errorf("%q is not found in %s", call.Function.Name, answer)
				}
			}
		}
	})
}
