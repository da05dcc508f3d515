package clickhouse

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/callgate/callgate/audit"
	"github.com/callgate/callgate/call"
)

// rig is a spool with a shipper to a database.
type rig struct {
	t       testing.TB
	db      *DB
	spool   *audit.Spool
	shipper *Shipper
	log     *bytes.Buffer
	stop    func()
}

func newSpool(t testing.TB, dir string) *audit.Spool {
	t.Helper()
	s, err := audit.Open(audit.SpoolConfig{Dir: dir, MaxBytes: 1 << 30, SegmentBytes: 1 << 18,
		Log: slog.New(slog.DiscardHandler), Metrics: audit.NewMetrics(prometheus.NewRegistry())})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// ship starts a shipper for a spool, and stops it with the test or stop.
func ship(t testing.TB, db *DB, spool *audit.Spool, settle time.Duration) *rig {
	t.Helper()
	return shipSigned(t, db, spool, settle, nil)
}

// shipSigned ships checkpoints, too.
func shipSigned(t testing.TB, db *DB, spool *audit.Spool, settle time.Duration, checkpoints Checkpoints) *rig {
	t.Helper()
	r := &rig{t: t, db: db, spool: spool, log: new(bytes.Buffer)}
	log := slog.New(slog.NewTextHandler(r.log, nil))
	r.shipper = NewShipper(ShipperConfig{Spool: spool, DB: db, SettleAfter: settle, Checkpoints: checkpoints, Log: log, Metrics: NewMetrics(prometheus.NewRegistry())})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.shipper.Run(ctx)
	}()
	r.stop = func() {
		cancel()
		<-done
	}
	t.Cleanup(func() {
		r.stop()
		if t.Failed() {
			t.Log(r.log.String())
		}
	})
	return r
}

func (r *rig) append(events ...call.Event) {
	r.t.Helper()
	for _, e := range events {
		if err := r.spool.Append(context.Background(), e); err != nil {
			r.t.Fatal(err)
		}
	}
}

// eventually waits for a query's single value to be want.
func eventually(t testing.TB, db *DB, want, sql string, args ...any) {
	t.Helper()
	var got string
	var err error
	patience := time.Minute
	if serverAddr != "" {
		patience = 5 * time.Minute // it may be far away, or a cluster
	}
	pause := 2 * time.Millisecond
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(pause) {
		if err = db.conn.QueryRow(context.Background(), sql, args...).Scan(&got); err == nil && got == want {
			return
		}
		pause = min(pause*3/2, 50*time.Millisecond)
	}
	t.Fatalf("%s\n gives %q (%v), want %q", sql, got, err, want)
}

func body(s string) call.Body {
	return call.Body{Head: []byte(s), Length: int64(len(s)), SHA256: sha256.Sum256([]byte(s)), ContentType: "application/json"}
}

func decided(t testing.TB, expect ...call.EventKind) call.Event {
	t.Helper()
	id, err := call.NewID()
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	return call.Event{Kind: call.Decided, CallID: id, Time: now, Decided: &call.DecidedEvent{
		Identity: call.Identity{Issuer: "https://idp.example", Subject: "ada", Kind: call.Agent, Groups: []string{"support", "eu"},
			Actors: []call.Actor{{Issuer: "https://idp.example", Subject: "bot"}, {Subject: "cron"}}, Method: "oidc", TokenID: "jti-1", Expires: now.Add(time.Hour), Scope: call.Scope{"crm:refunds.*", "tools"}},
		Connection: "crm", Protocol: call.MCP, Function: "tools/call refund", ArgsJSON: []byte(`{"customer":{"id":"c-7"},"amount":12.5}`),
		Session: "s-1",
		Decision: call.Decision{Outcome: call.HoldAllow, Rule: "big", Reason: call.ReasonApproved, Message: "approved", PolicyVersion: "v1", Shadow: []string{"tighter"},
			Approval: &call.Approval{ID: "ap-1", By: []string{"https://idp.example|eve"}, Comment: "fine", HeldFor: 3 * time.Second, AskedAt: now.Add(-3 * time.Second), EndedAt: now, Attempts: 2}},
		Method: "POST", Scheme: "https", Authority: "crm.example", Path: "/mcp?x=\xff",
		Headers: call.Headers{{Name: "x-a", Value: "1"}, {Name: "x-a", Value: "2"}},
		Body:    body("{\"q\":\"\x00\xff'\\n\"}"), Source: "10.0.0.7:51234", TraceID: "t-1", RequestID: "r-1", RPCID: `"7"`,
		Started: now.Add(-3100 * time.Millisecond), Took: 180 * time.Microsecond, Expect: expect,
		Batch: call.Place{ID: id, Index: 2, Size: 3}, Masked: []call.Masked{{Rule: "mails", Type: "email", Path: "customer.mail", Count: 3}},
	}}
}

