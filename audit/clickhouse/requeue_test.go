package clickhouse

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/callgate/callgate/audit"
	"github.com/callgate/callgate/call"
)

// refusing is a spool some of whose rows, in each table, ClickHouse refuses.
func refusing(t *testing.T) (*DB, *rig, []call.Event) {
	t.Helper()
	db, _ := database(t)
	for _, sql := range []string{
		"ALTER TABLE calls ADD CONSTRAINT clean CHECK subject != 'poison'",
		"ALTER TABLE events ADD CONSTRAINT clean CHECK kind != 'answered' OR NOT unjoined",
		"ALTER TABLE approvals ADD CONSTRAINT clean CHECK comment != 'poison'",
	} {
		if err := db.conn.Exec(context.Background(), sql); err != nil {
			t.Fatal(err)
		}
	}
	r := ship(t, db, newSpool(t, t.TempDir()), 200*time.Millisecond)
	var poison []call.Event
	for i := range 12 {
		d := decided(t, call.Answered, call.Finished)
		if i%4 == 0 {
			d.Decided.Identity.Subject = "poison"
			poison = append(poison, d)
		}
		r.append(d, finished(d))
		if i != 4 {
			r.append(answered(d, "in time"))
		}
	}
	step := call.Event{Kind: call.Approved, CallID: poison[0].CallID, Time: time.Now(), Approval: &call.ApprovalEvent{ID: "apr", Step: "approved", Comment: "poison"}}
	r.append(step)
	eventually(t, db, "9", "SELECT toString(count()) FROM calls")
	waitFor(t, func() bool { return r.shipper.Status().Quarantined == 4 })
	r.append(answered(poison[1], "too late")) // for a row that is not there
	waitFor(t, func() bool { return r.shipper.Status().Quarantined == 5 })
	return db, r, poison
}

func waitFor(t *testing.T, is func() bool) {
	t.Helper()
	for range 800 {
		if is() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("it did not come to be")
}

func dropConstraints(t *testing.T, db *DB) {
	t.Helper()
	for _, table := range []string{"calls", "events", "approvals"} {
		if err := db.conn.Exec(context.Background(), "ALTER TABLE "+table+" DROP CONSTRAINT clean"); err != nil {
			t.Fatal(err)
		}
	}
}

func (r *rig) requeue(dry bool, files ...string) map[string]int {
	r.t.Helper()
	list, err := Requeue(context.Background(), RequeueConfig{Dir: r.spool.Dir(), DB: r.db, DryRun: dry, Files: files, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		r.t.Fatal(err)
	}
	results := map[string]int{}
	for _, one := range list {
		results[one.Result]++
		if (one.Result == RequeueRefused || one.Result == RequeueReady) && !strings.Contains(one.Why, "VIOLATED_CONSTRAINT") || strings.Contains(one.Why, "Column values") {
			r.t.Errorf("%+v", one)
		}
	}
	return results
}

// What ClickHouse refuses is told, kept while it does, and there once when it
// no longer does, with all that came meanwhile.
func TestRequeue(t *testing.T) {
	t.Parallel()
	db, r, poison := refusing(t)
	files := func() int { return r.shipper.quarantine.count() }
	if got := r.requeue(true); fmt.Sprint(got) != "map[ready:5]" || files() != 5 {
		t.Errorf("dry run: %v, %d files", got, files())
	}
	if got := r.requeue(false); fmt.Sprint(got) != "map[refused:5]" || files() != 5 {
		t.Errorf("still refused: %v, %d files", got, files())
	}
	if got := testutil.ToFloat64(r.shipper.cfg.Metrics.refused); got != 5 {
		t.Errorf("%v refused rows are counted", got)
	}
	if strings.Contains(r.log.String(), "Column values") {
		t.Errorf("the log quotes a refused row:\n%s", r.log)
	}
	dropConstraints(t, db)
	one := r.shipper.quarantine.path(tableCalls, 0)
	if got := r.requeue(false, one); fmt.Sprint(got) != "map[sent:1]" || files() != 4 {
		t.Errorf("one: %v, %d files", got, files())
	}
	// The service and two operators at once.
	d := decided(t)
	r.append(d)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() { r.requeue(false) })
	}
	wg.Wait()
	if files() != 0 {
		t.Errorf("%d files are left", files())
	}
	eventually(t, db, "13 13", "SELECT concat(toString(count()), ' ', toString(uniqExact(call_id))) FROM calls")
	eventually(t, db, "38 38", "SELECT concat(toString(count()), ' ', toString(uniqExact(spool_index))) FROM events")
	eventually(t, db, "1", "SELECT toString(count()) FROM approvals")
	eventually(t, db, "in time seen", "SELECT concat(response_body, ' ', toString(finished)) FROM calls WHERE call_id = ?", poison[0].CallID)
	// The leg that came later is in events, from where the row is completed.
	eventually(t, db, "too late", "SELECT response_body FROM calls WHERE call_id = ?", poison[1].CallID)
	if got := r.requeue(false); len(got) != 0 {
		t.Errorf("an empty quarantine: %v", got)
	}
}

