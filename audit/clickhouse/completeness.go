package clickhouse

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/callgate/callgate/audit"
	"github.com/callgate/callgate/call"
)

// Completeness tells whether all that is known to have happened in a period has
// its record.
type Completeness struct {
	Since time.Time `json:"since"`
	Until time.Time `json:"until"`

	Calls    uint64 `json:"calls"`    // rows
	Decided  uint64 `json:"decided"`  // decided events
	HungUp   uint64 `json:"hung_up"`  // calls whose caller hung up before there was a response
	Backlog  uint64 `json:"backlog"`  // calls that were let through before their record was durable
	Unsigned uint64 `json:"unsigned"` // events that no checkpoint covers yet

	Spools []SpoolCompleteness `json:"spools"`
	Envoys []EnvoyCompleteness `json:"envoys"`

	MissingRows   []uuid.UUID  `json:"missing_rows"`   // decided, and without a row
	MissingRowsN  uint64       `json:"missing_rows_n"` // of which MissingRows lists the first
	MissingLegs   []MissingLeg `json:"missing_legs"`   // oldest first
	MissingLegsN  uint64       `json:"missing_legs_n"` // of which MissingLegs lists the first
	MissingEvents uint64       `json:"missing_events"` // in gaps of all spools
	Unexplained   uint64       `json:"unexplained"`    // rows without a decided event
	Unreadable    uint64       `json:"unreadable"`     // events that can't be decoded
	Doubled       uint64       `json:"doubled"`        // rows or events that are there more than once
	Bypassed      uint64       `json:"bypassed"`       // requests that reached a function without a decision
}

// Complete tells whether nothing is missing. Where no replica recorded or signed
// anything, all may be.
func (c Completeness) Complete() bool {
	silent := slices.ContainsFunc(c.Spools, func(s SpoolCompleteness) bool { return s.Silent })
	lost := slices.ContainsFunc(c.Spools, func(s SpoolCompleteness) bool { return s.Lost > 0 })
	return len(c.Spools) > 0 && c.Unexplained+c.MissingRowsN+c.MissingLegsN+c.MissingEvents+c.Unreadable+c.Doubled+c.Bypassed == 0 && !silent && !lost
}

// Gap is a run of events that a spool lacks.
type Gap struct {
	First uint64 `json:"first"`
	Last  uint64 `json:"last"`
}

// Outage is a time in which a replica signed nothing.
type Outage struct {
	From    time.Time `json:"from"`
	To      time.Time `json:"to,omitzero"` // zero: it lasts
	Stopped bool      `json:"stopped"`     // it had said that it stops
}

// SpoolCompleteness is what is known of one replica's spool.
type SpoolCompleteness struct {
	Spool  string    `json:"spool"`
	Node   string    `json:"node"`
	First  uint64    `json:"first"` // lowest index in the period
	Last   uint64    `json:"last"`
	Events uint64    `json:"events"`
	Gaps   []Gap     `json:"gaps"`
	Outage []Outage  `json:"outages"`
	Signed time.Time `json:"signed"` // the last checkpoint
	// Silent is set where the replica fell silent without saying that it
	// stops, and has not come back: its disk may hold events.
	Silent bool `json:"silent"`
	// Lost are access-log entries that the replica counted as those of calls,
	// and of which it has no finished event; at least so many.
	Lost uint64 `json:"lost"`
}

// EnvoyCompleteness compares what one Envoy's access log told with what was
// recorded.
type EnvoyCompleteness struct {
	Node      string `json:"node"`
	Calls     uint64 `json:"calls"`     // decided for it, whose end was to be told
	Finished  uint64 `json:"finished"`  // finished events of it
	Entries   uint64 `json:"entries"`   // of its access log that came
	Counted   uint64 `json:"counted"`   // calls that these told of
	Undecided uint64 `json:"undecided"` // without: Envoy answered by itself
	Reached   uint64 `json:"reached"`   // of these, those that reached a function
}