func answered(d call.Event, text string) call.Event {
	failed := true
	return call.Event{Kind: call.Answered, CallID: d.CallID, Time: time.Now(), Answered: &call.AnsweredEvent{
		Status: 200, RPCStatus: &call.RPCStatus{Code: -32000, Message: "no 'such' thing"}, ToolError: &failed,
		Headers: call.Headers{{Name: "content-type", Value: "application/json"}}, Body: body(text),
		Masked:   []call.Masked{{Rule: "cards", Type: "card", Path: "$.card", Count: 2}, {Rule: "keys", Type: "secret", Count: 1}},
		Original: &call.Original{Commitment: [32]byte{1, 2, 3}, Sealed: []byte("sealed\x00" + text)},
	}}
}

func finished(d call.Event) call.Event {
	return call.Event{Kind: call.Finished, CallID: d.CallID, Time: time.Now(), Finished: &call.FinishedEvent{
		Status: 200, Details: "via_upstream", Flags: []string{"UF", "DC"}, Upstream: "10.1.1.1:80", Cluster: "crm", Attempts: 1, Started: d.Time,
		Duration: 4 * time.Millisecond, UpstreamTook: 2 * time.Millisecond, BytesIn: 100, BytesOut: 200, EnvoyNode: "edge-1", HTTPVersion: "HTTP/2", TLSVersion: "TLSv1.3",
	}}
}

// response is everything that the legs put into a row, as one text.
const response = `SELECT concat(toString(answered), ' ', toString(finished), ' ', toString(http_status), ' ', toString(rpc_code), ' ', rpc_message, ' ',
	toString(tool_error), ' ', toString(response_headers), ' ', response_body, ' ', toString(response_body_bytes), ' ', lower(hex(response_body_sha256)), ' ',
	toString(masked.rule), toString(masked.type), toString(masked.path), toString(masked.count), ' ', toString(total_us), ' ', toString(upstream_us), ' ',
	toString(bytes_in), ' ', toString(bytes_out), ' ', toString(response_flags), ' ', response_details, ' ', upstream, ' ', cluster, ' ', http_version)
	FROM calls WHERE call_id = ?`

func wantResponse(text string) string {
	return fmt.Sprintf(`seen seen 200 -32000 no 'such' thing true {'content-type':'application/json'} %s %d %x `+
		`['cards','keys']['card','secret']['$.card',''][2,1] 4000 2000 100 200 ['UF','DC'] via_upstream 10.1.1.1:80 crm HTTP/2`,
		text, len(text), sha256.Sum256([]byte(text)))
}

func TestOneCompleteRow(t *testing.T) {
	t.Parallel()
	db, _ := database(t)
	r := ship(t, db, newSpool(t, t.TempDir()), time.Minute)
	d := decided(t, call.Answered, call.Finished)
	r.append(d)
	eventually(t, db, "1", "SELECT toString(count()) FROM events")
	r.append(answered(d, `{"ok":"'\x00\xff"}`), finished(d))
	eventually(t, db, wantResponse(`{"ok":"'\x00\xff"}`), response, d.CallID)
	eventually(t, db, "3 0 1", "SELECT concat(toString(count()), ' ', toString(countIf(unjoined)), ' ', toString(uniq(spool))) FROM events")

	row, err := db.Call(context.Background(), d.CallID)
	if err != nil {
		t.Fatal(err)
	}
	want := newRow(&d, r.spool.ID(), 0)
	a, f := answered(d, `{"ok":"'\x00\xff"}`), finished(d)
	want.add(&a)
	want.add(&f)
	want.Inserted = row.Inserted
	if row.RequestSalt == noSalt || row.ResponseSalt == noSalt || row.RequestSalt == row.ResponseSalt {
		t.Error("the row has no salts of its own")
	}
	want.RequestSalt, want.ResponseSalt = row.RequestSalt, row.ResponseSalt
	if got, want := asJSON(t, row), asJSON(t, want); got != want {
		t.Errorf("row is\n%s\nwant\n%s", got, want)
	}
	eventually(t, db, "c-7", "SELECT JSONExtractString(args, 'customer', 'id') FROM calls")
}

func TestDeniedCallNeedsNoLegs(t *testing.T) {
	t.Parallel()
	db, _ := database(t)
	r := ship(t, db, newSpool(t, t.TempDir()), time.Hour)
	d := decided(t)
	d.Decided.Decision = call.Decision{Outcome: call.Deny, Reason: call.ReasonNoRule}
	r.append(d)
	eventually(t, db, "none none deny false", "SELECT concat(toString(answered), ' ', toString(finished), ' ', decision, ' ', toString(allowed)) FROM calls")
}

