package extproc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"reflect"
	"slices"
	"strings"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/call/protocol"
	"github.com/callgate/callgate/extproc/mask"
	"github.com/callgate/callgate/extproc/sealed"
)

// batch is what is known of the calls of one request, and of what was answered to
// each.
type batch struct {
	server *Server
	calls  []*answer // that were allowed
	byID   map[string]*answer
	denied []json.RawMessage // the errors that denied ones are owed
	// all and listing are the masks of all calls, and what takes out of lists,
	// for what belongs to no call.
	all     *mask.Masker
	listing *listing
	split   bool   // the flow tells the answers apart itself
	failed  []byte // an error that the function gave without saying for which call
	// strays are messages of the function's that were not passed on, since they
	// answer nothing that it was asked.
	strays int
	spoke  bool // the function said something
}

// answer is what is answered to one call of a batch.
type answer struct {
	meta     call.Metadata
	masker   *mask.Masker
	listing  *listing // takes out of lists what their caller may not use; nil: there are none
	tape     *call.Tape
	original *original // nil: not kept
	outcome  *protocol.Outcome
	found    []mask.Finding
	answered bool
	recorded bool
}

// alone is how the part of a call in an answer is recorded: as one message.
var alone = call.Headers{{Name: "content-type", Value: "application/json"}}

func (s *Server) newBatch(ctx context.Context, meta call.Metadata) (*batch, error) {
	b := &batch{server: s, byID: map[string]*answer{}}
	for _, c := range meta.Batch.Calls {
		if c.Denied != nil && c.RPCID != "" {
			b.denied = append(b.denied, protocol.RPCError(json.RawMessage(c.RPCID), c.CallID, *c.Denied))
		}
	}
	union := meta
	union.Mask = call.Mask{}
	for _, m := range meta.Batch.Masks {
		for _, r := range m.Rules {
			if !slices.ContainsFunc(union.Mask.Rules, func(o call.MaskRule) bool { return reflect.DeepEqual(o, r) }) {
				union.Mask.Rules = append(union.Mask.Rules, r)
			}
		}
	}
	var err error
	if b.all, err = s.masker(ctx, union); err != nil {
		return b, err
	}
	if s.lists(meta) {
		b.listing = s.newListing(meta)
	}
	for _, m := range meta.Each() {
		a := &answer{meta: m, tape: call.NewTape(m.Record.MaxBody), outcome: protocol.NewOutcome(m, alone)}
		b.calls = append(b.calls, a)
		if a.masker, err = s.masker(ctx, m); err != nil {
			return b, err
		}
		if a.masker != nil && len(m.Record.Originals) > 0 && m.Record.Response != call.RecordOff {
			a.original = &original{max: m.Record.MaxBody, of: sealed.Original{Call: m.CallID.String(), Type: alone.Get("content-type")}}
		}
		if s.lists(m) {
			a.listing = s.newListing(m)
		}
		if id := protocol.SameID(m.RPCID); id != "" {
			b.byID[id] = a
		}
	}
	return b, nil
}

// masker is the mask of a call, bound to the life of its response.
func (s *Server) masker(ctx context.Context, meta call.Metadata) (*mask.Masker, error) {
	m, err := s.maskers.get(meta)
	if err != nil || m == nil {
		return nil, err
	}
	return m.In(ctx), nil
}

// rewrites reports whether the caller must get something else than the function
// answered.
func (b *batch) rewrites() bool {
	return len(b.denied) > 0 || b.all != nil || b.listing != nil
}

// flow chooses how the answer is handled, or says why it can't be.
func (b *batch) flow(meta call.Metadata, h call.Headers, limits mask.Limits, ends func(func())) (flow, error) {
	media, params, err := mime.ParseMediaType(h.Get("content-type"))
	if len(h.Values("content-type")) > 1 || h.Get("content-type") != "" && err != nil {
		return nil, errors.New("the answer to a batch has no content-type that can be read")
	}
	if cs := strings.ToLower(params["charset"]); cs != "" && cs != "utf-8" && cs != "utf8" && cs != "us-ascii" {
		return nil, fmt.Errorf("the answer to a batch is in charset %q; let the function answer in utf-8", cs)
	}
	ok := strings.HasPrefix(h.Get(":status"), "2")
	switch {
	case h.Get(":status") == "206":
		return nil, errors.New("the answer to a batch is partial (206)")
	case media == "application/json", strings.HasPrefix(media, "application/") && strings.HasSuffix(media, "+json") && ok:
		b.split = true
		return &batchDocument{b: b, limit: limits.Whole}, nil
	case media == "text/event-stream" && ok:
		b.split = true
		return &batchEvents{b: b, limit: limits.Whole}, nil
	case media == "" && ok:
		// No type: there should be no body, as after notifications alone.
		b.split = true
		return &batchDocument{b: b, limit: limits.Whole}, nil
	case ok:
		return nil, fmt.Errorf("the answer to a batch is of type %q, so its calls can't be told apart; it must be JSON or a stream of events", media)
	}
	// An error of the server's own, which is about all calls alike.
	return shape{masker: b.all, meta: meta, messages: b.server.cfg.Messages, headers: h, limits: limits, ends: ends}.flow()
}

