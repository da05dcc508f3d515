// Package accesslog takes Envoy's access-log stream (ALS v3) and records what
// became of each call: times, bytes, flags and the upstream reached.
//
// The stream has no acknowledgement and Envoy drops entries when it is away,
// so nothing here is the record that counts: it completes calls that were
// recorded when they were decided, and counts what it was sent, so that what is
// missing can be noticed.
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
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/callgate/callgate/call"
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

// Config is what a [Server] needs.
type Config struct {
	Recorder Recorder
	Backlog  Backlog
	Log      *slog.Logger
	Metrics  *Metrics
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// CountEvery is how often counts are recorded; 0 means every minute.
	CountEvery time.Duration
}

// Server implements envoy.service.accesslog.v3.AccessLogService.
type Server struct {
	alsv3.UnimplementedAccessLogServiceServer
	cfg    Config
	counts counts
}

// New returns a Server. Run and, when no more entries come, Flush record what it
// counts.
func New(cfg Config) *Server {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.CountEvery == 0 {
		cfg.CountEvery = time.Minute
	}
	return &Server{cfg: cfg, counts: counts{from: cfg.Now(), nodes: map[string]*count{}}}
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
		ids, ended := callsOf(entry)
		if !ended {
			continue // a start or a periodic report; the end will tell all
		}
		s.count(ctx, node, len(ids), entry)
		for _, id := range ids {
			event := call.Event{Kind: call.Finished, CallID: id, Time: s.cfg.Now(), Finished: finished(entry, node)}
			g.Go(func() error {
				err := s.cfg.Recorder.Record(ctx, event)
				switch {
				case err == nil:
					s.cfg.Metrics.recorded.Inc()
				case unrecorded(entry) && s.cfg.Backlog.Add(event):
				default:
					s.cfg.Metrics.lost.Inc()
					s.cfg.Log.ErrorContext(ctx, "access log entry not recorded; the call's row will say unknown",
						"call_id", id, "error", err)
				}
				return nil
			})
		}
	}
	_ = g.Wait() // every failure was counted and logged where it happened
}

// callsOf returns the calls that an entry tells of, several where the request
// was a batch, and whether it tells of their end. There are none where ext_authz
// left no metadata.
func callsOf(e *datav3.HTTPAccessLogEntry) ([]call.ID, bool) {
	common := e.GetCommonProperties()
	switch common.GetAccessLogType() {
	case datav3.AccessLogType_NotSet, datav3.AccessLogType_DownstreamEnd:
	default:
		return nil, false
	}
	left := metadata(e)
	batch := left["batch"].GetStructValue().GetFields()["calls"].GetListValue().GetValues()
	if len(batch) == 0 {
		id, err := call.ParseID(left["call_id"].GetStringValue())
		if err != nil {
			return nil, true
		}
		return []call.ID{id}, true
	}
	ids := make([]call.ID, 0, len(batch))
	for _, one := range batch {
		if id, err := call.ParseID(one.GetStructValue().GetFields()["call_id"].GetStringValue()); err == nil {
			ids = append(ids, id)
		}
	}
	return ids, true
}

// unrecorded reports whether the call's connection lets calls through that can't
// be recorded in time.
func unrecorded(e *datav3.HTTPAccessLogEntry) bool {
	return metadata(e)["record"].GetStructValue().GetFields()["unrecorded"].GetBoolValue()
}

// metadata is what the decision left.
func metadata(e *datav3.HTTPAccessLogEntry) map[string]*structpb.Value {
	return e.GetCommonProperties().GetMetadata().GetFilterMetadata()[call.MetadataNamespace].GetFields()[call.MetadataKey].GetStructValue().GetFields()
}
