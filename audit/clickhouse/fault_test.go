package clickhouse

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/callgate/callgate/audit"
	"github.com/callgate/callgate/call"
)

// bad is a network to ClickHouse that loses things.
type bad struct {
	down atomic.Bool  // nothing gets through
	lose atomic.Int32 // percent of the inserts and updates that go wrong
	soon atomic.Bool  // what arrives, arrives before the client gives up
	lost atomic.Int32
}

// badNetwork is in front of the ClickHouse of cfg; it returns the Config to go
// through it. What goes wrong: the request never arrives; it arrives and its
// answer does not; or it arrives late, when the client has long given up and
// tries again.
func badNetwork(t *testing.T, cfg Config) (*bad, Config) {
	t.Helper()
	target, _, err := parseURL(cfg.URL)
	if err != nil {
		t.Fatal(err)
	}
	opt, err := cfg.options()
	if err != nil {
		t.Fatal(err)
	}
	target.Host = opt.Addr[0]
	b := &bad{}
	cfg.CAFile = ""
	if strings.HasPrefix(target.Scheme, "clickhouse") {
		cfg.URL = "clickhouse://" + badWire(t, b, target.Host, opt.TLS)
		return b, cfg
	}
	forward := httputil.NewSingleHostReverseProxy(target)
	forward.Transport = &http.Transport{TLSClientConfig: opt.TLS}
	forward.ErrorHandler = func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) }
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if b.down.Load() {
			panic(http.ErrAbortHandler)
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		changes := strings.Contains(r.URL.RawQuery, "INSERT") || bytes.HasPrefix(body, []byte("UPDATE"))
		if !changes || rand.N(100) >= int(b.lose.Load()) {
			forward.ServeHTTP(w, r)
			return
		}
		b.lost.Add(1)
		late := r.Clone(context.WithoutCancel(r.Context()))
		late.Body = io.NopCloser(bytes.NewReader(body))
		switch rand.N(3) {
		case 0:
		case 1:
			forward.ServeHTTP(httptest.NewRecorder(), late)
		case 2:
			if b.soon.Load() {
				forward.ServeHTTP(httptest.NewRecorder(), late)
				break
			}
			go func() {
				time.Sleep(rand.N(300 * time.Millisecond))
				forward.ServeHTTP(httptest.NewRecorder(), late)
			}()
		}
		panic(http.ErrAbortHandler)
	}))
	t.Cleanup(server.Close)
	cfg.URL = server.URL
	return b, cfg
}

// exactlyOnce checks that a spool's events and the calls that were decided in
// it are there, each once.
func exactlyOnce(t testing.TB, db *DB, spool *audit.Spool) {
	t.Helper()
	n := spool.Status().Durable
	eventually(t, db, fmt.Sprintf("%d %d 0 %d", n, n, n-1),
		"SELECT concat(toString(count()), ' ', toString(uniqExact(spool_index)), ' ', toString(min(spool_index)), ' ', toString(max(spool_index))) FROM events WHERE spool = ?", spool.ID())
	eventually(t, db, "0", `SELECT toString(countIf(n != 1)) FROM (
		SELECT call_id, countIf(src = 'calls') AS n FROM (
			SELECT call_id, 'events' AS src FROM events WHERE kind = 'decided' AND spool = ?
			UNION ALL SELECT call_id, 'calls' AS src FROM calls WHERE spool = ?) GROUP BY call_id)`, spool.ID(), spool.ID())
}

