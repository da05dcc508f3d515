package extauthz

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/call/protocol"
)

// newBatchRig is a rig whose connection "rpc" takes batches, with a policy that
// goes by the name of the function.
func newBatchRig(t testing.TB) *rig {
	t.Helper()
	r := newRig(t)
	for _, name := range []string{"rpc", "tool"} {
		batches, err := protocol.NewBatches(r.conns[name].Protocol, 4)
		if err != nil {
			t.Fatal(err)
		}
		r.conns[name].Batches = batches
	}
	r.activate(t)
	r.decide = func(_ context.Context, c *call.Call) call.Ruling {
		switch c.Function {
		case "drop":
			return call.Ruling{Action: call.ActionDeny, Rule: "no drops", Reason: call.ReasonRule, Message: "no"}
		case "pay":
			return call.Ruling{Action: call.ActionHold, Rule: "payments", Reason: call.ReasonRule}
		case "cards":
			return call.Ruling{Action: call.ActionAllow, Rule: "yes", Reason: call.ReasonRule, Mask: call.Mask{Rules: []call.MaskRule{{Name: "more", Detect: []string{"email"}}}}}
		}
		return call.Ruling{Action: call.ActionAllow, Rule: "yes", Reason: call.ReasonRule}
	}
	r.hold = func(context.Context, *call.Call, call.Ruling) call.Decision {
		t.Error("somebody was asked about a call of a batch")
		return call.Decision{Outcome: call.HoldAllow, Reason: call.ReasonApproved}
	}
	return r
}

func editable(req *authv3.CheckRequest) { req.Attributes.ContextExtensions["batch"] = "edit" }

// rpcOf is a message; without an id it is a notification.
func rpcOf(method, id string) string {
	if id != "" {
		id = `,"id":` + id
	}
	return `{"jsonrpc":"2.0","method":"` + method + `"` + id + `}`
}

// sendBatch returns the answer and the decisions that were recorded, in the
// order of the batch.
func (r *rig) sendBatch(t testing.TB, text string, change ...func(*authv3.CheckRequest)) (*authv3.CheckResponse, call.Metadata, []*call.DecidedEvent) {
	t.Helper()
	before := len(r.recorder.all())
	resp, err := r.Check(t.Context(), request(append([]func(*authv3.CheckRequest){to("rpc", "/rpc"), body(text)}, change...)...))
	if err != nil {
		t.Fatal(err)
	}
	meta := metadata(t, resp)
	var events []*call.DecidedEvent
	if meta.Batch != nil {
		events = make([]*call.DecidedEvent, len(meta.Batch.Calls))
		for _, e := range r.recorder.all()[before:] {
			at := e.Decided.Batch
			if at.ID != meta.CallID || at.Size != len(events) || meta.Batch.Calls[at.Index].CallID != e.CallID || events[at.Index] != nil {
				t.Errorf("event of %s stands at %+v of batch %s", e.CallID, at, meta.CallID)
			}
			events[at.Index] = e.Decided
		}
	}
	return resp, meta, events
}

