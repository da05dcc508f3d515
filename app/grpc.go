package app

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
)

// quiet is how long nothing may be under way before a stop cuts the streams of
// access logs, which never end on their own. Envoy sends on them ten times a
// second.
const quiet = 500 * time.Millisecond

// serveGRPC serves with present until ctx ends, and then lets what is under way
// come to its end: Envoy is told to leave its connections, and those that it
// makes meanwhile are served by parting, which takes no new calls but still
// takes the rest of those that were decided. Once nothing was under way for a
// moment, or after stopTimeout, the rest is cut.
func serveGRPC(ctx context.Context, l net.Listener, b *busy, present, parting *grpc.Server) error {
	conns := make(chan net.Conn)
	accepting := make(chan error, 1)
	over := make(chan struct{})
	go func() { accepting <- accept(l, conns, over) }()
	serving := make(chan error, 2)
	serve := func(s *grpc.Server) { serving <- s.Serve(newDoor(l.Addr(), conns)) }
	end := func() error {
		present.Stop()
		parting.Stop()
		close(over)
		err := l.Close()
		if errors.Is(err, net.ErrClosed) {
			err = nil
		}
		return errors.Join(err, <-accepting)
	}
	go serve(present)
	select {
	case err := <-serving:
		return errors.Join(err, end())
	case err := <-accepting:
		accepting <- nil
		return errors.Join(err, end(), <-serving)
	case <-ctx.Done():
	}
	go serve(parting)
	left := make(chan struct{})
	go func() { present.GracefulStop(); close(left) }()
	for began, idle := time.Now(), time.Now(); time.Since(idle) < quiet && time.Since(began) < stopTimeout; {
		time.Sleep(quiet / 10)
		if b.calls.Load() > 0 {
			idle = time.Now()
		}
	}
	err := end()
	<-left
	return errors.Join(err, <-serving, <-serving)
}

// accept hands connections over until l is closed or over is.
func accept(l net.Listener, to chan<- net.Conn, over <-chan struct{}) error {
	for {
		c, err := l.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				err = nil
			}
			return err
		}
		select {
		case to <- c:
		case <-over:
			_ = c.Close() // nothing was said on it
		}
	}
}

// door is a listener over connections that somebody else accepts. Closing it
// leaves the address open.
type door struct {
	addr  net.Addr
	conns <-chan net.Conn
	shut  context.Context
	close context.CancelFunc
}

func newDoor(addr net.Addr, conns <-chan net.Conn) *door {
	d := &door{addr: addr, conns: conns}
	d.shut, d.close = context.WithCancel(context.Background())
	return d
}

func (d *door) Accept() (net.Conn, error) {
	select {
	case c := <-d.conns:
		return c, nil
	case <-d.shut.Done():
		return nil, net.ErrClosed
	}
}

func (d *door) Close() error   { d.close(); return nil }
func (d *door) Addr() net.Addr { return d.addr }

// busy counts the calls that are under way, whatever server they came to.
type busy struct{ calls atomic.Int64 }

// options make a server count. Client streams, such as access logs, are none:
// they last as long as their Envoy.
func (b *busy) options() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
			b.calls.Add(1)
			defer b.calls.Add(-1)
			return handle(ctx, req)
		}),
		grpc.StreamInterceptor(func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
			if info.IsServerStream {
				b.calls.Add(1)
				defer b.calls.Add(-1)
			}
			return handle(srv, stream)
		}),
	}
}

// serveStreams serves until ctx ends, and then cuts the streams: they never end
// on their own, and nothing is lost with them.
func serveStreams(ctx context.Context, srv *grpc.Server, l net.Listener) error {
	stop := context.AfterFunc(ctx, srv.Stop)
	defer stop()
	if err := srv.Serve(l); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}