func TestUnknownOutcomes(t *testing.T) {
	t.Parallel()
	db, cfg := database(t)
	network, through := badNetwork(t, cfg)
	network.lose.Store(60)
	spool := newSpool(t, t.TempDir())
	r := ship(t, openDB(t, through), spool, 100*time.Millisecond)
	for i := range 150 {
		d := decided(t, call.Answered, call.Finished)
		r.append(d)
		if i%10 != 0 {
			r.append(answered(d, "x"), finished(d))
		}
		if i%10 == 5 {
			time.Sleep(30 * time.Millisecond) // make several batches of it
		}
	}
	eventually(t, db, "150 135", "SELECT concat(toString(count()), ' ', toString(countIf(answered = 'seen' AND finished = 'seen'))) FROM calls")
	time.Sleep(400 * time.Millisecond) // stragglers of the network
	exactlyOnce(t, db, spool)
	if network.lost.Load() == 0 {
		t.Error("no request was lost: no test")
	}
	t.Logf("%d requests were lost", network.lost.Load())
}

// Deduplication in ClickHouse remembers only so much. An insert that is
// repeated when it has forgotten must not double anything either.
func TestUnknownOutcomesWithoutDeduplication(t *testing.T) {
	t.Parallel()
	db, cfg := database(t)
	for _, table := range []string{tableEvents, tableCalls} {
		if err := db.conn.Exec(context.Background(), "ALTER TABLE "+table+" MODIFY SETTING non_replicated_deduplication_window = 0"); err != nil {
			t.Fatal(err)
		}
	}
	network, through := badNetwork(t, cfg)
	network.lose.Store(70)
	network.soon.Store(true)
	spool := newSpool(t, t.TempDir())
	r := ship(t, openDB(t, through), spool, time.Minute)
	for range 40 {
		r.append(decided(t))
		time.Sleep(10 * time.Millisecond)
	}
	exactlyOnce(t, db, spool)
}

// The file that shipping needs is there before ClickHouse is: on a disk that
// fills until it comes, it could not be made any more.
func TestStateIsMadeBeforeClickHouseIsThere(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	spool := newSpool(t, dir)
	db := openDB(t, Config{URL: "http://127.0.0.1:1", Database: "nowhere", Password: func() (string, error) { return password, nil }})
	ship(t, db, spool, time.Minute)
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		info, err := os.Stat(filepath.Join(dir, "ship.state"))
		if err == nil && info.Size() == 2*slotSize {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("it was never made: %v", err)
		}
	}
}

