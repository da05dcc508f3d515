package identity

import "github.com/prometheus/client_golang/prometheus"

// Metrics counts tokens.
type Metrics struct {
	cached, verified, failed prometheus.Counter
}

// NewMetrics registers the package's metrics.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		cached:   prometheus.NewCounter(prometheus.CounterOpts{Name: "callgate_identity_tokens_cached_total", Help: "Tokens known from an earlier call."}),
		verified: prometheus.NewCounter(prometheus.CounterOpts{Name: "callgate_identity_tokens_checked_total", Help: "Tokens whose signature was checked."}),
		failed:   prometheus.NewCounter(prometheus.CounterOpts{Name: "callgate_identity_key_fetches_failed_total", Help: "Fetches of issuers' keys that failed."}),
	}
	r.MustRegister(m.cached, m.verified, m.failed)
	return m
}