// What becomes of each call, and what of the request. A call is its function and
// id; in want stands the reason for which it is denied, or "" where it goes on.
func TestBatchDecisions(t *testing.T) {
	type item struct{ text, want string }
	get, note, drop, pay := item{rpcOf("get", "1"), ""}, item{rpcOf("note", ""), ""}, item{rpcOf("drop", "2"), "rule"}, item{rpcOf("pay", `"p"`), "batch_hold"}
	twice := item{`{"jsonrpc":"2.0","method":"get","method":"drop","id":5}`, "malformed_request"}
	whole := item{get.text, "batch_whole"}
	for _, tt := range []struct {
		name   string
		items  []item
		change func(*authv3.CheckRequest)
		status int32 // 0: it goes on
	}{
		{"all allowed", []item{get, note}, nil, 0},
		{"all allowed, of one", []item{get}, nil, 0},
		{"one denied", []item{get, drop, note}, editable, 0},
		{"one held", []item{pay, get}, editable, 0},
		{"one malformed", []item{twice, get}, editable, 0},
		{"a batch in it", []item{{"[" + get.text + "]", "malformed_request"}, get}, editable, 0},
		{"a number", []item{{"17", "malformed_request"}, get}, editable, 0},
		{"an id twice", []item{{get.text, "malformed_request"}, note, {get.text, "malformed_request"}}, editable, 0},
		{"a denied notification", []item{get, {rpcOf("drop", ""), "rule"}}, editable, 0},
		{"all denied", []item{drop, pay, twice}, editable, 200},
		{"all denied, nothing to edit", []item{drop, pay}, nil, 200},
		{"no id that can be answered", []item{{"1", "malformed_request"}, {"2", "malformed_request"}}, editable, 400},
		{"notifications, denied", []item{{rpcOf("drop", ""), "rule"}, {rpcOf("drop", ""), "rule"}}, editable, 403},
		{"one denied, and Envoy can't edit", []item{whole, drop}, nil, 200},
		{"one held, and Envoy can't edit", []item{whole, pay}, nil, 200},
		{"one malformed, and Envoy can't edit", []item{whole, twice}, nil, 200},
		{"Envoy says something else", []item{whole, drop}, func(req *authv3.CheckRequest) { req.Attributes.ContextExtensions["batch"] = "true" }, 200},
		{"a caller says that it can be edited", []item{whole, drop}, add("batch", "edit"), 200},
		{"no ext_proc behind the response", []item{whole, drop}, func(req *authv3.CheckRequest) {
			editable(req)
			req.Attributes.ContextExtensions["legs"] = "finished"
		}, 200},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newBatchRig(t)
			var texts []string
			for _, i := range tt.items {
				texts = append(texts, i.text)
			}
			text := " [" + strings.Join(texts, " ,\n") + "]\n"
			change := tt.change
			if change == nil {
				change = func(*authv3.CheckRequest) {}
			}
			resp, meta, events := r.sendBatch(t, text, change)
			if len(events) != len(tt.items) {
				t.Fatalf("%d events of %d calls", len(events), len(tt.items))
			}
			edit := false
			var owed []string
			for i, e := range events {
				c := meta.Batch.Calls[i]
				if got := text[c.Start:c.End]; got != tt.items[i].text || string(e.Body.Head) != got {
					t.Errorf("call %d is %q, recorded %q", i, got, e.Body.Head)
				}
				reason := ""
				if !e.Decision.Outcome.Allowed() {
					reason = string(e.Decision.Reason)
					edit = true
					if c.RPCID != "" {
						owed = append(owed, c.RPCID)
					}
				}
				if reason != tt.items[i].want || (c.Denied != nil) != (reason != "") || c.Denied != nil && string(c.Denied.Reason) != reason {
					t.Errorf("call %d: %q, want %q; metadata %+v", i, reason, tt.items[i].want, c.Denied)
				}
				if wants := fmt.Sprint(e.Expect); reason != "" && strings.Contains(wants, "answered") || !strings.Contains(wants, "finished") {
					t.Errorf("call %d expects %s", i, wants)
				}
			}
			if tt.status == 0 {
				sum := sha256.Sum256([]byte(text))
				if resp.GetOkResponse() == nil || !meta.Outcome.Allowed() || meta.Batch.Edit != edit || edit && meta.Batch.SHA256 != hex.EncodeToString(sum[:]) {
					t.Errorf("%v", resp)
				}
				return
			}
			no := resp.GetDeniedResponse()
			if no == nil || resp.GetOkResponse() != nil || resp.Status.Code == 0 || meta.Outcome.Allowed() || int32(no.Status.Code) != tt.status {
				t.Fatalf("%v, want %d", resp, tt.status)
			}
			var list []struct {
				ID    json.RawMessage
				Error struct{ Code int }
			}
			if owed == nil {
				return
			}
			if err := json.Unmarshal([]byte(no.Body), &list); err != nil {
				t.Fatalf("%v: %s", err, no.Body)
			}
			var ids []string
			for _, m := range list {
				ids = append(ids, string(m.ID))
			}
			if strings.Join(ids, " ") != strings.Join(owed, " ") {
				t.Errorf("answers %q, want %q", ids, owed)
			}
		})
	}
}

// Each call has its own mask; equal ones are told once.
func TestBatchMasks(t *testing.T) {
	r := newBatchRig(t)
	_, meta, _ := r.sendBatch(t, "["+rpcOf("get", "1")+","+rpcOf("cards", "2")+","+rpcOf("get", "3")+"]")
	each := meta.Each()
	if len(meta.Batch.Masks) != 2 || len(each) != 3 || len(each[0].Mask.Rules) != 1 || len(each[1].Mask.Rules) != 2 || each[1].Mask.Rules[1].Name != "more" || each[2].RPCID != "3" || each[2].Function != "get" || len(meta.Mask.Rules) != 0 {
		t.Errorf("%+v", meta)
	}
	r.conns["rpc"].Mask = call.Mask{}
	r.activate(t)
	if _, meta, _ := r.sendBatch(t, "["+rpcOf("get", "1")+"]"); len(meta.Batch.Masks) != 0 || len(meta.Each()[0].Mask.Rules) != 0 {
		t.Errorf("%+v", meta)
	}
}

// A list of tools in a batch is told whose it is, as when it comes alone.
func TestBatchLists(t *testing.T) {
	r := newBatchRig(t)
	_, meta, events := r.sendBatch(t, "["+rpcOf("tools/list", "1")+","+rpcOf("ping", "2")+"]", to("tool", "/mcp"), add("mcp-session-id", "s-9"))
	if meta.Caller == nil || meta.Caller.Subject != "ann" || events[0].Session != "s-9" {
		t.Errorf("%+v", meta)
	}
}

