package app

import (
	"crypto/x509"
	"path"
	"strings"
)

// named reports whether a certificate has a name that one of the globs matches:
// a URI where the glob holds "://", a DNS name otherwise, so that neither can
// pass for the other. The common name is nobody's.
func named(c *x509.Certificate, globs []string) bool {
	for _, g := range globs {
		names := c.DNSNames
		if strings.Contains(g, "://") {
			names = nil
			for _, u := range c.URIs {
				names = append(names, u.String())
			}
		}
		for _, n := range names {
			if ok, err := path.Match(g, n); ok && err == nil {
				return true
			}
		}
	}
	return false
}
