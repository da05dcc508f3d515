package audit

import (
	"os"
	"path/filepath"
	"testing"
)

func FuzzReadSlot(f *testing.F) {
	path := filepath.Join(f.TempDir(), "s")
	slots, _, err := OpenSlots(path, 64)
	if err != nil {
		f.Fatal(err)
	}
	if err := slots.Save([]byte("state")); err != nil {
		f.Fatal(err)
	}
	slots.Close()
	data, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data[64:])
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, state, ok := readSlot(b); ok && len(state) > len(b) {
			t.Error("a state longer than its slot")
		}
	})
}
