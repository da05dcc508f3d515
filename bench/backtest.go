package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/pprof"
	"time"

	"github.com/callgate/callgate/audit/clickhouse"
	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/policies"
	"github.com/callgate/callgate/policies/backtest"
)

const (
	backtestCalls  = 1_000_000
	backtestRounds = 3
)

// benchBacktest measures how many recorded calls a second are replayed through
// a policy, against reading the same columns and judging nothing.
func benchBacktest(ctx context.Context) (_ []row, err error) {
	calls, err := datasetCalls(backtestCalls)
	if err != nil {
		return nil, err
	}
	d, err := openDataset(ctx, calls)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	first := lastDay.AddDate(0, 0, 1-trailDays)
	filter := clickhouse.Filter{Since: first, Until: lastDay.AddDate(0, 0, 1)}
	byRow, err := backtestPolicy(`call.args.amount > 150000 && identity.kind == "agent"`)
	if err != nil {
		return nil, err
	}
	byGroup, err := backtestPolicy(`identity.kind == "agent" && call.method == "DELETE"`)
	if err != nil {
		return nil, err
	}
	if p := os.Getenv("PROF"); p != "" {
		f, err := os.Create(p)
		if err != nil {
			return nil, err
		}
		if err := pprof.StartCPUProfile(f); err != nil {
			return nil, err
		}
		defer pprof.StopCPUProfile()
	}
	var rows, groups, floors, ratios []float64
	for round := range backtestRounds {
		var rates []float64
		for _, run := range []backtest.Config{
			{Trail: readOnly{d.db}, Candidate: byRow}, {Trail: d.db, Candidate: byRow}, {Trail: d.db, Candidate: byGroup},
		} {
			run.Filter = filter
			began := time.Now()
			report, err := backtest.Run(ctx, run)
			if err != nil {
				return nil, err
			}
			rates = append(rates, float64(d.perDay*trailDays)/time.Since(began).Seconds())
			if _, judged := run.Trail.(*clickhouse.DB); judged && (report.Calls != uint64(d.perDay*trailDays) || report.Unjudged > 0 || report.Different == 0) {
				return nil, fmt.Errorf("of %d calls %d are judged the same, %d differently and %d not", d.perDay*trailDays, report.Same, report.Different, report.Unjudged)
			}
		}
		floors, rows, groups = append(floors, rates[0]), append(rows, rates[1]), append(groups, rates[2])
		ratios = append(ratios, rates[1]/rates[0])
		fmt.Printf("round %d  read %8.0f calls/s  judged by row %8.0f calls/s  by group %8.0f calls/s\n", round+1, rates[0], rates[1], rates[2])
	}
	return []row{
		newRow("backtest_calls_s", "calls/s, a rule looks at arguments", "", rows),
		newRow("backtest_grouped_calls_s", "calls/s, no rule does", "", groups),
		newRow("backtest_read_calls_s", "calls/s, read and not judged", "", floors),
		newRow("backtest_vs_read", "ratio", "reading the same columns", ratios),
	}, nil
}

// readOnly is a trail whose calls are read and not handed on.
type readOnly struct{ backtest.Trail }

func (r readOnly) Replay(ctx context.Context, what clickhouse.Replay, _ func(*clickhouse.Group) error) error {
	return r.Trail.Replay(ctx, what, func(*clickhouse.Group) error { return nil })
}

// backtestPolicy has ten rules, of which one denies when asked.
func backtestPolicy(denied string) (backtest.Policy, error) {
	var connections []policies.Connection
	seen := map[string]bool{}
	for _, e := range endpoints {
		if !seen[e.connection] {
			seen[e.connection] = true
			connections = append(connections, policies.Connection{Name: e.connection, Protocol: e.protocol})
		}
	}
	rules := []policies.Rule{
		{Name: "deny", Action: policies.Deny, When: denied},
		{Name: "suspended", Action: policies.Deny, When: `"suspended" in identity.groups`},
		{Name: "payroll", Action: policies.Deny, Connections: []string{"payroll"}, When: `!("people" in identity.groups)`},
		{Name: "delete", Action: policies.Deny, When: `call.method == "DELETE"`},
		{Name: "deploys", Action: policies.Hold, Connections: []string{"deploys"}, Functions: []string{"rollbacks.*"}, When: `identity.kind == "agent"`,
			Hold: call.Hold{Timeout: time.Minute, Stages: []call.Stage{{Approvers: call.Approvers{Groups: []string{"platform"}}}}}},
		{Name: "mask", Action: policies.Mask, Connections: []string{"crm"}, Mask: call.MaskRule{Detect: []string{"email"}}},
		{Name: "staff", Action: policies.Allow, When: `"staff" in identity.groups`},
		{Name: "agents", Action: policies.Allow, When: `identity.kind == "agent"`},
		{Name: "search", Action: policies.Allow, Connections: []string{"search"}},
		{Name: "metrics", Action: policies.Allow, Connections: []string{"metrics"}, When: `identity.issuer == "https://login.corp.example/realms/main"`},
	}
	set, err := policies.Compile(rules, policies.Config{Version: "bench", Connections: connections, Replay: true})
	return backtest.Policy{Set: set, Connections: connections}, err
}
