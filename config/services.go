package config

import (
	"fmt"
	"net"
	"path"
	"path/filepath"
)

// Services says who may ask the services of listen.grpc. Whoever may can have
// the credential of any function that a caller's certificate or token opens, so
// off the loopback they are asked over mutual TLS only.
type Services struct {
	TLS ServicesTLS `yaml:"tls"`
	// Clients are globs of the names that a client's certificate must have one
	// of: of its URIs where they hold "://", of its DNS names otherwise.
	// Default: any certificate of tls.client_ca_file.
	Clients []string `yaml:"clients"`
	// Insecure allows plain text off the loopback, on both ends: for hosts whose
	// mesh encrypts and authenticates by itself.
	Insecure bool `yaml:"insecure"`
}

// ServicesTLS names PEM files; all are set, or none. The certificate is read
// anew at each handshake.
type ServicesTLS struct {
	CertFile string `yaml:"cert_file"`
	KeyFile  string `yaml:"key_file"`
	// ClientCAFile is what Envoys' certificates must chain to.
	ClientCAFile string `yaml:"client_ca_file"`
}

// TowardsServices says how Envoys reach services.tls. The files are PEM and lie
// on Envoy's host, by absolute paths; Envoy takes up what is renamed into their
// place.
type TowardsServices struct {
	CertFile string `yaml:"cert_file"`
	KeyFile  string `yaml:"key_file"`
	// CAFile is what the services' certificate must chain to.
	CAFile string `yaml:"ca_file"`
	// ServerName is what that certificate must be for. Default: the host of
	// envoy.services.
	ServerName string `yaml:"server_name"`
}

// validateReach refuses what would let others than Envoys and decision servers
// ask, be answered, or stand in between.
func (c *Config) validateReach(bad func(path, format string, args ...any)) {
	globs := func(at string, list []string) {
		for _, g := range list {
			if _, err := path.Match(g, ""); err != nil || g == "" {
				bad(at, "%q is no pattern of names; write one such as spiffe://example.org/callgate/* or *.edge.internal", g)
			}
		}
	}
	services := c.Services.TLS
	switch {
	case services == ServicesTLS{}:
		if !local(c.Listen.GRPC) && !c.Services.Insecure {
			bad("listen.grpc", "%s takes questions from other hosts in plain text, and whoever asks there can get functions' credentials; set services.tls, listen on 127.0.0.1, or say services.insecure: true where a mesh protects it", c.Listen.GRPC)
		}
		if len(c.Services.Clients) > 0 {
			bad("services.clients", "certificates are asked for with services.tls only; set it")
		}
	case services.CertFile == "" || services.KeyFile == "" || services.ClientCAFile == "":
		bad("services.tls", "set cert_file, key_file and client_ca_file; without the last anybody could ask")
	}
	globs("services.clients", c.Services.Clients)

	towards := c.Envoy.ServicesTLS
	switch {
	case towards == TowardsServices{}:
		// What only follows listen.grpc is not what Envoys are told elsewhere.
		if c.Envoy.Services != c.Listen.GRPC && !local(c.Envoy.Services) && !c.Services.Insecure {
			bad("envoy.services", "Envoys would ask %s in plain text, where anybody on the way can answer; set envoy.services_tls, or say services.insecure: true where a mesh protects it", c.Envoy.Services)
		}
	case towards.CertFile == "" || towards.KeyFile == "" || towards.CAFile == "":
		bad("envoy.services_tls", "set cert_file, key_file and ca_file")
	default:
		for name, file := range map[string]string{"cert_file": towards.CertFile, "key_file": towards.KeyFile, "ca_file": towards.CAFile} {
			if !filepath.IsAbs(file) {
				bad("envoy.services_tls."+name, "%q lies on Envoy's host; write its absolute path", file)
			}
		}
	}

	control, asks := c.Control.TLS, c.Control.TLS.CertFile != "" && c.Control.TLS.CAFile != ""
	if !local(c.Listen.XDS) && !asks && !c.Control.Insecure {
		bad("listen.xds", "%s gives policies and private keys to whoever asks from other hosts; set control.tls with cert_file, key_file and ca_file, listen on 127.0.0.1, or say control.insecure: true where a mesh protects it", c.Listen.XDS)
	}
	if c.Control.Server != "" && !local(c.Control.Server) && control == (ControlTLS{}) && !c.Control.Insecure {
		bad("control.server", "%s would be believed in plain text, and anybody on the way could send the policy; set control.tls, or say control.insecure: true where a mesh protects it", c.Control.Server)
	}
	if len(c.Control.Servers) > 0 && !asks {
		bad("control.servers", "these are names in certificates, which are asked for with control.tls only; set its cert_file, key_file and ca_file")
	}
	globs("control.servers", c.Control.Servers)
	if c.Control.Nodes.Tied() && !asks {
		bad("control.nodes", "node ids are tied to certificates, which are asked for with control.tls only; set its cert_file, key_file and ca_file")
	}
	for i, m := range c.Control.Nodes.Match {
		at := fmt.Sprintf("control.nodes.match[%d]", i)
		if len(m.Certificates) == 0 || len(m.Nodes) == 0 {
			bad(at, "set certificates and nodes: whose certificates may be which nodes")
		}
		globs(at+".certificates", m.Certificates)
		globs(at+".nodes", m.Nodes)
	}
}

// local reports whether an address is of this host alone.
func local(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	return err != nil || loopback(host) // what is no address is told of elsewhere
}
