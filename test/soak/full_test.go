//go:build linux

package soak

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/callgate/callgate/call"
)

// full: the spool's disk is full. Calls are denied with that reason, none is
// let through unrecorded, and it ends by itself once there is room.
func full(t *testing.T) {
	// Room comes with the rows of calls whose legs could not be recorded, so
	// these are not waited for as long as elsewhere.
	p := plan{small: 8 << 20, env: []string{"CALLGATE_AUDIT_CLICKHOUSE_SETTLE_AFTER=500ms"}}
	if set.long {
		p.small = 64 << 20
	}
	disk := canConfine(t.TempDir())
	if !disk {
		// Without namespaces of our own nothing can be mounted here: the
		// spool's own bound stands in for the disk's.
		p.env, p.small = append(p.env, fmt.Sprintf("CALLGATE_AUDIT_SPOOL_MAX_BYTES=%d", p.small)), 0
	}
	// ClickHouse has never been there when the disk fills.
	must(t, store.stop())
	w := newWorld(t, p)
	tr := &trial{T: t, w: w, began: time.Now()}
	if !disk {
		tr.note = "at spool.max_bytes, since this machine gives no namespaces to mount in"
	}
	for until := time.Now().Add(set.time(0.08, 0)); ; {
		fill(tr, "ClickHouse is away", func() {}, func() { must(t, store.start(t.Context())) })
		if disk {
			filler := fmt.Sprintf("/proc/%d/root%s/filler", w.services[0].proc.Pid, w.services[0].spool)
			fill(tr, "another file takes the room", func() { must(t, fillUp(filler)) }, func() { must(t, os.Remove(filler)) })
		}
		if time.Now().After(until) {
			break
		}
		must(t, store.stop())
	}
	tr.end(60)
}

// fill loads until calls are denied since they can't be recorded, then brings
// relief and waits until calls go on.
func fill(tr *trial, why string, spoil, relieve func()) {
	tr.Helper()
	ctx, w := tr.Context(), tr.w
	l := w.load(ctx, 4, 20*time.Millisecond, 64<<10)
	defer l.stop()
	must(tr.T, eventually(ctx, "calls go on before "+why, func() bool { return l.worked.Load() > 20 }))
	spoil()
	before := w.journal.refused(call.ReasonAuditUnavailable)
	must(tr.T, eventually(ctx, "calls are denied while "+why, func() bool { return w.journal.refused(call.ReasonAuditUnavailable) > before+20 }))
	tr.faults++
	relieve()
	relieved := time.Now()
	worked := l.worked.Load()
	must(tr.T, eventually(ctx, "calls go on though "+why+" no longer", func() bool { return l.worked.Load() > worked+20 }))
	tr.Logf("%s: calls went on %s after it ended", why, time.Since(relieved).Round(10*time.Millisecond))
}

// fillUp takes all room of the file system that path is on.
func fillUp(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.Copy(f, zeros{}); !errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("fill the disk: %w", err)
	}
	return nil
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
