package clickhouse

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/callgate/callgate/call"
)

// BenchmarkShip ships b.N calls of three events each from a full spool. It
// tells calls per second and the shipper's own CPU time for a call; what the
// engine takes is its own.
func BenchmarkShip(b *testing.B) {
	db, _ := database(b)
	spool := newSpool(b, b.TempDir())
	for i := range b.N {
		d := decided(b, call.Answered, call.Finished)
		d.Decided.Body = body(fmt.Sprintf(`{"amount":%d,"note":"%s"}`, i, strings.Repeat("n", 200)))
		for _, e := range []call.Event{d, answered(d, fmt.Sprintf(`{"id":"re-%d","state":"%s"}`, i, strings.Repeat("s", 400))), finished(d)} {
			go func() {
				if err := spool.Append(context.Background(), e); err != nil {
					b.Error(err)
				}
			}()
		}
		if i%300 == 299 {
			if err := spool.Wait(context.Background(), uint64(3*(i-250))); err != nil {
				b.Fatal(err)
			}
		}
	}
	if err := spool.Wait(context.Background(), uint64(3*b.N-1)); err != nil {
		b.Fatal(err)
	}
	var before, after syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &before)
	b.ReportAllocs()
	b.ResetTimer()
	started := time.Now()
	r := ship(b, db, spool, time.Minute)
	for r.shipper.Status().Shipped < uint64(3*b.N) || r.shipper.Status().Unsettled > 0 {
		time.Sleep(time.Millisecond)
	}
	took := time.Since(started)
	b.StopTimer()
	syscall.Getrusage(syscall.RUSAGE_SELF, &after)
	cpu := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
	b.ReportMetric(float64(b.N)/took.Seconds(), "calls/s")
	b.ReportMetric(float64(cpu)/1000/float64(b.N), "cpu-µs/call")
	var bytes uint64
	if err := db.conn.QueryRow(context.Background(), "SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND database = currentDatabase()").Scan(&bytes); err == nil {
		b.ReportMetric(float64(bytes)/float64(b.N), "disk-B/call")
	}
}
