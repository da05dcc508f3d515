package clickhouse

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/callgate/callgate/audit"
	"github.com/callgate/callgate/call"
)

func never(*pending) bool { return false }

// The calls that wait are bounded: beyond that the oldest get their row with
// what is there.
func TestUnsettledAreBounded(t *testing.T) {
	t.Parallel()
	u := newUnsettled()
	now := time.Now()
	for i := range maxPending + 10 {
		e := &call.Event{Kind: call.Decided, CallID: uuid.UUID{byte(i), byte(i >> 8), byte(i >> 16), 1}, Time: now,
			Decided: &call.DecidedEvent{Expect: []call.EventKind{call.Finished}}}
		u.decide(e, audit.Record{Index: uint64(i)}, now)
	}
	if u.retained > retainBytes {
		t.Errorf("%d bytes kept in memory", u.retained)
	}
	list, more := u.due(maxSettle, roundBytes, never)
	if len(list) != 10 || list[0].index != 0 || list[9].index != 9 || more {
		t.Errorf("%d settle early, more: %v", len(list), more)
	}
	if low := u.low(1 << 30); low != 10 {
		t.Errorf("low is %d", low)
	}
	list, more = u.due(maxSettle, roundBytes, func(*pending) bool { return true })
	if len(list) != maxSettle || !more {
		t.Errorf("%d settle at once, more: %v", len(list), more)
	}
	if list, more = u.due(maxSettle, 1, func(*pending) bool { return true }); len(list) != 1 || !more {
		t.Errorf("%d settle within one byte", len(list))
	}
	for more {
		_, more = u.due(maxSettle, 1<<40, func(*pending) bool { return true })
	}
	if low := u.low(77); low != 77 || u.retained != 0 || len(u.byID) != 0 {
		t.Errorf("emptied: low %d, %d bytes, %d calls", low, u.retained, len(u.byID))
	}
}

// An event that memory has no room for is read again for its row.
func TestRowFromDisk(t *testing.T) {
	t.Parallel()
	spool := newSpool(t, t.TempDir())
	db := openDB(t, Config{URL: "http://127.0.0.1:1"})
	s := NewShipper(ShipperConfig{Spool: spool, DB: db})
	d := decided(t, call.Answered, call.Finished)
	for _, e := range []call.Event{d, answered(d, "x"), finished(d)} {
		if err := spool.Append(context.Background(), e); err != nil {
			t.Fatal(err)
		}
	}
	s.reader = spool.NewReader(0)
	defer s.reader.Close()
	read := s.read(10)
	if read.stop != nil {
		t.Fatal(read.stop)
	}
	for _, en := range read.entries {
		if err := s.take(en, time.Now(), new(items), false); err != nil {
			t.Fatal(err)
		}
	}
	list, _ := s.calls.due(1, roundBytes, never)
	inMemory, err := s.rows(list)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range []*leg{list[0].decided, list[0].answered, list[0].finished} {
		l.event = nil
	}
	fromDisk, err := s.rows(list)
	if err != nil {
		t.Fatal(err)
	}
	if a, b := asJSON(t, inMemory[0].row), asJSON(t, fromDisk[0].row); a != b {
		t.Errorf("%s\nand from disk\n%s", a, b)
	}
}

func TestDecidedTwiceIsOneRow(t *testing.T) {
	t.Parallel()
	db, _ := database(t)
	spool := newSpool(t, t.TempDir())
	d := decided(t, call.Finished)
	for _, e := range []call.Event{d, d, finished(d)} {
		if err := spool.Append(context.Background(), e); err != nil {
			t.Fatal(err)
		}
	}
	ship(t, db, spool, time.Minute)
	eventually(t, db, "1 3", "SELECT concat(toString(count()), ' ', (SELECT toString(count()) FROM events)) FROM calls")
}
