package postgres

import "sync"

// seen remembers what readers of changes have seen, by cursor: a snapshot tells
// exactly which transactions were committed when it was taken.
type seen struct {
	mu        sync.Mutex
	last      int64
	snapshots map[int64]string
}

// remembered is how many cursors are known. A reader has one.
const remembered = 128

func (s *seen) put(snapshot string) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.snapshots == nil {
		s.snapshots = map[int64]string{}
	}
	s.last++
	s.snapshots[s.last] = snapshot
	delete(s.snapshots, s.last-remembered)
	return s.last
}

// get returns what a cursor has seen: nothing where it is not known any more.
func (s *seen) get(cursor int64) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if snapshot, ok := s.snapshots[cursor]; ok {
		return snapshot
	}
	return "1:1:"
}