// MissingLeg is a call of which a leg was not seen.
type MissingLeg struct {
	CallID     uuid.UUID `ch:"call_id" json:"call_id"`
	Time       time.Time `ch:"time" json:"time"`
	Connection string    `ch:"connection" json:"connection"`
	Function   string    `ch:"function" json:"function"`
	EnvoyNode  string    `ch:"envoy_node" json:"envoy_node"`
	Answered   LegState  `ch:"answered" json:"answered"`
	Finished   LegState  `ch:"finished" json:"finished"`
}

// missesLeg is the condition for calls of which a leg is missing. That nobody saw
// a response is no gap where the caller hung up before there was one, as Envoy
// tells (response flag DC, downstream connection terminated).
const missesLeg = "(finished = 'unknown' OR answered = 'unknown' AND NOT (http_status IS NULL AND has(response_flags, 'DC')))"

const (
	// listMissing bounds each list of what is missing.
	listMissing = 100
	// silence is how long a replica, which signs every ten seconds, may say
	// nothing.
	silence = time.Minute
)

// Completeness looks at a period. Calls whose legs may still be under way, those
// of the last minutes, should not be in it.
func (d *DB) Completeness(ctx context.Context, since, until time.Time) (Completeness, error) {
	c := Completeness{Since: since, Until: until, Spools: []SpoolCompleteness{}, Envoys: []EnvoyCompleteness{}, MissingRows: []uuid.UUID{}, MissingLegs: []MissingLeg{}}
	period := " time >= " + instant(since) + " AND time < " + instant(until)
	for _, q := range []struct {
		to  *uint64
		sql string
	}{
		{&c.Calls, "SELECT count() FROM calls WHERE" + period},
		{&c.Decided, "SELECT count() FROM events WHERE kind = 'decided' AND" + period},
		{&c.HungUp, "SELECT countIf(answered = 'unknown' AND finished = 'seen' AND http_status IS NULL AND has(response_flags, 'DC')) FROM calls WHERE" + period},
		{&c.Backlog, "SELECT countIf(backlog) FROM calls WHERE" + period},
		{&c.Unreadable, "SELECT count() FROM events WHERE kind = 'unreadable' AND inserted >= " + instant(since) + " AND inserted < " + instant(until)},
		{&c.MissingLegsN, "SELECT count() FROM calls WHERE " + missesLeg + " AND" + period},
	} {
		if err := d.conn.QueryRow(d.exact(ctx), q.sql).Scan(q.to); err != nil {
			return c, fmt.Errorf("count the trail: %w", explain(err))
		}
	}
	err := d.conn.Select(d.exact(ctx), &c.MissingLegs, fmt.Sprintf(`SELECT call_id, time, connection, function, envoy_node, toString(answered) AS answered, toString(finished) AS finished
		FROM calls WHERE %s AND%s ORDER BY time LIMIT %d`, missesLeg, period, listMissing))
	if err != nil {
		return c, fmt.Errorf("look for missing legs: %w", explain(err))
	}
	if err := d.missingRows(ctx, &c); err != nil {
		return c, err
	}
	codec, err := audit.NewCodec()
	if err != nil {
		return c, err
	}
	told, err := d.told(ctx, codec, since, until)
	if err != nil {
		return c, err
	}
	if err := d.spoolsComplete(ctx, &c, told); err != nil {
		return c, err
	}
	return c, d.envoysComplete(ctx, &c, told.counts)
}

