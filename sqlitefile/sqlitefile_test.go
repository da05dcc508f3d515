package sqlitefile

import (
	"context"
	"database/sql"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
)

// Whoever waits to write has its turn in the order of coming.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, err := Open(t.Context(), filepath.Join(t.TempDir(), "a.db"), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		const writers = 20
		var order, want []int
		free := make(chan struct{})
		var all sync.WaitGroup
		write := func(n int, do func()) {
			all.Go(func() {
				if err := db.Within(context.Background(), func(*sql.Tx) error { do(); order = append(order, n); return nil }); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		write(0, func() { <-free })
		for n := 1; n <= writers; n++ {
			write(n, func() {})
		}
		gone, leave := context.WithCancel(t.Context())
		leave()
		if err := db.Within(gone, func(*sql.Tx) error { t.Error("ran"); return nil }); err == nil {
			t.Error("who went away had a turn")
		}
		close(free)
		all.Wait()
		for n := range writers + 1 {
			want = append(want, n)
		}
		if !slices.Equal(order, want) {
			t.Errorf("in order %v", order)
		}
	})
}
