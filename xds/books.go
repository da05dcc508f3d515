package xds

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"sort"
	"strings"
	"sync"
	"time"

	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
)

// Node is what one connected Envoy runs.
type Node struct {
	ID      string
	Version string    // the last version it accepted whole
	Pending string    // the version it has not answered yet, if any
	Refused string    // what it said of the version it refused, if it did
	Since   time.Time // of the last change of the above
}

// books remembers what was sent under which nonce, and what was said to it. The
// servers' acknowledgements come by callback only.
type books struct {
	log     *slog.Logger
	metrics *Metrics

	mu      sync.Mutex
	version string                       // last set
	want    map[string]string            // type URL → content hash of that version
	each    map[string]map[string]string // type URL → resource → its version
	streams map[int64]*stream
	changed chan struct{} // closed and replaced at every change
}

type stream struct {
	node     string
	nonces   map[string]sent   // by nonce, until answered
	accepted map[string]string // type URL → content hash
	refused  map[string]string // type URL → the Envoy's words
	asked    map[string]bool   // types it subscribed to
	version  string
	since    time.Time
}

type sent struct{ typeURL, hash string }

func newBooks(log *slog.Logger, m *Metrics) *books {
	return &books{log: log, metrics: m, streams: map[int64]*stream{}, changed: make(chan struct{})}
}

// expect notes what the Envoys should run from now on.
func (b *books) expect(version string, hashes map[string]string, each map[string]map[string]string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.version, b.want, b.each = version, hashes, each
	for _, s := range b.streams {
		// What was refused may have been mended by what comes now.
		clear(s.refused)
		b.settle(s)
	}
	b.wake()
}

func (b *books) stream(id int64) *stream {
	s := b.streams[id]
	if s == nil {
		s = &stream{nonces: map[string]sent{}, accepted: map[string]string{}, refused: map[string]string{}, asked: map[string]bool{}, since: time.Now()}
		b.streams[id] = s
		b.metrics.connected.Inc()
	}
	return s
}

func (b *books) gone(id int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, known := b.streams[id]; known {
		delete(b.streams, id)
		b.metrics.connected.Dec()
		b.wake()
	}
}

// asked takes a request: the first of a type subscribes, a later one answers
// what was sent under its nonce.
func (b *books) asked(id int64, node, typeURL, nonce string, refusal *rpcstatus.Status) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.stream(id)
	if node != "" {
		s.node = node
	}
	s.asked[typeURL] = true
	answered, known := s.nonces[nonce]
	if !known {
		return
	}
	delete(s.nonces, nonce)
	if refusal != nil {
		s.refused[typeURL] = refusal.GetMessage()
		s.since = time.Now()
		b.metrics.refused.Inc()
		b.log.Error("an Envoy refused its configuration and keeps the last good one", "node", s.node,
			"type", short(typeURL), "version", b.version, "error", refusal.GetMessage())
	} else {
		s.accepted[typeURL] = answered.hash
		delete(s.refused, typeURL)
		b.metrics.accepted.Inc()
		b.settle(s)
	}
	b.wake()
}

// brought takes what an Envoy says it has from an earlier stream. What it has
// already it is not sent again, so it will not acknowledge it either.
func (b *books) brought(id int64, typeURL string, has map[string]string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(has) == 0 || !maps.Equal(has, b.each[typeURL]) {
		return
	}
	s := b.stream(id)
	s.accepted[typeURL] = b.want[typeURL]
	b.settle(s)
	b.wake()
}

func (b *books) sent(id int64, typeURL, nonce, hash string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stream(id).nonces[nonce] = sent{typeURL, hash}
}

// settle notes the version if the stream now runs all of it.
func (b *books) settle(s *stream) {
	if b.current(s) && s.version != b.version {
		s.version, s.since = b.version, time.Now()
		b.log.Info("an Envoy runs a new version", "node", s.node, "version", b.version)
	}
}

// whole are the types of which every Envoy gets all there are. Of the others
// (endpoints, secrets) it asks for some by name, and is sent nothing where only
// the rest changed.
var whole = []string{resourcev3.ClusterType, resourcev3.ListenerType, resourcev3.RouteType}

// current reports whether a stream has accepted all that it subscribed to.
func (b *books) current(s *stream) bool {
	for _, t := range whole {
		if !s.asked[t] || s.accepted[t] != b.want[t] {
			return false
		}
	}
	return b.version != "" && len(s.nonces) == 0 && len(s.refused) == 0
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
		n := Node{ID: s.node, Version: s.version, Since: s.since, Refused: said(s)}
		if s.version != b.version && n.Refused == "" {
			n.Pending = b.version
		}
		out = append(out, n)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].ID < out[j].ID })
	return out
}

func said(s *stream) string {
	var parts []string
	for t, text := range s.refused {
		parts = append(parts, short(t)+": "+text)
	}
	sort.Strings(parts)
	return strings.Join(parts, "; ")
}

func (b *books) wait(ctx context.Context) error {
	for {
		b.mu.Lock()
		all := len(b.streams) > 0
		var refusal error
		for _, s := range b.streams {
			if text := said(s); text != "" {
				refusal = fmt.Errorf("node %s refused version %s: %s", s.node, b.version, text)
			}
			all = all && b.current(s)
		}
		changed := b.changed
		b.mu.Unlock()
		switch {
		case refusal != nil:
			return refusal
		case all:
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for Envoys to accept: %w", ctx.Err())
		case <-changed:
		}
	}
}

// short is a type URL's last name.
func short(typeURL string) string { return typeURL[strings.LastIndexByte(typeURL, '.')+1:] }
