package analyzer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/callgate/callgate/extproc/mask"
)

// presidio speaks the analyzer's API and finds the name Zoë and the word Bath, in
// code points as the real one does.
func presidio(t *testing.T) (*httptest.Server, *atomic.Int64) {
	t.Helper()
	var asked atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		var q struct {
			Text     string   `json:"text"`
			Language string   `json:"language"`
			Entities []string `json:"entities"`
		}
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil || q.Language != "en" || r.Method != http.MethodPost {
			http.Error(w, "bad request", http.StatusBadRequest)
			return
		}
		type result struct {
			Type  string  `json:"entity_type"`
			Start int     `json:"start"`
			End   int     `json:"end"`
			Score float64 `json:"score"`
		}
		list := []result{}
		for word, kind := range map[string]string{"Zoë": "PERSON", "Bath": "LOCATION", "maybe": "DOUBT"} {
			for from := 0; ; {
				n := strings.Index(q.Text[from:], word)
				if n < 0 {
					break
				}
				score := 0.85
				if kind == "DOUBT" {
					score = 0.1
				}
				start := utf8.RuneCountInString(q.Text[:from+n])
				list = append(list, result{kind, start, start + utf8.RuneCountInString(word), score})
				from += n + len(word)
			}
		}
		w.Header().Set("content-type", "application/json")
		_ = json.NewEncoder(w).Encode(list)
	}))
	t.Cleanup(s.Close)
	return s, &asked
}

func analyzer(t *testing.T, url string, change func(*Config)) *Analyzer {
	t.Helper()
	cfg := Config{URL: url, Language: "en", MinScore: 0.5, Timeout: 5 * time.Second, MaxText: 1 << 10, Concurrency: 4}
	if change != nil {
		change(&cfg)
	}
	a, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// A response is masked by what the analyzer finds, whatever characters stand
// before it, and short texts share a request.
func TestMasked(t *testing.T) {
	s, asked := presidio(t)
	m, err := mask.Compile(mask.Spec{Rules: []mask.Rule{{Name: "r", Detect: []string{"ner@1", "card"}}}},
		mask.Options{Custom: map[string]*mask.Custom{"ner@1": mask.NewAnalyzed("ner", analyzer(t, s.URL, nil))}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range [][2]string{
		{`{"a":"Zoë lives in Bath","n":1,"b":["x","𝒳 日本 Zoë"]}`, `{"a":"[redacted:ner] lives in [redacted:ner]","n":1,"b":["x","𝒳 日本 [redacted:ner]"]}`},
		{`{"a":"Zo\u00eb, maybe","c":"4111111111111111 Zoë"}`, `{"a":"[redacted:ner], maybe","c":"[redacted:card] [redacted:ner]"}`},
		{`{"a":"{\"b\":\"in Bath\"}"}`, `{"a":"{\"b\":\"in [redacted:ner]\"}"}`},
		{`{"Zoë":"ok"}`, `{"Zoë":"ok"}`}, // names of members are not asked about
	} {
		out, found, err := m.In(context.Background()).JSON([]byte(c[0]))
		if err != nil || string(out) != c[1] {
			t.Errorf("%s became %s, %v", c[0], out, err)
		}
		if strings.Contains(c[1], "ner]") && (len(found) == 0 || found[0].Type != "ner" && found[0].Type != "card") {
			t.Errorf("%s: findings %+v", c[0], found)
		}
	}
	if out, _, err := m.Text([]byte("dear Zoë")); err != nil || string(out) != "dear [redacted:ner]" {
		t.Errorf("text: %s, %v", out, err)
	}
	before := asked.Load()
	var b strings.Builder
	for i := range 100 {
		fmt.Fprintf(&b, `{"note":"number %d"},`, i)
	}
	if _, _, err := m.JSON([]byte("[" + b.String() + "1]")); err != nil {
		t.Fatal(err)
	}
	if n := asked.Load() - before; n > 4 {
		t.Errorf("100 short texts took %d requests", n)
	}
	st := m.NewStream("text/event-stream", 0)
	out, err := st.Write([]byte("data: {\"a\":\"Zoë\"}\n\n"))
	if err != nil || string(out) != "data: {\"a\":\"[redacted:ner]\"}\n\n" {
		t.Errorf("stream: %q, %v", out, err)
	}
}

// A text longer than a request's is sent in parts that overlap.
func TestLongText(t *testing.T) {
	s, _ := presidio(t)
	a := analyzer(t, s.URL, nil)
	for pad := 0; pad < 700; pad += 13 {
		text := strings.Repeat("é", pad) + " Zoë " + strings.Repeat("語", 500)
		got, err := a.Analyze(context.Background(), []string{"Bath", text, "x"})
		if err != nil {
			t.Fatal(err)
		}
		at := strings.Index(text, "Zoë")
		if len(got[0]) != 1 || len(got[2]) != 0 || len(got[1]) == 0 {
			t.Fatalf("pad %d: %v", pad, got)
		}
		for _, sp := range got[1] {
			if sp.Start != at || sp.End != at+len("Zoë") {
				t.Fatalf("pad %d: %+v, want it at %d", pad, sp, at)
			}
		}
	}
}

// What is no answer withholds the response.
func TestFailsClosed(t *testing.T) {
	for name, answer := range map[string]string{
		"not JSON": "<html>", "an object": `{"error":"x"}`, "null": "null", "no end": `[{"entity_type":"A","start":0,"score":1}]`, "a string": `["x"]`,
		"outside": `[{"entity_type":"A","start":0,"end":99,"score":1}]`, "negative": `[{"entity_type":"A","start":-1,"end":2,"score":1}]`,
		"backwards": `[{"entity_type":"A","start":3,"end":2,"score":1}]`, "an odd kind": `[{"entity_type":"A\u001b[2J","start":0,"end":1,"score":1}]`,
		"too long": "[" + strings.Repeat(" ", maxAnswer) + "]", "empty": "",
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, answer) }))
		a := analyzer(t, s.URL, nil)
		m, err := mask.Compile(mask.Spec{Rules: []mask.Rule{{Name: "r", Detect: []string{"ner@1"}}}}, mask.Options{Custom: map[string]*mask.Custom{"ner@1": mask.NewAnalyzed("ner", a)}})
		if err != nil {
			t.Fatal(err)
		}
		if out, _, err := m.JSON([]byte(`{"a":"some secret words"}`)); err == nil || out != nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: got %s, %v", name, out, err)
		}
		if out, _, err := m.String("a", "some secret words"); err == nil || out != "" {
			t.Errorf("%s: string: %s, %v", name, out, err)
		}
		b := m.NewJSON(mask.Limits{})
		_, err1 := b.Write([]byte(`{"a":"some secret words"}`))
		if _, err2 := b.Close(); err1 == nil && err2 == nil {
			t.Errorf("%s: a body got through", name)
		}
		st := m.NewStream("application/x-ndjson", 0)
		if out, err := st.Write([]byte("{\"a\":\"some secret words\"}\n")); err == nil {
			t.Errorf("%s: a stream let %s through", name, out)
		}
		s.Close()
		if _, _, err := m.JSON([]byte(`{"a":"words"}`)); err == nil { // nobody is there
			t.Errorf("%s: no analyzer, and it was let through", name)
		}
	}
	status := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "some secret words", 500) }))
	defer status.Close()
	if _, err := analyzer(t, status.URL, nil).Analyze(context.Background(), []string{"x y"}); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("status 500: %v", err)
	}
}

