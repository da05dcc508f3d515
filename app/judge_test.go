package app

import (
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
		{"trial", "tool get_keys", &ann, int64(7), call.ActionAllow, "shadow"},
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
