package verify_test

import (
	"testing"
	"time"

	"github.com/callgate/callgate/audit/verify"
)

// BenchmarkVerify tells how many calls a second are verified: three events and a
// row each, and an approval.
func BenchmarkVerify(b *testing.B) {
	const calls = 5_000
	r := record(b, databaseOf(b))
	for range calls {
		r.call("ada", "a body of some length, as requests have them in real life")
	}
	r.sign()
	r.shipped(calls)
	b.ResetTimer()
	for b.Loop() {
		report, err := verify.Run(b.Context(), verify.Config{Source: r.db, Keys: r.trusted(), Now: time.Now().Add(time.Hour)})
		if err != nil || !report.OK() || report.Calls != calls {
			b.Fatal(err, report)
		}
	}
	b.ReportMetric(float64(calls)*float64(b.N)/b.Elapsed().Seconds(), "calls/s")
}
