package extauthz

import (
	"context"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/extauthz/identity"
)

// A call that people let through goes on only under a policy that still decides.
func TestPolicyChangesWhileCallIsHeld(t *testing.T) {
	v1, v2 := version(t, "v1", "a"), version(t, "v2", "a")
	v1.Policy = policy(func(context.Context, *call.Call) call.Ruling {
		return call.Ruling{Action: call.ActionHold, Rule: "asks"}
	})
	for _, c := range []struct {
		name          string
		before, after Versions
		passes        bool
	}{
		{"none is pushed", Versions{Stable: v1}, Versions{Stable: v1}, true},
		{"another, and this one stays for calls on their way", Versions{Stable: v1}, Versions{Stable: v2, Others: []Active{v1}}, false},
		{"another, and this one is gone", Versions{Stable: v1}, Versions{Stable: v2}, false},
		{"another is tried", Versions{Stable: v1}, Versions{Stable: v1, Canary: &v2, Percent: 100}, true},
		{"this one was tried, and decides", Versions{Stable: v2, Canary: &v1, Percent: 100}, Versions{Stable: v1}, true},
		{"this one was tried, and is given up", Versions{Stable: v2, Canary: &v1, Percent: 100}, Versions{Stable: v2, Others: []Active{v1}}, false},
		{"another one is tried", Versions{Stable: v2, Canary: &v1, Percent: 100}, Versions{Stable: v2, Canary: &v2, Percent: 100}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			r.Activate(c.before)
			r.hold = func(context.Context, *call.Call, call.Ruling) call.Decision {
				r.Activate(c.after)
				return call.Decision{Outcome: call.HoldAllow, Rule: "asks", Reason: call.ReasonApproved, Approval: &call.Approval{ID: "apr_1"}}
			}
			a := r.check(t, request(func(req *authv3.CheckRequest) {
				req.Attributes.ContextExtensions["policy_version"] = c.before.Stable.Version
			}))
			if !c.passes {
				a.denied(t, 503, call.ReasonPolicyUnavailable)
			} else if a.GetOkResponse() == nil {
				t.Errorf("denied: %v", a.CheckResponse)
			}
			if d := a.event.Decision; d.PolicyVersion != "v1" || d.Rule != "asks" || d.Approval == nil {
				t.Errorf("recorded as %+v", d)
			}
		})
	}
}

// Nor does it go on for a caller that is none any more.
func TestCallerEndsWhileCallIsHeld(t *testing.T) {
	r := newRig(t)
	r.decide = func(context.Context, *call.Call) call.Ruling {
		return call.Ruling{Action: call.ActionHold, Rule: "asks"}
	}
	held := false
	r.hold = func(context.Context, *call.Call, call.Ruling) call.Decision {
		held = true
		return call.Decision{Outcome: call.HoldAllow, Rule: "asks", Reason: call.ReasonApproved, Approval: &call.Approval{ID: "apr_1"}}
	}
	for _, reason := range []call.Reason{call.ReasonRevokedToken, call.ReasonExpiredToken} {
		r.still = func(id call.Identity) error {
			if !held || id.Subject != "ann" {
				t.Errorf("asked about %q before the hold", id.Subject)
			}
			return &identity.Error{Reason: reason, Message: "over"}
		}
		a := r.check(t, request())
		a.denied(t, 401, reason)
		if d := a.event.Decision; d.Outcome != call.HoldDeny || d.Approval == nil {
			t.Errorf("recorded as %+v", d)
		}
	}
}
