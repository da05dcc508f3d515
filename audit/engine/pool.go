package engine

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// maxWaiting bounds the requests that wait for a session.
const maxWaiting = 256

// pool lends the engine's sessions, one to a statement.
type pool struct {
	open  func() (session, error)
	slots chan *slot
	size  int

	waiting atomic.Int64
	serial  atomic.Int64

	// boss runs what must not wait for a slot: KILL QUERY. mu guards it.
	mu   sync.Mutex
	boss session
}

// slot is the place of one session and what is known of its state.
type slot struct {
	s        session // nil until needed
	database string  // current database
}

func newPool(open func() (session, error), size int) (*pool, error) {
	boss, err := open()
	if err != nil {
		return nil, err
	}
	p := &pool{open: open, slots: make(chan *slot, size), size: size, boss: boss}
	for range size {
		p.slots <- &slot{}
	}
	return p, nil
}

// lease is a borrowed session.
type lease struct {
	*slot
	p *pool
	// dirty sessions are closed, not lent again: settings of one request must
	// never reach another, and a new session costs half a millisecond.
	dirty bool
	// marker names the lease's statement among the running ones.
	marker string
}

// borrow waits for a session.
func (p *pool) borrow(ctx context.Context) (*lease, error) {
	var sl *slot
	select {
	case sl = <-p.slots:
	default:
		if p.waiting.Add(1) > maxWaiting {
			p.waiting.Add(-1)
			return nil, refuse(codeTooManyQueries, "%d statements run and %d wait: try again later", p.size, maxWaiting)
		}
		defer p.waiting.Add(-1)
		select {
		case sl = <-p.slots:
		case <-ctx.Done():
			return nil, refuse(codeCancelled, "The client went away before its turn came")
		}
	}
	if sl.s == nil {
		s, err := p.open()
		if err != nil {
			p.slots <- sl
			return nil, fmt.Errorf("open a session: %w", err)
		}
		sl.s, sl.database = s, defaultDatabase
	}
	return &lease{slot: sl, p: p, marker: "callgate-" + strconv.FormatInt(p.serial.Add(1), 10)}, nil
}

func (l *lease) giveBack() {
	if l.dirty {
		l.s.close()
		l.s = nil
	}
	l.p.slots <- l.slot
}

// watch kills the lease's statement when ctx ends before the returned stop is
// called. The library can cancel a stream only between two of its chunks, so
// the statement is killed as another client would do it.
func (l *lease) watch(ctx context.Context) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-done:
			return
		case <-ctx.Done():
		}
		// Again until it worked: the statement may not be running yet.
		for wait := 5 * time.Millisecond; ; wait = min(2*wait, 250*time.Millisecond) {
			l.p.kill(l.marker)
			select {
			case <-done:
				return
			case <-time.After(wait):
			}
		}
	}()
	return func() { close(done); <-ended }
}

func (p *pool) kill(marker string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.boss == nil {
		return
	}
	// A failure shows as a statement that goes on; the caller tries again.
	_, _, _ = p.boss.whole("KILL QUERY WHERE Settings['log_comment'] = "+literal(marker)+" ASYNC", "Null", nil)
}

// ask runs a small statement of the front's own.
func (p *pool) ask(sql, format string) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	out, _, err := p.boss.whole(sql, format, nil)
	return out, err
}

// close waits for every session to come back and closes them all; with the
// last one the engine stops.
func (p *pool) close() {
	for range p.size {
		if sl := <-p.slots; sl.s != nil {
			sl.s.close()
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.boss.close()
	p.boss = nil
}
