package audit

import "github.com/prometheus/client_golang/prometheus"

// Metrics tells how the spool does.
type Metrics struct {
	appended, failed, damaged prometheus.Counter
	append, commit, batch     prometheus.Histogram
	bytes, limit, records     prometheus.Gauge
	level                     prometheus.Gauge
}

// NewMetrics registers the package's metrics. Alert on
// callgate_spool_alert_percent, which is 50, 80 and 95 as the spool fills, or on
// callgate_spool_bytes / callgate_spool_limit_bytes, and on any damage.
func NewMetrics(r prometheus.Registerer) *Metrics {
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: "callgate_spool_" + name, Help: help})
		r.MustRegister(c)
		return c
	}
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: "callgate_spool_" + name, Help: help})
		r.MustRegister(g)
		return g
	}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "callgate_spool_" + name, Help: help, Buckets: buckets})
		r.MustRegister(h)
		return h
	}
	seconds := prometheus.ExponentialBuckets(0.0001, 2, 16) // 0.1 ms to 3.3 s
	return &Metrics{
		appended: counter("events_total", "Events made durable."),
		failed:   counter("failures_total", "Events that could not be made durable; their calls were denied."),
		damaged:  counter("damaged_records_total", "Acknowledged records that can no longer be read."),
		append:   histogram("append_seconds", "Time until an event was durable.", seconds),
		commit:   histogram("commit_seconds", "Time to write and sync a batch.", seconds),
		batch:    histogram("batch_records", "Events made durable by one sync.", prometheus.ExponentialBuckets(1, 2, 12)),
		bytes:    gauge("bytes", "Bytes the spool takes."),
		limit:    gauge("limit_bytes", "Bytes at which calls are denied."),
		level:    gauge("alert_percent", "How full the spool is: 0, or 50, 80 or 95 percent of its limit passed."),
		records:  gauge("records", "Events kept: not shipped, or their call not settled."),
	}
}
