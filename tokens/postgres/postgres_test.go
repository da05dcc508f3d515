package postgres

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/lestrrat-go/jwx/v2/jws"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/callgate/callgate/approvals/postgres/local"
	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/extauthz/identity/saml"
	"github.com/callgate/callgate/tokens"
)

// server is a real PostgreSQL for all tests.
var server *local.Server

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	var err error
	if server, err = local.Temporary(context.Background(), local.Hasty, func(line string) { fmt.Fprintln(os.Stderr, line) }); err != nil {
		fmt.Fprintln(os.Stderr, "start PostgreSQL:", err)
		return 1
	}
	defer server.Close()
	return m.Run()
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func seal(t testing.TB, key string) cipher.AEAD {
	t.Helper()
	sum := sha256.Sum256([]byte(key))
	return must(cipher.NewGCMWithRandomNonce(must(aes.NewCipher(sum[:]))(t)))(t)
}

func database(t testing.TB) string {
	t.Helper()
	return must(server.Create(t.Context(), "t_"+strings.ToLower(rand.Text())))(t)
}

func open(t testing.TB, address, key string) *Store {
	t.Helper()
	return New(must(pgxpool.New(t.Context(), address))(t), seal(t, key))
}

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// replica is one process that exchanges.
type replica struct {
	*tokens.Issuer
	now func() time.Time
}

func (r replica) Token(context.Context, string) (call.Identity, error) {
	return call.Identity{}, errors.New("no token is known here")
}
func (r replica) Admit(call.Identity) error { return nil }

// Assertion takes any text for an assertion of that id.
func (r replica) Assertion(text string) (saml.Assertion, error) {
	return saml.Assertion{Identity: call.Identity{Issuer: "https://idp.example.com", Subject: "ann", Kind: call.Human, Method: "saml", TokenID: text, Expires: r.now().Add(time.Minute)}}, nil
}