// A slow analyzer ends with the time-out, and with the call; a full one with the
// time-out too.
func TestSlow(t *testing.T) {
	release := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // so that the server notices the client's end
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	defer s.Close()
	defer close(release)
	a := analyzer(t, s.URL, func(c *Config) { c.Timeout, c.Concurrency = 50*time.Millisecond, 1 })
	if _, err := a.Analyze(context.Background(), []string{"x y"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("slow: %v", err)
	}
	a.turns <- struct{}{}
	if _, err := a.Analyze(context.Background(), []string{"x y"}); err == nil || !strings.Contains(err.Error(), "under way") {
		t.Errorf("full: %v", err)
	}
	<-a.turns
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := analyzer(t, s.URL, nil).Analyze(ctx, []string{"x y"}); !errors.Is(err, context.Canceled) {
		t.Errorf("the call is over: %v", err)
	}
}

func FuzzAnswer(f *testing.F) {
	for _, s := range []string{`[]`, `[{"entity_type":"A","start":0,"end":1,"score":1}]`, `[{"entity_type":"A","start":1,"end":4,"score":0.9,"x":{}}]`, `null`, `[null]`, `[{"start":1e99}]`} {
		f.Add([]byte(s), "é日x")
	}
	a := &Analyzer{}
	f.Fuzz(func(t *testing.T, answer []byte, text string) {
		spans, err := a.read(answer, strings.ToValidUTF8(text, "?"))
		if err != nil {
			return
		}
		for _, s := range spans {
			if s.Start < 0 || s.Start >= s.End || s.End > len(strings.ToValidUTF8(text, "?")) {
				t.Fatalf("%s on %q: %+v", answer, text, s)
			}
		}
	})
}
