package clickhouse

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/callgate/callgate/call"
)

// onDisk tells whether a text stands in the active parts of a table of the
// shared engine. Columns are compressed, so the text must not repeat. The files
// of an update that was put into its part are left out: ClickHouse removes them
// within a minute, like the old part's.
func onDisk(t *testing.T, db *DB, table, text string) bool {
	t.Helper()
	var paths []string
	if err := db.conn.QueryRow(context.Background(), "SELECT groupArray(path) FROM system.parts WHERE active AND NOT startsWith(name, 'patch-') AND database = ? AND table = ?", db.cfg.Database, table).Scan(&paths); err != nil {
		t.Fatal(err)
	}
	if len(paths) == 0 {
		t.Fatal("no parts")
	}
	found := false
	for _, p := range paths {
		err := filepath.WalkDir(p, func(file string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			data, err := os.ReadFile(file)
			found = found || bytes.Contains(data, []byte(text))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return found
}

const contentOf = "SELECT concat(args, '|', path, '|', ifNull(rpc_message, ''), '|', request_body, '|', response_body, '|', hex(request_salt), '|', hex(request_body_sha256), '|', toString(erased IS NULL)) FROM calls WHERE call_id = ?"

const nothing = "|||||00000000000000000000000000000000|0000000000000000000000000000000000000000000000000000000000000000|0"

// An erasure takes content, all of it and from the disk, and nothing else; no
// leg that comes later brings any.
func TestErase(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db, _ := database(t)
	r := ship(t, db, newSpool(t, t.TempDir()), 50*time.Millisecond)
	gone, kept, waits := decided(t, call.Answered, call.Finished), decided(t, call.Answered, call.Finished), decided(t, call.Answered)
	word := func(e call.Event, n int) string { return fmt.Sprintf("%x-%d", e.CallID[8:], n) }
	for _, e := range []call.Event{gone, kept, waits} {
		e.Decided.ArgsJSON = []byte(`{"a":"` + word(e, 1) + `"}`)
		e.Decided.Path = "/" + word(e, 2)
		e.Decided.Body = body(word(e, 3))
		r.append(e)
	}
	r.append(answered(kept, word(kept, 4)), finished(kept), finished(gone))
	eventually(t, db, "3", "SELECT toString(count()) FROM calls")
	// This leg is kept beside the row's part until a merge.
	r.append(answered(gone, word(gone, 4)))
	eventually(t, db, "2", "SELECT toString(countIf(answered = 'seen')) FROM calls")

	list, missing, err := db.Erasable(ctx, Filter{}, []uuid.UUID{gone.CallID, waits.CallID, {1}})
	if err != nil || len(list) != 2 || len(missing) != 1 || missing[0] != (uuid.UUID{1}) {
		t.Fatalf("%v, %v, %v", list, missing, err)
	}
	if !onDisk(t, db, "calls", word(gone, 3)) || !onDisk(t, db, "events", word(gone, 4)) {
		t.Fatal("this test can't see content on disk")
	}
	if err := db.Erase(ctx, list); err != nil {
		t.Fatal(err)
	}
	check := func() {
		t.Helper()
		for _, e := range []call.Event{gone, waits} {
			eventually(t, db, nothing, contentOf, e.CallID)
		}
		for n := 1; n <= 4; n++ {
			if onDisk(t, db, "calls", word(gone, n)) || onDisk(t, db, "events", word(gone, n)) {
				t.Errorf("content %d is still on disk", n)
			}
		}
	}
	check()
	if !onDisk(t, db, "calls", word(kept, 3)) {
		t.Error("another call's content is gone")
	}
	eventually(t, db, "ada crm tools/call refund 200 seen", "SELECT concat(subject, ' ', connection, ' ', function, ' ', toString(http_status), ' ', toString(answered)) FROM calls WHERE call_id = ?", gone.CallID)

	// A leg that comes only now fills the rest of the row.
	r.append(answered(waits, word(waits, 4)))
	eventually(t, db, "seen 200", "SELECT concat(toString(answered), ' ', toString(http_status)) FROM calls WHERE call_id = ?", waits.CallID)
	eventually(t, db, "0", "SELECT toString(countIf(aside != '' OR body_head != '')) FROM events WHERE call_id = '"+waits.CallID.String()+"'")
	if err := db.conn.Exec(ctx, "OPTIMIZE TABLE calls FINAL"); err != nil {
		t.Fatal(err)
	}
	check()
	if err := db.Erase(ctx, list); err != nil {
		t.Errorf("again: %v", err)
	}
	if list, _, err = db.Erasable(ctx, Filter{Identity: "ada"}, nil); err != nil || !slices.Equal(list, []uuid.UUID{kept.CallID}) {
		t.Errorf("what is left: %v, %v", list, err)
	}
}

// Retention takes content, and later the row; the ledger stays.
func TestRetention(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db, _ := database(t)
	r := ship(t, db, newSpool(t, t.TempDir()), 50*time.Millisecond)
	past, future := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	bodies, rows, both := decided(t), decided(t), decided(t, call.Answered)
	bodies.Decided.Retain = call.Retain{Bodies: past, Row: future}
	rows.Decided.Retain = call.Retain{Bodies: past, Row: past}
	both.Decided.Retain = call.Retain{Bodies: future}
	r.append(bodies, rows, both)
	late := answered(both, "a late one")
	late.Answered.Retain = call.Retain{Bodies: past}
	eventually(t, db, "3", "SELECT toString(count()) FROM events")
	eventually(t, db, "seen", "SELECT if(countIf(call_id = ?) = 1, 'seen', '') FROM calls", both.CallID)
	r.append(late)
	eventually(t, db, "4", "SELECT toString(count()) FROM events")
	r.stop()
	for _, table := range []string{"calls", "events"} {
		if err := db.conn.Exec(ctx, "OPTIMIZE TABLE "+table+" FINAL"); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, db, "||||00000000000000000000000000000000", "SELECT concat(args, '|', path, '|', request_body, '|', response_body, '|', hex(request_salt)) FROM calls WHERE call_id = ?", bodies.CallID)
	eventually(t, db, "ada 1", "SELECT concat(subject, ' ', toString(request_body_bytes > 0)) FROM calls WHERE call_id = ?", bodies.CallID)
	eventually(t, db, "0", "SELECT toString(count()) FROM calls WHERE call_id = ?", rows.CallID)
	eventually(t, db, "1", "SELECT toString(request_body != '') FROM calls WHERE call_id = ?", both.CallID)
	eventually(t, db, "4 0", "SELECT concat(toString(countIf(leaf != '')), ' ', toString(countIf(body_head != '' OR aside != ''))) FROM events")
}

// An erasure that a kill ends after the rows, and before the legs that lie beside
// them, is not taken for a whole one: asked for again, it goes on.
func TestEraseInterrupted(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db, _ := database(t)
	r := ship(t, db, newSpool(t, t.TempDir()), 20*time.Millisecond)
	d := decided(t, call.Answered)
	r.append(d)
	eventually(t, db, "1", "SELECT toString(count()) FROM calls")
	r.append(answered(d, "left behind"))
	eventually(t, db, "1", "SELECT toString(countIf(answered = 'seen')) FROM calls")
	r.stop()
	ids := []uuid.UUID{d.CallID}
	if err := db.rewrite(ctx, tableCalls, ids, callContent, erasedCall); err != nil {
		t.Fatal(err)
	}
	for name, asked := range map[string]struct {
		f   Filter
		ids []uuid.UUID
	}{"by id": {ids: ids}, "by a filter": {f: Filter{Identity: "ada"}}} {
		if list, missing, err := db.Erasable(ctx, asked.f, asked.ids); err != nil || !slices.Equal(list, ids) || missing != nil {
			t.Errorf("%s: %v, %v, %v", name, list, missing, err)
		}
	}
	if err := db.Erase(ctx, ids); err != nil {
		t.Fatal(err)
	}
	eventually(t, db, "0", "SELECT toString(countIf("+legContent+")) FROM events")
	if list, _, err := db.Erasable(ctx, Filter{}, ids); err != nil || len(list) != 0 {
		t.Errorf("afterwards: %v, %v", list, err)
	}
}

// Legs that come while their calls are erased leave nothing, whichever is first.
func TestEraseWhileLegsCome(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db, _ := database(t)
	r := ship(t, db, newSpool(t, t.TempDir()), 10*time.Millisecond)
	var calls []call.Event
	var ids []uuid.UUID
	for range 60 {
		d := decided(t, call.Answered, call.Finished)
		calls, ids = append(calls, d), append(ids, d.CallID)
	}
	r.append(calls...)
	eventually(t, db, "60", "SELECT toString(count()) FROM calls")
	done := make(chan error)
	go func() {
		for part := range slices.Chunk(ids, 6) {
			if err := db.Erase(ctx, part); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for _, d := range calls {
		r.append(answered(d, "late"), finished(d))
		time.Sleep(5 * time.Millisecond)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	eventually(t, db, "60 60", "SELECT concat(toString(countIf(answered = 'seen')), ' ', toString(countIf(finished = 'seen'))) FROM calls")
	eventually(t, db, "0", "SELECT toString(countIf("+callContent+")) FROM calls")
	eventually(t, db, "0", "SELECT toString(countIf("+legContent+")) FROM events")
}

// A leg that comes after retention took its call's content brings none to stay.
func TestRetentionThenLeg(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db, _ := database(t)
	r := ship(t, db, newSpool(t, t.TempDir()), 20*time.Millisecond)
	past := call.Retain{Bodies: time.Now().Add(-time.Hour)}
	d := decided(t, call.Answered, call.Finished)
	d.Decided.Retain = past
	r.append(d)
	eventually(t, db, "1", "SELECT toString(count()) FROM calls")
	optimize := func() {
		t.Helper()
		for _, table := range []string{"calls", "events"} {
			if err := db.conn.Exec(ctx, "OPTIMIZE TABLE "+table+" FINAL"); err != nil {
				t.Fatal(err)
			}
		}
	}
	optimize()
	eventually(t, db, "|||", "SELECT concat(args, '|', path, '|', request_body, '|', response_body) FROM calls")
	a := answered(d, "revived")
	a.Answered.Retain = past
	r.append(a, finished(d))
	eventually(t, db, "1", "SELECT toString(countIf(answered = 'seen' AND finished = 'seen')) FROM calls")
	optimize()
	eventually(t, db, "|||00000000000000000000000000000000", "SELECT concat(args, '|', request_body, '|', response_body, '|', hex(response_salt)) FROM calls")
	eventually(t, db, "0", "SELECT toString(countIf("+legContent+")) FROM events")
	if onDisk(t, db, "calls", "revived") || onDisk(t, db, "events", "revived") {
		t.Error("the leg's content is still on disk")
	}
}
