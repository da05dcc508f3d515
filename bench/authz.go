package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
)

// connections is how many gRPC connections the load uses, as Envoy would use
// one a worker.
const connections = 4

// floor answers every check at once: what any ext_authz server in Go must cost.
type floor struct {
	authv3.UnimplementedAuthorizationServer
}

func (floor) Check(context.Context, *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	return &authv3.CheckResponse{Status: &rpcstatus.Status{Code: int32(codes.OK)},
		HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{}}}, nil
}

func serveFloor(ctx context.Context, addr string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	srv := grpc.NewServer()
	authv3.RegisterAuthorizationServer(srv, floor{})
	context.AfterFunc(ctx, srv.Stop)
	return srv.Serve(l)
}

// body is a JSON request of 1 KB.
func body() []byte {
	items := []map[string]any{}
	for i := range 9 {
		items = append(items, map[string]any{"sku": fmt.Sprintf("SKU-%05d", i*7919), "quantity": i + 1, "price": 1999 + i, "note": "leave at the front desk"})
	}
	b, err := json.Marshal(map[string]any{"customer": "c-1029", "amount": 42, "currency": "EUR", "reason": "damaged on arrival", "items": items})
	if err != nil {
		panic("bench: " + err.Error())
	}
	return b
}

func check(token string, body []byte) *authv3.CheckRequest {
	h := func(k, v string) *corev3.HeaderValue { return &corev3.HeaderValue{Key: k, RawValue: []byte(v)} }
	address := func(port uint32) *authv3.AttributeContext_Peer {
		return &authv3.AttributeContext_Peer{Address: &corev3.Address{Address: &corev3.Address_SocketAddress{
			SocketAddress: &corev3.SocketAddress{Address: "127.0.0.1", PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port}}}}}
	}
	return &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Source: address(40000), Destination: address(10000),
		ContextExtensions: map[string]string{"connection": "crm"},
		Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
			Method: "POST", Path: "/crm/refunds", Host: "crm.example.com", Scheme: "http", Protocol: "HTTP/1.1", RawBody: body, Size: int64(len(body)),
			HeaderMap: &corev3.HeaderMap{Headers: []*corev3.HeaderValue{
				h(":method", "POST"), h(":path", "/crm/refunds"), h(":authority", "crm.example.com"), h(":scheme", "http"),
				h("content-type", "application/json"), h("content-length", fmt.Sprint(len(body))), h("user-agent", "bench/1"),
				h("accept", "application/json"), h("x-request-id", "7e64a4d8-53a7-4f0e-8b0e-0f5bd2c5c6a1"), h("authorization", "Bearer "+token),
				h("x-envoy-auth-partial-body", "false"),
			}},
		}},
	}}
}

// plainCheck is check as OPA reads it: headers as a map, the body as text.
func plainCheck(token string, body []byte) *authv3.CheckRequest {
	r := check(token, body)
	h := r.Attributes.Request.Http
	h.Headers = map[string]string{}
	for _, f := range h.HeaderMap.Headers {
		h.Headers[f.Key] = string(f.RawValue)
	}
	h.HeaderMap, h.Body, h.RawBody = nil, string(h.RawBody), nil
	return r
}

// supply hands out requests: one again and again, or each once.
type supply struct {
	issuer  *issuer
	fresh   bool
	make    func(token string, body []byte) *authv3.CheckRequest
	body    []byte
	next    int
	ready   []*authv3.CheckRequest
	repeats *authv3.CheckRequest
}

// fill makes n requests ahead of a run, so that signing is not measured.
func (s *supply) fill(n int) error {
	if !s.fresh {
		token, err := s.issuer.token(0)
		s.repeats = s.make(token, s.body)
		return err
	}
	tokens, err := s.issuer.tokens(s.next, n)
	if err != nil {
		return err
	}
	s.next += n
	s.ready = s.ready[:0]
	for _, t := range tokens {
		s.ready = append(s.ready, s.make(t, s.body))
	}
	return nil
}

func (s *supply) take(n int64) (*authv3.CheckRequest, bool) {
	if !s.fresh {
		return s.repeats, true
	}
	if int(n) >= len(s.ready) {
		return nil, false
	}
	return s.ready[n], true
}

// freshPerSecond is how many new tokens a run is given for each of its seconds:
// more than any server here verifies on two cores, as signing them takes longer
// than the run.
const freshPerSecond = 7000

// authzSubject measures one ext_authz server at addr.
func authzSubject(name, addr string, pid int, s *supply, warm, length time.Duration) subject {
	return subject{name: name, run: func(ctx context.Context) (sample, error) {
		if err := s.fill(freshPerSecond * int((warm+length)/time.Second)); err != nil {
			return sample{}, err
		}
		var clients []authv3.AuthorizationClient
		for range connections {
			conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				return sample{}, err
			}
			defer conn.Close()
			clients = append(clients, authv3.NewAuthorizationClient(conn))
		}
		return load(ctx, warm, length, []int{pid}, func(w int, n int64) error {
			req, ok := s.take(n)
			if !ok {
				return errors.New("ran out of fresh tokens: raise the supply")
			}
			resp, err := clients[w%connections].Check(ctx, req)
			if err != nil {
				return err
			}
			if resp.GetStatus().GetCode() != int32(codes.OK) {
				return fmt.Errorf("denied: %s", resp.GetDeniedResponse().GetBody())
			}
			return nil
		})
	}}
}

