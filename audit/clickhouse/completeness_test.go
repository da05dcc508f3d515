package clickhouse

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/callgate/callgate/audit"
	"github.com/callgate/callgate/call"
)

// What is missing is named; what is there is not.
func TestCompleteness(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db, _ := database(t)
	dir := t.TempDir()
	spool := newSpool(t, dir)
	signer := audit.NewCheckpointer(audit.CheckpointerConfig{Spool: spool, Keys: audit.Keys{Path: filepath.Join(dir, "keys"), Name: "n"}, Node: "n1",
		Log: slog.New(slog.DiscardHandler), Metrics: audit.NewCheckpointMetrics(prometheus.NewRegistry())})
	r := shipSigned(t, db, spool, 50*time.Millisecond, signer)
	began := time.Now()
	whole, missing := decided(t, call.Answered, call.Finished), decided(t, call.Answered, call.Finished)
	r.append(whole, answered(whole, "x"), finished(whole), missing, answered(missing, "y"))
	count := func(entries, decided, reached uint64) call.Event {
		return call.Event{Kind: call.Counted, Time: time.Now(), Counted: &call.CountedEvent{Node: "edge-1", From: began, To: time.Now(),
			Entries: entries, Decided: decided, Undecided: entries - decided, Reached: reached}}
	}
	r.append(count(2, 1, 0))
	if err := signer.Sign(ctx); err != nil {
		t.Fatal(err)
	}
	eventually(t, db, "2 1", "SELECT concat(toString(count()), ' ', toString((SELECT count() FROM checkpoints))) FROM calls")
	look := func(until time.Duration) Completeness {
		t.Helper()
		c, err := db.Completeness(ctx, began.Add(-time.Hour), time.Now().Add(until))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := look(time.Second)
	if c.Complete() || c.Calls != 2 || c.Decided != 2 || c.MissingLegsN != 1 || len(c.MissingLegs) != 1 || c.MissingLegs[0].CallID != missing.CallID ||
		c.MissingLegs[0].Answered != LegSeen || c.MissingLegs[0].Finished != LegUnknown || c.MissingRowsN != 0 || c.MissingEvents != 0 || c.Doubled != 0 || c.Unsigned != 0 {
		t.Errorf("a leg is missing: %+v", c)
	}
	r.append(finished(missing))
	eventually(t, db, "2", "SELECT toString(countIf(finished = 'seen')) FROM calls")
	// Who hangs up before there is a response leaves no gap.
	gone := decided(t, call.Answered, call.Finished)
	end := finished(gone)
	end.Finished.Status, end.Finished.Flags = 0, []string{"DC"}
	r.append(gone, end)
	eventually(t, db, "3", "SELECT toString(count()) FROM calls")
	if err := signer.Sign(ctx); err != nil {
		t.Fatal(err)
	}
	eventually(t, db, "2", "SELECT toString(count()) FROM checkpoints")
	c = look(time.Second)
	if !c.Complete() || len(c.Spools) != 1 || c.Spools[0].Node != "n1" || c.Spools[0].Events != 10 || c.HungUp != 1 || len(c.Envoys) != 1 || c.Envoys[0].Counted != 1 || c.Envoys[0].Undecided != 1 {
		t.Errorf("all is there: %+v", c)
	}

	// Silent, until it is known to have stopped.
	if c := look(10 * time.Minute); c.Complete() || !c.Spools[0].Silent {
		t.Errorf("silent: %+v", c.Spools)
	}
	r.append(call.Event{Kind: call.Changed, Time: time.Now(), Change: &call.ChangeEvent{What: call.ChangeStopped, Node: "n1"}})
	eventually(t, db, "11", "SELECT toString(count()) FROM events")
	if c := look(10 * time.Minute); !c.Complete() || c.Spools[0].Silent || c.Unsigned != 1 {
		t.Errorf("stopped in order: %+v", c)
	}

	// More entries than finished events, and one that nobody decided.
	r.append(count(5, 4, 1))
	eventually(t, db, "12", "SELECT toString(count()) FROM events")
	if c := look(time.Second); c.Complete() || c.Spools[0].Lost != 2 || c.Bypassed != 1 || c.Envoys[0].Reached != 1 {
		t.Errorf("lost entries: %+v", c)
	}

	// An entry of a batch stands for several finished events.
	batch := count(1, 1, 0)
	batch.Counted.Calls = 3
	r.append(batch)
	eventually(t, db, "13", "SELECT toString(count()) FROM events")
	if c := look(time.Second); c.Spools[0].Lost != 5 || c.Envoys[0].Counted != 8 {
		t.Errorf("lost entries of a batch: %+v", c)
	}

	// Deleted and doubled.
	r.stop()
	for i, c := range []struct {
		sql  string
		want func(Completeness) bool
	}{
		{"DELETE FROM " + db.schema().rows(tableEvents) + " WHERE spool_index IN (1, 2)", func(c Completeness) bool {
			return c.MissingEvents == 2 && fmt.Sprint(c.Spools[0].Gaps) == "[{1 2}]"
		}},
		{"DELETE FROM " + db.schema().rows(tableCalls) + " WHERE call_id = '" + missing.CallID.String() + "'", func(c Completeness) bool {
			return c.MissingRowsN == 1 && c.MissingRows[0] == missing.CallID
		}},
		{"INSERT INTO calls SELECT * FROM calls", func(c Completeness) bool { return c.Doubled == 2 }},
		{"DELETE FROM " + db.schema().rows(tableEvents) + " WHERE kind = 'decided'", func(c Completeness) bool { return c.Unexplained == 2 && c.MissingEvents == 5 }},
	} {
		if err := db.conn.Exec(ctx, c.sql); err != nil {
			t.Fatal(err)
		}
		if got := look(time.Second); got.Complete() || !c.want(got) {
			t.Errorf("%d %s: %+v", i, c.sql, got)
		}
	}
}
