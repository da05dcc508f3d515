package app

import (
	"crypto/x509"
	"path"
	"slices"
	"strings"

	"github.com/callgate/callgate/config"
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

// isNode reports whether a certificate's owner may be the node of that id.
func isNode(c *x509.Certificate, n config.ControlNodes, id string) bool {
	if id == "" {
		return false
	}
	if n.FromCertificate {
		if slices.Contains(c.DNSNames, id) {
			return true
		}
		for _, u := range c.URIs {
			if u.String() == id || u.Path != "" && path.Base(u.Path) == id {
				return true
			}
		}
	}
	return slices.ContainsFunc(n.Match, func(m config.NodeMatch) bool {
		return named(c, m.Certificates) && slices.ContainsFunc(m.Nodes, func(glob string) bool {
			ok, err := path.Match(glob, id)
			return ok && err == nil
		})
	})
}
