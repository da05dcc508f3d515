package xds

import (
	"context"
	"fmt"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
)

// callbacks feed the books. Envoys made by this project speak delta; state of
// the world is understood too, since meshes may speak it. Decision servers
// speak delta only.
type callbacks struct{ *Server }

// Delta and state-of-the-world streams are counted apart, so one kind's ids are
// made negative to keep them from meeting.
func delta(id int64) int64 { return -id - 1 }

func (c callbacks) OnStreamOpen(ctx context.Context, id int64, _ string) error {
	c.open(ctx, id)
	return nil
}

// open remembers a stream's context for when it names its node.
func (c callbacks) open(ctx context.Context, id int64) {
	if c.cfg.Node != nil {
		c.opened.Store(id, ctx)
	}
}

func (c callbacks) OnDeltaStreamOpen(ctx context.Context, id int64, _ string) error {
	c.open(ctx, delta(id))
	if c.cfg.Follow == nil {
		return nil
	}
	if err := c.cfg.Follow(ctx); err != nil {
		c.barred.Store(id, err)
	}
	return nil
}

// mayHave says why a delta stream may not ask for a type.
func (c callbacks) mayHave(id int64, typeURL string) error {
	if c.own[typeURL] == nil {
		return nil
	}
	if why, is := c.barred.Load(id); is {
		return why.(error)
	}
	return nil
}

func (c callbacks) OnStreamClosed(id int64, _ *corev3.Node) { c.closed(id) }

func (c callbacks) OnDeltaStreamClosed(id int64, _ *corev3.Node) {
	c.barred.Delete(id)
	c.closed(delta(id))
}

func (c callbacks) closed(id int64) {
	c.opened.Delete(id)
	if n := c.books.gone(id); n != nil {
		c.leave(n)
	}
}

// asked takes a request. Only the first of a stream need name the node.
func (c callbacks) asked(id int64, n *corev3.Node, typeURL, nonce string, refusal *rpcstatus.Status) error {
	if n.GetId() != "" {
		if err := c.admit(n.GetId()); err != nil {
			return err
		}
		if ctx, known := c.opened.Load(id); known {
			if err := c.is(ctx.(context.Context), n.GetId()); err != nil {
				return err
			}
		}
	}
	arrived, err := c.books.asked(id, n, typeURL, nonce, refusal)
	if err != nil || !arrived {
		return err
	}
	return c.arrive(n)
}

func (c callbacks) OnStreamRequest(id int64, r *discoveryv3.DiscoveryRequest) error {
	if c.own[r.GetTypeUrl()] != nil {
		return fmt.Errorf("%s is served over delta ADS only", r.GetTypeUrl())
	}
	return c.asked(id, r.GetNode(), r.GetTypeUrl(), r.GetResponseNonce(), r.GetErrorDetail())
}

func (c callbacks) OnStreamDeltaRequest(id int64, r *discoveryv3.DeltaDiscoveryRequest) error {
	if err := c.mayHave(id, r.GetTypeUrl()); err != nil {
		c.cfg.Log.Warn("a node was turned away", "node", r.GetNode().GetId(), "type", short(r.GetTypeUrl()), "error", err)
		return err
	}
	if err := c.asked(delta(id), r.GetNode(), r.GetTypeUrl(), r.GetResponseNonce(), r.GetErrorDetail()); err != nil {
		return err
	}
	c.books.brought(delta(id), r.GetTypeUrl(), r.GetInitialResourceVersions())
	return nil
}

func (c callbacks) OnStreamResponse(_ context.Context, id int64, _ *discoveryv3.DiscoveryRequest, r *discoveryv3.DiscoveryResponse) {
	c.books.sent(id, r.GetTypeUrl(), r.GetNonce(), r.GetVersionInfo(), nil, nil)
}

func (c callbacks) OnStreamDeltaResponse(id int64, _ *discoveryv3.DeltaDiscoveryRequest, r *discoveryv3.DeltaDiscoveryResponse) {
	c.books.sent(delta(id), r.GetTypeUrl(), r.GetNonce(), r.GetSystemVersionInfo(), r.GetResources(), r.GetRemovedResources())
}

func (callbacks) OnFetchRequest(context.Context, *discoveryv3.DiscoveryRequest) error { return nil }

func (callbacks) OnFetchResponse(*discoveryv3.DiscoveryRequest, *discoveryv3.DiscoveryResponse) {}
