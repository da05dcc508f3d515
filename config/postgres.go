package config

import (
	"net/url"
	"strings"
)

// Postgres is a PostgreSQL, version 14 or newer.
type Postgres struct {
	// URL is postgres://user@host:port/database, without a password. Of several
	// hosts, separated by commas, the one that takes writes is used.
	URL      string `yaml:"url"`
	Password Secret `yaml:"password"`
	// TLS is verify (default): the server's certificate must be for its host; or
	// off, for servers on this machine and networks that are protected otherwise.
	TLS string `yaml:"tls"`
	// CAFile is what the server's certificate must chain to. Default: the
	// system's roots.
	CAFile string `yaml:"ca_file"`
	// CertFile and KeyFile are this service's own certificate, where the server
	// wants one.
	CertFile string `yaml:"cert_file"`
	KeyFile  string `yaml:"key_file"`
	// MaxConnections bounds the connections of one replica; one more listens.
	// Default 10.
	MaxConnections uint32 `yaml:"max_connections"`
}

func (p Postgres) validate(path string, bad func(path, format string, args ...any)) {
	if p.URL == "" {
		if p != (Postgres{}) {
			bad(path, "url is missing; it is postgres://user@host:port/database")
		}
		return
	}
	// Several hosts together are no URL; each is looked at by itself.
	u, err := url.Parse(firstHost(p.URL))
	switch {
	case err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" || u.Host == "" || u.User.Username() == "" || strings.Trim(u.Path, "/") == "":
		bad(path+".url", "want postgres://user@host:port/database, several hosts separated by commas")
		return
	case hasPassword(u):
		bad(path+".url", "holds a password; set password instead, so that it is never logged")
	case u.RawQuery != "" || u.Fragment != "":
		bad(path+".url", "has parameters; there are settings for what can be set: tls, ca_file, cert_file, key_file, max_connections")
	}
	switch p.TLS {
	case "", "verify":
	case "off":
		if p.CAFile != "" || p.CertFile != "" {
			bad(path+".tls", "is off, so ca_file and cert_file would do nothing; leave tls out")
		}
	default:
		bad(path+".tls", "%q is not known; choose verify or off", p.TLS)
	}
	if (p.CertFile == "") != (p.KeyFile == "") {
		bad(path, "cert_file and key_file belong together; set both or neither")
	}
	if p.MaxConnections > 1000 {
		bad(path+".max_connections", "%d is outside 1 to 1000; 10 is the default", p.MaxConnections)
	}
}

// firstHost is the URL with the first of its hosts alone.
func firstHost(address string) string {
	scheme, rest, _ := strings.Cut(address, "://")
	end := strings.IndexAny(rest+"/", "/?#")
	hosts, path := rest[:end], rest[end:]
	user, list := "", hosts
	if at := strings.LastIndexByte(hosts, '@'); at >= 0 {
		user, list = hosts[:at+1], hosts[at+1:]
	}
	first, _, _ := strings.Cut(list, ",")
	return scheme + "://" + user + first + path
}

func hasPassword(u *url.URL) bool {
	_, has := u.User.Password()
	return has
}
