package audit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/callgate/callgate/call"
)

func decided(t testing.TB, body []byte) call.Event {
	t.Helper()
	id, err := call.NewID()
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	return call.Event{Kind: call.Decided, CallID: id, Time: now, Decided: &call.DecidedEvent{
		Identity: call.Identity{
			Issuer: "https://idp.example", Subject: "ada", Kind: call.Agent, Groups: []string{"support"},
			Actors: []call.Actor{{Subject: "bot"}}, Method: "oidc", TokenID: "jti-1", Expires: now.Add(time.Hour),
		},
		Connection: "crm", Protocol: call.HTTP, Function: "refunds.create", ArgsJSON: []byte(`{"amount":12}`),
		Session: "s-1", Decision: call.Decision{Outcome: call.Allow, Rule: "small", Reason: call.ReasonRule, PolicyVersion: "v1"},
		Method: "POST", Scheme: "https", Authority: "crm.example", Path: "/refunds?dry=1",
		Headers: call.Headers{{Name: "content-type", Value: "application/json"}, {Name: "user-agent", Value: "curl"}},
		Body:    call.Body{Head: body, Length: int64(len(body)), SHA256: sha256.Sum256(body), ContentType: "application/json"},
		Source:  "10.0.0.7:51234", Started: now, Took: 180 * time.Microsecond,
		Expect: []call.EventKind{call.Answered, call.Finished},
	}}
}

func config(t testing.TB, dir string) SpoolConfig {
	return SpoolConfig{Dir: dir, MaxBytes: 64 << 20, SegmentBytes: 1 << 16, wait: time.Millisecond,
		Log: slog.New(slog.DiscardHandler), Metrics: NewMetrics(prometheus.NewRegistry())}
}

func open(t testing.TB, cfg SpoolConfig) *Spool {
	t.Helper()
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// body names the i-th event by its body.
func body(i int) []byte { return []byte(fmt.Sprintf("%06d%s", i, strings.Repeat("x", i%700))) }

func fill(t testing.TB, s *Spool, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		if err := s.Append(context.Background(), decided(t, body(i))); err != nil {
			t.Fatal(err)
		}
	}
}

// contents are the bodies of what a spool holds from index from on.
func contents(t testing.TB, s *Spool, from uint64) ([]string, []Damage) {
	t.Helper()
	r := s.NewReader(from)
	defer r.Close()
	var bodies []string
	var damage []Damage
	next := from
	for {
		recs, dmg, err := r.Read(7, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		damage = append(damage, dmg...)
		if len(recs) == 0 && len(dmg) == 0 {
			return bodies, damage
		}
		for _, rec := range recs {
			if rec.Index < next {
				t.Fatalf("record %d after %d", rec.Index, next)
			}
			next = rec.Index + 1
			again, err := s.Fetch(rec.Place)
			if err != nil || !bytes.Equal(again.Head, rec.Head) {
				t.Fatalf("fetch of record %d differs: %v", rec.Index, err)
			}
			e, err := rec.Event(s.Codec())
			if err != nil {
				t.Fatal(err)
			}
			bodies = append(bodies, string(e.Decided.Body.Head))
		}
	}
}

func want(t testing.TB, got []string, from, to int) {
	t.Helper()
	if len(got) != to-from {
		t.Fatalf("%d records, want %d to %d", len(got), from, to)
	}
	for i, b := range got {
		if b != string(body(from+i)) {
			t.Fatalf("record %d holds %.6s", from+i, b)
		}
	}
}

func TestSpoolKeepsOrderAcrossSegmentsAndReopening(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, config(t, dir))
	id := s.ID()
	fill(t, s, 0, 300)
	got, _ := contents(t, s, 0)
	want(t, got, 0, 300)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, config(t, dir))
	if s.ID() != id {
		t.Error("the spool's id changed")
	}
	fill(t, s, 300, 400)
	got, _ = contents(t, s, 0)
	want(t, got, 0, 400)
	got, _ = contents(t, s, 123)
	want(t, got, 123, 400)
	if n := len(s.sealed); n < 3 {
		t.Errorf("only %d sealed segments", n)
	}
}