func newReplica(t testing.TB, s tokens.Store, now func() time.Time) replica {
	t.Helper()
	r := replica{now: now}
	var err error
	r.Issuer, err = tokens.New(t.Context(), tokens.Config{Issuer: "https://gate.example.com", Audiences: []string{"callgate"}, Lifetime: 5 * time.Minute, Rotate: 24 * time.Hour, ClockSkew: 30 * time.Second,
		Shared: s, Verifier: r, Assertions: r, Log: slog.New(slog.DiscardHandler), Metrics: tokens.NewMetrics(prometheus.NewRegistry()), Now: now,
		Record: func(context.Context, call.ChangeEvent) error { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// exchange shows an assertion at /token.
func (r replica) exchange(t testing.TB, assertion string) (status int, token string) {
	t.Helper()
	form := url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"}, "subject_token": {assertion}, "subject_token_type": {"urn:ietf:params:oauth:token-type:saml2"}}
	req := httptest.NewRequest(http.MethodPost, "/token", strings.NewReader(form.Encode()))
	req.Header.Set("content-type", "application/x-www-form-urlencoded")
	w := httptest.NewRecorder()
	r.Handler().ServeHTTP(w, req)
	var out struct {
		Token string `json:"access_token"`
	}
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil {
		t.Errorf("%s: %v", w.Body, err)
	}
	return w.Code, out.Token
}

// An assertion is exchanged once by all replicas together, however many of them are
// asked at the same time, and each believes what another signed.
func TestOnceOverReplicas(t *testing.T) {
	address := database(t)
	now := func() time.Time { return start }
	one, two := newReplica(t, open(t, address, "k"), now), newReplica(t, open(t, address, "k"), now)
	for n := range 5 {
		var wg sync.WaitGroup
		var mu sync.Mutex
		got := map[int]int{}
		var token string
		for i := range 8 {
			wg.Go(func() {
				status, given := []replica{one, two}[i%2].exchange(t, fmt.Sprint("_a", n))
				mu.Lock()
				defer mu.Unlock()
				got[status]++
				if given != "" {
					token = given
				}
			})
		}
		wg.Wait()
		if got[200] != 1 || got[400] != 7 {
			t.Errorf("assertion %d: %v", n, got)
		}
		for i, r := range []replica{one, two} {
			if _, err := jws.Verify([]byte(token), jws.WithKeySet(r.Keys())); err != nil {
				t.Errorf("replica %d does not believe it: %v", i+1, err)
			}
		}
	}
	// One that starts later knows what was used.
	if status, _ := newReplica(t, open(t, address, "k"), now).exchange(t, "_a0"); status != 400 {
		t.Errorf("a replica that starts later: %d", status)
	}
}

// Keys turn for all, one replica makes each, and those of another secret are told.
func TestKeysOfReplicas(t *testing.T) {
	address := database(t)
	at := start
	var mu sync.Mutex
	now := func() time.Time { mu.Lock(); defer mu.Unlock(); return at }
	var replicas []replica
	var starting sync.WaitGroup
	for range 6 {
		starting.Go(func() {
			r := newReplica(t, open(t, address, "k"), now)
			mu.Lock()
			defer mu.Unlock()
			replicas = append(replicas, r)
		})
	}
	starting.Wait()
	first, _ := replicas[0].Keys().Key(0)
	for i, r := range replicas {
		if k, _ := r.Keys().Key(0); r.Keys().Len() != 1 || k.KeyID() != first.KeyID() {
			t.Errorf("replica %d has a key of its own", i)
		}
	}
	mu.Lock()
	at = start.Add(25 * time.Hour)
	mu.Unlock()
	later := newReplica(t, open(t, address, "k"), now)
	if later.Keys().Len() != 2 {
		t.Errorf("%d keys after the time to turn", later.Keys().Len())
	}
	// Nothing in the database signs by itself.
	pool := must(pgxpool.New(t.Context(), address))(t)
	defer pool.Close()
	var sealed []byte
	if err := pool.QueryRow(t.Context(), "SELECT sealed FROM callgate.token_keys LIMIT 1").Scan(&sealed); err != nil || strings.Contains(string(sealed), `"d"`) || len(sealed) < 100 {
		t.Errorf("%q, %v", sealed, err)
	}
	if err := open(t, address, "another").Turn(t.Context(), func([]tokens.Key) (*tokens.Key, []tokens.Key, error) { return nil, nil, nil }); !errors.Is(err, ErrForeign) {
		t.Errorf("another secret: %v", err)
	}
	if _, err := pool.Exec(t.Context(), "UPDATE callgate.token_keys SET kid = kid || 'x'"); err != nil {
		t.Fatal(err)
	}
	if err := open(t, address, "k").Turn(t.Context(), func([]tokens.Key) (*tokens.Key, []tokens.Key, error) { return nil, nil, nil }); !errors.Is(err, ErrForeign) {
		t.Errorf("a key under another's name: %v", err)
	}
}

// While the database is away nothing is exchanged, and what was signed before is
// believed; a process can start meanwhile. Where there are too many assertions to
// remember none is taken, and those that ended are forgotten.
func TestDatabaseAwayOrFull(t *testing.T) {
	now := func() time.Time { return start }
	away := newReplica(t, open(t, "postgres://nobody@127.0.0.1:1/none", "k"), now)
	if status, _ := away.exchange(t, "_a"); status != 503 || away.Keys().Len() != 0 {
		t.Errorf("without a database: %d, %d keys", status, away.Keys().Len())
	}
	s := open(t, database(t), "k")
	defer s.Close()
	used := func(n byte, until time.Time) tokens.Used {
		return tokens.Used{ID: [32]byte{n}, Until: until}
	}
	for _, c := range []struct {
		what string
		at   time.Time
		list []tokens.Used
		want error
	}{
		{"two", start, []tokens.Used{used(1, start.Add(time.Minute)), used(2, start.Add(time.Hour))}, nil},
		{"one of two was used", start, []tokens.Used{used(3, start.Add(time.Hour)), used(2, start.Add(time.Hour))}, tokens.ErrUsed},
		{"so the other was not", start, []tokens.Used{used(3, start.Add(time.Hour))}, nil},
		{"too many", start, []tokens.Used{used(4, start.Add(time.Hour)), used(5, start.Add(time.Hour))}, tokens.ErrFull},
		{"one ended", start.Add(2 * time.Minute), []tokens.Used{used(4, start.Add(time.Hour))}, nil},
	} {
		if err := s.Once(t.Context(), c.at, 4, c.list); !errors.Is(err, c.want) || c.want == nil && err != nil {
			t.Errorf("%s: %v, want %v", c.what, err, c.want)
		}
	}
	if err := s.Once(t.Context(), start, 4, []tokens.Used{used(2, start)}); !errors.Is(err, tokens.ErrUsed) {
		t.Errorf("one that did not end: %v", err)
	}
}
