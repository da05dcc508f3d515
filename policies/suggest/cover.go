package suggest

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/callgate/callgate/audit/clickhouse"
	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/policies"
	"github.com/callgate/callgate/policies/backtest"
)

// Coverage is what a suggestion makes of the calls that it was made from.
type Coverage struct {
	Calls     uint64 `json:"calls"`     // that were let through
	Covered   uint64 `json:"covered"`   // and would be
	Uncovered uint64 `json:"uncovered"` // told as not covered, and denied
	Unjudged  uint64 `json:"unjudged"`  // their arguments are not recorded any more
	// Denied are calls that are meant to be covered and are not, and Widened
	// those that are told as not covered and are let through. Either is a fault
	// of the suggestion.
	Denied  uint64 `json:"denied"`
	Widened uint64 `json:"widened"`
	// Examples are some of Denied and Widened.
	Examples []backtest.Example `json:"examples,omitempty"`
}

// Cover replays the observed calls through the suggestion alone, which policy
// is compiled from, and adds the outliers among them to r.Uncovered.
func (r *Result) Cover(ctx context.Context, policy backtest.Policy) (Coverage, error) {
	list, err := spans(ctx, &r.cfg)
	if err != nil {
		return Coverage{}, err
	}
	var total Coverage
	left := map[profileKey]*profile{}
	reads := map[target][]policies.Part{} // asked for once each: there may be thousands of grants
	for key := range r.observed.profiles {
		if _, known := reads[key.target]; !known {
			reads[key.target] = policy.Set.Reads(key.connection, key.function)
		}
	}
	var mu sync.Mutex
	err = each(ctx, &r.cfg, list, func(ctx context.Context, f clickhouse.Filter) error {
		f.Decision = "allowed"
		var part Coverage
		outliers := map[profileKey]*profile{}
		err := r.cfg.Trail.Replay(ctx, clickhouse.Replay{Filter: f, Columns: columns}, func(g *clickhouse.Group) error {
			return r.cover(ctx, policy.Set, reads, g, &part, outliers)
		})
		mu.Lock()
		defer mu.Unlock()
		total.add(part)
		for key, p := range outliers {
			if q := left[key]; q != nil {
				q.calls += p.calls
				q.examples = someExamples(append(q.examples, p.examples...))
			} else {
				left[key] = p
			}
		}
		return err
	})
	if err != nil {
		return Coverage{}, err
	}
	for _, key := range slices.SortedFunc(maps.Keys(left), compareKeys) {
		r.Uncovered = append(r.Uncovered, uncovered(key, left[key].calls, "a value lies far from all others", left[key].examples))
	}
	slices.SortStableFunc(r.Uncovered, func(a, b Uncovered) int {
		return cmp.Or(cmp.Compare(b.Calls, a.Calls), cmp.Compare(a.Connection, b.Connection), cmp.Compare(a.Function, b.Function), cmp.Compare(a.Subject, b.Subject))
	})
	return total, nil
}

func (c *Coverage) add(d Coverage) {
	c.Calls, c.Covered, c.Uncovered, c.Unjudged = c.Calls+d.Calls, c.Covered+d.Covered, c.Uncovered+d.Uncovered, c.Unjudged+d.Unjudged
	c.Denied, c.Widened = c.Denied+d.Denied, c.Widened+d.Widened
	c.Examples = append(c.Examples, d.Examples...)
	c.Examples = c.Examples[:min(len(c.Examples), maxExamples)]
}

func (r *Result) cover(ctx context.Context, set *policies.Set, reads map[target][]policies.Part, g *clickhouse.Group, to *Coverage, outliers map[profileKey]*profile) error {
	rec := backtest.FromRow(&g.Row)
	key := keyOf(&rec.Call)
	p := r.observed.profiles[key]
	if p == nil {
		return nil // it came while this ran
	}
	to.Calls += g.Calls
	meant := uncoverable(key, p, &r.cfg) == ""
	b := bounder{minCalls: uint64(r.cfg.MinCalls), noValues: r.cfg.NoValues}
	outlier := meant && p.bound && rec.ArgumentsKnown() && b.excluded(&p.args, rec.Call.Args, maxNesting)
	parts := backtest.Parts(rec.Gaps(reads[key.target]))
	a, err := set.Assess(ctx, &rec.Call, parts)
	if err != nil {
		return err
	}
	fault := func(n *uint64) {
		*n += g.Calls
		if len(to.Examples) < maxExamples {
			to.Examples = append(to.Examples, backtest.Example{ID: g.Row.CallID.String(), Time: g.Row.Time})
		}
	}
	switch allowed := a.Ruling.Action == call.ActionAllow; {
	case !a.Known:
		to.Unjudged += g.Calls
	case allowed && meant && !outlier:
		to.Covered += g.Calls
	case allowed:
		fault(&to.Widened)
	case meant && !outlier:
		fault(&to.Denied)
	default:
		to.Uncovered += g.Calls
		if outlier {
			q := outliers[key]
			if q == nil {
				q = &profile{}
				outliers[key] = q
			}
			q.calls += g.Calls
			q.examples = someExamples(append(q.examples, g.Examples...))
		}
	}
	return nil
}

// String tells of the coverage in a line.
func (c Coverage) String() string {
	text := fmt.Sprintf("%d of %d calls are covered", c.Covered, c.Calls)
	if c.Uncovered > 0 {
		text += fmt.Sprintf(", %d are told as not covered", c.Uncovered)
	}
	if c.Unjudged > 0 {
		text += fmt.Sprintf(", %d can't be judged since their arguments are not recorded any more", c.Unjudged)
	}
	if c.Denied+c.Widened > 0 {
		text += fmt.Sprintf("; %d are denied that should not be, %d are let through that should not be", c.Denied, c.Widened)
	}
	return text
}
