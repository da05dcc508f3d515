package audit

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/callgate/callgate/call"
)

func newBacklog(r interface {
	Record(context.Context, call.Event) error
}, log io.Writer) *Backlog {
	return NewBacklog(BacklogConfig{Recorder: r, Log: slog.New(slog.NewTextHandler(log, nil)), Metrics: NewBacklogMetrics(prometheus.NewRegistry())})
}

// On a disk that fails and recovers, what waited is recorded once, as it was.
func TestBacklogAndFailingDisk(t *testing.T) {
	t.Parallel()
	disk := &faulty{disk: osDisk{}}
	cfg := config(t, t.TempDir())
	cfg.disk = disk
	s := open(t, cfg)
	disk.fail("sync")
	b := newBacklog(Recorder{s}, io.Discard)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	const n = 100
	for i := range n {
		e := decided(t, body(i))
		e.Decided.Late = true
		if err := s.Append(context.Background(), e); err == nil {
			t.Fatal("the disk does not fail")
		}
		if !b.Add(e) {
			t.Fatal("no room")
		}
	}
	if b.Waiting() != n || testutil.ToFloat64(b.cfg.Metrics.events) != n || testutil.ToFloat64(b.cfg.Metrics.bytes) == 0 {
		t.Errorf("%d wait, metric says %v", b.Waiting(), testutil.ToFloat64(b.cfg.Metrics.events))
	}
	disk.fail("")
	for b.Waiting() > 0 {
		time.Sleep(5 * time.Millisecond)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := b.Flush(context.Background()); err != nil {
		t.Error(err)
	}
	if b.Add(decided(t, nil)) {
		t.Error("takes events when it has ended")
	}
	r := s.NewReader(0)
	defer r.Close()
	recs, damage, err := r.Read(2*n, 1<<30)
	if err != nil || len(damage) > 0 || len(recs) != n {
		t.Fatalf("%d records, %v, %v", len(recs), damage, err)
	}
	seen := map[string]bool{}
	for _, rec := range recs {
		e, err := rec.Event(s.Codec())
		if err != nil || !e.Decided.Late {
			t.Fatalf("%+v, %v", e, err)
		}
		seen[string(e.Decided.Body.Head)] = true
	}
	if len(seen) != n || testutil.ToFloat64(b.cfg.Metrics.recorded) != n || testutil.ToFloat64(b.cfg.Metrics.lost) != 0 || testutil.ToFloat64(b.cfg.Metrics.bytes) != 0 {
		t.Errorf("%d of %d are there", len(seen), n)
	}
}

type recordFunc func(context.Context, call.Event) error

func (f recordFunc) Record(ctx context.Context, e call.Event) error { return f(ctx, e) }

// What waits is bounded in number and in memory, and holds on to nothing more.
func TestBacklogIsBounded(t *testing.T) {
	t.Parallel()
	never := recordFunc(func(context.Context, call.Event) error { return errors.New("no") })
	b := newBacklog(never, io.Discard)
	b.cfg.MaxEvents = 3
	request := bytes.Repeat([]byte("x"), 1<<20)
	e := decided(t, request[:100:100])
	for i := range 5 {
		if b.Add(e) != (i < 3) {
			t.Errorf("event %d", i)
		}
	}
	if cap(b.queue[0].event.Decided.Body.Head) > 200 || &b.queue[0].event.Decided.Body.Head[0] == &request[0] {
		t.Error("the whole request is kept")
	}
	b = newBacklog(never, io.Discard)
	b.cfg.MaxBytes = 1 << 20
	if b.Add(decided(t, request)) || !b.Add(decided(t, request[:1<<19])) || b.Add(decided(t, request[:1<<19])) {
		t.Errorf("%d bytes wait", b.bytes)
	}
}

// One event that can't be recorded keeps no other up, and is given up; a disk
// that fails for all is waited for.
func TestBacklogGivesUpWhatIsAtFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		var mu sync.Mutex
		broken, recorded := true, 0
		bad := decided(t, nil)
		b := newBacklog(recordFunc(func(_ context.Context, e call.Event) error {
			mu.Lock()
			defer mu.Unlock()
			if broken || e.CallID == bad.CallID {
				return errors.New("it fails")
			}
			recorded++
			return nil
		}), &log)
		ctx, stop := context.WithCancel(t.Context())
		go func() { _ = b.Run(ctx) }() // it returns nil
		b.Add(bad)
		for range 5 {
			b.Add(decided(t, nil))
		}
		time.Sleep(time.Minute)
		if b.Waiting() != 6 || recorded != 0 {
			t.Errorf("%d wait", b.Waiting())
		}
		mu.Lock()
		broken = false
		mu.Unlock()
		for range 5 {
			time.Sleep(2 * backlogPause)
			b.Add(decided(t, nil))
		}
		time.Sleep(time.Minute)
		if b.Waiting() != 0 || recorded != 10 || testutil.ToFloat64(b.cfg.Metrics.lost) != 1 || !strings.Contains(log.String(), bad.CallID.String()) {
			t.Errorf("%d wait, %d recorded: %s", b.Waiting(), recorded, log.String())
		}
		stop()
		synctest.Wait()
	})
}

// A stop waits for the disk for a while, and then names what is lost.
func TestBacklogFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		hang := make(chan struct{})
		b := newBacklog(recordFunc(func(context.Context, call.Event) error { <-hang; return nil }), &log)
		e := decided(t, nil)
		b.Add(e)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if err := b.Flush(ctx); err == nil || testutil.ToFloat64(b.cfg.Metrics.lost) != 1 || !strings.Contains(log.String(), e.CallID.String()) {
			t.Errorf("%v: %s", err, log.String())
		}
		close(hang)
		synctest.Wait()
		if b.Waiting() != 0 {
			t.Errorf("%d wait", b.Waiting())
		}
	})
}
