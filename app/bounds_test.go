package app

import (
	"testing"
	"time"

	"github.com/callgate/callgate/approvals"
	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/policies"
)

// Where several give a grant all of their bounds hold, however each is written.
func TestBoundsOfSeveral(t *testing.T) {
	for _, c := range []struct {
		name   string
		bounds []string
	}{
		{"a comment", []string{"call.args.amount <= 100 // small", "call.args.vip == true\n|| call.args.amount > 0"}},
		{"a comment over a bracket", []string{"call.args.amount > 0 || (true // x\n)", "call.args.amount <= 100"}},
		{"of the last", []string{"call.args.amount > 0", "call.args.amount <= 100 // ) || (true"}},
		{"of three", []string{"true // a", "call.args.amount <= 100 // b", "true || false // c"}},
		{"an or", []string{"call.args.amount <= 100", "true || true"}},
	} {
		h := approvals.Hold{Status: approvals.Status{State: approvals.Approved}}
		for _, b := range c.bounds {
			if err := policies.CheckGrants([]policies.Grant{boundedBy(b)}); err != nil {
				t.Errorf("%s: refused by itself: %v", c.name, err)
			}
			h.Verdicts = append(h.Verdicts, approvals.Verdict{Approve: true, Grant: approvals.Grant{For: time.Hour, Bounds: b}})
		}
		given, _ := h.Grants()
		if len(given) != 1 {
			t.Fatalf("%s: %+v", c.name, given)
		}
		s, err := policies.Compile(nil, policies.Config{Version: "v1", Connections: []policies.Connection{{Name: "crm"}}})
		if err != nil {
			t.Fatal(err)
		}
		if s, err = s.WithGrants([]policies.Grant{boundedBy(given[0].Bounds)}); err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		for amount, want := range map[int64]call.Action{100: call.ActionAllow, 101: call.ActionDeny} {
			got := s.Decide(t.Context(), &call.Call{Identity: call.Identity{Subject: "ann"}, Connection: "crm", Function: "refunds.create",
				Args: map[string]any{"amount": amount, "vip": false}})
			if got.Action != want {
				t.Errorf("%s: %d: %+v", c.name, amount, got)
			}
		}
	}
	// What closes brackets that it did not open is refused before it is joined.
	for _, b := range []string{"true) || (true", "true // a\n) || (true", "true) //"} {
		if policies.CheckGrants([]policies.Grant{boundedBy(b)}) == nil {
			t.Errorf("%q is taken", b)
		}
	}
}

func boundedBy(when string) policies.Grant {
	return policies.Grant{Name: "g", Identities: []string{"ann"}, Connections: []string{"crm"}, Functions: []string{"*"}, When: when}
}
