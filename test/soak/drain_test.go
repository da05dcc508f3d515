//go:build linux

package soak

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"
)

// drain: SIGTERM under load, again and again. The service ends in order, with
// exit code 0, and what it was doing is neither lost nor half done.
func drain(t *testing.T, w *world) {
	tr := begin(t, w)
	s, ctx := w.services[0], t.Context()
	least, until := 1, time.Now().Add(set.time(0.08, 0))
	if set.long {
		least = 5
	}
	l := w.load(ctx, 6, 2*time.Millisecond, 200)
	for ; tr.faults < least || time.Now().Before(until); tr.faults++ {
		sleep(ctx, 500*time.Millisecond+rand.N(time.Second))
		bound, cancel := context.WithTimeout(ctx, 30*time.Second)
		err := s.term(bound)
		cancel()
		if err != nil {
			t.Error(err)
		}
		must(t, s.again(ctx))
	}
	l.last(t, 300*time.Millisecond, 60)
	l.stop()
	tr.end(60)
}
