package clickhouse

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/callgate/callgate/audit"
)

func TestStateFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ship.state")
	f, _, ok, err := openState(path)
	if err != nil || ok {
		t.Fatalf("fresh: %v, %v", ok, err)
	}
	many := make([]uint64, maxSettle)
	for i := range many {
		many[i] = 1<<60 + uint64(i)*1000
	}
	for i := range uint64(5) {
		if err := f.save(state{Spool: "s", Events: i, Calls: deltas(many), Late: time.Now()}); err != nil {
			t.Fatal(err)
		}
	}
	f.close()
	size := func() int64 {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	if size() != 2*slotSize {
		t.Errorf("the file has %d bytes", size())
	}
	read := func() (state, bool) {
		f, st, ok, err := openState(path)
		if err != nil {
			t.Fatal(err)
		}
		f.close()
		return st, ok
	}
	if st, ok := read(); !ok || st.Events != 4 || fmt.Sprint(sums(st.Calls)) != fmt.Sprint(many) {
		t.Errorf("read back %d, %v", st.Events, ok)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[slotSize+audit.SlotHeader+3] ^= 1 // the last save, the fifth, was torn
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if st, ok := read(); !ok || st.Events != 3 {
		t.Errorf("after a torn write: %d, %v", st.Events, ok)
	}
	f, _, _, err = openState(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.save(state{Spool: "s", Events: 9}); err != nil {
		t.Fatal(err)
	}
	f.close()
	if st, _ := read(); st.Events != 9 {
		t.Errorf("after the next: %d", st.Events)
	}
}
