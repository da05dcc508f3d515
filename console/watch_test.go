package console

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/callgate/callgate/call"
)

// Who watches is told things for as long as the token is good, and no longer.
func TestWatchEnds(t *testing.T) {
	for name, c := range map[string]struct {
		expires, revoked time.Duration // from now; 0: not
		want             time.Duration
	}{
		"the token expires": {expires: 40 * time.Second, want: 40 * time.Second},
		"it is revoked":     {revoked: 40 * time.Second, want: 45 * time.Second},
		"neither":           {want: time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				who := somebody["bob"]
				if c.expires > 0 {
					who.Expires = start.Add(c.expires)
				}
				s := New(Config{Approvals: newDesk(t), Identifier: people{"bob": who}, Log: slog.New(slog.DiscardHandler), Admit: func(call.Identity) error {
					if c.revoked > 0 && time.Since(start) >= c.revoked {
						return errors.New("revoked")
					}
					return nil
				}})
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				req := httptest.NewRequestWithContext(ctx, http.MethodGet, "/api/v1/approvals/watch", nil)
				req.Header.Set("authorization", "Bearer bob")
				s.Handler().ServeHTTP(httptest.NewRecorder(), req)
				if got := time.Since(start); got != c.want {
					t.Errorf("watched for %s, want %s", got, c.want)
				}
			})
		})
	}
}

// One person watches so many times at once; others are not in its way.
func TestWatchMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{Approvals: newDesk(t), Identifier: somebody, Log: slog.New(slog.DiscardHandler)})
		ctx, cancel := context.WithCancel(t.Context())
		var refused atomic.Int32
		watch := func(who string) {
			req := httptest.NewRequestWithContext(ctx, http.MethodGet, "/api/v1/approvals/watch", nil)
			req.Header.Set("authorization", "Bearer "+who)
			w := httptest.NewRecorder()
			s.Handler().ServeHTTP(w, req)
			if w.Code == http.StatusTooManyRequests {
				refused.Add(1)
			}
		}
		for range watchMost + 2 {
			go watch("bob")
		}
		go watch("alice")
		synctest.Wait()
		if n := refused.Load(); n != 2 {
			t.Errorf("%d refused, want 2", n)
		}
		cancel()
		synctest.Wait()
		if len(s.watching) != 0 {
			t.Errorf("left: %v", s.watching)
		}
	})
}
