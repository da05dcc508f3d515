package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// await writes a file of policy and waits until it decides: until a call is
// answered as it should be.
func await(t *testing.T, name, policy string, ready func() (answer, error), want func(answer) bool) {
	t.Helper()
	file := filepath.Join(shared.Policies, name)
	if err := os.WriteFile(file, []byte(policy), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(file) })
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(200 * time.Millisecond) {
		a, err := ready()
		if err == nil && want(a) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not decide: %v %+v", name, err, a)
		}
	}
}

// Finance sees the last four, support nothing, and who breaks the glass all, which
// is recorded; and no cache and no entity tag tells one what another sees.
func TestMaskedByViewer(t *testing.T) {
	const tag = `"4111-tag"`
	function := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("content-type", "application/json")
		w.Header().Set("cache-control", "public, max-age=60")
		w.Header().Set("etag", tag)
		if r.Header.Get("if-none-match") == tag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		_, _ = io.WriteString(w, `{"card":"`+plantedCard+`"}`)
	}))
	t.Cleanup(function.Close)
	c := http1()
	get := func(token, path string, header ...string) answer {
		t.Helper()
		return shared.call(t, c, token, "GET", path, "", header...)
	}
	await(t, "viewers.yaml", `connections:
  - name: viewers
    protocol: http
    match: {path: /viewers}
    upstream: {url: "`+function.URL+`/"}
    functions: [{name: account, method: GET, path: /account}, {name: urgent, method: GET, path: /urgent}]
    mask: [{name: cards, detect: [card], for: [{groups: [finance], how: partial}, {break_glass: true, how: show}]}]
rules:
  - {name: viewers view, connections: [viewers], functions: [account], action: allow}
  - {name: viewers must ask, connections: [viewers], functions: [urgent], action: hold, hold: {approvers: {groups: [refund-approvers]}, break_glass: {groups: [support]}, timeout: 1m}}
`, func() (answer, error) { return shared.try(t.Context(), c, shared.alice, "GET", "/viewers/account", "") }, func(a answer) bool { return a.status == 200 })

	private := func(a answer) {
		t.Helper()
		if a.header.Get("cache-control") != "private, max-age=60" || !strings.Contains(a.header.Get("vary"), "authorization") {
			t.Errorf("caches are told %q, %q", a.header.Get("cache-control"), a.header.Get("vary"))
		}
	}
	for who, tt := range map[string]struct{ token, path, want string }{
		"support":               {shared.alice, "/viewers/account", `{"card":"[redacted:card]"}`},
		"finance":               {shared.bob, "/viewers/account", `{"card":"****1111"}`},
		"nobody breaks it here": {shared.alice, "/viewers/account", `{"card":"[redacted:card]"}`},
	} {
		a := get(tt.token, tt.path, "callgate-break-glass", "I want to see it")
		if a.body != tt.want || a.header.Get("etag") != "" {
			t.Errorf("%s sees %d %s %v", who, a.status, a.body, a.header)
		}
		private(a)
		shared.row(t, a.id(), "response_body", tt.want, "masked.type", "[card]")
	}
	broken := get(shared.alice, "/viewers/urgent", "callgate-break-glass", "the shop is down")
	if broken.status != 200 || broken.body != `{"card":"`+plantedCard+`"}` {
		t.Fatalf("who broke the glass sees %d %s", broken.status, broken.body)
	}
	private(broken) // what is shown to one must not be stored for all
	row := shared.row(t, broken.id(), "reason", "break_glass", "response_body", broken.body, "masked.type", "[]")
	if said := fmt.Sprint(row["relaxed"]); !strings.Contains(said, "cards") {
		t.Errorf("the row does not say what was shown: %s", said)
	}

	// Whoever has a tag from somewhere learns nothing by it.
	if a := get(shared.alice, "/viewers/account", "if-none-match", tag); a.status != 200 || a.body != `{"card":"[redacted:card]"}` {
		t.Errorf("if-none-match: %d %s", a.status, a.body)
	}
	if a := get(shared.alice, "/viewers/account", "if-match", tag); a.status != 400 || a.reason() != "malformed_request" {
		t.Errorf("if-match: %d %s", a.status, a.body)
	}
}

