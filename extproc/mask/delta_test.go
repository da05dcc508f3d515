package mask

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// said is what a reader makes of a stream of deltas.
func said(t *testing.T, stream string) string {
	t.Helper()
	var all strings.Builder
	for _, m := range regexp.MustCompile(`"(?:content|text|partial_json)":("(?:[^"\\]|\\.)*")`).FindAllStringSubmatch(stream, -1) {
		var s string
		if err := json.Unmarshal([]byte(m[1]), &s); err != nil {
			t.Fatalf("%s: %v", m[1], err)
		}
		all.WriteString(s)
	}
	return all.String()
}

// A value that a language model says in several events is hidden, wherever it is
// cut in two or more.
func TestDeltas(t *testing.T) {
	m := detecting(t, "all")
	text := "The card is 4111 1111 1111 1111, é, and \"jane.doe@example.com\" is the address. Keep AKIA" + "IOSFODNN7EXAMPLE safe. " + strings.Repeat("And so on. ", 30)
	want := strings.NewReplacer("4111 1111 1111 1111", "[redacted:card]", "jane.doe@example.com", "[redacted:email]", "AKIA"+"IOSFODNN7EXAMPLE", "[redacted:api_key]").Replace(text)
	for name, event := range map[string]string{
		"chat":      `{"id":"1","choices":[{"index":0,"delta":{"content":%s},"finish_reason":null}]}`,
		"messages":  `{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":%s}}`,
		"arguments": `{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":%s}}`,
	} {
		for _, size := range []int{1, 2, 3, 5, 7, 11, 19, 40, 1000} {
			var in strings.Builder
			in.WriteString("data: {\"type\":\"message_start\"}\n\n")
			runes := []rune(text)
			for len(runes) > 0 {
				n := min(size, len(runes))
				b, err := json.Marshal(string(runes[:n]))
				if err != nil {
					t.Fatal(err)
				}
				fmt.Fprintf(&in, "event: x\ndata: "+event+"\n\n", b)
				runes = runes[n:]
			}
			in.WriteString("data: [DONE]\n\n")
			got, found, err := stream(m, sse, in.String(), 0, in.Len()/3, in.Len()/2)
			if err != nil || said(t, got) != want || len(found) != 3 {
				t.Fatalf("%s by %d: %q\n%+v %v", name, size, said(t, got), found, err)
			}
			if strings.Count(got, "\n\n") != strings.Count(in.String(), "\n\n") || !strings.HasSuffix(got, "data: [DONE]\n\n") {
				t.Errorf("%s by %d: events are missing", name, size)
			}
		}
	}
}

// Several texts that come in turns don't mix.
func TestDeltasInterleaved(t *testing.T) {
	m := detecting(t, "card")
	var in strings.Builder
	for i := range 16 {
		for choice := range 2 {
			fmt.Fprintf(&in, "data: {\"choices\":[{\"index\":%d,\"delta\":{\"content\":\"%s\"}}]}\n\n", choice, "4111111111111111"[i:i+1])
		}
	}
	got, found, err := stream(m, sse, in.String(), 0)
	if err != nil || strings.Count(got, "[redacted:card]") != 2 || found[0].Count != 2 || strings.Contains(said(t, got), "4") {
		t.Errorf("%s %+v %v", got, found, err)
	}
}

