package audit

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What is deleted makes room at once, also where nothing new comes: a file that
// the reader held open would keep a full disk full.
func TestDeletedSegmentsMakeRoom(t *testing.T) {
	t.Parallel()
	d := &faulty{disk: osDisk{}}
	cfg := config(t, t.TempDir())
	cfg.disk = d
	s := open(t, cfg)
	fill(t, s, 0, 20)
	r := s.NewReader(0)
	defer r.Close()
	read := func() int {
		t.Helper()
		records, _, err := r.Read(100, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		return len(records)
	}
	if n := read(); n != 20 {
		t.Fatalf("%d records", n)
	}
	d.fail("write")
	if err := s.Append(context.Background(), decided(t, nil)); err == nil {
		t.Fatal("a full disk took a record")
	}
	if n := read(); n != 0 {
		t.Fatalf("%d records that were not acknowledged", n)
	}
	if err := s.DeleteBefore(20); err != nil {
		t.Fatal(err)
	}
	if list, err := segments(s.Dir()); err != nil || len(list) > 0 && list[0].base < 20 {
		t.Fatalf("%v: %v", err, list)
	}
	open, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range open {
		if file, err := os.Readlink(fd); err == nil && strings.HasPrefix(file, fmt.Sprintf("%s/%020d", s.Dir(), 0)) {
			t.Errorf("%s is still open", file)
		}
	}
}
