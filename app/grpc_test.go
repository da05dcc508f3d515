package app

import (
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	alsv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	procv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

type allowing struct {
	authv3.UnimplementedAuthorizationServer
}

func (allowing) Check(context.Context, *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	return &authv3.CheckResponse{}, nil
}

type echoing struct {
	procv3.UnimplementedExternalProcessorServer
}

func (echoing) Process(stream procv3.ExternalProcessor_ProcessServer) error {
	for {
		if _, err := stream.Recv(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := stream.Send(&procv3.ProcessingResponse{}); err != nil {
			return err
		}
	}
}

type noting struct {
	alsv3.UnimplementedAccessLogServiceServer
	entries atomic.Int64
}

func (n *noting) StreamAccessLogs(stream alsv3.AccessLogService_StreamAccessLogsServer) error {
	for {
		if _, err := stream.Recv(); err != nil {
			return err
		}
		n.entries.Add(1)
	}
}

// A stop takes no new call, but the whole rest of those that were let through:
// their responses, also on new connections, and their access logs.
func TestStopInOrder(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b, logs := new(busy), new(noting)
	present, parting := grpc.NewServer(b.options()...), grpc.NewServer(b.options()...)
	authv3.RegisterAuthorizationServer(present, allowing{})
	authv3.RegisterAuthorizationServer(parting, stopping{})
	for _, s := range []*grpc.Server{present, parting} {
		procv3.RegisterExternalProcessorServer(s, echoing{})
		alsv3.RegisterAccessLogServiceServer(s, logs)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- serveGRPC(ctx, l, b, present, parting) }()

	dial := func() *grpc.ClientConn {
		c, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	open := func(c *grpc.ClientConn) procv3.ExternalProcessor_ProcessClient {
		s, err := procv3.NewExternalProcessorClient(c).Process(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	echo := func(s procv3.ExternalProcessor_ProcessClient) {
		t.Helper()
		if err := s.Send(&procv3.ProcessingRequest{}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	before := dial()
	if _, err := authv3.NewAuthorizationClient(before).Check(t.Context(), &authv3.CheckRequest{}); err != nil {
		t.Fatal(err)
	}
	underWay := open(before)
	echo(underWay)
	log, err := alsv3.NewAccessLogServiceClient(before).StreamAccessLogs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	entry := func(n int64) {
		t.Helper()
		if err := log.Send(&alsv3.StreamAccessLogsMessage{}); err != nil {
			t.Fatal(err)
		}
		for logs.entries.Load() < n {
			time.Sleep(time.Millisecond)
		}
	}
	entry(1)

	stop()
	for { // until it has begun to stop
		_, err := authv3.NewAuthorizationClient(dial()).Check(t.Context(), &authv3.CheckRequest{})
		if status.Code(err) == codes.Unavailable && status.Convert(err).Message() == "this replica stops" {
			break
		}
		if err != nil && status.Code(err) != codes.Unavailable {
			t.Fatal(err)
		}
	}
	late := open(dial())
	echo(late)
	echo(underWay)
	select {
	case err := <-done:
		t.Fatalf("it ended with a call under way: %v", err)
	default:
	}
	for _, s := range []procv3.ExternalProcessor_ProcessClient{late, underWay} {
		if err := s.CloseSend(); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Recv(); !errors.Is(err, io.EOF) {
			t.Errorf("a call under way was cut: %v", err)
		}
	}
	entry(2)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := net.Dial("tcp", l.Addr().String()); err == nil {
		t.Error("the address is still open")
	}
}
