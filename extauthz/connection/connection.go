// Package connection finds the endpoint that a request is for and the settings
// under which its calls are decided.
package connection

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
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
	Name     string
	Version  string // a hash over its definition
	Protocol call.Protocol
	// SessionHeader names the session of its calls; "": none does.
	SessionHeader string
	// Proof is what a token must be bound by: dpop, certificate, any, or "".
	Proof       string
	Shadow      bool     // let through what the rules would deny or hold
	Authorities []string // lower case, "*.example.com" allowed; none: any
	Path        string   // prefix of whole segments
	Services    []string // grpc
	Parser      protocol.Parser
	Batches     *protocol.Batches // nil: none are taken
	Credential  Credential
	Mask        call.Mask
	MaxBody     int64
	RequestMask call.Mask // of what the function is sent
	MaxResponse int64
	Response    call.ResponseSettings
	Record      call.RecordSettings
}

// Set is all connections of one policy. It is read-only.
type Set struct {
	byName map[string]*Connection
	hosts  []host // most specific first; the last one takes any authority
}

// host is what Envoy calls a virtual host: an authority, and what stands there.
type host struct {
	authority string // "*" any
	routes    []route
}

type route struct {
	own    bool   // the connection names authorities
	prefix string // ends with "/", or is a prefix of whole segments
	to     *Connection
}

// NewSet indexes connections.
func NewSet(list []*Connection) (*Set, error) {
	s := &Set{byName: make(map[string]*Connection, len(list))}
	byHost := map[string][]route{"*": nil}
	for _, c := range list {
		if _, twice := s.byName[c.Name]; twice {
			return nil, fmt.Errorf("connection %q stands twice", c.Name)
		}
		s.byName[c.Name] = c
		for _, a := range c.Authorities {
			byHost[strings.ToLower(a)] = nil
		}
	}
	for _, c := range list {
		authorities := c.Authorities
		if len(authorities) == 0 {
			// One host alone is looked into, so what takes any authority
			// stands in all of them.
			authorities = slices.Collect(maps.Keys(byHost))
		}
		for _, a := range authorities {
			a = strings.ToLower(a)
			byHost[a] = append(byHost[a], routesOf(c)...)
		}
	}
	for authority, routes := range byHost {
		slices.SortStableFunc(routes, func(a, b route) int {
			if len(a.prefix) != len(b.prefix) {
				return len(b.prefix) - len(a.prefix)
			}
			return cmp.Compare(rank(b.own), rank(a.own))
		})
		s.hosts = append(s.hosts, host{authority, routes})
	}
	slices.SortFunc(s.hosts, func(a, b host) int {
		if x, y := wild(a.authority), wild(b.authority); x != y {
			return cmp.Compare(rank(x), rank(y))
		}
		return len(b.authority) - len(a.authority)
	})
	return s, nil
}

func rank(b bool) int {
	if b {
		return 1
	}
	return 0
}

func wild(authority string) bool { return strings.HasPrefix(authority, "*") }

func routesOf(c *Connection) []route {
	own := len(c.Authorities) > 0
	if c.Protocol == call.GRPC {
		out := make([]route, len(c.Services))
		for i, svc := range c.Services {
			out[i] = route{own, "/" + svc + "/", c}
		}
		return out
	}
	prefix := strings.TrimSuffix(c.Path, "/")
	if prefix == "" {
		prefix = "/"
	}
	return []route{{own, prefix, c}}
}

// All returns the connections, in no order.
func (s *Set) All() []*Connection {
	out := make([]*Connection, 0, len(s.byName))
	for _, c := range s.byName {
		out = append(out, c)
	}
	return out
}

// Named returns the connection of that name, or nil.
func (s *Set) Named(name string) *Connection { return s.byName[name] }

// Match returns the connection for an authority and path, or nil: for meshes
// that can't say which one their route belongs to.
//
// It finds what Envoy finds with the routes that the project makes for it: one
// host, an exact one before a wildcard and a long wildcard before a short one,
// and in that host alone the longest path.
func (s *Set) Match(authority, path string) *Connection {
	name := withoutPort(strings.ToLower(authority))
	path, _, _ = strings.Cut(path, "?")
	for _, h := range s.hosts {
		if !at(name, h.authority) {
			continue
		}
		for _, r := range h.routes {
			if under(path, r.prefix) {
				return r.to
			}
		}
		return nil
	}
	return nil
}

// withoutPort takes a port off, as Envoy does: what stands after the last colon
// that is not an IPv6 address's own, if it is a number.
func withoutPort(authority string) string {
	i := strings.LastIndexByte(authority, ':')
	if i < 0 || i < strings.LastIndexByte(authority, ']') {
		return authority
	}
	if _, err := strconv.ParseUint(authority[i+1:], 10, 32); err != nil {
		return authority
	}
	return authority[:i]
}

func under(path, prefix string) bool {
	rest, ok := strings.CutPrefix(path, prefix)
	return ok && (rest == "" || rest[0] == '/' || strings.HasSuffix(prefix, "/"))
}

func at(name, authority string) bool {
	if authority == "*" {
		return true
	}
	if suffix, ok := strings.CutPrefix(authority, "*"); ok {
		return strings.HasSuffix(name, suffix) && len(name) > len(suffix)
	}
	return name == authority
}
