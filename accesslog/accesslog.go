// Package accesslog takes Envoy's access-log stream (ALS v3) and records what
// became of each call: times, bytes, flags and the upstream reached.
//
// The stream has no acknowledgement and Envoy drops entries when it is away,
// so nothing here is the record that counts: it completes calls that were
// recorded when they were decided.
package accesslog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	datav3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	alsv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	"golang.org/x/sync/errgroup"

	"github.com/callgate/callgate/call"
)

// Recorder makes an event durable. It returns when the event is on disk.
type Recorder interface {
	Record(context.Context, call.Event) error
}

// Config is what a [Server] needs.
type Config struct {
	Recorder Recorder
	Log      *slog.Logger
	Metrics  *Metrics
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Server implements envoy.service.accesslog.v3.AccessLogService.
type Server struct {
	alsv3.UnimplementedAccessLogServiceServer
	cfg Config
}

// New returns a Server.
func New(cfg Config) *Server {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Server{cfg: cfg}
}

// inFlight bounds the entries of one message that wait for the disk together;
// they share its syncs.
const inFlight = 256

// StreamAccessLogs records the entries of one Envoy until it hangs up.
func (s *Server) StreamAccessLogs(stream alsv3.AccessLogService_StreamAccessLogsServer) error {
	ctx := stream.Context()
	node := ""
	for {
		msg, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return stream.SendAndClose(&alsv3.StreamAccessLogsResponse{})
		case err != nil:
			return fmt.Errorf("receive access log: %w", err)
		}
		// Only the first message of a stream names the node.
		if id := msg.GetIdentifier(); id != nil {
			node = id.GetNode().GetId()
		}
		// An entry that was received is recorded even if its Envoy has gone
		// in the meantime.
		s.record(context.WithoutCancel(ctx), node, msg.GetHttpLogs().GetLogEntry())
	}
}

func (s *Server) record(ctx context.Context, node string, entries []*datav3.HTTPAccessLogEntry) {
	var g errgroup.Group
	g.SetLimit(inFlight)
	for _, entry := range entries {
		id, ended := callOf(entry)
		switch {
		case !ended:
			continue // a start or a periodic report; the end will tell all
		case id == (call.ID{}):
			// Envoy refused it before ext_authz saw it.
			s.cfg.Metrics.undecided.Inc()
			continue
		}
		event := call.Event{Kind: call.Finished, CallID: id, Time: s.cfg.Now(), Finished: finished(entry, node)}
		g.Go(func() error {
			if err := s.cfg.Recorder.Record(ctx, event); err != nil {
				s.cfg.Metrics.lost.Inc()
				s.cfg.Log.ErrorContext(ctx, "access log entry not recorded; the call's row will say unknown",
					"call_id", id, "error", err)
				return nil
			}
			s.cfg.Metrics.recorded.Inc()
			return nil
		})
	}
	_ = g.Wait() // every failure was counted and logged where it happened
}

// callOf returns the call an entry tells of, and whether it tells of its end.
// The id is zero where ext_authz left no metadata.
func callOf(e *datav3.HTTPAccessLogEntry) (call.ID, bool) {
	common := e.GetCommonProperties()
	switch common.GetAccessLogType() {
	case datav3.AccessLogType_NotSet, datav3.AccessLogType_DownstreamEnd:
	default:
		return call.ID{}, false
	}
	ours := common.GetMetadata().GetFilterMetadata()[call.MetadataNamespace].GetFields()[call.MetadataKey]
	id, err := call.ParseID(ours.GetStructValue().GetFields()["call_id"].GetStringValue())
	if err != nil {
		return call.ID{}, true
	}
	return id, true
}