// missingRows finds decided events without a row, and doubled ones. It goes by
// parts of the ids, so that memory is bounded.
func (d *DB) missingRows(ctx context.Context, c *Completeness) error {
	of := max(c.Decided, c.Calls)/1_000_000 + 1
	for part := range of {
		ids := Slice{Part: part, Of: of}.ids()
		sql := fmt.Sprintf(`SELECT call_id, sum(d) AS decided, sum(r) AS rows FROM (
				SELECT call_id, 1 AS d, 0 AS r FROM events WHERE kind = 'decided' AND time >= %[1]s AND time < %[2]s%[3]s
				UNION ALL
				SELECT call_id, 0 AS d, 1 AS r FROM calls WHERE decided_at >= %[1]s AND decided_at < %[2]s AND time >= %[1]s - INTERVAL 2 HOUR%[3]s
			) GROUP BY call_id HAVING decided != 1 OR rows != 1`, instant(c.Since), instant(c.Until), ids)
		rows, err := d.conn.Query(d.exact(ctx), sql)
		if err != nil {
			return fmt.Errorf("compare calls with events: %w", explain(err))
		}
		for rows.Next() {
			var id uuid.UUID
			var decided, row uint64
			if err := rows.Scan(&id, &decided, &row); err != nil {
				rows.Close()
				return fmt.Errorf("compare calls with events: %w", err)
			}
			if decided > 1 || row > 1 {
				c.Doubled++
			}
			if row == 0 {
				c.MissingRowsN++
				if len(c.MissingRows) < listMissing {
					c.MissingRows = append(c.MissingRows, id)
				}
			}
			if decided == 0 {
				c.Unexplained++
			}
		}
		if err := rows.Err(); err != nil {
			return fmt.Errorf("compare calls with events: %w", explain(err))
		}
	}
	return nil
}

// told is what replicas recorded about themselves and about Envoys.
type told struct {
	changes map[string][]change            // by spool, in order
	counts  map[string][]call.CountedEvent // by spool
}

type change struct {
	at   time.Time
	what string
	node string
}

func (d *DB) told(ctx context.Context, codec *audit.Codec, since, until time.Time) (told, error) {
	t := told{changes: make(map[string][]change), counts: make(map[string][]call.CountedEvent)}
	err := d.ledger(ctx, func(row *LedgerEvent) error {
		e, err := codec.Decode([]byte(row.Leaf))
		switch {
		case err != nil: // counted as unreadable
		case e.Change != nil:
			t.changes[row.Spool] = append(t.changes[row.Spool], change{e.Time, e.Change.What, e.Change.Node})
		case e.Counted != nil:
			t.counts[row.Spool] = append(t.counts[row.Spool], *e.Counted)
		}
		return nil
	}, "WHERE kind IN ('changed', 'counted') AND time >= "+instant(since.Add(-silence))+" AND time < "+instant(until.Add(2*silence))+" ORDER BY spool, spool_index")
	return t, err
}

// spoolsComplete looks for gaps in each spool and for replicas that fell silent.
func (d *DB) spoolsComplete(ctx context.Context, c *Completeness, told told) error {
	rows, err := d.conn.Query(d.exact(ctx), "SELECT spool, min(spool_index), max(spool_index) FROM events WHERE time >= "+instant(c.Since)+" AND time < "+instant(c.Until)+
		" AND kind != 'unreadable' GROUP BY spool ORDER BY spool")
	if err != nil {
		return fmt.Errorf("list spools: %w", explain(err))
	}
	for rows.Next() {
		s := SpoolCompleteness{Gaps: []Gap{}, Outage: []Outage{}}
		if err := rows.Scan(&s.Spool, &s.First, &s.Last); err != nil {
			rows.Close()
			return fmt.Errorf("list spools: %w", err)
		}
		c.Spools = append(c.Spools, s)
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("list spools: %w", explain(err))
	}
	// Replicas that had nothing to record sign all the same.
	signed, err := d.signedTimes(ctx, c.Since, c.Until)
	if err != nil {
		return err
	}
	for spool := range signed {
		if !slices.ContainsFunc(c.Spools, func(s SpoolCompleteness) bool { return s.Spool == spool }) {
			c.Spools = append(c.Spools, SpoolCompleteness{Spool: spool, Gaps: []Gap{}, Outage: []Outage{}})
		}
	}
	for i := range c.Spools {
		s := &c.Spools[i]
		if err := d.gaps(ctx, s, c); err != nil {
			return err
		}
		outages(s, signed[s.Spool], told.changes[s.Spool], c)
		if err := d.lost(ctx, s, told.counts[s.Spool], c); err != nil {
			return err
		}
		var covered uint64
		if err := d.conn.QueryRow(d.exact(ctx), "SELECT max(size) FROM checkpoints WHERE spool = ?", s.Spool).Scan(&covered); err != nil {
			return fmt.Errorf("look what is signed: %w", explain(err))
		}
		if s.Events > 0 && s.Last+1 > covered {
			c.Unsigned += min(s.Events, s.Last+1-covered)
		}
	}
	return nil
}

