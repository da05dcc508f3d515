package approvals

import (
	"github.com/prometheus/client_golang/prometheus"
)

// Metrics counts holds and what became of them.
type Metrics struct {
	waiting  prometheus.Gauge
	asked    prometheus.Counter
	ended    *prometheus.CounterVec // by outcome
	decision prometheus.Histogram
	storeErr prometheus.Counter
	steps    *prometheus.CounterVec // by step
	open     prometheus.Gauge
	oldest   prometheus.Gauge
	reviews  prometheus.Gauge
}

// NewMetrics registers the package's metrics.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		waiting: prometheus.NewGauge(prometheus.GaugeOpts{Name: "callgate_approvals_waiting",
			Help: "Calls held open by this process."}),
		asked: prometheus.NewCounter(prometheus.CounterOpts{Name: "callgate_approvals_asked_total",
			Help: "Approvals asked for."}),
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "callgate_approvals_ended_total",
			Help: "Held calls that this process answered, by reason."}, []string{"reason"}),
		decision: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "callgate_approvals_decision_seconds",
			Help:    "Time from asking to a person's decision.",
			Buckets: []float64{1, 5, 15, 30, 60, 120, 300, 600, 1800, 3600}}),
		storeErr: prometheus.NewCounter(prometheus.CounterOpts{Name: "callgate_approvals_store_errors_total",
			Help: "Steps that the approval store could not take."}),
		steps: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "callgate_approvals_steps_total",
			Help: "Steps of approvals that this process took, such as asked, approved, expired or broke_glass."}, []string{"step"}),
		open: prometheus.NewGauge(prometheus.GaugeOpts{Name: "callgate_approvals_open",
			Help: "Approvals in the store that people have not decided yet."}),
		oldest: prometheus.NewGauge(prometheus.GaugeOpts{Name: "callgate_approvals_oldest_open_seconds",
			Help: "How long the open approval has waited that waits longest; 0 where none is open."}),
		reviews: prometheus.NewGauge(prometheus.GaugeOpts{Name: "callgate_approvals_reviews_open",
			Help: "Calls that broke glass and that nobody has reviewed yet."}),
	}
	r.MustRegister(m.waiting, m.asked, m.ended, m.decision, m.storeErr, m.steps, m.open, m.oldest, m.reviews)
	return m
}
