package extauthz

import (
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
