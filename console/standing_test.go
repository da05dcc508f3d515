package console

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/callgate/callgate/approvals"
	"github.com/callgate/callgate/call"
)

func (d *desk) Standing(_ context.Context, id string, by call.Identity) (approvals.Standing, error) {
	if id != hold.ID || approvals.PersonOf(by) != approvals.PersonOf(hold.Identity) {
		return approvals.Standing{}, approvals.ErrNotFound
	}
	return approvals.Standing{ID: id, State: approvals.Open, Expires: time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC), UseBy: time.Unix(1, 0), RetryAfter: 4200 * time.Millisecond}, d.err
}

// How far an approval is, is told to whose it is and to nobody else, approvers
// included: they are shown more, elsewhere.
func TestStanding(t *testing.T) {
	s := api(t, newDesk(t))
	ask := func(s, token, id string) (int, http.Header, map[string]any) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s+"/api/v1/approvals/"+id+"/status", nil)
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			req.Header.Set("authorization", "Bearer "+token)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var out map[string]any
		if err := json.NewDecoder(resp.Body).Decode(&out); err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, resp.Header, out
	}
	status, header, got := ask(s.URL, "alice", hold.ID)
	if status != 200 || header.Get("retry-after") != "5" || header.Get("cache-control") != "no-store" || got["state"] != "open" || got["retry_after"] != 5.0 || got["expires"] != "2026-11-26T12:00:00Z" || got["use_by"] != nil {
		t.Errorf("%d %v %v", status, header, got)
	}
	for token, want := range map[string]int{"": 401, "forged": 401, "away": 503, "bob": 404, "mallory": 404, "carol2": 404} {
		if status, _, got := ask(s.URL, token, hold.ID); status != want {
			t.Errorf("%q: %d %v, want %d", token, status, got, want)
		}
	}
	if status, _, got := ask(s.URL, "slow", hold.ID); status != 200 {
		t.Errorf("a narrowed token: %d %v", status, got)
	}
	for key, want := range map[string]int{"alice": 200, "forged": 401, "bob": 404} {
		req := httptest.NewRequest(http.MethodGet, "/api/v1/approvals/"+hold.ID+"/status", nil)
		req.Header.Set("X-Api-Key", key)
		w := httptest.NewRecorder()
		s.Config.Handler.ServeHTTP(w, req)
		if w.Code != want {
			t.Errorf("key %s: %d %s", key, w.Code, w.Body)
		}
	}
	// A client certificate is handed on as Envoy would.
	for name, want := range map[string]int{"alice": 200, "bob": 404, "": 401} {
		req := httptest.NewRequest(http.MethodGet, "/api/v1/approvals/"+hold.ID+"/status", nil)
		req.TLS = &tls.ConnectionState{}
		if name != "" {
			req.TLS.PeerCertificates = []*x509.Certificate{{Raw: []byte(name)}}
		}
		w := httptest.NewRecorder()
		s.Config.Handler.ServeHTTP(w, req)
		if w.Code != want {
			t.Errorf("certificate of %q: %d %s", name, w.Code, w.Body)
		}
	}
	if status, _, _ := ask(s.URL, "alice", "apr_other"); status != 404 {
		t.Errorf("another: %d", status)
	}
	if status, _, _ := ask(api(t, &desk{err: errors.New("away")}).URL, "alice", hold.ID); status != 503 {
		t.Errorf("without the store: %d", status)
	}
}

// Everybody's delegations are shown to administrators alone.
func TestEveryDelegation(t *testing.T) {
	d := newDesk(t)
	s := httptest.NewServer(New(Config{Approvals: d, Identifier: somebody, Callers: somebody, Controllers: call.Approvers{People: []string{"i|mallory"}}, Log: slog.New(slog.DiscardHandler)}).Handler())
	defer s.Close()
	if _, err := NewClient(s.URL, "bob").Delegate(t.Context(), Delegate{To: "carol", Until: time.Now().Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	for who, want := range map[string][2]int{"bob": {1, -1}, "carol": {1, -1}, "alice": {0, -1}, "mallory": {0, 1}} {
		for i, everyone := range []bool{false, true} {
			list, err := NewClient(s.URL, who).Delegations(t.Context(), false, everyone)
			var refused Refused
			if errors.As(err, &refused); want[i] < 0 && refused.Status != 403 || want[i] >= 0 && (err != nil || len(list) != want[i]) {
				t.Errorf("%s, everyone's %t: %v %v", who, everyone, list, err)
			}
		}
	}
}
