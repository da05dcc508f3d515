package clickhouse

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"log"
	"math/rand/v2"
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

// badWire is a bad network for the native protocol, before a server at to: a
// statement that changes something is cut off before it arrives, or the answer
// to its first or second part is.
func badWire(t testing.TB, b *bad, to string, secure *tls.Config) string {
	t.Helper()
	l := listen(t)
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			go b.carry(t.Context(), in, to, secure)
		}
	}()
	return l.Addr().String()
}

func (b *bad) carry(ctx context.Context, in net.Conn, to string, secure *tls.Config) {
	defer in.Close()
	if b.down.Load() {
		return
	}
	var out net.Conn
	var err error
	if secure == nil {
		out, err = net.Dial("tcp", to)
	} else {
		out, err = tls.Dial("tcp", to, secure)
	}
	if err != nil {
		return
	}
	defer out.Close()
	stop := context.AfterFunc(ctx, func() { in.Close(); out.Close() })
	defer stop()
	const calm = 1 << 30
	var answers atomic.Int32 // how many are passed on before the cut
	answers.Store(calm)
	go func() {
		defer in.Close()
		buf := make([]byte, 64<<10)
		for {
			n, err := out.Read(buf)
			if err != nil || b.down.Load() || answers.Add(-1) < 0 {
				return
			}
			if _, err := in.Write(buf[:n]); err != nil {
				return
			}
		}
	}()
	buf := make([]byte, 64<<10)
	for {
		n, err := in.Read(buf)
		if err != nil || b.down.Load() {
			return
		}
		changes := bytes.Contains(buf[:n], []byte("INSERT INTO")) || bytes.Contains(buf[:n], []byte("UPDATE "))
		if changes && rand.N(100) < int(b.lose.Load()) {
			b.lost.Add(1)
			after := rand.N(3)
			if after == 0 {
				return
			}
			answers.Store(int32(after - 1))
		} else if changes {
			answers.Store(calm)
		}
		if _, err := out.Write(buf[:n]); err != nil {
			return
		}
	}
}

// breakAll ends all connections, wherever they stand.
func (w *way) breakAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.conns {
		c.Close()
	}
}
