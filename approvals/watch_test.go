package approvals_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/callgate/callgate/approvals"
	"github.com/callgate/callgate/approvals/storetest"
)

// interrupted has something happen right before it is read for the second time.
type interrupted struct {
	approvals.Store
	reads     int
	interrupt func()
}

func (s *interrupted) read() {
	if s.reads++; s.reads == 2 {
		s.interrupt()
	}
}

func (s *interrupted) Changes(ctx context.Context, after int64) ([]string, int64, error) {
	s.read()
	return s.Store.Changes(ctx, after)
}

func (s *interrupted) List(ctx context.Context, f approvals.Filter) ([]approvals.Hold, error) {
	s.read()
	return s.Store.List(ctx, f)
}

// Who begins to watch is told of what is asked for in that very moment.
func TestWatchMissesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &interrupted{Store: storetest.NewMemory()}
		d := newDesk(store)
		ctx, cancel := context.WithCancel(t.Context())
		var asked []string
		ask := func() {
			go d.Hold(ctx, refund(t), leads)
			asked = append(asked, (<-d.asked).ID)
		}
		ask()
		store.interrupt = ask
		told := map[string]int{}
		open, follow, err := d.Watch(ctx, ann, 10)
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range open {
			told[h.ID]++
		}
		if len(asked) != 2 {
			t.Fatalf("%d were asked for", len(asked))
		}
		ask()
		enough := errors.New("enough")
		err = follow(ctx, func(h approvals.Hold) error {
			if told[h.ID]++; h.ID == asked[2] {
				return enough
			}
			return nil
		})
		if !errors.Is(err, enough) {
			t.Error(err)
		}
		for i, id := range asked {
			if told[id] == 0 {
				t.Errorf("number %d was not told of", i)
			}
		}
		cancel()
		synctest.Wait()
	})
}
