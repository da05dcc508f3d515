package clickhouse

import (
	"io"
	"log"
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// discard takes what servers of tests say about connections that tests break.
var discard = log.New(io.Discard, "", 0)

// way is a TCP connection's way to a server, which can break.
type way struct {
	net.Listener
	cut  atomic.Bool // new connections end at once
	used atomic.Int32

	mu    sync.Mutex
	conns map[net.Conn]bool
}

func newWay(t testing.TB, to string) *way {
	t.Helper()
	w := &way{Listener: listen(t), conns: make(map[net.Conn]bool)}
	t.Cleanup(w.breakAll)
	go func() {
		for {
			in, err := w.Accept()
			if err != nil {
				return
			}
			if w.cut.Load() {
				in.Close()
				continue
			}
			go w.carry(in, to)
		}
	}()
	return w
}

func (w *way) carry(in net.Conn, to string) {
	defer in.Close()
	out, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer out.Close()
	w.used.Add(1)
	w.mu.Lock()
	w.conns[in], w.conns[out] = true, true
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		delete(w.conns, in)
		delete(w.conns, out)
		w.mu.Unlock()
	}()
	done := make(chan struct{}, 2)
	go func() { io.Copy(out, in); done <- struct{}{} }()
	go func() { io.Copy(in, out); done <- struct{}{} }()
	<-done
}

// breakAll ends all connections, wherever they stand.
func (w *way) breakAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.conns {
		c.Close()
	}
}
