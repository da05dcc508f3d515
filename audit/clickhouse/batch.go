package clickhouse

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/cenkalti/backoff/v5"
	"github.com/google/uuid"

	"github.com/callgate/callgate/audit"
	"github.com/callgate/callgate/call"
)

// The tables that the shipper fills.
const (
	tableEvents    = "events"
	tableCalls     = "calls"
	tableApprovals = "approvals"
)

// eventRow is one row of events.
type eventRow struct {
	Spool    string    `ch:"spool"`
	Index    uint64    `ch:"spool_index"`
	Time     time.Time `ch:"time"`
	Kind     string    `ch:"kind"`
	CallID   uuid.UUID `ch:"call_id"`
	Leaf     []byte    `ch:"leaf"`
	Unjoined bool      `ch:"unjoined"`
	Aside    []byte    `ch:"aside"`
	Head     []byte    `ch:"body_head"`
	Tail     []byte    `ch:"body_tail"`
	Until    time.Time `ch:"bodies_until"`
}

// keep puts the content of a record beside its leaf.
func (r *eventRow) keep(rec audit.Record, retain call.Retain) {
	r.Aside, r.Head, r.Tail, r.Until = rec.Aside, rec.Head, rec.Tail, until(retain.Bodies)
}

// approvalRow is one row of approvals.
type approvalRow struct {
	Time       time.Time  `ch:"time"`
	ApprovalID string     `ch:"approval_id"`
	CallID     uuid.UUID  `ch:"call_id"`
	Number     uint32     `ch:"number"`
	Step       string     `ch:"step"`
	By         string     `ch:"by"`
	InPlaceOf  string     `ch:"in_place_of"`
	Stage      uint32     `ch:"stage"`
	Stages     uint32     `ch:"stages"`
	State      string     `ch:"state"`
	Comment    string     `ch:"comment"`
	Rule       string     `ch:"rule"`
	Connection string     `ch:"connection"`
	Function   string     `ch:"function"`
	Expires    *time.Time `ch:"expires"`
	Binding    string     `ch:"binding"`
	Spool      string     `ch:"spool"`
	Index      uint64     `ch:"spool_index"`
}

func newApprovalRow(e *call.Event, spool string, index uint64) *approvalRow {
	a := e.Approval
	return &approvalRow{Time: clamp(e.Time), ApprovalID: a.ID, CallID: e.CallID, Number: small(a.Number), Step: a.Step, By: a.By, Comment: a.Comment,
		InPlaceOf: a.InPlaceOf, Stage: small(a.Stage), Stages: small(a.Stages), State: a.State, Connection: a.Connection,
		Rule: a.Rule, Function: a.Function, Expires: moment(a.Expires), Binding: string(a.Binding[:]), Spool: spool, Index: index}
}

// item is one row to insert. Its index, within the spool, is its key.
type item struct {
	index  uint64
	time   time.Time
	row    any           // pointer to a struct with ch tags
	events []*call.Event // what it was made of
}

// batch is the rows of one insert: one table, one day, one block of the spool,
// so that it is one part on one shard.
type batch struct {
	table string
	items []item
	// doubt is set where an earlier attempt may have succeeded.
	doubt bool
}

// batches groups the items of a table by what must not be mixed in an insert.
// The order within a group stays.
func batches(table string, items []item, doubt bool) []*batch {
	type group struct {
		day   string
		block uint64
	}
	var list []*batch
	groups := make(map[group]*batch)
	for _, it := range items {
		g := group{day(it.time), it.index / spoolBlock}
		b := groups[g]
		if b == nil {
			b = &batch{table: table, doubt: doubt}
			groups[g] = b
			list = append(list, b)
		}
		b.items = append(b.items, it)
	}
	return list
}

// token names the rows of a batch, so that ClickHouse takes them once.
func (b *batch) token(spool string) string {
	h := sha256.New()
	fmt.Fprintf(h, "%s\x00%s\x00", b.table, spool)
	var n [8]byte
	for _, it := range b.items {
		binary.BigEndian.PutUint64(n[:], it.index)
		h.Write(n[:])
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// insertTimeout bounds one attempt, so that a server that hangs is tried again.
const insertTimeout = 2 * time.Minute

// deliver inserts b, however long it takes, and returns when every row is in
// ClickHouse or in quarantine. It fails only with ctx or the local disk.
func (s *Shipper) deliver(ctx context.Context, b *batch) error {
	return s.persist(ctx, "insert into "+b.table, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, insertTimeout)
		defer cancel()
		if b.doubt {
			if err := s.removePresent(ctx, b); err != nil {
				return err
			}
			b.doubt = false
		}
		return s.insertOrSplit(ctx, b)
	})
}

