package audit

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// write makes batches durable, one after the other, until the spool closes.
// While one is being synced the next one fills.
func (s *Spool) write() {
	defer close(s.finished)
	for range s.wake {
		for s.writeNext() {
		}
		s.roll()
	}
	for s.writeNext() {
	}
	if err := s.seal(); err != nil {
		s.cfg.Log.Warn("spool: could not trim its last segment", "error", err)
	}
	s.mu.Lock()
	s.announce()
	s.mu.Unlock()
}

// writeNext writes what is pending; false where that is nothing.
func (s *Spool) writeNext() bool {
	s.mu.Lock()
	b := s.pending
	if b.records == 0 {
		s.mu.Unlock()
		return false
	}
	s.pending = newBatch(s.spare)
	s.spare = nil
	s.mu.Unlock()

	started := time.Now()
	err := s.commit(b)

	s.mu.Lock()
	if err == nil {
		s.durable += uint64(b.records)
		for _, leaf := range b.leaves {
			s.grow(leaf)
		}
		s.active.size += int64(len(b.buf))
		s.used += int64(len(b.buf))
		if s.broken != nil {
			s.broken = nil
			s.cfg.Log.Info("spool can be written again", "dir", s.cfg.Dir)
		}
		s.announce()
	} else {
		if s.broken == nil {
			s.cfg.Log.Error("spool can't be written; calls are denied until it can", "dir", s.cfg.Dir, "error", err)
		}
		s.broken, s.retry = err, time.Now().Add(s.cfg.wait)
	}
	if cap(b.buf) <= keepBatch {
		s.spare = b.buf
	}
	s.mu.Unlock()

	if err == nil {
		s.cfg.Metrics.commit.Observe(time.Since(started).Seconds())
		s.cfg.Metrics.batch.Observe(float64(b.records))
		s.cfg.Metrics.appended.Add(float64(b.records))
	}
	s.account()
	b.buf, b.err = nil, err
	close(b.done)
	return true
}

// keepBatch is the largest buffer kept for the next batch; one that a burst
// of large bodies made is let go.
const keepBatch = 4 << 20

// announce wakes those who wait for more. The caller holds mu.
func (s *Spool) announce() {
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}

// commit writes b behind the last durable record and syncs it.
//
// After a failure the file is never used again: what a failed sync leaves in
// the page cache may look written without being on disk. The next attempt
// starts a fresh segment at the first index that is not durable, and by that
// index the reader knows to ignore what the old file has behind it.
func (s *Spool) commit(b *batch) error {
	s.mu.Lock()
	active, next := s.active, s.durable
	s.mu.Unlock()
	if s.file != nil && active.size > segmentHeader && active.size+int64(len(b.buf)) > s.cfg.SegmentBytes {
		if err := s.seal(); err != nil {
			return err
		}
	}
	if s.file == nil {
		if err := s.startSegment(next); err != nil {
			return fmt.Errorf("start a segment: %w", err)
		}
		s.mu.Lock()
		active = s.active
		s.mu.Unlock()
	}
	s.number(b, next)
	_, err := s.file.WriteAt(b.buf, active.size)
	if err == nil {
		err = s.file.Sync()
	}
	if err != nil {
		return errors.Join(err, s.abandon())
	}
	return nil
}

// number completes the headers of b's records, the first of which gets index
// next.
func (s *Spool) number(b *batch, next uint64) {
	for nth, at := 0, 0; at < len(b.buf); nth++ {
		h := header{
			length: binary.LittleEndian.Uint32(b.buf[at:]),
			crc:    binary.LittleEndian.Uint32(b.buf[at+4:]),
			index:  next + uint64(nth),
			nth:    uint32(nth),
		}
		h.put(b.buf[at:at+headerSize], s.seed)
		at += int(h.size())
	}
}

// seal closes the active segment, cut to the size it has.
func (s *Spool) seal() error {
	if s.file == nil {
		return nil
	}
	s.mu.Lock()
	active := s.active
	s.mu.Unlock()
	err := s.file.Truncate(active.size)
	if err == nil {
		err = s.file.Sync()
	}
	if err != nil {
		return errors.Join(fmt.Errorf("end a segment: %w", err), s.abandon())
	}
	return s.retire()
}

// Roll ends the segment that is written to, full or not, so that it can be
// deleted once ClickHouse has what it holds. It returns before that is done.
func (s *Spool) Roll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.rolling = true
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *Spool) roll() {
	s.mu.Lock()
	next := s.durable
	do := s.rolling && s.active.base < next
	s.rolling = false
	s.mu.Unlock()
	if !do || s.file == nil {
		return
	}
	err := s.seal()
	if err == nil {
		// At once: a spool without any segment would be another log to the
		// next start.
		err = s.startSegment(next)
	}
	if err != nil {
		s.cfg.Log.Warn("spool: could not begin a new segment; the next record tries again", "error", err)
	}
}

// abandon gives up the active segment behind its last durable record. It
// tries to cut off the rest, which was not acknowledged; the disk may refuse.
func (s *Spool) abandon() error {
	s.mu.Lock()
	size := s.active.size
	s.mu.Unlock()
	if err := s.file.Truncate(size); err != nil {
		s.cfg.Log.Warn("spool: an unfinished write stays in its file", "error", err)
	}
	return s.retire()
}

// retire closes the active segment's file and counts it as sealed.
func (s *Spool) retire() error {
	s.mu.Lock()
	// One without records makes place for the next, which gets its name.
	if s.active.base < s.durable {
		s.sealed = append(s.sealed, s.active)
	} else {
		s.used -= s.active.size
	}
	s.active = segment{base: s.durable}
	s.mu.Unlock()
	err := s.file.Close()
	s.file = nil
	return err
}

// alertLevels are the percents of max_bytes at which the log warns, and
// alertSlack how many the spool must fall below one until it counts as left:
// a spool that is as full as that comes and goes with each batch.
var alertLevels = [...]int{50, 80, 95}

const alertSlack = 2

// levelOf is the highest of alertLevels that used bytes of limit have reached,
// where it was before; 0 is none.
func levelOf(used, limit int64, before int) int {
	level := 0
	for _, percent := range alertLevels {
		reached := int64(percent)
		if percent <= before {
			reached -= alertSlack
		}
		if float64(used)*100 >= float64(limit)*float64(reached) {
			level = percent
		}
	}
	return level
}

// account tells metrics and log how full the spool is.
func (s *Spool) account() {
	s.mu.Lock()
	used, first, durable, before := s.used, s.firstLocked(), s.durable, s.level
	level := levelOf(used, s.cfg.MaxBytes, before)
	s.level = level
	s.mu.Unlock()
	m := s.cfg.Metrics
	m.bytes.Set(float64(used))
	m.limit.Set(float64(s.cfg.MaxBytes))
	m.records.Set(float64(durable - first))
	m.level.Set(float64(level))
	switch {
	case level > before:
		s.cfg.Log.Warn("spool is filling; at max_bytes calls are denied. Is ClickHouse away or too slow?",
			"percent", level, "bytes", used, "max_bytes", s.cfg.MaxBytes)
	case level < before:
		s.cfg.Log.Info("spool is emptying", "below_percent", before, "bytes", used, "max_bytes", s.cfg.MaxBytes)
	}
}
