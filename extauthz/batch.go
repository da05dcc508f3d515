package extauthz

import (
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/call/protocol"
)

// member is one call of a batch on its way through the stages that are its own.
type member struct {
	decision
	start, end int
	decided    call.Decision
	path       string          // that the function gets, if it is another
	answer     json.RawMessage // the id under which its caller hears of a denial
}

func (m *member) allowed() bool { return m.decided.Outcome.Allowed() }

func (m *member) refuse(reason call.Reason, message string) {
	m.decided.Outcome, m.decided.Reason, m.decided.Message = call.Deny, reason, message
}

// batch decides a request that holds several calls. Each is judged and recorded
// for itself. Those that are denied are taken out of the request by ext_proc,
// which alone can; where it does not stand in the way of this request, the whole
// is denied.
func (d *decision) batch() (*authv3.CheckResponse, error) {
	elements, err := d.conn.Batches.Split(&d.call.Request)
	if err != nil {
		d.call.BelongTo(d.session, "")
		no := deny(call.ReasonMalformedRequest, "the request can't be read")
		if known := (*protocol.Error)(nil); errors.As(err, &known) {
			no = &denied{known.Reason, known.Message}
		}
		return d.refuse(call.Decision{Outcome: call.Deny, Reason: no.reason, Message: no.message})
	}
	members := make([]*member, len(elements))
	for i, e := range elements {
		if members[i], err = d.member(i, len(elements), e); err != nil {
			return nil, err
		}
		members[i].judge(e.Err)
	}
	if d.conn.Response.Private {
		if no := d.unconditional(); no != nil {
			refuseAll(members, no.reason, no.message)
		}
	}
	d.maskMembers(members)
	passed := 0
	for _, m := range members {
		if m.allowed() {
			passed++
		}
	}
	if passed > 0 {
		if no := d.credential(); no != nil {
			passed = refuseAll(members, no.reason, no.message)
		}
	}
	if passed > 0 && passed < len(members) && !d.edits {
		passed = refuseAll(members, call.ReasonBatchWhole,
			"another call of this batch is denied, and this Envoy does not let it be taken out of the request; send this call alone, or without the denied one")
	}
	d.members = members
	d.maskBatch(members)
	if err := d.recordAll(); err != nil {
		return d.unrecorded(), nil
	}
	for _, m := range members {
		d.server.cfg.Metrics.decided(&m.decision, m.decided)
	}
	if passed > 0 {
		return d.pass(call.Decision{Outcome: call.Allow, Reason: call.ReasonRule}), nil
	}
	return d.denyAll(), nil
}

// member is the state of one call of a batch: that of the request, with what is
// its own.
func (d *decision) member(i, of int, e protocol.Element) (*member, error) {
	m := &member{decision: *d, start: e.Start, end: e.End, answer: e.Answer()}
	if i > 0 { // the first has the request's
		id, err := call.NewID()
		if err != nil {
			return nil, err
		}
		m.call.ID = id
	}
	m.place = call.Place{ID: d.call.ID, Index: i, Size: of}
	c := &m.call
	c.Request.Body = d.call.Request.Body[e.Start:e.End:e.End]
	c.Function, c.Args, c.ArgsJSON, c.RPCID = e.Function, e.Args, e.ArgsJSON, e.RPCID
	c.BelongTo(d.session, e.Session)
	return m, nil
}

// judge decides the call as if it had come alone, but that it can't wait for
// people: the others would wait with it.
func (m *member) judge(unreadable *protocol.Error) {
	no := m.discreetBody() // of one that can't be read, too: it is recorded
	if unreadable != nil {
		no = &denied{unreadable.Reason, unreadable.Message}
	}
	if no != nil {
		m.decided = call.Decision{PolicyVersion: m.active.Version}
		m.refuse(no.reason, no.message)
		return
	}
	m.ruling = m.rule()
	if m.ruling.Action == call.ActionHold {
		m.decided = call.Decision{Rule: m.ruling.Rule}
		m.refuse(call.ReasonBatchHold, "this call needs approval, for which a call in a batch can't wait; send it alone")
	} else {
		m.decided = m.ruled()
	}
	m.decided.PolicyVersion, m.decided.Shadow = m.active.Version, m.ruling.Shadow
	if m.allowed() {
		m.mask, m.decided.Relaxed, m.ownMask = m.mask.For(m.call.Identity, m.decided)
	}
}

