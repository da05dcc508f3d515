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
