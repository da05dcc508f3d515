package endpoint

import (
	"fmt"
	"net"
	"sync"
	"time"
)

// stopTime bounds how long a stop waits for requests under way.
const stopTime = 2 * time.Second

// place is the address of an endpoint, which outlives its listener: an
// endpoint that was stopped comes back where it was.
type place struct {
	addr string

	mu      sync.Mutex
	next    net.Listener // what the next open returns; nil: it listens again
	running bool
}

func newPlace(ln net.Listener) (*place, error) {
	if ln == nil {
		var err error
		if ln, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return nil, fmt.Errorf("endpoint: %w", err)
		}
	}
	return &place{addr: ln.Addr().String(), next: ln}, nil
}

// Addr is the host and port.
func (p *place) Addr() string { return p.addr }

func (p *place) open() (net.Listener, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running {
		return nil, fmt.Errorf("endpoint %s is running already", p.addr)
	}
	ln := p.next
	if ln == nil {
		var err error
		if ln, err = net.Listen("tcp", p.addr); err != nil {
			return nil, fmt.Errorf("endpoint %s: listen again: %w", p.addr, err)
		}
	}
	p.next, p.running = nil, true
	return ln, nil
}

func (p *place) closed() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.running = false
}
