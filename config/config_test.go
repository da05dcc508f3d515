package config

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

const good = `
node: laptop
policies_dir: policies
listen:
  grpc: 127.0.0.1:9999
identity:
  issuers:
    - url: https://idp.example.com
      audiences: [callgate]
connections:
  - name: crm
    protocol: http
    match: {path: /crm}
    upstream: {url: https://crm.internal:8443}
    functions:
      - {name: customers.get, method: GET, path: "/customers/{id}"}
    credential: {env: CRM_KEY}
    max_body: 64KiB
rules:
  - name: readers
    connections: [crm]
    action: allow
`

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	file := write(t, dir, "callgate.yaml", good)
	write(t, dir, "policies/refunds.yaml", `
rules:
  - name: large refunds
    functions: ["refunds.*"]
    when: |
      call.args.amount > 100
    action: hold
    hold: {approvers: {groups: [finance]}, timeout: 90s}
`)
	t.Setenv("CALLGATE_LISTEN_XDS", "127.0.0.1:18888")
	t.Setenv("CALLGATE_AUDIT_SPOOL_MAX_BYTES", "2GiB")
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	flags.String("listen-grpc", "", "")
	if err := flags.Parse([]string{"--listen-grpc=127.0.0.1:7777"}); err != nil {
		t.Fatal(err)
	}
	c, err := Load(file, flags)
	if err != nil {
		t.Fatal(err)
	}
	for what, got := range map[string][2]any{
		"flag over file":    {c.Listen.GRPC, "127.0.0.1:7777"},
		"services follow":   {c.Envoy.Services, "127.0.0.1:7777"},
		"env over default":  {c.Listen.XDS, "127.0.0.1:18888"},
		"env size":          {c.Audit.Spool.MaxBytes, Bytes(2 << 30)},
		"default":           {c.Envoy.DecideTimeout, 2 * time.Second},
		"absolute state":    {c.StateDir, filepath.Join(dir, ".callgate")},
		"spool below state": {c.Audit.Spool.Dir, filepath.Join(dir, ".callgate", "spool")},
		"credential header": {c.Policy.Connections[0].Credential.Header, "authorization"},
		"credential prefix": {c.Policy.Connections[0].Credential.Prefix, "Bearer "},
		"max_body":          {c.Policy.Connections[0].MaxBody, Bytes(64 << 10)},
		"rules":             {len(c.Policy.Rules), 2},
		"hold timeout":      {c.Policy.Rules[1].Hold.Timeout, 90 * time.Second},
		"expression":        {c.Policy.Rules[1].WhenPosition, Position{filepath.Join(dir, "policies/refunds.yaml"), 6, 7}},
		"issuer defaults":   {c.Identity.Issuers[0].Claims, Claims{Subject: "sub", Groups: "groups", Kind: "kind"}},
	} {
		if !reflect.DeepEqual(got[0], got[1]) {
			t.Errorf("%s: got %v, want %v", what, got[0], got[1])
		}
	}
}

