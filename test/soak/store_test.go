//go:build linux

package soak

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"
)

// engineKilled: kill -9 of ClickHouse while it takes inserts. No call may
// notice.
func engineKilled(t *testing.T, w *world) {
	tr := begin(t, w)
	least, until := 3, time.Now().Add(set.time(0.12, 0))
	if set.long {
		least = 20
	}
	l := w.load(t.Context(), 4, 4*time.Millisecond, 200)
	for ; tr.faults < least || time.Now().Before(until); tr.faults++ {
		before, err := w.events(t)
		must(t, err)
		for now := before; now == before; { // until it takes inserts again
			sleep(t.Context(), 20*time.Millisecond)
			now, err = w.events(t)
			must(t, err)
		}
		sleep(t.Context(), rand.N(700*time.Millisecond))
		must(t, store.kill())
		sleep(t.Context(), rand.N(300*time.Millisecond))
		must(t, store.start(t.Context()))
	}
	l.last(t, 0, 60)
	l.stop()
	if n := w.journal.refused("audit_unavailable"); n > 0 {
		t.Errorf("%d calls were denied since ClickHouse was away", n)
	}
	tr.end(60)
}

// away: ClickHouse is away for long while calls go on, and then what piled up
// reaches it beside what comes.
func away(t *testing.T, w *world) {
	tr := begin(t, w)
	ctx := t.Context()
	gone := 3 * time.Second
	if set.long {
		gone = max(time.Minute, set.time(0.12, 0))
	}
	base, err := w.events(t)
	must(t, err)
	made, err := w.made(t)
	must(t, err)
	base -= made // events that were shipped before this process counted

	must(t, store.stop())
	tr.faults++
	began := time.Now()
	l := w.load(ctx, 6, time.Millisecond, 200)
	sleep(ctx, gone)
	before := made
	made, err = w.made(t)
	must(t, err)
	arriving := float64(made-before) / time.Since(began).Seconds()

	must(t, store.start(ctx))
	back := time.Now()
	first, err := w.events(t)
	must(t, err)
	var shipped int
	for {
		if shipped, err = w.events(t); err == nil {
			made, err = w.made(t)
		}
		must(t, err)
		// What has come in the last moments is always under way.
		if float64(made+base-shipped) < arriving || time.Since(back) > patience() {
			break
		}
		sleep(ctx, 50*time.Millisecond)
	}
	took := time.Since(back)
	l.last(t, 0, 60)
	l.stop()
	caught := float64(shipped-first) / took.Seconds()
	tr.note = fmt.Sprintf("away for %s while %.0f events/s came; back, it took %.0f events/s until nothing was behind, %.1f times as many, after %s",
		gone, arriving, caught, caught/arriving, took.Round(10*time.Millisecond))
	if set.long && caught < 3*arriving {
		t.Errorf("catching up is too slow: %s", tr.note)
	}
	tr.end(60)
}

// events counts what ClickHouse has of the ledger.
func (w *world) events(t *testing.T) (int, error) {
	cells, err := store.ask(t.Context(), w.database, "SELECT count() FROM events")
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(cells[0][0])
}

// made counts what the service's present process has made durable.
func (w *world) made(t *testing.T) (int, error) {
	n, err := w.services[0].number(t.Context(), "callgate_spool_events_total")
	return int(n), err
}
