package backtest

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/callgate/callgate/audit/clickhouse"
	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/policies"
)

// Trail is where recorded calls are read; [clickhouse.DB] is one.
type Trail interface {
	Census(ctx context.Context, f clickhouse.Filter) ([]clickhouse.Tally, error)
	Spans(ctx context.Context, f clickhouse.Filter, about uint64) ([]clickhouse.Span, error)
	Replay(ctx context.Context, what clickhouse.Replay, each func(*clickhouse.Group) error) error
}

// Policy is a compiled policy and what it was compiled against.
type Policy struct {
	Set         *policies.Set // compiled with policies.Config.Replay
	Connections []policies.Connection
}

// Config says what is replayed through what.
type Config struct {
	Trail     Trail
	Candidate Policy
	// Baseline is what the candidate is compared with; nil means with what was
	// decided when the calls were made.
	Baseline *Policy
	// Given says that the sets have the grants that were given while the service
	// ran, too, see [Given]. Without, calls that one of those let through, and
	// that the candidate alone would deny, can't be judged.
	Given bool
	// Filter says which calls: its times, identity, connection and function.
	Filter   clickhouse.Filter
	Workers  int // pieces that are replayed at a time; 0 means one for each CPU
	Examples int // calls that are named of each difference; 0 means 3
	// Progress, if set, is told now and then how many calls of how many are
	// done. It is called from several goroutines.
	Progress func(done, total uint64)
}

const (
	defaultExamples = 3
	maxWorkers      = 8 // as many connections to ClickHouse as there are
	// spanCalls is how many calls are about replayed in one query.
	spanCalls = 50_000
	// maxNamed is how many functions a query names.
	maxNamed = 2000
)

