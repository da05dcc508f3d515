package config

import (
	"strings"
	"testing"
)

const notifyBase = `identity:
  issuers: [{url: "https://idp.example.com", audiences: [gate]}]
approvals:
  url: https://gate.example.com/
  notify:
    - NOTIFY
console:
  login: {issuer: "https://idp.example.com", client_id: pages}
`

// What is wrong with a receiver is said with its cause and what to do; a further
// case is a line.
func TestNotify(t *testing.T) {
	t.Setenv("S", "x")
	for text, want := range map[string]string{
		`{name: a, webhook: {url: "https://x.example/hook", secrets: [{env: S}]}}`:                                                                               "",
		`{name: a, webhook: {url: "http://127.0.0.1:1/hook", secrets: [{env: S}, {file: s}]}}`:                                                                   "",
		`{name: a, slack: {url: {env: S}}}`:                                                                                                                      "",
		`{name: a, request: true, slack: {url: {env: S}, signing_secret: {env: S}, people: [{team: T01, user: U01, identity: "https://idp.example.com|ann"}]}}`:  "",
		`{name: a, teams: {url: {env: S}}}`:                                                                                                                      "",
		`{name: a, smtp: {server: "mail.example:587", from: a@x.example, to: [b@x.example]}}`:                                                                    "",
		`{name: a, smtp: {server: "127.0.0.1:25", tls: none, from: "A <a@x.example>", to: [b@x.example]}}`:                                                       "",
		`{webhook: {url: "https://x.example/", secrets: [{env: S}]}}`:                                                                                            "small letters",
		`{name: audit-trail, teams: {url: {env: S}}}`:                                                                                                            "not audit-trail",
		`{name: grants, teams: {url: {env: S}}}`:                                                                                                                 "not audit-trail",
		`{name: a}`:                                                                                                                                              "set one of webhook, slack, teams and smtp",
		`{name: a, teams: {url: {env: S}}, slack: {url: {env: S}}}`:                                                                                              "set one of",
		`{name: a, webhook: {url: "http://x.example/", secrets: [{env: S}]}}`:                                                                                    "use https",
		`{name: a, webhook: {url: "https://u:p@x.example/", secrets: [{env: S}]}}`:                                                                               "holds a user or password",
		`{name: a, webhook: {url: "ftp://x.example/", secrets: [{env: S}]}}`:                                                                                     "not an http(s) URL",
		`{name: a, webhook: {url: "https://x.example/"}}`:                                                                                                        "openssl rand",
		`{name: a, webhook: {url: "https://x.example/", secrets: [{}]}}`:                                                                                         "set env or file",
		`{name: a, webhook: {url: "https://x.example/", secrets: [{env: S}, {env: S}, {env: S}]}}`:                                                               "there are 3",
		`{name: a, rules: ["[x"], teams: {url: {env: S}}}`:                                                                                                       "is not a glob",
		`{name: a, steps: [aksed], teams: {url: {env: S}}}`:                                                                                                      `did you mean "asked"`,
		`{name: a, request: true, slack: {url: {env: S}, people: [{team: T01, user: U01, identity: "https://idp.example.com|ann"}]}}`:                            "set both signing_secret and people",
		`{name: a, slack: {url: {env: S}, signing_secret: {env: S}, people: [{team: T01, user: U01, identity: "https://idp.example.com|ann"}]}}`:                 "set request: true",
		`{name: a, request: true, slack: {url: {env: S}, signing_secret: {env: S}, people: [{team: acme, user: ann, identity: "https://idp.example.com|ann"}]}}`: "Slack's own ids",
		`{name: a, request: true, slack: {url: {env: S}, signing_secret: {env: S}, people: [{team: T01, user: U01, identity: ann}]}}`:                            "issuer|subject",
		`{name: a, request: true, slack: {url: {env: S}, signing_secret: {env: S}, people: [{team: T01, user: U01, identity: "i|a"}, {team: T01, user: U01, identity: "i|b"}]}}`: "stands twice",
		`{name: a, smtp: {server: mail.example, from: a@x.example, to: [b@x.example]}}`:                                                                                          "not host:port",
		`{name: a, smtp: {server: "mail.example:25", tls: none, from: a@x.example, to: [b@x.example]}}`:                                                                          "loopback only",
		`{name: a, smtp: {server: "mail.example:25", tls: maybe, from: a@x.example, to: [b@x.example]}}`:                                                                         "choose starttls, tls, none",
		`{name: a, smtp: {server: "mail.example:25", username: u, from: a@x.example, to: [b@x.example]}}`:                                                                        "both username and password",
		`{name: a, smtp: {server: "mail.example:25", from: "a@x.example\nBcc: c@x.example", to: [b@x.example]}}`:                                                                 "not an e-mail address",
		`{name: a, smtp: {server: "mail.example:25", from: a@x.example, to: []}}`:                                                                                                "to is missing",
		`{name: a, smtp: {server: "mail.example:25", from: a@x.example, to: ["b@x.example\r\nSubject: x"]}}`:                                                                     "not an e-mail address",
		"{name: a, teams: {url: {env: S}}}\n    - {name: a, teams: {url: {env: S}}}":                                                                                             "stands twice",
	} {
		t.Run(text, func(t *testing.T) {
			c, err := Load(write(t, t.TempDir(), "c.yaml", strings.Replace(notifyBase, "NOTIFY", text, 1)), nil)
			switch {
			case want == "" && err != nil:
				t.Error(err)
			case want == "" && c.Approvals.URL != "https://gate.example.com":
				t.Errorf("url %q", c.Approvals.URL)
			case want != "" && (err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "c.yaml:")):
				t.Errorf("got %v, want %q", err, want)
			}
		})
	}
}

