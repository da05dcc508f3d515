package verify

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/callgate/callgate/audit/clickhouse"
	"github.com/callgate/callgate/call"
)

// sliceCalls is about how many calls are compared at once; each takes some 300
// bytes of memory.
const sliceCalls = 400_000

// leg is what an answered or finished event makes of a row.
type leg struct {
	digest   [16]byte
	content  [32]byte
	status   *uint16
	inserted time.Time
}

// expected is what the ledger tells of a row.
type expected struct {
	spool              string
	index              uint64
	digest             [16]byte
	content            [32]byte
	retain             call.Retain
	inserted           time.Time
	answered, finished []leg
	wantA, wantF       bool
	seen               bool
}

// rows compares the rows of calls with the ledger, day by day.
func (v *verifier) rows(ctx context.Context) error {
	from, until := v.cfg.Since, v.cfg.Until
	if from.IsZero() {
		from = time.Unix(0, 0)
	}
	if until.IsZero() {
		until = v.cfg.Now.Add(48 * time.Hour) // a replica's clock may be ahead
	}
	// A day more, since a call may be decided on the day after its beginning.
	counts, err := v.cfg.Source.Days(ctx, from.UTC().Truncate(24*time.Hour), until.Add(24*time.Hour))
	if err != nil {
		return err
	}
	days := make([]time.Time, 0, len(counts))
	for day := range counts {
		days = append(days, day)
	}
	slices.SortFunc(days, time.Time.Compare)
	for _, day := range days {
		if !day.Before(until) {
			continue
		}
		of := counts[day]/sliceCalls + 1
		for part := range of {
			v.cfg.Progress(fmt.Sprintf("calls of %s: %d, part %d of %d", day.Format(time.DateOnly), counts[day], part+1, of))
			if err := v.slice(ctx, clickhouse.Slice{Day: day, Part: part, Of: of}); err != nil {
				return err
			}
		}
	}
	if v.underWay > 0 {
		v.unchecked("%d calls of the last minutes have no row yet; it waits for their legs", v.underWay)
	}
	return nil
}

func (v *verifier) slice(ctx context.Context, s clickhouse.Slice) error {
	want, err := v.expect(ctx, s)
	if err != nil {
		return err
	}
	err = v.cfg.Source.SliceRows(ctx, s, func(r *clickhouse.Row) error {
		if !v.within(r.Time) {
			return nil
		}
		v.report.Calls++
		return v.row(ctx, r, want[r.CallID])
	})
	if err != nil {
		return err
	}
	for id, w := range want {
		if w.seen {
			continue
		}
		switch {
		case v.over(w.retain.Row):
			v.report.Expired++
		case v.cfg.Now.Sub(w.inserted) < grace:
			v.underWay++
		default:
			v.find(Finding{Kind: Deleted, Table: "calls", Spool: w.spool, Index: w.index, CallID: id,
				What: "the ledger has the decision, and calls has no row of it (does it lie in quarantine?)"})
		}
	}
	return nil
}

