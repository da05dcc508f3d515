package app

import (
	"context"
	"crypto/sha256"
	"log/slog"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/callgate/callgate/approvals"
)

// sessions are MCP sessions whose client can show its person a page. Others are
// told without one where an approval is. Those that began through this process are
// known to it at once, and those of other replicas from the approval store.
type sessions struct {
	known *lru.Cache[session, struct{}]
	store approvals.Sessions
	fresh chan session // to be noted in the store
	log   *slog.Logger
}

// session is a connection and the id of a session, hashed: servers choose ids, of any
// length, and who has one can speak in it.
type session [sha256.Size]byte

func sessionOf(connection, id string) session {
	return sha256.Sum256([]byte(connection + "\x00" + id))
}

const (
	// mostSessions bounds how many are remembered here.
	mostSessions = 10_000
	// sessionTime is for how long the store remembers one.
	sessionTime = 7 * 24 * time.Hour
	// mostFresh bounds how many wait to be noted, and sessionPause how many are in
	// a second: whoever may begin sessions can begin many.
	mostFresh    = 256
	sessionPause = 20 * time.Millisecond
	// sessionWait bounds a question about one.
	sessionWait = time.Second
)

func newSessions(store approvals.Sessions, log *slog.Logger) (*sessions, error) {
	known, err := lru.New[session, struct{}](mostSessions)
	return &sessions{known: known, store: store, fresh: make(chan session, mostFresh), log: log}, err
}

// Note implements [extproc.Sessions].
func (s *sessions) Note(connection, id string) {
	one := sessionOf(connection, id)
	s.known.Add(one, struct{}{})
	select {
	case s.fresh <- one:
	default: // this process knows it all the same
	}
}

// Elicits implements [extauthz.Sessions].
func (s *sessions) Elicits(ctx context.Context, connection, id string) bool {
	one := sessionOf(connection, id)
	if _, known := s.known.Get(one); known {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, sessionWait)
	defer cancel()
	noted, err := s.store.NotedSession(ctx, one, time.Now())
	if err != nil {
		s.log.WarnContext(ctx, "whether a session's client can show a page is not known; it is told without one", "error", err)
		return false
	}
	if noted {
		s.known.Add(one, struct{}{})
	}
	return noted
}

// run notes sessions in the store, until ctx ends.
func (s *sessions) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case one := <-s.fresh:
			now := time.Now()
			bounded, cancel := context.WithTimeout(ctx, sessionWait)
			if err := s.store.NoteSession(bounded, one, now, now.Add(sessionTime)); err != nil && ctx.Err() == nil {
				s.log.WarnContext(ctx, "that a session's client can show a page is known to this process alone", "error", err)
			}
			cancel()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(sessionPause):
		}
	}
}
