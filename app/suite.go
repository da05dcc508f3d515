package app

import (
	"context"
	"errors"
	"log/slog"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/call/protocol"
	"github.com/callgate/callgate/call/protocol/descriptor"
	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/extauthz/connection"
	"github.com/callgate/callgate/policies"
	"github.com/callgate/callgate/policies/suite"
)

// SuiteOf prepares a policy for its tests, without contacting anything: a grpc
// connection's requests can be read only where it names its descriptors.
func SuiteOf(ctx context.Context, p config.Policy, set *policies.Set) (suite.Config, error) {
	var list []*connection.Connection
	functions := map[string][]string{}
	for _, c := range p.Connections {
		c.Credential = config.Credential{} // no test needs it
		for _, f := range c.Functions {
			functions[c.Name] = append(functions[c.Name], f.Name)
		}
		if c.Protocol == "grpc" && c.GRPC.Descriptors == "" {
			list = append(list, &connection.Connection{Name: c.Name, Protocol: call.GRPC, Authorities: c.Match.Authorities, Services: c.Match.Services,
				Parser: undescribed{}, MaxBody: int64(c.MaxBody)})
			continue
		}
		built, err := connect(ctx, c, nil, map[string]*descriptor.Source{}, slog.New(slog.DiscardHandler))
		if err != nil {
			return suite.Config{}, config.Errors{{Position: c.Position, Message: "connection \"" + c.Name + "\": " + err.Error()}}
		}
		list = append(list, built)
	}
	conns, err := connection.NewSet(list)
	if err != nil {
		return suite.Config{}, err
	}
	return suite.Config{Set: set, Connections: endpoints{conns, functions}}, nil
}

// undescribed stands for the parser of a service whose descriptors come from
// the service itself.
type undescribed struct{}

func (undescribed) Parse(*call.Request) (protocol.Invocation, error) {
	return protocol.Invocation{}, errors.New("a request of this connection can't be read without its service; set grpc.descriptors, or give function and args instead")
}

// endpoints shows connections to tests.
type endpoints struct {
	set       *connection.Set
	functions map[string][]string
}

func (e endpoints) Named(name string) (suite.Endpoint, bool) { return e.of(e.set.Named(name)) }

func (e endpoints) Match(authority, path string) (suite.Endpoint, bool) {
	return e.of(e.set.Match(authority, path))
}

func (e endpoints) of(c *connection.Connection) (suite.Endpoint, bool) {
	if c == nil {
		return suite.Endpoint{}, false
	}
	return suite.Endpoint{Name: c.Name, Protocol: c.Protocol, Parser: c.Parser, MaxBody: c.MaxBody, SessionHeader: c.SessionHeader, Functions: e.functions[c.Name]}, true
}