// refuseAll denies the calls that were allowed, and returns how many are then.
func refuseAll(members []*member, reason call.Reason, message string) int {
	for _, m := range members {
		if m.allowed() {
			m.refuse(reason, message)
		}
	}
	return 0
}

// recordAll makes the decisions durable, all of them before any takes effect.
func (d *decision) recordAll() error {
	var g errgroup.Group
	for _, m := range d.members {
		g.Go(func() (err error) {
			defer func() {
				if recover() != nil { // as in Check: no text of it
					d.server.cfg.Metrics.panics.Inc()
					d.server.cfg.Log.ErrorContext(d.ctx, "panic while recording a call; denied", "call_id", m.call.ID, "stack", string(debug.Stack()))
					err = errors.New("record the decision: fault")
				}
			}()
			return m.record(m.decided)
		})
	}
	return g.Wait()
}

// denyAll answers a batch of which no call is allowed.
func (d *decision) denyAll() *authv3.CheckResponse {
	list := make([]protocol.Refused, len(d.members))
	for i, m := range d.members {
		list[i] = protocol.Refused{RPCID: m.answer, CallID: m.call.ID, Decision: m.decided}
	}
	decided := d.members[0].decided
	return d.denialOf(decided, protocol.DenyBatch(d.call.Protocol, &d.call.Request, d.call.ID, decided, list))
}

// batchValue is [call.Batch].
func (d *decision) batchValue() *structpb.Value {
	var masks []*structpb.Value
	known := map[string]int{} // a mask's place, from 1
	edit := false
	calls := make([]*structpb.Value, len(d.members))
	for i, m := range d.members {
		f := map[string]*structpb.Value{
			"call_id": structpb.NewStringValue(m.call.ID.String()),
			"start":   structpb.NewNumberValue(float64(m.start)),
			"end":     structpb.NewNumberValue(float64(m.end)),
		}
		if m.allowed() {
			f["function"] = structpb.NewStringValue(clean(m.call.Function))
			f["rpc_id"] = structpb.NewStringValue(clean(string(m.call.RPCID)))
			if len(m.mask.Rules) > 0 {
				key := fmt.Sprintf("%#v", m.mask.Rules)
				if known[key] == 0 {
					masks = append(masks, maskValue(m.mask))
					known[key] = len(masks)
				}
				f["mask"] = structpb.NewNumberValue(float64(known[key]))
			}
		} else {
			edit = true
			f["rpc_id"] = structpb.NewStringValue(clean(string(m.answer)))
			f["denied"] = object(map[string]*structpb.Value{
				"outcome": structpb.NewStringValue(string(m.decided.Outcome)),
				"rule":    structpb.NewStringValue(clean(m.decided.Rule)),
				"reason":  structpb.NewStringValue(string(m.decided.Reason)),
				"message": structpb.NewStringValue(protocol.Bounded(m.decided.Message)),
			})
		}
		calls[i] = object(f)
	}
	f := map[string]*structpb.Value{"calls": structpb.NewListValue(&structpb.ListValue{Values: calls})}
	if len(masks) > 0 {
		f["masks"] = structpb.NewListValue(&structpb.ListValue{Values: masks})
	}
	if edit {
		f["edit"], f["sha256"] = structpb.NewBoolValue(true), structpb.NewStringValue(call.HashOf(d.call.Request.Body))
	}
	return object(f)
}
