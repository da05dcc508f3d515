package console

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/callgate/callgate/call"
)

type unsealerFunc func(who call.Identity, id call.ID, reason string) (Unsealed, error)

func (f unsealerFunc) Unseal(_ context.Context, who call.Identity, id call.ID, reason string) (Unsealed, error) {
	return f(who, id, reason)
}

// Only investigators ask to see originals, in person.
func TestUnsealing(t *testing.T) {
	t.Parallel()
	const id, good = "01935b5e-7f6a-7c1e-9d3b-2f1f0a9c8b7d", `{"reason":"case 1"}`
	all := people{
		"carol": {Issuer: "i", Subject: "carol", Kind: call.Human},
		"agent": {Issuer: "i", Subject: "carol", Actors: []call.Actor{{Subject: "bot"}}},
		"dave":  {Issuer: "i", Subject: "dave", Kind: call.Human},
		"other": {Issuer: "j", Subject: "carol", Kind: call.Human},
	}
	for name, tt := range map[string]struct {
		token, id, contentType, body string
		err                          error
		status                       int
		asked                        bool
	}{
		"an investigator":    {"carol", id, "application/json", good, nil, 200, true},
		"an agent of theirs": {"agent", id, "application/json", good, nil, 403, false},
		"somebody else":      {"dave", id, "application/json", good, nil, 403, false},
		"a namesake":         {"other", id, "application/json", good, nil, 403, false},
		"nobody":             {"?", id, "application/json", good, nil, 401, false},
		"a form":             {"carol", id, "application/x-www-form-urlencoded", good, nil, 415, false},
		"no call":            {"carol", "x", "application/json", good, nil, 400, false},
		"more than a reason": {"carol", id, "application/json", `{"reason":"x","as":"bob"}`, nil, 400, false},
		"no reason":          {"carol", id, "application/json", good, ErrUnseal, 400, true},
		"no original":        {"carol", id, "application/json", good, ErrNoOriginal, 404, true},
		"away":               {"carol", id, "application/json", good, errors.New("the approval store is away"), 503, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			asked := false
			s := httptest.NewServer(New(Config{Identifier: all, Log: slog.New(slog.DiscardHandler), Investigators: call.Approvers{People: []string{"i|carol"}},
				Unsealer: unsealerFunc(func(who call.Identity, got call.ID, reason string) (Unsealed, error) {
					asked = true
					if who.Subject != "carol" || got.String() != id || reason != "case 1" {
						t.Errorf("asked by %+v for %s: %s", who, got, reason)
					}
					return Unsealed{State: UnsealWaiting, RetryAfter: 7}, tt.err
				})}).Handler())
			defer s.Close()
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+"/api/v1/calls/"+tt.id+"/unseal", strings.NewReader(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("authorization", "Bearer "+tt.token)
			req.Header.Set("content-type", tt.contentType)
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			text, err := io.ReadAll(res.Body)
			if err != nil || res.StatusCode != tt.status || asked != tt.asked {
				t.Errorf("%d %s, %v; asked %v", res.StatusCode, text, err, asked)
			}
			if tt.status == 200 && res.Header.Get("retry-after") != "7" {
				t.Errorf("retry-after %q", res.Header.Get("retry-after"))
			}
		})
	}
}
