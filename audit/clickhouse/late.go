package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/callgate/callgate/audit"
	"github.com/callgate/callgate/call"
)

const (
	lateEvery = 5 * time.Second
	lateSoon  = 500 * time.Millisecond
	// lateSlack covers inserts that took their time between being stamped
	// and being there.
	lateSlack = 2 * time.Minute
	// lateSince is how old a call may be for a leg to be looked for that came
	// while no shipper of its spool ran.
	lateSince = 7 * 24 * time.Hour
	// idsPerQuery bounds a query's text.
	idsPerQuery = 1000
	// legsPerPage bounds the rows read at once, beside roundBytes.
	legsPerPage = 2000
)

// foundLeg is an unjoined leg as it lies in events.
type foundLeg struct {
	Spool    string    `ch:"spool"`
	Index    uint64    `ch:"spool_index"`
	Inserted time.Time `ch:"inserted"`
	Leaf     string    `ch:"leaf"`
	Aside    string    `ch:"aside"`
	Head     string    `ch:"body_head"`
	Tail     string    `ch:"body_tail"`
}

const legColumns = "spool, spool_index, inserted, leaf, aside, body_head, body_tail"

// findElsewhere gives unsettled calls the legs that other spools got. What
// can't be asked now is asked later: the row can be completed any time.
func (s *Shipper) findElsewhere(ctx context.Context) {
	if s.away.Load() {
		return
	}
	for {
		poll := s.calls.toPoll(idsPerQuery, s.began)
		if len(poll) == 0 {
			return
		}
		ids := make([]uuid.UUID, len(poll))
		for i, p := range poll {
			ids[i] = p.id
		}
		err := s.legsOf(ctx, ids, func(e *call.Event, size int) { s.calls.adopt(e, size) })
		if err != nil {
			s.cfg.Log.DebugContext(ctx, "could not look for legs on other spools", "error", err)
			return
		}
	}
}

// legsOf gives each unjoined leg of the calls in ids to found.
func (s *Shipper) legsOf(ctx context.Context, ids []uuid.UUID, found func(*call.Event, int)) error {
	for part := range slices.Chunk(ids, idsPerQuery) {
		// Clocks of replicas differ, but not by an hour.
		first, _ := span(part)
		sql := "SELECT " + legColumns + " FROM events WHERE unjoined AND kind IN ('answered', 'finished') AND time >= " + instant(first.Add(-time.Hour)) +
			" AND call_id IN (" + uuids(part) + ") ORDER BY spool, spool_index"
		if _, _, err := s.readLegs(ctx, found, sql); err != nil {
			return err
		}
	}
	return nil
}

// readLegs gives each leg that a query finds to found, until roundBytes were
// read, and returns the last and how many there were.
func (s *Shipper) readLegs(ctx context.Context, found func(*call.Event, int), sql string, args ...any) (last foundLeg, n int, err error) {
	rows, err := s.db.conn.Query(s.db.exact(ctx), sql, args...)
	if err != nil {
		return last, 0, fmt.Errorf("look for legs: %w", explain(err))
	}
	defer rows.Close()
	for size := 0; size < roundBytes && rows.Next(); n++ {
		if err := rows.ScanStruct(&last); err != nil {
			return last, n, fmt.Errorf("look for legs: %w", err)
		}
		rec := audit.Record{Index: last.Index, Leaf: []byte(last.Leaf), Aside: []byte(last.Aside), Head: []byte(last.Head), Tail: []byte(last.Tail)}
		size += rec.Size()
		e, err := rec.Event(s.codec)
		if err != nil {
			s.cfg.Log.WarnContext(ctx, "a leg in the table events can't be read; its call's row says unknown",
				"spool", last.Spool, "spool_index", last.Index, "error", err)
			continue
		}
		found(&e, rec.Size())
	}
	return last, n, rows.Err()
}

// late completes rows of this spool's calls with legs that have come since it
// was last called. A failure is made up for by the next time.
func (s *Shipper) late(ctx context.Context) {
	since := time.Since(s.lastLate)
	if s.away.Load() || since < lateSoon || since < lateEvery && !s.lateHint {
		return
	}
	s.lastLate, s.lateHint = time.Now(), false
	if err := s.completeLate(ctx); err != nil && ctx.Err() == nil {
		s.lateHint = true
		s.cfg.Log.WarnContext(ctx, "could not complete rows with late legs; it is tried again", "error", err)
	}
}

func (s *Shipper) completeLate(ctx context.Context) error {
	if err := s.setClock(ctx); err != nil {
		return err
	}
	now := s.clock.there
	from := s.state.Late.Add(-lateSlack)
	if s.state.Late.IsZero() {
		from = now.Add(-lateSince)
	}
	after := foundLeg{Inserted: from}
	for {
		legs := make(legs)
		last, n, err := s.readLegs(ctx, legs.add, "SELECT "+legColumns+` FROM events
			WHERE unjoined AND kind IN ('answered', 'finished')
				AND inserted >= `+instant(after.Inserted)+` AND (inserted, spool, spool_index) > (`+instant(after.Inserted)+`, ?, ?)
				AND call_id GLOBAL IN (SELECT call_id FROM calls
					WHERE spool = ? AND time >= `+instant(from.Add(-lateSince))+` AND (answered = 'unknown' OR finished = 'unknown'))
			ORDER BY inserted, spool, spool_index LIMIT ?`,
			after.Spool, after.Index, s.id, legsPerPage)
		if err != nil {
			return err
		}
		if err := s.complete(ctx, legs); err != nil {
			return err
		}
		if n == 0 {
			s.state.Late = now
			return nil
		}
		after = last
	}
}

