package app

import (
	lru "github.com/hashicorp/golang-lru/v2"
)

// sessions are MCP sessions that began through this process and whose client can
// show its person a page. Others are told without one where an approval is.
type sessions struct {
	known *lru.Cache[session, struct{}]
}

// session names one; ids are chosen by servers.
type session struct{ connection, id string }

// mostSessions bounds how many are remembered, and longestSession an id's bytes.
const (
	mostSessions   = 10_000
	longestSession = 256
)

func newSessions() (*sessions, error) {
	known, err := lru.New[session, struct{}](mostSessions)
	return &sessions{known}, err
}

// Note implements [extproc.Sessions].
func (s *sessions) Note(connection, id string) {
	if len(id) <= longestSession {
		s.known.Add(session{connection, id}, struct{}{})
	}
}

// Elicits implements [extauthz.Sessions].
func (s *sessions) Elicits(connection, id string) bool {
	_, known := s.known.Get(session{connection, id})
	return known
}
