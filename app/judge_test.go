package app

import (
	"bytes"
	"encoding/base64"
	"path/filepath"
	"strings"
	"testing"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/xds/policyv1"
)

const modelPolicy = `
connections:
  - {name: model, protocol: openai, upstream: {url: "https://llm.internal"}}
  - {name: trial, protocol: openai, mode: shadow, match: {path: /trial}, upstream: {url: "https://llm.internal"}}
rules:
  - {name: reads, functions: ["tool get_*"], when: '"support" in identity.groups && call.args.n < 10', action: allow}
  - {name: never, functions: ["tool get_keys"], action: deny}
  - {name: by claim, functions: ["tool get_claimed"], when: 'has(identity.claims.bad)', action: deny}
  - {name: by count, functions: ["tool get_counted"], when: 'session.calls("*", duration("1m")) > 3', action: deny}
  - {name: asked, functions: ["tool get_asked"], action: hold, hold: {approvers: {groups: [security]}}}
`

// A tool call is let through only where that is certain: add a line.
func TestJudge(t *testing.T) {
	d := newTestDecider(t, &config.Config{StateDir: filepath.Join(t.TempDir(), "state")})
	ann := call.Identity{Subject: "ann", Groups: []string{"support"}}
	narrowed := ann
	narrowed.Scope = call.Scope{"model:chat.completions"}
	meta := call.Metadata{Connection: "model", Protocol: call.OpenAI, Function: "chat.completions", Caller: &ann}
	if _, err := d.Judge(t.Context(), meta, "tool get_it", nil); err == nil {
		t.Error("no policy, and it is judged")
	}
	p := wirePolicy(t, modelPolicy)
	if err := d.Policies(t.Context(), []*policyv1.Policy{p}, nil); err != nil {
		t.Fatal(err)
	}
	if err := d.Rollout(t.Context(), &policyv1.Rollout{Stable: p.GetVersion()}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		connection, function string
		who                  *call.Identity
		n                    any
		action               call.Action
		says                 string
	}{
		{"model", "tool get_it", &ann, int64(7), call.ActionAllow, "reads"},
		{"model", "tool get_it", &ann, int64(70), call.ActionDeny, "no_rule"},
		{"model", "tool get_it", &ann, "7", call.ActionDeny, "reads"},
		{"model", "tool get_it", &call.Identity{Subject: "eve"}, int64(7), call.ActionDeny, "no_rule"},
		{"model", "tool put_it", &ann, int64(7), call.ActionDeny, "no_rule"},
		{"model", "tool get_keys", &ann, int64(7), call.ActionDeny, "never"},
		{"model", "tool get_claimed", &ann, int64(7), call.ActionDeny, "depends on identity.claims"},
		{"model", "tool get_counted", &ann, int64(7), call.ActionDeny, "depends on session"},
		{"model", "tool get_asked", &ann, int64(7), call.ActionHold, "asked"},
		{"model", "tool get_it", &narrowed, int64(7), call.ActionDeny, "insufficient_scope"},
		{"gone", "tool get_it", &ann, int64(7), call.ActionDeny, "unknown_connection"},
		{"trial", "tool get_keys", &ann, int64(7), call.ActionAllow, "shadow let through in shadow; deny otherwise"},
		{"trial", "tool get_it", &narrowed, int64(7), call.ActionDeny, "insufficient_scope"},
	} {
		meta.Connection, meta.Caller = c.connection, c.who
		r, err := d.Judge(t.Context(), meta, c.function, map[string]any{"n": c.n})
		if said := strings.Join([]string{r.Rule, string(r.Reason), r.Message}, " "); err != nil || r.Action != c.action || !strings.Contains(said, c.says) {
			t.Errorf("%s, %s: %+v %v", c.connection, c.function, r, err)
		}
	}
	meta.Caller = nil
	if _, err := d.Judge(t.Context(), meta, "tool get_it", nil); err == nil {
		t.Error("nobody called, and it is judged")
	}
}

const claimedPolicy = `
connections:
  - {name: model, protocol: openai, upstream: {url: "https://llm.internal"}}
rules:
  - {name: eu only, functions: ["tool *"], when: 'identity.claims.region != "eu" || identity.claims.level < 3', action: deny}
  - {name: few, functions: ["tool get_counted"], when: 'session.calls("tool get_counted", duration("1m")) > 2', action: deny}
  - {name: in session, functions: ["tool get_here"], when: 'call.session != "s-1" || session.id != "s-1"', action: deny}
  - {name: by header, functions: ["tool get_header"], when: 'call.headers["x-team"] == "a"', action: deny}
  - {name: tools, functions: ["tool *"], action: allow}
`

