// Package extauthz decides each call before it runs. It implements Envoy's
// external authorization service (ext_authz v3), and only it knows the order of
// the stages: connection and identity, protocol, policy, approval, credential,
// record. Each stage can only make a call be denied; the answer that lets one
// through is built at the very end, after its record is on disk.
package extauthz

import (
	"context"
	"log/slog"
	"runtime/debug"
	"sync/atomic"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/call/redact"
	"github.com/callgate/callgate/extauthz/identity"
)

// Identifier finds out who calls. Its errors are *identity.Error.
type Identifier interface {
	Caller(context.Context, identity.Request) (call.Identity, error)
	// Still refuses who was a caller before and is none any more.
	Still(call.Identity) error
	// CredentialHeaders lists the headers that callers' credentials come in.
	CredentialHeaders() []string
}

// Policy rules on a call. It never fails: what goes wrong is a ruling to deny.
type Policy interface {
	Decide(context.Context, *call.Call) call.Ruling
}

// Approvals asks people about a call and waits for what they say, until the
// ruling's time-out or the end of ctx, which is the caller's hanging up.
type Approvals interface {
	Hold(context.Context, *call.Call, *call.Ruling) *call.Decision
}

// Recorder makes an event durable. It returns when the event is on disk.
type Recorder interface {
	Record(context.Context, call.Event) error
}

// Backlog takes events that can't be recorded now and whose connection lets
// calls through all the same, to record them later. It is false where it has no
// room.
type Backlog interface {
	Add(call.Event) bool
}

// Requests masks requests that a function must not be sent as they are.
type Requests interface {
	// Mask returns path and body as the function may have them, and what was
	// hidden. inPath names the arguments that stand in the path. An error says why
	// the request must not go.
	Mask(ctx context.Context, rules call.Mask, c *call.Call, inPath []string) (path string, body []byte, hidden []call.Masked, err error)
}

// Carrier makes what rules look at of a caller, and Envoy must not see, ready to
// travel to where the response is judged by the policy of that version.
type Carrier interface {
	Carry(c *call.Call, version string) (string, error)
}

// Sessions tells what is known of MCP sessions.
type Sessions interface {
	// Elicits reports whether the client of a session can show its person a page.
	Elicits(ctx context.Context, connection, session string) bool
}

// Config is what a [Server] needs.
type Config struct {
	Identifier Identifier
	Approvals  Approvals
	Recorder   Recorder
	Backlog    Backlog
	// Requests masks requests; nil: connections have no masks of them.
	Requests Requests
	// Carrier is for answers of models; nil: their tool calls are judged by what
	// Envoy may see.
	Carrier Carrier
	// Sessions knows MCP sessions; nil: what a client can is only believed where
	// the request itself says it.
	Sessions Sessions
	// Redact hides credentials in what is recorded beside the body.
	Redact  *redact.Redactor
	Log     *slog.Logger
	Metrics *Metrics
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Server implements envoy.service.auth.v3.Authorization.
type Server struct {
	authv3.UnimplementedAuthorizationServer
	cfg      Config
	hands    hands
	versions atomic.Pointer[versions]
	waiting  atomic.Int64
}

// New returns a Server that denies every call until the first Activate.
func New(cfg Config) *Server {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Server{cfg: cfg, hands: make(hands)}
}

// Waiting is how many calls wait for people.
func (s *Server) Waiting() int { return int(s.waiting.Load()) }

// Check decides one call.
func (s *Server) Check(ctx context.Context, req *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	return s.decide(ctx, func() (*authv3.CheckRequest, error) { return req, nil })
}

// decide decides the call that read has.
func (s *Server) decide(ctx context.Context, read func() (*authv3.CheckRequest, error)) (*authv3.CheckResponse, error) {
	d := &decision{server: s, ctx: ctx}
	s.apart(func() {
		d.contain(func() { d.run(read) })
	})
	if d.waits {
		d.contain(d.wait)
		if d.waits {
			s.apart(func() { d.contain(d.goOn) })
		}
	}
	return d.resp, d.err
}

// contain takes a step of the call and makes a fault in it a denial.
func (d *decision) contain(step func()) {
	defer func() {
		if p := recover(); p != nil {
			// The panic's text may quote the request, so only the stack is logged.
			d.server.cfg.Metrics.panics.Inc()
			d.server.cfg.Log.ErrorContext(d.ctx, "panic while deciding a call; denied", "call_id", d.call.ID, "stack", string(debug.Stack()))
			d.waits = false
			d.resp, d.err = d.fault()
		}
	}()
	step()
}
