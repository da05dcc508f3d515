// Package connection finds the endpoint that a request is for and the settings
// under which its calls are decided.
package connection

import (
	"fmt"
	"net"
	"sort"
	"strings"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/call/protocol"
)

// Credential supplies the service's own credential.
type Credential interface {
	// Name is the header it goes into, or "".
	Name() string
	// Header returns the header to set; an empty name means none.
	Header() (name, value string, err error)
}

// Connection is one registered function endpoint.
type Connection struct {
	Name        string
	Protocol    call.Protocol
	Authorities []string // lower case, "*.example.com" allowed; none: any
	Path        string   // prefix of whole segments
	Services    []string // grpc
	Parser      protocol.Parser
	Credential  Credential
	Mask        call.Mask
	MaxBody     int64
	MaxResponse int64
	Record      call.RecordSettings
	// Unrecorded lets calls through that can't be recorded; the default
	// denies them.
	Unrecorded bool
}

// Set is all connections of one policy. It is read-only.
type Set struct {
	byName map[string]*Connection
	routes []route // most specific first
}

type route struct {
	authority string // "" any
	prefix    string
	to        *Connection
}

// NewSet indexes connections.
func NewSet(list []*Connection) (*Set, error) {
	s := &Set{byName: make(map[string]*Connection, len(list))}
	for _, c := range list {
		if _, twice := s.byName[c.Name]; twice {
			return nil, fmt.Errorf("connection %q stands twice", c.Name)
		}
		s.byName[c.Name] = c
		prefixes := []string{strings.TrimSuffix(c.Path, "/")}
		if c.Protocol == call.GRPC {
			prefixes = nil
			for _, svc := range c.Services {
				prefixes = append(prefixes, "/"+svc)
			}
		}
		authorities := c.Authorities
		if len(authorities) == 0 {
			authorities = []string{""}
		}
		for _, a := range authorities {
			for _, p := range prefixes {
				s.routes = append(s.routes, route{strings.ToLower(a), p, c})
			}
		}
	}
	// As Envoy does: the authority first, an exact one before a wildcard, then
	// the longest path.
	rank := func(a string) int {
		switch {
		case a == "":
			return 0
		case strings.HasPrefix(a, "*"):
			return len(a)
		default:
			return 1 << 16
		}
	}
	sort.SliceStable(s.routes, func(i, j int) bool {
		a, b := s.routes[i], s.routes[j]
		if len(a.prefix) != len(b.prefix) {
			return len(a.prefix) > len(b.prefix)
		}
		return rank(a.authority) > rank(b.authority)
	})
	return s, nil
}

// Named returns the connection of that name, or nil.
func (s *Set) Named(name string) *Connection { return s.byName[name] }

// Match returns the connection for an authority and path, or nil: for meshes
// that can't say which one their route belongs to.
func (s *Set) Match(authority, path string) *Connection {
	host := strings.ToLower(authority)
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	path, _, _ = strings.Cut(path, "?")
	for _, r := range s.routes {
		if under(path, r.prefix) && at(host, r.authority) {
			return r.to
		}
	}
	return nil
}

func under(path, prefix string) bool {
	rest, ok := strings.CutPrefix(path, prefix)
	return ok && (rest == "" || rest[0] == '/')
}

func at(host, authority string) bool {
	if suffix, wild := strings.CutPrefix(authority, "*"); wild {
		return strings.HasSuffix(host, suffix) && len(host) > len(suffix)
	}
	return authority == "" || host == authority
}
