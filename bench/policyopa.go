package main

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// manyConnections is how many connections of ten rules each make 1,000 rules.
const manyConnections = 100

// moreConnections are those beside crm, and moreRules ten rules for each of them;
// moreRego are the same rules for OPA. No call is meant for any of them.
func moreConnections(n int) (connections, rules, rego string) {
	var c, r, o strings.Builder
	for i := 1; i < n; i++ {
		fmt.Fprintf(&c, `  - {name: crm%d, protocol: http, match: {path: /crm%d}, upstream: {url: "http://127.0.0.1:9"}, functions: [{name: refunds.create, method: POST, path: /refunds}], credential: {env: BENCH_CREDENTIAL}}`+"\n", i, i)
		for line := range strings.Lines(tenRules) {
			if _, rest, ok := strings.Cut(line, "- {name: "); ok {
				fmt.Fprintf(&r, "  - {connections: [crm%d], name: c%d%s", i, i, rest)
			}
		}
		here := fmt.Sprintf("input.parsed_path[0] == \"crm%d\"; ", i)
		fmt.Fprintf(&o, "\n")
		for line := range strings.Lines(regoRules) {
			if condition, ok := strings.CutPrefix(line, "deny if "); ok {
				condition = strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(condition), "{ "), " }")
				fmt.Fprintf(&o, "deny if { %s%s }\n", here, condition)
			}
		}
		fmt.Fprintf(&o, "allow if { %sverified[0]; input.attributes.request.http.method == \"POST\"; input.parsed_path[1] == \"refunds\"; \"support\" in claims.groups; not deny }\n", here)
	}
	return c.String(), r.String(), o.String()
}

// benchPolicyOPA measures decisions by ten and by 1,000 rules beside OPA with the
// equivalent policy, over the network.
func benchPolicyOPA(ctx context.Context) ([]row, error) {
	var rows []row
	for _, n := range []int{1, manyConnections} {
		rules := fmt.Sprint(10 * n)
		rig, err := newRig(ctx)
		if err != nil {
			return nil, err
		}
		defer rig.close() //nolint:errcheck // a folder in the temporary one is left at worst
		rig.connections = n
		if err := rig.startCallgate(ctx, "extauthz"); err != nil {
			return nil, err
		}
		if err := rig.startOPA(ctx); err != nil {
			return nil, err
		}
		b := body()
		const warm, length = time.Second, 2 * time.Second
		own, peer := "policy_"+rules, "policy_"+rules+"_opa"
		got, err := measure(ctx, rounds, []subject{
			authzSubject(own, rig.callgateAddr, rig.callgate.pid(), &supply{issuer: rig.issuer, make: check, body: b}, warm, length),
			authzSubject(peer, rig.opaAddr, rig.opa.pid(), &supply{issuer: rig.issuer, make: plainCheck, body: b}, warm, length),
		})
		if err != nil {
			return nil, fmt.Errorf("%w\n%s", err, rig.tail())
		}
		rows = append(rows, ratio(own+"_vs_opa_cpu", "ratio of calls per CPU second", "opa-envoy-plugin with the equivalent policy", got[own], got[peer], perCPU))
	}
	return rows, nil
}