// put writes a shipper's state as if it had been saved before a kill.
func put(t *testing.T, dir string, st state) {
	t.Helper()
	f, _, _, err := openState(filepath.Join(dir, "ship.state"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	if err := f.save(st); err != nil {
		t.Fatal(err)
	}
}

// A call may be read from a long backlog, hours after its leg came to another
// replica. The row must get that leg even if it settles before it was asked
// for, and the look for late legs has long passed it.
func TestLegLongBeforeItsCall(t *testing.T) {
	t.Parallel()
	db, _ := database(t)
	d := decided(t, call.Answered)
	b := ship(t, db, newSpool(t, t.TempDir()), time.Minute)
	b.append(answered(d, "long ago"))
	eventually(t, db, "1", "SELECT toString(count()) FROM events")
	for _, sql := range []string{
		"INSERT INTO events SELECT * REPLACE (inserted - 3600 AS inserted) FROM events",
		"DELETE FROM events WHERE inserted > now() - 600",
	} {
		if err := db.conn.Exec(context.Background(), sql); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, db, "1", "SELECT toString(count()) FROM events")
	spool := newSpool(t, t.TempDir())
	put(t, spool.Dir(), state{Spool: spool.ID(), Late: time.Now()})
	ship(t, db, spool, time.Millisecond).append(d)
	eventually(t, db, "long ago", "SELECT response_body FROM calls")
}

// A late leg that was being shipped when the process was killed still
// completes its row.
func TestLateLegKilled(t *testing.T) {
	t.Parallel()
	db, _ := database(t)
	spool := newSpool(t, t.TempDir())
	r := ship(t, db, spool, time.Millisecond)
	first, d := decided(t, call.Answered), decided(t, call.Answered)
	r.append(first, d)
	eventually(t, db, "2", "SELECT toString(count()) FROM calls WHERE answered = 'unknown'")
	r.stop()
	r.append(answered(d, "late"))
	put(t, spool.Dir(), state{Spool: spool.ID(), Low: 0, Events: 2, To: 3}) // the first call was unsettled then
	ship(t, db, spool, time.Millisecond)
	eventually(t, db, "late", "SELECT response_body FROM calls WHERE call_id = ?", d.CallID)
	exactlyOnce(t, db, spool)
}

func TestClickHouseAwayAndBack(t *testing.T) {
	t.Parallel()
	db, cfg := database(t)
	network, through := badNetwork(t, cfg)
	network.down.Store(true)
	spool := newSpool(t, t.TempDir())
	r := ship(t, openDB(t, through), spool, 50*time.Millisecond)
	for range 1000 { // also while it starts
		d := decided(t, call.Finished)
		r.append(d, finished(d))
	}
	for !r.shipper.Status().Away {
		time.Sleep(time.Millisecond)
	}
	if st := r.shipper.Status(); st.AwayWhy == "" || st.Oldest.IsZero() || time.Since(st.Oldest) > time.Minute {
		t.Errorf("away: %+v", st)
	}
	network.down.Store(false)
	eventually(t, db, "1000", "SELECT toString(countIf(finished = 'seen')) FROM calls")
	exactlyOnce(t, db, spool)
	// What was shipped needs no room any more.
	for spool.Status().First == 0 {
		d := decided(t)
		r.append(d)
		time.Sleep(10 * time.Millisecond)
	}
	if st := r.shipper.Status(); st.Away || st.AwayWhy != "" || st.Shipped == 0 || st.Stopped != "" {
		t.Errorf("status %+v", st)
	}
}

// The engine itself is killed during inserts, and comes back.
func TestEngineKilled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	proc, err := startEngine(dir, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := proc.Addr()
	defer func() { proc.Stop() }()
	db := openDB(t, Config{URL: "http://" + addr, Password: func() (string, error) { return password, nil }})
	spool := newSpool(t, t.TempDir())
	r := ship(t, db, spool, 100*time.Millisecond)
	for range 3 {
		for range 200 {
			d := decided(t, call.Finished)
			r.append(d, finished(d))
		}
		time.Sleep(rand.N(150 * time.Millisecond))
		process, err := os.FindProcess(proc.PID())
		if err != nil {
			t.Fatal(err)
		}
		if err := process.Kill(); err != nil {
			t.Fatal(err)
		}
		<-proc.Done()
		if proc, err = startEngine(dir, addr); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, db, "600", "SELECT toString(countIf(finished = 'seen')) FROM calls")
	exactlyOnce(t, db, spool)
}

// A row that ClickHouse refuses stops none of the others and is not lost.
func TestQuarantine(t *testing.T) {
	t.Parallel()
	db, cfg := database(t)
	ctx := context.Background()
	if err := db.conn.Exec(ctx, "ALTER TABLE calls ADD CONSTRAINT clean CHECK subject != 'poison'"); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	spool := newSpool(t, dir)
	var poison []call.Event
	for i := range 40 {
		d := decided(t)
		if i%13 == 0 {
			d.Decided.Identity.Subject = "poison"
			poison = append(poison, d)
		}
		if err := spool.Append(ctx, d); err != nil {
			t.Fatal(err)
		}
	}
	r := ship(t, db, spool, time.Minute)
	eventually(t, db, "36 36", "SELECT concat(toString(count()), ' ', toString(uniqExact(call_id))) FROM calls")
	eventually(t, db, "40", "SELECT toString(count()) FROM events")
	r.append(decided(t))
	eventually(t, db, "37", "SELECT toString(count()) FROM calls")
	if n := r.shipper.Status().Quarantined; n != 4 {
		t.Errorf("%d in quarantine", n)
	}
	data, err := os.ReadFile(filepath.Join(dir, "quarantine", fmt.Sprintf("calls-%020d.json", 13)))
	if err != nil {
		t.Fatal(err)
	}
	var q quarantined
	if err := json.Unmarshal(data, &q); err != nil {
		t.Fatal(err)
	}
	e, err := spool.Codec().Decode(q.Events[0].Leaf)
	if err != nil || e.CallID != poison[1].CallID || !bytes.Equal(q.Events[0].Head, poison[1].Decided.Body.Head) || !strings.Contains(q.Reason, "VIOLATED_CONSTRAINT") {
		t.Errorf("quarantine holds %+v, %v", q, err)
	}
	r.stop()
	ship(t, openDB(t, cfg), spool, time.Minute).append(decided(t))
	eventually(t, db, "38 38", "SELECT concat(toString(count()), ' ', toString(uniqExact(call_id))) FROM calls")
}

// The state is a help, not the truth: without it nothing is sent twice.
func TestStateLost(t *testing.T) {
	t.Parallel()
	db, _ := database(t)
	dir := t.TempDir()
	spool := newSpool(t, dir)
	r := ship(t, db, spool, 50*time.Millisecond)
	for range 300 {
		d := decided(t, call.Finished)
		r.append(d, finished(d))
	}
	eventually(t, db, "300", "SELECT toString(count()) FROM calls")
	r.stop()
	if err := os.Remove(filepath.Join(dir, "ship.state")); err != nil {
		t.Fatal(err)
	}
	r = ship(t, db, spool, 50*time.Millisecond)
	d := decided(t, call.Finished)
	r.append(d, finished(d))
	eventually(t, db, "301", "SELECT toString(count()) FROM calls")
	exactlyOnce(t, db, spool)
}

// What a kill left half done is found out too when the state is lost: calls
// whose events are missing, and events that are missing among others.
func TestStateLostHalfway(t *testing.T) {
	t.Parallel()
	db, _ := database(t)
	dir := t.TempDir()
	spool := newSpool(t, dir)
	r := ship(t, db, spool, 50*time.Millisecond)
	held := decided(t, call.Finished) // keeps the spool from forgetting the rest
	r.append(held)
	for range 100 {
		d := decided(t, call.Finished)
		r.append(d, finished(d))
	}
	eventually(t, db, "201", "SELECT toString(count()) FROM events")
	eventually(t, db, "101", "SELECT toString(count()) FROM calls")
	r.stop()
	for _, sql := range []string{
		"DELETE FROM events WHERE spool_index BETWEEN 40 AND 60 OR spool_index >= 150",
		"DELETE FROM calls WHERE spool_index BETWEEN 90 AND 99",
	} {
		if err := db.conn.Exec(context.Background(), sql); err != nil {
			t.Fatal(err)
		}
	}
	if whole, end, err := db.reached(context.Background(), spool.ID(), spool.Status().First); err != nil || whole != 40 || end != 200 {
		t.Errorf("it is said to be whole up to %d and to end at %d: %v", whole, end, err)
	}
	if err := os.Remove(filepath.Join(dir, "ship.state")); err != nil {
		t.Fatal(err)
	}
	ship(t, db, spool, 50*time.Millisecond).append(decided(t))
	exactlyOnce(t, db, spool)
	eventually(t, db, "102", "SELECT toString(count()) FROM calls")
}

// editFirst changes the first leaf in a closed spool and makes its checksums
// fit again.
func editFirst(t *testing.T, dir string, edit func(leaf []byte)) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "spool.id"))
	if err != nil {
		t.Fatal(err)
	}
	id, err := uuid.Parse(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, fmt.Sprintf("%020d.log", 0))
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	table := crc32.MakeTable(crc32.Castagnoli)
	rec := data[64:]
	payload := rec[24 : 24+binary.LittleEndian.Uint32(rec)]
	leaf := payload[1:]
	for range 3 { // the lengths of leaf, aside and head
		_, n := binary.Uvarint(leaf)
		leaf = leaf[n:]
	}
	edit(leaf)
	binary.LittleEndian.PutUint32(rec[4:], crc32.Checksum(payload, table))
	seed := crc32.Checksum(append(id[:], make([]byte, 8)...), table)
	binary.LittleEndian.PutUint32(rec[20:], crc32.Update(seed, table, rec[:20]))
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// closedSpool is the directory of a spool with n denied calls.
func closedSpool(t *testing.T, n int) string {
	t.Helper()
	dir := t.TempDir()
	s := newSpool(t, dir)
	for range n {
		if err := s.Append(context.Background(), decided(t)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestFutureEventStopsShipping(t *testing.T) {
	t.Parallel()
	db, _ := database(t)
	dir := closedSpool(t, 3)
	editFirst(t, dir, func(leaf []byte) { leaf[1] = audit.LeafVersion + 1 })
	r := ship(t, db, newSpool(t, dir), time.Minute)
	for r.shipper.Status().Stopped == "" {
		time.Sleep(5 * time.Millisecond)
	}
	r.stop()
	if !strings.Contains(r.log.String(), "newer version of callgate; upgrade") || !strings.Contains(r.log.String(), "nothing is lost") {
		t.Errorf("log: %s", r.log)
	}
	if st := r.spool.Status(); st.First != 0 {
		t.Errorf("deleted: %+v", st)
	}
	eventually(t, db, "0", "SELECT toString(count()) FROM events")
}

func TestUndecodableEventStaysInTheLedger(t *testing.T) {
	t.Parallel()
	db, _ := database(t)
	dir := closedSpool(t, 3)
	editFirst(t, dir, func(leaf []byte) { leaf[2] = 0xff })
	ship(t, db, newSpool(t, dir), time.Minute)
	eventually(t, db, "['unreadable','decided','decided']", "SELECT toString(groupArray(kind)) FROM (SELECT kind FROM events ORDER BY spool_index)")
	eventually(t, db, "2", "SELECT toString(count()) FROM calls")
}

func TestSpoolOlderThanWhatWasShipped(t *testing.T) {
	t.Parallel()
	db, _ := database(t)
	dir := closedSpool(t, 3)
	segment, tree := filepath.Join(dir, fmt.Sprintf("%020d.log", 0)), filepath.Join(dir, "tree")
	old, err := os.ReadFile(segment)
	if err != nil {
		t.Fatal(err)
	}
	oldTree, err := os.ReadFile(tree)
	if err != nil {
		t.Fatal(err)
	}
	r := ship(t, db, newSpool(t, dir), time.Minute)
	r.append(decided(t), decided(t))
	eventually(t, db, "5", "SELECT toString(count()) FROM calls")
	r.stop()
	r.spool.Close()
	files, _ := filepath.Glob(filepath.Join(dir, "*.log"))
	for _, f := range files {
		os.Remove(f)
	}
	if err := os.WriteFile(segment, old, 0o600); err != nil {
		t.Fatal(err)
	}

	// The disk lost the end of the log: it goes on behind what was lost.
	r = ship(t, db, newSpool(t, dir), time.Minute)
	r.append(decided(t))
	eventually(t, db, "6 5", "SELECT concat(toString(count()), ' ', toString(max(spool_index))) FROM calls")
	r.stop()
	r.spool.Close()

	// Somebody restored an old copy of the directory: the same indexes would
	// name other records.
	files, _ = filepath.Glob(filepath.Join(dir, "*.log"))
	for _, f := range files {
		os.Remove(f)
	}
	for path, data := range map[string][]byte{segment: old, tree: oldTree} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	spool := newSpool(t, dir)
	shipper := NewShipper(ShipperConfig{Spool: spool, DB: db, Log: r.shipper.cfg.Log, Metrics: r.shipper.cfg.Metrics})
	if err := shipper.session(context.Background()); err == nil || !strings.Contains(err.Error(), "old copy was restored") {
		t.Errorf("%v", err)
	}
}
