// Package xds serves configuration over ADS and knows who runs which version of
// it. Envoys get their resources; decision servers get policies, grants and
// revocations, which are resource types of our own; [Client] is their end.
package xds

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"sort"
	"sync"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	cachev3 "github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	serverv3 "github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/callgate/callgate/envoy"
	"github.com/callgate/callgate/xds/policyv1"
)

// Config is what a [Server] needs.
type Config struct {
	// Nodes are globs of the node ids that may fetch; none: any.
	Nodes []string
	// Follow and Report tell by a stream's or call's context whether its client
	// may have what is for decision servers, and tell what MCP servers offer;
	// nil: any may.
	Follow, Report func(context.Context) error
	// Node tells by the same context whether its client may be the node that it
	// says it is; nil: it may.
	Node    func(ctx context.Context, id string) error
	Log     *slog.Logger
	Metrics *Metrics
}

// Server serves snapshots to Envoys, and policies to decision servers.
type Server struct {
	cfg   Config
	cache cachev3.SnapshotCache // by node id
	own   map[string]*cachev3.LinearCache
	books *books

	mu      sync.Mutex                                        // one change at a time
	reports func(context.Context, *policyv1.ToolReport) error // nil: not taken
	release prepared
	nodes   map[string]*present // those connected, by id

	barred sync.Map // delta stream → why it may not have our types
	opened sync.Map // stream → its context, where that tells who may be which node
}

// present is a node with open streams.
type present struct {
	node    *corev3.Node
	streams int
}

// Version is one version of what Envoys run.
type Version struct {
	Name      string
	Resources envoy.Resources
}

// Release is what Envoys get: one version for all, or another for some.
type Release struct {
	Stable Version
	Canary *Version
	Nodes  Selector // the Envoys that run the canary
}

// prepared is a release as it is served.
type prepared struct {
	stable, canary *target
	nodes          Selector
}

// target is what an Envoy is to run.
type target struct {
	version  string
	hashes   map[string]string            // type URL → content hash
	each     map[string]map[string]string // type URL → resource → its version
	snapshot *cachev3.Snapshot
}

// New returns a Server that serves nothing until Set.
func New(cfg Config) *Server {
	s := &Server{
		cfg:   cfg,
		cache: cachev3.NewSnapshotCache(true, cachev3.IDHash{}, nil),
		own:   map[string]*cachev3.LinearCache{},
		books: newBooks(cfg.Log, cfg.Metrics),
		nodes: map[string]*present{},
	}
	for _, t := range ownTypes {
		s.own[t] = cachev3.NewLinearCache(t)
	}
	return s
}

// Register adds the ADS service to a gRPC server. Streams end with ctx.
func (s *Server) Register(ctx context.Context, g *grpc.Server) {
	const snapshots = "envoy"
	mux := &cachev3.MuxCache{
		Classify: func(r *cachev3.Request) string {
			if s.own[r.GetTypeUrl()] != nil {
				return r.GetTypeUrl()
			}
			return snapshots
		},
		ClassifyDelta: func(r *cachev3.DeltaRequest) string {
			if s.own[r.GetTypeUrl()] != nil {
				return r.GetTypeUrl()
			}
			return snapshots
		},
		Caches: map[string]cachev3.Cache{snapshots: s.cache},
	}
	for t, c := range s.own {
		mux.Caches[t] = c
	}
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(g, serverv3.NewServer(ctx, mux, callbacks{s}))
	policyv1.RegisterToolsServer(g, reports{s: s})
}

// TakeReports gives what decision servers tell of MCP servers' tools to take.
func (s *Server) TakeReports(take func(context.Context, *policyv1.ToolReport) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reports = take
}

type reports struct {
	policyv1.UnimplementedToolsServer
	s *Server
}

func (r reports) Report(ctx context.Context, in *policyv1.ToolReport) (*policyv1.ToolReportReply, error) {
	if err := r.s.admit(in.GetNode()); err != nil {
		return nil, status.Error(codes.PermissionDenied, err.Error())
	}
	if err := r.s.is(ctx, in.GetNode()); err != nil {
		return nil, err
	}
	if may := r.s.cfg.Report; may != nil {
		if err := may(ctx); err != nil {
			r.s.cfg.Log.WarnContext(ctx, "a report of tools was turned away", "node", in.GetNode(), "connection", in.GetConnection(), "error", err)
			return nil, err
		}
	}
	r.s.mu.Lock()
	take := r.s.reports
	r.s.mu.Unlock()
	if take == nil {
		return nil, status.Error(codes.Unavailable, "nobody takes reports here yet")
	}
	if err := take(ctx, in); err != nil {
		return nil, status.Error(codes.FailedPrecondition, err.Error())
	}
	return new(policyv1.ToolReportReply), nil
}

