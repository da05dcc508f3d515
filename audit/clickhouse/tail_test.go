package clickhouse

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
)

// Two replicas ship calls that came at any time, some of which settle late:
// who follows sees each once.
func TestTail(t *testing.T) {
	t.Parallel()
	db, _ := database(t)
	ctx := context.Background()
	told := make(map[uuid.UUID]int)
	one, two := ship(t, db, newSpool(t, t.TempDir()), time.Minute), ship(t, db, newSpool(t, t.TempDir()), 300*time.Millisecond)
	before := decided(t)
	one.append(before)
	eventually(t, db, "1", "SELECT toString(count()) FROM calls")

	tail, list, err := db.Tail(ctx, Filter{Connection: "crm"})
	if err != nil || len(list) != 0 {
		t.Fatalf("%v, %v", list, err)
	}
	const n = 60
	want := make(map[uuid.UUID]bool)
	go func() {
		for i := range n {
			d := decided(t)
			// From an hour ago to now, and not in that order.
			d.Decided.Started = time.Now().Add(-time.Duration((i*37)%60) * time.Minute)
			if i%10 == 9 {
				d.Decided.Connection = "other"
			}
			r := one
			if i%2 == 1 {
				r = two
				d.Decided.Expect = append(d.Decided.Expect, "finished") // settles without it
			}
			r.append(d)
			time.Sleep(10 * time.Millisecond)
		}
	}()
	for deadline := time.Now().Add(20 * time.Second); len(told) < n*9/10 && time.Now().Before(deadline); {
		list, err := tail.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for i, c := range list {
			told[c.CallID]++
			if c.Connection != "crm" || i > 0 && c.Time.Before(list[i-1].Time) {
				t.Errorf("told %+v", c)
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	rows, err := db.Calls(ctx, Filter{Connection: "crm", Limit: MaxCalls})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range rows {
		want[c.CallID] = c.CallID != before.CallID
	}
	for id, new := range want {
		if (told[id] == 1) != new || told[id] > 1 {
			t.Errorf("call %s told %d times", id, told[id])
		}
	}
	if len(told) != n*9/10 || len(rows) != n*9/10+1 {
		t.Errorf("%d told of %d rows", len(told), len(rows))
	}
}

// A row that is seen long after it was stamped is told all the same, one that
// was told is not told again by the sweep, and what nobody can see any more is
// forgotten.
func TestTailSweeps(t *testing.T) {
	t.Parallel()
	db, cfg := database(t)
	ctx := context.Background()
	put := func(id uuid.UUID, ago time.Duration) {
		t.Helper()
		err := db.conn.Exec(ctx, fmt.Sprintf("INSERT INTO %s.calls (call_id, time, inserted) SELECT '%s', now64(6), now64(3) - INTERVAL %d SECOND", cfg.Database, id, int(ago.Seconds())))
		if err != nil {
			t.Fatal(err)
		}
	}
	there, late, lost := uuid.New(), uuid.New(), uuid.New()
	put(there, time.Minute)
	tail, list, err := db.Tail(ctx, Filter{Since: time.Now().Add(-time.Hour)})
	if err != nil || len(list) != 1 || list[0].CallID != there {
		t.Fatalf("%v, %v", list, err)
	}
	put(late, tailSlack-20*time.Second)
	put(lost, 2*tailSlack) // by no clock of ours
	if list, err := tail.Next(ctx); err != nil || len(list) != 0 {
		t.Fatalf("before the sweep: %v, %v", list, err)
	}
	tail.swept = tail.swept.Add(-tailSweep)
	if list, err := tail.Next(ctx); err != nil || len(list) != 1 || list[0].CallID != late {
		t.Fatalf("the sweep: %v, %v", list, err)
	}
	for range 3 {
		tail.swept = tail.swept.Add(-tailSweep)
		if list, err := tail.Next(ctx); err != nil || len(list) != 0 {
			t.Fatalf("again: %v, %v", list, err)
		}
	}
	tail.told[lost] = time.Now().Add(-2 * tailSlack)
	tail.swept = tail.swept.Add(-tailSweep)
	if _, err := tail.Next(ctx); err != nil || len(tail.told) != 2 {
		t.Errorf("remembers %v, %v", tail.told, err)
	}
}
