package endpoint

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/http"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/callgate/callgate/demo/endpoint/ordersv1"
)

// GRPC serves callgate.demo.orders.v1.Orders. Its credential is the metadata
// «authorization: Bearer <key>»; reflection, which tells no more than the
// .proto file, is open to all.
type GRPC struct {
	*place
	Journal
	orders *orders
	tls    *tls.Config
	key    key
	log    *slog.Logger
}

// NewGRPC begins to listen; Run serves.
func NewGRPC(c Config) (*GRPC, error) {
	c, err := c.complete()
	if err != nil {
		return nil, err
	}
	p, err := newPlace(c.Listener)
	if err != nil {
		return nil, err
	}
	return &GRPC{
		place: p, orders: newOrders(), tls: c.TLS, log: c.Log,
		key: newKey("authorization", "Bearer "+c.Credential),
	}, nil
}

// URL of the service: https with TLS, http for HTTP/2 in plain text.
func (s *GRPC) URL() string {
	if s.tls != nil {
		return "https://" + s.addr
	}
	return "http://" + s.addr
}

// Run serves until ctx ends, and cuts streams off then. It can be run again
// after that, on the same address.
func (s *GRPC) Run(ctx context.Context) error {
	ln, err := s.open()
	if err != nil {
		return err
	}
	defer s.closed()
	options := []grpc.ServerOption{
		grpc.MaxRecvMsgSize(maxBody),
		grpc.UnaryInterceptor(s.unary), grpc.StreamInterceptor(s.stream),
	}
	if s.tls != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(s.tls)))
	}
	srv := grpc.NewServer(options...) // a new one each time: a stopped one stays so
	ordersv1.RegisterOrdersServer(srv, s.orders)
	reflection.Register(srv)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	select {
	case err := <-served:
		return fmt.Errorf("endpoint %s: %w", s.addr, err)
	case <-ctx.Done():
	}
	srv.Stop()
	<-served
	return nil
}

func (s *GRPC) unary(ctx context.Context, message any, info *grpc.UnaryServerInfo, serve grpc.UnaryHandler) (any, error) {
	if err := s.admit(ctx, info.FullMethod, message); err != nil {
		return nil, err
	}
	s.ran(strings.TrimPrefix(info.FullMethod, "/"))
	return serve(ctx, message)
}

func (s *GRPC) stream(server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, serve grpc.StreamHandler) error {
	if strings.HasPrefix(info.FullMethod, "/grpc.reflection.") {
		return serve(server, stream)
	}
	// Checked before the request's message is read: one without a credential
	// need not even be sent.
	if err := s.admit(stream.Context(), info.FullMethod, nil); err != nil {
		return err
	}
	s.ran(strings.TrimPrefix(info.FullMethod, "/"))
	return serve(server, stream)
}

// admit notes a request and says whether it has the credential.
func (s *GRPC) admit(ctx context.Context, method string, message any) error {
	md, _ := metadata.FromIncomingContext(ctx)
	refusal := s.key.check(md.Get(s.key.where))
	r := Request{Refused: refusal != nil, Method: http.MethodPost, Target: method, Proto: "HTTP/2.0", Header: http.Header{}}
	for name, values := range md {
		if name == ":authority" && len(values) > 0 {
			r.Host = values[0]
			continue
		}
		r.Header[http.CanonicalHeaderKey(name)] = values
	}
	if m, ok := message.(proto.Message); ok {
		body, err := protojson.Marshal(m)
		if err != nil {
			return status.Errorf(codes.Internal, "note the request: %v", err)
		}
		r.Body = body
	}
	s.note(r)
	if refusal != nil {
		s.log.InfoContext(ctx, "refused", "method", method, "reason", refusal)
		return status.Error(codes.Unauthenticated, refusal.Error())
	}
	return nil
}
