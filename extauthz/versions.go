package extauthz

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/extauthz/connection"
)

// Active is one version of everything that a decision depends on and that can
// change while calls are decided. It is read-only: a call sees one Active from
// beginning to end.
type Active struct {
	Version     string
	Connections *connection.Set
	Policy      Policy

	fixed map[*connection.Connection]fixedMetadata // by Activate
}

// Versions are the policies that may decide calls. Envoys change to a new one
// each at its own moment, so for a while there are two, and the Envoy that a
// call came through says which of them it runs.
type Versions struct {
	// Stable decides unless something else does.
	Stable Active
	// Canary decides for Percent of the callers, the same ones each time.
	Canary  *Active
	Percent int // 0 to 100
	// Others decide for the Envoys that name them.
	Others []Active
}

// versions is the form that decisions use.
type versions struct {
	stable  *Active
	canary  *Active
	percent int
	named   map[string]*Active
}

// Activate makes calls that arrive from now on be decided by v.
func (s *Server) Activate(v Versions) {
	next := &versions{percent: v.Percent, named: map[string]*Active{}}
	take := func(a Active) *Active {
		a.fixed = map[*connection.Connection]fixedMetadata{}
		for _, c := range a.Connections.All() {
			a.fixed[c] = fix(c)
		}
		next.named[a.Version] = &a
		return &a
	}
	for _, a := range v.Others {
		take(a)
	}
	if v.Canary != nil {
		next.canary = take(*v.Canary)
	}
	next.stable = take(v.Stable)
	s.versions.Store(next)
}

// choose takes the version that the call's Envoy runs, so that its route and its
// decision are of one policy; of an Envoy that names none, or one that is no
// longer served here, the stable one.
func (d *decision) choose(v *versions, extensions map[string]string) {
	d.versions, d.active = v, v.stable
	if named := v.named[extensions["policy_version"]]; named != nil {
		d.active = named
	}
}

// agree makes sure that the connection is what its Envoy takes it for. Where the
// two come of different policies, the call would be routed by one and judged by
// the other.
func (d *decision) agree(extensions map[string]string) *denied {
	routed, told := extensions["connection_version"]
	if !told || d.conn == nil || d.conn.Version == routed {
		return nil
	}
	return deny(call.ReasonPolicyUnavailable, "this Envoy routes connection %s as policy version %s has it, which this server does not have; try again, and see callgate policy status",
		d.conn.Name, d.routedBy)
}

// canary moves the call to the canary policy if its caller is one of those that
// try it. The control plane makes sure that both route alike.
func (d *decision) canary() *denied {
	v := d.versions
	if v.canary == nil || d.active != v.stable || d.conn == nil || !chosen(d.call.Identity, v.canary.Version, v.percent) {
		return nil
	}
	conn := v.canary.Connections.Named(d.conn.Name)
	if conn == nil || conn.Version != d.conn.Version {
		return nil
	}
	d.active = v.canary
	d.use(conn)
	return nil
}

// chosen reports whether an identity is in the share of callers that a version
// is tried on. Each version is tried on others.
func chosen(who call.Identity, version string, percent int) bool {
	sum := sha256.Sum256([]byte(version + "\x00" + who.Issuer + "\x00" + who.Subject))
	return binary.BigEndian.Uint64(sum[:])%100 < uint64(max(percent, 0))
}
