package extauthz

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
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
	if d.conn == nil || !d.conn.Unrecorded {
		return fmt.Errorf("record the decision: %w", err)
	}
	select {
	case d.server.behind <- e:
	default:
		d.server.cfg.Metrics.lost.Inc()
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
	path, hidden := redactPath(clean(r.Path))
	args := d.call.ArgsJSON
	if d.call.Protocol == call.HTTP { // whose arguments are the query's too
		args = redactArgs(args, hidden)
	}
	e := &call.DecidedEvent{
		Identity: d.call.Identity, Connection: d.call.Connection, Protocol: d.call.Protocol,
		Function: clean(d.call.Function), ArgsJSON: args, Session: clean(d.call.Session), Decision: decided,
		Method: clean(r.Method), Scheme: clean(r.Scheme), Authority: withoutUser(clean(r.Authority)), Path: path,
		Headers: recorded(r.Headers, settings.Headers),
		Body:    call.NewBody(r.Body, settings.MaxBody, clean(r.Headers.Get("content-type")), clean(r.Headers.Get("content-encoding"))),
		TraceID: r.TraceID, RequestID: clean(r.RequestID), RPCID: string(d.call.RPCID),
		Started: d.started, Took: took, Expect: d.expect(decided), Retain: settings.Retain(now),
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

// recordedHeaders are kept of every request; a connection may add to them. None
// of them carries a credential.
var recordedHeaders = []string{
	"accept", "content-encoding", "content-type", "grpc-timeout", "idempotency-key", "if-match", "mcp-protocol-version",
	"mcp-session-id", "traceparent", "tracestate", "user-agent", "x-forwarded-for", "x-request-id",
}

func recorded(h call.Headers, also []string) call.Headers {
	var out call.Headers
	for _, f := range h {
		if slices.Contains(recordedHeaders, f.Name) || slices.Contains(also, f.Name) {
			out = append(out, call.Header{Name: f.Name, Value: clean(f.Value)})
		}
	}
	return out
}

// clean makes text of what need not be: rows hold UTF-8.
func clean(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// secretNames are query parameters that carry credentials.
var secretNames = []string{
	"access_token", "api-key", "api_key", "apikey", "assertion", "auth", "authorization", "client_assertion", "client_secret", "code",
	"credential", "id_token", "jwt", "key", "pass", "passwd", "password", "pwd", "refresh_token", "secret", "session", "sig", "signature",
	"subject_token", "token", "x-amz-credential", "x-amz-security-token", "x-amz-signature", "x-goog-signature",
}

// redactPath hides the values of query parameters that carry credentials. It
// returns their names too, decoded.
func redactPath(target string) (string, []string) {
	path, query, ok := strings.Cut(target, "?")
	if !ok {
		return target, nil
	}
	var hidden []string
	var out strings.Builder
	out.WriteString(path)
	out.WriteByte('?')
	for query != "" {
		// Some services take ";" for "&", and a second "?" is part of a name.
		end := strings.IndexAny(query, "&;")
		pair, separator := query, ""
		if end >= 0 {
			pair, separator = query[:end], query[end:end+1]
		}
		query = query[len(pair)+len(separator):]
		name, _, has := strings.Cut(pair, "=")
		plain, err := url.QueryUnescape(strings.TrimLeft(name, "?"))
		if has && (err != nil || slices.Contains(secretNames, strings.ToLower(plain))) {
			pair = name + "=[redacted]"
			hidden = append(hidden, plain)
		}
		out.WriteString(pair)
		out.WriteString(separator)
	}
	return out.String(), hidden
}

// redactArgs hides arguments of these names. Arguments that can't be read are
// left out altogether.
func redactArgs(args json.RawMessage, names []string) json.RawMessage {
	if len(names) == 0 || len(args) == 0 {
		return args
	}
	var all map[string]json.RawMessage
	if json.Unmarshal(args, &all) != nil {
		return nil
	}
	for _, name := range names {
		if _, there := all[name]; there {
			all[name] = json.RawMessage(`"[redacted]"`)
		}
	}
	out, err := json.Marshal(all)
	if err != nil {
		return nil
	}
	return out
}

// withoutUser takes a user's name and password out of an authority.
func withoutUser(authority string) string {
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		return "[redacted]" + authority[i:]
	}
	return authority
}