// A leg that does not come leaves the row saying so; one that comes after all
// completes the row and makes no second one.
func TestLateLeg(t *testing.T) {
	t.Parallel()
	db, _ := database(t)
	r := ship(t, db, newSpool(t, t.TempDir()), 50*time.Millisecond)
	var calls []call.Event
	for range 30 {
		d := decided(t, call.Answered, call.Finished)
		calls = append(calls, d)
		r.append(d)
	}
	eventually(t, db, "30", "SELECT toString(count()) FROM calls WHERE answered = 'unknown' AND finished = 'unknown' AND http_status IS NULL AND total_us IS NULL")
	big := strings.Repeat("0123456789abcdef", 1<<16) // 1 MiB, which is more than one statement usually takes
	r.append(answered(calls[0], big))
	eventually(t, db, "seen unknown 200", "SELECT concat(toString(answered), ' ', toString(finished), ' ', toString(http_status)) FROM calls WHERE call_id = ?", calls[0].CallID)
	for i, d := range calls {
		f := finished(d)
		f.Finished.Status = 502 + i%2
		r.append(f)
	}
	eventually(t, db, "30 15", "SELECT concat(toString(countIf(finished = 'seen')), ' ', toString(countIf(http_status = 502))) FROM calls")
	for _, d := range calls[1:] {
		r.append(answered(d, d.CallID.String()))
	}
	// What Envoy sent in the end stays the status that the caller got.
	eventually(t, db, "30 15", "SELECT concat(toString(countIf(answered = 'seen')), ' ', toString(countIf(http_status = 502))) FROM calls")
	eventually(t, db, "30 30 29", "SELECT concat(toString(count()), ' ', toString(uniq(call_id)), ' ', toString(countIf(response_body = toString(call_id)))) FROM calls")
	eventually(t, db, strings.Replace(wantResponse(big), "seen seen 200", "seen seen 502", 1), response, calls[0].CallID)
	// A leg that comes twice changes nothing.
	r.append(answered(calls[1], "other"), finished(calls[1]))
	eventually(t, db, "92", "SELECT toString(count()) FROM events")
	time.Sleep(2 * lateSoon)
	eventually(t, db, "30 0", "SELECT concat(toString(count()), ' ', toString(countIf(response_body = 'other'))) FROM calls")
}

// The legs of one call may come to three replicas.
func TestLegsOnOtherSpools(t *testing.T) {
	t.Parallel()
	db, _ := database(t)
	a, b, c := ship(t, db, newSpool(t, t.TempDir()), time.Minute), ship(t, db, newSpool(t, t.TempDir()), time.Minute), ship(t, db, newSpool(t, t.TempDir()), time.Minute)
	for i := range 50 {
		d := decided(t, call.Answered, call.Finished)
		text := fmt.Sprintf("answer %d", i)
		if i%2 == 0 { // the leg may even be there first
			b.append(answered(d, text))
			a.append(d)
		} else {
			a.append(d)
			b.append(answered(d, text))
		}
		c.append(finished(d))
	}
	eventually(t, db, "50 50 50", "SELECT concat(toString(count()), ' ', toString(uniq(call_id)), ' ', toString(countIf(answered = 'seen' AND finished = 'seen' AND response_body LIKE 'answer %'))) FROM calls")
	eventually(t, db, "100", "SELECT toString(count()) FROM events WHERE unjoined")
	eventually(t, db, a.spool.ID(), "SELECT any(spool) FROM calls")
}

// A replica that starts after its calls' legs came elsewhere finds them.
func TestLateLegOnAnotherSpool(t *testing.T) {
	t.Parallel()
	db, _ := database(t)
	a := ship(t, db, newSpool(t, t.TempDir()), 10*time.Millisecond)
	d := decided(t, call.Answered, call.Finished)
	a.append(d)
	eventually(t, db, "unknown", "SELECT toString(answered) FROM calls")
	a.stop()
	b := ship(t, db, newSpool(t, t.TempDir()), time.Minute)
	b.append(answered(d, "elsewhere"), finished(d))
	eventually(t, db, "2", "SELECT toString(count()) FROM events WHERE unjoined")
	ship(t, db, a.spool, 10*time.Millisecond)
	eventually(t, db, wantResponse("elsewhere"), response, d.CallID)
}

func TestApprovalsHistory(t *testing.T) {
	t.Parallel()
	db, _ := database(t)
	r := ship(t, db, newSpool(t, t.TempDir()), time.Minute)
	d := decided(t)
	for _, step := range []string{"asked", "approved", "used"} {
		kind := call.Approved
		if step == "asked" {
			kind = call.Held
		}
		r.append(call.Event{Kind: kind, CallID: d.CallID, Time: time.Now(), Approval: &call.ApprovalEvent{
			ID: "ap-1", Step: step, By: "i|eve", Comment: "fine", Rule: "big", Function: "f", Expires: time.Now().Add(time.Hour), Binding: [32]byte{1}}})
	}
	r.append(call.Event{Kind: call.Changed, Time: time.Now(), Change: &call.ChangeEvent{What: "policy.activated", Version: "v2"}})
	eventually(t, db, "['asked','approved','used']", "SELECT toString(groupArray(step)) FROM (SELECT step FROM approvals WHERE approval_id = 'ap-1' ORDER BY time)")
	eventually(t, db, "['changed','held','approved','approved']", "SELECT toString(groupArray(kind)) FROM (SELECT kind FROM events ORDER BY kind = 'changed' DESC, spool_index)")
}
