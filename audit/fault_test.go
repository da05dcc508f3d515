package audit

import (
	"os"
	"sync/atomic"
	"syscall"
)

// faulty is a disk that fails when told to. A write that fails leaves half of
// its bytes, and a sync that fails leaves them all in the page cache.
type faulty struct {
	disk
	fault   atomic.Value // string: which operation fails
	syncs   atomic.Int64
	holding atomic.Bool
	hold    chan struct{} // syncs wait for this while holding
}

func (d *faulty) fail(operation string) { d.fault.Store(operation) }

func (d *faulty) check(operation string) error {
	if f, _ := d.fault.Load().(string); f == operation {
		return &os.PathError{Op: operation, Path: "spool", Err: syscall.ENOSPC}
	}
	return nil
}

func (d *faulty) create(path string, size int64) (file, error) {
	if err := d.check("create"); err != nil {
		return nil, err
	}
	f, err := d.disk.create(path, size)
	if err != nil {
		return nil, err
	}
	return &faultyFile{f, d}, nil
}

func (d *faulty) syncDir(dir string) error {
	if err := d.check("syncdir"); err != nil {
		return err
	}
	return d.disk.syncDir(dir)
}

type faultyFile struct {
	file
	d *faulty
}

func (f *faultyFile) WriteAt(b []byte, off int64) (int, error) {
	if err := f.d.check("write"); err != nil {
		n, _ := f.file.WriteAt(b[:len(b)/2], off)
		return n, err
	}
	return f.file.WriteAt(b, off)
}

// Truncate fails with the rest, so that unacknowledged bytes stay behind.
func (f *faultyFile) Truncate(size int64) error {
	for _, operation := range []string{"write", "sync"} {
		if err := f.d.check(operation); err != nil {
			return err
		}
	}
	return f.file.Truncate(size)
}

func (f *faultyFile) Sync() error {
	f.d.syncs.Add(1)
	if f.d.holding.Load() {
		<-f.d.hold
	}
	if err := f.d.check("sync"); err != nil {
		return err
	}
	return f.file.Sync()
}
