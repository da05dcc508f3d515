package config

import (
	"strings"
	"testing"
)

// What is reachable from other hosts takes nobody's word in plain text. A line
// more is a way around it more.
func TestReach(t *testing.T) {
	const (
		services = "services: {tls: {cert_file: a.crt, key_file: a.key, client_ca_file: ca.pem}}\n"
		control  = "control: {tls: {cert_file: a.crt, key_file: a.key, ca_file: ca.pem}}\n"
		towards  = "envoy: {services: gate.internal:9191, services_tls: {cert_file: /e/a.crt, key_file: /e/a.key, ca_file: /e/ca.pem}}\n"
	)
	for _, c := range []struct{ text, want string }{
		{"", ""},
		{"listen: {grpc: 127.0.0.9:9191, xds: \"[::1]:18000\"}\n", ""},
		{"listen: {grpc: localhost:9191, xds: localhost:18000}\n", ""},
		{"listen:\n  grpc: 0.0.0.0:9191\n", "callgate.yaml:2:9: listen.grpc: 0.0.0.0:9191 takes questions from other hosts in plain text"},
		{"listen: {grpc: \":9191\"}\n", "set services.tls, listen on 127.0.0.1, or say services.insecure: true where a mesh protects it"},
		{"listen: {grpc: \"[::]:9191\"}\n", "listen.grpc: [::]:9191 takes questions"},
		{"listen: {grpc: 10.0.0.1:9191}\n", "listen.grpc: 10.0.0.1:9191 takes questions"},
		{"listen: {grpc: \"[::ffff:10.0.0.1]:9191\"}\n", "takes questions"},
		{"listen: {grpc: 127.0.0.1.nip.io:9191}\n", "takes questions"},
		{"listen: {grpc: 0.0.0.0:9191}\nservices: {insecure: false}\n", "takes questions"},
		{"listen: {grpc: 0.0.0.0:9191}\ncontrol: {insecure: true}\n", "takes questions"},
		{"listen: {grpc: 0.0.0.0:9191}\n" + control, "takes questions"},
		{"listen: {grpc: 0.0.0.0:9191}\nservices: {insecure: true}\n", ""},
		{"listen: {grpc: 0.0.0.0:9191}\n" + services, ""},
		{"listen: {grpc: 0.0.0.0:9191}\nservices:\n  tls: {cert_file: a.crt, key_file: a.key}\n", "callgate.yaml:3:8: services.tls: set cert_file, key_file and client_ca_file; without the last anybody could ask"},
		{"services: {tls: {client_ca_file: ca.pem}}\n", "services.tls: set cert_file"},
		{"services: {clients: [\"*.edge\"]}\n", "services.clients: certificates are asked for with services.tls only"},
		{strings.Replace(services, "services: {", "services: {clients: [\"[\"], ", 1), `services.clients: "[" is no pattern of names`},
		{strings.Replace(services, "services: {", "services: {clients: [\"spiffe://example.org/edge/*\"], ", 1), ""},

		{"envoy:\n  services: gate.internal:9191\n", "callgate.yaml:2:13: envoy.services: Envoys would ask gate.internal:9191 in plain text, where anybody on the way can answer; set envoy.services_tls"},
		{"envoy: {services: gate.internal:9191}\nservices: {insecure: true}\n", ""},
		{"envoy: {services: \"127.0.0.1:1\"}\n", ""},
		{towards, ""},
		{strings.Replace(towards, "/e/a.key", "a.key", 1), `envoy.services_tls.key_file: "a.key" lies on Envoy's host; write its absolute path`},
		{strings.Replace(towards, ", ca_file: /e/ca.pem", "", 1), "envoy.services_tls: set cert_file, key_file and ca_file"},
		{strings.Replace(towards, "cert_file: /e/a.crt, key_file: /e/a.key, ", "", 1), "envoy.services_tls: set cert_file, key_file and ca_file"},

		{"listen:\n  xds: 0.0.0.0:18000\n", "callgate.yaml:2:8: listen.xds: 0.0.0.0:18000 gives policies and private keys to whoever asks from other hosts; set control.tls with cert_file, key_file and ca_file"},
		{"listen: {xds: 0.0.0.0:18000}\nservices: {insecure: true}\n", "listen.xds"},
		{"listen: {xds: 0.0.0.0:18000}\ncontrol: {tls: {cert_file: a.crt, key_file: a.key}}\n", "listen.xds"},
		{"listen: {xds: 0.0.0.0:18000}\ncontrol: {tls: {ca_file: ca.pem}}\n", "listen.xds"},
		{"listen: {xds: 0.0.0.0:18000}\n" + control, ""},
		{"listen: {xds: 0.0.0.0:18000}\ncontrol: {insecure: true}\n", ""},
		{"control:\n  server: control.internal:18000\n", "callgate.yaml:2:11: control.server: control.internal:18000 would be believed in plain text, and anybody on the way could send the policy; set control.tls, or say control.insecure: true"},
		{"control: {server: \"127.0.0.1:18000\"}\n", ""},
		{"control: {server: \"control.internal:18000\", insecure: true}\n", ""},
		{"control: {server: \"control.internal:18000\", tls: {ca_file: ca.pem}}\n", ""},
		{"control: {nodes: {from_certificate: true}}\n", "control.nodes: node ids are tied to certificates, which are asked for with control.tls only"},
		{strings.Replace(control, "control: {", "control: {nodes: {match: [{certificates: [\"*.edge\"]}]}, ", 1), "control.nodes.match[0]: set certificates and nodes"},
		{strings.Replace(control, "control: {", "control: {nodes: {match: [{certificates: [\"*.edge\"], nodes: [\"[\"]}]}, ", 1), `control.nodes.match[0].nodes: "[" is no pattern`},
		{strings.Replace(control, "control: {", "control: {nodes: {from_certificate: true, match: [{certificates: [\"*.edge\"], nodes: [\"edge-*\"]}]}, ", 1), ""},
		{"control: {servers: [\"*.servers\"]}\n", "control.servers: these are names in certificates, which are asked for with control.tls only"},
		{strings.Replace(control, "control: {", "control: {servers: [\"\"], ", 1), `control.servers: "" is no pattern of names`},
		{strings.Replace(control, "control: {", "control: {servers: [\"*.servers\"], ", 1), ""},
	} {
		_, err := Load(write(t, t.TempDir(), "callgate.yaml", c.text), nil)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s\ngot  %v\nwant %q", c.text, err, c.want)
		}
	}
	// The environment is no way around it.
	t.Setenv("CALLGATE_LISTEN_GRPC", "0.0.0.0:9191")
	if _, err := Load(write(t, t.TempDir(), "callgate.yaml", ""), nil); err == nil || !strings.Contains(err.Error(), "takes questions") {
		t.Errorf("by the environment: %v", err)
	}
}
