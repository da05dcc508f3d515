package clickhouse

import (
	"time"

	"github.com/google/uuid"

	"github.com/callgate/callgate/audit"
	"github.com/callgate/callgate/call"
)

// leg is one event of an unsettled call. Its event is kept in memory while
// there is room, and else read again from the spool when the row is made.
type leg struct {
	place    audit.Place
	event    *call.Event
	size     int64
	retained bool
}

// pending is a call whose row is not written yet.
type pending struct {
	id                 uuid.UUID
	index              uint64 // of the decided event
	decided            *leg
	answered, finished *leg
	wantAnswer         bool
	wantFinish         bool
	decidedAt          time.Time
	read               time.Time // when the decided event was read
	poll               time.Time // when to look for legs elsewhere
	pause              time.Duration
	settled            bool
}

// complete reports whether every leg that was announced is there.
func (p *pending) complete() bool {
	return (!p.wantAnswer || p.answered != nil) && (!p.wantFinish || p.finished != nil)
}

// slot is where a leg of this kind goes.
func (p *pending) slot(kind call.EventKind) **leg {
	if kind == call.Answered {
		return &p.answered
	}
	return &p.finished
}

const (
	// retainBytes bounds the events that unsettled calls keep in memory.
	retainBytes = 64 << 20
	// maxPending bounds the unsettled calls; beyond it the oldest settle
	// with what is there, and are completed when the rest comes.
	maxPending = 400_000
	// eventOverhead is about what an event takes in memory beside its bytes.
	eventOverhead = 1 << 10
	firstPoll     = time.Second
	lastPoll      = 10 * time.Second
)

// unsettled holds the calls that this spool owns and that have no row yet.
type unsettled struct {
	byID     map[uuid.UUID]*pending
	order    []*pending // by index of the decided event
	ready    []*pending // complete, not settled
	retained int64
}

func newUnsettled() *unsettled { return &unsettled{byID: make(map[uuid.UUID]*pending)} }

// keep makes a leg of e, with the event in memory if there is room.
func (u *unsettled) keep(e *call.Event, rec audit.Record) *leg {
	l := &leg{place: rec.Place, size: int64(rec.Size()) + eventOverhead}
	if u.retained+l.size <= retainBytes {
		l.event, l.retained = e, true
		u.retained += l.size
	}
	return l
}

// decide takes the decided event of a call; false where that call was there
// already.
func (u *unsettled) decide(e *call.Event, rec audit.Record, now time.Time) bool {
	if _, twice := u.byID[e.CallID]; twice {
		return false
	}
	p := &pending{
		id: e.CallID, index: rec.Index, decided: u.keep(e, rec), decidedAt: e.Time,
		read: now, poll: now.Add(firstPoll), pause: firstPoll,
	}
	for _, kind := range e.Decided.Expect {
		switch kind {
		case call.Answered:
			p.wantAnswer = true
		case call.Finished:
			p.wantFinish = true
		}
	}
	u.byID[p.id] = p
	u.order = append(u.order, p)
	if p.complete() {
		u.ready = append(u.ready, p)
	}
	return true
}

// join adds a leg from this spool to its call; false where the call is not
// here or has such a leg.
func (u *unsettled) join(e *call.Event, rec audit.Record) bool {
	p := u.byID[e.CallID]
	if p == nil || *p.slot(e.Kind) != nil {
		return false
	}
	u.put(p, e.Kind, u.keep(e, rec))
	return true
}

// adopt adds a leg from another spool.
func (u *unsettled) adopt(e *call.Event, size int) {
	p := u.byID[e.CallID]
	if p == nil || *p.slot(e.Kind) != nil {
		return
	}
	u.put(p, e.Kind, &leg{event: e, size: int64(size) + eventOverhead})
}

func (u *unsettled) put(p *pending, kind call.EventKind, l *leg) {
	before := p.complete()
	*p.slot(kind) = l
	if !before && p.complete() {
		u.ready = append(u.ready, p)
	}
}

// drop forgets a call that has its row.
func (u *unsettled) drop(p *pending) {
	if p.settled {
		return
	}
	p.settled = true
	delete(u.byID, p.id)
	for _, l := range []*leg{p.decided, p.answered, p.finished} {
		if l != nil && l.retained {
			u.retained -= l.size
		}
	}
}

// low is the index of the first decided event whose call is unsettled, or
// next where none is.
func (u *unsettled) low(next uint64) uint64 {
	for len(u.order) > 0 && u.order[0].settled {
		u.order[0] = nil
		u.order = u.order[1:]
	}
	if len(u.order) == 0 {
		u.order = nil
		return next
	}
	return u.order[0].index
}

// size is about how much memory the call's row takes.
func (p *pending) size() int64 {
	n := int64(0)
	for _, l := range []*leg{p.decided, p.answered, p.finished} {
		if l != nil {
			n += l.size
		}
	}
	return n
}

// due takes calls that are to settle now: the complete ones, then those for
// which expired says that they have waited long enough. It takes up to n and
// no more than it needs to reach size bytes, and tells whether that was the
// limit.
func (u *unsettled) due(n int, size int64, expired func(*pending) bool) (list []*pending, more bool) {
	take := func(p *pending) bool {
		if len(list) == n || size <= 0 {
			return false
		}
		size -= p.size()
		list = append(list, p)
		u.drop(p)
		return true
	}
	for len(u.ready) > 0 {
		p := u.ready[0]
		if !p.settled && !take(p) {
			return list, true
		}
		u.ready = u.ready[1:]
	}
	u.ready = nil
	for _, p := range u.order {
		if p.settled {
			continue
		}
		if !expired(p) && len(u.byID) <= maxPending {
			break
		}
		if !take(p) {
			return list, true
		}
	}
	return list, false
}

// toPoll takes up to n calls whose missing legs may be on another spool by
// now.
func (u *unsettled) toPoll(n int, now time.Time) []*pending {
	var list []*pending
	for _, p := range u.order {
		if len(list) == n || now.Sub(p.read) < firstPoll {
			break // later ones were read later
		}
		if p.settled || p.complete() || now.Before(p.poll) {
			continue
		}
		p.pause = min(2*p.pause, lastPoll)
		p.poll = now.Add(p.pause)
		list = append(list, p)
	}
	return list
}