// legs are unjoined legs by call.
type legs map[uuid.UUID][]*call.Event

func (l legs) add(e *call.Event, _ int) { l[e.CallID] = append(l[e.CallID], e) }

// completeAll completes the rows of the given calls with what is in events.
func (s *Shipper) completeAll(ctx context.Context, ids []uuid.UUID) error {
	for part := range slices.Chunk(ids, idsPerQuery) {
		legs := make(legs)
		if err := s.legsOf(ctx, part, legs.add); err != nil {
			return err
		}
		if err := s.complete(ctx, legs); err != nil {
			return err
		}
	}
	return nil
}

// legStates is what a row knows of its legs.
type legStates struct {
	CallID   uuid.UUID `ch:"call_id"`
	Time     time.Time `ch:"time"`
	Answered string    `ch:"answered"`
	Finished string    `ch:"finished"`
}

// complete puts legs into rows that miss them.
func (s *Shipper) complete(ctx context.Context, legs legs) error {
	ids := make([]uuid.UUID, 0, len(legs))
	for id := range legs {
		ids = append(ids, id)
	}
	for part := range slices.Chunk(ids, idsPerQuery) {
		// Before the rows are completed, since legs of complete rows are not
		// looked for again should this process end in between.
		if err := s.eraseAgain(ctx, part); err != nil {
			return err
		}
		updates, err := s.missing(ctx, legs, part)
		if err != nil {
			return err
		}
		for _, u := range updates {
			if err := s.db.update(ctx, u.statements(s.db.schema().rows(tableCalls), s.id, s.db.updateBytes())); err != nil {
				return fmt.Errorf("complete rows: %w", explain(err))
			}
			s.cfg.Metrics.completed.Add(float64(len(u.rows)))
		}
		// A leg that came after its call was erased, or while it was, goes the
		// same way.
		if err := s.eraseAgain(ctx, part); err != nil {
			return err
		}
		if !s.db.clustered() || len(updates) == 0 {
			continue
		}
		// The servers of a cluster take an update from a queue, and one that
		// is away would not be waited for.
		if updates, err = s.missing(ctx, legs, part); err != nil {
			return err
		}
		if len(updates) > 0 {
			return errors.New("complete rows: a shard has not taken an update yet")
		}
	}
	return nil
}

// eraseAgain takes what has come of calls that were erased.
func (s *Shipper) eraseAgain(ctx context.Context, ids []uuid.UUID) error {
	erased, err := s.db.ids(ctx, "SELECT call_id FROM calls WHERE erased IS NOT NULL AND call_id IN ("+uuids(ids)+")")
	if err != nil || len(erased) == 0 {
		return err
	}
	return s.db.Erase(ctx, erased)
}

// missing are the updates that put legs into the rows of ids that miss them.
func (s *Shipper) missing(ctx context.Context, legs legs, ids []uuid.UUID) ([]*update, error) {
	first, last := span(ids)
	rows, err := s.db.conn.Query(s.db.exact(ctx), `SELECT call_id, time, toString(answered) AS answered, toString(finished) AS finished FROM calls
		WHERE spool = ? AND time BETWEEN `+instant(first.Add(-time.Hour))+" AND "+instant(last.Add(time.Hour))+" AND call_id IN ("+uuids(ids)+")", s.id)
	if err != nil {
		return nil, fmt.Errorf("look for rows to complete: %w", explain(err))
	}
	defer rows.Close()
	answered := &update{leg: "answered", columns: answeredColumns}
	finished := &update{leg: "finished", columns: finishedColumns}
	for rows.Next() {
		var st legStates
		if err := rows.ScanStruct(&st); err != nil {
			return nil, fmt.Errorf("look for rows to complete: %w", err)
		}
		for _, e := range legs[st.CallID] {
			switch {
			case e.Answered != nil && st.Answered == LegUnknown:
				answered.add(st, e)
				st.Answered = LegSeen
			case e.Finished != nil && st.Finished == LegUnknown:
				finished.add(st, e)
				st.Finished = LegSeen
			}
		}
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("look for rows to complete: %w", explain(err))
	}
	var updates []*update
	for _, u := range []*update{finished, answered} {
		if len(u.rows) > 0 {
			updates = append(updates, u)
		}
	}
	return updates, nil
}

// uuids lists ids as SQL.
func uuids(ids []uuid.UUID) string {
	var b strings.Builder
	for i, id := range ids {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString("'" + id.String() + "'")
	}
	return b.String()
}

// instant writes t as SQL.
func instant(t time.Time) string {
	return "toDateTime64('" + clamp(t).Format("2006-01-02 15:04:05.000000") + "', 6, 'UTC')"
}

// span is the time that the ids, UUIDs of version 7, were made in; all times
// where one is of another kind.
func span(ids []uuid.UUID) (first, last time.Time) {
	first, last = lastTime, firstTime
	for _, id := range ids {
		t, ok := made(id)
		if !ok {
			return firstTime, lastTime
		}
		if t.Before(first) {
			first = t
		}
		if t.After(last) {
			last = t
		}
	}
	return first, last
}

// made is when a UUID of version 7 was made.
func made(id uuid.UUID) (time.Time, bool) {
	if id.Version() != 7 {
		return time.Time{}, false
	}
	ms := int64(0)
	for _, b := range id[:6] {
		ms = ms<<8 | int64(b)
	}
	return clamp(time.UnixMilli(ms)), true
}
