package extproc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	extprocfilterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/call/protocol"
	"github.com/callgate/callgate/extproc/mask"
)

// response is the state of one response on its way to the caller.
type response struct {
	server *Server
	ctx    context.Context
	giveUp context.CancelCauseFunc // ends ctx

	mode     extprocfilterv3.ProcessingMode_BodySendMode
	editing  editing
	batch    *batch // nil: one call
	begun    bool   // headers have come
	through  bool   // Envoy's own answer or a denial of ours: nothing to do
	meta     call.Metadata
	status   int
	headers  call.Headers
	trailers call.Headers
	flow     flow
	masker   *mask.Masker // nil: nothing is hidden
	// rewritten says that the response must be read, masks apart: parts of it
	// are taken out, or judged.
	rewritten bool
	judged    *judged        // nil: nothing in it is judged
	inStatus  []mask.Finding // what was hidden in a gRPC status
	inHeaders []mask.Finding // and in headers and trailers
	// mutation is what changes of the headers.
	mutation *extprocv3.HeaderMutation
	tape     *call.Tape
	original *original // nil: not kept
	outcome  *protocol.Outcome
	share    share
	decoding *decoding                                 // nil: the body comes as it is
	stops    []func()                                  // what else must be ended
	send     func(*extprocv3.ProcessingResponse) error // at once; what handle returns goes after it
	pause    func(func() error) error                  // does what takes no time of ours
	sent     bool                                      // the headers have gone to the caller
	over     bool                                      // so has the end; what still comes of the function goes nowhere
	done     bool                                      // nothing more will come or go
	recorded bool
}

// handle takes one message and returns what to answer. An error cuts the
// caller's stream off, after the answers were sent.
func (r *response) handle(req *extprocv3.ProcessingRequest) ([]*extprocv3.ProcessingResponse, error) {
	if c := req.GetProtocolConfig(); c != nil {
		r.modes(c)
	}
	switch m := req.GetRequest().(type) {
	case *extprocv3.ProcessingRequest_ResponseHeaders:
		return r.begin(req, m.ResponseHeaders)
	case *extprocv3.ProcessingRequest_ResponseBody:
		return r.body(m.ResponseBody.GetBody(), m.ResponseBody.GetEndOfStream())
	case *extprocv3.ProcessingRequest_ResponseTrailers:
		if r.over {
			return nil, nil
		}
		r.trailers = headersOf(m.ResponseTrailers.GetTrailers())
		mutation, err := r.maskStatus(r.trailers)
		if err == nil {
			r.trailers, mutation, err = r.maskHeaders(r.trailers, mutation)
		}
		if r.masker != nil { // what describes the function's own bytes is not true
			mutation.RemoveHeaders = append(mutation.RemoveHeaders, validators...)
		}
		if err != nil {
			return r.withhold(err)
		}
		return r.finish(trailersOK(mutation))
	case *extprocv3.ProcessingRequest_RequestHeaders:
		return r.requestHeaders(req, m.RequestHeaders)
	case *extprocv3.ProcessingRequest_RequestBody:
		return r.requestBody(m.RequestBody)
	case *extprocv3.ProcessingRequest_RequestTrailers:
		return r.requestTrailers()
	default:
		return nil, fmt.Errorf("envoy sends %T, which this filter's processing mode should not include; see the reference for ext_proc", m)
	}
}

