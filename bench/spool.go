package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"github.com/callgate/callgate/audit"
	"github.com/callgate/callgate/call"
)

// floorLog is the least that a durable log with group commit can be: callers
// copy their bytes into a shared buffer under a mutex, one goroutine writes the
// buffer to a preallocated file and calls fdatasync, and all whose bytes were in
// it go on. It encodes, hashes, checks, counts and indexes nothing.
type floorLog struct {
	file   *os.File
	offset int64

	mu      sync.Mutex
	pending *floorBatch
	spare   []byte
	wake    chan struct{}
	ended   chan struct{}
}

type floorBatch struct {
	buf  []byte
	done chan struct{}
	err  error
}

const (
	floorBytes  = 2 << 30
	spoolWarm   = 500 * time.Millisecond
	spoolLength = 2 * time.Second
	// spoolRounds are many short ones: what else uses the disk changes within
	// seconds, and by more than what is to be told apart.
	spoolRounds = 15
)

func newFloorLog(path string) (*floorLog, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Fallocate(int(f.Fd()), 0, 0, floorBytes); err != nil {
		return nil, errors.Join(fmt.Errorf("set %d bytes aside for the floor: %w", floorBytes, err), f.Close())
	}
	l := &floorLog{file: f, pending: &floorBatch{done: make(chan struct{})}, wake: make(chan struct{}, 1), ended: make(chan struct{})}
	go l.run()
	return l, nil
}

func (l *floorLog) append(p []byte) error {
	l.mu.Lock()
	b := l.pending
	b.buf = append(b.buf, p...)
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
	<-b.done
	return b.err
}

func (l *floorLog) run() {
	defer close(l.ended)
	for range l.wake {
		l.mu.Lock()
		b := l.pending
		l.pending = &floorBatch{buf: l.spare[:0], done: make(chan struct{})}
		l.spare = nil
		l.mu.Unlock()
		if len(b.buf) > 0 {
			_, b.err = l.file.WriteAt(b.buf, l.offset)
			if b.err == nil {
				b.err = unix.Fdatasync(int(l.file.Fd()))
			}
			l.offset += int64(len(b.buf))
		}
		l.mu.Lock()
		l.spare = b.buf
		l.mu.Unlock()
		close(b.done)
	}
}

func (l *floorLog) close() error {
	close(l.wake)
	<-l.ended
	return errors.Join(l.file.Close(), os.Remove(l.file.Name()))
}

// decisions are «decided» events, made ahead, so few that they are in the
// processor's cache as an event is that was just made.
func decisions(n int) []call.Event {
	t, at := newTraffic(3), time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC)
	list := make([]call.Event, n)
	for i := range list {
		list[i] = t.next(at.Add(time.Duration(i) * time.Millisecond))[0]
	}
	return list
}

// benchSpool measures durable events a second, 64 writers that wait for each
// event, against floorLog with records of the same size on the same disk.
func benchSpool(ctx context.Context) ([]row, error) {
	dir, err := os.MkdirTemp(os.Getenv("CALLGATE_BENCH_DIR"), "callgate-bench-")
	if err != nil {
		return nil, fmt.Errorf("make folder: %w", err)
	}
	defer os.RemoveAll(dir)
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // as serve does
	events := decisions(256)
	size, err := recordSize(ctx, filepath.Join(dir, "probe"), events)
	if err != nil {
		return nil, err
	}
	self := []int{os.Getpid()}
	subjects := []subject{
		{name: "fsync", run: func(ctx context.Context) (_ sample, err error) {
			l, err := newFloorLog(filepath.Join(dir, "floor"))
			if err != nil {
				return sample{}, err
			}
			defer func() { err = errors.Join(err, l.close()) }()
			record := make([]byte, size)
			return load(ctx, spoolWarm, spoolLength, self, func(int, int64) error { return l.append(record) })
		}},
		{name: "spool", run: func(ctx context.Context) (_ sample, err error) {
			path := filepath.Join(dir, "spool")
			s, err := openSpool(path, 8<<30)
			if err != nil {
				return sample{}, err
			}
			defer func() { err = errors.Join(err, s.Close(), os.RemoveAll(path)) }()
			return load(ctx, spoolWarm, spoolLength, self, func(_ int, n int64) error { return s.Append(ctx, events[int(n)%len(events)]) })
		}},
	}
	got, err := measure(ctx, spoolRounds, subjects)
	if err != nil {
		return nil, err
	}
	rows := []row{ratio("spool_vs_fsync", "ratio of durable events/s", fmt.Sprintf("group fdatasync loop, %d-byte records", size), got["spool"], got["fsync"], rate)}
	for _, s := range subjects {
		rows = append(rows, figures(s.name, got[s.name])...)
	}
	return rows, nil
}

func openSpool(dir string, most int64) (*audit.Spool, error) {
	return audit.Open(audit.SpoolConfig{Dir: dir, MaxBytes: most, Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})),
		Metrics: audit.NewMetrics(prometheus.NewRegistry())})
}

// recordSize is how many bytes of a segment one event takes, on average.
func recordSize(ctx context.Context, dir string, events []call.Event) (int, error) {
	s, err := openSpool(dir, 1<<30)
	if err != nil {
		return 0, err
	}
	before := s.Status().Bytes
	var wg sync.WaitGroup
	errs := make([]error, len(events))
	for i, e := range events {
		wg.Go(func() { errs[i] = s.Append(ctx, e) })
	}
	wg.Wait()
	size := (s.Status().Bytes - before) / int64(len(events))
	return int(size), errors.Join(errors.Join(errs...), s.Close(), os.RemoveAll(dir))
}
