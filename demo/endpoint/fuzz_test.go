package endpoint

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// FuzzRESTBodies: whatever is posted, the service answers in JSON and blames
// the caller, and still knows its customers.
func FuzzRESTBodies(f *testing.F) {
	for _, body := range []string{
		`{"customer":"c-1","amount":1,"currency":"EUR","reason":"x"}`, `{"customer":"c-1","amount":1e308,"currency":"EUR"}`,
		`{"query":"select 1"}`, `{"query":"select 1; select 2"}`, `{"query":"begin"}`, `{"query":"select 1e999"}`, `{"query":"select x'00ff'"}`,
		`{"query":"pragma max_page_count=1"}`, `null`, `[]`, `{`, ``,
	} {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body string) {
		s, err := NewREST(Config{Credential: "key"})
		if err != nil {
			t.Fatal(err)
		}
		defer s.next.Close()
		defer s.books.conn.Close()
		for _, path := range []string{"/refunds", "/sql"} {
			r := httptest.NewRequestWithContext(context.Background(), http.MethodPost, path, strings.NewReader(body))
			r.Header.Set("Authorization", "Bearer key")
			w := httptest.NewRecorder()
			s.admit(w, r)
			if w.Code >= 500 || !json.Valid(w.Body.Bytes()) {
				t.Errorf("%s %q: %d %q", path, body, w.Code, w.Body)
			}
		}
	})
}
