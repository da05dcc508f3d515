package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/callgate/callgate/approvals/storetest"
)

// A session that began at one replica is known to the other, and after a restart;
// what can't be told is no.
func TestSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := storetest.NewMemory()
		ctx, stop := context.WithCancel(t.Context())
		defer synctest.Wait()
		defer stop()
		replica := func() *sessions {
			s, err := newSessions(store, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			go func() { _ = s.run(ctx) }()
			return s
		}
		one, other := replica(), replica()
		is := func(s *sessions, connection, id string, want bool) {
			t.Helper()
			if s.Elicits(ctx, connection, id) != want {
				t.Errorf("%s %q: not %t", connection, id, want)
			}
		}
		one.Note("tools", "s1")
		is(one, "tools", "s1", true)
		synctest.Wait()
		is(other, "tools", "s1", true)
		is(other, "others", "s1", false)
		is(other, "tool", "ss1", false)
		is(other, "tools", "", false)
		is(replica(), "tools", "s1", true)

		// Many at once: all are known where they began, and the store is not flooded.
		for i := range 10 * mostFresh {
			one.Note("tools", fmt.Sprint("many", i))
		}
		is(one, "tools", "many2559", true)
		time.Sleep(time.Minute)
		is(other, "tools", "many0", true)
		is(other, "tools", "many2559", false)

		// With the store away it is no, unless it is known here already.
		store.Fail(errors.New("away"))
		is(other, "tools", "s1", true)
		is(replica(), "tools", "s1", false)
		one.Note("tools", "s2")
		is(one, "tools", "s2", true)
		time.Sleep(time.Second)
		store.Fail(nil)
		is(other, "tools", "s2", false)

		// It is forgotten in time.
		time.Sleep(sessionTime)
		is(replica(), "tools", "s1", false)
	})
}