func TestAppendersShareSyncs(t *testing.T) {
	t.Parallel()
	cfg := config(t, t.TempDir())
	d := &faulty{disk: osDisk{}}
	cfg.disk, cfg.SegmentBytes = d, 16<<20
	s := open(t, cfg)
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for range 50 {
				if err := s.Append(context.Background(), decided(t, body(1))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got := s.Status().Durable; got != 3200 {
		t.Errorf("%d durable", got)
	}
	if n := d.syncs.Load(); n > 1600 {
		t.Errorf("%d syncs for 3200 events of 64 writers: they don't share", n)
	}
}

func TestDeleteBeforeKeepsWhatIsNeeded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, config(t, dir))
	fill(t, s, 0, 500)
	before := s.Status()
	if err := s.DeleteBefore(250); err != nil {
		t.Fatal(err)
	}
	after := s.Status()
	if after.First == 0 || after.First > 250 || after.Bytes >= before.Bytes {
		t.Errorf("after deleting: %+v", after)
	}
	got, _ := contents(t, s, after.First)
	want(t, got, int(after.First), 500)
	if err := s.DeleteBefore(1 << 40); err != nil {
		t.Fatal(err)
	}
	if st := s.Status(); st.Durable != 500 {
		t.Errorf("deleting moved the end: %+v", st)
	}
	// The log goes on where it was, also after the process starts again.
	s.Close()
	s = open(t, config(t, dir))
	fill(t, s, 500, 510)
	got, _ = contents(t, s, 500)
	want(t, got, 500, 510)
}

// A process that was killed on a full disk starts again: it denies, lets what
// is there be shipped, and goes on once that has made room.
func TestOpenOnFullDisk(t *testing.T) {
	t.Parallel()
	for _, fault := range []string{"create", "write", "sync"} {
		dir := t.TempDir()
		s := open(t, config(t, dir))
		fill(t, s, 0, 20)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		d := &faulty{disk: osDisk{}}
		d.fail(fault)
		cfg := config(t, dir)
		cfg.disk = full{d}
		s = open(t, cfg)
		if s.Status().Err == nil {
			t.Errorf("%s: nothing is said of the full disk", fault)
		}
		if err := s.Append(context.Background(), decided(t, nil)); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%s: %v", fault, err)
		}
		got, damage := contents(t, s, 0)
		if want(t, got, 0, 20); len(damage) > 0 {
			t.Errorf("%s: %v", fault, damage)
		}
		d.fail("")
		time.Sleep(2 * cfg.wait)
		fill(t, s, 20, 30)
		got, _ = contents(t, s, 0)
		want(t, got, 0, 30)
	}
}

// full is a disk on which what is there can be written, as after a kill, but
// nothing new.
type full struct{ *faulty }

func (d full) open(path string) (file, error) { return d.disk.open(path) }

func TestFullSpoolRefuses(t *testing.T) {
	t.Parallel()
	cfg := config(t, t.TempDir())
	cfg.MaxBytes, cfg.SegmentBytes = 1<<18, 1<<15
	var logged bytes.Buffer
	cfg.Log = slog.New(slog.NewTextHandler(&logged, nil))
	s := open(t, cfg)
	n := 0
	var err error
	for ; err == nil; n++ {
		err = s.Append(context.Background(), decided(t, body(n)))
	}
	if !errors.Is(err, ErrFull) || !strings.Contains(err.Error(), "max_bytes") {
		t.Fatalf("full spool: %v", err)
	}
	if s.Status().Bytes > cfg.MaxBytes {
		t.Errorf("%d bytes over the limit", s.Status().Bytes-cfg.MaxBytes)
	}
	if err := s.DeleteBefore(uint64(n / 2)); err != nil {
		t.Fatal(err)
	}
	if err := s.Append(context.Background(), decided(t, body(1))); err != nil {
		t.Errorf("with room again: %v", err)
	}
	s.Close()
	for _, percent := range []string{" percent=50", " percent=80", " percent=95"} {
		if strings.Count(logged.String(), percent) != 1 {
			t.Errorf("%s warned %d times", percent, strings.Count(logged.String(), percent))
		}
	}
}

func TestSecondProcessIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	open(t, config(t, dir))
	_, err := Open(config(t, dir))
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("in use by process %d", os.Getpid())) ||
		!strings.Contains(err.Error(), "audit.spool.dir") {
		t.Errorf("second open: %v", err)
	}
}

func TestUnwritableDirectory(t *testing.T) {
	t.Parallel()
	file := t.TempDir() + "/file"
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(config(t, file+"/spool"))
	if err == nil || !strings.Contains(err.Error(), "audit.spool.dir") {
		t.Errorf("unwritable directory: %v", err)
	}
}

// A write or sync that failed must never count as done, whatever the page
// cache says later; and the spool must go on by itself once the disk does.
func TestDiskFaults(t *testing.T) {
	t.Parallel()
	for _, fault := range []string{"write", "sync", "create", "syncdir"} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			cfg := config(t, dir)
			d := &faulty{disk: osDisk{}}
			cfg.disk = d
			s := open(t, cfg)
			var acked []string
			failed := 0
			for i := range 1500 {
				switch rand.N(40) {
				case 0:
					d.fail(fault)
				case 1, 2:
					d.fail("")
					time.Sleep(2 * time.Millisecond) // let the spool try again
				}
				err := s.Append(context.Background(), decided(t, body(i)))
				switch {
				case err == nil:
					acked = append(acked, string(body(i)))
				case errors.Is(err, syscall.ENOSPC):
					failed++
				default:
					t.Fatalf("the cause is lost: %v", err)
				}
			}
			d.fail("")
			time.Sleep(2 * time.Millisecond)
			fill(t, s, 1500, 1501) // the disk is well again, so all must go on by itself
			acked = append(acked, string(body(1500)))
			if failed == 0 || len(acked) < 100 {
				t.Fatalf("%d failed, %d acknowledged: no test", failed, len(acked))
			}
			check := func(s *Spool) {
				t.Helper()
				got, damage := contents(t, s, 0)
				if len(damage) > 0 {
					t.Errorf("damage: %v", damage)
				}
				if strings.Join(got, "\n") != strings.Join(acked, "\n") {
					t.Errorf("%d records, %d acknowledged, or not the same", len(got), len(acked))
				}
			}
			check(s)
			s.Close()
			check(open(t, config(t, dir)))
		})
	}
}

