package config

import "time"

// Control says where policies come from and who may change them.
type Control struct {
	// Server is the xDS address (host:port) of the control plane that a
	// process without the role xds gets its policies from. Default: from the
	// files.
	Server string `yaml:"server"`
	// TLS is what this process shows of itself and whom it believes, both as
	// the control plane and towards it.
	TLS ControlTLS `yaml:"tls"`
	// Servers are globs of names in certificates, as in services.clients: those
	// who have one may fetch policies, grants and revocations, and tell what MCP
	// servers offer. Default with tls.ca_file: any of its certificates may fetch,
	// and none may tell.
	Servers []string `yaml:"servers"`
	// Nodes ties the node ids of Envoys and decision servers to their
	// certificates. Default: who has a certificate may call itself anything.
	Nodes ControlNodes `yaml:"nodes"`
	// Insecure allows plain text off the loopback, on both ends: for hosts whose
	// mesh encrypts and authenticates by itself.
	Insecure bool `yaml:"insecure"`
	// Labels are what canaries can pick this server by.
	Labels []string `yaml:"labels"` // name=value
	// Store is the control plane's file. Default: control.db in state_dir.
	Store string `yaml:"store"`
	// Administrators may push and roll back policies, give and take back
	// grants, and revoke tokens. Default: nobody.
	Administrators Approvers `yaml:"administrators"`
	// Wait is how long a push waits for servers and Envoys to answer. Default 10s.
	Wait time.Duration `yaml:"wait"`
}

// ControlNodes says which node a certificate may be. Either will do.
type ControlNodes struct {
	// FromCertificate wants the id to be a name in the certificate: a DNS name,
	// a URI such as a SPIFFE ID, or the last part of a URI's path.
	FromCertificate bool `yaml:"from_certificate"`
	// Match lets certificates be nodes that their names don't tell.
	Match []NodeMatch `yaml:"match"`
}

// Tied reports whether node ids are tied to certificates at all.
func (n ControlNodes) Tied() bool { return n.FromCertificate || len(n.Match) > 0 }

// NodeMatch lets certificates that have one of the names be one of the nodes.
// All are globs; names are those of services.clients.
type NodeMatch struct {
	Certificates []string `yaml:"certificates"`
	Nodes        []string `yaml:"nodes"`
}

// ControlTLS protects xDS. With cert_file and key_file set, the control plane
// speaks TLS only; with ca_file too, it wants certificates of its clients.
type ControlTLS struct {
	CertFile string `yaml:"cert_file"`
	KeyFile  string `yaml:"key_file"`
	// CAFile is what the other side's certificate must chain to.
	CAFile string `yaml:"ca_file"`
	// ServerName is what the control plane's certificate must be for.
	// Default: the host of server.
	ServerName string `yaml:"server_name"`
}
