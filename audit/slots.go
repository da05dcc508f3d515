package audit

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
)

// Slots keeps a small state in two places of one file, written in turn, so
// that a torn write leaves the one before. The file never grows: what it is
// for must go on when the disk is full. It is for one goroutine at a time.
type Slots struct {
	file *os.File
	size int64 // of one slot
	seq  uint64
}

// SlotHeader is how many bytes of a slot are not the state's.
const SlotHeader = 24

const slotMagic = 0x43475348

// OpenSlots opens the file at path, or makes it, and returns the state that was
// saved there last; nil where there is none. size is that of one slot, in bytes,
// of which SlotHeader are not the state's.
func OpenSlots(path string, size int) (_ *Slots, state []byte, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("open state: %w", err)
	}
	s := &Slots{file: f, size: int64(size)}
	info, err := f.Stat()
	if err == nil && info.Size() < 2*s.size {
		// Written, not only set aside, so that later writes need no room.
		_, err = f.WriteAt(make([]byte, 2*s.size-info.Size()), info.Size())
		if err == nil {
			err = f.Sync()
		}
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("open state %s: %w", path, err), f.Close())
	}
	for slot := range int64(2) {
		buf := make([]byte, s.size)
		if _, err := f.ReadAt(buf, slot*s.size); err != nil && !errors.Is(err, io.EOF) {
			return nil, nil, errors.Join(fmt.Errorf("read state %s: %w", path, err), f.Close())
		}
		seq, found, whole := readSlot(buf)
		if whole && (state == nil || seq > s.seq) {
			s.seq, state = seq, found
		}
	}
	return s, state, nil
}

// readSlot reads one slot; false where it holds no whole state.
func readSlot(buf []byte) (seq uint64, state []byte, ok bool) {
	if len(buf) < SlotHeader || binary.LittleEndian.Uint32(buf) != slotMagic {
		return 0, nil, false
	}
	n := binary.LittleEndian.Uint32(buf[4:])
	if uint64(n) > uint64(len(buf)-SlotHeader) {
		return 0, nil, false
	}
	body := buf[SlotHeader : SlotHeader+n]
	sum := crc32.Update(crc32.ChecksumIEEE(buf[:16]), crc32.IEEETable, body)
	if sum != binary.LittleEndian.Uint32(buf[16:]) {
		return 0, nil, false
	}
	return binary.LittleEndian.Uint64(buf[8:]), body, true
}

// Save returns when state is on disk.
func (s *Slots) Save(state []byte) error {
	if int64(len(state)) > s.size-SlotHeader {
		return fmt.Errorf("write state: %d bytes are too many", len(state))
	}
	buf := make([]byte, SlotHeader, SlotHeader+len(state))
	binary.LittleEndian.PutUint32(buf, slotMagic)
	binary.LittleEndian.PutUint32(buf[4:], uint32(len(state)))
	binary.LittleEndian.PutUint64(buf[8:], s.seq+1)
	binary.LittleEndian.PutUint32(buf[16:], crc32.Update(crc32.ChecksumIEEE(buf[:16]), crc32.IEEETable, state))
	buf = append(buf, state...)
	// A failed write may have spoiled this slot, so the next goes there, too.
	if _, err := s.file.WriteAt(buf, int64((s.seq+1)%2)*s.size); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	if err := s.file.Sync(); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	s.seq++
	return nil
}

// Close lets go of the file.
func (s *Slots) Close() error { return s.file.Close() }