// Set serves a release to Envoys from now on. Either all of it is taken or none.
func (s *Server) Set(ctx context.Context, r Release) error {
	next := prepared{nodes: r.Nodes}
	var err error
	if next.stable, err = prepare(r.Stable); err != nil {
		return err
	}
	if r.Canary != nil {
		if next.canary, err = prepare(*r.Canary); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.release = next
	s.books.expect(next)
	for id, p := range s.nodes {
		if err := s.cache.SetSnapshot(ctx, id, next.of(p.node).snapshot); err != nil {
			return fmt.Errorf("serve version %s to %s: %w", next.of(p.node).version, id, err)
		}
	}
	return nil
}

// of is what a node is to run.
func (p prepared) of(n *corev3.Node) *target {
	if p.canary != nil && p.nodes.Matches(n) {
		return p.canary
	}
	return p.stable
}

func prepare(v Version) (*target, error) {
	t := &target{version: v.Name, hashes: map[string]string{}, snapshot: &cachev3.Snapshot{}}
	for typeURL, list := range map[string][]proto.Message{
		resourcev3.ListenerType: v.Resources.Listeners, resourcev3.RouteType: v.Resources.Routes, resourcev3.ClusterType: v.Resources.Clusters,
		resourcev3.EndpointType: v.Resources.Endpoints, resourcev3.SecretType: v.Resources.Secrets,
	} {
		items := make([]types.Resource, len(list))
		for i, m := range list {
			items[i] = m
		}
		hash, err := hashOf(list)
		if err != nil {
			return nil, fmt.Errorf("serve version %s: %w", v.Name, err)
		}
		// A type's version is its content's: an Envoy that has the same is
		// told nothing, and need not say so again.
		t.snapshot.Resources[cachev3.GetResponseType(typeURL)] = cachev3.NewResources(hash, items)
		t.hashes[typeURL] = hash
	}
	if err := t.snapshot.Consistent(); err != nil {
		return nil, fmt.Errorf("serve version %s: resources refer to others that are missing: %w", v.Name, err)
	}
	if err := t.snapshot.ConstructVersionMap(); err != nil {
		return nil, fmt.Errorf("serve version %s: %w", v.Name, err)
	}
	t.each = t.snapshot.VersionMap
	return t, nil
}

func hashOf(list []proto.Message) (string, error) {
	var all [][]byte
	for _, m := range list {
		b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
		if err != nil {
			return "", err
		}
		sum := sha256.Sum256(b)
		all = append(all, sum[:])
	}
	sort.Slice(all, func(i, j int) bool { return string(all[i]) < string(all[j]) })
	h := sha256.New()
	for _, b := range all {
		h.Write(b)
	}
	return hex.EncodeToString(h.Sum(nil)[:8]), nil
}

// Status tells what each connected Envoy and decision server runs.
func (s *Server) Status() []Node { return s.books.status() }

// WaitAccepted waits until at least one Envoy is connected and all that are run
// what was last set. It fails at once where one refuses it.
func (s *Server) WaitAccepted(ctx context.Context) error {
	return s.books.wait(ctx, func(b *books) (bool, error) {
		any := false
		for _, st := range b.streams {
			if st.server() {
				continue
			}
			if text := said(st); text != "" {
				return false, &Refusal{Node: st.id(), Version: b.targetOf(st).version, Text: text}
			}
			if any = true; !b.current(st) {
				return false, nil
			}
		}
		return any, nil
	})
}

// WaitEnvoys is WaitAccepted for those Envoys that are connected, be it none.
func (s *Server) WaitEnvoys(ctx context.Context) error {
	if !s.books.envoys() {
		return nil
	}
	return s.WaitAccepted(ctx)
}

// errStranger is what a node with another id gets.
var errStranger = errors.New("this node id may not fetch configuration; add it to envoy.nodes")

// errNameless is what a node gets that doesn't say who it is.
var errNameless = errors.New("the first request of a stream must name its node (node.id)")

func (s *Server) admit(node string) error {
	if len(s.cfg.Nodes) == 0 {
		return nil
	}
	for _, glob := range s.cfg.Nodes {
		if ok, err := path.Match(glob, node); ok && err == nil {
			return nil
		}
	}
	s.cfg.Log.Warn("a node was turned away", "node", node, "nodes", s.cfg.Nodes)
	return errStranger
}

// is refuses who is not the node that it says it is.
func (s *Server) is(ctx context.Context, node string) error {
	if s.cfg.Node == nil {
		return nil
	}
	err := s.cfg.Node(ctx, node)
	if err != nil {
		s.cfg.Log.WarnContext(ctx, "a node was turned away", "node", node, "error", err)
	}
	return err
}

// arrive gives a node that opened a stream what it is to run.
func (s *Server) arrive(n *corev3.Node) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.nodes[n.GetId()]
	if p == nil {
		p = &present{}
		s.nodes[n.GetId()] = p
	}
	p.node = n
	p.streams++
	if s.release.stable == nil {
		return nil
	}
	return s.cache.SetSnapshot(context.Background(), n.GetId(), s.release.of(n).snapshot)
}

// leave forgets a node whose last stream ended.
func (s *Server) leave(n *corev3.Node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.nodes[n.GetId()]
	if p == nil {
		return
	}
	if p.streams--; p.streams == 0 {
		delete(s.nodes, n.GetId())
		s.cache.ClearSnapshot(n.GetId())
	}
}
