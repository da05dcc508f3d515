//go:build linux

package soak

import (
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/callgate/callgate/call"
)

// answer is what a caller got for one call.
type answer struct {
	at     time.Time
	status int
	reason string // why it was denied; empty where it was not
	whole  bool   // the body came to its end
}

// journal is the client's own log of what was answered.
type journal struct {
	mu       sync.Mutex
	answers  map[string]answer // by call id
	bare     int               // answers without a call id: nobody decided
	cut      int               // no answer at all
	denied   map[string]int    // by reason
	problems []string
}

func newJournal() *journal { return &journal{answers: map[string]answer{}, denied: map[string]int{}} }

func (j *journal) note(id string, a answer, problem string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if problem != "" && len(j.problems) < 20 {
		j.problems = append(j.problems, problem)
	}
	switch _, twice := j.answers[id]; {
	case a.status == 0:
		j.cut++
		return
	case id == "":
		j.bare++
		return
	case twice:
		j.problems = append(j.problems, "call id "+id+" was answered twice")
	}
	j.answers[id] = a
	if a.reason != "" {
		j.denied[a.reason]++
	}
}

// snapshot is what was answered so far.
func (j *journal) snapshot() (answers map[string]answer, problems []string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return maps.Clone(j.answers), append([]string(nil), j.problems...)
}

// refused counts the calls that were denied for a reason.
func (j *journal) refused(reason call.Reason) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.denied[string(reason)]
}

// load is a number of callers.
type load struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup
	worked atomic.Int64 // calls that the function answered
}

// load starts callers that call one after the other, with a pause of up to so
// long between two calls and bodies of so many bytes. One caller may be cut
// off at any time; what it was answered before counts.
func (w *world) load(ctx context.Context, callers int, pause time.Duration, body int) *load {
	l := new(load)
	ctx, l.cancel = context.WithCancel(ctx)
	for range callers {
		l.wg.Go(func() {
			c := &http.Client{Transport: &http.Transport{}, Timeout: 30 * time.Second}
			defer c.CloseIdleConnections()
			for n := 0; ctx.Err() == nil; n++ {
				if w.call(c, body, n) {
					l.worked.Add(1)
				}
				if pause > 0 {
					time.Sleep(rand.N(pause))
				}
			}
		})
	}
	return l
}

// last lets the callers call for a time, and on a busy machine for as long as it
// takes until the function has answered so many calls.
func (l *load) last(t *testing.T, d time.Duration, calls int64) {
	t.Helper()
	sleep(t.Context(), d)
	must(t, eventually(t.Context(), "calls are answered", func() bool { return l.worked.Load() >= calls }))
}

// stop lets the callers have the answer they wait for, and ends them.
func (l *load) stop() {
	l.cancel()
	l.wg.Wait()
}

var marks atomic.Int64

// call makes one call: most are allowed, some denied, some by nobody known. It
// reports whether the function answered.
func (w *world) call(c *http.Client, size, n int) bool {
	mark, path, token := fmt.Sprint(marks.Add(1)), "/soak/work", w.token
	switch n % 10 {
	case 3, 7:
		path = "/soak/harm"
	case 9:
		token = ""
	}
	text := `{"mark":"` + mark + `","rest":"` + strings.Repeat("x", max(0, size-32)) + `"}`
	// Not bound to the load's end: a call that was begun is waited for.
	req, err := http.NewRequest(http.MethodPost, "http://"+w.Addrs.Envoy+path, strings.NewReader(text))
	if err != nil {
		panic(err) // of our own making
	}
	req.Header.Set("content-type", "application/json")
	if token != "" {
		req.Header.Set("authorization", "Bearer "+token)
	}
	resp, err := c.Do(req)
	if err != nil {
		w.journal.note("", answer{}, "")
		time.Sleep(5 * time.Millisecond)
		return false
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	a := answer{time.Now(), resp.StatusCode, resp.Header.Get(call.HeaderReason), err == nil}
	id := resp.Header.Get(call.HeaderCallID)
	problem := ""
	switch served := resp.StatusCode == http.StatusOK; {
	case strings.Contains(string(got), card):
		problem = "an unmasked answer got out: call " + id
	case served && (path != "/soak/work" || token == ""):
		problem = "a call was let through that the rules deny: " + id
	case served && err == nil && !strings.Contains(string(got), `"mark":"`+mark+`"`):
		problem = "an answer to another call: " + id
	case served && id == "":
		problem = "a call was let through without an id"
	}
	w.journal.note(id, a, problem)
	return resp.StatusCode == http.StatusOK && err == nil
}
