package extproc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/call/protocol"
)

// tools lets models call what has "good" in its name, with n below 10.
type tools struct{ err error }

func (j tools) Judge(_ context.Context, meta call.Metadata, function string, args map[string]any) (call.Ruling, error) {
	n, _ := args["n"].(int64)
	switch {
	case meta.Caller == nil || meta.Caller.Subject != "ann" || j.err != nil:
		return call.Ruling{Action: call.ActionAllow}, errors.Join(j.err, errors.New("who?"))
	case function == "tool good_in_shadow":
		return call.Ruling{Action: call.ActionAllow, Reason: call.ReasonShadow, Shadow: []string{"deny: later"}}, nil
	case function == "tool good_but_held":
		return call.Ruling{Action: call.ActionHold, Rule: "ask", Reason: call.ReasonRule}, nil
	case strings.HasPrefix(function, "tool good") && n < 10:
		return call.Ruling{Action: call.ActionAllow, Rule: "fine"}, nil
	}
	return call.Ruling{Action: call.ActionDeny, Rule: "no bad tools", Reason: call.ReasonRule, Message: "not this one"}, nil
}

func asks(function string) *call.Metadata {
	m := decided(call.OpenAI)
	m.Function, m.Caller = function, &call.Identity{Subject: "ann"}
	return m
}

func judging(c *Config) { c.Judge = tools{} }

