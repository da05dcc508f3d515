package clickhouse

import "github.com/prometheus/client_golang/prometheus"

// Metrics tells how shipping does.
type Metrics struct {
	rows                                               *prometheus.CounterVec
	insert                                             *prometheus.HistogramVec
	retries, refused, unknown, completed, lost, broken prometheus.Counter
	backlog, pending, oldest, stopped, quarantined     prometheus.Gauge
}

// NewMetrics registers the package's metrics.
func NewMetrics(r prometheus.Registerer) *Metrics {
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: "callgate_ship_" + name, Help: help})
		r.MustRegister(c)
		return c
	}
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: "callgate_ship_" + name, Help: help})
		r.MustRegister(g)
		return g
	}
	m := &Metrics{
		rows: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "callgate_ship_rows_total", Help: "Rows inserted into ClickHouse."}, []string{"table"}),
		insert: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "callgate_ship_insert_seconds", Help: "Time of one insert into ClickHouse.",
			Buckets: prometheus.ExponentialBuckets(0.002, 2, 14)}, []string{"table"}),
		retries:     counter("retries_total", "Attempts that failed and were repeated."),
		refused:     counter("quarantined_rows_total", "Rows that ClickHouse refused; they lie in the quarantine directory."),
		unknown:     counter("unknown_legs_rows_total", "Rows written with a leg unknown."),
		completed:   counter("completed_rows_total", "Rows completed by a leg that came later."),
		lost:        counter("unreadable_records_total", "Records that the spool could not read."),
		broken:      counter("undecodable_events_total", "Events in the ledger whose leaf could not be decoded."),
		backlog:     gauge("backlog_events", "Durable events that are not in ClickHouse yet."),
		pending:     gauge("unsettled_calls", "Calls whose row waits for a leg."),
		oldest:      gauge("oldest_unshipped_seconds", "Age of the oldest event that is not in ClickHouse yet."),
		quarantined: gauge("quarantine_rows", "Rows that lie in the quarantine directory now."),
		stopped:     gauge("stopped", "1 where shipping can't go on without an operator; the log says why."),
	}
	r.MustRegister(m.rows, m.insert)
	return m
}
