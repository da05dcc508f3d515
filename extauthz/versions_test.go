package extauthz

import (
	"context"
	"fmt"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/call/protocol"
	"github.com/callgate/callgate/extauthz/connection"
)

// version is a policy whose one rule is called like it, over a crm connection of
// the given definition.
func version(t *testing.T, name, definition string) Active {
	t.Helper()
	c := newConn(t, protocol.Config{Protocol: call.HTTP, BasePath: "/crm", Functions: []protocol.Function{{Name: "refunds.create", Method: "POST", Path: "/refunds"}}}, "crm", "/crm")
	c.Version = definition
	set, err := connection.NewSet([]*connection.Connection{c})
	if err != nil {
		t.Fatal(err)
	}
	return Active{Version: name, Connections: set, Policy: policy(func(context.Context, *call.Call) call.Ruling {
		return call.Ruling{Action: call.ActionAllow, Rule: name}
	})}
}

// A call is judged by the version that its Envoy runs, or not at all where what
// that Envoy routes by is not what this server knows.
func TestVersionOfTheEnvoyDecides(t *testing.T) {
	for _, c := range []struct {
		name             string
		policy, routedBy string // what Envoy says: its policy, and the definition of crm in it
		want             string // the rule that decides, or "" for a denial
	}{
		{"the stable one", "v2", "b", "v2"},
		{"the one before, still served", "v1", "a", "v1"},
		{"one that is gone, and routes alike", "v0", "b", "v2"},
		{"one that is gone, and routes otherwise", "v0", "a", ""},
		{"one that is not here yet, and routes alike", "v3", "b", "v2"},
		{"one that is not here yet, and routes otherwise", "v3", "c", ""},
		{"a served one that claims another definition", "v2", "a", ""},
		{"an Envoy of a mesh, which names none", "", "", "v2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			r.Activate(Versions{Stable: version(t, "v2", "b"), Others: []Active{version(t, "v1", "a")}})
			a := r.check(t, request(func(req *authv3.CheckRequest) {
				if c.policy != "" {
					req.Attributes.ContextExtensions["policy_version"] = c.policy
					req.Attributes.ContextExtensions["connection_version"] = c.routedBy
				}
			}))
			if c.want == "" {
				a.denied(t, 503, call.ReasonPolicyUnavailable)
				return
			}
			if d := a.event.Decision; d.Rule != c.want || d.PolicyVersion != c.want {
				t.Errorf("decided by %+v, want %s", d, c.want)
			}
		})
	}
}

// The canary decides for its share of callers, for the same ones each time, and
// for nobody whose Envoy routes otherwise.
func TestCanary(t *testing.T) {
	canary := version(t, "v3", "b")
	count := func(percent int, definition string, others ...Active) map[string]int {
		r := newRig(t)
		c := canary
		if definition != "b" {
			c = version(t, "v3", definition)
		}
		r.Activate(Versions{Stable: version(t, "v2", "b"), Canary: &c, Percent: percent, Others: others})
		seen := map[string]int{}
		for i := range 300 {
			r.identify = func(context.Context, call.Headers) (call.Identity, error) {
				return call.Identity{Issuer: "https://idp", Subject: fmt.Sprint("user-", i/3)}, nil // each comes three times
			}
			d := r.check(t, request(func(req *authv3.CheckRequest) {
				req.Attributes.ContextExtensions["policy_version"], req.Attributes.ContextExtensions["connection_version"] = "v2", "b"
			})).event.Decision
			if d.Rule != d.PolicyVersion {
				t.Fatalf("half of one version, half of another: %+v", d)
			}
			seen[d.Rule]++
		}
		for v, n := range seen {
			if n%3 != 0 {
				t.Errorf("some caller was judged by %s and by another version", v)
			}
		}
		return seen
	}
	if got := count(0, "b"); got["v3"] != 0 {
		t.Errorf("0 percent: %v", got)
	}
	if got := count(100, "b"); got["v2"] != 0 {
		t.Errorf("100 percent: %v", got)
	}
	if got := count(30, "b"); got["v3"] < 45 || got["v3"] > 150 {
		t.Errorf("30 percent: %v", got)
	}
	if got := count(100, "other"); got["v3"] != 0 {
		t.Errorf("a canary that routes otherwise decided: %v", got)
	}
}
