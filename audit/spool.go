package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/gofrs/flock"
	"github.com/google/uuid"

	"github.com/callgate/callgate/audit/ledger"
	"github.com/callgate/callgate/call"
)

// SpoolConfig is what a [Spool] needs.
type SpoolConfig struct {
	// Dir is the spool's own directory, on a local disk; it is created.
	Dir string
	// MaxBytes bounds the spool's size on disk. At the bound appends fail.
	MaxBytes int64
	// SegmentBytes is the size of one file; 0 means 64 MiB, or an eighth of
	// MaxBytes where that is less.
	SegmentBytes int64
	Log          *slog.Logger
	Metrics      *Metrics

	disk disk          // nil means the real one
	wait time.Duration // before a failed disk is tried again; 0 means 500 ms
}

// ErrFull says that the spool is at its size limit.
var ErrFull = errors.New("spool is full")

// ErrClosed says that the spool was closed.
var ErrClosed = errors.New("spool is closed")

const (
	defaultSegment = 64 << 20
	defaultWait    = 500 * time.Millisecond
	// maxBatch bounds the bytes that wait for one sync, and so memory.
	maxBatch = 16 << 20

	idFile   = "spool.id"
	lockFile = "lock"
)

// Spool is an append-only log of events on a local disk. Its methods are safe
// for concurrent use.
type Spool struct {
	cfg   SpoolConfig
	codec *Codec
	id    uuid.UUID
	lock  *flock.Flock
	bufs  sync.Pool // of *bytes.Buffer

	mu       sync.Mutex
	pending  *batch // what the writer takes next
	spare    []byte // a buffer for the batch after that
	sealed   []segment
	active   segment
	durable  uint64 // index after the last record that is on disk
	used     int64  // bytes of all segments, without what is pending
	changed  chan struct{}
	broken   error     // why the disk could not be written
	retry    time.Time // when it may be tried again
	closed   bool
	rolling  bool // the active segment is to end
	level    int  // of alertLevels, in percent; 0 for none
	damaged  map[uint64]bool
	tree     *ledger.Tree  // of all durable leaves
	kept     uint64        // size of the tree that the tree file holds
	prefixes []byte        // of the leaf hashes since the tree was last cut
	wake     chan struct{} // tells the writer that something is pending; closed with closed
	finished chan struct{} // closed when the writer has ended

	// Only the writer, and Open before it runs, touch these.
	file file // the active segment; nil where it can't be trusted
	seed uint32

	treeMu   sync.Mutex // serialises Keep
	treeFile *treeFile
}

// batch is a number of records that one sync makes durable.
type batch struct {
	buf     []byte
	records int
	leaves  []ledger.Hash // of the records
	done    chan struct{}
	err     error // valid once done is closed
}

// Open opens the spool in cfg.Dir, or makes one. It recovers what a killed
// process left, and says in the log what it found.
func Open(cfg SpoolConfig) (*Spool, error) {
	if cfg.MaxBytes <= 0 {
		return nil, fmt.Errorf("open spool %s: max_bytes must be above 0", cfg.Dir)
	}
	if cfg.SegmentBytes == 0 {
		cfg.SegmentBytes = min(defaultSegment, cfg.MaxBytes/8)
	}
	if cfg.disk == nil {
		cfg.disk = osDisk{}
	}
	if cfg.wait == 0 {
		cfg.wait = defaultWait
	}
	codec, err := NewCodec()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("open spool: %w; make the directory, or set audit.spool.dir to one that this user may write", err)
	}
	lock, err := takeLock(cfg.Dir)
	if err != nil {
		return nil, err
	}
	s := &Spool{
		cfg: cfg, codec: codec, lock: lock,
		bufs:    sync.Pool{New: func() any { return new(bytes.Buffer) }},
		pending: newBatch(nil),
		damaged: make(map[uint64]bool),
		wake:    make(chan struct{}, 1), finished: make(chan struct{}),
	}
	if err := s.load(); err != nil {
		err = fmt.Errorf("open spool %s: %w", cfg.Dir, err)
		if s.treeFile != nil {
			err = errors.Join(err, s.treeFile.slots.Close())
		}
		return nil, errors.Join(err, lock.Unlock())
	}
	s.account()
	go s.write()
	return s, nil
}

func newBatch(buf []byte) *batch {
	return &batch{buf: buf[:0], done: make(chan struct{})}
}

