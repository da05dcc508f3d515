package extproc

import (
	"fmt"
	"sync/atomic"
)

// memory is what all responses together may hold at once.
type budget struct {
	max  int64 // bytes
	used atomic.Int64
}

// share is one response's part of it.
type share struct {
	of   *budget
	held int64
}

// hold makes the share n bytes. It fails where there is no room.
func (s *share) hold(n int) error {
	more := int64(n) - s.held
	if more == 0 {
		return nil
	}
	if used := s.of.used.Add(more); more > 0 && used > s.of.max {
		s.of.used.Add(-more)
		return fmt.Errorf("the responses being masked together hold more than %d bytes (masking.memory); raise it, or let fewer large responses be in flight", s.of.max)
	}
	s.held += more
	return nil
}

func (s *share) free() {
	s.of.used.Add(-s.held)
	s.held = 0
}
