package extauthz

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/callgate/callgate/call"
)

// record makes the decision durable. It does not end with the caller: a call
// that was decided leaves a row even if nobody waits for the answer.
func (d *decision) record(decided call.Decision) error {
	e := d.event(decided)
	err := d.server.cfg.Recorder.Record(context.WithoutCancel(d.ctx), e)
	if err == nil {
		return nil
	}
	d.server.cfg.Metrics.unrecorded.Inc()
	d.server.cfg.Log.ErrorContext(d.ctx, "a decision can't be recorded", "call_id", d.call.ID, "connection", d.call.Connection, "error", err)
	if d.conn == nil || !d.conn.Record.Unrecorded {
		return fmt.Errorf("record the decision: %w", err)
	}
	e.Decided.Late = true
	if !d.server.cfg.Backlog.Add(e) {
		return fmt.Errorf("record the decision: %w, and no further call can wait to be recorded", err)
	}
	return nil
}

func (d *decision) event(decided call.Decision) call.Event {
	now := d.server.cfg.Now()
	r := &d.call.Request
	settings := d.settings()
	took := now.Sub(d.started)
	if decided.Approval != nil {
		took = max(0, took-decided.Approval.HeldFor)
	}
	redact := d.server.cfg.Redact
	path, hidden := redact.Target(clean(r.Path))
	args := d.call.ArgsJSON
	if d.call.Protocol == call.HTTP { // whose arguments are those of path and query, too
		args = redact.Arguments(args, hidden)
	}
	e := &call.DecidedEvent{
		Identity: d.call.Identity, Connection: d.call.Connection, Protocol: d.call.Protocol,
		Function: clean(d.call.Function), ArgsJSON: args, Session: clean(d.call.Session), Decision: decided,
		Method: clean(r.Method), Scheme: clean(r.Scheme), Authority: redact.Authority(clean(r.Authority)), Path: path,
		Headers: redact.Headers(recorded(r.Headers, settings.Headers)),
		Body:    call.NewBody(r.Body, settings.MaxBody, clean(r.Headers.Get("content-type")), clean(r.Headers.Get("content-encoding"))),
		TraceID: r.TraceID, RequestID: clean(r.RequestID), RPCID: string(d.call.RPCID),
		Started: d.started, Took: took, Expect: d.expect(decided), Retain: settings.Retain(now),
		Batch: d.place, Masked: d.hidden,
	}
	if r.Source.IsValid() {
		e.Source = r.Source.String()
	}
	return call.Event{Kind: call.Decided, CallID: d.call.ID, Time: now, Decided: e}
}

// unknownSettings record calls that belong to no connection.
var unknownSettings = call.RecordSettings{MaxBody: 64 << 10}

func (d *decision) settings() call.RecordSettings {
	if d.conn == nil {
		return unknownSettings
	}
	return d.conn.Record
}

// expect is what will still be told of the call.
func (d *decision) expect(decided call.Decision) []call.EventKind {
	var out []call.EventKind
	for _, leg := range d.legs {
		if leg == call.Answered && (!decided.Outcome.Allowed() || d.settings().Response == call.RecordOff) {
			continue
		}
		out = append(out, leg)
	}
	return out
}

func recorded(h call.Headers, also []string) call.Headers {
	var out call.Headers
	for _, f := range h {
		if call.HeaderRecorded(f.Name) || slices.Contains(also, f.Name) {
			out = append(out, call.Header{Name: f.Name, Value: clean(f.Value)})
		}
	}
	return out
}

// clean makes text of what need not be: rows hold UTF-8.
func clean(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }
