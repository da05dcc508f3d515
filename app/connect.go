package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/call/protocol"
	"github.com/callgate/callgate/call/protocol/descriptor"
	"github.com/callgate/callgate/call/sql"
	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/extauthz/connection"
	"github.com/callgate/callgate/extauthz/credential"
	"github.com/callgate/callgate/policies"
)

// connect builds one connection for the decision service.
func connect(ctx context.Context, c config.Connection, own ownDetectors, sources map[string]*descriptor.Source, log *slog.Logger) (*connection.Connection, error) {
	secret, err := credential.New(credential.Config{Header: c.Credential.Header, Prefix: c.Credential.Prefix, Env: c.Credential.Secret.Env, File: c.Credential.Secret.File})
	if err != nil {
		return nil, err
	}
	cfg := protocol.Config{Protocol: call.Protocol(c.Protocol), BasePath: c.Match.Path, MaxBody: int64(c.MaxBody), Streaming: c.GRPC.Streaming, Dialect: sql.Dialect(c.SQL.Dialect),
		GraphQL: protocol.GraphQL{MaxDepth: int(c.GraphQL.MaxDepth), MaxAliases: int(c.GraphQL.MaxAliases), MaxFields: int(c.GraphQL.MaxFields),
			Introspection: c.GraphQL.Introspection, Several: c.GraphQL.Several}}
	for _, f := range c.Functions {
		cfg.Functions = append(cfg.Functions, protocol.Function{Name: f.Name, Method: f.Method, Path: f.Path})
	}
	if c.Protocol == "grpc" {
		source, err := descriptors(ctx, c, log)
		if err != nil {
			return nil, err
		}
		sources[c.Name], cfg.Methods = source, source
	}
	parser, err := protocol.New(cfg)
	if err != nil {
		return nil, err
	}
	var batches *protocol.Batches
	if c.Batch.Accept {
		if batches, err = protocol.NewBatches(cfg.Protocol, int(c.Batch.Max)); err != nil {
			return nil, err
		}
	}
	return &connection.Connection{
		Name: c.Name, Version: c.Version, Protocol: call.Protocol(c.Protocol), Proof: strings.TrimPrefix(c.Proof, "none"), SessionHeader: c.SessionHeader, Shadow: c.Mode == "shadow", Authorities: c.Match.Authorities, Path: c.Match.Path, Services: c.Match.Services,
		Parser: parser, Batches: batches, Credential: secret, Mask: masks(c, own), RequestMask: requestMasks(c, own), MaxBody: int64(c.MaxBody), MaxResponse: int64(c.MaxResponse),
		Response: call.ResponseSettings{LookBehind: int64(c.LookBehind), Binary: c.Binary, Texts: c.EventTexts, Private: len(c.Mask) > 0},
		Record: call.RecordSettings{MaxBody: int64(c.Record.MaxBody), Response: c.Record.Response, Headers: c.Record.Headers,
			Unrecorded: c.Record.Unavailable == "allow",
			Originals:  c.Record.Originals,
			KeepBodies: int64(time.Duration(c.Record.Keep.Bodies).Seconds()), KeepCalls: int64(time.Duration(c.Record.Keep.Calls).Seconds())},
	}, nil
}

// private reports whether a rule masks responses of a connection, for some callers
// or calls.
func private(p config.Policy, connection string) bool {
	return slices.ContainsFunc(p.Rules, func(r config.Rule) bool {
		return r.Action == policies.Mask && !r.Shadow && (len(r.Connections) == 0 || slices.ContainsFunc(r.Connections, func(glob string) bool {
			ok, err := path.Match(glob, connection) // as in rules: names have no slash
			return ok || err != nil
		}))
	})
}

// firstReflection is how long a start or a change of policy waits for a
// service's first answer; calls are denied with the reason until it comes.
const firstReflection = 2 * time.Second

func descriptors(ctx context.Context, c config.Connection, log *slog.Logger) (*descriptor.Source, error) {
	if c.GRPC.Descriptors != "" {
		return descriptor.File(c.GRPC.Descriptors, c.Match.Services)
	}
	u, err := url.Parse(c.Upstream.URL)
	if err != nil {
		return nil, fmt.Errorf("upstream.url: %w", err)
	}
	creds, err := upstreamCredentials(u, c.Upstream)
	if err != nil {
		return nil, err
	}
	conn, err := grpc.NewClient(u.Host, grpc.WithTransportCredentials(creds))
	if err != nil {
		return nil, fmt.Errorf("reach its reflection: %w", err)
	}
	source := descriptor.Reflected(c.Match.Services)
	go func() {
		source.Refresh(ctx, conn, log)
		_ = conn.Close() // nothing was written to it
	}()
	for deadline := time.Now().Add(firstReflection); time.Now().Before(deadline) && !source.Known(); time.Sleep(10 * time.Millisecond) {
	}
	return source, nil
}

// messages finds the types of gRPC methods' messages for extproc.
type messages struct {
	// sources are those of each policy version at hand, the one that decides
	// first.
	sources atomic.Pointer[[]map[string]*descriptor.Source]
}

// use makes messages look in the sources of these versions.
func (m *messages) use(sources map[string]map[string]*descriptor.Source, stable string) {
	list := []map[string]*descriptor.Source{sources[stable]}
	for v, s := range sources {
		if v != stable {
			list = append(list, s)
		}
	}
	m.sources.Store(&list)
}

func (m *messages) Output(connection, function string) (protoreflect.MessageDescriptor, error) {
	d, err := m.method(connection, function)
	if err != nil {
		return nil, err
	}
	return d.Output(), nil
}

func (m *messages) Input(connection, function string) (protoreflect.MessageDescriptor, error) {
	d, err := m.method(connection, function)
	if err != nil {
		return nil, err
	}
	return d.Input(), nil
}

func (m *messages) method(connection, function string) (protoreflect.MethodDescriptor, error) {
	err := errors.New("there are no descriptors for this connection")
	sources := m.sources.Load()
	if sources == nil {
		return nil, err
	}
	for _, s := range *sources {
		if s[connection] == nil {
			continue
		}
		var d protoreflect.MethodDescriptor
		if d, err = s[connection].Method(function); err == nil {
			return d, nil
		}
	}
	return nil, err
}
