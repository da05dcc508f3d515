package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strconv"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/call/protocol"
	"github.com/callgate/callgate/call/redact"
	"github.com/callgate/callgate/extauthz"
	"github.com/callgate/callgate/extauthz/connection"
	"github.com/callgate/callgate/extauthz/identity"
	"github.com/callgate/callgate/policies"
	"github.com/callgate/callgate/policies/counts"
)

// decideFor is how long one subject is measured in a round, in turns of which each
// takes its part: the machine is another one from moment to moment.
const (
	decideFor = time.Second
	turns     = 10
)

type nowhere struct{}

func (nowhere) Record(context.Context, call.Event) error { return nil }

// benchPolicy measures what the number of rules costs a decision, what a token
// does that was never seen, and how fast a push is taken by a fleet. A decision
// here is a whole one with its JWT, all but the disk and the network.
func benchPolicy(ctx context.Context) ([]row, error) {
	is, err := newIssuer()
	if err != nil {
		return nil, err
	}
	defer func() { _ = is.close() }()
	verifier, err := identity.New(identity.Config{Issuers: []identity.Issuer{{URL: is.url, Audiences: []string{"callgate"}, Algorithms: []string{"RS256"},
		Subject: "sub", Groups: "groups", Kind: "kind", DefaultKind: call.Human}},
		Log: slog.New(slog.DiscardHandler), Metrics: identity.NewMetrics(prometheus.NewRegistry())})
	if err != nil {
		return nil, err
	}
	if err := verifier.Fetch(ctx); err != nil {
		return nil, err
	}
	token, err := is.token(0)
	if err != nil {
		return nil, err
	}
	sizes := []int{1, 100, 1000} // connections of ten rules each
	var servers []*extauthz.Server
	var mib float64
	for _, n := range sizes {
		s, used, err := policyServer(verifier, n)
		if err != nil {
			return nil, err
		}
		servers, mib = append(servers, s), used
	}
	var rates [3][]float64
	var hits, misses, ratios []float64
	for round := range rounds {
		var done [3]int
		var used [3]time.Duration
		for range turns {
			for i, s := range servers {
				req := policyRequest(fmt.Sprintf("crm%d", sizes[i]/2), token)
				before := ownCPU()
				for began := time.Now(); time.Since(began) < decideFor/turns; done[i]++ {
					resp, err := s.Check(ctx, req)
					if err != nil || resp.GetOkResponse() == nil {
						return nil, fmt.Errorf("a call was not let through: %v, %v", resp, err)
					}
				}
				used[i] += ownCPU() - before
			}
		}
		for i := range servers {
			rates[i] = append(rates[i], float64(done[i])/used[i].Seconds())
		}
		hit, miss, err := tokenRates(ctx, is, verifier, token, round)
		if err != nil {
			return nil, err
		}
		hits, misses, ratios = append(hits, hit), append(misses, miss), append(ratios, miss/hit)
		fmt.Printf("round %d  10 rules %7.0f/s  1,000 %7.0f/s  10,000 %7.0f/s  token seen %8.0f/s  new %6.0f/s\n", round+1, rates[0][round], rates[1][round], rates[2][round], hit, miss)
	}
	push, err := benchPush(ctx)
	if err != nil {
		return nil, err
	}
	peer, err := benchPolicyOPA(ctx)
	if err != nil {
		return nil, err
	}
	push = append(push, peer...)
	return append([]row{
		newRow("policy_10_decisions_s", "decisions/s of CPU time, 10 rules", "", rates[0]),
		newRow("policy_1000_vs_10", "ratio of decisions/s of CPU time", "10 rules over one connection", over(rates[1], rates[0])),
		newRow("policy_10000_vs_10", "ratio of decisions/s of CPU time", "10 rules over one connection", over(rates[2], rates[0])),
		newRow("token_hit_s", "tokens/s of CPU time, verified before", "", hits),
		newRow("token_miss_s", "tokens/s of CPU time, RS256 never seen", "", misses),
		newRow("token_miss_vs_hit", "ratio", "a token verified before", ratios),
		newRow("policy_mib", "MiB of heap for 10,000 rules", "", []float64{mib}),
	}, push...), nil
}

func over(a, b []float64) []float64 {
	out := make([]float64, len(a))
	for i := range a {
		out[i] = a[i] / b[i]
	}
	return out
}

