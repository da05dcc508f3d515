package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
)

const (
	// tailSlack is how long after it was stamped a row may come to be seen:
	// one insert may take that long, and clocks and replicas differ.
	tailSlack = insertTimeout + time.Minute
	// tailOverlap is how far each poll looks back, and tailSweep how often one
	// looks back all of the slack. A row that took long is late by that.
	tailOverlap = 5 * time.Second
	tailSweep   = 15 * time.Second
	// tailMost bounds the calls that are remembered, and so memory.
	tailMost = 1_000_000
)

// ErrTooMany says that more calls arrive than a [Tail] can follow.
var ErrTooMany = errors.New("more calls arrive than can be followed")

// Tail follows calls as their rows arrive, each once. Rows arrive in the order
// in which their calls settle, not in that of the calls, and from several
// replicas at once, so a Tail goes by when rows were inserted and remembers,
// as far back as one could still appear, which it has told. It is for one
// goroutine.
type Tail struct {
	db     *DB
	filter Filter
	polled time.Time // by the clock of ClickHouse, as all times here
	swept  time.Time
	floor  time.Time               // nothing older is asked for again
	told   map[uuid.UUID]time.Time // when their rows were inserted
}

// Tail starts to follow the calls that f wants. With f.Since it returns first
// those that came since, oldest first, at most f.Limit of them.
func (d *DB) Tail(ctx context.Context, f Filter) (*Tail, []Summary, error) {
	// What came late is new to whoever follows, whenever its call was made.
	t := &Tail{db: d, filter: f, told: make(map[uuid.UUID]time.Time)}
	t.filter.Since, t.filter.Until = time.Time{}, time.Time{}
	now, err := d.now(ctx)
	if err != nil {
		return nil, nil, err
	}
	t.polled, t.swept, t.floor = now, now, now.Add(-tailSlack)
	if t.told, err = t.since(ctx, t.floor); err != nil {
		return nil, nil, err
	}
	if f.Since.IsZero() {
		return t, nil, nil
	}
	list, err := d.Calls(ctx, f)
	if err != nil {
		return nil, nil, err
	}
	slices.Reverse(list)
	for _, c := range list {
		t.told[c.CallID] = now
	}
	return t, list, nil
}

// Next returns the calls whose rows have appeared since it was last called. An
// error loses none of them.
func (t *Tail) Next(ctx context.Context) ([]Summary, error) {
	now, err := t.db.now(ctx)
	if err != nil {
		return nil, err
	}
	from := t.polled.Add(-tailOverlap)
	sweep := now.Sub(t.swept) >= tailSweep
	if sweep {
		from = t.swept.Add(-tailSlack)
	}
	if from.Before(t.floor) {
		from = t.floor
	}
	found, err := t.since(ctx, from)
	if err != nil {
		return nil, err
	}
	var fresh []uuid.UUID
	for id := range found {
		if _, told := t.told[id]; !told {
			fresh = append(fresh, id)
		}
	}
	var list []Summary
	for part := range slices.Chunk(fresh, idsPerQuery) {
		var some []Summary
		err := t.db.conn.Select(ctx, &some, "SELECT "+summaryColumns+" FROM calls WHERE inserted >= "+instant(from)+" AND call_id IN ("+uuids(part)+")")
		if err != nil {
			return nil, fmt.Errorf("follow calls: %w", explain(err))
		}
		list = append(list, some...)
	}
	for _, c := range list {
		t.told[c.CallID] = found[c.CallID]
	}
	// A clock that was set back must not make us skip what it stamps now.
	t.polled = now
	if sweep {
		t.swept = now
		if floor := now.Add(-tailSlack); floor.After(t.floor) {
			t.floor = floor
		}
		maps.DeleteFunc(t.told, func(_ uuid.UUID, at time.Time) bool { return at.Before(t.floor) })
	}
	if len(t.told) > tailMost {
		return list, fmt.Errorf("%w: over %d within %s; ask for fewer", ErrTooMany, tailMost, tailSlack)
	}
	slices.SortStableFunc(list, func(a, b Summary) int { return a.Time.Compare(b.Time) })
	return list, nil
}

// since finds the calls whose rows were inserted at or after from.
func (t *Tail) since(ctx context.Context, from time.Time) (map[uuid.UUID]time.Time, error) {
	where, args := t.filter.where()
	rows, err := t.db.conn.Query(ctx, "SELECT call_id, inserted FROM calls WHERE inserted >= "+instant(from)+" AND "+where+fmt.Sprintf(" LIMIT %d", tailMost+1), args...)
	if err != nil {
		return nil, fmt.Errorf("follow calls: %w", explain(err))
	}
	defer rows.Close()
	found := make(map[uuid.UUID]time.Time)
	for rows.Next() {
		var id uuid.UUID
		var at time.Time
		if err := rows.Scan(&id, &at); err != nil {
			return nil, fmt.Errorf("follow calls: %w", err)
		}
		found[id] = at
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("follow calls: %w", explain(err))
	}
	return found, nil
}

// now is the time by the clock of ClickHouse.
func (d *DB) now(ctx context.Context) (time.Time, error) {
	var now time.Time
	if err := d.conn.QueryRow(ctx, "SELECT now64(3, 'UTC')").Scan(&now); err != nil {
		return now, fmt.Errorf("ask for the time: %w", explain(err))
	}
	return now, nil
}

// clock tells the time of ClickHouse from when it was last asked.
type clock struct{ there, here time.Time }

func (c clock) now() time.Time { return clamp(c.there.Add(time.Since(c.here))) }

// setClock asks ClickHouse for its time.
func (s *Shipper) setClock(ctx context.Context) error {
	here := time.Now()
	there, err := s.db.now(ctx)
	if err == nil {
		s.clock = clock{there, here}
	}
	return err
}