// Run replays the calls. Where ctx ends, or ClickHouse goes away, there is no
// report: half of one would look like good news.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	if cfg.Workers <= 0 {
		cfg.Workers = runtime.GOMAXPROCS(0)
	}
	cfg.Workers = min(cfg.Workers, maxWorkers)
	if cfg.Examples <= 0 {
		cfg.Examples = defaultExamples
	}
	if cfg.Filter.Until.IsZero() {
		cfg.Filter.Until = time.Now() // calls that come meanwhile are counted nowhere
	}
	census, err := cfg.Trail.Census(ctx, cfg.Filter)
	if err != nil {
		return nil, err
	}
	p := newPlan(&cfg, census)
	total := newTally(cfg.Examples)
	for _, t := range census {
		if !slices.Contains(ruled, t.Reason) {
			total.unruled[t.Reason] += t.Calls
		} else if why := p.of(t.Connection, t.Function, t.Protocol).unknown; why != "" {
			total.unjudged.add(unjudgedKey{why}, t.Calls, nil)
		}
	}
	spans, err := cfg.Trail.Spans(ctx, cfg.Filter, spanCalls)
	if err != nil {
		return nil, err
	}
	var all, done atomic.Uint64
	for _, s := range spans {
		all.Add(s.Calls)
	}
	tallies := make([]*tally, len(spans))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(cfg.Workers)
	for i, s := range spans {
		group.Go(func() error {
			tallies[i] = newTally(cfg.Examples)
			if err := p.replay(ctx, s, tallies[i]); err != nil {
				return err
			}
			if cfg.Progress != nil {
				cfg.Progress(done.Add(s.Calls), all.Load())
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	for _, t := range tallies {
		total.merge(t)
	}
	return total.report(&cfg), nil
}

// plan says how the calls of each function are read.
type plan struct {
	cfg       *Config
	functions map[clickhouse.FunctionName]*function
	byRow     clickhouse.Replay // calls that are judged one by one
	byGroup   clickhouse.Replay // and those of which many are judged at once
}

// function is what the policies look at in calls of one function.
type function struct {
	unknown string // why none of its calls can be judged, if so
	// candidate and baseline are what the two look at.
	candidate, baseline []policies.Part
	grouped             bool
}

// always are the columns that are read of each call.
var always = []string{"connection", "protocol", "function", "issuer", "subject", "acting", "decision", "rule", "reason", "shadow", "approval_id"}

// columnsOf are the columns that hold a part of a call.
func columnsOf(p policies.Part) []string {
	switch p.Field {
	case "call.id":
		return []string{"call_id"}
	case "call.session", "call.method", "call.authority", "call.path", "call.args":
		return []string{strings.TrimPrefix(p.Field, "call.")}
	case "session.id":
		return []string{"session"}
	case "call.source_ip":
		return []string{"source"}
	case "call.headers":
		return []string{"request_headers"}
	case "call.body_size":
		return []string{"request_body_bytes"}
	case "identity.kind":
		return []string{"kind"}
	case "identity.groups":
		return []string{"groups"}
	case "identity.actors", "identity.acting":
		return []string{"actors.issuer", "actors.subject"}
	case "identity.method":
		return []string{"auth_method"}
	case "now":
		return []string{"time"}
	}
	return nil // one of always, or recorded nowhere
}

func newPlan(cfg *Config, census []clickhouse.Tally) *plan {
	p := &plan{cfg: cfg, functions: map[clickhouse.FunctionName]*function{}}
	p.byRow = clickhouse.Replay{Filter: cfg.Filter, Reasons: ruled, Columns: append([]string{"call_id", "time"}, always...)}
	p.byGroup = clickhouse.Replay{Filter: cfg.Filter, Reasons: ruled, Columns: slices.Clone(always), Grouped: true, Examples: cfg.Examples}
	var rows, groups, none []clickhouse.FunctionName
	for _, t := range census {
		name := clickhouse.FunctionName{Connection: t.Connection, Function: t.Function}
		if _, twice := p.functions[name]; twice || !slices.Contains(ruled, t.Reason) {
			continue
		}
		f := p.of(t.Connection, t.Function, t.Protocol)
		p.functions[name] = f
		switch {
		case f.unknown != "":
			none = append(none, name)
		case f.grouped:
			groups = append(groups, name)
		default:
			rows = append(rows, name)
		}
	}
	if len(groups) > maxNamed || len(rows)+len(none) > maxNamed && len(groups)+len(none) > maxNamed {
		rows, groups = append(rows, groups...), nil // more than a query should name
	}
	for _, part := range []struct {
		names []clickhouse.FunctionName
		to    *clickhouse.Replay
	}{{rows, &p.byRow}, {groups, &p.byGroup}} {
		for _, n := range part.names {
			f := p.functions[n]
			for _, read := range slices.Concat(f.candidate, f.baseline) {
				for _, c := range columnsOf(read) {
					if !slices.Contains(part.to.Columns, c) {
						part.to.Columns = append(part.to.Columns, c)
					}
				}
			}
		}
	}
	p.byGroup.Only = groups
	if others := slices.Concat(groups, none); len(rows) <= maxNamed {
		p.byRow.Only = rows
	} else if len(others) <= maxNamed {
		p.byRow.Except = others
	}
	if len(rows) == 0 {
		p.byRow.Columns = nil
	}
	return p
}

// of looks up what the policies look at in a function's calls.
func (p *plan) of(connection, name, protocol string) *function {
	if f, ok := p.functions[clickhouse.FunctionName{Connection: connection, Function: name}]; ok {
		return f
	}
	f := &function{unknown: unknownTo("the candidate", p.cfg.Candidate, connection, name, protocol)}
	if b := p.cfg.Baseline; b != nil && f.unknown == "" {
		f.unknown = unknownTo("the baseline", *b, connection, name, protocol)
	}
	if f.unknown != "" {
		return f
	}
	f.candidate = p.cfg.Candidate.Set.Reads(connection, name)
	if p.cfg.Baseline != nil {
		f.baseline = p.cfg.Baseline.Set.Reads(connection, name)
	}
	f.grouped = true
	for _, read := range slices.Concat(f.candidate, f.baseline) {
		for _, c := range columnsOf(read) {
			f.grouped = f.grouped && clickhouse.Groupable(c)
		}
	}
	return f
}

// unknownTo says why a policy can't judge a function's calls at all.
func unknownTo(who string, p Policy, connection, name, protocol string) string {
	if repaired(name) {
		return "function: " + whyText
	}
	i := slices.IndexFunc(p.Connections, func(c policies.Connection) bool { return c.Name == connection })
	if i < 0 {
		return fmt.Sprintf("connection %q is not in %s", connection, who)
	}
	switch c := p.Connections[i]; {
	case string(c.Protocol) != protocol:
		return fmt.Sprintf("connection %q speaks %s in %s, and spoke %s then", connection, c.Protocol, who, protocol)
	case c.Functions != nil && !slices.Contains(c.Functions, name):
		return fmt.Sprintf("connection %q has no function %q in %s", connection, name, who)
	}
	return ""
}

// replay judges the calls of a span.
func (p *plan) replay(ctx context.Context, s clickhouse.Span, to *tally) error {
	for _, what := range []clickhouse.Replay{p.byRow, p.byGroup} {
		if len(what.Columns) == 0 || what.Grouped && len(what.Only) == 0 {
			continue
		}
		what.Since, what.Until = s.Since, s.Until
		if err := p.cfg.Trail.Replay(ctx, what, func(g *clickhouse.Group) error { return p.judge(ctx, g, to) }); err != nil {
			return err
		}
	}
	return nil
}

// judge compares what the two say of a call, or of several that are alike.
func (p *plan) judge(ctx context.Context, g *clickhouse.Group, to *tally) error {
	f := p.of(g.Row.Connection, g.Row.Function, g.Row.Protocol)
	if f.unknown != "" {
		return nil // counted already
	}
	rec := FromRow(&g.Row)
	after, gaps, err := assess(ctx, p.cfg.Candidate.Set, &rec, f.candidate)
	if err != nil {
		return err
	}
	before := call.Ruling{Action: rec.Action, Rule: rec.Rule, Reason: rec.Reason}
	if b := p.cfg.Baseline; b != nil && len(gaps) == 0 {
		if before, gaps, err = assess(ctx, b.Set, &rec, f.baseline); err != nil {
			return err
		}
	}
	if name, given := strings.CutPrefix(rec.Rule, policies.GrantPrefix+givenPrefix); given && !p.cfg.Given && p.cfg.Baseline == nil && after.Reason == call.ReasonNoRule {
		gaps = append(gaps, Gap{policies.Part{Field: "grant", Key: givenPrefix + name}, whyGiven})
	}
	if len(gaps) > 0 {
		why := make([]string, len(gaps))
		for i, gap := range gaps {
			why[i] = gap.String()
		}
		to.unjudged.add(unjudgedKey{strings.Join(why, "; ")}, g.Calls, g.Examples)
		return nil
	}
	to.judge(&rec, before, after, g, p.cfg.Baseline != nil)
	return nil
}

// assess is what a policy says of a call, or for want of what that can't be
// told.
func assess(ctx context.Context, set *policies.Set, rec *Recorded, reads []policies.Part) (call.Ruling, []Gap, error) {
	gaps := rec.Gaps(reads)
	a, err := set.Assess(ctx, &rec.Call, Parts(gaps))
	if err != nil || a.Known {
		return a.Ruling, nil, err
	}
	needed := slices.DeleteFunc(gaps, func(g Gap) bool { return !slices.Contains(a.Needs, g.Part) })
	if len(needed) == 0 {
		return call.Ruling{}, []Gap{{policies.Part{Field: "call"}, whyNever}}, nil
	}
	return call.Ruling{}, needed, nil
}