// gaps finds what is missing between the first and last event of a spool in the
// period.
func (d *DB) gaps(ctx context.Context, s *SpoolCompleteness, c *Completeness) error {
	if s.First == 0 && s.Last == 0 {
		return nil
	}
	// What lies between the period and the event before it is missing in it.
	var before, last uint64
	row := d.conn.QueryRow(d.exact(ctx), "SELECT count(), max(spool_index) FROM events WHERE spool = ? AND spool_index < ?", s.Spool, s.First)
	if err := row.Scan(&before, &last); err != nil {
		return fmt.Errorf("count events of spool %s: %w", s.Spool, explain(err))
	}
	next := uint64(0)
	if before > 0 {
		next = last + 1
	}
	if next < s.First {
		s.Gaps = append(s.Gaps, Gap{First: next, Last: s.First - 1})
		c.MissingEvents += s.First - next
	}
	var n uint64
	row = d.conn.QueryRow(d.exact(ctx), "SELECT count(), uniqExact(spool_index) FROM events WHERE spool = ? AND spool_index BETWEEN ? AND ?", s.Spool, s.First, s.Last)
	if err := row.Scan(&n, &s.Events); err != nil {
		return fmt.Errorf("count events of spool %s: %w", s.Spool, explain(err))
	}
	c.Doubled += n - s.Events
	if s.Events == s.Last-s.First+1 {
		return nil
	}
	c.MissingEvents += s.Last - s.First + 1 - s.Events
	rows, err := d.conn.Query(d.exact(ctx), fmt.Sprintf(`SELECT toUInt64(before + 1), toUInt64(spool_index - 1) FROM (
			SELECT spool_index, lagInFrame(spool_index, 1, spool_index) OVER (ORDER BY spool_index ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS before
			FROM (SELECT DISTINCT spool_index FROM events WHERE spool = ? AND spool_index BETWEEN ? AND ?)
		) WHERE spool_index > before + 1 ORDER BY spool_index LIMIT %d`, listMissing), s.Spool, s.First, s.Last)
	if err != nil {
		return fmt.Errorf("look for gaps in spool %s: %w", s.Spool, explain(err))
	}
	defer rows.Close()
	for rows.Next() {
		var g Gap
		if err := rows.Scan(&g.First, &g.Last); err != nil {
			return fmt.Errorf("look for gaps in spool %s: %w", s.Spool, err)
		}
		s.Gaps = append(s.Gaps, g)
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("look for gaps in spool %s: %w", s.Spool, explain(err))
	}
	return nil
}

// signature is when a replica signed, where the time to the one before is long,
// and its first and last in a period.
type signature struct {
	at, before time.Time
	node       string
}

// signedTimes lists, by spool, the checkpoints that follow a silence, and the
// last of each.
func (d *DB) signedTimes(ctx context.Context, since, until time.Time) (map[string][]signature, error) {
	rows, err := d.conn.Query(d.exact(ctx), fmt.Sprintf(`SELECT spool, node, time, before FROM (
			SELECT spool, node, time,
				lagInFrame(time, 1, time) OVER (PARTITION BY spool ORDER BY time ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS before,
				max(time) OVER (PARTITION BY spool) AS last
			FROM checkpoints WHERE time >= %s AND time < %s
		) WHERE time = last OR time - before > %d ORDER BY spool, time`, instant(since.Add(-silence)), instant(until), int(silence.Seconds())))
	if err != nil {
		return nil, fmt.Errorf("look for silent replicas: %w", explain(err))
	}
	defer rows.Close()
	out := make(map[string][]signature)
	for rows.Next() {
		var spool string
		var s signature
		if err := rows.Scan(&spool, &s.node, &s.at, &s.before); err != nil {
			return nil, fmt.Errorf("look for silent replicas: %w", err)
		}
		out[spool] = append(out[spool], s)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("look for silent replicas: %w", explain(err))
	}
	return out, nil
}