// insertOrSplit inserts b. If ClickHouse refuses a row, it halves the batch
// until the row is alone, and puts that into quarantine.
func (s *Shipper) insertOrSplit(ctx context.Context, b *batch) error {
	if len(b.items) == 0 {
		return nil
	}
	err := s.insert(ctx, b)
	var refused *refusedError
	switch {
	case err == nil:
		b.items = nil
		return nil
	case !errors.As(err, &refused):
		b.doubt = true
		return err
	case len(b.items) > 1:
		half := len(b.items) / 2
		for _, part := range [][]item{b.items[:half:half], b.items[half:]} {
			p := &batch{table: b.table, items: part}
			if err := s.insertOrSplit(ctx, p); err != nil {
				// What is not known to be settled is tried again.
				rest := p.items
				if &part[0] == &b.items[0] {
					rest = append(rest, b.items[half:]...)
				}
				b.items, b.doubt = rest, true
				return err
			}
		}
		b.items = nil
		return nil
	case refused.tooBig:
		b.doubt = true
		return err // waiting may help, halving no longer
	}
	it := b.items[0]
	q := quarantined{Table: b.table, Spool: s.id, Index: it.index, Time: time.Now().UTC(), Reason: refused.Error()}
	for _, e := range it.events {
		var leaf bytes.Buffer
		if err := s.codec.Encode(&leaf, e); err != nil {
			return backoff.Permanent(err)
		}
		aside, err := s.codec.EncodeContent(e)
		if err != nil {
			return backoff.Permanent(err)
		}
		kept := quarantinedEvent{Leaf: leaf.Bytes(), Aside: aside}
		switch {
		case e.Decided != nil:
			kept.Head, kept.Tail = e.Decided.Body.Head, e.Decided.Body.Tail
		case e.Answered != nil:
			kept.Head, kept.Tail = e.Answered.Body.Head, e.Answered.Body.Tail
		}
		q.Events = append(q.Events, kept)
	}
	if r, ok := it.row.(*eventRow); ok {
		q.Unjoined = r.Unjoined
		q.Events = []quarantinedEvent{{Leaf: r.Leaf, Aside: r.Aside, Head: r.Head, Tail: r.Tail}}
	}
	path, err := s.quarantine.put(q)
	if err != nil {
		return err
	}
	s.cfg.Metrics.refused.Inc()
	s.cfg.Log.ErrorContext(ctx, "ClickHouse refused a row; it was put into quarantine", "table", b.table, "spool_index", it.index, "file", path, "error", refused)
	b.items = nil
	return nil
}

// refusedError says that the rows themselves are at fault, not the moment.
type refusedError struct {
	err    error
	tooBig bool // fewer rows at a time may be taken
}

// Error leaves out how ClickHouse quotes the row: it goes to logs.
func (e *refusedError) Error() string {
	text, _, quoted := strings.Cut(e.err.Error(), " Column values:")
	if quoted {
		text += " (VIOLATED_CONSTRAINT)"
	}
	return text
}

func (e *refusedError) Unwrap() error { return e.err }

// rowFaults are ClickHouse's error codes for rows that will never be taken.
// All other errors are taken for passing ones: a row must not end in
// quarantine because a server is short of memory or misses a table.
var rowFaults = []int32{
	6, 26, 27, 38, 41, 72, 376, // can't parse text, a quoted string, input, a date, a time, a number, a UUID
	32, 33, // the row ends early
	53, 70, 117, 349, 691, // wrong type, can't convert, incorrect data, NULL where none may be, not of the enum
	69, 131, 190, // out of bounds, string too large, sizes of nested arrays differ
	469, // a constraint that an operator put on the table
}

