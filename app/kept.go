package app

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/callgate/callgate/xds"
	"github.com/callgate/callgate/xds/policyv1"
)

// forget drops all policies but the one that decides and the one before.
func (d *decider) forget(ctx context.Context, before string) error {
	d.mu.Lock()
	var gone []string
	for v := range d.held {
		if v != before && v != d.rollout.GetStable() {
			gone = append(gone, v)
		}
	}
	d.mu.Unlock()
	return d.Policies(ctx, nil, gone)
}

// store writes what is held to disk, whole or not at all.
func (d *decider) store() error {
	if d.keep == "" {
		return nil
	}
	held := &policyv1.Held{Rollout: d.rollout, Grants: slices.Collect(maps.Values(d.grants)), Revocations: slices.Collect(maps.Values(d.revocations)), Tools: slices.Collect(maps.Values(d.tools))}
	for _, h := range d.held {
		held.Policies = append(held.Policies, h.wire)
	}
	data, err := proto.Marshal(held)
	if err != nil {
		return fmt.Errorf("keep the policy: %w", err)
	}
	return replace(d.keep, data)
}

// replace writes a file durably in place of what it held.
func replace(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(f.Name()))
	}
	return nil
}

// kept is what store wrote; nil where it wrote nothing.
func (d *decider) kept() (*policyv1.Held, error) {
	data, err := os.ReadFile(d.keep)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the last good policy: %w", err)
	}
	held := new(policyv1.Held)
	if err := proto.Unmarshal(data, held); err != nil {
		return nil, fmt.Errorf("read the last good policy %s: %w", d.keep, err)
	}
	return held, nil
}

// load takes up what store wrote, and tells what it was. Nothing having been
// written is no error.
func (d *decider) load(ctx context.Context) (map[string][]string, error) {
	held, err := d.kept()
	if err != nil || held.GetRollout() == nil {
		return nil, err
	}
	keep := d.keep
	d.keep = "" // nothing is written until all is taken
	defer func() { d.keep = keep }()
	if err := errors.Join(d.Revocations(ctx, held.GetRevocations(), nil), d.Grants(ctx, held.GetGrants(), nil), d.Tools(ctx, held.GetTools(), nil)); err != nil {
		return nil, fmt.Errorf("take up the last good policy: %w", err)
	}
	if err := d.Policies(ctx, held.GetPolicies(), nil); err != nil {
		return nil, fmt.Errorf("take up the last good policy: %w", err)
	}
	if err := d.Rollout(ctx, held.GetRollout()); err != nil {
		return nil, fmt.Errorf("take up the last good policy: %w", err)
	}
	has := map[string][]string{xds.RolloutType: {"current"}}
	for _, p := range held.GetPolicies() {
		has[xds.PolicyType] = append(has[xds.PolicyType], p.GetVersion())
	}
	for _, g := range held.GetGrants() {
		has[xds.GrantType] = append(has[xds.GrantType], g.GetId())
	}
	for _, r := range held.GetRevocations() {
		has[xds.RevocationType] = append(has[xds.RevocationType], r.GetId())
	}
	for _, t := range held.GetTools() {
		has[xds.ToolSetType] = append(has[xds.ToolSetType], t.GetConnection())
	}
	d.log.InfoContext(ctx, "the last good policy decides until the control plane answers", "version", held.GetRollout().GetStable())
	return has, nil
}
