package console

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/callgate/callgate/call"
)

// eraser takes note of what it is asked.
type eraser struct {
	asked []string
	err   error
}

func (e *eraser) Erase(_ context.Context, by call.Identity, ask Erase) (Erased, error) {
	e.asked = append(e.asked, by.Subject+" "+ask.Identity+" "+ask.Reason)
	return Erased{Calls: []uuid.UUID{{1}}}, e.err
}

// Only administrators erase, in person, and nothing reaches the trail for others.
func TestErase(t *testing.T) {
	t.Parallel()
	all := people{"agent": {Issuer: "i", Subject: "carol", Actors: []call.Actor{{Subject: "bot"}}}}
	for k, v := range somebody {
		all[k] = v
	}
	e := &eraser{}
	s := httptest.NewServer(New(Config{Identifier: all, Eraser: e, Log: slog.New(slog.DiscardHandler),
		Administrators: call.Approvers{Groups: []string{"finance"}, People: []string{"i|carol"}}}).Handler())
	defer s.Close()
	post := func(token, contentType, body string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+"/api/v1/audit/erase", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("authorization", "Bearer "+token)
		req.Header.Set("content-type", contentType)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(text)
	}
	const good = `{"identity":"ada","reason":"asked for"}`
	for _, c := range []struct {
		token, contentType, body string
		status                   int
		want                     string
	}{
		{"nobody", "application/json", good, 401, ""},
		{"mallory", "application/json", good, 403, "audit.administrators"},
		{"carol2", "application/json", good, 403, "audit.administrators"}, // of another issuer
		{"agent", "application/json", good, 403, "not through an agent"},
		{"bob", "text/plain", good, 415, "application/json"},
		{"bob", "application/json", `{"identity":"ada","reason":"x","everything":true}`, 400, "must be JSON"},
		{"bob", "application/json", `{"calls":["x"]}`, 400, "must be JSON"},
		{"bob", "application/json", `{"reason":"` + strings.Repeat("x", maxErase) + `"}`, 400, ""},
	} {
		if status, text := post(c.token, c.contentType, c.body); status != c.status || !strings.Contains(text, c.want) {
			t.Errorf("%s %.60s: %d %s", c.token, c.body, status, text)
		}
	}
	if len(e.asked) > 0 {
		t.Fatalf("the trail was reached: %v", e.asked)
	}
	for _, who := range []string{"bob", "carol"} {
		if status, text := post(who, "application/json", good); status != 200 || !strings.Contains(text, "01000000-") {
			t.Errorf("%s: %d %s", who, status, text)
		}
	}
	if len(e.asked) != 2 || e.asked[0] != "bob ada asked for" {
		t.Errorf("asked: %v", e.asked)
	}
	e.err = fmt.Errorf("%w: name calls", ErrErase)
	if status, text := post("bob", "application/json", `{}`); status != 400 || !strings.Contains(text, "name calls") {
		t.Errorf("%d %s", status, text)
	}
	e.err = errors.New("ClickHouse is away")
	if status, text := post("bob", "application/json", good); status != 503 || !strings.Contains(text, "may be asked for again") {
		t.Errorf("%d %s", status, text)
	}
}
