package verify_test

import (
	"context"
	"encoding/json"
	"fmt"

	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/callgate/callgate/audit/ledger"
	"github.com/callgate/callgate/audit/verify"
	"github.com/callgate/callgate/call"
)

func run(t *testing.T, database string, r *trail, edit func(*verify.Config)) verify.Report {
	t.Helper()
	cfg := verify.Config{Source: open(t, database), Keys: r.trusted(), Witness: r.witnessed(), Now: time.Now().Add(time.Hour)}
	if edit != nil {
		edit(&cfg)
	}
	report, err := verify.Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// Whatever somebody who rules over ClickHouse does to the trail is found, and
// named.
func TestTampering(t *testing.T) {
	t.Parallel()
	r := record(t, databaseOf(t))
	for i := range 6 {
		r.call(fmt.Sprintf("user-%d", i), strings.Repeat("b", 20*i))
		if i%2 == 1 {
			r.sign()
		}
	}
	r.shipped(6)
	if report := run(t, databaseOf(t), r, nil); !report.OK() || report.Calls != 6 || report.Logs[0].Events != 25 || report.Logs[0].Signed != 25 || len(report.Unchecked) != 0 {
		t.Fatalf("untouched: %+v", report)
	}
	victim := r.calls[3] // its events are 13 to 16, behind key.added
	is := fmt.Sprintf("call_id = '%s'", victim)
	conn := outside(t)

	for name, c := range map[string]struct {
		sql   []string
		kind  verify.Kind
		table string
		index uint64
	}{
		"a leaf is edited": {[]string{"ALTER TABLE {db}.events UPDATE leaf = replaceOne(leaf, 'user-3', 'user-X') WHERE kind = 'decided' AND " + is},
			verify.Edited, "events", 14},
		"a leaf and its row are edited": {[]string{"ALTER TABLE {db}.events UPDATE leaf = replaceOne(leaf, 'user-3', 'user-X') WHERE kind = 'decided' AND " + is,
			"INSERT INTO {db}.calls SELECT * REPLACE ('user-X' AS subject, 'user-X' AS acting) FROM {db}.calls WHERE " + is, "DELETE FROM {db}.calls WHERE subject = 'user-3'"},
			verify.Edited, "events", 14},
		"a column beside a leaf is edited":   {[]string{"ALTER TABLE {db}.events UPDATE call_id = generateUUIDv4() WHERE kind = 'answered' AND " + is}, verify.Edited, "events", 15},
		"an event is deleted":                {[]string{"DELETE FROM {db}.events WHERE kind = 'finished' AND " + is}, verify.Deleted, "events", 16},
		"a call is deleted with all events":  {[]string{"DELETE FROM {db}.events WHERE " + is, "DELETE FROM {db}.calls WHERE " + is, "DELETE FROM {db}.approvals WHERE " + is}, verify.Deleted, "events", 13},
		"two events are swapped":             {[]string{"INSERT INTO {db}.events SELECT * REPLACE (29 - spool_index AS spool_index) FROM {db}.events WHERE spool_index IN (14, 15)", "DELETE FROM {db}.events WHERE spool_index IN (14, 15) AND (kind = 'decided') = (spool_index = 14)"}, verify.Edited, "events", 14},
		"an event is put in":                 {[]string{"INSERT INTO {db}.events SELECT * REPLACE (replaceOne(leaf, 'user-3', 'user-X') AS leaf) FROM {db}.events WHERE spool_index = 14"}, verify.Inserted, "events", 14},
		"an event is put behind":             {[]string{"INSERT INTO {db}.events SELECT * REPLACE (25 AS spool_index) FROM (SELECT * FROM {db}.events WHERE spool_index = 14)"}, "", "", 0},
		"an event is doubled":                {[]string{"INSERT INTO {db}.events SELECT * FROM {db}.events WHERE spool_index = 14"}, verify.Doubled, "events", 14},
		"the end is cut off":                 {[]string{"DELETE FROM {db}.events WHERE spool_index >= 20"}, verify.Truncated, "events", 20},
		"the end and its checkpoints are":    {[]string{"DELETE FROM {db}.events WHERE spool_index >= 17", "DELETE FROM {db}.checkpoints WHERE size > 17"}, verify.Truncated, "events", 17},
		"all is deleted":                     {[]string{"TRUNCATE TABLE {db}.events", "TRUNCATE TABLE {db}.checkpoints", "TRUNCATE TABLE {db}.calls", "TRUNCATE TABLE {db}.approvals"}, verify.Truncated, "events", 0},
		"the beginning is cut off":           {[]string{"DELETE FROM {db}.events WHERE spool_index < 9"}, verify.Deleted, "events", 0},
		"a row is edited":                    {[]string{"ALTER TABLE {db}.calls UPDATE decision = 'deny' WHERE " + is}, verify.Edited, "calls", 14},
		"a row's legs are edited":            {[]string{"ALTER TABLE {db}.calls UPDATE upstream = '10.9.9.9:80' WHERE " + is}, verify.Edited, "calls", 14},
		"a row's response is edited":         {[]string{"ALTER TABLE {db}.calls UPDATE response_body_tail = 'RRRRR' WHERE " + is}, verify.Edited, "calls", 14},
		"a row's status is edited":           {[]string{"ALTER TABLE {db}.calls UPDATE http_status = 200 WHERE " + is}, verify.Edited, "calls", 14},
		"a row's arguments are edited":       {[]string{`ALTER TABLE {db}.calls UPDATE args = '{"to":"me"}' WHERE ` + is}, verify.Edited, "calls", 14},
		"a row's body is edited":             {[]string{"ALTER TABLE {db}.calls UPDATE request_body = concat(substring(request_body, 2), 'c') WHERE " + is}, verify.Edited, "calls", 14},
		"a row's list of what is hidden is":  {[]string{"ALTER TABLE {db}.calls UPDATE `request_masked.rule` = ['x'], `request_masked.type` = ['key'], `request_masked.path` = [''], `request_masked.count` = [1] WHERE " + is}, verify.Edited, "calls", 14},
		"a list of what streamed hidden is":  {[]string{"ALTER TABLE {db}.calls UPDATE `request_stream_masked.rule` = ['x'], `request_stream_masked.type` = ['key'], `request_stream_masked.path` = [''], `request_stream_masked.count` = [1] WHERE " + is}, verify.Edited, "calls", 14},
		"a row's scope is edited":            {[]string{"ALTER TABLE {db}.calls UPDATE scope = ['crm'] WHERE " + is}, verify.Edited, "calls", 14},
		"a row's body is taken":              {[]string{"ALTER TABLE {db}.calls UPDATE args = '', path = '', request_body = '', request_body_tail = '', request_body_sum = toFixedString('', 32), request_salt = toFixedString('', 16) WHERE " + is}, verify.Deleted, "calls", 14},
		"a row is passed off as erased":      {[]string{"ALTER TABLE {db}.calls UPDATE args = '', path = '', request_body = '', request_salt = toFixedString('', 16), erased = now() WHERE " + is}, verify.Edited, "calls", 14},
		"a row is passed off as expired":     {[]string{"ALTER TABLE {db}.calls UPDATE bodies_until = '2026-01-01 00:00:00' WHERE " + is}, verify.Edited, "calls", 14},
		"a row loses a leg":                  {[]string{"ALTER TABLE {db}.calls UPDATE finished = 'unknown' WHERE " + is}, verify.Edited, "calls", 14},
		"a row is deleted":                   {[]string{"DELETE FROM {db}.calls WHERE " + is}, verify.Deleted, "calls", 14},
		"a row is put in":                    {[]string{"INSERT INTO {db}.calls SELECT * REPLACE (generateUUIDv4() AS call_id) FROM (SELECT * FROM {db}.calls WHERE " + is + ")"}, verify.Inserted, "calls", 14},
		"a row is doubled":                   {[]string{"INSERT INTO {db}.calls SELECT * FROM {db}.calls WHERE " + is}, verify.Doubled, "calls", 14},
		"an approval is edited":              {[]string{"ALTER TABLE {db}.approvals UPDATE step = 'approved' WHERE " + is}, verify.Edited, "approvals", 13},
		"an approval is deleted":             {[]string{"DELETE FROM {db}.approvals WHERE " + is}, verify.Deleted, "approvals", 13},
		"an approval is put in":              {[]string{"INSERT INTO {db}.approvals SELECT * REPLACE (14 AS spool_index) FROM {db}.approvals WHERE " + is}, verify.Inserted, "approvals", 14},
		"a checkpoint is edited":             {[]string{"INSERT INTO {db}.checkpoints SELECT * REPLACE (toFixedString('x', 32) AS root, time + INTERVAL 1 SECOND AS time) FROM {db}.checkpoints WHERE size = 17"}, verify.Forged, "checkpoints", 17},
		"what finds the leaf is edited, too": {[]string{"ALTER TABLE {db}.events UPDATE leaf = replaceOne(leaf, 'user-3', 'user-X') WHERE kind = 'decided' AND " + is, "CREATE TABLE {db}.c AS {db}.checkpoints", "INSERT INTO {db}.c SELECT * REPLACE ('' AS leaf_prefixes) FROM {db}.checkpoints", "EXCHANGE TABLES {db}.c AND {db}.checkpoints"}, verify.Edited, "events", 9},
		"a checkpoint's note is another's":   {[]string{"INSERT INTO {db}.checkpoints SELECT * REPLACE (replaceOne(note, '\\n17\\n', '\\n16\\n') AS note, time + INTERVAL 1 SECOND AS time) FROM {db}.checkpoints WHERE size = 17"}, verify.Forged, "checkpoints", 17},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := databaseOf(t)
			for _, sql := range append([]string{"CREATE DATABASE {db}",
				"CREATE TABLE {db}.events CLONE AS {from}.events", "CREATE TABLE {db}.calls CLONE AS {from}.calls",
				"CREATE TABLE {db}.approvals CLONE AS {from}.approvals", "CREATE TABLE {db}.checkpoints CLONE AS {from}.checkpoints"}, c.sql...) {
				sql = strings.NewReplacer("{db}", db, "{from}", "v_TestTampering").Replace(sql)
				if err := conn.Exec(context.Background(), sql); err != nil {
					t.Fatalf("%s: %v", sql, err)
				}
			}
			report := run(t, db, r, nil)
			if c.kind == "" {
				// Nothing signed covers it, and that is said.
				if len(report.Unchecked) == 0 || !strings.Contains(strings.Join(report.Unchecked, " "), "last 1 events") {
					t.Errorf("%+v", report)
				}
				return
			}
			if report.OK() {
				t.Fatalf("not found: %+v", report)
			}
			if f := report.Findings[0]; f.Kind != c.kind || f.Table != c.table || f.Index != c.index {
				t.Errorf("first: %+v", report.Findings)
			}
		})
	}
}

