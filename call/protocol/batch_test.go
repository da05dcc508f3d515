package protocol

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/callgate/callgate/call"
)

func batches(t testing.TB, p call.Protocol, max int) *Batches {
	t.Helper()
	b, err := NewBatches(p, max)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const (
	one   = `{"jsonrpc":"2.0","method":"a","id":1}`
	two   = `{"jsonrpc":"2.0","method":"b","params":{"x":"],[{\"}"},"id":"2"}`
	quiet = `{"jsonrpc":"2.0","method":"n"}`
)

// Each element is told as it stands, with what is wrong with it alone. In the
// table an element is its function and id, or what its refusal says.
func TestBatch(t *testing.T) {
	deep := strings.Repeat("[", 200) + strings.Repeat("]", 200)
	for name, tt := range map[string]struct {
		body string
		want []string
	}{
		"one":                    {`[` + one + `]`, []string{"a 1"}},
		"two and a notification": {`[` + one + `,` + two + `,` + quiet + `]`, []string{"a 1", `b "2"`, "n "}},
		"whitespace":             {" \r\n[\t" + one + " \n,\r\t " + two + "\n] \n", []string{"a 1", `b "2"`}},
		"no JSON-RPC":            {`[1, "x" ,null,true,-1.5e3,{}]`, []string{"!one JSON object", "!one JSON object", "!one JSON object", "!one JSON object", "!one JSON object", `!"jsonrpc": "2.0"`}},
		"a batch in it":          {`[[` + one + `],` + two + `,[]]`, []string{"!batches are not accepted", `b "2"`, "!batches are not accepted"}},
		"a key twice":            {`[{"jsonrpc":"2.0","method":"a","method":"b","id":1},` + two + `]`, []string{"!key twice", `b "2"`}},
		"a key twice, escaped":   {`[` + two + `,{"jsonrpc":"2.0","method":"a","m\u0065thod":"b","id":1}]`, []string{`b "2"`, "!key twice"}},
		"a key twice, in params": {`[{"jsonrpc":"2.0","method":"a","params":{"x":1,"X":2},"id":1},` + two + `]`, []string{"!only in case", `b "2"`}},
		"an id twice":            {`[` + one + `,` + two + `,` + one + `]`, []string{"!more than once in the batch", `b "2"`, "!more than once in the batch"}},
		"an id twice, escaped":   {`[{"jsonrpc":"2.0","method":"a","id":"\u0032"},` + two + `]`, []string{"!more than once", "!more than once"}},
		"an id of two types":     {`[{"jsonrpc":"2.0","method":"a","id":2},` + two + `]`, []string{"a 2", `b "2"`}},
		"ids of other types":     {`[{"jsonrpc":"2.0","method":"a","id":null},{"jsonrpc":"2.0","method":"a","id":1.5},{"jsonrpc":"2.0","method":"a","id":[1]},{"jsonrpc":"2.0","method":"a","id":true}]`, []string{"!id is null", "!whole number", "!whole number", "!whole number"}},
		"a result":               {`[{"jsonrpc":"2.0","result":1,"id":1},` + two + `]`, []string{"!only a server sends", `b "2"`}},
		"a huge number":          {`[{"jsonrpc":"2.0","method":"a","params":[123456789012345678901234567890],"id":1},` + two + `]`, []string{"!64 bits", `b "2"`}},
		"half a surrogate pair":  {`[{"jsonrpc":"2.0","method":"a\ud800","id":1},` + two + `]`, []string{"!surrogate", `b "2"`}},
		"nested too deep":        {`[{"jsonrpc":"2.0","method":"a","params":` + deep + `,"id":1},` + two + `]`, []string{"!nested", `b "2"`}},
		"brackets in texts":      {`[{"jsonrpc":"2.0","method":"a","params":["]","\\","\"]","}{"],"id":1},` + two + `]`, []string{"a 1", `b "2"`}},
		"unknown member":         {`[{"jsonrpc":"2.0","method":"a","id":1,"x":1},` + two + `]`, []string{"!none of JSON-RPC", `b "2"`}},
	} {
		t.Run(name, func(t *testing.T) {
			req := request("POST /rpc", tt.body, "content-type", jsonBody, "content-length", fmt.Sprint(len(tt.body)))
			b := batches(t, call.JSONRPC, 0)
			if !b.In(req) {
				t.Fatal("is no batch")
			}
			list, err := b.Split(req)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for i, e := range list {
				switch {
				case e.Err == nil:
					got = append(got, e.Function+" "+string(e.RPCID))
				case i < len(tt.want) && strings.HasPrefix(tt.want[i], "!") && strings.Contains(e.Err.Message, tt.want[i][1:]):
					got = append(got, tt.want[i])
				default:
					got = append(got, "!"+e.Err.Message)
				}
				if alone, err := batches(t, call.JSONRPC, 0).one.Parse(request("POST /rpc", tt.body[e.Start:e.End], "content-type", jsonBody)); err == nil && e.Err == nil && alone.Function != e.Function {
					t.Errorf("alone it is %q", alone.Function)
				}
			}
			if strings.Join(got, "\n") != strings.Join(tt.want, "\n") {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
		})
	}
}

// What is refused whole, since it can't be told apart, or must not be.
var batchAttacks = map[string]attack{
	"empty":            typed(jsonBody, "POST /rpc", ` [ ] `, bad, "no message"),
	"cut off":          typed(jsonBody, "POST /rpc", `[`+one, bad, "not valid JSON"),
	"cut in a text":    typed(jsonBody, "POST /rpc", `[`+one+`,"`, bad, "not valid JSON"),
	"only a bracket":   typed(jsonBody, "POST /rpc", `[`, bad, "not valid JSON"),
	"no comma":         typed(jsonBody, "POST /rpc", `[`+one+two+`]`, bad, "not valid JSON"),
	"two commas":       typed(jsonBody, "POST /rpc", `[`+one+`,,`+two+`]`, bad, "not valid JSON"),
	"a comma at last":  typed(jsonBody, "POST /rpc", `[`+one+`,]`, bad, "not valid JSON"),
	"goes on":          typed(jsonBody, "POST /rpc", `[`+one+`]`+two, bad, "not valid JSON"),
	"goes on with 0":   typed(jsonBody, "POST /rpc", `[`+one+"]\x00", bad, "not valid JSON"),
	"another space":    typed(jsonBody, "POST /rpc", "["+one+",\u00a0"+two+"]", bad, "not valid JSON"),
	"a comment":        typed(jsonBody, "POST /rpc", `[`+one+`/*,*/]`, bad, "not valid JSON"),
	"single quotes":    typed(jsonBody, "POST /rpc", `[`+one+`,{'a':1}]`, bad, "not valid JSON"),
	"NaN":              typed(jsonBody, "POST /rpc", `[`+one+`,NaN]`, bad, "not valid JSON"),
	"octal":            typed(jsonBody, "POST /rpc", `[`+one+`,010]`, bad, "not valid JSON"),
	"not UTF-8":        typed(jsonBody, "POST /rpc", "["+one+",\"\xff\"]", bad, "not UTF-8"),
	"too many":         typed(jsonBody, "POST /rpc", `[`+strings.TrimSuffix(strings.Repeat("1,", 51), ",")+`]`, bad, "more than the 50 messages"),
	"far too many":     typed(jsonBody, "POST /rpc", `[`+strings.TrimSuffix(strings.Repeat("[],", 100_000), ",")+`]`, bad, "more than the 50 messages"),
	"nested for ever":  typed(jsonBody, "POST /rpc", strings.Repeat("[", 100_000)+strings.Repeat("]", 100_000), bad, "not valid JSON"),
	"as text":          typed("text/plain", "POST /rpc", `[`+one+`]`, bad, "content-type application/json"),
	"another charset":  typed("application/json; charset=utf-16", "POST /rpc", `[`+one+`]`, bad, "utf-16"),
	"another method":   {"POST /rpc", []string{"content-type", jsonBody, "x-http-method-override", "DELETE"}, `[` + one + `]`, bad, "another method"},
	"a length too low": {"POST /rpc", []string{"content-type", jsonBody, "content-length", "3"}, `[` + one + `]`, bad, "content-length"},
	"a fragment":       typed(jsonBody, "POST /rpc#x", `[`+one+`]`, bad, "fragment"),
	"mcp-method":       {"POST /rpc", []string{"content-type", jsonBody, "mcp-method", "a"}, `[` + one + `]`, bad, "leave it out"},
}

// whole reads only what is about a batch as a whole.
type whole struct{ b *Batches }

func (w whole) Parse(req *call.Request) (Invocation, error) {
	list, err := w.b.Split(req)
	if err == nil {
		return Invocation{Function: fmt.Sprint(len(list), " messages")}, nil
	}
	return Invocation{}, err
}

func TestBatchAttacks(t *testing.T) { attacks(t, whole{batches(t, call.MCP, 0)}, batchAttacks) }

func TestMCPBatch(t *testing.T) {
	b := batches(t, call.MCP, 0)
	body := `[{"jsonrpc":"2.0","method":"tools/call","params":{"name":"get"},"id":1},{"jsonrpc":"2.0","method":"initialize","params":{},"id":2},{"jsonrpc":"2.0","result":{},"id":1},{"jsonrpc":"2.0","method":"notifications/cancelled"}]`
	list, err := b.Split(request("POST /mcp", body, "content-type", jsonBody, "mcp-session-id", "s"))
	if err != nil || len(list) != 4 {
		t.Fatal(list, err)
	}
	// What the client answers has no id of its own that could stand twice.
	if list[0].Err != nil || list[0].Function != "tools/call get" || list[0].Session != "s" || list[2].Err != nil || list[2].Function != "response" || list[2].Answer() != nil || list[3].Err != nil {
		t.Errorf("%+v", list)
	}
	if e := list[1]; e.Err == nil || !strings.Contains(e.Err.Message, "send it alone") || string(e.Answer()) != "2" {
		t.Errorf("initialize in a batch: %+v", e)
	}
}

func TestBatchIn(t *testing.T) {
	b := batches(t, call.JSONRPC, 0)
	for _, tt := range []struct {
		line, body, encoding string
		want                 bool
	}{
		{"POST /", "[", "", true},
		{"POST /", " \t\r\n[", "identity", true},
		{"POST /", "\ufeff[", "", false},
		{"POST /", "\v[", "", false},
		{"POST /", "{", "", false},
		{"POST /", "", "", false},
		{"PUT /", "[", "", false},
		{"POST /", "[", "gzip", false},
		{"POST /", "[", "identity, gzip", false},
	} {
		req := request(tt.line, tt.body, "content-encoding", tt.encoding)
		if b.In(req) != tt.want {
			t.Errorf("%s %q %s: %t", tt.line, tt.body, tt.encoding, !tt.want)
		}
	}
	if _, err := NewBatches(call.HTTP, 1); err == nil {
		t.Error("http has batches")
	}
}

// keepOnly returns the batch with only the messages at the given places.
func keepOnly(body []byte, places [][2]int) ([]byte, error) {
	list, err := Messages(body, places)
	if err != nil {
		return nil, err
	}
	return BatchOf(list), nil
}

func TestKeep(t *testing.T) {
	body := ` [ {"a":1} , [2] , "]" ] `
	list, _ := elements([]byte(body), 9)
	for _, tt := range []struct {
		keep [][2]int
		want string
	}{
		{[][2]int{{list[0].start, list[0].end}, {list[2].start, list[2].end}}, `[{"a":1},"]"]`},
		{[][2]int{{list[1].start, list[1].end}}, `[[2]]`},
		{nil, `[]`},
		{[][2]int{{5, 5}}, ""},
		{[][2]int{{5, 4}}, ""},
		{[][2]int{{5, 99}}, ""},
		{[][2]int{{-1, 4}}, ""},
		{[][2]int{{8, 10}, {4, 6}}, ""},
	} {
		got, err := keepOnly([]byte(body), tt.keep)
		if string(got) != tt.want || (err != nil) != (tt.want == "") {
			t.Errorf("%v: %s, %v", tt.keep, got, err)
		}
	}
}

func TestReplies(t *testing.T) {
	for _, tt := range []struct{ body, want string }{
		{`[{"id":1,"result":{}},{"id":"1","error":{"code":1}},{"method":"x"},{"method":"x","id":5},{"id":null,"error":{}},{"error":null,"id":7}]`,
			`1 answers; "1 answers failed; ; 5; answers failed; 7`},
		{` {"id":1.0,"result":null} `, "1 answers"},
		{`[]`, ""},
		{`[1]`, "!no JSON-RPC message"},
		{`"x"`, "!no JSON-RPC message"},
		{`[[{"id":1,"result":1}]]`, "!no JSON-RPC message"},
		{`[{"id":1,"id":2,"result":1}]`, "!more than once"},
		{`[{"id":1,"\u0069d":2,"result":1}]`, "!more than once"},
		{`[{"id":1,"ID":2,"result":1}]`, "!another case"},
		{`[{"id":1,"re\u017fult":1}]`, "!another case"},
		{`[{"id":{},"result":1}]`, "!neither a text nor a number"},
		{`[{"id":true,"result":1}]`, "!neither a text nor a number"},
		{`[{"id":1,"result":1}`, "!not a JSON document"},
		{"[\"\xff\"]", "!not a JSON document"},
		{``, "!not a JSON document"},
	} {
		list, isList, err := Replies([]byte(tt.body))
		var got []string
		for _, r := range list {
			text := r.ID
			if r.Answers {
				text += " answers"
			}
			if r.Failed {
				text += " failed"
			}
			got = append(got, strings.TrimSpace(text))
		}
		if says, bad := strings.CutPrefix(tt.want, "!"); bad {
			if err == nil || !strings.Contains(err.Error(), says) {
				t.Errorf("%s: %v, want %s", tt.body, err, says)
			}
		} else if err != nil || strings.Join(got, "; ") != tt.want || isList != strings.HasPrefix(tt.body, "[") {
			t.Errorf("%s: %q %t %v", tt.body, got, isList, err)
		}
	}
}

func TestDenyBatch(t *testing.T) {
	id, err := call.NewID()
	if err != nil {
		t.Fatal(err)
	}
	no := call.Decision{Outcome: call.Deny, Reason: call.ReasonNoRule, Message: "no rule"}
	for _, tt := range []struct {
		ids    []string
		status int
		want   string
	}{
		{[]string{`1`, `"a"`}, 200, `[1 "a"]`},
		{[]string{``, `"a"`, `null`}, 200, `["a" null]`},
		{[]string{`null`, `null`}, 403, `[null null]`},
		{[]string{``, ``}, 403, `null`},
	} {
		var list []Refused
		for _, rpc := range tt.ids {
			list = append(list, Refused{RPCID: json.RawMessage(rpc), CallID: id, Decision: no})
		}
		d := DenyBatch(call.JSONRPC, request("POST /", "[]"), id, no, list)
		type message struct {
			ID    json.RawMessage
			Error struct {
				Data struct{ Reason, CallID string }
			}
		}
		var all []message
		if err := json.Unmarshal(d.Body, &all); err != nil {
			all = make([]message, 1)
			if err := json.Unmarshal(d.Body, &all[0]); err != nil {
				t.Fatalf("%s: %v", d.Body, err)
			}
		}
		var ids []string
		for _, m := range all {
			ids = append(ids, string(m.ID))
			if m.Error.Data.Reason != string(call.ReasonNoRule) {
				t.Errorf("%s", d.Body)
			}
		}
		got := strings.Join(ids, " ")
		if strings.HasPrefix(string(d.Body), "[") {
			got = "[" + got + "]"
		}
		if got != tt.want || d.Status != tt.status || d.Headers.Get(call.HeaderReason) != string(call.ReasonNoRule) {
			t.Errorf("%q: %d %s, want %d %s", tt.ids, d.Status, got, tt.status, tt.want)
		}
	}
}

// Whatever a batch is, its elements are what a JSON decoder finds, and those
// that are kept are again a batch of the same messages.
func FuzzBatch(f *testing.F) {
	for _, body := range []string{`[` + one + `,` + two + `,` + quiet + `]`, ` [ 1 , [2,{"a":"]"}] ,"\"]", null ]`, `[]`, `[{"id":1,"id":2}]`, "[\"\\\\\",-1e5,{}\n]"} {
		f.Add([]byte(body), uint64(5))
	}
	for _, tt := range batchAttacks {
		if len(tt.body) < 1000 {
			f.Add([]byte(tt.body), uint64(1))
		}
	}
	b := batches(f, call.JSONRPC, 0)
	f.Fuzz(func(t *testing.T, body []byte, keep uint64) {
		if _, _, err := Replies(body); err == nil && !json.Valid(body) {
			t.Fatal("took an answer that is no JSON")
		}
		req := request("POST /rpc", string(body), "content-type", jsonBody)
		if !b.In(req) {
			return
		}
		list, err := b.Split(req)
		if err != nil {
			return
		}
		var want []json.RawMessage
		if err := json.Unmarshal(body, &want); err != nil || len(want) != len(list) {
			t.Fatalf("%d elements, a decoder finds %d: %v", len(list), len(want), err)
		}
		var places [][2]int
		var kept []string
		for i, e := range list {
			if got := string(body[e.Start:e.End]); got != string(want[i]) {
				t.Fatalf("element %d is %q, want %q", i, got, want[i])
			}
			if keep>>(i%64)&1 == 1 {
				places, kept = append(places, [2]int{e.Start, e.End}), append(kept, string(want[i]))
			}
		}
		out, err := keepOnly(body, places)
		if err != nil {
			t.Fatal(err)
		}
		var again []json.RawMessage
		if err := json.Unmarshal(out, &again); err != nil || len(again) != len(kept) {
			t.Fatalf("%s: %v", out, err)
		}
		for i := range again {
			if string(again[i]) != kept[i] {
				t.Fatalf("kept %q, want %q", again[i], kept[i])
			}
		}
	})
}
