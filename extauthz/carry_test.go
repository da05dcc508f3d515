package extauthz

import (
	"context"
	"errors"
	"testing"

	"github.com/callgate/callgate/call"
)

type carrying struct {
	of  call.Call
	err error
}

func (c *carrying) Carry(of *call.Call, version string) (string, error) {
	c.of = *of
	return "sealed for " + version, c.err
}

// What judges a model's answer is told which policy decided, and gets what rules
// look at of the caller; where it can't, the call goes on without.
func TestCarriedToTheAnswer(t *testing.T) {
	r := newRig(t)
	c := &carrying{}
	r.cfg.Carrier = c
	model := *r.conns["crm"]
	model.Protocol = call.OpenAI
	*r.conns["crm"] = model
	r.activate(t)
	a := r.check(t, request())
	if a.GetOkResponse() == nil || a.meta.Policy == "" || a.meta.Carried != "sealed for "+a.meta.Policy || a.meta.Caller == nil || c.of.ID != a.meta.CallID || c.of.Identity.Subject == "" {
		t.Errorf("%+v, of %+v", a.meta, c.of)
	}
	c.err = errors.New("too much")
	if a := r.check(t, request()); a.GetOkResponse() == nil || a.meta.Carried != "" || a.meta.Policy == "" {
		t.Errorf("%+v", a.meta)
	}
}

// A connection's header names the session, on calls and in batches; what can't be a
// name denies the call.
func TestSessionHeader(t *testing.T) {
	r := newBatchRig(t)
	for _, name := range []string{"crm", "rpc"} {
		r.conns[name].SessionHeader = "x-run"
	}
	r.activate(t)
	var seen []call.Call
	r.decide = func(_ context.Context, c *call.Call) call.Ruling {
		seen = append(seen, *c)
		return call.Ruling{Action: call.ActionAllow, Rule: "yes", Reason: call.ReasonRule}
	}
	r.check(t, request(add("x-run", "run-7")))
	r.check(t, request())
	if _, err := r.Check(t.Context(), request(to("rpc", "/rpc"), editable, body("["+rpcOf("get", "1")+","+rpcOf("get", "2")+"]"), add("x-run", "run-8"))); err != nil {
		t.Fatal(err)
	}
	if len(seen) != 4 || seen[0].Session != "run-7" || seen[0].SessionName != "run-7" || seen[1].SessionName != "" || seen[1].Session == "" || seen[2].Session != "run-8" || seen[3].SessionName != "run-8" {
		t.Errorf("%+v", seen)
	}
	if e := r.recorder.all()[0].Decided; e.Session != "run-7" {
		t.Errorf("the record has %q", e.Session)
	}
	r.check(t, request(add("x-run", "a"), add("x-run", "b"))).denied(t, 400, call.ReasonMalformedRequest)
	r.check(t, request(add("x-run", "a b"))).denied(t, 400, call.ReasonMalformedRequest)
	// A caller's credential is no name.
	r.check(t, request(add("x-run", plantedToken)))
	events := r.recorder.all()
	if got := events[len(events)-1].Decided.Session; got == plantedToken {
		t.Error("the record has the caller's token as a session")
	}
}