// What rules look at of a caller travels with its call, and for nobody else: a
// claim, the session and its counts. A line more is a way around it more.
func TestToolCallsOfWhoCalled(t *testing.T) {
	d := newTestDecider(t, &config.Config{StateDir: filepath.Join(t.TempDir(), "state")})
	p := wirePolicy(t, claimedPolicy)
	must(t, d.Policies(t.Context(), []*policyv1.Policy{p}, nil))
	must(t, d.Rollout(t.Context(), &policyv1.Rollout{Stable: p.GetVersion()}))
	asked := func(claims map[string]any) call.Call {
		id, err := call.NewID()
		must(t, err)
		return call.Call{ID: id, Connection: "model", Protocol: call.OpenAI, Function: "chat.completions", Session: "s-1", Identity: call.Identity{Issuer: "https://idp", Subject: "ann", Claims: claims}}
	}
	travels := func(c call.Call, with *carried) call.Metadata {
		sealed, err := with.Carry(&c, p.GetVersion())
		must(t, err)
		who := c.Identity
		who.Claims = nil
		return call.Metadata{CallID: c.ID, Connection: c.Connection, Protocol: c.Protocol, Function: c.Function, Caller: &who, Policy: p.GetVersion(), Carried: sealed}
	}
	eu := map[string]any{"region": "eu", "level": int64(3), "secret": "s3cret", "sid": "sid-1"}
	good := travels(asked(eu), d.carried)
	other := travels(asked(map[string]any{"region": "us", "level": int64(9)}), d.carried)
	with := func(change func(*call.Metadata)) call.Metadata {
		m := good
		change(&m)
		return m
	}
	for name, c := range map[string]struct {
		meta     call.Metadata
		function string
		says     string // "": allowed
	}{
		"who it is":                    {good, "tool get_it", ""},
		"somebody else":                {other, "tool get_it", "eu only"},
		"a claim that is too small":    {travels(asked(map[string]any{"region": "eu", "level": 2.5}), d.carried), "tool get_it", "eu only"},
		"no such claim":                {travels(asked(nil), d.carried), "tool get_it", "eu only"},
		"in its session":               {good, "tool get_here", ""},
		"a header":                     {good, "tool get_header", "depends on call.headers"},
		"nothing carried":              {with(func(m *call.Metadata) { m.Carried = "" }), "tool get_it", "depends on identity.claims"},
		"another call's":               {with(func(m *call.Metadata) { m.Carried = other.Carried }), "tool get_it", "depends on identity.claims"},
		"another call with it":         {with(func(m *call.Metadata) { m.CallID = other.CallID }), "tool get_it", "depends on identity.claims"},
		"a byte is changed":            {with(func(m *call.Metadata) { m.Carried = "A" + m.Carried[1:] }), "tool get_it", "depends on identity.claims"},
		"a replica with another key's": {travels(asked(eu), carriedOf(t, d, "x")), "tool get_it", "depends on identity.claims"},
		"a policy that is gone":        {with(func(m *call.Metadata) { m.Policy = "gone" }), "tool get_it", ""},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := d.Judge(t.Context(), c.meta, c.function, nil)
			said := strings.Join([]string{r.Rule, string(r.Reason), r.Message}, " ")
			if err != nil || (r.Action == call.ActionAllow) != (c.says == "") || !strings.Contains(said, c.says) {
				t.Errorf("%+v, %v", r, err)
			}
		})
	}
	for n, want := range []call.Action{call.ActionAllow, call.ActionAllow, call.ActionDeny} {
		if r, err := d.Judge(t.Context(), good, "tool get_counted", nil); err != nil || r.Action != want {
			t.Errorf("call %d of the session: %+v, %v", n+1, r, err)
		}
	}
	// Of the claims those travel that rules look at, and none can be read.
	if b, ok := d.carried.open(good); !ok || len(b.Claims) != 3 || b.Claims["secret"] != nil {
		t.Errorf("%+v, %v", b, ok)
	}
	if data, err := base64.RawStdEncoding.DecodeString(good.Carried); err != nil || bytes.Contains(data, []byte("region")) {
		t.Errorf("%q, %v", data, err)
	}
}

// carriedOf is what another replica with the same policy carries by.
func carriedOf(t *testing.T, d *decider, key string) *carried {
	t.Helper()
	c := carriedBy(t, key)
	c.wanted.Store(d.carried.wanted.Load())
	return c
}

// A canary's tool calls are judged by the canary, as its requests are.
func TestToolCallsOfACanary(t *testing.T) {
	d := newTestDecider(t, &config.Config{StateDir: filepath.Join(t.TempDir(), "state")})
	stable := wirePolicy(t, modelPolicy)
	canary := wirePolicy(t, strings.Replace(modelPolicy, "action: allow", "action: deny", 1))
	must(t, d.Policies(t.Context(), []*policyv1.Policy{stable, canary}, nil))
	must(t, d.Rollout(t.Context(), &policyv1.Rollout{Stable: stable.GetVersion(), Canary: canary.GetVersion(), Percent: 50}))
	ann := call.Identity{Subject: "ann", Groups: []string{"support"}}
	for version, want := range map[string]call.Action{stable.GetVersion(): call.ActionAllow, canary.GetVersion(): call.ActionDeny} {
		meta := call.Metadata{Connection: "model", Protocol: call.OpenAI, Caller: &ann, Policy: version}
		r, err := d.Judge(t.Context(), meta, "tool get_it", map[string]any{"n": int64(1)})
		if err != nil || r.Action != want || r.PolicyVersion != version {
			t.Errorf("%+v, %v; want %s by %s", r, err, want, version)
		}
		seen, err := d.Visible(meta, []string{"tool get_it"})
		if err != nil || seen[0] != (want == call.ActionAllow) {
			t.Errorf("%v, %v; want %s by %s", seen, err, want, version)
		}
	}
}