// ner speaks Presidio's API: it finds names, and counts in characters.
func ner(t *testing.T) *httptest.Server {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var q struct {
			Text, Language string
			Entities       []string
		}
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil || r.URL.Path != "/analyze" || q.Language != "en" || len(q.Entities) != 1 || q.Entities[0] != "PERSON" {
			http.Error(w, `{"error":"bad request"}`, http.StatusBadRequest)
			return
		}
		list := []map[string]any{}
		for _, name := range []string{"Zoë Müller", "Jo Smith"} {
			for from := 0; ; {
				n := strings.Index(q.Text[from:], name)
				if n < 0 {
					break
				}
				start := utf8.RuneCountInString(q.Text[:from+n])
				list = append(list, map[string]any{"entity_type": "PERSON", "start": start, "end": start + utf8.RuneCountInString(name), "score": 0.85,
					"analysis_explanation": nil, "recognition_metadata": map[string]string{"recognizer_name": "SpacyRecognizer"}})
				from += n + len(name)
			}
		}
		w.Header().Set("content-type", "application/json")
		_ = json.NewEncoder(w).Encode(list)
	}))
	t.Cleanup(s.Close)
	return s
}

// Detectors of one's own, and those of an analyzer, hide through a real Envoy what
// they find, also where a response comes in pieces; without the analyzer nothing
// passes.
func TestOwnDetectors(t *testing.T) {
	const sends = `{"id":"E-123456","about":"project Aurora of Zoë Müller","nickname":"jojo","n":1}`
	const gets = `{"id":"E-[redacted:e2e_ids]","about":"project [redacted:e2e_projects] of [redacted:e2e_ner]","nickname":"[redacted]","n":1}`
	const many = 3000
	function := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/pieces":
			all := "[" + strings.Repeat(sends+",\n", many) + sends + "]"
			w.Header().Set("content-type", "application/json")
			for n := 0; len(all) > 0; n = (n*7 + 13) % 9000 {
				k := min(n+1, len(all))
				_, _ = io.WriteString(w, all[:k])
				_ = http.NewResponseController(w).Flush()
				all = all[k:]
			}
		case "/events":
			piecewise("text/event-stream", "data: "+sends[:40], sends[40:]+"\n\n", "data: Jo ", "Smith\n\n")(w, r)
		default:
			typed("application/json", sends)(w, r)
		}
	}))
	t.Cleanup(function.Close)
	analyzer := ner(t)
	words := filepath.Join(t.TempDir(), "words.txt")
	if err := os.WriteFile(words, []byte("# projects\nAurora\nBlue Bird\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := http1()
	await(t, "own.yaml", `detectors:
  - {name: e2e_ids, pattern: '\bE-(\d{6})\b'}
  - {name: e2e_projects, words_file: `+words+`}
  - {name: e2e_staff, keys: [nickname]}
  - {name: e2e_ner, analyzer: {url: "`+analyzer.URL+`/analyze", entities: [PERSON], timeout: 10s}}
connections:
  - name: own
    protocol: http
    match: {path: /own}
    upstream: {url: "`+function.URL+`/", timeout: 60s}
    functions: [{name: get, method: GET, path: "/{name}"}]
    mask: [{name: own, detect: [e2e_ids, e2e_projects, e2e_staff, e2e_ner]}]
rules:
  - {name: anybody has own, connections: [own], action: allow}
`, func() (answer, error) { return shared.try(t.Context(), c, shared.alice, "GET", "/own/one", "") }, func(a answer) bool { return a.status == 200 })

	a := shared.call(t, c, shared.alice, "GET", "/own/one", "")
	if a.body != gets {
		t.Fatalf("%d %s", a.status, a.body)
	}
	shared.row(t, a.id(), "masked.type", "[e2e_ids e2e_projects e2e_ner key]", "masked.path", "[id about about nickname]")
	if a := shared.call(t, c, shared.alice, "GET", "/own/pieces", ""); a.body != "["+strings.Repeat(gets+",\n", many)+gets+"]" {
		t.Errorf("%d, %d bytes, of which %q are left", a.status, len(a.body), strings.ReplaceAll(a.body, gets, ""))
	}
	if a := shared.call(t, c, shared.alice, "GET", "/own/events", ""); a.body != "data: "+gets+"\n\ndata: [redacted:e2e_ner]\n\n" {
		t.Errorf("%d %s", a.status, a.body)
	}
	analyzer.Close()
	a = shared.call(t, c, shared.alice, "GET", "/own/one", "")
	if a.status != http.StatusBadGateway || a.reason() != withheld || strings.Contains(a.body, "Zo") {
		t.Fatalf("without the analyzer: %d %s", a.status, a.body)
	}
	if said := shared.row(t, a.id())["withheld"].(string); !strings.Contains(said, "e2e_ner") && !strings.Contains(said, "analyzer") {
		t.Errorf("the row says %q", said)
	}
}
