package xds

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	cachev3 "github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"google.golang.org/protobuf/proto"

	"github.com/callgate/callgate/xds/policyv1"
)

// The resource types of our own, in the order in which a decision server must
// have them: a rollout names policies.
const (
	PolicyType     = "type.googleapis.com/callgate.policy.v1.Policy"
	GrantType      = "type.googleapis.com/callgate.policy.v1.Grant"
	RevocationType = "type.googleapis.com/callgate.policy.v1.Revocation"
	ToolSetType    = "type.googleapis.com/callgate.policy.v1.ToolSet"
	RolloutType    = "type.googleapis.com/callgate.policy.v1.Rollout"
)

var ownTypes = []string{PolicyType, GrantType, RevocationType, ToolSetType, RolloutType}

// rolloutName is the one Rollout's.
const rolloutName = "current"

// Offer sends a policy to the decision servers, which compile it and do not use
// it yet, and waits until all that are connected have accepted it. Where one
// refuses it, it is taken back from all, and the error says who and why. When
// ctx ends first, the policy stays offered and the error is a *[Behind].
func (s *Server) Offer(ctx context.Context, p *policyv1.Policy) error {
	if err := s.put(PolicyType, map[string]proto.Message{p.GetVersion(): p}, nil); err != nil {
		return err
	}
	err := s.books.wait(ctx, func(b *books) (bool, error) {
		all := true
		for _, st := range b.streams {
			if !st.server() {
				continue
			}
			if text := st.refused[PolicyType]; text != "" {
				return false, &Refusal{Node: st.id(), Version: p.GetVersion(), Text: text}
			}
			if _, has := st.holding[PolicyType][p.GetVersion()]; !has {
				all = false
			}
		}
		return all, nil
	})
	var refusal *Refusal
	if errors.As(err, &refusal) {
		return joined(err, s.Withdraw(p.GetVersion()))
	}
	return err
}

func joined(err, also error) error {
	if also == nil {
		return err
	}
	return fmt.Errorf("%w; taking it back: %w", err, also)
}

// Refusal is a node that can't run what it was sent.
type Refusal struct{ Node, Version, Text string }

func (r *Refusal) Error() string {
	return fmt.Sprintf("node %s refused version %s: %s", r.Node, r.Version, r.Text)
}

// Behind are nodes that have not answered in time.
type Behind struct{ Nodes []string }

func (b *Behind) Error() string {
	return "not answered in time: " + strings.Join(b.Nodes, ", ")
}

// Withdraw takes policies back.
func (s *Server) Withdraw(versions ...string) error { return s.put(PolicyType, nil, versions) }

// Offered lists the policies that decision servers have been sent.
func (s *Server) Offered() []string {
	return slices.Sorted(maps.Keys(s.own[PolicyType].GetResources()))
}

// Rollout says by which of the offered policies calls are decided.
func (s *Server) Rollout(r *policyv1.Rollout) error {
	s.books.decides(r.GetStable())
	return s.put(RolloutType, map[string]proto.Message{rolloutName: r}, nil)
}

// Grants adds or changes grants and takes others back, by id.
func (s *Server) Grants(list []*policyv1.Grant, gone []string) error {
	set := map[string]proto.Message{}
	for _, g := range list {
		set[g.GetId()] = g
	}
	return s.put(GrantType, set, gone)
}

// Revocations adds revocations and takes others back, by id.
func (s *Server) Revocations(list []*policyv1.Revocation, gone []string) error {
	set := map[string]proto.Message{}
	for _, r := range list {
		set[r.GetId()] = r
	}
	return s.put(RevocationType, set, gone)
}

// Tools says what is pinned of MCP connections' tools.
func (s *Server) Tools(list []*policyv1.ToolSet) error {
	set := map[string]proto.Message{}
	for _, t := range list {
		set[t.GetConnection()] = t
	}
	return s.put(ToolSetType, set, nil)
}

// WaitServers waits until every connected decision server has accepted all that
// it was sent; be it none. The error is a *[Refusal], or a *[Behind] when ctx
// ends first.
func (s *Server) WaitServers(ctx context.Context) error {
	return s.books.wait(ctx, func(b *books) (bool, error) {
		all := true
		for _, st := range b.streams {
			if !st.server() {
				continue
			}
			if text := said(st); text != "" {
				return false, &Refusal{Node: st.id(), Version: b.stable, Text: text}
			}
			all = all && b.current(st)
		}
		return all, nil
	})
}

// put changes what is served of one of our types.
func (s *Server) put(typeURL string, set map[string]proto.Message, gone []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	versions, items := map[string]string{}, map[string]types.Resource{}
	for name, m := range set {
		data, err := cachev3.MarshalResource(m)
		if err != nil {
			return fmt.Errorf("serve %s %s: %w", short(typeURL), name, err)
		}
		versions[name], items[name] = cachev3.HashResource(data), m
	}
	s.books.serve(typeURL, versions, gone)
	if err := s.own[typeURL].UpdateResources(items, gone); err != nil {
		return fmt.Errorf("serve %s: %w", short(typeURL), err)
	}
	return nil
}
