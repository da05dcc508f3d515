//go:build linux

package soak

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/callgate/callgate/call"
)

// finding is what a check found. Everything in it that can be wrong is a count.
type finding struct {
	answered, decided, allowed, rows, unknown int
	lost, doubled, wrong                      int
	spools                                    map[string]uint64 // indexes up to here are in events
	texts                                     []string          // the first of each kind of error
}

func (f *finding) bad(count *int, format string, args ...any) {
	*count++
	if len(f.texts) < 20 {
		f.texts = append(f.texts, fmt.Sprintf(format, args...))
	}
}

func (f *finding) fine() bool { return f.lost == 0 && f.doubled == 0 && f.wrong == 0 }

// row is what SELECT finds of a call.
type row struct {
	allowed            bool
	reason             string
	answered, finished string
	status             int
}

// look holds what the client and the function saw against what SELECT finds.
func (w *world) look(ctx context.Context) (*finding, error) {
	f := &finding{spools: map[string]uint64{}}
	answers, problems := w.journal.snapshot()
	f.answered = len(answers)
	for _, p := range problems {
		f.bad(&f.wrong, "%s", p)
	}
	rows, err := w.rows(ctx, f)
	if err != nil {
		return nil, err
	}
	for id, a := range answers {
		r, ok := rows[id]
		switch {
		case w.excusedCalls[id], a.reason == string(call.ReasonAuditUnavailable):
			// It says itself that there is no record.
		case !ok:
			f.bad(&f.lost, "call %s, answered %d at %s, has no row", id, a.status, a.at.Format(time.StampMilli))
		case a.reason == string(call.ReasonResponseWithheld): // it ran, but nobody could record or mask what it said
			if !r.allowed {
				f.bad(&f.wrong, "the response of call %s was withheld, its row says denied for %s", id, r.reason)
			}
		case a.reason != "" && (r.allowed || r.reason != a.reason):
			f.bad(&f.wrong, "call %s was denied for %s, its row says allowed %v, %s", id, a.reason, r.allowed, r.reason)
		case a.status == 200 && !r.allowed:
			f.bad(&f.wrong, "call %s was allowed, its row says denied for %s", id, r.reason)
		case a.status == 200 && a.whole && r.answered != "seen" && !w.excusedCalls["answered "+id]:
			f.bad(&f.lost, "call %s was answered to its end, its row says answered: %s", id, r.answered)
		case r.finished == "seen" && r.status != a.status:
			f.bad(&f.wrong, "call %s was answered %d, its row says %d", id, a.status, r.status)
		}
	}
	arrived, bare := w.function.arrived()
	if bare > 0 {
		f.bad(&f.wrong, "%d calls reached the function without an id", bare)
	}
	for id, n := range arrived {
		if r, ok := rows[id]; !ok && !w.excusedCalls[id] {
			f.bad(&f.lost, "call %s reached the function and has no row", id)
		} else if ok && !r.allowed {
			f.bad(&f.wrong, "call %s reached the function, its row says denied", id)
		}
		if n > 1 {
			f.bad(&f.doubled, "call %s reached the function %d times", id, n)
		}
	}
	return f, w.ledger(ctx, f)
}

// rows reads the table calls.
func (w *world) rows(ctx context.Context, f *finding) (map[string]row, error) {
	cells, err := store.ask(ctx, w.database, "SELECT toString(call_id), toUInt8(allowed), reason, toString(answered), toString(finished), ifNull(http_status, 0) FROM calls")
	if err != nil {
		return nil, fmt.Errorf("read calls: %w", err)
	}
	rows := make(map[string]row, len(cells))
	for _, c := range cells {
		if _, twice := rows[c[0]]; twice {
			f.bad(&f.doubled, "call %s has more than one row", c[0])
			continue
		}
		status, err := strconv.Atoi(c[5])
		if err != nil {
			return nil, fmt.Errorf("read calls: %w", err)
		}
		r := row{c[1] == "1", c[2], c[3], c[4], status}
		rows[c[0]] = r
		f.rows++
		if r.allowed {
			f.allowed++
		}
		if r.answered == "unknown" || r.finished == "unknown" {
			f.unknown++
		}
	}
	return rows, nil
}

