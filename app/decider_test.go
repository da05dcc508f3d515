package app

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/call/redact"
	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/extauthz"
	"github.com/callgate/callgate/xds"
	"github.com/callgate/callgate/xds/policyv1"
)

// wirePolicy is a policy as it comes from a control plane.
func wirePolicy(t *testing.T, text string) *policyv1.Policy {
	t.Helper()
	file := filepath.Join(t.TempDir(), "p.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	b, p, err := config.ReadBundle(file)
	if err != nil {
		t.Fatal(err)
	}
	return xds.Wire(p.Version, b)
}

func newTestDecider(t *testing.T, cfg *config.Config) *decider {
	t.Helper()
	r, err := redact.New([]byte(strings.Repeat("k", redact.MinKey)))
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	a := &App{cfg: cfg, log: log, messages: &messages{}, detectors: &detectors{}, people: &people{}, carried: carriedBy(t, "k"),
		authz: extauthz.New(extauthz.Config{Redact: r, Log: log, Metrics: extauthz.NewMetrics(prometheus.NewRegistry())})}
	return newDecider(t.Context(), a, t.TempDir())
}

func carriedBy(t *testing.T, key string) *carried {
	t.Helper()
	c, err := newCarried([]byte(strings.Repeat(key, 32)))
	must(t, err)
	return c
}

const decidable = `
connections:
  - {name: crm, protocol: http, upstream: {url: "https://crm.internal"}, functions: [{name: get, method: GET, path: /}], credential: {env: CRM_KEY}}
rules:
  - {name: yes, action: %s}
`

// A narrowed token sees what it may call, as the decision's metadata tells of it.
func TestNarrowedTokensSeeLess(t *testing.T) {
	t.Setenv("CRM_KEY", "k")
	d := newTestDecider(t, &config.Config{StateDir: t.TempDir()})
	allow := wirePolicy(t, strings.Replace(decidable, "%s", "allow", 1))
	if err := errors.Join(d.Policies(t.Context(), []*policyv1.Policy{allow}, nil), d.Rollout(t.Context(), &policyv1.Rollout{Stable: allow.GetVersion()})); err != nil {
		t.Fatal(err)
	}
	out, err := d.Visible(call.Metadata{Connection: "crm", Protocol: call.HTTP, Caller: &call.Identity{Subject: "ann", Scope: call.Scope{"crm:g*"}}}, []string{"get", "put"})
	if err != nil || !out[0] || out[1] {
		t.Errorf("%v, %v", out, err)
	}
}

// What can't be kept over a restart is not in force, since it is refused.
func TestNothingUnkeptDecides(t *testing.T) {
	t.Setenv("CRM_KEY", "k")
	dir := t.TempDir()
	d := newTestDecider(t, &config.Config{StateDir: filepath.Join(dir, "state")})
	allow, deny := wirePolicy(t, strings.Replace(decidable, "%s", "allow", 1)), wirePolicy(t, strings.Replace(decidable, "%s", "deny", 1))
	visible := func() bool {
		out, err := d.Visible(call.Metadata{Connection: "crm", Protocol: call.HTTP, Caller: &call.Identity{Subject: "ann"}}, []string{"get"})
		if err != nil {
			t.Fatal(err)
		}
		return out[0]
	}
	for _, step := range []error{
		d.Policies(t.Context(), []*policyv1.Policy{allow, deny}, nil),
		d.Rollout(t.Context(), &policyv1.Rollout{Stable: deny.GetVersion()}),
	} {
		if step != nil {
			t.Fatal(step)
		}
	}
	d.keep = filepath.Join(dir, "gone", "last-policy.pb")
	if err := d.Rollout(t.Context(), &policyv1.Rollout{Stable: allow.GetVersion()}); err == nil || visible() || d.stable() != deny.GetVersion() {
		t.Errorf("a rollout that was refused (%v) decides: %v, stable %s", err, visible(), d.stable())
	}
	if err := d.Policies(t.Context(), nil, []string{allow.GetVersion()}); err == nil || !d.holds(allow.GetVersion()) {
		t.Errorf("a policy is gone though its going was refused: %v", err)
	}
	g := &policyv1.Grant{Id: "g", Identities: []string{"ann"}, Connections: []string{"crm"}, Functions: []string{"get"}}
	if err := d.Grants(t.Context(), []*policyv1.Grant{g}, nil); err == nil || len(d.grants) != 0 {
		t.Errorf("a grant that was refused is there: %v", err)
	}
	d.keep = ""
	if err := d.Rollout(t.Context(), &policyv1.Rollout{Stable: allow.GetVersion()}); err != nil || !visible() {
		t.Errorf("later it is not taken: %v", err)
	}
}

// A policy from elsewhere can't have this process's own secrets sent to a
// service of its choosing.
func TestOwnSecretsStay(t *testing.T) {
	cfg := &config.Config{StateDir: t.TempDir()}
	cfg.Audit.ClickHouse.Password = config.Secret{Env: "CRM_KEY"}
	d := newTestDecider(t, cfg)
	err := d.Policies(t.Context(), []*policyv1.Policy{wirePolicy(t, strings.Replace(decidable, "%s", "allow", 1))}, nil)
	if err == nil || !strings.Contains(err.Error(), `connection "crm": credential: environment variable CRM_KEY is a secret of the gateway's own`) {
		t.Errorf("got %v", err)
	}
}