// insert sends b in one block.
func (s *Shipper) insert(ctx context.Context, b *batch) error {
	started := time.Now()
	ctx = ch.Context(ctx, ch.WithSettings(ch.Settings{
		"insert_deduplicate":         1,
		"insert_deduplication_token": b.token(s.id),
		"async_insert":               0,
		"max_insert_block_size":      len(b.items) + 1,
	}))
	out, err := s.db.conn.PrepareBatch(ctx, s.inserts[b.table])
	if err != nil {
		return fmt.Errorf("insert into %s: %w", b.table, explain(err))
	}
	defer out.Abort()
	for _, it := range b.items {
		if r, ok := it.row.(*Row); ok {
			r.Inserted = s.clock.now() // at each attempt: who follows calls goes by it
		}
	}
	if err := appendItems(out, b.items); err != nil {
		// Nothing was sent: a row does not fit its columns.
		return &refusedError{err: err}
	}
	if err := out.Send(); err != nil {
		err = fmt.Errorf("insert into %s: %w", b.table, explain(err))
		var e *ch.Exception
		if errors.As(err, &e) && (slices.Contains(rowFaults, e.Code) || e.Code == codeMemoryLimit) {
			return &refusedError{err: err, tooBig: e.Code == codeMemoryLimit}
		}
		return err
	}
	s.cfg.Metrics.insert.WithLabelValues(b.table).Observe(time.Since(started).Seconds())
	s.cfg.Metrics.rows.WithLabelValues(b.table).Add(float64(len(b.items)))
	return nil
}

// removePresent leaves in b what is not in ClickHouse yet.
func (s *Shipper) removePresent(ctx context.Context, b *batch) error {
	if len(b.items) == 0 {
		return nil
	}
	low, high := b.items[0].index, b.items[0].index
	for _, it := range b.items {
		low, high = min(low, it.index), max(high, it.index)
	}
	present, err := s.present(ctx, b.table, day(b.items[0].time), low, high)
	if err != nil {
		return err
	}
	b.items = slices.DeleteFunc(b.items, func(it item) bool { return present[it.index] })
	return nil
}

// present are the indexes from low to high that table has rows of, on one day
// or, where that is empty, on any.
func (s *Shipper) present(ctx context.Context, table, day string, low, high uint64) (map[uint64]bool, error) {
	sql := "SELECT spool_index FROM " + table + " WHERE spool = ? AND spool_index BETWEEN ? AND ?"
	args := []any{s.id, low, high}
	if day != "" {
		sql += " AND toDate(time) = toDate(?)"
		args = append(args, day)
	}
	rows, err := s.db.conn.Query(s.db.exact(ctx), sql, args...)
	if err != nil {
		return nil, fmt.Errorf("look what %s has: %w", table, explain(err))
	}
	defer rows.Close()
	found := make(map[uint64]bool)
	for rows.Next() {
		var index uint64
		if err := rows.Scan(&index); err != nil {
			return nil, fmt.Errorf("look what %s has: %w", table, err)
		}
		found[index] = true
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("look what %s has: %w", table, explain(err))
	}
	return found, nil
}

// persist repeats an operation until it succeeds, with growing pauses and
// jitter, and tells the log when ClickHouse goes and comes.
func (s *Shipper) persist(ctx context.Context, what string, operation func(context.Context) error) error {
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = firstPause, lastPause
	_, err := backoff.Retry(ctx, func() (struct{}, error) { return struct{}{}, operation(ctx) },
		backoff.WithBackOff(pause), backoff.WithMaxElapsedTime(0),
		backoff.WithNotify(func(err error, wait time.Duration) {
			s.cfg.Metrics.retries.Inc()
			s.measure()
			s.mu.Lock()
			s.status.AwayWhy = err.Error()
			s.mu.Unlock()
			if s.away.CompareAndSwap(false, true) {
				s.cfg.Log.WarnContext(ctx, "ClickHouse does not take the trail; events stay in the spool and are sent again",
					"doing", what, "error", err)
			}
		}))
	if err != nil {
		return err
	}
	if s.away.CompareAndSwap(true, false) {
		s.cfg.Log.InfoContext(ctx, "ClickHouse takes the trail again")
	}
	return nil
}

const (
	firstPause = 100 * time.Millisecond
	lastPause  = 5 * time.Second
)