// ledger checks the table events: of each spool every index once, each decided
// call with a row, each leg in its row, and a call's legs in order.
func (w *world) ledger(ctx context.Context, f *finding) error {
	cells, err := store.ask(ctx, w.database, "SELECT spool, count(), uniqExact(spool_index), min(spool_index), max(spool_index) FROM events GROUP BY spool")
	if err != nil {
		return fmt.Errorf("read events: %w", err)
	}
	for _, c := range cells {
		var n [4]uint64
		for i := range n {
			if n[i], err = strconv.ParseUint(c[i+1], 10, 64); err != nil {
				return fmt.Errorf("read events: %w", err)
			}
		}
		count, distinct, first, last := n[0], n[1], n[2], n[3]
		f.spools[c[0]] = last + 1
		if count != distinct {
			f.bad(&f.doubled, "spool %s: %d events have %d rows", c[0], distinct, count)
		}
		if gone := last + 1 - distinct; first != 0 || gone != 0 {
			if err := w.gaps(ctx, f, c[0], last+1); err != nil {
				return err
			}
		}
	}
	for what, sql := range map[string]string{
		"decided calls without a row":  "SELECT toString(call_id) FROM events WHERE kind = 'decided' AND call_id NOT IN (SELECT call_id FROM calls)",
		"rows without a decided event": "SELECT toString(call_id) FROM calls WHERE call_id NOT IN (SELECT call_id FROM events WHERE kind = 'decided')",
		"rows without a leg that the ledger has": `SELECT toString(call_id) FROM calls WHERE
			(answered = 'unknown' AND call_id IN (SELECT call_id FROM events WHERE kind = 'answered')) OR
			(finished = 'unknown' AND call_id IN (SELECT call_id FROM events WHERE kind = 'finished'))`,
		"calls whose answer stands before their decision": `SELECT toString(d.call_id) FROM (SELECT call_id, spool, spool_index FROM events WHERE kind = 'decided') AS d
			INNER JOIN (SELECT call_id, spool, spool_index FROM events WHERE kind = 'answered') AS a ON a.call_id = d.call_id AND a.spool = d.spool
			WHERE a.spool_index < d.spool_index`,
	} {
		found, err := store.ask(ctx, w.database, sql)
		if err != nil {
			return fmt.Errorf("look for %s: %w", what, err)
		}
		found = slices.DeleteFunc(found, func(c []string) bool { return w.excusedCalls[c[0]] })
		if len(found) > 0 {
			f.bad(&f.lost, "%d %s, such as %s", len(found), what, found[0][0])
			f.lost += len(found) - 1
		}
	}
	cells, err = store.ask(ctx, w.database, "SELECT uniqExact(call_id) FROM events WHERE kind = 'decided'")
	if err == nil {
		f.decided, err = strconv.Atoi(cells[0][0])
	}
	return err
}

// gaps names the events that a spool does not have.
func (w *world) gaps(ctx context.Context, f *finding, spool string, end uint64) error {
	cells, err := store.ask(ctx, w.database, fmt.Sprintf(
		"SELECT number FROM numbers(%d) WHERE number NOT IN (SELECT spool_index FROM events WHERE spool = '%s')", end, spool))
	if err != nil {
		return fmt.Errorf("look for gaps: %w", err)
	}
	for _, c := range cells {
		index, err := strconv.ParseUint(c[0], 10, 64)
		if err != nil {
			return err
		}
		if !w.excusedEvents[spool][index] {
			f.bad(&f.lost, "spool %s has no event %d", spool, index)
		}
	}
	return nil
}

// patience is how long what was answered may take to be found.
func patience() time.Duration {
	if set.long {
		return 5 * time.Minute
	}
	return time.Minute
}

// settled waits until nothing is under way any more, and looks. What is wrong
// then is looked at again until patience ends: rows may be late, never wrong.
func (w *world) settled(t *testing.T) *finding {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience())
	defer cancel()
	for idle := 0; idle < 3 && sleep(ctx, 150*time.Millisecond); {
		idle++
		for _, addr := range w.metrics() {
			for _, name := range []string{"callgate_ship_backlog_events", "callgate_ship_unsettled_calls"} {
				if n, err := metric(ctx, addr, name); err != nil || n != 0 {
					idle = 0
				}
			}
		}
	}
	for {
		f, err := w.look(context.WithoutCancel(ctx))
		must(t, err)
		if f.fine() || f.doubled+f.wrong > 0 || !sleep(ctx, time.Second) {
			return f
		}
	}
}
