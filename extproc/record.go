package extproc

import (
	"context"
	"fmt"
	"runtime/debug"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/extproc/mask"
)

// record makes the response's event durable, unless the connection wants it
// behind the response or not at all. It tries at most twice: once for the
// response, and once more to say that it was withheld.
func (r *response) record(interrupted bool, withheld string) error {
	if r.through || r.meta.CallID == (call.ID{}) || r.meta.Record.Response == call.RecordOff {
		return nil
	}
	event := r.event(interrupted, withheld)
	if err := r.seal(event.Answered); err != nil && withheld == "" {
		return err // a response that is withheld is recorded without
	}
	// The caller's hanging up must not undo the record of what it got.
	ctx := context.WithoutCancel(r.ctx)
	s := r.server
	if r.meta.Record.Response == call.RecordAsync {
		r.recorded = true
		s.async <- struct{}{}
		go func() {
			defer func() {
				if p := recover(); p != nil { // as in Process: no text of it
					s.cfg.Metrics.panics.Inc()
					s.cfg.Metrics.lost.Inc()
					s.cfg.Log.ErrorContext(ctx, "panic while recording a response", "call_id", event.CallID, "stack", string(debug.Stack()))
				}
				<-s.async
			}()
			if err := s.cfg.Recorder.Record(ctx, event); err != nil && !r.later(event) {
				s.cfg.Metrics.lost.Inc()
				s.cfg.Log.ErrorContext(ctx, "response not recorded", "call_id", event.CallID, "error", err)
			}
		}()
		return nil
	}
	if err := s.cfg.Recorder.Record(ctx, event); err != nil && !r.later(event) {
		s.cfg.Metrics.lost.Inc()
		return fmt.Errorf("the record of the response can't be made durable: %w", err)
	}
	r.recorded = true
	return nil
}

// later leaves an event to be recorded later, where the connection wants its
// calls to go on when they can't be recorded; false where it must not.
func (r *response) later(e call.Event) bool {
	return r.meta.Record.Unrecorded && r.server.cfg.Backlog.Add(e)
}

func (r *response) event(interrupted bool, withheld string) call.Event {
	a := &call.AnsweredEvent{
		Status:      r.status,
		Headers:     r.server.cfg.Redact.Headers(recorded(r.headers, r.meta.Record.Headers)),
		Interrupted: interrupted,
		Withheld:    withheld,
	}
	if r.tape != nil {
		a.Body = r.tape.Body(r.headers.Get("content-type"), r.headers.Get("content-encoding"))
	} else {
		a.Body = new(call.Tape).Body(r.headers.Get("content-type"), "")
	}
	if r.flow != nil {
		a.Masked = r.masked(r.findings())
	}
	if r.outcome != nil {
		a.RPCStatus, a.ToolError = r.outcome.Result(r.trailers)
	}
	now := r.server.cfg.Now()
	a.Retain = r.meta.Record.Retain(now)
	return call.Event{Kind: call.Answered, CallID: r.meta.CallID, Time: now, Answered: a}
}

func (r *response) masked(found []mask.Finding) []call.Masked {
	out := make([]call.Masked, len(found))
	for i, f := range found {
		out[i] = call.Masked{Rule: f.Rule, Type: f.Type, Path: f.Path, Count: f.Count}
		r.server.cfg.Metrics.masked.WithLabelValues(r.meta.Connection, f.Type).Add(float64(f.Count))
	}
	return out
}
