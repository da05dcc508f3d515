package audit

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/callgate/callgate/call"
)

// BacklogConfig is what a [Backlog] needs.
type BacklogConfig struct {
	Recorder interface {
		Record(context.Context, call.Event) error
	}
	// MaxEvents and MaxBytes bound what waits; 0 means 10,000 and 64 MiB.
	MaxEvents int
	MaxBytes  int64
	Log       *slog.Logger
	Metrics   *BacklogMetrics
}

const (
	backlogEvents = 10_000
	backlogBytes  = 64 << 20
	// backlogPause is how long a disk that failed is left alone.
	backlogPause = time.Second
	// backlogAtOnce events are recorded together, so that they share a sync.
	backlogAtOnce = 64
	// backlogTries is how often an event may fail while others succeed: then
	// the event is at fault and not the disk.
	backlogTries = 3
)

// Backlog keeps, in memory, events that could not be recorded and whose
// connections would rather go on, until they can be. It is lost with the
// process, which is the price of that choice, and it is bounded: what it does
// not take must be treated as any event that can't be recorded.
type Backlog struct {
	cfg BacklogConfig

	mu     sync.Mutex
	queue  []waiting
	bytes  int64
	closed bool
	wake   chan struct{}
}

type waiting struct {
	event call.Event
	size  int64
	tries int // that failed while others succeeded
}

// NewBacklog returns an empty Backlog. Run records what it is given.
func NewBacklog(cfg BacklogConfig) *Backlog {
	if cfg.MaxEvents == 0 {
		cfg.MaxEvents = backlogEvents
	}
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = backlogBytes
	}
	return &Backlog{cfg: cfg, wake: make(chan struct{}, 1)}
}

// Add takes e, to be recorded when that can be done; false where there is no
// room, or the process ends.
func (b *Backlog) Add(e call.Event) bool {
	w := waiting{event: own(e)}
	w.size = sizeOf(&w.event)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || len(b.queue) >= b.cfg.MaxEvents || b.bytes+w.size > b.cfg.MaxBytes {
		return false
	}
	b.put(w)
	select {
	case b.wake <- struct{}{}:
	default:
	}
	return true
}

// put appends to the queue. The caller holds mu.
func (b *Backlog) put(w ...waiting) {
	b.queue = append(b.queue, w...)
	for _, w := range w {
		b.bytes += w.size
	}
	b.tell()
}

func (b *Backlog) tell() {
	b.cfg.Metrics.events.Set(float64(len(b.queue)))
	b.cfg.Metrics.bytes.Set(float64(b.bytes))
}

// own copies the content of e: a part of it would keep the whole request in
// memory.
func own(e call.Event) call.Event {
	body := func(b *call.Body) { b.Head, b.Tail = bytes.Clone(b.Head), bytes.Clone(b.Tail) }
	switch {
	case e.Decided != nil:
		d := *e.Decided
		d.ArgsJSON = bytes.Clone(d.ArgsJSON)
		body(&d.Body)
		e.Decided = &d
	case e.Answered != nil:
		a := *e.Answered
		body(&a.Body)
		e.Answered = &a
	}
	return e
}

// eventOverhead is about what an event takes beside its content.
const eventOverhead = 4 << 10

func sizeOf(e *call.Event) int64 {
	n := eventOverhead
	if d := e.Decided; d != nil {
		n += len(d.ArgsJSON) + len(d.Path)
		for _, h := range d.Headers {
			n += len(h.Name) + len(h.Value)
		}
	}
	if b := bodyOf(e); b != nil {
		n += len(b.Head) + len(b.Tail)
	}
	return int64(n)
}

// Waiting is how many events wait.
func (b *Backlog) Waiting() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.queue)
}

// Run records what waits, as soon as that can be done, until ctx ends. Flush
// must follow.
func (b *Backlog) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-b.wake:
		}
		for b.Waiting() > 0 {
			if b.pass(ctx) {
				continue
			}
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(backlogPause):
			}
		}
	}
}

// Flush takes no more events and records those that wait, until ctx ends. What
// can't be recorded by then is lost, and said to be.
func (b *Backlog) Flush(ctx context.Context) error {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	for b.Waiting() > 0 && ctx.Err() == nil {
		done := make(chan bool, 1)
		go func() { done <- b.pass(ctx) }()
		pause := time.Duration(0)
		select {
		case <-ctx.Done(): // a disk that hangs keeps nobody from stopping
		case recorded := <-done:
			if !recorded {
				pause = backlogPause
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
	b.mu.Lock()
	lost := b.queue
	b.queue, b.bytes = nil, 0
	b.tell()
	b.mu.Unlock()
	for _, w := range lost {
		b.lose(w, context.Cause(ctx))
	}
	if len(lost) > 0 {
		return fmt.Errorf("%d events of calls that were let through without a record are lost", len(lost))
	}
	return nil
}

func (b *Backlog) lose(w waiting, err error) {
	b.cfg.Metrics.lost.Inc()
	b.cfg.Log.Error("a call was let through, as its connection allows, and its record is lost", "call_id", w.event.CallID, "event", w.event.Kind, "error", err)
}

// pass tries to record what waits longest, and reports whether any of it was.
func (b *Backlog) pass(ctx context.Context) bool {
	b.mu.Lock()
	n := min(len(b.queue), backlogAtOnce)
	batch := append([]waiting(nil), b.queue[:n]...)
	b.mu.Unlock()
	errs := make([]error, n)
	var g errgroup.Group
	for i := range batch {
		g.Go(func() error {
			// Not to be broken off: an event that is recorded after all must
			// not be recorded again.
			errs[i] = b.cfg.Recorder.Record(context.WithoutCancel(ctx), batch[i].event)
			return nil
		})
	}
	_ = g.Wait() // each has its own
	recorded := 0
	for _, err := range errs {
		if err == nil {
			recorded++
		}
	}
	b.cfg.Metrics.recorded.Add(float64(recorded))
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.queue) < n {
		return recorded > 0 // given up meanwhile
	}
	rest := b.queue[n:]
	b.queue, b.bytes = nil, 0
	var again []waiting
	for i, w := range batch {
		switch {
		case errs[i] == nil:
			continue
		case recorded > 0:
			if w.tries++; w.tries >= backlogTries {
				b.lose(w, errs[i])
				continue
			}
		}
		again = append(again, w)
	}
	if recorded > 0 {
		// What failed goes behind the others, so that it keeps none up.
		b.put(append(append([]waiting(nil), rest...), again...)...)
	} else {
		b.put(append(again, rest...)...)
	}
	return recorded > 0
}

// BacklogMetrics tells how a backlog does.
type BacklogMetrics struct {
	events, bytes  prometheus.Gauge
	recorded, lost prometheus.Counter
}

// NewBacklogMetrics registers a backlog's metrics. Alert on any event that
// waits or is lost.
func NewBacklogMetrics(r prometheus.Registerer) *BacklogMetrics {
	m := &BacklogMetrics{
		events:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "callgate_backlog_events", Help: "Events of calls that were let through without a record and wait to be recorded."}),
		bytes:    prometheus.NewGauge(prometheus.GaugeOpts{Name: "callgate_backlog_bytes", Help: "Memory that they take."}),
		recorded: prometheus.NewCounter(prometheus.CounterOpts{Name: "callgate_backlog_recorded_total", Help: "Events recorded after their call was let through."}),
		lost:     prometheus.NewCounter(prometheus.CounterOpts{Name: "callgate_backlog_lost_total", Help: "Events of calls that were let through and will never be recorded."}),
	}
	r.MustRegister(m.events, m.bytes, m.recorded, m.lost)
	return m
}
