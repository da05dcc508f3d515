package audit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sort"
)

// Status is how a spool stands.
type Status struct {
	ID       string `json:"id"`
	First    uint64 `json:"first"`   // index of the first record kept
	Durable  uint64 `json:"durable"` // index after the last one on disk
	Bytes    int64  `json:"bytes"`
	MaxBytes int64  `json:"max_bytes"`
	Level    int    `json:"level"` // percent of MaxBytes that it has passed: 50, 80, 95; else 0
	Err      error  `json:"-"`     // why it can't be written; nil where it can
}

// Status tells how the spool stands.
func (s *Spool) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Status{
		ID: s.id.String(), First: s.firstLocked(), Durable: s.durable,
		Bytes: s.used, MaxBytes: s.cfg.MaxBytes, Level: s.level, Err: s.broken,
	}
}

// firstLocked is the index of the first record kept. The caller holds mu.
func (s *Spool) firstLocked() uint64 {
	if len(s.sealed) > 0 {
		return s.sealed[0].base
	}
	return s.active.base
}

// Wait returns when the record at index is on disk, or with an error when ctx
// ends or the spool was closed without it.
func (s *Spool) Wait(ctx context.Context, index uint64) error {
	for {
		s.mu.Lock()
		if s.durable > index {
			s.mu.Unlock()
			return nil
		}
		select {
		case <-s.finished:
			s.mu.Unlock()
			return ErrClosed
		default:
		}
		if s.changed == nil {
			s.changed = make(chan struct{})
		}
		changed := s.changed
		s.mu.Unlock()
		select {
		case <-changed:
		case <-s.finished:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Reader reads a spool's durable records in order. It is for one goroutine.
type Reader struct {
	spool *Spool
	next  uint64
	cur   *cursor
}

// NewReader returns a reader whose first record is the one at index from, or
// the first kept if that is later.
func (s *Spool) NewReader(from uint64) *Reader {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &Reader{spool: s, next: max(from, s.firstLocked())}
}

// Next is the index of the record that Read returns next.
func (r *Reader) Next() uint64 { return r.next }

// Read returns the next durable records: at most n, and no more than it takes
// to reach size bytes. None means that there are no more yet. Records that
// can't be read are left out and told of as damage.
func (r *Reader) Read(n, size int) ([]Record, []Damage, error) {
	var records []Record
	var damage []Damage
	var end uint64 // of what is durable and in the cursor's segment
	for len(records) < n && size > 0 {
		if r.next >= end {
			var err error
			if end, err = r.seek(); err != nil || end == 0 {
				return records, damage, err
			}
		}
		at := Place{segment: r.cur.base, offset: r.cur.offset, index: r.next}
		if r.cur.index > r.next {
			damage = append(damage, r.lost(at))
			continue
		}
		h, payload, ok, err := r.cur.next()
		if err != nil {
			return records, damage, err
		}
		if ok {
			at.size = h.size()
			rec, err := record(payload, at)
			switch {
			case err == nil:
				r.next++
				size -= rec.Size()
				records = append(records, rec)
				continue
			case errors.Is(err, ErrFutureLeaf):
				r.cur.offset, r.cur.index = at.offset, at.index
				return records, damage, fmt.Errorf("%s: byte %d: %w", r.cur.path, at.offset, err)
			}
		}
		r.cur.offset = at.offset
		if err := r.resync(r.next+1, end); err != nil {
			return records, damage, err
		}
		damage = append(damage, r.lost(at))
	}
	return records, damage, nil
}

// lost accounts for the records from r.next up to where the cursor stands.
func (r *Reader) lost(at Place) Damage {
	d := Damage{File: r.cur.path, Offset: at.offset, First: r.next, Last: r.cur.index - 1}
	r.next = r.cur.index
	s := r.spool
	s.mu.Lock()
	s.damaged[r.cur.base] = true
	s.mu.Unlock()
	return d
}

// resync moves the cursor behind what is unreadable, to the next whole record
// from first on, or to end.
func (r *Reader) resync(first, end uint64) error {
	r.cur.index = first
	found, err := r.cur.find(func(h header) bool { return h.index < end })
	if err == nil && !found {
		r.cur.offset, r.cur.index = r.cur.limit, end
	}
	return err
}

// seek puts the cursor on the next record, or behind it where it is
// unreadable, and says where the durable part of its segment ends; 0 where
// the record is not durable yet.
func (r *Reader) seek() (end uint64, err error) {
	s := r.spool
	s.mu.Lock()
	end = s.durable
	all := append(s.sealed[:len(s.sealed):len(s.sealed)], s.active)
	s.mu.Unlock()
	if r.next >= end {
		// A segment that was read to its end may be deleted to make room on a
		// full disk, which it would not while it is open here.
		if r.cur != nil && r.cur.base != all[len(all)-1].base {
			err = r.Close()
		}
		return 0, err
	}
	i := sort.Search(len(all), func(i int) bool { return all[i].base > r.next }) - 1
	if i < 0 {
		return 0, fmt.Errorf("read spool %s: record %d was deleted", s.cfg.Dir, r.next)
	}
	if i+1 < len(all) {
		end = min(end, all[i+1].base)
	}
	if r.cur == nil || r.cur.base != all[i].base {
		if err := r.Close(); err != nil {
			return 0, err
		}
		if r.cur, err = openCursor(s.cfg.Dir, s.id, all[i].base); err != nil {
			return 0, err
		}
	}
	r.cur.limit = all[i].size
	for r.cur.index < r.next {
		_, _, ok, err := r.cur.next()
		if err == nil && !ok {
			err = r.resync(r.cur.index+1, end)
		}
		if err != nil {
			return 0, err
		}
	}
	return end, nil
}

// Close lets go of the reader's file.
func (r *Reader) Close() error {
	if r.cur == nil {
		return nil
	}
	err := r.cur.close()
	r.cur = nil
	return err
}

// record copies a payload, whose memory the cursor reuses, into a Record.
func record(payload []byte, at Place) (Record, error) {
	own := append([]byte(nil), payload...)
	r, err := split(own)
	if err != nil {
		return Record{}, fmt.Errorf("record %d: %w", at.index, err)
	}
	r.Index, r.Place = at.index, at
	return r, nil
}

// Fetch reads one record again.
func (s *Spool) Fetch(at Place) (Record, error) {
	c, err := openCursor(s.cfg.Dir, s.id, at.segment)
	if err != nil {
		return Record{}, err
	}
	defer c.close()
	c.limit = at.offset + at.size
	h, payload, ok, err := c.at(at.offset)
	if err != nil {
		return Record{}, err
	}
	if !ok || h.index != at.index {
		return Record{}, fmt.Errorf("%s: record %d is unreadable at byte %d", c.path, at.index, at.offset)
	}
	return record(payload, at)
}

// DeleteBefore removes the segments all of whose records are below index. One
// in which damage was found is kept under another name, for whoever looks
// into it.
func (s *Spool) DeleteBefore(index uint64) error {
	// The tree can't grow again from records that are gone.
	if err := s.Keep(); err != nil {
		return err
	}
	for {
		s.mu.Lock()
		next := s.active.base
		if len(s.sealed) > 1 {
			next = s.sealed[1].base
		}
		if len(s.sealed) == 0 || next > min(index, s.kept) {
			s.mu.Unlock()
			s.account()
			return nil
		}
		old := s.sealed[0]
		damaged := s.damaged[old.base]
		s.mu.Unlock()
		path := segmentPath(s.cfg.Dir, old.base)
		var err error
		if damaged {
			err = os.Rename(path, path+damagedSuffix)
		} else {
			err = os.Remove(path)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("delete shipped events: %w", err)
		}
		s.mu.Lock()
		s.sealed = s.sealed[1:]
		s.used -= old.size
		delete(s.damaged, old.base)
		s.mu.Unlock()
	}
}