// takeLock keeps a second process out of dir.
func takeLock(dir string) (*flock.Flock, error) {
	path := filepath.Join(dir, lockFile)
	l := flock.New(path, flock.SetFlag(os.O_CREATE|os.O_RDWR), flock.SetPermissions(0o600))
	ok, err := l.TryLock()
	if err != nil {
		return nil, fmt.Errorf("open spool: %w; audit.spool.dir must be a local directory that this user may write", err)
	}
	if !ok {
		holder, _ := os.ReadFile(path)
		who := strings.TrimSpace(string(holder))
		if who == "" {
			who = "another process"
		}
		return nil, fmt.Errorf("open spool: %s is in use by %s; stop it, or give this one a directory of its own (audit.spool.dir)", dir, who)
	}
	// Who holds it is only told to people; a full disk is no reason to stop.
	if err := os.WriteFile(path, fmt.Appendf(nil, "process %d\n", os.Getpid()), 0o600); err != nil && !noRoom(err) {
		return nil, errors.Join(fmt.Errorf("open spool: %w", err), l.Unlock())
	}
	return l, nil
}

// load finds the end of the log and starts a segment behind it.
func (s *Spool) load() error {
	dir := s.cfg.Dir
	list, err := segments(dir)
	if err != nil {
		return err
	}
	if err := s.loadID(len(list) > 0); err != nil {
		return err
	}
	next := uint64(0)
	if n := len(list); n > 0 {
		last := &list[n-1]
		r, err := recoverLast(dir, s.id, last.base)
		if err != nil {
			return err
		}
		path := segmentPath(dir, last.base)
		for _, d := range r.damage {
			s.cfg.Log.Error("spool is damaged: acknowledged records can't be read", "file", d.File, "offset", d.Offset,
				"first", d.First, "last", d.Last)
			s.cfg.Metrics.damaged.Add(float64(d.Last - d.First + 1))
		}
		if r.torn > 0 {
			s.cfg.Log.Warn("spool: dropped an unfinished write, which nobody was told had succeeded",
				"file", path, "offset", r.size, "bytes", r.torn)
		}
		next = r.end
		if r.end == last.base {
			// Nothing in it; the new segment gets its name.
			if err := os.Remove(path); err != nil {
				return err
			}
			list = list[:n-1]
		} else {
			if err := settle(s.cfg.disk, path, r.size); err != nil {
				return fmt.Errorf("make %s durable: %w", path, err)
			}
			last.size = r.size
		}
	}
	first := uint64(0)
	if len(list) > 0 {
		first = list[0].base
	}
	tree, err := s.loadTree(first)
	if err != nil {
		return err
	}
	if tree.Size() > next {
		// The disk lost what it had said was written. The tree goes on
		// behind it, so that no index ever names two records.
		d := Damage{File: dir, First: next, Last: tree.Size() - 1}
		s.cfg.Log.Error("the end of the spool is missing: acknowledged records are lost", "first", d.First, "last", d.Last)
		s.cfg.Metrics.damaged.Add(float64(d.Last - d.First + 1))
		next = tree.Size()
	}
	s.sealed, s.durable = list, next
	for _, g := range list {
		s.used += g.size
	}
	switch err := s.startSegment(next); {
	case noRoom(err):
		// Shipping what is here makes room, so this must not keep the process
		// from starting; calls are denied until then.
		s.cfg.Log.Error("spool can't be written; calls are denied until it can", "dir", dir, "error", err)
		s.active = segment{base: next}
		s.broken, s.retry = fmt.Errorf("start a segment: %w", err), time.Now().Add(s.cfg.wait)
	case err != nil:
		return err
	}
	return s.growTree(tree)
}

func (s *Spool) loadID(have bool) error {
	path := filepath.Join(s.cfg.Dir, idFile)
	text, err := os.ReadFile(path)
	switch {
	case err == nil && have:
		if s.id, err = uuid.Parse(strings.TrimSpace(string(text))); err != nil {
			return fmt.Errorf("%s is damaged: %w; restore it: its segments can't be checked without it", path, err)
		}
		return nil
	case have && errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s is missing beside segments; restore it: they can't be checked without it", path)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	// Without segments the log starts again at 0, and an index must not
	// name two records: it is another log.
	if s.id, err = uuid.NewRandom(); err != nil {
		return fmt.Errorf("make spool id: %w", err)
	}
	return WriteFile(path, []byte(s.id.String()+"\n"))
}

// startSegment makes the file for the records from base on. Its name is
// durable before a record in it is.
func (s *Spool) startSegment(base uint64) error {
	path := segmentPath(s.cfg.Dir, base)
	f, err := s.cfg.disk.create(path, s.cfg.SegmentBytes)
	if errors.Is(err, fs.ErrExist) {
		// An earlier attempt failed halfway; nothing in it was acknowledged.
		if err = os.Remove(path); err == nil {
			f, err = s.cfg.disk.create(path, s.cfg.SegmentBytes)
		}
	}
	if err != nil {
		return err
	}
	if _, err = f.WriteAt(segmentHead(s.id, base), 0); err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = s.cfg.disk.syncDir(s.cfg.Dir)
	}
	if err != nil {
		return errors.Join(err, f.Close(), os.Remove(path))
	}
	s.mu.Lock()
	s.active = segment{base: base, size: segmentHeader}
	s.used += segmentHeader
	s.mu.Unlock()
	s.file, s.seed = f, seed(s.id, base)
	return nil
}

