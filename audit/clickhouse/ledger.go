package clickhouse

import (
	"context"
	"fmt"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/google/uuid"

	"github.com/callgate/callgate/call"
)

// SpoolEvents is what the ledger has of one spool.
type SpoolEvents struct {
	Spool string    `ch:"spool" json:"spool"`
	First uint64    `ch:"first" json:"first"` // lowest index
	Last  uint64    `ch:"last" json:"last"`   // highest index
	Count uint64    `ch:"n" json:"count"`     // rows, which is more than indexes where some are doubled
	From  time.Time `ch:"from_time" json:"from"`
	To    time.Time `ch:"to_time" json:"to"`
}

// Spools lists the spools that have events or checkpoints, by id.
func (d *DB) Spools(ctx context.Context) ([]SpoolEvents, error) {
	var list []SpoolEvents
	err := d.conn.Select(d.exact(ctx), &list, `SELECT spool, min(spool_index) AS first, max(spool_index) AS last, count() AS n, min(time) AS from_time, max(time) AS to_time
		FROM events GROUP BY spool
		UNION ALL
		SELECT spool, 0, 0, 0, min(time), max(time) FROM checkpoints WHERE spool NOT IN (SELECT spool FROM events) GROUP BY spool
		ORDER BY spool`)
	if err != nil {
		return nil, fmt.Errorf("list spools: %w", explain(err))
	}
	return list, nil
}

// LedgerEvent is one row of events.
type LedgerEvent struct {
	Spool    string    `ch:"spool"`
	Index    uint64    `ch:"spool_index"`
	Time     time.Time `ch:"time"`
	Kind     string    `ch:"kind"`
	CallID   uuid.UUID `ch:"call_id"`
	Leaf     string    `ch:"leaf"`
	Unjoined bool      `ch:"unjoined"`
	Aside    string    `ch:"aside"`
	Head     string    `ch:"body_head"`
	Tail     string    `ch:"body_tail"`
	Inserted time.Time `ch:"inserted"`
}

var ledgerColumns = columnsOf(LedgerEvent{})

// Ledger gives the events of a spool from an index on to each, in order. Where
// an index is there twice, both come, the one that was inserted first before.
func (d *DB) Ledger(ctx context.Context, spool string, from uint64, each func(*LedgerEvent) error) error {
	return d.ledger(ctx, each, "WHERE spool = ? AND spool_index >= ? ORDER BY spool, spool_index, inserted", spool, from)
}

// Leaves gives the leaf of each event of a spool from one index up to another to
// each, in order.
func (d *DB) Leaves(ctx context.Context, spool string, from, to uint64, each func(index uint64, leaf []byte) error) error {
	return d.ledger(ctx, func(e *LedgerEvent) error { return each(e.Index, []byte(e.Leaf)) },
		"WHERE spool = ? AND spool_index >= ? AND spool_index < ? ORDER BY spool, spool_index, inserted", spool, from, to)
}

// EventsOf gives the events of the calls in ids to each.
func (d *DB) EventsOf(ctx context.Context, ids []uuid.UUID, each func(*LedgerEvent) error) error {
	if len(ids) == 0 {
		return nil
	}
	return d.ledger(ctx, each, "WHERE call_id IN ("+uuids(ids)+") ORDER BY time, spool, spool_index")
}

// Slice is a part of the calls of one day (UTC): those whose id has one
// remainder. Of is 1 for all of them.
type Slice struct {
	Day  time.Time
	Part uint64
	Of   uint64
}

func (s Slice) ids() string {
	if s.Of <= 1 {
		return ""
	}
	return fmt.Sprintf(" AND cityHash64(call_id) %% %d = %d", s.Of, s.Part)
}

// legSlack is how long after a day the legs of its calls are looked for in one
// go, and how far a decision may lie behind its call's beginning.
const legSlack = 2 * time.Hour

// SliceEvents gives the decided, answered and finished events around a slice to
// each, in no order. Some may be of calls of other days.
func (d *DB) SliceEvents(ctx context.Context, s Slice, each func(*LedgerEvent) error) error {
	return d.ledger(ctx, each, "WHERE kind IN ('decided', 'answered', 'finished') AND time >= "+instant(s.Day.Add(-legSlack))+
		" AND time < "+instant(s.Day.Add(24*time.Hour+legSlack))+s.ids())
}

// SliceRows gives the rows of a slice to each, in no order.
func (d *DB) SliceRows(ctx context.Context, s Slice, each func(*Row) error) error {
	rows, err := d.conn.Query(d.bulk(ctx), "SELECT "+columnsOf(Row{})+" FROM calls WHERE time >= "+instant(s.Day)+" AND time < "+instant(s.Day.Add(24*time.Hour))+s.ids())
	if err != nil {
		return fmt.Errorf("read calls: %w", explain(err))
	}
	defer rows.Close()
	for rows.Next() {
		var r Row
		if err := rows.ScanStruct(&r); err != nil {
			return fmt.Errorf("read calls: %w", err)
		}
		if err := each(&r); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read calls: %w", explain(err))
	}
	return nil
}

