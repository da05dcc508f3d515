package identity

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwk"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/callgate/callgate/call"
)

// hanging is an issuer that answers until it hangs.
type hanging struct {
	keys  jwk.Set
	hangs atomic.Bool
	asked atomic.Int64
}

func (h *hanging) RoundTrip(r *http.Request) (*http.Response, error) {
	body := `{"issuer":"https://idp.example","jwks_uri":"https://idp.example/keys"}`
	if r.URL.Path == "/keys" {
		data, err := json.Marshal(h.keys)
		if err != nil {
			return nil, err
		}
		body = string(data)
	} else {
		h.asked.Add(1)
	}
	if h.hangs.Load() {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(body))}, nil
}

// While an issuer hangs, unknown key ids are one request to it, keep nobody
// longer than they want to wait, and stand in nobody else's way.
func TestIssuerThatHangs(t *testing.T) {
	known, other := newSigner(t, "known", jwa.ES256), newSigner(t, "other", jwa.ES256)
	synctest.Test(t, func(t *testing.T) {
		issuer := &hanging{keys: jwk.NewSet()}
		must(t, issuer.keys.AddKey(known.public))
		v, err := New(Config{Issuers: []Issuer{{URL: "https://idp.example", Audiences: []string{"gate"}, Algorithms: []string{"ES256"}, Subject: "sub", DefaultKind: call.Human,
			Client: &http.Client{Transport: issuer}}}, Log: slog.New(slog.DiscardHandler), Metrics: NewMetrics(prometheus.NewRegistry())})
		must(t, err)
		must(t, v.Fetch(t.Context()))
		claims := map[string]any{"iss": "https://idp.example", "aud": "gate", "sub": "ann", "exp": time.Now().Add(time.Hour).Unix()}
		token, strange := known.token(t, claims), other.token(t, claims)
		time.Sleep(askAgain)
		issuer.hangs.Store(true)
		begin := time.Now()

		var wg sync.WaitGroup
		wait := func(n int, d time.Duration, left time.Duration) {
			for range n {
				wg.Go(func() {
					ctx, cancel := context.WithTimeout(t.Context(), d)
					defer cancel()
					id, err := v.Verify(ctx, strange)
					refusedAs(t, strange, id, err, call.ReasonIdentityUnavailable)
					if took := time.Since(begin); took != left {
						t.Errorf("an answer after %s, want %s", took, left)
					}
				})
			}
		}
		wait(50, 2*time.Second, 2*time.Second)
		wait(50, time.Hour, fetchTimeout)
		wg.Go(func() { // as the refresh does
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if err := v.issuers["https://idp.example"].fetch(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("a refresh: %v", err)
			}
		})
		synctest.Wait()
		if _, err := v.Verify(t.Context(), token); err != nil {
			t.Errorf("a known key: %v", err)
		}
		wg.Wait()
		if n := issuer.asked.Load(); n != 2 {
			t.Errorf("asked %d times, want once at the start and once for all", n)
		}
		// How soon it is asked again counts from when it stopped being waited for.
		time.Sleep(askAgain - time.Second)
		wait(5, time.Hour, fetchTimeout+askAgain-time.Second)
		wg.Wait()
		if n := issuer.asked.Load(); n != 2 {
			t.Errorf("asked %d times, the last right after it hung", n)
		}
		time.Sleep(time.Second)
		issuer.hangs.Store(false)
		id, err := v.Verify(t.Context(), strange)
		refusedAs(t, strange, id, err, call.ReasonInvalidToken)
	})
}

// Made-up key ids keep the issuer from being asked; a key that it has published
// in the meantime is not said to be none of its own.
func TestRotationDuringAFlood(t *testing.T) {
	r := newRig(t)
	r.advance(askAgain)
	flood := func(kid string) string {
		return sign(t, jwa.ES256, r.es.private, r.claims(nil), map[string]any{"kid": kid})
	}
	r.refused(t, flood("made-up"), call.ReasonInvalidToken)
	next := newSigner(t, "es-2", jwa.ES256)
	r.issuer.publish(t, r.es, next)
	token := next.token(t, r.claims(nil))
	r.advance(askAgain - time.Second)
	r.refused(t, token, call.ReasonIdentityUnavailable)
	r.refused(t, flood("made-up"), call.ReasonInvalidToken) // it was asked for before
	r.refused(t, flood("another"), call.ReasonIdentityUnavailable)
	r.advance(time.Second)
	r.refused(t, flood("a third"), call.ReasonInvalidToken) // is what the issuer is asked for
	r.refused(t, flood("another"), call.ReasonInvalidToken)
	if _, err := r.Verify(t.Context(), token); err != nil {
		t.Error(err)
	}
}
