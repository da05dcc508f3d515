package accesslog

import "github.com/prometheus/client_golang/prometheus"

// Metrics counts access-log entries.
type Metrics struct {
	recorded, lost, undecided, bypassed prometheus.Counter
}

// NewMetrics registers the package's metrics. Alert on any increase of
// callgate_accesslog_bypassed_total.
func NewMetrics(r prometheus.Registerer) *Metrics {
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: "callgate_accesslog_" + name, Help: help})
		r.MustRegister(c)
		return c
	}
	return &Metrics{
		recorded:  counter("entries_recorded_total", "Access-log entries recorded."),
		lost:      counter("entries_lost_total", "Access-log entries that could not be recorded; their calls' rows say unknown."),
		undecided: counter("entries_undecided_total", "Access-log entries of requests that were not decided: Envoy answered them itself, or they bypassed ext_authz."),
		bypassed:  counter("bypassed_total", "Requests that reached an upstream without a decision."),
	}
}
