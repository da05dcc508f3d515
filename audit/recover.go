package audit

import (
	"fmt"
	"io"
	"os"

	"github.com/google/uuid"
)

// recovered is what was found in the last segment of a spool.
type recovered struct {
	end    uint64 // index after the last record
	size   int64  // bytes up to there
	torn   int64  // bytes behind it that belong to a write that never finished
	damage []Damage
}

// recoverLast finds the end of a log. The last write of a process that was
// killed, or of a machine that lost power, may be there in part, in any part.
// Nobody was told that it had succeeded, and so it is dropped. A record that
// is unreadable in front of a later batch, though, had been acknowledged,
// since a batch is written only when the one before it is on disk: that is
// damage, and the records behind it are kept.
func recoverLast(dir string, spool uuid.UUID, base uint64) (r recovered, err error) {
	c, err := openCursor(dir, spool, base)
	if err != nil {
		return r, err
	}
	defer c.close()
	for {
		_, _, ok, err := c.next()
		if err != nil {
			return r, err
		}
		if ok {
			continue
		}
		r.end, r.size = c.index, c.offset
		// A whole record from a later batch proves that the unreadable
		// ones in front of it had been acknowledged.
		later := func(h header) bool { return h.index-uint64(h.nth) > r.end }
		found, err := c.find(later)
		if err != nil {
			return r, err
		}
		if !found {
			r.torn, err = used(c.file, r.size)
			return r, err
		}
		// Whole records of the lost one's own batch may stand in between.
		c.offset, c.index = r.size, r.end
		if _, err := c.find(func(header) bool { return true }); err != nil {
			return r, err
		}
		r.damage = append(r.damage, Damage{File: c.path, Offset: r.size, First: r.end, Last: c.index - 1})
	}
}

// used is how many bytes behind offset lie up to the last that is not zero.
func used(f *os.File, offset int64) (int64, error) {
	buf := make([]byte, readAhead)
	last := offset
	for off := offset; ; {
		n, err := f.ReadAt(buf, off)
		for i := n - 1; i >= 0; i-- {
			if buf[i] != 0 {
				last = off + int64(i) + 1
				break
			}
		}
		off += int64(n)
		switch {
		case err == io.EOF:
			return last - offset, nil
		case err != nil:
			return 0, fmt.Errorf("read spool: %w", err)
		}
	}
}

// settle makes the recovered part of a segment durable and cuts off the rest.
//
// What was read may exist only in the page cache: the process may have died
// between write and sync, or its sync may have failed, after which Linux
// calls the pages clean though they never reached the disk
// (https://wiki.postgresql.org/wiki/Fsync_Errors). Writing the same bytes
// again makes the pages dirty, so that this sync means something.
func settle(d disk, path string, size int64) error {
	f, err := d.open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	buf := make([]byte, readAhead)
	for off := int64(0); off < size; {
		n, err := in.ReadAt(buf[:min(int64(len(buf)), size-off)], off)
		if n == 0 && err != nil {
			return err
		}
		if _, err := f.WriteAt(buf[:n], off); err != nil {
			return err
		}
		off += int64(n)
	}
	if err := f.Truncate(size); err != nil {
		return err
	}
	return f.Sync()
}
