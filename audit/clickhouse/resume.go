package clickhouse

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"
)

// resume takes up where the process before left off: it reads the events of
// unsettled calls again, and finishes what was being sent.
func (s *Shipper) resume(ctx context.Context) (err error) {
	file, st, ok, err := openState(s.statePath())
	if err != nil {
		return err
	}
	s.file, s.calls, s.newest, s.oldest = file, newUnsettled(), time.Time{}, time.Time{}
	id := s.spool.ID()
	if !ok || st.Spool != id {
		if st, err = s.ask(ctx, id); err != nil {
			return err
		}
	}
	if durable := s.spool.Status().Durable; st.To > durable {
		return fmt.Errorf("the spool %s ends before event %d, but events up to %d were shipped from it: the disk lost acknowledged writes, "+
			"or an old copy was restored; move the directory away and start with a new one", s.spool.Dir(), durable, st.To)
	}
	s.state, s.trimmed = st, st.Low
	s.reader = s.spool.NewReader(st.Low)

	var again items
	for s.reader.Next() < st.To {
		read := s.read(int(min(roundRecords, st.To-s.reader.Next())))
		if read.stop != nil {
			return read.stop
		}
		s.tell(ctx, read.damage)
		for _, en := range read.entries {
			out := &again
			if en.Index < st.Events {
				out = new(items)
			}
			if err := s.take(en, time.Now(), out, true); err != nil {
				return err
			}
		}
	}
	var planned []*pending
	for _, p := range s.calls.order {
		if _, is := slices.BinarySearch(sums(st.Calls), p.index); is {
			planned = append(planned, p)
		}
	}
	for _, p := range planned {
		s.calls.drop(p)
	}
	if err := s.dropSettled(ctx); err != nil {
		return err
	}
	rows, err := s.rows(planned)
	if err != nil {
		return err
	}
	// Rows of the plan may have gone to quarantine, from where another process
	// may be sending them now.
	unlock, err := s.quarantine.lock(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if err := s.send(ctx, again, rows, true); err != nil {
		return err
	}
	return s.file.save(s.state)
}

// ask finds out from ClickHouse what it has of the spool, where no state is on
// disk. The last round may be there in part: some of its events, or calls and
// not the events that tell of them. All that could belong to it is in doubt.
func (s *Shipper) ask(ctx context.Context, id string) (state, error) {
	st := state{Spool: id, Low: s.spool.Status().First}
	err := s.persist(ctx, "look what it has", func(ctx context.Context) (err error) {
		st.Events, st.To, err = s.db.reached(ctx, id, st.Low)
		return err
	})
	return st, err
}

// reached tells up to where a spool's events from low on are there without a
// gap, and from where on no table has anything of it.
func (d *DB) reached(ctx context.Context, spool string, low uint64) (whole, end uint64, err error) {
	whole, end = low, low
	for _, table := range []string{tableEvents, tableCalls, tableApprovals} {
		var n, next uint64
		row := d.conn.QueryRow(d.exact(ctx), "SELECT count(), max(spool_index) + 1 FROM "+table+" WHERE spool = ? AND spool_index >= ?", spool, low)
		if err := row.Scan(&n, &next); err != nil {
			return 0, 0, fmt.Errorf("look what %s has: %w", table, explain(err))
		}
		if n > 0 {
			end = max(end, next)
		}
	}
	if end == low {
		return whole, end, nil
	}
	// The last index of each run without a gap; the first run counts if it
	// begins at low.
	var first, next uint64
	row := d.conn.QueryRow(d.exact(ctx), `SELECT min(spool_index), minIf(spool_index + 1, following != spool_index + 1) FROM (
			SELECT spool_index, leadInFrame(spool_index) OVER (ORDER BY spool_index ROWS BETWEEN CURRENT ROW AND 1 FOLLOWING) AS following
			FROM events WHERE spool = ? AND spool_index >= ?)`, spool, low)
	if err := row.Scan(&first, &next); err != nil {
		return 0, 0, fmt.Errorf("look what events has: %w", explain(err))
	}
	if first == low && next > low {
		whole = next
	}
	return whole, end, nil
}

// dropSettled forgets the calls that have their row.
func (s *Shipper) dropSettled(ctx context.Context) error {
	s.calls.low(0) // forgets what was dropped before
	order := s.calls.order
	if len(order) == 0 {
		return nil
	}
	var present map[uint64]bool
	err := s.persist(ctx, "look what it has", func(ctx context.Context) (err error) {
		present, err = s.present(ctx, tableCalls, "", order[0].index, order[len(order)-1].index)
		return err
	})
	if err != nil {
		return err
	}
	for _, p := range order {
		if present[p.index] || s.quarantine.has(tableCalls, p.index) {
			s.calls.drop(p)
		}
	}
	return nil
}

// insertsInto are the INSERTs by table.
func insertsInto(database string) map[string]string {
	return map[string]string{
		tableEvents:    insertInto(database, tableEvents, eventRow{}),
		tableCalls:     insertInto(database, tableCalls, Row{}),
		tableApprovals: insertInto(database, tableApprovals, approvalRow{}),

		tableCheckpoints: insertInto(database, tableCheckpoints, StoredCheckpoint{}),
	}
}

// insertInto is the INSERT for rows of v's type.
func insertInto(database, table string, v any) string {
	return fmt.Sprintf("INSERT INTO %s.%s (%s)", database, table, columnsOf(v))
}

// columnsOf lists the columns that the tags of v's type name.
func columnsOf(v any) string {
	var columns []string
	for t, i := reflect.TypeOf(v), 0; i < t.NumField(); i++ {
		columns = append(columns, "`"+t.Field(i).Tag.Get("ch")+"`")
	}
	return strings.Join(columns, ", ")
}

func sortItems(list []item) {
	slices.SortFunc(list, func(a, b item) int { return cmp.Compare(a.index, b.index) })
}

func indexes(list []item) []uint64 {
	v := make([]uint64, len(list))
	for i, it := range list {
		v[i] = it.index
	}
	return v
}
