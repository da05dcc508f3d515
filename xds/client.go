package xds

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v5"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/callgate/callgate/xds/policyv1"
)

// Receiver takes what the control plane sends to a decision server. An error
// refuses a whole response (NACK): what was in force before stays.
type Receiver interface {
	// Policies adds policies that may be asked to decide, and drops others.
	Policies(ctx context.Context, set []*policyv1.Policy, gone []string) error
	// Grants and Revocations change those lists, by id.
	Grants(ctx context.Context, set []*policyv1.Grant, gone []string) error
	Revocations(ctx context.Context, set []*policyv1.Revocation, gone []string) error
	// Tools changes what is pinned of connections' tools, by connection.
	Tools(ctx context.Context, set []*policyv1.ToolSet, gone []string) error
	// Rollout makes one of the policies decide.
	Rollout(ctx context.Context, r *policyv1.Rollout) error
}

// ClientConfig is what a [Client] needs.
type ClientConfig struct {
	Node     string            // this server's id
	Metadata map[string]string // what selectors can pick it by
	Conn     grpc.ClientConnInterface
	Receiver Receiver
	// Has are the resources that the receiver has from before, by type, such
	// as from its disk; those that are no longer served will be dropped.
	Has map[string][]string
	Log *slog.Logger
}

// Client keeps a decision server up to date.
type Client struct {
	cfg  ClientConfig
	held map[string]map[string]string // type → resource → version
}

// NewClient returns a client; Run connects it.
func NewClient(cfg ClientConfig) *Client {
	c := &Client{cfg: cfg, held: map[string]map[string]string{}}
	for _, t := range ownTypes {
		c.held[t] = map[string]string{}
		for _, name := range cfg.Has[t] {
			c.held[t][name] = "" // of a version that nobody knows
		}
	}
	return c
}

// The pauses between attempts to reach the control plane.
const (
	firstPause   = 200 * time.Millisecond
	longestPause = 15 * time.Second
)

// Run follows the control plane until ctx ends. While it is away, what was last
// received stays in force.
func (c *Client) Run(ctx context.Context) error {
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = firstPause, longestPause
	for {
		began := time.Now()
		err := c.follow(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if time.Since(began) > longestPause {
			pause.Reset()
		}
		wait := pause.NextBackOff()
		c.cfg.Log.WarnContext(ctx, "the control plane can't be followed; the last good policy stays in force", "error", err, "again_in", wait.Round(time.Millisecond))
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// largestPolicy bounds a response, in bytes.
const largestPolicy = 128 << 20

// follow takes what one stream brings.
func (c *Client) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(c.cfg.Conn).DeltaAggregatedResources(ctx, grpc.MaxCallRecvMsgSize(largestPolicy))
	if err != nil {
		return fmt.Errorf("open a stream: %w", err)
	}
	fields := map[string]any{}
	for k, v := range c.cfg.Metadata {
		fields[k] = v
	}
	metadata, err := structpb.NewStruct(fields)
	if err != nil {
		return fmt.Errorf("describe this node: %w", err)
	}
	node := &corev3.Node{Id: c.cfg.Node, Cluster: "callgate-servers", Metadata: metadata}
	for _, t := range ownTypes {
		if err := stream.Send(&discoveryv3.DeltaDiscoveryRequest{Node: node, TypeUrl: t, ResourceNamesSubscribe: []string{"*"},
			InitialResourceVersions: maps.Clone(c.held[t])}); err != nil {
			return fmt.Errorf("subscribe: %w", ended(stream, err))
		}
	}
	for {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		answer := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: m.GetTypeUrl(), ResponseNonce: m.GetNonce()}
		if err := c.take(ctx, m); err != nil {
			c.cfg.Log.ErrorContext(ctx, "what the control plane sent is refused; the last good policy stays in force", "type", short(m.GetTypeUrl()), "error", err)
			answer.ErrorDetail = &rpcstatus.Status{Code: int32(codes.InvalidArgument), Message: clipped(err.Error())}
		}
		if err := stream.Send(answer); err != nil {
			return fmt.Errorf("answer: %w", ended(stream, err))
		}
	}
}

// ended is why a stream can't be sent to.
func ended(stream grpc.ClientStream, err error) error {
	if errors.Is(err, io.EOF) {
		if why := stream.RecvMsg(new(discoveryv3.DeltaDiscoveryResponse)); why != nil {
			return why
		}
	}
	return err
}

// clipped keeps an error's text within what a control plane wants to show.
func clipped(s string) string {
	const most = 4096
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}

// take hands a response to the receiver, whole.
func (c *Client) take(ctx context.Context, m *discoveryv3.DeltaDiscoveryResponse) (err error) {
	// What came over the network is not to end the process that decides.
	defer func() {
		if p := recover(); p != nil {
			err = status.Errorf(codes.Internal, "a fault while taking it: %v", p)
		}
	}()
	gone := m.GetRemovedResources()
	switch t := m.GetTypeUrl(); t {
	case PolicyType:
		err = handed(ctx, m, gone, c.cfg.Receiver.Policies)
	case GrantType:
		err = handed(ctx, m, gone, c.cfg.Receiver.Grants)
	case RevocationType:
		err = handed(ctx, m, gone, c.cfg.Receiver.Revocations)
	case ToolSetType:
		err = handed(ctx, m, gone, c.cfg.Receiver.Tools)
	case RolloutType:
		err = handed(ctx, m, gone, func(ctx context.Context, set []*policyv1.Rollout, _ []string) error {
			for _, r := range set {
				if err := c.cfg.Receiver.Rollout(ctx, r); err != nil {
					return err
				}
			}
			return nil
		})
	default:
		return fmt.Errorf("%s was never asked for", t)
	}
	if err != nil {
		return err
	}
	held := c.held[m.GetTypeUrl()]
	for _, r := range m.GetResources() {
		held[r.GetName()] = r.GetVersion()
	}
	for _, name := range gone {
		delete(held, name)
	}
	return nil
}

func handed[T any, P interface {
	*T
	proto.Message
}](ctx context.Context, m *discoveryv3.DeltaDiscoveryResponse, gone []string, to func(context.Context, []P, []string) error) error {
	set := make([]P, 0, len(m.GetResources()))
	for _, r := range m.GetResources() {
		one := P(new(T))
		if err := r.GetResource().UnmarshalTo(one); err != nil {
			return fmt.Errorf("read %s: %w", r.GetName(), err)
		}
		set = append(set, one)
	}
	if len(set) == 0 && len(gone) == 0 && m.GetTypeUrl() != RevocationType {
		return nil // that nothing is revoked is worth knowing
	}
	return to(ctx, set, slices.Clone(gone))
}
