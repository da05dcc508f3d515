package main

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// gcPercent trades memory for time where GOGC does not say otherwise: what
	// lives long is small (tens of MB) and each call leaves tens of KB, so
	// collecting less often is cheap in memory and takes a tenth off the CPU time
	// of a decision.
	gcPercent = 400
	// garbage is how much that may cost, in bytes. Where much lives it is collected
	// more often, down to leastPercent.
	garbage      = 128 << 20
	leastPercent = 50
	// Thousands of calls that wait for people, of which stacks tell, live long and
	// leave nothing: beside them there is less.
	manyStacks     = 32 << 20
	garbageWaiting = 40 << 20
	leastWaiting   = 25
)

// percentOf is how much garbage there may be beside what lives, in percent of it;
// stacks are a part of that.
func percentOf(live, stacks uint64) int {
	if stacks > manyStacks {
		return int(max(leastWaiting, min(gcPercent, garbageWaiting*100/live)))
	}
	return int(max(leastPercent, min(gcPercent, garbage*100/max(live, 1))))
}

// boundGarbage keeps the collector's pace fit for what lives, until ctx ends.
func boundGarbage(ctx context.Context) {
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for now := gcPercent; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		metrics.Read(samples)
		var bytes [2]uint64
		for i, s := range samples {
			if s.Value.Kind() == metrics.KindUint64 {
				bytes[i] = s.Value.Uint64()
			}
		}
		if want := percentOf(bytes[0]+bytes[1], bytes[1]); want != now {
			debug.SetGCPercent(want)
			now = want
		}
	}
}
