package clickhouse

import (
	"github.com/callgate/callgate/audit"
	"github.com/callgate/callgate/call"
)

// entry is a record with the event in it, or why there is none.
type entry struct {
	audit.Record
	event *call.Event
	err   error
}

// chunk is what a round ships.
type chunk struct {
	entries []entry
	damage  []audit.Damage // in front of or between them
	to      uint64         // index after the last record that was read
	stop    error          // why no more could be read
}

// read reads up to n records.
func (s *Shipper) read(n int) *chunk {
	records, damage, stop := s.reader.Read(n, roundBytes)
	c := &chunk{entries: make([]entry, len(records)), damage: damage, to: s.reader.Next(), stop: stop}
	for i, rec := range records {
		e := new(call.Event)
		var err error
		*e, err = rec.Own(s.codec)
		c.entries[i] = entry{rec, e, err}
	}
	return c
}

// next is what the next round ships.
func (s *Shipper) next() *chunk {
	if c := s.ahead; c != nil {
		s.ahead = nil
		return c
	}
	return s.read(roundRecords)
}

// readAhead reads what the next round ships while this one is sent, if there is
// a backlog to work off. Until its result is taken nobody else may read.
func (s *Shipper) readAhead(backlog bool) <-chan *chunk {
	ahead := make(chan *chunk, 1)
	if !backlog {
		ahead <- nil
		return ahead
	}
	go func() { ahead <- s.read(roundRecords) }()
	return ahead
}
