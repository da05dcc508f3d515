package xds

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
)

// The kinds of node.
const (
	KindEnvoy  = "envoy"
	KindServer = "server" // decides calls
)

// Node is one connected Envoy or decision server and the version that it runs.
type Node struct {
	ID      string
	Kind    string
	Version string    // the last version it accepted whole
	Pending string    // the version it has not answered yet, if any
	Refused string    // what it said of the version it refused, if it did
	Since   time.Time // of the last change of the above
}

// books keep track of who has been sent what and what they said to it.
type books struct {
	log     *slog.Logger
	metrics *Metrics

	mu      sync.Mutex
	envoy   prepared                     // what Envoys are to run
	served  map[string]map[string]string // of our types: resource → version
	stable  string                       // the policy that decides
	streams map[int64]*stream
	changed chan struct{} // closed and replaced at every change
}

// stream is what is known of the node on one stream.
type stream struct {
	node     *corev3.Node
	nonces   map[string]sent              // by nonce, until answered
	accepted map[string]string            // Envoys: type URL → content hash
	holding  map[string]map[string]string // servers: type URL → resource → version
	refused  map[string]string            // type URL → the node's words
	asked    map[string]bool              // types it subscribed to
	version  string
	since    time.Time
}

func (s *stream) id() string   { return s.node.GetId() }
func (s *stream) server() bool { return s.asked[PolicyType] }

// sent is one response.
type sent struct {
	typeURL, hash string
	has           map[string]string // of our types: resource → version
	gone          []string
}

func newBooks(log *slog.Logger, m *Metrics) *books {
	b := &books{log: log, metrics: m, streams: map[int64]*stream{}, changed: make(chan struct{}), served: map[string]map[string]string{}}
	for _, t := range ownTypes {
		b.served[t] = map[string]string{}
	}
	return b
}

// expect notes what Envoys are to run from now on.
func (b *books) expect(next prepared) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.envoy = next
	for _, s := range b.streams {
		if s.server() {
			continue
		}
		// What was refused may have been mended by what comes now.
		clear(s.refused)
		b.settle(s)
	}
	b.wake()
}

// serve notes what is served of one of our types.
func (b *books) serve(typeURL string, set map[string]string, gone []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	maps.Copy(b.served[typeURL], set)
	for _, name := range gone {
		delete(b.served[typeURL], name)
	}
	for _, s := range b.streams {
		if s.server() {
			delete(s.refused, typeURL)
			b.settle(s)
		}
	}
	b.wake()
}

// decides notes the policy that decision servers are to decide by.
func (b *books) decides(version string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stable = version
}

func (b *books) stream(id int64) *stream {
	s := b.streams[id]
	if s == nil {
		s = &stream{nonces: map[string]sent{}, accepted: map[string]string{}, refused: map[string]string{}, asked: map[string]bool{},
			holding: map[string]map[string]string{}, since: time.Now()}
		b.streams[id] = s
		b.metrics.connected.Inc()
	}
	return s
}

// gone forgets a stream and returns the node that was on it.
func (b *books) gone(id int64) *corev3.Node {
	b.mu.Lock()
	defer b.mu.Unlock()
	s, known := b.streams[id]
	if !known {
		return nil
	}
	delete(b.streams, id)
	b.metrics.connected.Dec()
	b.wake()
	return s.node
}

// asked notes a request: a subscription, or the answer to a response. It is
// true where the stream's node is new, and fails where it never said who it is.
func (b *books) asked(id int64, node *corev3.Node, typeURL, nonce string, refusal *rpcstatus.Status) (arrived bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.streams[id] == nil && node.GetId() == "" {
		return false, errNameless
	}
	s := b.stream(id)
	if s.node == nil {
		s.node, arrived = node, true
	}
	s.asked[typeURL] = true
	answered, known := s.nonces[nonce]
	if !known {
		return arrived, nil
	}
	delete(s.nonces, nonce)
	if refusal != nil {
		s.refused[typeURL] = refusal.GetMessage()
		s.since = time.Now()
		b.metrics.refused.Inc()
		b.log.Error("a node refused its configuration and keeps the last good one", "node", s.id(),
			"type", short(typeURL), "error", refusal.GetMessage())
	} else {
		s.accepted[typeURL] = answered.hash
		s.took(answered)
		delete(s.refused, typeURL)
		b.metrics.accepted.Inc()
		b.settle(s)
	}
	b.wake()
	return arrived, nil
}

// took notes what a decision server has accepted.
func (s *stream) took(a sent) {
	if a.has == nil {
		return
	}
	if s.holding[a.typeURL] == nil {
		s.holding[a.typeURL] = map[string]string{}
	}
	maps.Copy(s.holding[a.typeURL], a.has)
	for _, name := range a.gone {
		delete(s.holding[a.typeURL], name)
	}
}