// Without keys that signed, nothing is proved, and that is not passed off as
// fine.
func TestKeysOfOthersProveNothing(t *testing.T) {
	t.Parallel()
	r := record(t, databaseOf(t))
	r.call("ada", "x")
	r.sign()
	r.shipped(1)
	other, err := ledger.NewKey("callgate/test", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	report := run(t, databaseOf(t), r, func(c *verify.Config) { c.Keys = []string{other.Verifier} })
	text := strings.Join(report.Unchecked, "\n")
	if report.Logs[0].Signed != 0 || !strings.Contains(text, "not trusted") || !strings.Contains(text, "last 5 events") ||
		len(report.Findings) != 1 || report.Findings[0].Kind != verify.Unsigned || !strings.Contains(report.Findings[0].What, "--key") {
		t.Errorf("%+v", report)
	}
}

// What should be signed and is not, is found: else it were enough to delete the
// checkpoints. What came just now, or as the replica died, is said.
func TestUnsigned(t *testing.T) {
	t.Parallel()
	r := record(t, databaseOf(t))
	erased := r.call("ada", "x")
	r.sign()
	r.shipped(1)
	conn := outside(t)
	do := func(sql string) {
		t.Helper()
		if err := conn.Exec(context.Background(), strings.ReplaceAll(sql, "{db}", databaseOf(t))); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	events := func(n uint64) {
		t.Helper()
		for range 400 {
			var have uint64
			if err := conn.QueryRow(context.Background(), "SELECT count() FROM "+databaseOf(t)+".events").Scan(&have); err == nil && have == n {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		t.Fatal("the events do not arrive")
	}
	bare := func(after time.Duration) verify.Report {
		t.Helper()
		return run(t, databaseOf(t), r, func(c *verify.Config) { c.Witness, c.Now = nil, time.Now().Add(after) })
	}
	tell := func(at time.Time, e call.ChangeEvent) {
		t.Helper()
		r.append(call.Event{Kind: call.Changed, Time: at, Change: &e})
	}

	tell(time.Now(), call.ChangeEvent{What: call.ChangeErased, By: "https://idp|dpo", Calls: []call.ID{erased}})
	events(6)
	do("ALTER TABLE {db}.calls UPDATE args = '', path = '', rpc_message = NULL, request_body = '', request_body_tail = '', response_body = '', response_body_tail = '', original_sealed = '', " +
		"request_body_sum = toFixedString('', 32), response_body_sum = toFixedString('', 32), request_salt = toFixedString('', 16), response_salt = toFixedString('', 16), erased = now() WHERE true")
	if report := bare(0); !report.OK() || !strings.Contains(strings.Join(report.Unchecked, "\n"), "not signed yet") {
		t.Errorf("an erasure of just now: %+v", report)
	}
	if report := bare(time.Hour); report.OK() || report.Findings[0].Table != "calls" || report.Findings[0].CallID != erased {
		t.Errorf("an erasure that nobody signed: %+v", report)
	}
	r.sign()
	r.shipped(1)
	tell(time.Now(), call.ChangeEvent{What: call.ChangeStarted})
	events(7)
	if report := bare(time.Hour); !report.OK() || !strings.Contains(strings.Join(report.Unchecked, "\n"), "last 1 events") {
		t.Errorf("the last second of a replica that died: %+v", report)
	}
	tell(time.Now().Add(5*time.Minute), call.ChangeEvent{What: call.ChangeStopped})
	events(8)
	if report := bare(0); !report.OK() {
		t.Errorf("an event of just now: %+v", report)
	}
	unsigned := func(index uint64) {
		t.Helper()
		if report := bare(time.Hour); len(report.Findings) != 1 || report.Findings[0].Kind != verify.Unsigned || report.Findings[0].Index != index {
			t.Errorf("want events from %d on unsigned: %+v", index, report)
		}
	}
	unsigned(6)
	do("ALTER TABLE {db}.events UPDATE inserted = toDateTime('2100-01-01 00:00:00') WHERE spool_index >= 6")
	unsigned(6)
	do("TRUNCATE TABLE {db}.checkpoints")
	if report := bare(time.Hour); report.OK() || report.Findings[0].Kind != verify.Unsigned || report.Findings[0].Index != 0 {
		t.Errorf("without checkpoints: %+v", report)
	}
}

// Who trusts the first key follows the log to the next; a revoked key proves
// nothing that comes after.
func TestKeysFollowTheLog(t *testing.T) {
	t.Parallel()
	r := record(t, databaseOf(t))
	r.call("ada", "x")
	r.sign()
	first := r.trusted()
	if _, err := r.keys.Add(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.call("bob", "y")
	r.sign()
	r.call("eve", "z")
	r.sign()
	r.shipped(3)
	report := run(t, databaseOf(t), r, func(c *verify.Config) { c.Keys = first })
	if !report.OK() || report.Logs[0].Signed != 14 || len(report.Unchecked) > 0 {
		t.Errorf("with the first key: %+v", report)
	}
	second := r.trusted()[1]
	if _, err := r.keys.Edit(t.Context(), func(ring *ledger.Ring) error {
		_, err := ring.Revoke(second, "stolen", time.Now())
		return err
	}); err != nil {
		t.Fatal(err)
	}
	r.sign() // by a third, which the first does not lead to
	r.shipped(3)
	report = run(t, databaseOf(t), r, func(c *verify.Config) { c.Keys = first })
	if report.Logs[0].Signed != 14 || !strings.Contains(strings.Join(report.Unchecked, "\n"), "not trusted") || len(report.Findings) != 1 || report.Findings[0].Kind != verify.Unsigned {
		t.Errorf("after the revocation: %+v", report)
	}
	report = run(t, databaseOf(t), r, func(c *verify.Config) { c.Keys = r.trusted() })
	if !report.OK() || report.Logs[0].Signed != 16 {
		t.Errorf("with the new key: %+v", report)
	}
}

// What retention and erasure take leaves the rest provable; what they did not
// take is missed.
func TestErasedAndExpired(t *testing.T) {
	t.Parallel()
	r := record(t, databaseOf(t))
	erased, kept := r.call("ada", "x"), r.call("bob", "y")
	r.append(call.Event{Kind: call.Changed, Time: time.Now(), Change: &call.ChangeEvent{What: call.ChangeErased, By: "https://idp|dpo", Calls: []call.ID{erased}}})
	r.sign()
	r.shipped(2)
	conn := outside(t)
	clear := func(id uuid.UUID) {
		t.Helper()
		sql := "ALTER TABLE " + databaseOf(t) + `.calls UPDATE args = '', path = '', rpc_message = NULL, request_body = '', request_body_tail = '', response_body = '', response_body_tail = '', original_sealed = '',
			request_body_sum = toFixedString('', 32), response_body_sum = toFixedString('', 32), request_salt = toFixedString('', 16), response_salt = toFixedString('', 16), erased = now()
			WHERE call_id = '` + id.String() + "'"
		if err := conn.Exec(context.Background(), sql); err != nil {
			t.Fatal(err)
		}
	}
	clear(erased)
	if report := run(t, databaseOf(t), r, nil); !report.OK() || report.Erased != 1 {
		t.Errorf("after an erasure: %+v", report)
	}
	clear(kept)
	if report := run(t, databaseOf(t), r, nil); report.OK() || report.Findings[0].CallID != kept {
		t.Errorf("after one that nobody told of: %+v", report)
	}
}

// A range begins at a signed tree and says what lies before.
func TestSince(t *testing.T) {
	t.Parallel()
	r := record(t, databaseOf(t))
	r.call("ada", "x")
	r.sign() // has a frontier, as the first of the hour
	r.shipped(1)
	time.Sleep(5 * time.Millisecond)
	since := time.Now()
	r.call("bob", "y")
	r.sign()
	r.shipped(2)
	report := run(t, databaseOf(t), r, func(c *verify.Config) { c.Since = since })
	if !report.OK() || report.Calls != 1 || report.Logs[0].First != 5 || !strings.Contains(strings.Join(report.Unchecked, "\n"), "5 events before") {
		t.Errorf("%+v", report)
	}
	if report := run(t, databaseOf(t), r, func(c *verify.Config) { c.Until = since }); !report.OK() || report.Calls != 1 {
		t.Errorf("until: %+v", report)
	}
}

// A third party checks a call with the proof and the key alone.
func TestProof(t *testing.T) {
	t.Parallel()
	r := record(t, databaseOf(t))
	r.call("ada", "x")
	id := r.call("bob", "the body")
	r.call("eve", "z")
	r.sign()
	r.call("kim", "later")
	r.sign()
	r.shipped(4)
	keys := r.trusted()
	proof, err := verify.Export(t.Context(), r.db, keys, id, true)
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(proof)
	if err != nil {
		t.Fatal(err)
	}
	got, proved, err := verify.CheckProof(data, keys)
	if err != nil || got != id || len(proved) != 4 {
		t.Fatalf("%v, %s, %+v", err, got, proved)
	}
	for _, p := range proved {
		if d := p.Event.Decided; d != nil && (p.Content != "proved" || string(d.Body.Head) != "the body" || string(d.ArgsJSON) != `{"to":"bob"}`) {
			t.Errorf("%+v", p)
		}
	}
	bare, err := verify.Export(t.Context(), r.db, keys, id, false)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(bare)
	if err != nil {
		t.Fatal(err)
	}
	if _, proved, err := verify.CheckProof(text, keys); err != nil || proved[1].Content == "proved" {
		t.Errorf("without content: %v", err)
	}
	other, err := ledger.NewKey("callgate/test", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := verify.CheckProof(data, []string{other.Verifier}); err == nil {
		t.Error("another key proves it")
	}
	for name, edit := range map[string]func(*verify.Proof){
		"another call":        func(p *verify.Proof) { p.CallID[0]++ },
		"another leaf":        func(p *verify.Proof) { p.Events[1].Leaf[len(p.Events[1].Leaf)-1]++ },
		"another body":        func(p *verify.Proof) { p.Events[1].Head[0]++ },
		"a body, no aside":    func(p *verify.Proof) { p.Events[1].Aside = nil },
		"another spool":       func(p *verify.Proof) { p.Events[1].Spool = uuid.NewString() },
		"an event twice":      func(p *verify.Proof) { p.Events = append(p.Events, p.Events[0]) },
		"another's inclusion": func(p *verify.Proof) { p.Events[1].Inclusion = p.Events[2].Inclusion },
		"no events":           func(p *verify.Proof) { p.Events = nil },
		"another format":      func(p *verify.Proof) { p.Format = "x" },
	} {
		var p verify.Proof
		if err := json.Unmarshal(data, &p); err != nil {
			t.Fatal(err)
		}
		edit(&p)
		bad, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := verify.CheckProof(bad, keys); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	if _, err := verify.Export(t.Context(), r.db, []string{other.Verifier}, id, true); err == nil || !strings.Contains(err.Error(), "no trusted checkpoint") {
		t.Errorf("exported under another key: %v", err)
	}
}

func FuzzCheckProof(f *testing.F) {
	k, err := ledger.NewKey("n", time.Now())
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(`{"format":"callgate-proof/1","call_id":"01935b5e-7f6a-7c1e-9d3b-2f1f0a9c8b7d","events":[{"spool":"s","leaf":"ggKk","inclusion":"c2sp.org/tlog-proof@v1\nindex 0\n\no\n1\n"}]}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, _, err := verify.CheckProof(data, []string{k.Verifier}); err == nil {
			t.Error("proved by a key that signed nothing")
		}
	})
}
