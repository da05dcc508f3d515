package extauthz

import (
	"context"
	"net"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/callgate/callgate/call"
)

// asks returns a client of r over gRPC.
func asks(t *testing.T, r *rig, options ...grpc.ServerOption) authv3.AuthorizationClient {
	t.Helper()
	l := bufconn.Listen(1 << 20)
	server := grpc.NewServer(options...)
	r.Register(t.Context(), server)
	serving := make(chan error, 1)
	go func() { serving <- server.Serve(l) }()
	conn, err := grpc.NewClient("passthrough:///gate", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return l.Dial() }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		server.Stop()
		if err := <-serving; err != nil {
			t.Error(err)
		}
	})
	return authv3.NewAuthorizationClient(conn)
}

// What takes a large stack is not done where gRPC called: of a call that waits for
// people that stack is kept, and it must be small.
func TestWaitingCallsKeepNoStack(t *testing.T) {
	r := newRig(t)
	r.waiting.Add(fewWaiting)
	stack := func() string { return string(debug.Stack()) }
	onGRPC := func(stack string) bool { return strings.Contains(stack, "grpc.(*Server).") }
	var judged, held, recorded string
	r.decide = func(context.Context, *call.Call) call.Ruling {
		judged = stack()
		return call.Ruling{Action: call.ActionHold, Rule: "asks"}
	}
	r.hold = func(context.Context, *call.Call, call.Ruling) call.Decision {
		held = stack()
		return call.Decision{Outcome: call.HoldAllow, Rule: "asks", Reason: call.ReasonApproved, Approval: &call.Approval{ID: "apr_1"}}
	}
	r.recorder.faulty(func(call.Event) error { recorded = stack(); return nil })
	var counted []string
	for name, client := range map[string]authv3.AuthorizationClient{"alone": asks(t, r), "intercepted": asks(t, r,
		grpc.UnaryInterceptor(func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
			counted = append(counted, info.FullMethod)
			return handle(ctx, req)
		}))} {
		t.Run(name, func(t *testing.T) {
			judged, held, recorded = "", "", ""
			resp, err := client.Check(t.Context(), request())
			if err != nil || resp.GetOkResponse() == nil {
				t.Fatalf("%v, %v", resp, err)
			}
			if judged == "" || onGRPC(judged) {
				t.Errorf("judged on %s", judged)
			}
			if recorded == "" || onGRPC(recorded) {
				t.Errorf("recorded on %s", recorded)
			}
			if !onGRPC(held) {
				t.Errorf("waits on %s", held)
			}
		})
	}
	if want := []string{authv3.Authorization_Check_FullMethodName}; !slices.Equal(counted, want) {
		t.Errorf("intercepted %q", counted)
	}
	if n := r.Waiting() - fewWaiting; n != 0 {
		t.Errorf("%d calls wait", n)
	}
}

// A call that waits for people keeps neither its caller's credentials nor what was
// parsed of it, and the function gets no copy of them all the same.
func TestWaitingCallsForgetCredentials(t *testing.T) {
	r := newRig(t)
	r.conns["crm"].Record.Headers = append(r.conns["crm"].Record.Headers, "dpop")
	r.activate(t)
	r.decide = func(context.Context, *call.Call) call.Ruling {
		return call.Ruling{Action: call.ActionHold, Rule: "asks"}
	}
	r.hold = func(_ context.Context, c *call.Call, _ call.Ruling) call.Decision {
		h := c.Request.Headers
		if h.Get("authorization") != "" || c.Args != nil {
			t.Errorf("kept %v and %v", h, c.Args)
		}
		if h.Get("content-type") == "" || h.Get("dpop") == "" || string(c.Request.Body) != refundBody || r.Waiting() != 1 {
			t.Errorf("has %v, %s; %d wait", h, c.Request.Body, r.Waiting())
		}
		return call.Decision{Outcome: call.HoldAllow, Rule: "asks", Reason: call.ReasonApproved, Approval: &call.Approval{ID: "apr_1"}}
	}
	a := r.check(t, request(add("x-seen-token", "of "+plantedToken), add("dpop", "proof")))
	removed := a.GetOkResponse().GetHeadersToRemove()
	for _, name := range []string{"dpop", "cookie", "x-seen-token"} { // authorization is overwritten
		if !slices.Contains(removed, name) {
			t.Errorf("%s is not removed: %q", name, removed)
		}
	}
	if a.event == nil || a.event.Headers.Get("dpop") == "" || a.event.Headers.Get("authorization") != "" {
		t.Errorf("recorded %+v", a.event)
	}
	a.hides(t)
}
