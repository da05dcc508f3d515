package clickhouse

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// state is what a shipper must know after a kill.
type state struct {
	Spool  string `cbor:"0,keyasint"`
	Events uint64 `cbor:"1,keyasint"` // all below are in the table events
	Low    uint64 `cbor:"2,keyasint"` // all below belong to settled calls

	// What is being sent: the events from Events up to To, and the rows of
	// the calls with these decided events, each index given as its distance
	// from the one before.
	To    uint64   `cbor:"3,keyasint"`
	Calls []uint64 `cbor:"4,keyasint"`

	// Late is until when, by the clock of ClickHouse, unjoined legs were
	// looked at.
	Late time.Time `cbor:"5,keyasint"`
}

// deltas turns ascending indexes into distances, and back.
func deltas(indexes []uint64) []uint64 {
	d := make([]uint64, len(indexes))
	before := uint64(0)
	for i, v := range indexes {
		d[i], before = v-before, v
	}
	return d
}

func sums(d []uint64) []uint64 {
	v := make([]uint64, len(d))
	before := uint64(0)
	for i := range d {
		before += d[i]
		v[i] = before
	}
	return v
}

// stateFile keeps the state in two places of one file, written in turn, so
// that a torn write leaves the one before. The file never grows: shipping must
// go on when the disk is full, since it is what makes room.
type stateFile struct {
	file *os.File
	seq  uint64
	enc  cbor.EncMode
}

const (
	slotSize   = 256 << 10
	slotHeader = 24
	slotMagic  = 0x43475348 // "CGSH"
	// maxSettle bounds the calls of one plan, so that it fits its slot.
	maxSettle = 20_000
)

// openState opens the file at path, or makes it, and returns the last state
// that was saved there. ok is false where there is none.
func openState(path string) (_ *stateFile, st state, ok bool, err error) {
	opts := cbor.CoreDetEncOptions()
	opts.Time = cbor.TimeRFC3339NanoUTC
	enc, err := opts.EncMode()
	if err != nil {
		return nil, st, false, fmt.Errorf("set up CBOR encoding: %w", err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, st, false, fmt.Errorf("open shipping state: %w", err)
	}
	s := &stateFile{file: f, enc: enc}
	info, err := f.Stat()
	if err == nil && info.Size() < 2*slotSize {
		// Written, not only set aside, so that later writes need no room.
		_, err = f.WriteAt(make([]byte, 2*slotSize-info.Size()), info.Size())
		if err == nil {
			err = f.Sync()
		}
	}
	if err != nil {
		return nil, st, false, errors.Join(fmt.Errorf("open shipping state %s: %w", path, err), f.Close())
	}
	for slot := range int64(2) {
		buf := make([]byte, slotSize)
		if _, err := f.ReadAt(buf, slot*slotSize); err != nil && !errors.Is(err, io.EOF) {
			return nil, st, false, errors.Join(fmt.Errorf("read shipping state %s: %w", path, err), f.Close())
		}
		seq, found, whole := readSlot(buf)
		if whole && (!ok || seq > s.seq) {
			s.seq, st, ok = seq, found, true
		}
	}
	return s, st, ok, nil
}

// readSlot reads one slot; false where it holds no whole state.
func readSlot(buf []byte) (seq uint64, st state, ok bool) {
	if len(buf) < slotHeader || binary.LittleEndian.Uint32(buf) != slotMagic {
		return 0, st, false
	}
	n := binary.LittleEndian.Uint32(buf[4:])
	if uint64(n) > uint64(len(buf)-slotHeader) {
		return 0, st, false
	}
	seq = binary.LittleEndian.Uint64(buf[8:])
	body := buf[slotHeader : slotHeader+n]
	sum := crc32.Update(crc32.ChecksumIEEE(buf[:16]), crc32.IEEETable, body)
	if sum != binary.LittleEndian.Uint32(buf[16:]) || cbor.Unmarshal(body, &st) != nil {
		return 0, state{}, false
	}
	return seq, st, true
}

// save returns when st is on disk.
func (s *stateFile) save(st state) error {
	body, err := s.enc.Marshal(st)
	if err != nil {
		return fmt.Errorf("encode shipping state: %w", err)
	}
	if len(body) > slotSize-slotHeader {
		return fmt.Errorf("shipping state of %d bytes is too large", len(body))
	}
	buf := make([]byte, slotHeader, slotHeader+len(body))
	binary.LittleEndian.PutUint32(buf, slotMagic)
	binary.LittleEndian.PutUint32(buf[4:], uint32(len(body)))
	binary.LittleEndian.PutUint64(buf[8:], s.seq+1)
	binary.LittleEndian.PutUint32(buf[16:], crc32.Update(crc32.ChecksumIEEE(buf[:16]), crc32.IEEETable, body))
	buf = append(buf, body...)
	// A failed write may have spoiled this slot, so the next goes there, too.
	if _, err := s.file.WriteAt(buf, int64((s.seq+1)%2)*slotSize); err != nil {
		return fmt.Errorf("write shipping state: %w", err)
	}
	if err := s.file.Sync(); err != nil {
		return fmt.Errorf("write shipping state: %w", err)
	}
	s.seq++
	return nil
}

func (s *stateFile) close() error { return s.file.Close() }