// A wrong line must say where it is, what is wrong with it and what to do.
func TestErrors(t *testing.T) {
	tests := []struct{ name, from, to, want string }{
		{"unknown key", "listen:\n", "lisen:\n", `callgate.yaml:4:1: unknown key "lisen"; did you mean "listen"?`},
		{"unknown nested key", "max_body:", "max_bdy:", `callgate.yaml:18:5: unknown key "max_bdy" in connections[0]; did you mean "max_body"?`},
		{"twice", "node: laptop\n", "node: laptop\nnode: desk\n", `callgate.yaml:3:1: key "node" stands twice, first on line 2; keep one`},
		{"type", "max_body: 64KiB", "max_body: lots", `callgate.yaml:18:15: connections[0].max_body must be a size such as 64KiB, 1MiB or a number of bytes, not "lots"`},
		{"list", "connections: [crm]", "connections: crm", `callgate.yaml:21:18: rules[0].connections must be a list, not "crm"`},
		{"yaml", "node: laptop", "node: [", `callgate.yaml:1:1: not valid YAML: line 1: did not find expected`},
		{"a session by a credential", "protocol: http", "protocol: http\n    session_header: cookie", `connection "crm": session_header "cookie" must be a lower-case header name, of a header that holds no credential`},
		{"a session by what is no header", "protocol: http", "protocol: http\n    session_header: X-Run", `session_header "X-Run" must be`},
		{"protocol", "protocol: http", "protocol: htp", `callgate.yaml:12:15: connection "crm": protocol "htp" is not known; choose http, mcp, jsonrpc, grpc, graphql, sql, openai; did you mean "http"?`},
		{"action", "action: allow", "action: alow", `callgate.yaml:22:13: rule "readers": action "alow" is not known; choose allow, deny, hold, mask; did you mean "allow"?`},
		{"audience", "      audiences: [callgate]\n", "", `identity.issuers[0]: audiences is missing; without it a token meant for another service would be accepted`},
		{"http issuer", "https://idp.example.com", "http://idp.example.com", `would fetch signing keys unprotected; use https`},
		{"address", "127.0.0.1:9999", "9999", `callgate.yaml:5:9: listen.grpc: "9999" is not host:port`},
		{"upstream", "https://crm.internal:8443", "https://u:p@crm.internal", `callgate.yaml:14:21: connection "crm": upstream.url holds a user or password; set credential instead`},
		{"secret twice", "{env: CRM_KEY}", "{env: CRM_KEY, file: k}", `connection "crm": credential: set env or file, not both`},
		{"template", "/customers/{id}", "/customers/x{id}", `"x{id}" must be one whole segment in braces`},
		{"recorded credential", "max_body: 64KiB", "record: {headers: [authorization]}", `"authorization" carries the service's credential and is never recorded`},
		{"mask", "action: allow", "action: mask", `callgate.yaml:20:5: rule "readers": mask hides nothing; set paths, keys or detect`},
		{"hold reason", "action: allow", "action: hold\n    hold: {reason: requird}", `callgate.yaml:23:20: rule "readers": hold.reason "requird" is not known; choose required or optional; did you mean "required"?`},
		{"hold need", "action: allow", "action: hold\n    hold: {approvers: {people: [ann]}, need: 2}", `callgate.yaml:23:46: rule "readers": hold.need is 2 and only 1 people are named, so nobody could ever approve; name more, or a group`},
		{"hold need twice", "action: allow", "action: hold\n    hold: {stages: [{groups: [a]}], need: 2}", `callgate.yaml:23:43: rule "readers": hold.need goes with hold.approvers; each of hold.stages has a need of its own`},
		{"hold both", "action: allow", "action: hold\n    hold: {stages: [{groups: [a]}], approvers: {groups: [b]}}", `callgate.yaml:23:20: rule "readers": set hold.approvers or hold.stages, not both`},
		{"hold empty stage", "action: allow", "action: hold\n    hold: {stages: [{groups: [a]}, {need: 1}]}", `callgate.yaml:23:36: rule "readers": hold.stages[1] names nobody; set its groups or people`},
		{"hold same person twice", "action: allow", "action: hold\n    hold: {stages: [{people: [ann]}, {people: [ann]}]}", `hold.stages need 2 approvals and name only 1 people, each of whom counts once`},
		{"hold many", "action: allow", "action: hold\n    hold: {approvers: {groups: [a]}, need: 21}", `hold.need 21 is outside 1 to 20`},
		{"hold grant", "action: allow", "action: hold\n    hold: {max_grant: 1000h}", `hold.max_grant 1000h0m0s is outside 0s to 30d`},
		{"hold glass", "action: allow", "action: hold\n    hold: {break_glass: {groups: ['']}}", `hold.break_glass names somebody who is empty`},
		{"hold without", "action: allow", "action: allow\n    hold: {need: 2}", `rule "readers": hold is for action hold only`},
		{"batch", "max_body: 64KiB", "batch: {accept: true}", `callgate.yaml:18:12: connection "crm": batch is for jsonrpc and mcp only`},
		{"batch of none", "protocol: http\n", "protocol: mcp\n    batch: {max: 5}\n", `batch.max says how long batches may be, and none are taken; add accept: true`},
		{"batch too long", "protocol: http\n", "protocol: mcp\n    batch: {accept: true, max: 5000}\n", `batch.max 5000 is over 1000`},
		{"hold", "action: allow", "action: hold\n    hold: {timeout: 2h}", `callgate.yaml:23:21: rule "readers": hold.timeout 2h0m0s is outside 0s to 1h0m0s`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			text := strings.Replace(good, tt.from, tt.to, 1)
			if text == good {
				t.Fatal("the test changes nothing")
			}
			dir := t.TempDir()
			write(t, dir, "policies/none.yaml", "")
			_, err := Load(write(t, dir, "callgate.yaml", text), nil)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
}

func TestAllErrorsAtOnce(t *testing.T) {
	text := strings.NewReplacer("protocol: http", "protocol: htp", "action: allow", "action: alow").Replace(good)
	dir := t.TempDir()
	write(t, dir, "policies/none.yaml", "")
	_, err := Load(write(t, dir, "callgate.yaml", text), nil)
	if err == nil || strings.Count(err.Error(), "did you mean") != 2 {
		t.Errorf("got %v, want both errors", err)
	}
}

func TestMissingFile(t *testing.T) {
	_, err := Load(filepath.Join(t.TempDir(), "none.yaml"), nil)
	if err == nil || !strings.Contains(err.Error(), "name the file with -c") {
		t.Errorf("got %v", err)
	}
}

// The version names what the policy says, not how its files are laid out.
func TestVersion(t *testing.T) {
	one, err := CheckPolicy(write(t, t.TempDir(), "a.yaml", "rules:\n  - {name: a, action: allow}\n  - {name: b, action: deny}\n"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	two, err := CheckPolicy(write(t, dir, "1.yaml", "# a\nrules:\n\n  - {name: a, action: allow}\n"), write(t, dir, "2.yaml", "rules: [{name: b, action: deny}]\n"))
	if err != nil {
		t.Fatal(err)
	}
	if one.Version != two.Version {
		t.Error("the same rules in other files have another version")
	}
	swapped, err := CheckPolicy(write(t, dir, "3.yaml", "rules: [{name: b, action: deny}, {name: a, action: allow}]\n"))
	if err != nil {
		t.Fatal(err)
	}
	if swapped.Version == one.Version {
		t.Error("rules in another order have the same version")
	}
}

func TestBytes(t *testing.T) {
	for in, want := range map[string]Bytes{"0": 0, "7": 7, "1KiB": 1024, "1 kb": 1000, "2GiB": 2 << 30, "5B": 5} {
		if got, err := ParseBytes(in); err != nil || got != want {
			t.Errorf("%q: got %d, %v, want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"", "-1", "1.5MiB", "MiB", "9223372036854775807KiB"} {
		if got, err := ParseBytes(in); err == nil {
			t.Errorf("%q: got %d, want an error", in, got)
		}
	}
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte("a: &a [*a]\nconnections: *a"))
	f.Add([]byte("connections: [{name: a, protocol: grpc, upstream: {timeout: ~}}]"))
	f.Add([]byte("rules: [{when: |\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		file := filepath.Join(dir, "callgate.yaml")
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := Load(file, nil)
		if err == nil && c.Policy.Version == "" {
			t.Error("loaded without a version")
		}
	})
}

// The documented example must be one that works.
func TestExample(t *testing.T) {
	c, err := Load("../docs/callgate.example.yaml", nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Policy.Connections) != 6 || len(c.Policy.Rules) != 7 {
		t.Errorf("got %d connections and %d rules", len(c.Policy.Connections), len(c.Policy.Rules))
	}
}

// A cluster of ClickHouse servers is several hosts and a few names.
func TestClickHouseHosts(t *testing.T) {
	for text, want := range map[string]string{
		`{url: "clickhouses://a:9440,b:9440,c", cluster: trail, insert_quorum: 2}`: "",
		`{url: "http://a:8123,b:x"}`:                               "several hosts",
		`{url: "http://a:8123,u:secret@b"}`:                        "holds a user",
		`{url: "http://a,"}`:                                       "several hosts",
		`{insert_quorum: 2}`:                                       "set cluster",
		`{cluster: "a'"}`:                                          "audit.clickhouse.cluster",
		`{cluster: a, insert_quorum: all}`:                         "audit.clickhouse.insert_quorum",
		`{cluster: a, insert_quorum: 0}`:                           "audit.clickhouse.insert_quorum",
		`{cluster: a, replica_path: "/clickhouse/tables/{shard}"}`: "{table}",
		`{cluster: a, replica_name: "a b"}`:                        "audit.clickhouse.replica_name",
	} {
		file := filepath.Join(t.TempDir(), "callgate.yaml")
		if err := os.WriteFile(file, []byte("audit: {clickhouse: "+text+"}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Load(file, nil)
		if (want == "") != (err == nil) || err != nil && (!strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret@")) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func TestHoldWaitAndPostgres(t *testing.T) {
	const rule = "connections:\n  - {name: crm, protocol: http, upstream: {url: http://crm:1/}, functions: [{name: f, method: GET, path: /f}]}\nrules:\n  - {name: r, action: hold, hold: {approvers: {groups: [g]}, %s}}\n"
	const store = "approvals: {postgres: {%s}}\n"
	for text, want := range map[string]string{
		strings.Replace(rule, "%s", "wait: open, timeout: 1h", 1):                                                                    "",
		strings.Replace(rule, "%s", "wait: retry, timeout: 48h, valid: 1h", 1):                                                       "",
		strings.Replace(rule, "%s", "wait: 20s, timeout: 48h", 1):                                                                    "",
		strings.Replace(rule, "%s", "timeout: 48h", 1):                                                                               "Envoy keeps the call open that long",
		strings.Replace(rule, "%s", "wait: retry, timeout: 1000h", 1):                                                                "is outside 0s to 168h",
		strings.Replace(rule, "%s", "wait: soon", 1):                                                                                 `"soon" is none of open, retry and a duration`,
		strings.Replace(rule, "%s", "wait: -2s", 1):                                                                                  "none of open, retry",
		strings.Replace(rule, "%s", "wait: 3m, timeout: 2m", 1):                                                                      "longer than hold.timeout",
		strings.Replace(rule, "%s", "wait: 2h, timeout: 48h", 1):                                                                     "longer than hold.timeout, or than 1h",
		strings.Replace(rule, "%s", "wait: retry, valid: 1s", 1):                                                                     "hold.valid 1s is outside",
		strings.Replace(rule, "%s", "valid: 5m", 1):                                                                                  "hold.valid is for callers that come again",
		strings.Replace(store, "%s", "url: \"postgres://gate@db1:5432,db2:5432/callgate\", password: {env: PW}, ca_file: ca.pem", 1): "",
		strings.Replace(store, "%s", "url: \"postgres://gate@localhost/callgate\", tls: off", 1):                                     "",
		strings.Replace(store, "%s", "url: \"postgres://gate:geheim@db/callgate\"", 1):                                               "holds a password",
		strings.Replace(store, "%s", "url: \"postgres://gate@db/callgate?sslmode=disable\"", 1):                                      "has parameters",
		strings.Replace(store, "%s", "url: \"postgres://db/callgate\"", 1):                                                           "want postgres://user@host:port/database",
		strings.Replace(store, "%s", "url: \"mysql://gate@db/callgate\"", 1):                                                         "want postgres://",
		strings.Replace(store, "%s", "url: \"postgres://gate@db/callgate\", tls: maybe", 1):                                          "choose verify or off",
		strings.Replace(store, "%s", "url: \"postgres://gate@db/callgate\", tls: off, ca_file: ca.pem", 1):                           "would do nothing",
		strings.Replace(store, "%s", "url: \"postgres://gate@db/callgate\", cert_file: a.pem", 1):                                    "belong together",
		strings.Replace(store, "%s", "url: \"postgres://gate@db/callgate\", max_connections: 5000", 1):                               "outside 1 to 1000",
		strings.Replace(store, "%s", "ca_file: ca.pem", 1):                                                                           "url is missing",
	} {
		file := filepath.Join(t.TempDir(), "callgate.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Load(file, nil)
		switch {
		case want == "" && err != nil && (strings.Contains(err.Error(), "hold") || strings.Contains(err.Error(), "postgres")):
			t.Errorf("%s%v", text, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "geheim")):
			t.Errorf("%s%v\nwant %q", text, err, want)
		}
	}
}
