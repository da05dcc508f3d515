package extauthz

import (
	"context"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/extauthz/identity"
)

// A connection in shadow lets through what its rules would not, and says so in
// the record; who calls and what must still be known.
func TestShadowConnection(t *testing.T) {
	for _, c := range []struct {
		name    string
		ruling  call.Ruling
		reason  call.Reason
		shadow  string
		message string
	}{
		{"deny", call.Ruling{Action: call.ActionDeny, Rule: "no", Reason: call.ReasonRule, Message: "no!"}, call.ReasonShadow, "deny: no", "let through in shadow; deny otherwise: no!"},
		{"no rule", call.Ruling{Action: call.ActionDeny, Reason: call.ReasonNoRule, Message: "none"}, call.ReasonShadow, "deny: no_rule", "let through in shadow; deny otherwise: none"},
		{"a fault", call.Ruling{Action: call.ActionDeny, Rule: "r", Reason: call.ReasonPolicyError, Message: "x"}, call.ReasonShadow, "deny: r", "let through in shadow; deny otherwise: x"},
		{"hold", call.Ruling{Action: call.ActionHold, Rule: "ask", Reason: call.ReasonRule, Message: "wait"}, call.ReasonShadow, "hold: ask", "let through in shadow; hold otherwise: wait"},
		{"allow", call.Ruling{Action: call.ActionAllow, Rule: "yes", Reason: call.ReasonRule}, call.ReasonRule, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			r.conns["crm"].Shadow = true
			r.decide = func(context.Context, *call.Call) call.Ruling { return c.ruling }
			d := r.check(t, request()).event.Decision
			if d.Outcome != call.Allow || d.Reason != c.reason || d.Message != c.message || d.Rule != c.ruling.Rule {
				t.Errorf("%+v", d)
			}
			if c.shadow != "" && (len(d.Shadow) != 1 || d.Shadow[0] != c.shadow) {
				t.Errorf("shadow %q, want %q", d.Shadow, c.shadow)
			}
		})
	}
	r := newRig(t)
	r.conns["crm"].Shadow = true
	r.identify = func(context.Context, call.Headers) (call.Identity, error) {
		return call.Identity{}, &identity.Error{Reason: call.ReasonExpiredToken, Message: "expired"}
	}
	r.check(t, request()).denied(t, 401, call.ReasonExpiredToken)
	r = newRig(t)
	r.conns["crm"].Shadow = true
	r.check(t, request(func(req *authv3.CheckRequest) { req.Attributes.Request.Http.Path = "/crm/nothing" })).denied(t, 404, call.ReasonUnknownFunction)
	r = newRig(t)
	r.conns["crm"].Shadow = true
	r.decide = func(context.Context, *call.Call) call.Ruling {
		return call.Ruling{Action: call.ActionDeny, Reason: call.ReasonInsufficientScope, Message: "narrowed"}
	}
	r.check(t, request()).denied(t, 403, call.ReasonInsufficientScope)
}
