package audit

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

const (
	segmentHeader = 64
	segmentSuffix = ".log"
	damagedSuffix = ".damaged"
	segmentMagic  = "CGSPOOL1"
)

// segment is one file of the log.
type segment struct {
	base uint64 // index of its first record, which also names the file
	size int64  // bytes in use
}

func segmentPath(dir string, base uint64) string {
	return filepath.Join(dir, fmt.Sprintf("%020d%s", base, segmentSuffix))
}

// segments lists the segments in dir by index.
func segments(dir string) ([]segment, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var list []segment
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), segmentSuffix)
		if !ok {
			continue
		}
		base, err := strconv.ParseUint(name, 10, 64)
		if err != nil || len(name) != 20 {
			return nil, fmt.Errorf("%s is no segment of a spool; move it elsewhere", filepath.Join(dir, e.Name()))
		}
		info, err := e.Info()
		if err != nil {
			return nil, err
		}
		list = append(list, segment{base: base, size: info.Size()})
	}
	slices.SortFunc(list, func(a, b segment) int {
		if a.base < b.base {
			return -1
		}
		return 1
	})
	return list, nil
}

// seed is what the checksums of a segment's record headers start from.
func seed(spool uuid.UUID, base uint64) uint32 {
	var b [24]byte
	copy(b[:], spool[:])
	binary.LittleEndian.PutUint64(b[16:], base)
	return crc32.Checksum(b[:], castagnoli)
}

// segmentHead is the header of a segment. It is for people and for telling a
// foreign file; the reader needs only the file's name and the spool's id.
func segmentHead(spool uuid.UUID, base uint64) []byte {
	b := make([]byte, segmentHeader)
	copy(b, segmentMagic)
	binary.LittleEndian.PutUint64(b[8:], base)
	copy(b[16:], spool[:])
	binary.LittleEndian.PutUint32(b[60:], crc32.Checksum(b[:60], castagnoli))
	return b
}

// Damage is a run of records that were acknowledged and can't be read.
type Damage struct {
	File        string
	Offset      int64
	First, Last uint64 // the records' indexes
}

func (d Damage) String() string {
	return fmt.Sprintf("%s: records %d to %d are unreadable from byte %d", d.File, d.First, d.Last, d.Offset)
}

// cursor reads the records of one segment in order.
type cursor struct {
	path   string
	file   *os.File
	base   uint64
	seed   uint32
	limit  int64 // nothing from here on is looked at
	offset int64
	index  uint64 // of the record expected at offset
	buf    []byte // bytes of the file from bufAt on
	bufAt  int64
}

// openCursor opens the segment in dir that starts with record base.
func openCursor(dir string, spool uuid.UUID, base uint64) (*cursor, error) {
	path := segmentPath(dir, base)
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read spool: %w", err)
	}
	return &cursor{path: path, file: f, base: base, seed: seed(spool, base), limit: math.MaxInt64, offset: segmentHeader, index: base}, nil
}

func (c *cursor) close() error { return c.file.Close() }

const readAhead = 1 << 20

// peek returns n bytes at off; fewer at the end.
func (c *cursor) peek(off int64, n int) ([]byte, error) {
	n = int(max(0, min(int64(n), c.limit-off)))
	if off >= c.bufAt && off+int64(n) <= c.bufAt+int64(len(c.buf)) {
		start := off - c.bufAt
		return c.buf[start : start+int64(n)], nil
	}
	want := int(max(0, min(int64(max(n, readAhead)), c.limit-off)))
	if cap(c.buf) < want {
		c.buf = make([]byte, want)
	}
	c.buf = c.buf[:want]
	got, err := c.file.ReadAt(c.buf, off)
	c.buf, c.bufAt = c.buf[:got], off
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read spool: %w", err)
	}
	return c.buf[:min(n, got)], nil
}

// at returns the header and payload of the record at off; ok is false where
// there is no whole record. The payload is valid until the next read.
func (c *cursor) at(off int64) (h header, payload []byte, ok bool, err error) {
	b, err := c.peek(off, headerSize)
	if err != nil || len(b) < headerSize {
		return h, nil, false, err
	}
	if h, ok = parseHeader(b, c.seed); !ok || h.index < c.base {
		return h, nil, false, nil
	}
	b, err = c.peek(off+headerSize, int(h.length))
	if err != nil || len(b) < int(h.length) || crc32.Checksum(b, castagnoli) != h.crc {
		return h, nil, false, err
	}
	return h, b, true, nil
}

// next returns the record expected at the cursor and moves past it.
func (c *cursor) next() (header, []byte, bool, error) {
	h, payload, ok, err := c.at(c.offset)
	if err != nil || !ok || h.index != c.index {
		return h, nil, false, err
	}
	c.offset += h.size()
	c.index++
	return h, payload, true, nil
}

// find looks behind the cursor for the next whole record that accept takes,
// and moves there.
func (c *cursor) find(accept func(header) bool) (bool, error) {
	for off := c.offset + alignment; ; off += alignment {
		b, err := c.peek(off, alignment)
		if err != nil || len(b) < alignment {
			return false, err
		}
		if binary.LittleEndian.Uint64(b) == 0 {
			continue // unused space; no record is empty
		}
		h, _, ok, err := c.at(off)
		if err != nil {
			return false, err
		}
		if ok && h.index >= c.index && accept(h) {
			c.offset, c.index = off, h.index
			return true, nil
		}
	}
}
