//go:build linux

package soak

import (
	"math/rand/v2"
	"testing"
	"time"
)

// kill: kill -9 of the service at random moments under load, while it starts
// too.
func kill(t *testing.T, w *world) {
	tr := begin(t, w)
	s, ctx := w.services[0], t.Context()
	least, until := 4, time.Now().Add(set.time(0.35, 0))
	if set.long {
		least = 200
	}
	l := w.load(ctx, 6, 2*time.Millisecond, 200)
	for ; tr.faults < least || time.Now().Before(until); tr.faults++ {
		if rand.N(5) == 0 { // somewhere in its start, or soon after
			sleep(ctx, rand.N(300*time.Millisecond))
		} else {
			must(t, s.ready(ctx))
			sleep(ctx, 100*time.Millisecond+rand.N(900*time.Millisecond))
		}
		must(t, s.kill())
		must(t, s.start())
	}
	must(t, s.ready(ctx))
	l.last(t, 300*time.Millisecond, 60)
	l.stop()
	tr.end(60)
}