// ID names the spool for good. It stands beside its events in ClickHouse.
func (s *Spool) ID() string { return s.id.String() }

// Dir is the spool's directory.
func (s *Spool) Dir() string { return s.cfg.Dir }

// Codec reads the spool's leaves.
func (s *Spool) Codec() *Codec { return s.codec }

// Append writes e and returns when it is on disk. Many callers share one
// sync. An error says why the event is not known to be durable: [ErrFull],
// [ErrClosed], the context's, or the disk's. It must be taken as not
// recorded, and what it would have recorded must not happen.
func (s *Spool) Append(ctx context.Context, e call.Event) error {
	started := time.Now()
	b, err := s.add(ctx, &e)
	if err != nil {
		s.cfg.Metrics.failed.Inc()
		return err
	}
	select {
	case <-b.done:
	case <-ctx.Done():
		s.cfg.Metrics.failed.Inc()
		return fmt.Errorf("record %s event: %w", e.Kind, context.Cause(ctx))
	}
	if b.err != nil {
		s.cfg.Metrics.failed.Inc()
		return fmt.Errorf("record %s event: %w", e.Kind, b.err)
	}
	s.cfg.Metrics.append.Observe(time.Since(started).Seconds())
	return nil
}

// add encodes e and puts it into the batch that is returned.
func (s *Spool) add(ctx context.Context, e *call.Event) (*batch, error) {
	buf := s.bufs.Get().(*bytes.Buffer)
	buf.Reset()
	defer s.bufs.Put(buf)
	sealed, err := Seal(*e)
	if err != nil {
		return nil, err
	}
	e = &sealed
	if err := s.codec.Encode(buf, e); err != nil {
		return nil, err
	}
	n := buf.Len()
	if err := s.codec.appendContent(buf, e); err != nil {
		return nil, err
	}
	leaf, aside := buf.Bytes()[:n], buf.Bytes()[n:]
	var head, tail []byte
	if b := bodyOf(e); b != nil {
		head, tail = b.Head, b.Tail
	}
	var space [32]byte
	pre := preamble(space[:0], len(leaf), len(aside), len(head))
	length := len(pre) + len(leaf) + len(aside) + len(head) + len(tail)
	if length > maxRecord {
		return nil, fmt.Errorf("record %s event: %d bytes are over the %d of one record; lower record.max_body", e.Kind, length, maxRecord)
	}
	sum := crc32.Checksum(pre, castagnoli)
	for _, part := range [][]byte{leaf, aside, head, tail} {
		sum = crc32.Update(sum, castagnoli, part)
	}
	// The writer puts index, position and the header's checksum in.
	var h [headerSize]byte
	header{length: uint32(length), crc: sum}.put(h[:], 0)
	size := padded(headerSize + length)
	hash := ledger.LeafHash(leaf)
	for {
		s.mu.Lock()
		if err := s.refuse(size); err != nil {
			s.mu.Unlock()
			return nil, fmt.Errorf("record %s event: %w", e.Kind, err)
		}
		b := s.pending
		if b.records == 0 || len(b.buf)+size <= maxBatch {
			at := len(b.buf)
			b.buf = append(b.buf, h[:]...)
			b.buf = append(b.buf, pre...)
			b.buf = append(b.buf, leaf...)
			b.buf = append(b.buf, aside...)
			b.buf = append(b.buf, head...)
			b.buf = append(b.buf, tail...)
			var zeros [alignment]byte
			b.buf = append(b.buf, zeros[:at+size-len(b.buf)]...)
			b.records++
			b.leaves = append(b.leaves, hash)
			select {
			case s.wake <- struct{}{}:
			default:
			}
			s.mu.Unlock()
			return b, nil
		}
		s.mu.Unlock()
		select { // room comes with the next batch
		case <-b.done:
		case <-ctx.Done():
			return nil, fmt.Errorf("record %s event: %w", e.Kind, context.Cause(ctx))
		}
	}
}

// refuse says why size more bytes can't be taken now. The caller holds mu.
func (s *Spool) refuse(size int) error {
	switch {
	case s.closed:
		return ErrClosed
	case s.broken != nil && time.Now().Before(s.retry):
		return s.broken
	case s.used+int64(len(s.pending.buf)+size) > s.cfg.MaxBytes:
		return fmt.Errorf("%w: %d of %d bytes hold events that ClickHouse does not have yet; bring it back, or raise audit.spool.max_bytes",
			ErrFull, s.used, s.cfg.MaxBytes)
	}
	return nil
}

// Close makes what was appended durable and ends the spool.
func (s *Spool) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	close(s.wake)
	<-s.finished
	return errors.Join(s.Keep(), s.treeFile.slots.Close(), s.lock.Unlock())
}