// Nothing goes on before every decision is on disk, whichever of them fails, and
// however.
func TestBatchUnrecorded(t *testing.T) {
	for name, fail := range map[string]func() error{"error": func() error { return errDisk }, "panic": func() error { panic(plantedToken) }} {
		for which := range 3 {
			r := newBatchRig(t)
			var n atomic.Int32
			r.recorder.faulty(func(call.Event) error {
				if int(n.Add(1)) == which+1 {
					return fail()
				}
				return nil
			})
			resp, err := r.Check(t.Context(), request(to("rpc", "/rpc"), editable, body("["+rpcOf("get", "1")+","+rpcOf("drop", "2")+","+rpcOf("get", "3")+"]")))
			if err != nil {
				t.Fatal(err)
			}
			meta := metadata(t, resp)
			no := resp.GetDeniedResponse()
			if no == nil || no.Status.Code != 503 || resp.Status.Message != string(call.ReasonAuditUnavailable) || meta.Outcome.Allowed() || len(meta.Batch.Calls) != 3 {
				t.Errorf("%s of event %d: %v", name, which, resp)
			}
			if strings.Contains(r.log.String(), plantedToken) {
				t.Error("the log quotes the panic")
			}
		}
	}
	// Where the connection lets calls through all the same, those of a batch go.
	r := newBatchRig(t)
	r.conns["rpc"].Record.Unrecorded = true
	r.activate(t)
	r.recorder.faulty(func(call.Event) error { return errDisk })
	resp, err := r.Check(t.Context(), request(to("rpc", "/rpc"), editable, body("["+rpcOf("get", "1")+","+rpcOf("drop", "2")+"]")))
	if err != nil || resp.GetOkResponse() == nil || len(r.backlog.events) != 2 || !r.backlog.events[0].Decided.Late {
		t.Errorf("%v %v, %d wait", resp, err, len(r.backlog.events))
	}
}

func TestBatchWithoutCredential(t *testing.T) {
	r := newBatchRig(t)
	r.conns["rpc"].Credential = secret{err: errDisk}
	r.activate(t)
	resp, _, events := r.sendBatch(t, "["+rpcOf("get", "1")+","+rpcOf("drop", "2")+"]", editable)
	if resp.GetDeniedResponse() == nil || events[0].Decision.Reason != call.ReasonCredentialMissing || events[0].Decision.Rule != "yes" || events[1].Decision.Reason != call.ReasonRule {
		t.Errorf("%v", resp)
	}
}

// A request that is no readable batch is one denied call.
func TestBatchRefusedWhole(t *testing.T) {
	for _, tt := range []struct{ text, says string }{
		{"[]", "no message"}, {"[1", "not valid JSON"}, {"[1,2,3,4,5]", "more than the 4 messages"}, {"[\"\xff\"]", "not UTF-8"},
	} {
		r := newBatchRig(t)
		a := r.check(t, request(to("rpc", "/rpc"), editable, body(tt.text)))
		a.denied(t, 400, call.ReasonMalformedRequest)
		if a.event == nil || a.event.Batch.Size != 0 || a.meta.Batch != nil || !strings.Contains(a.event.Decision.Message, tt.says) {
			t.Errorf("%s: %+v", tt.text, a.event)
		}
	}
	// A connection that takes no batches says so, and one that does not take this one.
	r := newBatchRig(t)
	a := r.check(t, request(to("rpc", "/rpc"), editable, body("["+rpcOf("get", "1")+"]"), add("content-encoding", "gzip")))
	a.denied(t, 400, call.ReasonMalformedRequest)
	r.conns["rpc"].Batches = nil
	r.activate(t)
	a = r.check(t, request(to("rpc", "/rpc"), editable, body("["+rpcOf("get", "1")+"]")))
	a.denied(t, 400, call.ReasonMalformedRequest)
	if !strings.Contains(a.event.Decision.Message, "batch.accept") {
		t.Errorf("%s", a.event.Decision.Message)
	}
}

// A connection in shadow lets the calls of a batch through as it lets others.
func TestBatchInShadow(t *testing.T) {
	r := newBatchRig(t)
	r.conns["rpc"].Shadow = true
	r.activate(t)
	resp, meta, events := r.sendBatch(t, "["+rpcOf("drop", "1")+","+rpcOf("pay", "2")+"]")
	if resp.GetOkResponse() == nil || meta.Batch.Edit || events[0].Decision.Reason != call.ReasonShadow || events[1].Decision.Reason != call.ReasonShadow {
		t.Errorf("%v", resp)
	}
}

// The caller's own secrets stand neither in what travels nor in what is kept.
func TestBatchHidesSecrets(t *testing.T) {
	r := newBatchRig(t)
	resp, _, events := r.sendBatch(t, "["+rpcOf("get", "1")+","+rpcOf("drop", "2")+"]", editable)
	all := resp.GetDynamicMetadata().String()
	for _, e := range events {
		all += fmt.Sprintf("%+v", *e)
	}
	for _, s := range []string{plantedToken, plantedCredential} {
		if strings.Contains(all, s) {
			t.Errorf("%s stands in %s", s, all)
		}
	}
	if got := set(t, resp.GetOkResponse().Headers); got["authorization"] != "Bearer "+plantedCredential {
		t.Errorf("the function gets %v", got)
	}
}