// A kill between the insert and the removal of the file, or a copy that was put
// back, doubles nothing; nor does a service that starts again.
func TestRequeueTwice(t *testing.T) {
	t.Parallel()
	db, r, _ := refusing(t)
	dropConstraints(t, db)
	files, err := filepath.Glob(filepath.Join(r.shipper.quarantine.dir, "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	copies := map[string][]byte{}
	for _, f := range files {
		if copies[f], err = os.ReadFile(f); err != nil {
			t.Fatal(err)
		}
	}
	if got := r.requeue(false); fmt.Sprint(got) != "map[sent:5]" {
		t.Errorf("%v", got)
	}
	for f, data := range copies {
		if err := os.WriteFile(f, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := r.requeue(false); fmt.Sprint(got) != "map[present:5]" {
		t.Errorf("again: %v", got)
	}
	r.stop()
	if err := os.Remove(filepath.Join(r.spool.Dir(), "ship.state")); err != nil {
		t.Fatal(err)
	}
	again := ship(t, db, r.spool, time.Minute)
	again.append(decided(t))
	eventually(t, db, "13 13", "SELECT concat(toString(count()), ' ', toString(uniqExact(call_id))) FROM calls")
	eventually(t, db, "38 38", "SELECT concat(toString(count()), ' ', toString(uniqExact(spool_index))) FROM events")
}

// A file that was damaged or changed is left as it is, and stops no other.
func TestRequeueDamaged(t *testing.T) {
	t.Parallel()
	db, r, _ := refusing(t)
	dropConstraints(t, db)
	k := r.shipper.quarantine
	good, err := os.ReadFile(k.path(tableCalls, 0))
	if err != nil {
		t.Fatal(err)
	}
	edit := func(change func(*quarantined)) []byte {
		var q quarantined
		if err := json.Unmarshal(good, &q); err != nil {
			t.Fatal(err)
		}
		change(&q)
		data, err := json.Marshal(q)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	bad := map[string][]byte{}
	for name, data := range map[string][]byte{
		"empty": nil, "cut": good[:len(good)/2], "more": append(append([]byte{}, good...), good...), "other field": []byte(`{"tables":"calls"}`),
		"table":     edit(func(q *quarantined) { q.Table = "schema_migrations" }),
		"spool":     edit(func(q *quarantined) { q.Spool = "' OR 1" }),
		"no events": edit(func(q *quarantined) { q.Events = nil }),
		"version":   edit(func(q *quarantined) { q.Events[0].Leaf[1]++ }),
		"no sum":    edit(func(q *quarantined) { q.Reason = "unsealed" }),
		"body":      edit(func(q *quarantined) { q.Events[0].Head = []byte("another") }),
		"legs":      edit(func(q *quarantined) { q.Events[0], q.Events[1] = q.Events[1], q.Events[0] }),
	} {
		index := uint64(1000 + len(bad))
		if data != nil && name != "cut" && name != "more" && name != "other field" {
			var q quarantined
			if err := json.Unmarshal(data, &q); err != nil {
				t.Fatal(err)
			}
			q.Index = index
			if q.Reason == "unsealed" {
				q.Sum = nil
			} else if q, err = q.seal(); err != nil {
				t.Fatal(err)
			}
			if data, err = json.Marshal(q); err != nil {
				t.Fatal(err)
			}
		}
		path := k.path(tableCalls, index)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		bad[path] = data
	}
	flipped := append([]byte{}, good...)
	flipped[bytes.Index(flipped, []byte(`"leaf":"`))+len(`"leaf":"`)+200] ^= 1
	bad[k.path(tableCalls, 0)] = flipped
	if err := os.WriteFile(k.path(tableCalls, 0), flipped, 0o600); err != nil {
		t.Fatal(err)
	}
	renamed := k.path(tableCalls, 999)
	if err := os.WriteFile(renamed, good, 0o600); err != nil {
		t.Fatal(err)
	}
	bad[renamed] = good
	if got := r.requeue(false); fmt.Sprint(got) != fmt.Sprintf("map[damaged:%d sent:4]", len(bad)) {
		t.Errorf("%v", got)
	}
	for path, data := range bad {
		if now, err := os.ReadFile(path); err != nil || string(now) != string(data) {
			t.Errorf("%s was changed: %v", path, err)
		}
	}
	eventually(t, db, "11", "SELECT toString(count()) FROM calls")
}

// FuzzQuarantined reads whatever a quarantine may hold.
func FuzzQuarantined(f *testing.F) {
	q, err := quarantined{Table: tableEvents, Spool: "018f0000-0000-7000-8000-000000000001", Index: 1, Events: []quarantinedEvent{{Leaf: []byte{0x82, 1, 0xa0}}}}.seal()
	if err != nil {
		f.Fatal(err)
	}
	data, err := json.Marshal(q)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	codec, err := audit.NewCodec()
	if err != nil {
		f.Fatal(err)
	}
	r := requeue{codec: codec}
	f.Fuzz(func(t *testing.T, data []byte) {
		q, it, err := r.read((quarantine{}).path(tableEvents, 1), data)
		if err == nil && (it.row == nil || q.Index != 1 || q.Table != tableEvents) {
			t.Errorf("%+v, %+v", q, it)
		}
	})
}