func (r *response) begin(req *extprocv3.ProcessingRequest, m *extprocv3.HttpHeaders) ([]*extprocv3.ProcessingResponse, error) {
	r.begun = true
	meta, known, err := metadataOf(req.GetMetadataContext())
	r.meta = meta
	r.headers = headersOf(m.GetHeaders())
	r.status, _ = strconv.Atoi(r.headers.Get(":status"))
	r.batch = nil
	if err == nil && meta.Batch != nil && meta.Outcome.Allowed() {
		r.batch, err = r.server.newBatch(r.ctx, meta)
	}
	switch {
	case err != nil:
		return r.withhold(err)
	case local(req.GetAttributes()) && !(known && meta.Outcome.Allowed()):
		// A denial of ours, or what Envoy answered before anybody decided.
		r.through = true
		r.flow = &passing{}
	case !known || !meta.Outcome.Allowed():
		// A response of a function's that nobody allowed: the filters stand
		// in the wrong order, or ext_authz was bypassed.
		return r.withhold(errors.New("there is no decision that allows this call; ext_authz must run before ext_proc, and its metadata namespace be forwarded"))
	case local(req.GetAttributes()):
		// Envoy's own words (an unreachable upstream, a time-out) hide nothing,
		// but they are what the caller got.
		r.flow = &passing{}
	case r.status < 200:
		// Bytes of another protocol would follow; others that are informational come
		// to nobody.
		return r.withhold(fmt.Errorf("the function answers with status %d, and no caller may change the protocol", r.status))
	case r.unmasked():
		r.server.cfg.Log.ErrorContext(r.ctx, "a function got a request with what it must not be sent: Envoy did not let it be rewritten, although its route says so",
			"call_id", meta.CallID, "connection", meta.Connection)
		return r.withhold(errors.New("the request was not masked on its way to the function; envoy must hand it over (request_header_mode, request_body_mode) where the route says that it does"))
	case r.batch != nil:
		if err := r.beginBatch(m.GetEndOfStream()); err != nil {
			return r.withhold(err)
		}
		// Headers belong to all calls of it.
		r.masker = r.batch.all
		if r.headers, r.mutation, err = r.maskHeaders(r.headers, nil); err != nil {
			return r.withhold(err)
		}
	default:
		masker, err := r.server.maskers.get(meta)
		if err != nil {
			return r.withhold(err)
		}
		if masker != nil {
			masker = masker.In(r.ctx).Renamed(meta.Aliases)
		}
		r.masker = masker
		r.keepOriginal()
		if err := r.choose(m.GetEndOfStream()); err != nil {
			return r.withhold(err)
		}
		if r.headers, r.mutation, err = r.maskHeaders(r.headers, nil); err != nil {
			return r.withhold(err)
		}
		if r.rewritten && r.mode == extprocfilterv3.ProcessingMode_NONE {
			return r.withhold(errors.New("envoy does not send the response body, so what the caller may not use can't be taken out of it; set response_body_mode"))
		}
		if r.mode == extprocfilterv3.ProcessingMode_NONE && masker != nil && !m.GetEndOfStream() {
			return r.withhold(errors.New("envoy does not send the response body, so it can't be masked; set response_body_mode"))
		}
	}
	if !r.through {
		r.headers, r.mutation = r.private(r.headers, r.mutation)
	}
	if id := r.headers.Get("mcp-session-id"); r.meta.Elicits && id != "" && r.status == 200 && r.server.cfg.Sessions != nil {
		r.server.cfg.Sessions.Note(r.meta.Connection, id)
	}
	r.server.cfg.Metrics.responses.WithLabelValues(r.meta.Connection).Inc()
	r.tape = call.NewTape(r.meta.Record.MaxBody)
	r.outcome = protocol.NewOutcome(r.meta, r.headers)
	switch {
	case m.GetEndOfStream():
		r.trailers = r.headers // a gRPC trailers-only response has its status here
		mutation, err := r.maskStatus(r.trailers)
		if err != nil {
			return r.withhold(err)
		}
		r.mutation = merged(r.mutation, mutation)
		return r.finish(r.headersOK())
	case r.mode == extprocfilterv3.ProcessingMode_NONE:
		return r.finish(r.headersOK())
	case r.flow.waits() && r.duplex():
		return nil, nil // the headers wait for the body
	default:
		r.sent = true
		return one(r.headersOK()), nil
	}
}

// choose finds the way for the body. empty says that there is none.
func (r *response) choose(empty bool) error {
	r.flow = &passing{}
	if empty {
		return nil // nothing to mask; a type it names may be unreadable
	}
	limits := r.limits()
	f, err := shape{masker: r.masker, meta: r.meta, messages: r.server.cfg.Messages, headers: r.headers, limits: limits, ends: r.ends}.flow()
	if err != nil {
		return err
	}
	if f, err = r.server.listingOf(r.meta, r.headers, limits.Whole, f); err != nil {
		return err
	}
	if l, is := f.(*listing); is {
		r.rewritten = l.list
	}
	if r.judges() {
		if f, err = r.judgedBy(limits.Whole, f); err != nil {
			return err
		}
		r.judged, r.rewritten = f.(*judged)
	}
	if _, plain := f.(*passing); plain {
		return nil
	}
	if names := codings(r.headers); len(names) > 0 {
		d, err := newDecoding(names, f)
		var no *unreadable
		switch {
		case errors.As(err, &no) && r.meta.Response.Binary == call.BinaryPass && !r.rewritten:
			r.flow = &passed{finding: mask.Finding{Rule: "binary: pass", Type: "passed", Path: strings.Join(names, ", "), Count: 1}}
			return nil
		case err != nil:
			return err
		}
		f = r.undo(d)
	}
	r.flow = f
	return nil
}

