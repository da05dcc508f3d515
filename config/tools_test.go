package config

import (
	"strings"
	"testing"
)

// What can be wrong with a connection's tools and streams. A line more is a case
// more.
func TestToolsAndStreams(t *testing.T) {
	for settings, want := range map[string]string{
		`protocol: mcp`: "",
		`protocol: mcp, mcp: {tools: {pin: accepted, refresh: 1m}}`:                                          "",
		`protocol: mcp, mcp: {tools: {pin: off}}`:                                                            "",
		`protocol: mcp, mcp: {tools: {changed: hold, hold: {timeout: 1m, approvers: {groups: [security]}}}}`: "",
		`protocol: mcp, mcp: {tools: {pin: frist_use}}`:                                                      `choose first_use, accepted, off`,
		`protocol: mcp, mcp: {tools: {changed: allow}}`:                                                      `choose deny, hold`,
		`protocol: mcp, mcp: {tools: {refresh: 1s}}`:                                                         `outside 10s to 24h`,
		`protocol: mcp, mcp: {tools: {hold: {timeout: 1m}}}`:                                                 `is for changed: hold only`,
		`protocol: mcp, mcp: {tools: {changed: hold, hold: {timeout: 9h}}}`:                                  `mcp.tools.hold.timeout`,
		`protocol: mcp, mcp: {tools: {pin: off}}, validate: true`:                                            `validate needs the tools' schemas`,
		`protocol: jsonrpc, mcp: {tools: {pin: off}}`:                                                        `mcp is for mcp only`,
		`protocol: mcp, mcp: {tool: {}}`:                                                                     `tools`,
		`protocol: grpc, match: {services: [a.B]}, grpc: {streaming: [a.B/Up]}`:                              "",
		`protocol: grpc, match: {services: [a.B]}, grpc: {streaming: [a.C/Up]}`:                              `not a method of one of match.services`,
		`protocol: grpc, match: {services: [a.B]}, grpc: {streaming: [Up]}`:                                  `not a method`,
		`protocol: grpc, match: {services: [a.B]}, grpc: {streaming: [a.B/]}`:                                `not a method`,
		`protocol: grpc, match: {services: [a.B]}, grpc: {streaming: ["a.B/*"]}`:                             `not a method`,
		`protocol: mcp, grpc: {streaming: [a.B/Up]}`:                                                         `is for grpc only`,
	} {
		file := write(t, t.TempDir(), "p.yaml", "connections:\n  - {name: x, upstream: {url: 'http://127.0.0.1:1'}, "+settings+"}\n")
		p, err := CheckPolicy(file)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", settings, err, want)
		}
		if want == "" && p.Connections[0].Protocol == "mcp" && *p.Connections[0].Validate == (p.Connections[0].MCP.Tools.Pin == "off") {
			t.Errorf("%s: validate %v", settings, *p.Connections[0].Validate)
		}
	}
}
