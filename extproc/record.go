package extproc

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"

	"golang.org/x/sync/errgroup"

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
	if r.batch == nil {
		event := r.event(interrupted, withheld)
		if err := r.seal(r.original, event.Answered); err != nil && withheld == "" {
			return err // a response that is withheld is recorded without
		}
		err := r.recordOne(event)
		r.recorded = r.recorded || err == nil
		return err
	}
	// All calls of a batch have their records before any answer leaves.
	events := make([]call.Event, len(r.batch.calls))
	for i, a := range r.batch.calls {
		events[i] = r.answerOf(a, interrupted, withheld)
		if err := r.seal(a.original, events[i].Answered); err != nil && withheld == "" {
			return err
		}
	}
	var g errgroup.Group
	for i, a := range r.batch.calls {
		if a.recorded {
			continue
		}
		event := events[i]
		g.Go(func() (err error) {
			defer func() {
				if p := recover(); p != nil { // as in Process: no text of it
					r.server.panicked(r.ctx, event)
					err = errors.New("fault while recording a response")
				}
			}()
			err = r.recordOne(event)
			a.recorded = err == nil
			return err
		})
	}
	err := g.Wait()
	r.recorded = err == nil
	return err
}

// recordOne makes an event durable, or leaves it to be made so.
func (r *response) recordOne(event call.Event) error {
	// The caller's hanging up must not undo the record of what it got.
	s := r.server
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(r.ctx), s.cfg.Timeout, slow{s.cfg.Timeout})
	if r.meta.Record.Response == call.RecordAsync {
		select {
		case s.async <- struct{}{}:
		case <-ctx.Done():
			cancel()
			s.cfg.Metrics.lost.Inc()
			return fmt.Errorf("%d responses wait to be recorded: %w", asyncRecords, context.Cause(ctx))
		}
		go func() {
			defer cancel()
			defer func() {
				if p := recover(); p != nil { // as in Process: no text of it
					s.panicked(ctx, event)
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
	defer cancel()
	if err := s.cfg.Recorder.Record(ctx, event); err != nil && !r.later(event) {
		s.cfg.Metrics.lost.Inc()
		return fmt.Errorf("the record of the response can't be made durable: %w", err)
	}
	return nil
}

// panicked tells of a response whose record was lost to a fault.
func (s *Server) panicked(ctx context.Context, event call.Event) {
	s.cfg.Metrics.panics.Inc()
	s.cfg.Metrics.lost.Inc()
	s.cfg.Log.ErrorContext(ctx, "panic while recording a response", "call_id", event.CallID, "stack", string(debug.Stack()))
}

// later leaves an event to be recorded later, where the connection wants its
// calls to go on when they can't be recorded; false where it must not.
func (r *response) later(e call.Event) bool {
	return r.meta.Record.Unrecorded && r.server.cfg.Backlog.Add(e)
}

func (r *response) event(interrupted bool, withheld string) call.Event {
	e := r.blankEvent(r.meta.CallID, interrupted, withheld)
	a := e.Answered
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
	if r.judged != nil {
		a.Shadow = r.judged.shadow
	}
	if s := r.editing.stream; s != nil {
		a.RequestMasked = noted(s.findings())
	}
	return e
}

// answerOf is the event of one call of a batch: its own part of the response.
func (r *response) answerOf(c *answer, interrupted bool, withheld string) call.Event {
	e := r.blankEvent(c.meta.CallID, interrupted, withheld)
	a := e.Answered
	media := r.headers.Get("content-type")
	if r.batch.split && c.tape.Length() > 0 {
		media = alone.Get("content-type")
	}
	a.Body = c.tape.Body(media, "")
	a.Masked = r.masked(slices.Concat(c.found, r.inHeaders))
	if r.flow != nil && !r.batch.split {
		a.Masked = r.masked(r.findings())
	}
	if c.outcome != nil {
		a.RPCStatus, a.ToolError = c.outcome.Result(r.trailers)
	}
	return e
}

func (r *response) blankEvent(id call.ID, interrupted bool, withheld string) call.Event {
	now := r.server.cfg.Now()
	return call.Event{Kind: call.Answered, CallID: id, Time: now, Answered: &call.AnsweredEvent{
		Status:      r.status,
		Headers:     r.server.cfg.Redact.Headers(recorded(r.headers, r.meta.Record.Headers)),
		Interrupted: interrupted,
		Withheld:    withheld,
		Retain:      r.meta.Record.Retain(now),
	}}
}

func (r *response) masked(found []mask.Finding) []call.Masked {
	for _, f := range found {
		r.server.cfg.Metrics.masked.WithLabelValues(r.meta.Connection, f.Type).Add(float64(f.Count))
	}
	return noted(found)
}

// noted is what was hidden, as it is recorded.
func noted(found []mask.Finding) []call.Masked {
	out := make([]call.Masked, len(found))
	for i, f := range found {
		out[i] = call.Masked{Rule: f.Rule, Type: f.Type, Path: f.Path, Count: f.Count}
	}
	return out
}