// policyServer decides for n connections of ten rules each, and tells the heap
// that their rules take, in MiB.
func policyServer(verifier *identity.Verifier, n int) (*extauthz.Server, float64, error) {
	whens := []struct{ action, when string }{
		{policies.Deny, `identity.kind == "agent" && call.args.amount > 10000`},
		{policies.Deny, `call.args.query.lowerAscii().matches("drop\\s+table")`},
		{policies.Deny, `!("support" in identity.groups) && call.method == "DELETE"`},
		{policies.Deny, `call.function == "customers.delete"`},
		{policies.Deny, `has(call.args.region) && call.args.region != "emea"`},
		{policies.Deny, `call.body_size > 100000`},
		{policies.Deny, `call.headers["x-team"] == "c"`},
		{policies.Deny, `has(identity.claims.tier) && identity.claims.tier == "bronze"`},
		{policies.Deny, `call.args.customer.vip == true && call.args.amount > 500`},
		{policies.Allow, `identity.subject == "alice"`},
	}
	var list []*connection.Connection
	var known []policies.Connection
	var rules []policies.Rule
	for i := range n {
		name := fmt.Sprintf("crm%d", i)
		parser, err := protocol.New(protocol.Config{Protocol: call.HTTP, BasePath: "/" + name, Functions: []protocol.Function{{Name: "refunds.create", Method: "POST", Path: "/refunds"}}})
		if err != nil {
			return nil, 0, err
		}
		list = append(list, &connection.Connection{Name: name, Protocol: call.HTTP, Path: "/" + name, Parser: parser, MaxBody: 1 << 20, MaxResponse: 1 << 20,
			Record: call.RecordSettings{MaxBody: 64 << 10, Response: call.RecordDurable}})
		known = append(known, policies.Connection{Name: name, Protocol: call.HTTP, Functions: []string{"refunds.create", "customers.delete"}})
		for k, w := range whens {
			// No two expressions are the same, as a hard case for memory.
			rules = append(rules, policies.Rule{Name: fmt.Sprintf("%s-%d", name, k), Connections: []string{name}, Action: w.action, When: w.when + ` && call.session != "none-` + name + `"`})
		}
	}
	conns, err := connection.NewSet(list)
	if err != nil {
		return nil, 0, err
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	set, err := policies.Compile(rules, policies.Config{Version: "v1", Connections: known, Counter: counts.New()})
	if err != nil {
		return nil, 0, err
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	hidden, err := redact.New([]byte(strings.Repeat("k", redact.MinKey)))
	if err != nil {
		return nil, 0, err
	}
	s := extauthz.New(extauthz.Config{Identifier: verifier, Redact: hidden, Recorder: nowhere{}, Log: slog.New(slog.DiscardHandler), Metrics: extauthz.NewMetrics(prometheus.NewRegistry())})
	s.Activate(extauthz.Versions{Stable: extauthz.Active{Version: "v1", Connections: conns, Policy: set}})
	return s, float64(after.HeapAlloc-before.HeapAlloc) / (1 << 20), nil
}

func policyRequest(name, token string) *authv3.CheckRequest {
	start := `{"amount":150,"query":"select name from customers where id = 7","region":"emea","customer":{"vip":false},"note":"`
	body := start + strings.Repeat("x", 1024-len(start)-2) + `"}`
	var headers []*corev3.HeaderValue
	for _, f := range [][2]string{{"authorization", "Bearer " + token}, {"content-type", "application/json"}, {"content-length", strconv.Itoa(len(body))},
		{"x-envoy-auth-partial-body", "false"}, {"x-team", "a"}, {"user-agent", "curl/8"}} {
		headers = append(headers, &corev3.HeaderValue{Key: f[0], RawValue: []byte(f[1])})
	}
	return &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		ContextExtensions: map[string]string{"connection": name, "legs": "answered,finished"},
		Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{Method: "POST", Scheme: "https", Host: "crm",
			Path: "/" + name + "/refunds", RawBody: []byte(body), HeaderMap: &corev3.HeaderMap{Headers: headers}}}}}
}

// newTokens is how many tokens of a round were never seen before.
const newTokens = 1500

// tokenRates are how many tokens a second are verified: one that was before, and
// ones that never were.
func tokenRates(ctx context.Context, is *issuer, v *identity.Verifier, seen string, round int) (hit, miss float64, err error) {
	fresh := make([]string, newTokens)
	for i := range fresh {
		if fresh[i], err = is.token(1 + round*newTokens + i); err != nil {
			return 0, 0, err
		}
	}
	n, before := 0, ownCPU()
	for began := time.Now(); time.Since(began) < decideFor/2; n++ {
		if _, err := v.Verify(ctx, seen); err != nil {
			return 0, 0, err
		}
	}
	hit = float64(n) / (ownCPU() - before).Seconds()
	before = ownCPU()
	for _, t := range fresh {
		if _, err := v.Verify(ctx, t); err != nil {
			return 0, 0, errors.Join(errors.New("a good token was refused"), err)
		}
	}
	return hit, newTokens / (ownCPU() - before).Seconds(), nil
}
