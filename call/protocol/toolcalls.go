package protocol

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// ToolCall is a call that a model asks its client to make.
type ToolCall struct {
	Name string
	Args map[string]any // see [call.Call]
}

// Function is how rules name it.
func (t ToolCall) Function() string { return "tool " + t.Name }

// ToolCalls reads what a model answers, one document or the events of a stream,
// for the calls of tools in it: of chat completions and of responses, wherever
// either could hold one. It reads strictly, as requests are read: what clients
// could read differently is an error. Its errors quote nothing.
type ToolCalls struct {
	// chat are the calls that are being put together, by choice and index;
	// -1 is the index of a function_call.
	chat map[[2]int64]*rawCall
	// over are the choices that have given their reason to finish.
	over map[int64]bool
	// items are those of the responses API, by output index.
	items map[int64]*rawCall
}

// Open reports whether a call has begun that is not whole: nothing may leave
// until it is.
func (t *ToolCalls) Open() bool { return len(t.chat)+len(t.items) > 0 }

// Document reads one document, and returns the calls that are whole with it.
func (t *ToolCalls) Document(data []byte) ([]ToolCall, error) {
	v, err := document(data)
	if err != nil {
		return nil, fmt.Errorf("the model's answer can't be read for tool calls: %w", err)
	}
	doc, ok := v.(map[string]any)
	if !ok {
		return nil, malformed("the model's answer is not a JSON object")
	}
	raw, err := t.read(doc)
	if err != nil {
		return nil, fmt.Errorf("the model's answer can't be read for tool calls: %w", err)
	}
	out := make([]ToolCall, len(raw))
	for i, r := range raw {
		if out[i], err = r.call(); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Event is Document for the data of an event in a stream.
func (t *ToolCalls) Event(data []byte) ([]ToolCall, error) {
	if string(bytes.TrimSpace(data)) == "[DONE]" {
		return nil, t.Close()
	}
	return t.Document(data)
}

// Close tells that nothing more comes.
func (t *ToolCalls) Close() error {
	if t.Open() {
		return malformed("the model's answer ends within a tool call")
	}
	return nil
}

func (t *ToolCalls) read(doc map[string]any) ([]rawCall, error) {
	if err := misspelt("answer", doc, openAIMembers, false); err != nil {
		return nil, err
	}
	calls, err := t.choices(doc)
	if err != nil {
		return nil, err
	}
	response, ok := doc["response"].(map[string]any)
	if doc["response"] != nil && !ok {
		return nil, malformed("response is not an object")
	}
	if err := misspelt("answer", response, openAIMembers, false); err != nil {
		return nil, err
	}
	for _, in := range []map[string]any{doc, response} {
		if _, text := in["output"].(string); text { // of an event's
			continue
		}
		items, err := objects(in, "output")
		if err != nil {
			return nil, err
		}
		for _, item := range items {
			list, err := itemCalls(item)
			if err != nil {
				return nil, err
			}
			calls = append(calls, list...)
		}
	}
	list, err := t.event(doc)
	return append(calls, list...), err
}

// choices are those of a chat completion, or of a piece of one.
func (t *ToolCalls) choices(doc map[string]any) ([]rawCall, error) {
	choices, err := objects(doc, "choices")
	if err != nil {
		return nil, err
	}
	var calls []rawCall
	for _, c := range choices {
		if err := misspelt("choice", c, openAIMembers, false); err != nil {
			return nil, err
		}
		for _, member := range []string{"message", "delta"} {
			if c[member] != nil && within(c, member) == nil {
				return nil, fmt.Errorf("%s is not an object", member)
			}
		}
		list, err := messageCalls(within(c, "message"))
		if err != nil {
			return nil, err
		}
		calls = append(calls, list...)
		delta := within(c, "delta")
		if delta == nil && len(t.chat) == 0 {
			continue // no stream
		}
		n, ok := c["index"].(int64)
		if !ok {
			return nil, malformed("a choice of a stream has no index")
		}
		if err := t.delta(n, delta); err != nil {
			return nil, err
		}
		if reason, _ := c["finish_reason"].(string); reason == "" {
			continue
		}
		if t.over == nil {
			t.over = map[int64]bool{}
		}
		if t.over[n] = true; len(t.over) > maxChoices {
			return nil, fmt.Errorf("there are more than %d choices", maxChoices)
		}
		for _, at := range slices.SortedFunc(maps.Keys(t.chat), func(a, b [2]int64) int { return slices.Compare(a[:], b[:]) }) {
			if at[0] == n {
				calls = append(calls, *t.chat[at])
				delete(t.chat, at)
			}
		}
	}
	return calls, nil
}

// maxChoices bounds the choices of a stream that are remembered; OpenAI has 128.
const maxChoices = 1024

// delta adds a piece of a choice to its calls.
func (t *ToolCalls) delta(choice int64, delta map[string]any) error {
	if err := misspelt("delta", delta, openAIMembers, false); err != nil {
		return err
	}
	pieces, err := objects(delta, "tool_calls")
	if err != nil {
		return err
	}
	if f := delta["function_call"]; f != nil {
		pieces = append(pieces, map[string]any{"index": int64(-1), "function": f})
	}
	for i, p := range pieces {
		n, ok := p["index"].(int64)
		if !ok || n < 0 && (delta["function_call"] == nil || i != len(pieces)-1) {
			return malformed("a piece of a tool call has no index")
		}
		if t.over[choice] {
			return malformed("a tool call goes on after the choice is finished")
		}
		piece, err := nested(p)
		if err != nil {
			return err
		}
		if t.chat == nil {
			t.chat = map[[2]int64]*rawCall{}
		}
		at := [2]int64{choice, n}
		known := t.chat[at]
		switch {
		case known == nil:
			t.chat[at] = &piece
		case piece.name != "", piece.id != "" && piece.id != known.id:
			return malformed("a tool call is named twice")
		case piece.custom != known.custom && len(piece.text) > 0:
			return malformed("a tool call is of two types")
		default:
			known.text = append(known.text, piece.text...)
		}
	}
	return nil
}

// event is one of the responses API's stream.
func (t *ToolCalls) event(doc map[string]any) ([]rawCall, error) {
	kind, _ := doc["type"].(string)
	kind = strings.TrimPrefix(kind, "response.")
	piece, done := "", false
	switch {
	case doc["item"] != nil:
		item := within(doc, "item")
		if item == nil {
			return nil, malformed("item is not an object")
		}
		if plainItem(item) {
			return nil, misspelt("item", item, openAIMembers, false)
		}
		list, err := itemCalls(item)
		if err != nil {
			return nil, err
		}
		n, ok := doc["output_index"].(int64)
		switch {
		case !ok:
			return nil, malformed("an item has no output_index")
		case kind == "output_item.added":
			if t.items == nil {
				t.items = map[int64]*rawCall{}
			}
			if t.items[n] != nil {
				return nil, malformed("two items have one output_index")
			}
			t.items[n] = &list[0]
			return nil, nil
		case kind != "output_item.done":
			return nil, malformed("an item comes with an event that is not known")
		}
		begun := t.items[n]
		delete(t.items, n)
		if begun != nil && (begun.name != list[0].name || len(begun.text) > 0 && !bytes.Equal(begun.text, list[0].text)) {
			return nil, malformed("a tool call is not what its pieces make")
		}
		return list, nil
	case strings.HasSuffix(kind, "_call_arguments.delta"), strings.HasSuffix(kind, "_call_input.delta"):
		piece, _ = doc["delta"].(string)
	case strings.HasSuffix(kind, "_call_arguments.done"):
		piece, _ = doc["arguments"].(string)
		done = true
	case strings.HasSuffix(kind, "_call_input.done"):
		piece, _ = doc["input"].(string)
		done = true
	default:
		return nil, nil
	}
	n, _ := doc["output_index"].(int64)
	known := t.items[n]
	switch {
	case known == nil:
		return nil, malformed("a piece of a tool call comes before the call")
	case !done:
		known.text = append(known.text, piece...)
	case len(known.text) == 0:
		known.text = []byte(piece)
	case string(known.text) != piece:
		return nil, malformed("a tool call is not what its pieces make")
	}
	if name, ok := doc["name"].(string); ok && name != known.name {
		return nil, malformed("a tool call is named twice")
	}
	return nil, nil
}

// rawCall is a call of a tool as it was written.
type rawCall struct {
	id, name string
	// text are the arguments, a JSON object, or what a custom tool is given.
	text   []byte
	custom bool
	item   map[string]any // of a tool that takes neither
}

// asSent are the arguments for a request's record: an object where they are one.
func (r rawCall) asSent() any {
	if c, err := r.call(); err == nil {
		return c.Args
	}
	return string(r.text)
}

func (r rawCall) call() (ToolCall, error) {
	if r.name == "" || len(r.name) > 256 || strings.ContainsFunc(r.name, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return ToolCall{}, malformed("the model calls a tool without a name, or by one with spaces or beyond ASCII")
	}
	out := ToolCall{Name: r.name, Args: map[string]any{}}
	switch {
	case r.item != nil:
		out.Args = r.item
	case r.custom:
		out.Args["input"] = string(r.text)
	case len(bytes.TrimSpace(r.text)) > 0:
		v, err := document(r.text)
		if err != nil {
			return out, fmt.Errorf("the arguments with which the model calls tool %q can't be judged: %w", printable(r.name), err)
		}
		args, ok := v.(map[string]any)
		if !ok {
			return out, fmt.Errorf("the arguments with which the model calls tool %q are no JSON object", printable(r.name))
		}
		out.Args = args
	}
	return out, nil
}

// messageCalls are the calls in a message of a chat.
func messageCalls(m map[string]any) ([]rawCall, error) {
	if err := misspelt("message", m, openAIMembers, false); err != nil {
		return nil, err
	}
	list, err := objects(m, "tool_calls")
	if err != nil {
		return nil, err
	}
	if f := m["function_call"]; f != nil {
		list = append(list, map[string]any{"function": f})
	}
	out := make([]rawCall, len(list))
	for i, c := range list {
		if out[i], err = nested(c); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// nested is a call, or a piece of one, as chats have it.
func nested(c map[string]any) (rawCall, error) {
	if err := misspelt("tool call", c, openAIMembers, false); err != nil {
		return rawCall{}, err
	}
	id, _ := c["id"].(string)
	function, custom := within(c, "function"), within(c, "custom")
	switch {
	case c["function"] != nil && function == nil, c["custom"] != nil && custom == nil, function != nil && custom != nil:
		return rawCall{}, malformed("a tool call is neither of a function nor of a custom tool")
	case custom != nil:
		return written(id, custom, "input", true)
	default:
		return written(id, function, "arguments", false)
	}
}

func written(id string, m map[string]any, member string, custom bool) (rawCall, error) {
	if err := misspelt("tool call", m, openAIMembers, false); err != nil {
		return rawCall{}, err
	}
	name, ok := m["name"].(string)
	text, is := m[member].(string)
	if m["name"] != nil && !ok || m[member] != nil && !is {
		return rawCall{}, malformed("name and %s of a tool call must be texts", member)
	}
	return rawCall{id: id, name: name, text: []byte(text), custom: custom}, nil
}

// plainItem tells what is for people to read, or comes from a tool, and asks
// nothing of a client.
func plainItem(item map[string]any) bool {
	kind, _ := item["type"].(string)
	return kind == "message" || kind == "reasoning" || kind == "compaction" || strings.HasSuffix(kind, "_output")
}

// itemCalls is the call in an item of the responses API; one that is not known
// to be none counts as one, of a tool named by its type.
func itemCalls(item map[string]any) ([]rawCall, error) {
	if err := misspelt("item", item, openAIMembers, false); err != nil {
		return nil, err
	}
	kind, ok := item["type"].(string)
	switch {
	case !ok:
		return nil, malformed("an item has no type")
	case plainItem(item):
		return nil, nil
	}
	member := "arguments"
	if kind == "custom_tool_call" {
		member = "input"
	}
	if _, named := item["name"].(string); named || kind == "function_call" || kind == "custom_tool_call" {
		c, err := written("", item, member, member == "input")
		if err == nil && item[member] == nil {
			c.item = item
		}
		return []rawCall{c}, err
	}
	return []rawCall{{name: strings.TrimSuffix(kind, "_call"), item: item}}, nil
}