// expect reads what the ledger tells of the calls of a slice.
func (v *verifier) expect(ctx context.Context, s clickhouse.Slice) (map[uuid.UUID]*expected, error) {
	want := make(map[uuid.UUID]*expected)
	orphans := make(map[uuid.UUID][]*call.Event)
	at := make(map[*call.Event]time.Time)
	err := v.cfg.Source.SliceEvents(ctx, s, func(row *clickhouse.LedgerEvent) error {
		e, err := v.codec.Decode([]byte(row.Leaf))
		if err != nil {
			return nil // the log's own check tells
		}
		if e.Decided == nil {
			if w := want[e.CallID]; w != nil {
				w.leg(&e, row.Inserted)
				return nil
			}
			orphans[e.CallID] = append(orphans[e.CallID], &e)
			at[&e] = row.Inserted
			return nil
		}
		r := clickhouse.NewRow(&e, row.Spool, row.Index)
		if day := r.Time.Truncate(24 * time.Hour); !day.Equal(s.Day) || !v.within(r.Time) {
			return nil
		}
		if w := want[e.CallID]; w != nil && (w.spool < row.Spool || w.spool == row.Spool && w.index < row.Index) {
			return nil // decided twice: the first has the row
		}
		w := &expected{spool: row.Spool, index: row.Index, digest: r.Digest(call.Decided), content: e.Decided.Content, retain: e.Decided.Retain, inserted: row.Inserted,
			wantA: slices.Contains(e.Decided.Expect, call.Answered), wantF: slices.Contains(e.Decided.Expect, call.Finished)}
		want[e.CallID] = w
		for _, o := range orphans[e.CallID] {
			w.leg(o, at[o])
			delete(at, o)
		}
		delete(orphans, e.CallID)
		return nil
	})
	if err != nil {
		return nil, err
	}
	// Legs that came long after their call.
	var late []uuid.UUID
	for id, w := range want {
		if w.wantA && len(w.answered) == 0 || w.wantF && len(w.finished) == 0 {
			late = append(late, id)
		}
	}
	for part := range slices.Chunk(late, 500) {
		err := v.cfg.Source.EventsOf(ctx, part, func(row *clickhouse.LedgerEvent) error {
			e, err := v.codec.Decode([]byte(row.Leaf))
			if w := want[row.CallID]; err == nil && w != nil && (e.Answered != nil && len(w.answered) == 0 || e.Finished != nil && len(w.finished) == 0) {
				w.leg(&e, row.Inserted)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return want, nil
}

// leg adds what an event tells of the row.
func (w *expected) leg(e *call.Event, inserted time.Time) {
	var r clickhouse.Row
	r.Add(e)
	l := leg{digest: r.Digest(e.Kind), status: r.HTTPStatus, inserted: inserted}
	if e.Answered != nil {
		l.content = e.Answered.Content
		w.answered = append(w.answered, l)
		return
	}
	w.finished = append(w.finished, l)
}

// row compares one row with what the ledger tells of it.
func (v *verifier) row(ctx context.Context, r *clickhouse.Row, w *expected) error {
	find := func(kind Kind, format string, args ...any) {
		v.find(Finding{Kind: kind, Table: "calls", Spool: r.Spool, Index: r.SpoolIndex, CallID: r.CallID, What: fmt.Sprintf(format, args...)})
	}
	if w == nil {
		find(Inserted, "the ledger has no decision for this row")
		return nil
	}
	if w.seen {
		find(Doubled, "the call has more than one row")
		return nil
	}
	w.seen = true
	if r.Digest(call.Decided) != w.digest {
		column, err := v.differs(ctx, r, w)
		if err != nil {
			return err
		}
		find(Edited, "%s is not what the ledger tells", column)
		return nil
	}
	erased := v.erased[r.CallID]
	switch {
	case erased:
		v.report.Erased++
	case r.Erased != nil:
		find(Edited, "the row says that its content was erased, and no event tells of an erasure")
	}
	sum, there := r.RequestContent()
	v.checkContent(r, "request", sum == w.content, there, w.retain, erased, find)

	a := v.checkLeg("answered", r.Answered, w.wantA, w.answered, r.Digest(call.Answered), find)
	if a != nil {
		sum, there := r.ResponseContent()
		v.checkContent(r, "response", sum == a.content, there, w.retain, erased, find)
	} else if _, there := r.ResponseContent(); there {
		find(Inserted, "the row has a response, and the ledger has none")
	}
	f := v.checkLeg("finished", r.Finished, w.wantF, w.finished, r.Digest(call.Finished), find)

	var status *uint16
	switch {
	case f != nil && f.status != nil:
		status = f.status
	case a != nil:
		status = a.status
	}
	if (status == nil) != (r.HTTPStatus == nil) || status != nil && *status != *r.HTTPStatus {
		find(Edited, "http_status is not what the ledger tells")
	}
	return nil
}

// checkLeg finds the leg that the row shows; nil where it shows none.
func (v *verifier) checkLeg(name string, state clickhouse.LegState, wanted bool, legs []leg, digest [16]byte, find func(Kind, string, ...any)) *leg {
	switch state {
	case clickhouse.LegSeen:
		for i := range legs {
			if legs[i].digest == digest {
				return &legs[i]
			}
		}
		if len(legs) == 0 {
			find(Inserted, "the row has a leg %q that the ledger does not have", name)
			return nil
		}
		find(Edited, "what the row says of %q is not what the ledger tells", name)
		return &legs[0]
	case clickhouse.LegUnknown:
		if !wanted {
			find(Edited, "the row waits for a leg %q that was not announced", name)
		} else if len(legs) > 0 && v.cfg.Now.Sub(legs[0].inserted) > grace {
			find(Edited, "the row says that the leg %q is unknown, and the ledger has it", name)
		}
	default:
		if wanted {
			find(Edited, "the row says that no leg %q was announced, and it was", name)
		}
	}
	if digest != emptyDigest(name) {
		find(Inserted, "the row has columns of a leg %q that it says is not there", name)
	}
	return nil
}

// emptyDigest is that of a row without the leg.
func emptyDigest(name string) [16]byte {
	var r clickhouse.Row
	return r.Digest(call.EventKind(name))
}

// checkContent judges the content of one side of a call.
func (v *verifier) checkContent(r *clickhouse.Row, side string, holds, there bool, retain call.Retain, erased bool, find func(Kind, string, ...any)) {
	switch {
	case holds:
	case there:
		find(Edited, "the content of the %s is not the one that was recorded", side)
	case erased:
	case v.over(retain.Bodies):
		if side == "request" {
			v.report.Expired++
		}
	default:
		find(Deleted, "the content of the %s is missing, and neither retention nor an erasure took it", side)
	}
}

// differs names the column of a row that is not as its decided event tells.
func (v *verifier) differs(ctx context.Context, r *clickhouse.Row, w *expected) (string, error) {
	column := "the row"
	err := v.cfg.Source.EventsOf(ctx, []uuid.UUID{r.CallID}, func(row *clickhouse.LedgerEvent) error {
		e, err := v.codec.Decode([]byte(row.Leaf))
		if err != nil || e.Decided == nil || row.Spool != w.spool || row.Index != w.index {
			return nil
		}
		if name := r.Differ(clickhouse.NewRow(&e, row.Spool, row.Index), call.Decided); name != "" {
			column = name
		}
		return nil
	})
	return column, err
}

var _ Source = (*clickhouse.DB)(nil)
