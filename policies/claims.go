package policies

import (
	"maps"
	"slices"
)

// Claims lists the claims of a caller that rules and grants over a connection look
// at, whatever the function; all tells that one looks at any. It is for a set that
// was compiled with [Config.Replay].
func (s *Set) Claims(connection string) (names []string, all bool) {
	found := map[string]bool{}
	look := func(reads []Part) {
		for _, p := range reads {
			switch {
			case p.Field == "identity", p.Field == claimsField && p.Key == "":
				all = true
			case p.Field == claimsField:
				found[p.Key] = true
			}
		}
	}
	for _, ix := range []*index{s.connections[connection], &s.everywhere} {
		if ix == nil {
			continue
		}
		for _, list := range append(slices.Collect(maps.Values(ix.exact)), ix.any, ix.globs) {
			for _, r := range list {
				look(r.reads)
			}
		}
	}
	for _, g := range []*grants{&s.own, &s.given} {
		for _, one := range g.all() {
			if matchAny(one.connections, connection) {
				look(one.reads)
			}
		}
	}
	return slices.Sorted(maps.Keys(found)), all
}

const claimsField = "identity.claims"
