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
	// A call that waits for people lives long and leaves nothing. So the heldBytes that
	// it takes need no garbage beside them: they are a part of what may be, down to
	// leastGarbage, and a quarter of them is enough of it.
	heldBytes    = 10 << 10
	leastGarbage = 40 << 20
)

// percentOf is how much garbage there may be beside what lives, in percent of it.
func percentOf(live, waiting uint64) int {
	live = max(live, 1)
	held := min(waiting*heldBytes, live)
	may := min(gcPercent*live/100, max(garbage-min(held, garbage), leastGarbage))
	least := (live-held)*leastPercent/100 + held/4
	return int(max(may, least) * 100 / live)
}

// boundGarbage keeps the collector's pace fit for what lives and for how many calls
// wait, until ctx ends.
func boundGarbage(ctx context.Context, waiting func() int) {
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
		live := uint64(0)
		for _, s := range samples {
			if s.Value.Kind() == metrics.KindUint64 {
				live += s.Value.Uint64()
			}
		}
		if want := percentOf(live, uint64(waiting())); want != now {
			debug.SetGCPercent(want)
			now = want
		}
	}
}
