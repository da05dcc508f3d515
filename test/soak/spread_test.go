//go:build linux

package soak

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// spread serves gRPC on l until ctx ends, and passes each stream on to one of
// the addresses: access logs in turn, as there are few, and all else by chance.
func spread(ctx context.Context, l net.Listener, addrs ...string) error {
	var replicas []*grpc.ClientConn
	for _, addr := range addrs {
		c, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.ForceCodec(raw{})))
		if err != nil {
			return err
		}
		replicas = append(replicas, c)
	}
	var turn atomic.Int64
	srv := grpc.NewServer(grpc.ForceServerCodec(raw{}), grpc.UnknownServiceHandler(func(_ any, in grpc.ServerStream) error {
		method, _ := grpc.MethodFromServerStream(in)
		to := replicas[rand.N(len(replicas))]
		if strings.Contains(method, "AccessLog") {
			to = replicas[int(turn.Add(1))%len(replicas)]
		}
		return pass(in, to, method)
	}))
	go func() {
		<-ctx.Done()
		srv.Stop()
		for _, c := range replicas {
			_ = c.Close() // the test is over
		}
	}()
	go func() { _ = srv.Serve(l) }() // ends with Stop
	return nil
}

// pass passes one stream on, message by message, and its end.
func pass(in grpc.ServerStream, to *grpc.ClientConn, method string) error {
	ctx, cancel := context.WithCancel(in.Context())
	defer cancel()
	if md, ok := metadata.FromIncomingContext(ctx); ok {
		ctx = metadata.NewOutgoingContext(ctx, md)
	}
	out, err := to.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
	if err != nil {
		return err
	}
	go func() {
		for {
			var m []byte
			if err := in.RecvMsg(&m); err != nil {
				if errors.Is(err, io.EOF) {
					_ = out.CloseSend() // its error comes from RecvMsg
				}
				return
			}
			if out.SendMsg(&m) != nil {
				return // as above
			}
		}
	}()
	for {
		var m []byte
		err := out.RecvMsg(&m)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		if err := in.SendMsg(&m); err != nil {
			return status.Error(codes.Canceled, err.Error())
		}
	}
}

// raw is a codec for messages that are passed on as they are.
type raw struct{}

func (raw) Marshal(v any) ([]byte, error) {
	b, ok := v.(*[]byte)
	if !ok {
		return nil, fmt.Errorf("marshal a %T", v)
	}
	return *b, nil
}

func (raw) Unmarshal(data []byte, v any) error {
	b, ok := v.(*[]byte)
	if !ok {
		return fmt.Errorf("unmarshal into a %T", v)
	}
	*b = append([]byte(nil), data...)
	return nil
}

func (raw) Name() string { return "proto" }
