package extproc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"time"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/call/redact"
	"github.com/callgate/callgate/extproc/mask"
)

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

// Messages finds the types that a gRPC method takes and returns, so that its
// messages can be masked field by field.
type Messages interface {
	// Output returns the type of the responses of "pkg.Service/Method" on a
	// connection, or an error that says why it is not known.
	Output(connection, function string) (protoreflect.MessageDescriptor, error)
	// Input is the same for its requests.
	Input(connection, function string) (protoreflect.MessageDescriptor, error)
}

// Detectors finds the detectors of the user's own that masks name: they come with
// the policy, not with the call.
type Detectors interface {
	// Detector returns the detector of a name and version ("employee@0123…"),
	// nil where it is not known.
	Detector(ref string) *mask.Custom
}

// Sessions is told of MCP sessions.
type Sessions interface {
	// Note notes that the client of a session can show its person a page.
	Note(connection, session string)
}

// Config is what a [Server] needs.
type Config struct {
	Recorder Recorder
	Backlog  Backlog
	Messages Messages
	// Visible says what stands in lists of tools; nil: all does.
	Visible Visible
	// Sessions is told of MCP sessions that begin; nil: nobody is.
	Sessions Sessions
	// Detectors are those of the user's own; nil: there are none.
	Detectors Detectors
	// Pinned says which tools are described as they were accepted; nil: all
	// are.
	Pinned Pinned
	// Judge says which tools a model may have its client call; nil: none.
	Judge Judge
	// HashKey keys the "hash" way of masking: equal values get equal hashes
	// on every replica with the same key. At least 16 bytes.
	HashKey []byte
	// Sealer encrypts originals, where connections keep them.
	Sealer Sealer
	// Redact hides credentials in recorded headers.
	Redact *redact.Redactor
	// MaxResponse bounds a response that is held back to be masked whole,
	// in bytes, where the connection's own bound does not reach us.
	MaxResponse int64
	// Memory bounds what all responses that are being masked hold at once,
	// in bytes; beyond it they are withheld. 0 means 512 MiB.
	Memory int64
	// Timeout bounds the work on one part of a response: masking it, and making
	// its record durable. Beyond it the response is withheld. 0 means 30 seconds.
	Timeout time.Duration
	Log     *slog.Logger
	Metrics *Metrics
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Server implements envoy.service.ext_proc.v3.ExternalProcessor.
type Server struct {
	extprocv3.UnimplementedExternalProcessorServer
	cfg      Config
	maskers  maskers
	requests *Requests
	memory   budget
	async    chan struct{} // bounds the records written behind the response
}

// asyncRecords is how many responses may be recorded behind their callers'
// backs at once; more wait, so that memory stays bounded.
const asyncRecords = 1024

// New returns a Server.
func New(cfg Config) *Server {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Memory <= 0 {
		cfg.Memory = 512 << 20
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = defaultTimeout
	}
	return &Server{cfg: cfg, maskers: maskers{hashKey: cfg.HashKey, custom: cfg.Detectors}, requests: NewRequests(cfg.HashKey, cfg.Detectors, cfg.Messages), memory: budget{max: cfg.Memory}, async: make(chan struct{}, asyncRecords)}
}

// errCut ends a stream whose response can't be passed on any further: Envoy
// resets the caller's stream, so that a part is never taken for the whole.
var errCut = errors.New("response cut off")

// Process handles one response.
func (s *Server) Process(stream extprocv3.ExternalProcessor_ProcessServer) (err error) {
	ctx, giveUp := context.WithCancelCause(stream.Context())
	defer giveUp(nil)
	r := &response{server: s, ctx: ctx, giveUp: giveUp, share: share{of: &s.memory}}
	r.send = func(m *extprocv3.ProcessingResponse) error {
		if err := stream.Send(m); err != nil {
			return fmt.Errorf("answer Envoy: %w", err)
		}
		return nil
	}
	defer func() {
		if p := recover(); p != nil {
			// A fault in a detector is this call's alone. The panic's text
			// may quote the response, so only the stack is logged.
			s.cfg.Metrics.panics.Inc()
			s.cfg.Log.ErrorContext(r.ctx, "panic while handling a response; withheld", "call_id", r.meta.CallID, "stack", string(debug.Stack()))
			err = status.Error(codes.Internal, "response withheld")
		}
	}()
	defer r.end() // before the recovery, since it may be where the fault is
	for {
		req, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case status.Code(err) == codes.Canceled:
			return nil // the caller or Envoy went away; end records what was seen
		case err != nil:
			return fmt.Errorf("receive from Envoy: %w", err)
		}
		done := r.within(s.cfg.Timeout)
		out, err := r.handle(req)
		done()
		for _, m := range out {
			if err := r.send(m); err != nil {
				return err
			}
		}
		if err != nil {
			return status.Error(codes.Aborted, err.Error())
		}
		if r.done {
			return nil
		}
	}
}