// Events don't wait for longer than a value needs, and not beyond the end of
// their text.
func TestDeltasFlow(t *testing.T) {
	m := detecting(t, "all")
	s := m.NewStream(sse, 0)
	write := func(in string) string {
		t.Helper()
		out, err := s.Write([]byte(in))
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	said := 0
	for range 100 {
		said += strings.Count(write("data: {\"choices\":[{\"delta\":{\"content\":\"some more words \"}}]}\n\n"), "words")
	}
	if said < 90 {
		t.Errorf("%d of 100 events left", said)
	}
	said += strings.Count(write("data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n"), "words")
	if said != 100 {
		t.Errorf("%d of 100 events left at the end of the text", said)
	}
	if out := write("data: {\"usage\":{}}\n\n"); out != "data: {\"usage\":{}}\n\n" {
		t.Errorf("%q", out)
	}
	// A text that only grows is bounded.
	s = m.NewStream(sse, 4<<10)
	var err error
	for i := 0; i < 1000 && err == nil; i++ {
		_, err = s.Write([]byte("data: {\"choices\":[{\"delta\":{\"content\":\"nospacenospace\"}}]}\n\n"))
	}
	if err == nil || s.Held() > 32<<10 {
		t.Errorf("%v, %d bytes held", err, s.Held())
	}
}

// Values are cut in two at every byte, in texts that the policy names: at a path, in
// data that is text, in JSON strings, in data of several lines.
func TestDeltasNamed(t *testing.T) {
	spec := Spec{Rules: []Rule{{Name: "all", Detect: []string{"card", "email", "secret"}, How: Partial}}}
	named := spec
	named.Texts = []string{"message.part", "log[*].line", "$"}
	m := mustCompile(t, named)
	const text = "pay 4111 1111 1111 1111 to jane.doe@example.com, \u00e9 and then go on with what was said before"
	want := strings.NewReplacer("4111 1111 1111 1111", "****1111", "jane.doe", "***").Replace(text)
	for name, tt := range map[string]struct {
		event func(string) string
		read  func(string) string // of the data
	}{
		"path":      {func(s string) string { return "data: {\"message\":{\"part\":" + s + "}}\n\n" }, func(d string) string { return regexp.MustCompile(`"part":(".*")`).FindStringSubmatch(d)[1] }},
		"elements":  {func(s string) string { return "data: {\"log\":[{\"line\":" + s + "}]}\n\n" }, func(d string) string { return regexp.MustCompile(`"line":(".*")`).FindStringSubmatch(d)[1] }},
		"two lines": {func(s string) string { return "data: {\"message\":\ndata:  {\"part\":" + s + "}}\n\n" }, func(d string) string { return regexp.MustCompile(`"part":(".*")`).FindStringSubmatch(d)[1] }},
		"a string":  {func(s string) string { return "event: token\ndata: " + s + "\n\n" }, func(d string) string { return d }},
		"plain":     {func(s string) string { p, _ := jsonText(s); return "event: token\ndata: " + p + "\n\n" }, func(d string) string { b, _ := json.Marshal(d); return string(b) }},
	} {
		read := func(stream string) string {
			var all strings.Builder
			for _, event := range strings.Split(stream, "\n\n") {
				var data []string
				for _, line := range strings.Split(event, "\n") {
					if d, ok := strings.CutPrefix(line, "data:"); ok {
						data = append(data, strings.TrimPrefix(d, " "))
					}
				}
				if len(data) == 0 || data[0] == "[DONE]" || strings.Contains(data[0], "unrelated") {
					continue
				}
				piece, err := jsonText(tt.read(strings.Join(data, " ")))
				if err != nil {
					t.Fatalf("%s: %v in %q", name, err, event)
				}
				all.WriteString(piece)
			}
			return all.String()
		}
		check := func(pieces ...string) {
			t.Helper()
			var in strings.Builder
			for i, p := range pieces {
				b, err := json.Marshal(p)
				if err != nil {
					t.Fatal(err)
				}
				in.WriteString(tt.event(string(b)))
				if i == 0 {
					in.WriteString(": a comment\n\nevent: other\ndata: {\"unrelated\":true}\n\n")
				}
			}
			in.WriteString("data: [DONE]\n\n")
			got, _, err := stream(m, sse, in.String(), 0, in.Len()/3, in.Len()/2)
			if err != nil || read(got) != want {
				t.Fatalf("%s %q: %q\n%v", name, pieces, got, err)
			}
			if strings.Count(got, "\n\n") != strings.Count(in.String(), "\n\n") || !strings.Contains(got, "{\"unrelated\":true}") {
				t.Errorf("%s: events are missing in %q", name, got)
			}
		}
		for cut := range text {
			if cut > 0 {
				check(text[:cut], text[cut:])
			}
		}
		check(strings.SplitAfter(text, "")...)
	}
	// Where the policy does not name them, events don't wait for each other.
	s := mustCompile(t, spec).NewStream(sse, 0)
	if out, err := s.Write([]byte("data: 4111 1111\n\n")); err != nil || len(out) == 0 {
		t.Errorf("%q %v", out, err)
	}
	if _, err := Compile(Spec{Texts: []string{"a["}}, Options{}); err == nil {
		t.Error("a path that can't be read is taken")
	}
}

func jsonText(s string) (string, error) {
	var out string
	err := json.Unmarshal([]byte(s), &out)
	return out, err
}

// Scripts without blanks between words flow, too.
func TestDeltasWithoutBlanks(t *testing.T) {
	s := detecting(t, "all").NewStream(sse, 0)
	event := "data: {\"choices\":[{\"delta\":{\"content\":\"漢字\"}}]}\n\n"
	left := 0
	for i := range 200 {
		out, err := s.Write([]byte(event))
		if err != nil {
			t.Fatal(err)
		}
		if left += len(out); left < (i-40)*len(event) {
			t.Fatalf("after %d events %d bytes have left", i+1, left)
		}
	}
	// A value among them is hidden all the same.
	var all []byte
	for _, text := range []string{"卡號4111", "1111", "11111111", "漢字"} {
		out, err := s.Write([]byte(strings.Replace(event, "漢字", text, 1)))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, out...)
	}
	out, err := s.Close()
	if all = append(all, out...); err != nil || !bytes.Contains(all, []byte("卡號[redacted:card]")) || bytes.Contains(all, []byte("1111")) {
		t.Errorf("%s, %v", all, err)
	}
}

// A text whose end is not in sight is not read again with each event: else this would
// not end in the time that tests have.
func TestDeltasThatDoNotEnd(t *testing.T) {
	m := mustCompile(t, Spec{Rules: []Rule{{Name: "k", Keys: []string{"mine"}, Detect: []string{"all"}}}})
	for _, text := range []string{"eyJ", "mine: ", "x a"} {
		event := "data: {\"choices\":[{\"delta\":{\"content\":\"" + text + "\"}}]}\n\n"
		s := m.NewStream(sse, 64<<20)
		_, err := s.Write([]byte(strings.Repeat(event, (1<<20)/len(event))))
		_, end := s.Close()
		if err != nil || end != nil {
			t.Errorf("%s: %v, %v", text, err, end)
		}
	}
}

// Plain data of events with different names are different texts: a value goes on in
// the next event of its name, whatever comes between.
func TestPlainDataByName(t *testing.T) {
	m, err := Compile(Spec{Rules: []Rule{{Name: "all", Detect: []string{"all"}}}, Texts: []string{"$"}}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	got, found, err := stream(m, sse, "event: token\ndata: the card is 4111 1111\n\nevent: log\ndata: step done\n\nevent: token\ndata:  1111 1111 today\n\n", 0)
	if err != nil || len(found) != 1 || strings.Contains(got, "1111") || !strings.Contains(got, "data: step done\n") {
		t.Errorf("%q %+v %v", got, found, err)
	}
}