// undo takes note that what leaves is decoded.
func (r *response) undo(d *decoding) flow {
	r.decoding = d
	r.headers = slices.DeleteFunc(r.headers, func(h call.Header) bool { return h.Name == "content-encoding" })
	return d
}

// limits are the bounds within which a response is read.
func (r *response) limits() mask.Limits {
	l := mask.Limits{LookBehind: int(r.meta.Response.LookBehind), Whole: int(r.meta.MaxResponse)}
	if l.Whole <= 0 {
		l.Whole = int(r.server.cfg.MaxResponse)
	}
	return l
}

// beginBatch chooses how what is answered to a batch is handled.
func (r *response) beginBatch(end bool) error {
	if r.meta.Batch.Edit && !r.editing.done {
		r.server.cfg.Log.ErrorContext(r.ctx, "a function got a batch with calls that are denied: Envoy did not let them be taken out, although its route says so",
			"call_id", r.meta.CallID, "connection", r.meta.Connection)
		return errors.New("denied calls were not taken out of the batch; envoy must hand the request over (request_body_mode) where the route says that it does")
	}
	switch {
	case end:
		r.flow = &passing{} // nothing to mask; a type it names may be unreadable
		r.batch.end()
		return nil
	case r.mode == extprocfilterv3.ProcessingMode_NONE && r.batch.rewrites():
		return errors.New("envoy does not send the response body, so the calls of a batch can't be told apart in it; set response_body_mode")
	case r.mode == extprocfilterv3.ProcessingMode_NONE:
		r.flow = &passing{}
		return nil
	}
	f, err := r.batch.flow(r.meta, r.headers, r.limits(), r.ends)
	if err != nil {
		return err
	}
	if names := codings(r.headers); len(names) > 0 {
		d, err := newDecoding(names, f)
		if err != nil {
			return err
		}
		f = r.undo(d)
	}
	r.flow = f
	return nil
}

// owed reports whether denied calls of a batch are owed an answer to which the
// function's is no place: it has no body, and its headers are still here.
func (r *response) owed() bool {
	return r.batch != nil && !r.sent && len(r.batch.denied) > 0 && !r.through && r.status >= 200 && r.status < 300 && r.batch.silent()
}

func (r *response) duplex() bool {
	return r.mode == extprocfilterv3.ProcessingMode_FULL_DUPLEX_STREAMED
}

// take records bytes that are about to leave.
func (r *response) take(p []byte) {
	if r.through || len(p) == 0 {
		return
	}
	if r.batch != nil {
		r.batch.take(p)
		return
	}
	_, _ = r.tape.Write(p)
	r.outcome.Write(p)
}

func (r *response) body(p []byte, end bool) ([]*extprocv3.ProcessingResponse, error) {
	if r.over {
		return nil, nil
	}
	if r.flow == nil {
		return nil, errCut // withheld already; what still comes goes nowhere
	}
	r.original.write(p)
	r.batch.keep(p)
	out, err := r.flow.write(p)
	for {
		if err != nil {
			return r.withhold(err)
		}
		held := r.flow.held() + r.original.held() + r.batch.held()
		if r.decoding != nil {
			held += cap(out) // which may be far more than what came
		}
		if err := r.share.hold(held); err != nil {
			return r.withhold(err)
		}
		if r.decoding == nil || !r.decoding.more {
			break
		}
		if r.duplex() {
			if err := r.pass(out); err != nil {
				return nil, err
			}
			out = nil
		}
		var some []byte
		if some, err = r.decoding.step(); err != nil {
			err = behind(out, err)
		}
		out = append(out, some...)
	}
	if end {
		rest, err := r.flow.close()
		if err != nil {
			return r.withhold(behind(out, err))
		}
		out = append(out[:len(out):len(out)], rest...)
		r.take(out)
		return r.finish(r.chunks(out, true)...)
	}
	r.take(out)
	if len(out) == 0 && r.duplex() {
		return nil, nil
	}
	return r.part(out), nil
}

