package extauthz

import (
	"context"
	"runtime"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
)

const (
	// fewWaiting calls may keep the stack that it took to decide them: to have calls
	// decided elsewhere costs all of them a little.
	fewWaiting        = 64
	handsPerProcessor = 4
)

// Register has s answer what Envoys ask over gRPC, until ctx ends.
func (s *Server) Register(ctx context.Context, to grpc.ServiceRegistrar) {
	s.hands.start(ctx, handsPerProcessor*runtime.GOMAXPROCS(0))
	service := authv3.Authorization_ServiceDesc
	service.Methods = []grpc.MethodDesc{{MethodName: "Check", Handler: serveCheck}}
	to.RegisterService(&service, s)
}

// serveCheck is what is generated for Check, but that the question is read where the
// call is decided, and not on gRPC's own goroutine. An interceptor does not see it.
func serveCheck(server any, ctx context.Context, read func(any) error, around grpc.UnaryServerInterceptor) (any, error) {
	s := server.(*Server)
	question := func() (*authv3.CheckRequest, error) {
		req := new(authv3.CheckRequest)
		return req, read(req)
	}
	if around == nil {
		return s.decide(ctx, question)
	}
	return around(ctx, nil, &grpc.UnaryServerInfo{Server: server, FullMethod: authv3.Authorization_Check_FullMethodName},
		func(ctx context.Context, _ any) (any, error) { return s.decide(ctx, question) })
}

// apart takes a step of a call, where many wait on another goroutine than the one
// that waits. Where gRPC called, the stack stays small then, since nothing is done on
// it. The step must not panic.
func (s *Server) apart(step func()) {
	if s.waiting.Load() < fewWaiting {
		step()
		return
	}
	s.hands.do(step)
}

// hands are goroutines that keep their stacks from call to call, grown to what
// deciding one takes.
type hands chan func()

// start adds so many, which are there until ctx ends.
func (h hands) start(ctx context.Context, n int) {
	for range n {
		go func() {
			for {
				select {
				case work := <-h:
					work()
				case <-ctx.Done():
					return
				}
			}
		}()
	}
}

// do has a hand do something and waits for it; where all are busy, a goroutine of
// its own.
func (h hands) do(something func()) {
	done := make(chan struct{})
	work := func() {
		defer close(done)
		something()
	}
	select {
	case h <- work:
	default:
		go work()
	}
	<-done
}
