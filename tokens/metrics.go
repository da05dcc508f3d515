package tokens

import "github.com/prometheus/client_golang/prometheus"

// Metrics counts exchanges.
type Metrics struct{ exchanges *prometheus.CounterVec }

// NewMetrics registers the package's metrics.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{exchanges: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "callgate_token_exchanges_total",
		Help: "Requests to exchange a token, by result: ok, or the error's code."}, []string{"result"})}
	r.MustRegister(m.exchanges)
	return m
}
