package xds

import (
	"maps"

	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/xds/policyv1"
)

// Wire is a policy's bundle as it is sent and stored.
func Wire(version string, b config.Bundle) *policyv1.Policy {
	out := &policyv1.Policy{Version: version}
	for _, f := range b.Files {
		out.Files = append(out.Files, &policyv1.Policy_File{Name: f.Name, Content: f.Content})
	}
	for _, r := range b.References {
		out.References = append(out.References, &policyv1.Policy_Reference{File: r.File, Path: r.Path, Content: r.Content})
	}
	return out
}

// Bundle is the bundle that Wire made p of.
func Bundle(p *policyv1.Policy) config.Bundle {
	var b config.Bundle
	for _, f := range p.GetFiles() {
		b.Files = append(b.Files, config.File{Name: f.GetName(), Content: f.GetContent()})
	}
	for _, r := range p.GetReferences() {
		b.References = append(b.References, config.Reference{File: r.GetFile(), Path: r.GetPath(), Content: r.GetContent()})
	}
	return b
}

// Same reports whether Envoys could not tell two versions apart.
func Same(a, b Version) (bool, error) {
	x, err := prepare(a)
	if err != nil {
		return false, err
	}
	y, err := prepare(b)
	if err != nil {
		return false, err
	}
	return maps.Equal(x.hashes, y.hashes), nil
}
