package suite

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/call/protocol"
	"github.com/callgate/callgate/config"
)

// callOf makes the call of a test, or says why it is denied before the rules
// are asked.
func callOf(connections Connections, t config.Test) (call.Call, *protocol.Error, error) {
	c := call.Call{Time: t.Now, Connection: t.Call.Connection, Session: t.Call.Session}
	if err := identify(&c, t.Identity); err != nil {
		return c, nil, err
	}
	if t.Call.Source != "" {
		addr, err := netip.ParseAddr(t.Call.Source)
		if err != nil {
			return c, nil, fmt.Errorf("call.source: %w", err)
		}
		c.Request.Source = netip.AddrPortFrom(addr, 0)
	}
	if t.Call.Request != nil {
		denied, err := request(connections, &c, t.Call.Request)
		return c, denied, err
	}
	c.Function = t.Call.Function
	endpoint, known := connections.Named(c.Connection)
	switch {
	case !known:
		return c, nil, fmt.Errorf("the policy has no connection %q", c.Connection)
	case endpoint.Functions != nil && !slices.Contains(endpoint.Functions, c.Function):
		return c, nil, fmt.Errorf("connection %q has no function %q; it has %s", c.Connection, c.Function, strings.Join(endpoint.Functions, ", "))
	}
	c.Protocol = endpoint.Protocol
	c.Request.Method, c.Request.Path, c.Request.Headers = t.Call.Method, t.Call.Path, headers(t.Call.Headers)
	c.ArgsJSON = []byte(t.Call.Args)
	if len(c.ArgsJSON) == 0 {
		c.ArgsJSON = []byte("{}")
	}
	var err error
	if c.Args, err = protocol.Arguments(c.ArgsJSON); err != nil {
		return c, nil, fmt.Errorf("call.args: %w", err)
	}
	return c, nil, nil
}

func identify(c *call.Call, from config.TestIdentity) error {
	c.Identity = call.Identity{Issuer: from.Issuer, Subject: from.Subject, Kind: call.Kind(from.Kind), Groups: from.Groups, Method: from.Method}
	for _, a := range from.Actors {
		c.Identity.Actors = append(c.Identity.Actors, call.Actor{Issuer: a.Issuer, Subject: a.Subject})
	}
	if from.Claims != nil {
		claims, err := protocol.Arguments(from.Claims)
		if err != nil {
			return fmt.Errorf("identity.claims: %w", err)
		}
		c.Identity.Claims = claims
	}
	return nil
}

func headers(from config.TestHeaders) call.Headers {
	var out call.Headers
	for _, h := range from {
		out = append(out, call.Header(h))
	}
	return out
}

// request reads the call from a request, in the order in which the gateway does.
func request(connections Connections, c *call.Call, from *config.TestRequest) (*protocol.Error, error) {
	body := []byte(from.Body)
	if from.JSON != nil {
		body = from.JSON
	}
	if from.BodyFile != "" {
		var err error
		if body, err = os.ReadFile(from.BodyFile); err != nil {
			return nil, fmt.Errorf("call.request.body_file: %w", err)
		}
	}
	c.Request.Method, c.Request.Scheme, c.Request.Authority, c.Request.Path = from.Method, "https", from.Host, from.Path
	c.Request.Headers, c.Request.Body = headers(from.Headers), body
	endpoint, known := connections.Match(from.Host, from.Path)
	if c.Connection != "" {
		if endpoint, known = connections.Named(c.Connection); !known {
			return nil, fmt.Errorf("the policy has no connection %q", c.Connection)
		}
	}
	if !known {
		return &protocol.Error{Reason: call.ReasonUnknownConnection, Message: "no connection is registered for this host and path; add one, or correct the address"}, nil
	}
	c.Connection, c.Protocol = endpoint.Name, endpoint.Protocol
	if int64(len(body)) > endpoint.MaxBody {
		return &protocol.Error{Reason: call.ReasonBodyTooLarge,
			Message: fmt.Sprintf("the request body is over the %d bytes that connection %s takes; send less, or raise its max_body", endpoint.MaxBody, endpoint.Name)}, nil
	}
	inv, err := endpoint.Parser.Parse(&c.Request)
	c.Function, c.Args, c.ArgsJSON, c.RPCID = inv.Function, inv.Args, inv.ArgsJSON, inv.RPCID
	if said := c.Session; said == "" { // else the test says
		named, bad := c.Request.Headers.SessionIn(endpoint.SessionHeader)
		if bad != nil {
			return &protocol.Error{Reason: call.ReasonMalformedRequest, Message: bad.Error()}, nil
		}
		c.BelongTo(named, inv.Session)
	}
	var told *protocol.Error
	switch {
	case err == nil:
		return nil, nil
	case errors.As(err, &told):
		return told, nil
	}
	return nil, err
}