// outages turns the signatures of a spool into times in which it was silent.
func outages(s *SpoolCompleteness, signed []signature, changes []change, c *Completeness) {
	stopped := func(from, to time.Time) bool {
		return slices.ContainsFunc(changes, func(ch change) bool {
			return ch.what == call.ChangeStopped && !ch.at.Before(from.Add(-silence)) && !ch.at.After(to)
		})
	}
	for _, g := range signed {
		s.Node = g.node
		if g.at.Sub(g.before) > silence {
			s.Outage = append(s.Outage, Outage{From: g.before, To: g.at, Stopped: stopped(g.before, g.at)})
		}
		s.Signed = g.at
	}
	last := s.Signed
	if len(signed) == 0 {
		last = c.Since // nothing was signed in all of the period
	}
	if c.Until.Sub(last) > silence {
		o := Outage{From: last, Stopped: stopped(last, c.Until)}
		s.Outage = append(s.Outage, o)
		s.Silent = !o.Stopped
	}
	if s.Node == "" {
		for _, ch := range changes {
			s.Node = ch.node
		}
	}
}

// lost compares what the replica counted of access logs in the period with its
// finished events from the first count's beginning to a while after the last.
func (d *DB) lost(ctx context.Context, s *SpoolCompleteness, counts []call.CountedEvent, c *Completeness) error {
	var from, to time.Time
	var counted, finished uint64
	for _, n := range counts {
		if n.From.Before(c.Since) || n.To.After(c.Until) {
			continue // not whole in the period
		}
		if from.IsZero() || n.From.Before(from) {
			from = n.From
		}
		if n.To.After(to) {
			to = n.To
		}
		counted += max(n.Calls, n.Decided)
	}
	if counted == 0 {
		return nil
	}
	row := d.conn.QueryRow(d.exact(ctx), "SELECT uniqExact(spool_index) FROM events WHERE kind = 'finished' AND spool = ? AND time >= "+instant(from)+" AND time < "+instant(to.Add(silence)), s.Spool)
	if err := row.Scan(&finished); err != nil {
		return fmt.Errorf("count finished events: %w", explain(err))
	}
	if finished < counted {
		s.Lost = counted - finished
	}
	return nil
}

// envoysComplete compares calls, finished events and what Envoys' logs told.
func (d *DB) envoysComplete(ctx context.Context, c *Completeness, told map[string][]call.CountedEvent) error {
	var counts []call.CountedEvent
	for _, list := range told {
		counts = append(counts, list...)
	}
	by := make(map[string]*EnvoyCompleteness)
	of := func(node string) *EnvoyCompleteness {
		if by[node] == nil {
			by[node] = &EnvoyCompleteness{Node: node}
		}
		return by[node]
	}
	rows, err := d.conn.Query(d.exact(ctx), "SELECT envoy_node, countIf(finished != 'none'), countIf(finished = 'seen') FROM calls WHERE envoy_node != '' AND time >= "+instant(c.Since)+" AND time < "+instant(c.Until)+" GROUP BY envoy_node")
	if err != nil {
		return fmt.Errorf("count calls by Envoy: %w", explain(err))
	}
	for rows.Next() {
		var node string
		var calls, finished uint64
		if err := rows.Scan(&node, &calls, &finished); err != nil {
			rows.Close()
			return fmt.Errorf("count calls by Envoy: %w", err)
		}
		e := of(node)
		e.Calls, e.Finished = calls, finished
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("count calls by Envoy: %w", explain(err))
	}
	for _, n := range counts {
		if n.To.Before(c.Since) || !n.From.Before(c.Until) {
			continue
		}
		e := of(n.Node)
		e.Entries += n.Entries
		e.Counted += max(n.Calls, n.Decided)
		e.Undecided += n.Undecided
		e.Reached += n.Reached
		c.Bypassed += n.Reached
	}
	for _, e := range by {
		c.Envoys = append(c.Envoys, *e)
	}
	slices.SortFunc(c.Envoys, func(a, b EnvoyCompleteness) int {
		if a.Node < b.Node {
			return -1
		}
		return 1
	})
	return nil
}
