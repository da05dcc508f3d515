//go:build linux

package soak

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"sync"

	"github.com/callgate/callgate/call"
)

// card is in every answer of the function; nobody may get to see it.
const card = "4242 4242 4242 4242"

// function is what is behind the gateway. It knows which calls reached it.
type function struct {
	url string

	mu   sync.Mutex
	seen map[string]int // by call id, how often
	bare int            // requests without a call id
}

// startFunction serves until ctx ends.
func startFunction(ctx context.Context) (*function, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	f := &function{url: "http://" + l.Addr().String(), seen: map[string]int{}}
	srv := &http.Server{Handler: f}
	go func() {
		<-ctx.Done()
		_ = srv.Close() // the test is over
	}()
	go func() {
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			panic(err)
		}
	}()
	return f, nil
}

func (f *function) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	if id := r.Header.Get(call.HeaderCallID); id != "" {
		f.seen[id]++
	} else {
		f.bare++
	}
	f.mu.Unlock()
	var asked struct {
		Mark string `json:"mark"`
	}
	if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
		return // the caller has gone
	}
	w.Header().Set("content-type", "application/json")
	fmt.Fprintf(w, `{"mark":%q,"card":%q}`, asked.Mark, card)
}

// arrived are the ids of the calls that reached the function, and how often.
func (f *function) arrived() (seen map[string]int, bare int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.seen), f.bare
}

// policy registers the function. Its rules stand beside those of the demo.
func (f *function) policy() string {
	return fmt.Sprintf(`connections:
  - name: soak
    protocol: http
    match: {path: /soak}
    upstream: {url: "%s/"}
    functions:
      - {name: work, method: POST, path: /work}
      - {name: harm, method: POST, path: /harm}
    mask:
      - {name: cards, detect: [card], how: partial}
rules:
  - {name: soak works, connections: [soak], functions: [work], action: allow}
  - {name: soak harms nobody, connections: [soak], functions: [harm], action: deny, message: not this one}
`, f.url)
}
