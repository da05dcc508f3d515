package extproc

import "github.com/prometheus/client_golang/prometheus"

// Metrics counts responses.
type Metrics struct {
	responses *prometheus.CounterVec
	masked    *prometheus.CounterVec
	withheld  *prometheus.CounterVec
	lost      prometheus.Counter
	strays    prometheus.Counter
	panics    prometheus.Counter
}

// NewMetrics registers the package's metrics.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		responses: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "callgate_extproc_responses_total", Help: "Responses handled, by connection."}, []string{"connection"}),
		masked:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "callgate_extproc_masked_values_total", Help: "Values hidden from callers, by connection and type."}, []string{"connection", "type"}),
		withheld:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "callgate_extproc_withheld_total", Help: "Responses not passed on, by connection."}, []string{"connection"}),
		lost:      prometheus.NewCounter(prometheus.CounterOpts{Name: "callgate_extproc_unrecorded_total", Help: "Responses whose record could not be made durable."}),
		strays:    prometheus.NewCounter(prometheus.CounterOpts{Name: "callgate_extproc_batch_strays_total", Help: "Messages in answers to batches that answer none of their calls; not passed on."}),
		panics:    prometheus.NewCounter(prometheus.CounterOpts{Name: "callgate_extproc_panics_total", Help: "Faults contained to one response."}),
	}
	r.MustRegister(m.responses, m.masked, m.withheld, m.lost, m.strays, m.panics)
	return m
}
