package policies

import (
	"testing"
	"time"

	"github.com/callgate/callgate/call"
)

// A narrowed token is of no use for anything else, whatever the rules say.
func TestNarrowedTokens(t *testing.T) {
	s := compile(t, Rule{Name: "all", Action: Allow}, Rule{Name: "asks", Action: Hold, When: `call.args.amount > 100`, Hold: call.Hold{Timeout: time.Minute, Stages: []call.Stage{{Approvers: call.Approvers{Groups: []string{"finance"}}}}}}, Rule{Name: "shadow", Action: Deny, Shadow: true})
	replay, err := Compile([]Rule{{Name: "all", Action: Allow}}, Config{Version: "v1", Connections: known, Replay: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		scope  string // "": not narrowed
		amount int64
		want   call.Action
		reason call.Reason
	}{
		{"", 1, call.ActionAllow, call.ReasonRule},
		{"crm", 1, call.ActionAllow, call.ReasonRule},
		{"crm:refunds.*", 1, call.ActionAllow, call.ReasonRule},
		{"crm:refunds.create", 500, call.ActionHold, call.ReasonRule},
		{"crm:refunds.list", 1, call.ActionDeny, call.ReasonInsufficientScope},
		{"crm:refunds.list", 500, call.ActionDeny, call.ReasonInsufficientScope},
		{"erp tools", 1, call.ActionDeny, call.ReasonInsufficientScope},
	} {
		one := refund(map[string]any{"amount": c.amount})
		if c.scope != "" {
			if one.Identity.Scope, err = call.ParseScope(c.scope); err != nil {
				t.Fatal(err)
			}
		}
		if r := s.Decide(t.Context(), one); r.Action != c.want || r.Reason != c.reason {
			t.Errorf("%q: %+v", c.scope, r)
		}
		// What is listed without arguments is judged alike.
		a, err := replay.Assess(t.Context(), one, []Part{{Field: "call.args"}})
		if err != nil || c.reason == call.ReasonInsufficientScope && (!a.Known || a.Ruling.Reason != c.reason) {
			t.Errorf("%q, listed: %+v, %v", c.scope, a, err)
		}
	}
}
