package audit

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/callgate/callgate/call"
)

// Record is one entry of a spool.
type Record struct {
	Index uint64 // its place in the spool's log, from 0, without gaps
	Leaf  []byte
	Aside []byte // content that the leaf commits to, encoded
	Head  []byte // of the recorded body, which the leaf commits to
	Tail  []byte // its end, where the middle was not kept
	Place Place  // where it lies, to read it again
}

// Event is the record's event, with its content.
func (r Record) Event(c *Codec) (call.Event, error) { return r.event(c, c.Decode) }

// Own is Event for a record that comes from one's own spool: its checksum tells
// that it is as this program wrote it, so it is not checked once more that its
// leaf is the only one that the event could have.
func (r Record) Own(c *Codec) (call.Event, error) { return r.event(c, c.read) }

func (r Record) event(c *Codec, decode func([]byte) (call.Event, error)) (call.Event, error) {
	e, err := decode(r.Leaf)
	if err != nil {
		return e, fmt.Errorf("record %d: %w", r.Index, err)
	}
	if err := c.DecodeContent(&e, r.Aside); err != nil {
		return e, fmt.Errorf("record %d: %w", r.Index, err)
	}
	if b := bodyOf(&e); b != nil {
		b.Head, b.Tail = r.Head, r.Tail
	}
	return e, nil
}

// Size is about how many bytes of memory the record's content takes.
func (r Record) Size() int { return len(r.Leaf) + len(r.Aside) + len(r.Head) + len(r.Tail) }

// Place is where a record lies in its spool.
type Place struct {
	segment uint64 // the index of the segment's first record
	offset  int64
	size    int64
	index   uint64
}

const (
	headerSize = 24
	alignment  = 8
	// maxRecord bounds one record, so that a damaged length can't ask for
	// any amount of memory.
	maxRecord     = 256 << 20
	recordVersion = 2
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// padded is n rounded up to the alignment of records.
func padded(n int) int { return (n + alignment - 1) &^ (alignment - 1) }

// preamble is what stands before the leaf in a payload: the payload's version
// and how long leaf, aside and head are; the rest is the tail.
func preamble(buf []byte, leaf, aside, head int) []byte {
	buf = append(buf, recordVersion)
	for _, n := range [...]int{leaf, aside, head} {
		buf = binary.AppendUvarint(buf, uint64(n))
	}
	return buf
}

// split takes a payload apart. The parts share its memory.
func split(p []byte) (r Record, err error) {
	if len(p) == 0 {
		return r, errors.New("empty record")
	}
	switch {
	case p[0] > recordVersion:
		return r, fmt.Errorf("record version %d: %w", p[0], ErrFutureLeaf)
	case p[0] < recordVersion:
		return r, fmt.Errorf("record version %d is from before the first release", p[0])
	}
	p = p[1:]
	var sizes [3]uint64
	for i := range sizes {
		v, n := binary.Uvarint(p)
		if n <= 0 {
			return r, errors.New("record with a malformed length")
		}
		sizes[i], p = v, p[n:]
	}
	parts := [3]*[]byte{&r.Leaf, &r.Aside, &r.Head}
	for i, n := range sizes {
		if n > uint64(len(p)) {
			return r, errors.New("record with parts longer than itself")
		}
		*parts[i], p = p[:n:n], p[n:]
	}
	r.Tail = p
	return r, nil
}

// header is what stands before a payload on disk.
type header struct {
	length uint32
	crc    uint32 // of the payload
	index  uint64
	nth    uint32 // in its batch
}

// put writes h into buf, which holds headerSize bytes.
func (h header) put(buf []byte, seed uint32) {
	binary.LittleEndian.PutUint32(buf, h.length)
	binary.LittleEndian.PutUint32(buf[4:], h.crc)
	binary.LittleEndian.PutUint64(buf[8:], h.index)
	binary.LittleEndian.PutUint32(buf[16:], h.nth)
	binary.LittleEndian.PutUint32(buf[20:], crc32.Update(seed, castagnoli, buf[:20]))
}

// parseHeader reads what put wrote; false where it is not that.
func parseHeader(buf []byte, seed uint32) (header, bool) {
	h := header{
		length: binary.LittleEndian.Uint32(buf),
		crc:    binary.LittleEndian.Uint32(buf[4:]),
		index:  binary.LittleEndian.Uint64(buf[8:]),
		nth:    binary.LittleEndian.Uint32(buf[16:]),
	}
	ok := h.length > 0 && h.length <= maxRecord && uint64(h.nth) <= h.index &&
		crc32.Update(seed, castagnoli, buf[:20]) == binary.LittleEndian.Uint32(buf[20:])
	return h, ok
}

// size is what the whole record takes on disk.
func (h header) size() int64 { return int64(padded(headerSize + int(h.length))) }