// part are the messages for bytes of the body before its end, with the headers if
// these have not gone.
func (r *response) part(out []byte) []*extprocv3.ProcessingResponse {
	messages := r.chunks(out, false)
	if !r.sent {
		r.sent = true
		messages = append(one(r.headersOK()), messages...)
	}
	return messages
}

// pass lets bytes go at once. Whoever reads them slowly takes no time of ours.
func (r *response) pass(out []byte) error {
	if len(out) == 0 {
		return nil
	}
	r.take(out)
	messages := r.part(out)
	return r.pause(func() error {
		for _, m := range messages {
			if err := r.send(m); err != nil {
				return err
			}
		}
		return nil
	})
}

// finish records the response and lets its last part go. rest ends with the
// message that ends the response.
func (r *response) finish(rest ...*extprocv3.ProcessingResponse) ([]*extprocv3.ProcessingResponse, error) {
	if r.trailers != nil {
		// Trailers came instead of a last chunk: the body ends here.
		tail, err := r.flow.close()
		if err != nil {
			return r.withhold(err)
		}
		r.take(tail)
		if len(tail) > 0 {
			rest = append(r.chunks(tail, false), rest...)
		}
	}
	if err := r.record(false, ""); err != nil {
		return r.withhold(err)
	}
	if r.owed() {
		// The function had nothing to say, and headers that say so.
		r.done = true
		return one(owing(r.meta, r.headers, r.batch.errors())), nil
	}
	if !r.sent && r.flow.waits() && r.duplex() {
		r.sent = true
		rest = append(one(r.headersOK()), rest...)
	}
	r.done = true
	return rest, nil
}

// withhold keeps back what has not left: with an answer of its own while the
// headers are still here, else by cutting the stream off.
func (r *response) withhold(cause error) ([]*extprocv3.ProcessingResponse, error) {
	cause = r.why(cause)
	r.server.cfg.Metrics.withheld.WithLabelValues(r.meta.Connection).Inc()
	r.server.cfg.Log.WarnContext(r.ctx, "response withheld", "call_id", r.meta.CallID,
		"connection", r.meta.Connection, "function", r.meta.Function, "error", cause)
	var tool *deniedTool
	r.over = r.sent && r.duplex() && errors.As(cause, &tool) && tool.last != nil
	if r.over {
		r.take(tool.last)
	}
	// The record may be what failed; trying again does no harm, and the row
	// should say what happened if it can.
	if !r.sent {
		// Nothing of the body has left. Else the tape has what the caller may
		// have: all that left, and the chunk that was about to.
		r.tape = call.NewTape(0)
		r.batch.blank()
	}
	if err := r.record(false, cause.Error()); err != nil {
		r.server.cfg.Log.ErrorContext(r.ctx, "withheld response not recorded", "call_id", r.meta.CallID, "error", err)
		r.over = false // nothing leaves without a record
	}
	r.free()
	r.flow, r.done = nil, !r.over
	switch {
	case r.over: // Envoy ends the exchange
		return r.chunks(tool.last, true), nil
	case r.sent:
		return nil, errCut
	}
	return one(refusal(r.meta, cause)), nil
}

// end records a response that broke off before its end.
func (r *response) end() {
	defer r.free()
	if !r.begun || r.through || r.recorded || r.done || r.over {
		return
	}
	if err := r.record(true, ""); err != nil {
		r.server.cfg.Log.ErrorContext(r.ctx, "interrupted response not recorded", "call_id", r.meta.CallID, "error", err)
	}
}

func (r *response) ends(stop func()) { r.stops = append(r.stops, stop) }

// free lets go of what the body held.
func (r *response) free() {
	if r.decoding != nil {
		r.decoding.stop()
		r.decoding = nil
	}
	for _, stop := range r.stops {
		stop()
	}
	r.stops = nil
	r.share.free()
}