// keep keeps what the function sends for investigators, where it is about all
// calls alike.
func (b *batch) keep(p []byte) {
	if b == nil || b.split {
		return
	}
	for _, a := range b.calls {
		a.original.write(p)
	}
}

// held is how many bytes are in memory beside the flow's.
func (b *batch) held() int {
	n := 0
	if b != nil {
		for _, a := range b.calls {
			n += a.original.held()
		}
	}
	return n
}

// take records what all calls are answered alike.
func (b *batch) take(p []byte) {
	if b.split {
		return
	}
	b.spoke = true
	for _, a := range b.calls {
		_, _ = a.tape.Write(p)
		a.outcome.Write(p)
	}
}

// pass masks messages of the function's, each with the mask of the call that it
// answers, and returns those that may leave. An answer to nothing that was
// asked, or a second one, is not passed on: nobody could say what must be hidden
// in it.
func (b *batch) pass(list []protocol.Reply) ([]json.RawMessage, error) {
	out := make([]json.RawMessage, 0, len(list)+len(b.denied))
	for _, r := range list {
		if !r.Answers || r.ID == "" && r.Failed {
			text, found, err := shown(b.listing, b.all, r.Text)
			if err != nil {
				return nil, err
			}
			if r.Answers {
				b.failed = text
			}
			if len(b.calls) > 0 { // recorded with the first
				b.calls[0].found = append(b.calls[0].found, found...)
				if !r.Answers {
					b.calls[0].write(text)
				}
			}
			out = append(out, text)
			continue
		}
		a := b.byID[r.ID]
		if a == nil || a.answered {
			b.strays++
			continue
		}
		a.original.write(r.Text)
		text, found, err := shown(a.listing, a.masker, r.Text)
		if err != nil {
			return nil, err
		}
		a.answered, a.found = true, append(a.found, found...)
		a.write(text)
		a.outcome.Write(text)
		out = append(out, text)
	}
	return out, nil
}

// shown is a message as the caller may see it.
func shown(l *listing, m *mask.Masker, text []byte) (_ []byte, _ []mask.Finding, err error) {
	if l != nil {
		if text, err = l.message(text); err != nil {
			return nil, nil, err
		}
	}
	if m == nil {
		return text, nil, nil
	}
	return m.JSON(text)
}

// write records a message, a line each.
func (a *answer) write(text []byte) {
	if a.tape.Length() > 0 {
		_, _ = a.tape.Write([]byte("\n"))
	}
	_, _ = a.tape.Write(text)
}

// end is called when no message comes any more: an error that was said to be
// nobody's is everybody's who was not answered.
func (b *batch) end() {
	for _, a := range b.calls {
		if b.failed != nil && !a.answered && a.meta.RPCID != "" {
			a.write(b.failed)
			a.outcome.Write(b.failed)
		}
	}
	if b.strays > 0 {
		b.server.cfg.Metrics.strays.Add(float64(b.strays))
		b.server.cfg.Log.Warn("a function answered what it was not asked in a batch; that was not passed on",
			"call_id", b.calls[0].meta.CallID, "connection", b.calls[0].meta.Connection, "messages", b.strays)
	}
}

// silent reports whether the function said nothing.
func (b *batch) silent() bool { return !b.spoke }

// blank forgets what was answered, where nothing of it has left.
func (b *batch) blank() {
	if b == nil {
		return
	}
	for _, a := range b.calls {
		a.tape, a.outcome, a.found = call.NewTape(0), nil, nil
	}
}

// batchDocument is an answer that is one JSON document. It is held until it is
// all there.
type batchDocument struct {
	b     *batch
	limit int
	body  []byte
}

func (f *batchDocument) write(p []byte) ([]byte, error) {
	if len(f.body)+len(p) > f.limit {
		return nil, fmt.Errorf("an answer of over %d bytes to a batch can't be held; raise the connection's max_response or send fewer calls", f.limit)
	}
	f.body = append(f.body, p...)
	return nil, nil
}

func (f *batchDocument) close() ([]byte, error) {
	defer f.b.end()
	if len(strings.Trim(string(f.body), " \t\r\n")) == 0 {
		return f.b.errors(), nil
	}
	f.b.spoke = true
	list, isList, err := protocol.Replies(f.body)
	if err != nil {
		return nil, err
	}
	out, err := f.b.pass(list)
	if err != nil {
		return nil, err
	}
	if !isList && len(out) == 1 && len(f.b.denied) == 0 {
		return out[0], nil
	}
	return listOf(append(out, f.b.denied...)), nil
}

func (*batchDocument) findings() []mask.Finding { return nil } // the calls have them
func (*batchDocument) waits() bool              { return true }
func (f *batchDocument) held() int              { return 2 * cap(f.body) } // and what it becomes

// errors are what the denied calls are told, where the function says nothing;
// nothing where nobody is owed an answer.
func (b *batch) errors() []byte {
	if len(b.denied) == 0 {
		return nil
	}
	return listOf(b.denied)
}

// listOf writes a list of messages, each as it is.
func listOf(list []json.RawMessage) []byte {
	out := []byte{'['}
	for i, m := range list {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, m...)
	}
	return append(out, ']')
}
