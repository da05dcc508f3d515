package clickhouse

import "time"

// Status is how shipping stands.
type Status struct {
	Shipped     uint64 `json:"shipped"` // all events below are in ClickHouse
	Durable     uint64 `json:"durable"` // all events below are in the spool or shipped
	Unsettled   int    `json:"unsettled"`
	Quarantined int    `json:"quarantined"`
	Away        bool   `json:"away"` // ClickHouse does not take the trail at the moment
	AwayWhy     string `json:"away_why,omitempty"`
	Stopped     string `json:"stopped,omitempty"` // why shipping can't go on
	// Oldest is when the oldest event was made that is not in ClickHouse; zero
	// where all are.
	Oldest time.Time `json:"oldest,omitzero"`
}

// measure tells metrics and status how shipping stands.
func (s *Shipper) measure() {
	durable := s.spool.Status().Durable
	oldest, age := s.oldest, 0.0
	if oldest.IsZero() && durable > s.state.Events {
		oldest = s.newest // the next is not read yet, and is not older
	}
	if !oldest.IsZero() {
		age = max(0, time.Since(oldest).Seconds())
	}
	m := s.cfg.Metrics
	m.backlog.Set(float64(durable - min(durable, s.state.Events)))
	m.pending.Set(float64(len(s.calls.byID)))
	m.oldest.Set(age)
	if time.Since(s.countedAt) > countEvery { // rows leave by requeue, too
		s.countedAt = time.Now()
		m.quarantined.Set(float64(s.quarantine.count()))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.Shipped, s.status.Unsettled, s.status.Oldest = s.state.Events, len(s.calls.byID), oldest
}

// Status tells how shipping stands.
func (s *Shipper) Status() Status {
	s.mu.Lock()
	st := s.status
	s.mu.Unlock()
	st.Durable = s.spool.Status().Durable
	st.Quarantined = s.quarantine.count()
	if st.Away = s.away.Load(); !st.Away {
		st.AwayWhy = ""
	}
	if st.Oldest.IsZero() && st.Durable > st.Shipped {
		st.Oldest = s.firstUnshipped(st.Shipped) // nothing was read yet
	}
	return st
}

// firstUnshipped is when the event at index was made, or the first that is
// kept; zero where that can't be told.
func (s *Shipper) firstUnshipped(index uint64) time.Time {
	r := s.spool.NewReader(index)
	records, _, err := r.Read(1, 1)
	// It is only for people to look at; what can't be read is told of elsewhere.
	if r.Close() != nil || err != nil || len(records) == 0 {
		return time.Time{}
	}
	e, err := records[0].Event(s.codec)
	if err != nil {
		return time.Time{}
	}
	return e.Time
}
