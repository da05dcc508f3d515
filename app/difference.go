package app

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/envoy"
)

// ResourceChange is an Envoy resource that one policy has and the other has
// not, or has otherwise.
type ResourceChange struct {
	Type string `json:"type"` // listener, route, cluster, endpoint or secret
	Name string `json:"name"`
	What string `json:"what"` // added, removed or changed
}

// CompareEnvoy lists which resources Envoy gets otherwise under another policy.
// That resources name the versions that they are of is no change.
func CompareEnvoy(settings config.Envoy, was, is config.Policy) ([]ResourceChange, error) {
	before, err := resourcesOf(settings, was)
	if err != nil {
		return nil, fmt.Errorf("the old policy: %w", err)
	}
	after, err := resourcesOf(settings, is)
	if err != nil {
		return nil, fmt.Errorf("the new policy: %w", err)
	}
	var out []ResourceChange
	for key, m := range after {
		switch old, had := before[key]; {
		case !had:
			out = append(out, ResourceChange{key.kind, key.name, "added"})
		case !proto.Equal(old, m):
			out = append(out, ResourceChange{key.kind, key.name, "changed"})
		}
	}
	for key := range before {
		if _, has := after[key]; !has {
			out = append(out, ResourceChange{key.kind, key.name, "removed"})
		}
	}
	slices.SortFunc(out, func(a, b ResourceChange) int { return strings.Compare(a.Type+" "+a.Name, b.Type+" "+b.Name) })
	return out, nil
}

type resourceKey struct{ kind, name string }

func resourcesOf(settings config.Envoy, p config.Policy) (map[resourceKey]proto.Message, error) {
	files := map[string][]byte{}
	for _, f := range envoy.FilesOf(settings, p) {
		data, err := os.ReadFile(f)
		if err != nil {
			return nil, fmt.Errorf("read a certificate: %w", err)
		}
		files[f] = data
	}
	p.Version = "same"
	p.Connections = slices.Clone(p.Connections)
	for i := range p.Connections {
		p.Connections[i].Version = "same"
	}
	built, err := envoy.Build(envoy.Input{Settings: settings, Policy: p, Files: files})
	if err != nil {
		return nil, err
	}
	out := map[resourceKey]proto.Message{}
	for kind, list := range map[string][]proto.Message{"listener": built.Listeners, "route": built.Routes, "cluster": built.Clusters, "endpoint": built.Endpoints, "secret": built.Secrets} {
		for _, m := range list {
			name := ""
			switch m := m.(type) {
			case interface{ GetName() string }:
				name = m.GetName()
			case interface{ GetClusterName() string }:
				name = m.GetClusterName()
			}
			out[resourceKey{kind, name}] = m
		}
	}
	return out, nil
}
