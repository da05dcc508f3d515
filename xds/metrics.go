package xds

import "github.com/prometheus/client_golang/prometheus"

// Metrics counts Envoys and what they say.
type Metrics struct {
	connected         prometheus.Gauge
	accepted, refused prometheus.Counter
}

// NewMetrics registers the package's metrics.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		connected: prometheus.NewGauge(prometheus.GaugeOpts{Name: "callgate_xds_streams", Help: "Envoys connected."}),
		accepted:  prometheus.NewCounter(prometheus.CounterOpts{Name: "callgate_xds_accepted_total", Help: "Responses that Envoys accepted (ACK)."}),
		refused:   prometheus.NewCounter(prometheus.CounterOpts{Name: "callgate_xds_refused_total", Help: "Responses that Envoys refused (NACK)."}),
	}
	r.MustRegister(m.connected, m.accepted, m.refused)
	return m
}
