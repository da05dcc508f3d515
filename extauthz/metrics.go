package extauthz

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/callgate/callgate/call"
)

// Metrics counts decisions. Its labels are bounded by the configuration.
type Metrics struct {
	decisions  *prometheus.CounterVec
	took       prometheus.Histogram
	held       prometheus.Gauge
	unrecorded prometheus.Counter
	lost       prometheus.Counter
	panics     prometheus.Counter
}

// NewMetrics registers the package's metrics.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "callgate_decisions_total", Help: "Calls decided, by connection, outcome and reason."}, []string{"connection", "outcome", "reason"}),
		took: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "callgate_decision_seconds", Help: "Time to decide, record included, time held not.",
			Buckets: []float64{.00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .5, 2}}),
		held:       prometheus.NewGauge(prometheus.GaugeOpts{Name: "callgate_calls_held", Help: "Calls that wait for people at this replica."}),
		unrecorded: prometheus.NewCounter(prometheus.CounterOpts{Name: "callgate_decisions_unrecorded_total", Help: "Decisions whose record could not be made durable at once."}),
		lost:       prometheus.NewCounter(prometheus.CounterOpts{Name: "callgate_decisions_lost_total", Help: "Decisions that were never recorded."}),
		panics:     prometheus.NewCounter(prometheus.CounterOpts{Name: "callgate_decision_panics_total", Help: "Faults contained to one call."}),
	}
	r.MustRegister(m.decisions, m.took, m.held, m.unrecorded, m.lost, m.panics)
	return m
}

func (m *Metrics) decided(d *decision, decided call.Decision) {
	m.decisions.WithLabelValues(d.call.Connection, string(decided.Outcome), string(decided.Reason)).Inc()
	took := d.server.cfg.Now().Sub(d.started)
	if decided.Approval != nil {
		took -= decided.Approval.HeldFor
	}
	m.took.Observe(took.Seconds())
}