// Days counts the calls that began on each day (UTC) from one time until
// another: by their rows or, where there are more, by their decided events.
func (d *DB) Days(ctx context.Context, from, until time.Time) (map[time.Time]uint64, error) {
	rows, err := d.conn.Query(d.exact(ctx), `SELECT day, max(n) FROM (
			SELECT toDateTime(toStartOfDay(time), 'UTC') AS day, count() AS n FROM calls WHERE time >= `+instant(from)+` AND time < `+instant(until)+` GROUP BY day
			UNION ALL
			SELECT toDateTime(toStartOfDay(time), 'UTC') AS day, count() AS n FROM events WHERE kind = 'decided' AND time >= `+instant(from)+` AND time < `+instant(until)+` GROUP BY day
		) GROUP BY day ORDER BY day`)
	if err != nil {
		return nil, fmt.Errorf("count calls: %w", explain(err))
	}
	defer rows.Close()
	days := make(map[time.Time]uint64)
	for rows.Next() {
		var day time.Time
		var n uint64
		if err := rows.Scan(&day, &n); err != nil {
			return nil, fmt.Errorf("count calls: %w", err)
		}
		days[day.UTC()] = n
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("count calls: %w", explain(err))
	}
	return days, nil
}

// ApprovalSteps gives the rows of approvals of a spool from one index up to
// another to each, in order, as digests: see [ApprovalDigest].
func (d *DB) ApprovalSteps(ctx context.Context, spool string, from, to uint64, each func(index uint64, digest [16]byte) error) error {
	rows, err := d.conn.Query(d.bulk(ctx), "SELECT "+columnsOf(approvalRow{})+" FROM approvals WHERE spool = ? AND spool_index >= ? AND spool_index < ? ORDER BY spool_index", spool, from, to)
	if err != nil {
		return fmt.Errorf("read approvals: %w", explain(err))
	}
	defer rows.Close()
	for rows.Next() {
		var r approvalRow
		if err := rows.ScanStruct(&r); err != nil {
			return fmt.Errorf("read approvals: %w", err)
		}
		if err := each(r.Index, digest(&r, nil)); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read approvals: %w", explain(err))
	}
	return nil
}

// ApprovalDigest is the digest of the row of approvals that a held or approved
// event becomes.
func ApprovalDigest(e *call.Event, spool string, index uint64) [16]byte {
	return digest(newApprovalRow(e, spool, index), nil)
}

// StoredCheckpoint is one row of checkpoints. Nothing of it but the note is
// signed.
type StoredCheckpoint struct {
	Spool    string    `ch:"spool"`
	Size     uint64    `ch:"size"`
	Time     time.Time `ch:"time"`
	Root     string    `ch:"root"`
	Node     string    `ch:"node"`
	Note     string    `ch:"note"`
	Frontier []string  `ch:"frontier"`
	Prefixes string    `ch:"leaf_prefixes"`
}

// Checkpoints lists the checkpoints of a spool, by size and time.
func (d *DB) Checkpoints(ctx context.Context, spool string) ([]StoredCheckpoint, error) {
	var list []StoredCheckpoint
	err := d.conn.Select(d.exact(ctx), &list, "SELECT DISTINCT "+columnsOf(StoredCheckpoint{})+" FROM checkpoints WHERE spool = ? ORDER BY size, time", spool)
	if err != nil {
		return nil, fmt.Errorf("read checkpoints: %w", explain(err))
	}
	return list, nil
}

// ledger gives the events that a query finds to each.
func (d *DB) ledger(ctx context.Context, each func(*LedgerEvent) error, where string, args ...any) error {
	rows, err := d.conn.Query(d.bulk(ctx), "SELECT "+ledgerColumns+" FROM events "+where, args...)
	if err != nil {
		return fmt.Errorf("read the ledger: %w", explain(err))
	}
	defer rows.Close()
	for rows.Next() {
		var e LedgerEvent
		if err := rows.ScanStruct(&e); err != nil {
			return fmt.Errorf("read the ledger: %w", err)
		}
		if err := each(&e); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read the ledger: %w", explain(err))
	}
	return nil
}

// bulk is the context of a query that reads much: in blocks of bounded size,
// and with the disk where memory does not do.
func (d *DB) bulk(ctx context.Context) context.Context {
	s := ch.Settings{"max_block_size": 2048, "preferred_block_size_bytes": 1 << 20, "max_bytes_before_external_sort": 256 << 20}
	if d.clustered() {
		s["select_sequential_consistency"] = 1
	}
	return ch.Context(ctx, ch.WithSettings(s))
}
