package storetest

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/callgate/callgate/approvals"
)

const rounds, racers = 10, 4

func race(n int, do func(i int)) {
	var wg sync.WaitGroup
	gate := make(chan struct{})
	for i := range n {
		wg.Go(func() { <-gate; do(i) })
	}
	close(gate)
	wg.Wait()
}

// Two uses of one approval: one passes.
func testRaceUse(t *testing.T, open func(*testing.T) approvals.Store) {
	stores := []approvals.Store{open(t), open(t)}
	for r := range rounds {
		h := NewHold(t, fmt.Sprintf("h%d", r), start)
		create(t, stores[0], h)
		if err := decide(t.Context(), stores[0], h.ID, yes("ann", start)); err != nil {
			t.Fatal(err)
		}
		var passed atomic.Int32
		race(racers, func(i int) {
			switch err := use(t.Context(), stores[i%2], h.ID, h.Binding, start); {
			case err == nil:
				passed.Add(1)
			case !errors.Is(err, approvals.ErrUsed):
				t.Errorf("use: %v", err)
			}
		})
		if passed.Load() != 1 {
			t.Fatalf("%d uses of one approval passed", passed.Load())
		}
	}
}

func testRaceDecide(t *testing.T, open func(*testing.T) approvals.Store) {
	stores := []approvals.Store{open(t), open(t)}
	for r := range rounds {
		h := NewHold(t, fmt.Sprintf("h%d", r), start)
		create(t, stores[0], h)
		var won atomic.Int32
		winner := atomic.Pointer[approvals.Verdict]{}
		race(racers, func(i int) {
			v := approvals.Verdict{Approve: i%2 == 0, By: Person(fmt.Sprint(i)), At: start}
			switch err := decide(t.Context(), stores[i/2%2], h.ID, v); {
			case err == nil:
				won.Add(1)
				winner.Store(&v)
			case !errors.Is(err, approvals.ErrDecided):
				t.Errorf("decide: %v", err)
			}
		})
		st, err := stores[1].Status(t.Context(), h.ID)
		if err != nil || won.Load() != 1 || len(st.Verdicts) != 1 || st.Verdicts[0].By != winner.Load().By || (st.State == approvals.Approved) != winner.Load().Approve {
			t.Fatalf("%d decisions won; %+v is what stands: %v", won.Load(), st, err)
		}
	}
}

// Approve against expire against cancel: one of them happens.
func testRaceEnds(t *testing.T, open func(*testing.T) approvals.Store) {
	stores := []approvals.Store{open(t), open(t)}
	for r := range rounds {
		h := NewHold(t, fmt.Sprintf("h%d", r), start)
		create(t, stores[0], h)
		var won atomic.Int32
		var wonAs [4]approvals.State
		race(4, func(i int) {
			ok := false
			switch i {
			case 0:
				err := decide(t.Context(), stores[0], h.ID, yes("ann", start))
				if ok = err == nil; ok {
					wonAs[i] = approvals.Approved
				} else if !errors.Is(err, approvals.ErrExpired) && !errors.Is(err, approvals.ErrCanceled) {
					t.Errorf("decide: %v", err)
				}
			case 1, 2:
				to := []approvals.State{approvals.Expired, approvals.Canceled}[i-1]
				c, err := stores[1].End(t.Context(), h.ID, to, start)
				if err != nil {
					t.Errorf("end: %v", err)
				}
				if ok = len(c.Steps) > 0; ok {
					wonAs[i] = to
				}
			case 3:
				holds, err := stores[0].Expire(t.Context(), h.Expires, 10)
				if err != nil {
					t.Errorf("expire: %v", err)
				}
				if ok = len(holds) > 0; ok {
					wonAs[i] = approvals.Expired
				}
			}
			if ok {
				won.Add(1)
			}
		})
		st, err := stores[1].Status(t.Context(), h.ID)
		if err != nil || won.Load() != 1 || !slices.Contains(wonAs[:], st.State) {
			t.Fatalf("%d ends %q won; %q is what stands: %v", won.Load(), wonAs, st.State, err)
		}
	}
}