// flowOf is a body on its way through a judge, and through masks where there are.
func flowOf(t testing.TB, function, contentType string, limit int, next flow) flow {
	t.Helper()
	r := &response{server: &Server{cfg: Config{Judge: tools{}}}, ctx: t.Context(), meta: *asks(function), headers: call.Headers{{Name: ":status", Value: "200"}, {Name: "content-type", Value: contentType}}}
	f, err := r.judgedBy(limit, next)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// cut sends a body in the pieces given, and returns what left and what is left
// to say.
func cut(f flow, pieces ...string) (left, last string, err error) {
	for _, p := range pieces {
		out, err := f.write([]byte(p))
		left += string(out)
		if err != nil {
			return left, lastOf(err), err
		}
	}
	out, err := f.close()
	return left + string(out), lastOf(err), err
}

func lastOf(err error) string {
	if d := new(deniedTool); errors.As(err, &d) {
		return string(d.last)
	}
	return ""
}

func data(events ...string) string {
	var b strings.Builder
	for _, e := range events {
		b.WriteString("data: " + e + "\n\n")
	}
	return b.String()
}

func chat(delta string) string { return `{"choices":[{"index":0,"delta":` + delta + `}]}` }

const finished = `{"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}`

// streams are those of both APIs in which a model says "one" and then calls a tool.
func streams(name, args string) map[string]struct{ before, call string } {
	quoted := fmt.Sprintf("%q", args)
	half := len(args) / 2
	return map[string]struct{ before, call string }{
		protocol.ChatCompletions: {data(chat(`{"role":"assistant","content":"one"}`)), data(
			chat(`{"tool_calls":[{"index":0,"id":"c1","type":"function","function":{"name":"`+name+`","arguments":""}}]}`),
			chat(fmt.Sprintf(`{"tool_calls":[{"index":0,"function":{"arguments":%q}}]}`, args[:half])),
			chat(fmt.Sprintf(`{"tool_calls":[{"index":0,"function":{"arguments":%q}}]}`, args[half:])),
			finished, `[DONE]`)},
		protocol.Responses: {"event: response.output_text.delta\n" + data(`{"type":"response.output_text.delta","output_index":0,"delta":"one"}`), data(
			`{"type":"response.output_item.added","output_index":1,"item":{"type":"function_call","name":"`+name+`","arguments":""}}`,
			`{"type":"response.function_call_arguments.delta","output_index":1,"delta":`+quoted+`}`,
			`{"type":"response.function_call_arguments.done","output_index":1,"arguments":`+quoted+`}`,
			`{"type":"response.output_item.done","output_index":1,"item":{"type":"function_call","name":"`+name+`","arguments":`+quoted+`}}`,
			`{"type":"response.completed","response":{"output":[{"type":"function_call","name":"`+name+`","arguments":`+quoted+`}]}}`)},
	}
}

// Wherever a stream is cut in two, what is allowed passes as it came, and of
// what is denied nothing leaves but what came before it and why.
func TestJudgedStreamCutAnywhere(t *testing.T) {
	for function, s := range streams("good", `{"n":7}`) {
		whole := s.before + s.call
		for i := range whole {
			if got, _, err := cut(flowOf(t, function, "text/event-stream", 1<<16, &passing{}), whole[:i], whole[i:]); err != nil || got != whole {
				t.Fatalf("%s, cut at %d: %v\n%s", function, i, err, got)
			}
		}
	}
	for name, args := range map[string]string{"bad": `{"n":7}`, "good": `{"n":70}`, "good_but_held": `{}`} {
		for function, s := range streams(name, args) {
			whole := s.before + s.call
			for i := range whole {
				got, last, err := cut(flowOf(t, function, "text/event-stream", 1<<16, &passing{}), whole[:i], whole[i:])
				all := got + last
				if err == nil || !strings.HasPrefix(all, s.before) || strings.Contains(all[len(s.before):], `"arguments"`) || strings.Contains(all, "[DONE]") ||
					!strings.Contains(all, `"rule":`) || !strings.HasSuffix(all, "}\n\n") || strings.Count(all, "data: ") != 2 {
					t.Fatalf("%s %s, cut at %d: %v\n%s", function, name, i, err, all)
				}
			}
		}
	}
}

// What does not belong to a tool call leaves at once.
func TestJudgedStreamFlows(t *testing.T) {
	for function, s := range streams("good", `{"n":7}`) {
		f := flowOf(t, function, "text/event-stream; charset=utf-8", 1<<16, &passing{})
		if f.waits() {
			t.Error("the headers wait")
		}
		if out, err := f.write([]byte(s.before)); string(out) != s.before || err != nil {
			t.Errorf("%s: %q %v", function, out, err)
		}
		n := strings.Index(s.call, "\n\n") + 2
		if out, err := f.write([]byte(s.call[:n])); len(out) > 0 || err != nil || f.held() == 0 {
			t.Errorf("%s: %q %v", function, out, err)
		}
		if out, err := f.write([]byte(s.call[n:])); string(out) != s.call || err != nil {
			t.Errorf("%s: %q %v", function, out, err)
		}
	}
}

// Ways to have a stream pass unjudged: add a line.
func TestJudgedStreamRefused(t *testing.T) {
	bad := streams("bad", `{}`)[protocol.ChatCompletions].call
	for what, body := range map[string]string{
		"no JSON":               "data: bad\n\n",
		"lines that end in CR":  strings.ReplaceAll(bad, "\n", "\r"),
		"lines that end CRLF":   strings.ReplaceAll(bad, "\n", "\r\n"),
		"after a mark":          "\ufeff" + bad,
		"no space":              strings.ReplaceAll(bad, "data: ", "data:"),
		"in two lines of data":  strings.ReplaceAll(bad, `,"delta"`, ",\ndata: \"delta\""),
		"with other fields":     strings.ReplaceAll(bad, "data: ", "event: x\n: y\nid: 1\ndata: "),
		"with no end":           strings.TrimRight(data(`{"choices":[{"index":0,"message":{"tool_calls":[{"function":{"name":"bad"}}]}}]}`), "\n"),
		"not finished":          data(chat(`{"tool_calls":[{"index":0,"function":{"name":"good","arguments":"{}"}}]}`)),
		"beside one that is":    data(chat(`{"tool_calls":[{"index":0,"function":{"name":"good"}},{"index":1,"function":{"name":"bad"}}]}`), finished),
		"as a function_call":    data(chat(`{"function_call":{"name":"bad","arguments":"{}"}}`), finished),
		"as a message":          data(`{"choices":[{"message":{"tool_calls":[{"function":{"name":"bad"}}]}}]}`),
		"in the other API":      data(`{"type":"response.completed","response":{"output":[{"type":"function_call","name":"bad"}]}}`),
		"as a tool of its own":  data(`{"type":"response.output_item.done","output_index":0,"item":{"type":"local_shell_call","action":{}}}`),
		"more than can be held": data(chat(`{"tool_calls":[{"index":0,"function":{"name":"good","arguments":"` + strings.Repeat("a", 1<<16) + `"}}]}`)),
	} {
		got, last, err := cut(flowOf(t, protocol.ChatCompletions, "text/event-stream", 1<<16, &passing{}), body)
		if err == nil || strings.Contains(got+last, "arguments") || strings.Contains(got, "bad") {
			t.Errorf("%s: %v\n%s%s", what, err, got, last)
		}
	}
}

func TestJudgedDocument(t *testing.T) {
	const call = `{"choices":[{"message":{"tool_calls":[{"function":{"name":"%s","arguments":"{\"n\":%d}"}}]}}]}`
	for body, want := range map[string]string{
		fmt.Sprintf(call, "good", 7):          "",
		fmt.Sprintf(call, "good", 70):         `the model's call of tool "good" is denied by rule "no bad tools": not this one`,
		fmt.Sprintf(call, "bad", 7):           `the model's call of tool "bad" is denied by rule "no bad tools": not this one`,
		fmt.Sprintf(call, "good_but_held", 7): `the model's call of tool "good_but_held" is denied by rule "ask": tool "good_but_held" needs approval, which can't be waited for inside a model's answer`,
		` { "choices" : [] } `:                "",
		``:                                    "",
		`<html>`:                              "the model's answer can't be read",
	} {
		for i := range len(body) + 1 {
			got, _, err := cut(flowOf(t, protocol.ChatCompletions, "application/json", 1<<16, &passing{}), body[:i], body[i:])
			if want == "" && (err != nil || got != body) || want != "" && (err == nil || got != "" || !strings.HasPrefix(err.Error(), want)) {
				t.Fatalf("%s, cut at %d: %q %v", body, i, got, err)
			}
		}
	}
}

func TestJudgedExchange(t *testing.T) {
	const bad = `{"choices":[{"message":{"tool_calls":[{"function":{"name":"bad","arguments":"{}"}}]}}]}`
	b := start(t, judging)
	got := b.run(t, exchange{mode: duplex, meta: asks(protocol.ChatCompletions), headers: jsonType, chunks: []string{bad}})
	if got.headers || got.immediate.GetStatus().GetCode() != 403 || !strings.Contains(string(got.immediate.GetBody()), `{"error":{"message":"not this one","type":"permission_error","param":null,"code":"rule"`) {
		t.Errorf("%+v", got)
	}
	if a := b.one(t); !strings.Contains(a.Withheld, `"no bad tools"`) || len(a.Body.Head) > 0 {
		t.Errorf("%+v", a)
	}
	// What is let through in shadow is told, once.
	b = start(t, judging)
	shadowed := strings.Replace(bad, "bad", "good_in_shadow", 1)
	got = b.run(t, exchange{mode: duplex, meta: asks(protocol.ChatCompletions), headers: jsonType, chunks: []string{shadowed}})
	if a := b.one(t); got.body != shadowed || !slices.Equal(a.Shadow, []string{"tool good_in_shadow: deny: later"}) {
		t.Errorf("%+v %+v", got, a)
	}
	// Of a stream, what came before the call leaves masked, and the end is told.
	for function, s := range streams("bad", `{}`) {
		b := start(t, judging)
		meta := asks(function)
		meta.Mask.Rules = []call.MaskRule{cards}
		got := b.run(t, exchange{mode: duplex, meta: meta, headers: []string{"content-type", "text/event-stream"},
			chunks: []string{strings.Replace(s.before, "one", card, 1) + s.call, s.call, s.call}})
		if got.immediate != nil || got.err != nil || !got.ended || strings.Contains(got.body, card) || strings.Contains(got.body, "arguments") ||
			!strings.Contains(got.body, "1111") || !strings.Contains(got.body, "not this one") {
			t.Errorf("%s: %+v", function, got)
		}
		if a := b.one(t); !strings.Contains(a.Withheld, `"no bad tools"`) || string(a.Body.Head) != got.body {
			t.Errorf("%s: %+v", function, a)
		}
	}
	// Without a record, not even the reason leaves.
	b = start(t, judging, func(cfg *Config) { cfg.Recorder.(*memory).fail = func(int) error { return errors.New("disk full") } })
	b.later.full = true
	s := streams("bad", `{}`)[protocol.Responses]
	if got := b.run(t, exchange{mode: duplex, meta: asks(protocol.Responses), headers: []string{"content-type", "text/event-stream"}, chunks: []string{s.before + s.call}}); got.err == nil || got.body != "" || got.ended {
		t.Errorf("%+v", got)
	}
	// Where nobody can judge, or the answer can't be read, nothing passes.
	for what, c := range map[string]struct {
		judge   Judge
		caller  bool
		headers []string
		status  string
		mode    int
	}{
		"no judge":       {nil, true, jsonType, "200", 0},
		"no caller":      {tools{}, false, jsonType, "200", 0},
		"no policy":      {tools{errors.New("no policy")}, true, jsonType, "200", 0},
		"HTML":           {tools{}, true, []string{"content-type", "text/html"}, "200", 0},
		"no type":        {tools{}, true, nil, "200", 0},
		"two types":      {tools{}, true, []string{"content-type", "text/html", "content-type", "application/json"}, "200", 0},
		"UTF-16":         {tools{}, true, []string{"content-type", "application/json; charset=utf-16"}, "200", 0},
		"an encoding":    {tools{}, true, []string{"content-type", "application/json", "content-encoding", "x"}, "200", 0},
		"an error":       {tools{}, true, jsonType, "500", 0},
		"no body to see": {tools{}, true, jsonType, "200", 1},
	} {
		b := start(t, func(cfg *Config) { cfg.Judge = c.judge })
		meta := asks(protocol.Responses)
		meta.Response.Binary = call.BinaryPass
		if !c.caller {
			meta.Caller = nil
		}
		x := exchange{mode: duplex, meta: meta, status: c.status, headers: c.headers, chunks: []string{bad}}
		if c.mode == 1 {
			x.mode, x.chunks = nobody, nil
		}
		if got := b.run(t, x); got.headers || got.immediate == nil || strings.Contains(got.body, "bad") {
			t.Errorf("%s: %+v", what, got)
		}
	}
	// An error page without a call passes.
	b = start(t, judging)
	if got := b.run(t, exchange{mode: duplex, meta: asks(protocol.Responses), status: "503", headers: []string{"content-type", "text/html"}, chunks: []string{"<p>"}}); got.body != "<p>" {
		t.Errorf("%+v", got)
	}
}

func FuzzJudged(f *testing.F) {
	for _, s := range streams("bad", `{"n":1}`) {
		f.Add(s.before+s.call, 7)
	}
	f.Fuzz(func(t *testing.T, body string, at int) {
		if at < 0 || at > len(body) {
			return
		}
		one, lastOne, errOne := cut(flowOf(t, protocol.Responses, "text/event-stream", 1<<16, &passing{}), body)
		two, lastTwo, errTwo := cut(flowOf(t, protocol.Responses, "text/event-stream", 1<<16, &passing{}), body[:at], body[at:])
		if (errOne == nil) != (errTwo == nil) || errOne == nil && one != two || lastOne != "" && one+lastOne != two+lastTwo {
			t.Errorf("%q %v\n%q %v", one+lastOne, errOne, two+lastTwo, errTwo)
		}
	})
}
