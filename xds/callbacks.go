package xds

import (
	"context"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
)

// callbacks feeds the books from both kinds of stream. Streams of the two kinds
// are numbered apart, so delta streams count from below zero.
type callbacks struct{ *Server }

func delta(id int64) int64 { return -id - 1 }

func (c callbacks) OnStreamOpen(context.Context, int64, string) error      { return nil }
func (c callbacks) OnDeltaStreamOpen(context.Context, int64, string) error { return nil }

func (c callbacks) OnStreamClosed(id int64, _ *corev3.Node)      { c.books.gone(id) }
func (c callbacks) OnDeltaStreamClosed(id int64, _ *corev3.Node) { c.books.gone(delta(id)) }

func (c callbacks) OnStreamRequest(id int64, r *discoveryv3.DiscoveryRequest) error {
	if n := r.GetNode().GetId(); n != "" {
		if err := c.admit(n); err != nil {
			return err
		}
	}
	c.books.asked(id, r.GetNode().GetId(), r.GetTypeUrl(), r.GetResponseNonce(), r.GetErrorDetail())
	return nil
}

func (c callbacks) OnStreamDeltaRequest(id int64, r *discoveryv3.DeltaDiscoveryRequest) error {
	if n := r.GetNode().GetId(); n != "" {
		if err := c.admit(n); err != nil {
			return err
		}
	}
	c.books.asked(delta(id), r.GetNode().GetId(), r.GetTypeUrl(), r.GetResponseNonce(), r.GetErrorDetail())
	c.books.brought(delta(id), r.GetTypeUrl(), r.GetInitialResourceVersions())
	return nil
}

func (c callbacks) OnStreamResponse(_ context.Context, id int64, _ *discoveryv3.DiscoveryRequest, r *discoveryv3.DiscoveryResponse) {
	c.books.sent(id, r.GetTypeUrl(), r.GetNonce(), r.GetVersionInfo())
}

func (c callbacks) OnStreamDeltaResponse(id int64, _ *discoveryv3.DeltaDiscoveryRequest, r *discoveryv3.DeltaDiscoveryResponse) {
	c.books.sent(delta(id), r.GetTypeUrl(), r.GetNonce(), r.GetSystemVersionInfo())
}

func (callbacks) OnFetchRequest(context.Context, *discoveryv3.DiscoveryRequest) error { return nil }

func (callbacks) OnFetchResponse(*discoveryv3.DiscoveryRequest, *discoveryv3.DiscoveryResponse) {}
