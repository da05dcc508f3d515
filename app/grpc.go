package app

import (
	"context"
	"net"
	"time"

	"google.golang.org/grpc"
)

// serveGRPC serves until ctx ends. Envoy's streams never end on their own, so
// after a moment for calls under way they are cut.
func serveGRPC(ctx context.Context, srv *grpc.Server, l net.Listener) error {
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		<-ctx.Done()
		cut := time.AfterFunc(stopTimeout, srv.Stop)
		srv.GracefulStop()
		cut.Stop()
	}()
	err := srv.Serve(l)
	if ctx.Err() != nil {
		<-stopped
		return nil
	}
	return err
}
