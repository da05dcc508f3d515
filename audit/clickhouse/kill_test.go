package clickhouse

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/callgate/callgate/audit"
	"github.com/callgate/callgate/call"
)

// runChild is the process that is killed: it records calls into the spool in
// args[0], prints the id of each once it is durable, and ships to the
// ClickHouse at args[1], database args[2].
func runChild(args []string) {
	fail := func(err error) {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	log := slog.New(slog.DiscardHandler)
	spool, err := audit.Open(audit.SpoolConfig{Dir: args[0], MaxBytes: 1 << 30, SegmentBytes: 1 << 17, Log: log, Metrics: audit.NewMetrics(prometheus.NewRegistry())})
	if err != nil {
		fail(err)
	}
	db, err := Open(on(args[1], args[2]))
	if err != nil {
		fail(err)
	}
	ctx := context.Background()
	shipper := NewShipper(ShipperConfig{Spool: spool, DB: db, SettleAfter: 200 * time.Millisecond, Log: log, Metrics: NewMetrics(prometheus.NewRegistry())})
	go shipper.Run(ctx)
	var mu sync.Mutex
	for range 4 {
		go func() {
			t := &testing.B{}
			for {
				d := decided(t, call.Answered, call.Finished)
				if err := spool.Append(ctx, d); err != nil {
					fail(err)
				}
				mu.Lock()
				fmt.Println(d.CallID)
				mu.Unlock()
				time.Sleep(rand.N(2 * time.Millisecond))
				for _, e := range []call.Event{answered(d, "x"), finished(d)} {
					if rand.N(20) == 0 {
						continue // never seen
					}
					if err := spool.Append(ctx, e); err != nil {
						fail(err)
					}
				}
			}
		}()
	}
	io.Copy(io.Discard, os.Stdin) // ends with the parent
	os.Exit(0)
}

// kills is how often TestKill kills; the soak does it more often.
func kills() int {
	if os.Getenv("CALLGATE_SOAK") != "" {
		return 200
	}
	return 10
}

// After kill -9 at any moment, any number of times, there is one row for each
// call whose decision was acknowledged.
func TestKill(t *testing.T) {
	t.Parallel()
	db, cfg := database(t)
	dir := t.TempDir()
	acked := map[string]bool{}
	for range kills() {
		cmd := exec.Command(os.Args[0], "shipper", dir, cfg.URL, cfg.Database)
		cmd.Stderr = os.Stderr
		stdin, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		timer := time.AfterFunc(100*time.Millisecond+rand.N(600*time.Millisecond), func() { cmd.Process.Kill() })
		for lines := bufio.NewScanner(out); lines.Scan(); {
			line := lines.Text()
			if len(line) != 36 {
				t.Fatalf("child: %s", line)
			}
			acked[line] = true
		}
		timer.Stop()
		cmd.Wait()
		stdin.Close()
	}
	spool := newSpool(t, dir)
	ship(t, db, spool, 200*time.Millisecond)
	exactlyOnce(t, db, spool)
	rows, err := db.conn.Query(context.Background(), "SELECT toString(call_id), toString(answered), toString(finished) FROM calls")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	n, whole := 0, 0
	for rows.Next() {
		var id, answered, finished string
		if err := rows.Scan(&id, &answered, &finished); err != nil {
			t.Fatal(err)
		}
		n++
		if answered == LegSeen && finished == LegSeen {
			whole++
		}
		delete(acked, id)
	}
	for id := range acked {
		t.Errorf("%s was acknowledged and has no row", id)
	}
	// A leg that is in the ledger is in its row, however the process died.
	eventually(t, db, "0", `SELECT toString(count()) FROM calls WHERE
		(answered = 'unknown' AND call_id IN (SELECT call_id FROM events WHERE kind = 'answered')) OR
		(finished = 'unknown' AND call_id IN (SELECT call_id FROM events WHERE kind = 'finished'))`)
	if n < 100 || whole < n/2 {
		t.Errorf("%d rows, %d whole: no test", n, whole)
	}
	t.Logf("%d rows, %d with all legs", n, whole)
}