func TestBrokenDiskFailsFast(t *testing.T) {
	t.Parallel()
	cfg := config(t, t.TempDir())
	d := &faulty{disk: osDisk{}}
	cfg.disk, cfg.wait = d, time.Hour
	s := open(t, cfg)
	d.fail("sync")
	if err := s.Append(context.Background(), decided(t, nil)); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	d.fail("")
	before := d.syncs.Load()
	if err := s.Append(context.Background(), decided(t, nil)); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("right after a fault: %v", err)
	}
	if d.syncs.Load() != before {
		t.Error("the disk was tried for each call")
	}
	if s.Status().Err == nil {
		t.Error("status shows no fault")
	}
}

func TestAppendEndsWithItsContext(t *testing.T) {
	t.Parallel()
	cfg := config(t, t.TempDir())
	d := &faulty{disk: osDisk{}, hold: make(chan struct{})}
	cfg.disk = d
	s := open(t, cfg)
	d.holding.Store(true)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Append(ctx, decided(t, nil)) }()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	close(d.hold)
	s.Close()
	if err := s.Append(context.Background(), decided(t, nil)); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

func TestWait(t *testing.T) {
	t.Parallel()
	s := open(t, config(t, t.TempDir()))
	done := make(chan error)
	go func() { done <- s.Wait(context.Background(), 2) }()
	fill(t, s, 0, 3)
	if err := <-done; err != nil {
		t.Error(err)
	}
	go func() { done <- s.Wait(context.Background(), 3) }()
	s.Close()
	if err := <-done; !errors.Is(err, ErrClosed) {
		t.Errorf("wait on a closed spool: %v", err)
	}
}

func BenchmarkAppend(b *testing.B) {
	for _, writers := range []int{1, 64, 512} {
		b.Run(fmt.Sprintf("%d", writers), func(b *testing.B) {
			cfg := config(b, b.TempDir())
			cfg.MaxBytes, cfg.SegmentBytes = 64<<30, 0
			s := open(b, cfg)
			e := decided(b, bytes.Repeat([]byte("x"), 1500))
			b.ReportAllocs()
			var before, after syscall.Rusage
			syscall.Getrusage(0, &before)
			b.ResetTimer()
			var wg sync.WaitGroup
			for w := range writers {
				wg.Go(func() {
					for range b.N/writers + min(1, max(0, b.N%writers-w)) {
						if err := s.Append(context.Background(), e); err != nil {
							b.Error(err)
						}
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			syscall.Getrusage(0, &after)
			cpu := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
			b.ReportMetric(float64(cpu)/1000/float64(b.N), "cpu-µs/op")
		})
	}
}

// A segment that is ended goes once its records are shipped, and a kill right
// then leaves the same log.
func TestRoll(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, config(t, dir))
	s.Roll() // nothing is in it, and nothing may be when the writer comes to it
	for taken := false; !taken; time.Sleep(time.Millisecond) {
		s.mu.Lock()
		taken = !s.rolling
		s.mu.Unlock()
	}
	fill(t, s, 0, 3)
	s.Roll()
	for n := 0; n < 2; {
		list, err := segments(dir)
		if err != nil {
			t.Fatal(err)
		}
		n = len(list)
		time.Sleep(time.Millisecond)
	}
	fill(t, s, 3, 5)
	if err := s.DeleteBefore(3); err != nil {
		t.Fatal(err)
	}
	list, err := segments(dir)
	if err != nil || len(list) != 1 || list[0].base != 3 {
		t.Fatalf("segments: %+v, %v", list, err)
	}
	s.Roll()
	for len(list) < 2 {
		if list, err = segments(dir); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
	if err := s.DeleteBefore(5); err != nil {
		t.Fatal(err)
	}
	killed := t.TempDir()
	if err := os.CopyFS(killed, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	again := open(t, config(t, killed))
	if again.ID() != s.ID() || again.Status().Durable != 5 || again.Tree().Root() != s.Tree().Root() {
		t.Errorf("after a kill: %+v", again.Status())
	}
}