func TestConsole(t *testing.T) {
	base := strings.Replace(notifyBase, "NOTIFY", `{name: a, teams: {url: {env: S}}}`, 1)
	for change, want := range map[string]string{
		"url: https://gate.example.com/ -> url: http://gate.example.com":                          "use https",
		"url: https://gate.example.com/ -> url: http://127.0.0.1:8080":                            "",
		"url: https://gate.example.com/ -> url: https://gate.example.com/pages":                   "a host of their own",
		"url: https://gate.example.com/ -> url: https://gate.example.com?x":                       "a host of their own",
		"url: https://gate.example.com/ -> url: gate.example.com":                                 "is not where people reach this",
		"url: https://gate.example.com/ -> file: x":                                               "approvals.url is missing; the issuer sends people back there",
		"client_id: pages -> client_secret: {env: S}":                                             "client_id is missing",
		`issuer: "https://idp.example.com", client -> issuer: "https://idp.example.com/", client`: "none of identity.issuers",
		`issuer: "https://idp.example.com", client -> client`:                                     "issuer is missing",
		"client_id: pages -> client_id: pages, session: 30s":                                      "outside 1m to 24h",
		"client_id: pages -> client_id: pages, client_secret: {env: S, file: x}":                  "",
		"console: -> console:\n  tls: {cert_file: a}":                                             "both cert_file and key_file",
	} {
		t.Run(change, func(t *testing.T) {
			from, to, _ := strings.Cut(change, " -> ")
			_, err := Load(write(t, t.TempDir(), "c.yaml", strings.Replace(base, from, to, 1)), nil)
			if strings.Contains(change, "env: S, file: x") {
				want = "console.login.client_secret"
			}
			if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
				t.Errorf("got %v, want %q", err, want)
			}
		})
	}
}

// Tokens for the console are for nothing else.
func TestConsoleAudiences(t *testing.T) {
	base := strings.Replace(strings.Replace(notifyBase, "NOTIFY", `{name: a, teams: {url: {env: S}}}`, 1), "audiences: [gate]", "audiences: [gate], algorithms: [RS256]", 1)
	for audiences, want := range map[string]string{"[gate-console]": "", "[gate-console, gate]": "could decide with it", "['']": "is empty"} {
		_, err := Load(write(t, t.TempDir(), "c.yaml", base+"  audiences: "+audiences+"\n"), nil)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v", audiences, err)
		}
	}
}
