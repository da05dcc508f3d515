package notify

import "github.com/prometheus/client_golang/prometheus"

// Metrics counts what was told to whom.
type Metrics struct {
	sent        *prometheus.CounterVec // by target and outcome
	undelivered *prometheus.GaugeVec   // by target
}

// NewMetrics registers the package's metrics.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		sent: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "callgate_approvals_notifications_total",
			Help: "Attempts to tell a target of a step of a held call, by outcome: sent, failed (tried again) or dropped."}, []string{"target", "outcome"}),
		undelivered: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "callgate_approvals_notifications_undelivered",
			Help: "Notifications that wait in the approval store, by target."}, []string{"target"}),
	}
	r.MustRegister(m.sent, m.undelivered)
	return m
}
