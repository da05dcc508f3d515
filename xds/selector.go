package xds

import (
	"fmt"
	"path"
	"sort"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
)

// Selector picks nodes by what they say of themselves: "id" and "cluster" are
// the node's own, any other name is a text in its metadata. The values are
// globs, and all must match.
type Selector map[string]string

// ParseSelector reads "track=canary,cluster=edge-*".
func ParseSelector(s string) (Selector, error) {
	out := Selector{}
	for _, part := range strings.Split(s, ",") {
		name, glob, ok := strings.Cut(strings.TrimSpace(part), "=")
		if !ok || name == "" || glob == "" {
			return nil, fmt.Errorf("%q is not name=value; a node's id, cluster and metadata can be named, such as track=canary", part)
		}
		if _, err := path.Match(glob, ""); err != nil {
			return nil, fmt.Errorf("%q is not a glob: %w", glob, err)
		}
		out[name] = glob
	}
	return out, nil
}

// Matches reports whether a node is picked. None is where nothing is named.
func (s Selector) Matches(n *corev3.Node) bool {
	for name, glob := range s {
		var value string
		switch name {
		case "id":
			value = n.GetId()
		case "cluster":
			value = n.GetCluster()
		default:
			value = n.GetMetadata().GetFields()[name].GetStringValue()
		}
		if ok, err := path.Match(glob, value); err != nil || !ok || value == "" {
			return false
		}
	}
	return len(s) > 0
}

func (s Selector) String() string {
	var parts []string
	for name, glob := range s {
		parts = append(parts, name+"="+glob)
	}
	sort.Strings(parts)
	return strings.Join(parts, ",")
}
