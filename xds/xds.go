// Package xds serves Envoy's configuration over aggregated discovery (ADS,
// delta and state of the world) and keeps the books: which Envoy has accepted,
// and which refused, what.
//
// All Envoys get the same. What is served changes as a whole or not at all.
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

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	cachev3 "github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	serverv3 "github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/callgate/callgate/envoy"
)

// Config is what a [Server] needs.
type Config struct {
	// Nodes are globs of the node ids that may fetch; none: any.
	Nodes   []string
	Log     *slog.Logger
	Metrics *Metrics
}

// Server serves resources to Envoys.
type Server struct {
	cfg   Config
	cache cachev3.SnapshotCache
	books *books
}

// everyone is the one cache key: no Envoy gets anything of its own.
const everyone = "all"

type oneForAll struct{}

func (oneForAll) ID(*corev3.Node) string { return everyone }

// New returns a Server that serves nothing yet; Envoys that connect wait.
func New(cfg Config) *Server {
	return &Server{
		cfg:   cfg,
		cache: cachev3.NewSnapshotCache(true, oneForAll{}, nil),
		books: newBooks(cfg.Log, cfg.Metrics),
	}
}

// Register adds the ADS service to a gRPC server. Streams end with ctx.
func (s *Server) Register(ctx context.Context, g *grpc.Server) {
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(g, serverv3.NewServer(ctx, s.cache, callbacks{s}))
}

// Set serves resources from now on, under the given version. Either all of
// them are taken or none.
func (s *Server) Set(ctx context.Context, version string, r envoy.Resources) error {
	snapshot := &cachev3.Snapshot{}
	hashes := map[string]string{}
	for typeURL, list := range map[string][]proto.Message{
		resourcev3.ListenerType: r.Listeners, resourcev3.RouteType: r.Routes, resourcev3.ClusterType: r.Clusters,
		resourcev3.EndpointType: r.Endpoints, resourcev3.SecretType: r.Secrets,
	} {
		items := make([]types.Resource, len(list))
		for i, m := range list {
			items[i] = m
		}
		hash, err := hashOf(list)
		if err != nil {
			return fmt.Errorf("serve version %s: %w", version, err)
		}
		// A type's version is its content's: an Envoy that has the same is
		// told nothing, and need not say so again.
		snapshot.Resources[cachev3.GetResponseType(typeURL)] = cachev3.NewResources(hash, items)
		hashes[typeURL] = hash
	}
	if err := snapshot.Consistent(); err != nil {
		return fmt.Errorf("serve version %s: resources refer to others that are missing: %w", version, err)
	}
	if err := snapshot.ConstructVersionMap(); err != nil {
		return fmt.Errorf("serve version %s: %w", version, err)
	}
	s.books.expect(version, hashes, snapshot.VersionMap)
	if err := s.cache.SetSnapshot(ctx, everyone, snapshot); err != nil {
		return fmt.Errorf("serve version %s: %w", version, err)
	}
	return nil
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

// Status tells what each connected Envoy runs.
func (s *Server) Status() []Node { return s.books.status() }

// WaitAccepted waits until at least one Envoy is connected and all that are run
// the version last set. It fails at once where one refuses it.
func (s *Server) WaitAccepted(ctx context.Context) error { return s.books.wait(ctx) }

// errStranger is what an Envoy with another node id gets.
var errStranger = errors.New("this node id may not fetch configuration; add it to envoy.nodes")

func (s *Server) admit(node string) error {
	if len(s.cfg.Nodes) == 0 {
		return nil
	}
	for _, glob := range s.cfg.Nodes {
		if ok, err := path.Match(glob, node); ok && err == nil {
			return nil
		}
	}
	s.cfg.Log.Warn("an Envoy was turned away", "node", node, "nodes", s.cfg.Nodes)
	return errStranger
}