// brought notes the resources that a node had from an earlier stream. Where an
// Envoy's are the present ones, it is not sent them and has nothing to answer.
func (b *books) brought(id int64, typeURL string, has map[string]string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(has) == 0 {
		return
	}
	s := b.stream(id)
	if b.served[typeURL] != nil {
		s.holding[typeURL] = maps.Clone(has)
		b.wake()
		return
	}
	t := b.targetOf(s)
	if t == nil || !maps.Equal(has, t.each[typeURL]) {
		return
	}
	s.accepted[typeURL] = t.hashes[typeURL]
	b.settle(s)
	b.wake()
}

// sent notes a response to an Envoy or, with what it holds, to a server.
func (b *books) sent(id int64, typeURL, nonce, hash string, resources []*discoveryv3.Resource, gone []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := sent{typeURL: typeURL, hash: hash}
	if b.served[typeURL] != nil {
		out.has, out.gone = map[string]string{}, gone
		for _, r := range resources {
			out.has[r.GetName()] = r.GetVersion()
		}
	}
	b.stream(id).nonces[nonce] = out
}

// targetOf is what an Envoy is to run; nil before the first Set.
func (b *books) targetOf(s *stream) *target {
	if b.envoy.stable == nil {
		return nil
	}
	return b.envoy.of(s.node)
}

// settle notes that a node now runs the version last set, if it does.
func (b *books) settle(s *stream) {
	if !b.current(s) {
		return
	}
	if v := b.due(s); s.version != v {
		s.version, s.since = v, time.Now()
		b.log.Info("a node runs a new version", "node", s.id(), "version", v)
	}
}

// due is the version that a node is to run.
func (b *books) due(s *stream) string {
	if s.server() {
		return b.stable
	}
	if t := b.targetOf(s); t != nil {
		return t.version
	}
	return ""
}

// whole are the types without which an Envoy does not serve a version.
var whole = []string{resourcev3.ClusterType, resourcev3.ListenerType, resourcev3.RouteType}

// current reports whether a node has what it is to run and waits for no answer.
func (b *books) current(s *stream) bool {
	if len(s.nonces) > 0 || len(s.refused) > 0 {
		return false
	}
	if s.server() {
		for t, want := range b.served {
			if !s.asked[t] || !maps.Equal(s.holding[t], want) {
				return false
			}
		}
		return true
	}
	t := b.targetOf(s)
	if t == nil {
		return false
	}
	for _, typeURL := range whole {
		if !s.asked[typeURL] || s.accepted[typeURL] != t.hashes[typeURL] {
			return false
		}
	}
	return t.version != ""
}

// envoys reports whether any Envoy is connected.
func (b *books) envoys() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.streams {
		if !s.server() {
			return true
		}
	}
	return false
}

func (b *books) wake() {
	close(b.changed)
	b.changed = make(chan struct{})
}

func (b *books) status() []Node {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make([]Node, 0, len(b.streams))
	for _, s := range b.streams {
		n := Node{ID: s.id(), Kind: KindEnvoy, Version: s.version, Since: s.since, Refused: said(s)}
		if s.server() {
			n.Kind = KindServer
		}
		if n.Refused == "" && !b.current(s) {
			n.Pending = b.due(s)
		}
		out = append(out, n)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Kind+out[i].ID < out[j].Kind+out[j].ID })
	return out
}

// said joins what a node refused.
func said(s *stream) string {
	var parts []string
	for t, text := range s.refused {
		parts = append(parts, short(t)+": "+text)
	}
	sort.Strings(parts)
	return strings.Join(parts, "; ")
}

// wait waits until done says so. Its error is done's, or a *[Behind] that names
// who keeps it waiting.
func (b *books) wait(ctx context.Context, done func(*books) (bool, error)) error {
	for {
		b.mu.Lock()
		ok, err := done(b)
		changed := b.changed
		b.mu.Unlock()
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return b.behind()
		case <-changed:
		}
	}
}

// behind names the nodes that are not current.
func (b *books) behind() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out Behind
	for _, s := range b.streams {
		if !b.current(s) && !slices.Contains(out.Nodes, s.id()) {
			out.Nodes = append(out.Nodes, s.id())
		}
	}
	sort.Strings(out.Nodes)
	if len(out.Nodes) == 0 {
		out.Nodes = []string{"no node is connected"}
	}
	return &out
}

// short is a type URL's last word.
func short(typeURL string) string { return typeURL[strings.LastIndexByte(typeURL, '.')+1:] }
