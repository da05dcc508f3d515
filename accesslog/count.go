package accesslog

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	datav3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"

	"github.com/callgate/callgate/call"
)

// counts are what was received since the last count was recorded.
type counts struct {
	mu    sync.Mutex
	from  time.Time
	nodes map[string]*count // by Envoy
}

// count is what one Envoy sent.
type count struct {
	call.CountedEvent
	logged int // entries that were logged as bypassing
}

const (
	// maxNodes bounds the Envoys that are counted apart, since a node's id is
	// whatever it says; otherNodes are counted together.
	maxNodes   = 1000
	otherNodes = "(others)"
	maxNode    = 256 // bytes of an id
	// maxLogged bounds the entries of one Envoy that are logged between two
	// counts.
	maxLogged = 20
)

// count takes one entry of a request that ended, which was so many calls.
func (s *Server) count(ctx context.Context, node string, calls int, e *datav3.HTTPAccessLogEntry) {
	decided := calls > 0
	reached := !decided && reachedUpstream(e)
	s.counts.mu.Lock()
	c := s.counts.of(node)
	c.Entries++
	if decided {
		c.Decided++
		c.Calls += uint64(calls)
	} else {
		c.Undecided++
	}
	log := false
	if reached {
		c.Reached++
		log = c.logged < maxLogged
		if log {
			c.logged++
		}
	}
	s.counts.mu.Unlock()
	if decided {
		return
	}
	s.cfg.Metrics.undecided.Inc()
	if !reached {
		return // Envoy refused it before ext_authz saw it
	}
	s.cfg.Metrics.bypassed.Inc()
	if log {
		common := e.GetCommonProperties()
		s.cfg.Log.ErrorContext(ctx, "a request reached an upstream without a decision: ext_authz is missing on its route, or let it pass when it failed",
			"envoy_node", node, "route", common.GetRouteName(), "cluster", common.GetUpstreamCluster(), "upstream", address(common.GetUpstreamRemoteAddress()),
			"method", e.GetRequest().GetRequestMethod().String(), "status", e.GetResponse().GetResponseCode().GetValue(), "started", common.GetStartTime().AsTime())
	}
}

// of is the count of an Envoy. The caller holds mu.
func (c *counts) of(node string) *count {
	node = strings.ToValidUTF8(node[:min(len(node), maxNode)], "\uFFFD")
	if c.nodes[node] == nil {
		if len(c.nodes) >= maxNodes {
			node = otherNodes
		}
		if c.nodes[node] == nil {
			c.nodes[node] = &count{CountedEvent: call.CountedEvent{Node: node, From: c.from}}
		}
	}
	return c.nodes[node]
}

// reachedUpstream reports whether any byte of the request went to an upstream.
// The fields are those of envoy/data/accesslog/v3/accesslog.proto.
func reachedUpstream(e *datav3.HTTPAccessLogEntry) bool {
	common := e.GetCommonProperties()
	return common.GetTimeToFirstUpstreamTxByte() != nil || common.GetTimeToFirstUpstreamRxByte() != nil ||
		e.GetResponse().GetResponseCodeDetails() == "via_upstream"
}

// Run records the counts, of each Envoy that sent anything, every CountEvery,
// until ctx ends. Flush records the rest.
func (s *Server) Run(ctx context.Context) error {
	tick := time.NewTicker(s.cfg.CountEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := s.Flush(ctx); err != nil {
				s.cfg.Log.ErrorContext(ctx, "what access logs counted could not be recorded; it goes into the next count", "error", err)
			}
		}
	}
}

// Flush records the counts since the last time. What can't be recorded stays
// for the next.
func (s *Server) Flush(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx) // broken off, it might be recorded and counted again
	now := s.cfg.Now()
	s.counts.mu.Lock()
	nodes := s.counts.nodes
	s.counts.nodes, s.counts.from = map[string]*count{}, now
	s.counts.mu.Unlock()
	var errs []error
	for _, node := range slices.Sorted(maps.Keys(nodes)) {
		c := nodes[node]
		if c.Reached > 0 {
			s.cfg.Log.ErrorContext(ctx, "requests reached upstreams without a decision", "envoy_node", node, "requests", c.Reached, "since", c.From)
		}
		c.To = now
		err := s.cfg.Recorder.Record(ctx, call.Event{Kind: call.Counted, Time: now, Counted: &c.CountedEvent})
		if err != nil {
			errs = append(errs, fmt.Errorf("record the count of %s: %w", node, err))
			s.counts.put(c)
		}
	}
	return errors.Join(errs...)
}

// put adds a count that could not be recorded to the present one.
func (c *counts) put(old *count) {
	c.mu.Lock()
	defer c.mu.Unlock()
	to := c.of(old.Node)
	to.Entries += old.Entries
	to.Decided += old.Decided
	to.Undecided += old.Undecided
	to.Reached += old.Reached
	to.Calls += old.Calls
	if old.From.Before(to.From) {
		to.From = old.From
	}
}