func benchAuthz(ctx context.Context) ([]row, error) {
	rig, err := newRig(ctx)
	if err != nil {
		return nil, err
	}
	defer rig.close()
	if err := rig.startFloor(ctx); err != nil {
		return nil, err
	}
	if err := rig.startCallgate(ctx, "extauthz"); err != nil {
		return nil, err
	}
	if err := rig.startOPA(ctx); err != nil {
		return nil, err
	}
	b := body()
	const warm, length = time.Second, 3 * time.Second
	subjects := []subject{
		authzSubject("floor", rig.floorAddr, rig.floor.pid(), &supply{issuer: rig.issuer, make: check, body: b}, warm, length),
		authzSubject("authz", rig.callgateAddr, rig.callgate.pid(), &supply{issuer: rig.issuer, make: check, body: b}, warm, length),
		authzSubject("opa", rig.opaAddr, rig.opa.pid(), &supply{issuer: rig.issuer, make: plainCheck, body: b}, warm, length),
		authzSubject("authz_new_token", rig.callgateAddr, rig.callgate.pid(), &supply{issuer: rig.issuer, make: check, body: b, fresh: true}, warm, time.Second),
		authzSubject("opa_new_token", rig.opaAddr, rig.opa.pid(), &supply{issuer: rig.issuer, make: plainCheck, body: b, fresh: true}, warm, time.Second),
	}
	got, err := measure(ctx, rounds, subjects)
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, rig.tail())
	}
	rows := []row{
		ratio("authz_vs_floor", "ratio of calls/s", "no-op ext_authz server", got["authz"], got["floor"], rate),
		ratio("authz_vs_opa_cpu", "ratio of calls per CPU second", "opa-envoy-plugin", got["authz"], got["opa"], perCPU),
		ratio("authz_new_token_vs_floor", "ratio of calls/s", "no-op ext_authz server", got["authz_new_token"], got["floor"], rate),
		ratio("authz_new_token_vs_opa_cpu", "ratio of calls per CPU second", "opa-envoy-plugin, new tokens too", got["authz_new_token"], got["opa_new_token"], perCPU),
	}
	for _, s := range subjects {
		rows = append(rows, figures(s.name, got[s.name])...)
	}
	return rows, nil
}

// tenRules is the policy of the load for Callgate; regoRules the same for OPA.
// The last rule is the one that allows; the nine before it are looked at and
// do not match.
const tenRules = `
rules:
  - {name: r1, when: 'call.args.amount > 1000', action: deny}
  - {name: r2, when: 'call.args.currency == "XXX"', action: deny}
  - {name: r3, when: 'call.args.reason.contains("drop table")', action: deny}
  - {name: r4, when: 'call.args.customer.startsWith("vip-")', action: deny}
  - {name: r5, when: 'identity.subject == "mallory"', action: deny}
  - {name: r6, when: '"suspended" in identity.groups', action: deny}
  - {name: r7, when: 'call.args.items.exists(i, i.quantity > 100)', action: deny}
  - {name: r8, when: 'call.method == "DELETE"', action: deny}
  - {name: r9, when: 'size(call.args.items) > 50', action: deny}
  - {name: r10, functions: [refunds.create], when: '"support" in identity.groups', action: allow}
`

const regoRules = `package envoy.authz

import rego.v1

default allow := false

token := t if {
	[scheme, t] := split(input.attributes.request.http.headers.authorization, " ")
	scheme == "Bearer"
}

verified := io.jwt.decode_verify(token, {"cert": data.jwks, "iss": data.issuer, "aud": "callgate", "alg": "RS256"})

claims := verified[2] if verified[0]

args := input.parsed_body

deny if args.amount > 1000
deny if args.currency == "XXX"
deny if contains(args.reason, "drop table")
deny if startswith(args.customer, "vip-")
deny if claims.sub == "mallory"
deny if "suspended" in claims.groups
deny if { some i in args.items; i.quantity > 100 }
deny if input.attributes.request.http.method == "DELETE"
deny if count(args.items) > 50

allow if {
	verified[0]
	input.attributes.request.http.method == "POST"
	input.parsed_path == ["crm", "refunds"]
	"support" in claims.groups
	not deny
}
`

// opaFiles writes the policy and its data for OPA.
func opaFiles(dir string, i *issuer, connections int) error {
	_, _, more := moreConnections(connections)
	keys, err := json.Marshal(i.public)
	if err != nil {
		return fmt.Errorf("write keys for OPA: %w", err)
	}
	data, err := json.Marshal(map[string]string{"jwks": string(keys), "issuer": i.url})
	if err != nil {
		return fmt.Errorf("write data for OPA: %w", err)
	}
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "policy.rego"), []byte(strings.TrimSpace(regoRules)+"\n"+more), 0o600),
		os.WriteFile(filepath.Join(dir, "data.json"), data, 0o600))
}