// Two sweepers: each hold expires in one of them.
func testRaceExpire(t *testing.T, open func(*testing.T) approvals.Store) {
	stores := []approvals.Store{open(t), open(t)}
	for i := range 20 {
		create(t, stores[0], NewHold(t, fmt.Sprintf("h%02d", i), start))
	}
	var mu sync.Mutex
	count := map[string]int{}
	race(2, func(i int) {
		for {
			holds, err := stores[i].Expire(t.Context(), start.Add(time.Hour), 3)
			if err != nil {
				t.Errorf("expire: %v", err)
			}
			if len(holds) == 0 {
				return
			}
			mu.Lock()
			for _, h := range holds {
				count[h.Hold.ID]++
			}
			mu.Unlock()
		}
	})
	for id, n := range count {
		if n != 1 {
			t.Errorf("%s expired %d times", id, n)
		}
	}
	if len(count) != 20 {
		t.Errorf("%d of 20 expired", len(count))
	}
}

// Many approve at once: each counts once, and just so many as are needed.
func testRaceMany(t *testing.T, open func(*testing.T) approvals.Store) {
	stores := []approvals.Store{open(t), open(t)}
	for r := range rounds {
		h := NewHold(t, fmt.Sprintf("h%d", r), start)
		h.Terms = Terms(3)
		create(t, stores[0], h)
		var took atomic.Int32
		race(8, func(i int) { // four people, twice each
			switch err := decide(t.Context(), stores[i%2], h.ID, yes(fmt.Sprint(i/2), start)); {
			case err == nil:
				took.Add(1)
			case !errors.Is(err, approvals.ErrTwice) && !errors.Is(err, approvals.ErrDecided):
				t.Errorf("decide: %v", err)
			}
		})
		st := state(t, stores[1], h.ID, approvals.Approved)
		by := st.Deciders()
		slices.Sort(by)
		if took.Load() != 3 || len(by) != 3 || len(slices.Compact(by)) != 3 || st.Steps != 4 {
			t.Fatalf("%d were taken, and %+v is what stands", took.Load(), st)
		}
	}
}

// Several callers with the same call at once: one hold is made for them all.
func testRaceAsk(t *testing.T, open func(*testing.T) approvals.Store) {
	stores := []approvals.Store{open(t), open(t)}
	for r := range rounds {
		var made atomic.Int32
		var got [racers]string
		race(racers, func(i int) {
			h := NewHold(t, fmt.Sprintf("h%d-%d", r, i), start)
			h.Binding, h.Owner = [32]byte{byte(r + 1)}, ""
			c, err := stores[i%2].Ask(t.Context(), h)
			if err != nil {
				t.Errorf("ask: %v", err)
			}
			if len(c.Steps) > 0 {
				made.Add(1)
			}
			got[i] = c.Hold.ID
		})
		if made.Load() != 1 || len(slices.Compact(got[:])) != 1 {
			t.Fatalf("%d holds were made: %q", made.Load(), got)
		}
		if h, err := stores[0].Get(t.Context(), got[0]); err != nil || h.Attempts != racers {
			t.Fatalf("%d attempts: %v", h.Attempts, err)
		}
	}
}

// Several workers of one target: each notice goes to one.
func testRaceLease(t *testing.T, open func(*testing.T) approvals.Store) {
	stores := []approvals.Store{open(t), open(t)}
	for i := range 20 {
		create(t, stores[0], NewHold(t, fmt.Sprintf("h%02d", i), start))
	}
	var mu sync.Mutex
	count := map[string]int{}
	race(racers, func(i int) {
		for {
			list, err := stores[i%2].Lease(t.Context(), "hook", start, start.Add(time.Minute), 3)
			if err != nil {
				t.Errorf("lease: %v", err)
			}
			if len(list) == 0 {
				return
			}
			mu.Lock()
			for _, n := range list {
				count[n.Hold]++
			}
			mu.Unlock()
		}
	})
	for id, n := range count {
		if n != 1 {
			t.Errorf("%s was leased %d times", id, n)
		}
	}
	if len(count) != 20 {
		t.Errorf("%d of 20 were leased", len(count))
	}
}
