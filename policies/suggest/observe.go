package suggest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/callgate/callgate/audit/clickhouse"
	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/policies/backtest"
)

// Config says what is observed, and how much of it counts.
type Config struct {
	Trail backtest.Trail
	// Filter says which calls: its times, identity, connection and function.
	Filter clickhouse.Filter
	// Connections are those that grants can be about; nil means any.
	Connections []string
	// MinCalls is how many calls of an identity's to a function there must be
	// before it is granted. 0 means 5.
	MinCalls int
	NoValues bool // bound numbers and lengths; list no value
	Workers  int  // pieces that are read at a time; 0 means one for each CPU
	Progress func(done, total uint64)
}

const (
	defaultMinCalls = 5
	maxWorkers      = 8
	spanCalls       = 50_000
	// maxProfiles bounds what is kept: one for each identity and function.
	maxProfiles = 50_000
)

// columns are what is read of each call.
var columns = []string{"call_id", "time", "issuer", "subject", "groups", "acting", "actors.issuer", "actors.subject", "connection", "protocol", "function", "args",
	"decision", "rule", "reason", "approval_id"}

// principal is who calls: an identity, and those through whom it does.
type principal struct {
	issuer, subject string
	actors          string // "issuer|subject" of each, the nearest first, by newlines
}

// target is what is called.
type target struct{ connection, function string }

type profileKey struct {
	principal
	target
}

// profile is what was seen of one principal's calls to one function.
type profile struct {
	calls    uint64
	held     uint64 // of calls: people had let them through
	noArgs   uint64 // of calls: the arguments are not recorded any more
	args     shape  // an object
	days     map[int64]struct{}
	first    time.Time
	last     time.Time
	examples []clickhouse.Example
	groups   map[string]uint64 // calls with the group
	bound    bool              // its arguments' values are bound
}

// observed is what all calls were like.
type observed struct {
	profiles map[profileKey]*profile
	// members are the identities that were seen in a group, whether their calls
	// were let through or not.
	members map[string]map[principal]struct{}
}

func newObserved() *observed {
	return &observed{profiles: map[profileKey]*profile{}, members: map[string]map[principal]struct{}{}}
}

var errTooMany = fmt.Errorf("more than %d pairs of identity and function called; name an --identity or --connection, or a shorter time", maxProfiles)

// observe reads the calls that were let through.
func observe(ctx context.Context, cfg *Config) (*observed, error) {
	list, err := spans(ctx, cfg)
	if err != nil {
		return nil, err
	}
	all := newObserved()
	var mu sync.Mutex
	err = each(ctx, cfg, list, func(ctx context.Context, f clickhouse.Filter) error {
		part := newObserved()
		err := cfg.Trail.Replay(ctx, clickhouse.Replay{Filter: f, Columns: []string{"issuer", "subject", "groups"}, Grouped: true}, func(g *clickhouse.Group) error {
			part.member(&g.Row)
			return nil
		})
		if err != nil {
			return err
		}
		f.Decision = "allowed"
		err = cfg.Trail.Replay(ctx, clickhouse.Replay{Filter: f, Columns: columns}, func(g *clickhouse.Group) error {
			part.add(g)
			if len(part.profiles) > maxProfiles {
				return errTooMany
			}
			return nil
		})
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		// In whatever order they come, the whole is the same.
		if all.merge(part); len(all.profiles) > maxProfiles {
			return errTooMany
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

func spans(ctx context.Context, cfg *Config) ([]clickhouse.Span, error) {
	return cfg.Trail.Spans(ctx, cfg.Filter, spanCalls)
}

// each reads the spans, several at a time.
func each(ctx context.Context, cfg *Config, list []clickhouse.Span, do func(ctx context.Context, f clickhouse.Filter) error) error {
	var total uint64
	for _, s := range list {
		total += s.Calls
	}
	var done atomic.Uint64
	group, ctx := errgroup.WithContext(ctx)
	workers := cfg.Workers
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	group.SetLimit(min(workers, maxWorkers))
	for _, s := range list {
		group.Go(func() error {
			f := cfg.Filter
			f.Since, f.Until = s.Since, s.Until
			if err := do(ctx, f); err != nil {
				return err
			}
			if cfg.Progress != nil {
				cfg.Progress(done.Add(s.Calls), total)
			}
			return nil
		})
	}
	return group.Wait()
}

func (o *observed) member(row *clickhouse.Row) {
	who := principal{issuer: row.Issuer, subject: row.Subject}
	for _, g := range row.Groups {
		if o.members[g] == nil {
			o.members[g] = map[principal]struct{}{}
		}
		o.members[g][who] = struct{}{}
	}
}

// keyOf says whose call of what it was.
func keyOf(c *call.Call) profileKey {
	actors := make([]string, len(c.Identity.Actors))
	for i, a := range c.Identity.Actors {
		actors[i] = a.Issuer + "|" + a.Subject
	}
	return profileKey{principal{c.Identity.Issuer, c.Identity.Subject, strings.Join(actors, "\n")}, target{c.Connection, c.Function}}
}

func (o *observed) add(g *clickhouse.Group) {
	rec := backtest.FromRow(&g.Row)
	key := keyOf(&rec.Call)
	p := o.profiles[key]
	if p == nil {
		p = &profile{days: map[int64]struct{}{}, groups: map[string]uint64{}, first: g.Row.Time, last: g.Row.Time}
		o.profiles[key] = p
	}
	p.calls++
	if rec.Action == call.ActionHold {
		p.held++
	}
	at := g.Row.Time
	p.days[at.Unix()/86400] = struct{}{}
	if at.Before(p.first) {
		p.first = at
	}
	if at.After(p.last) {
		p.last = at
	}
	for _, group := range rec.Call.Identity.Groups {
		p.groups[group]++
	}
	p.examples = someExamples(append(p.examples, clickhouse.Example{ID: g.Row.CallID, Time: at}))
	if !rec.ArgumentsKnown() {
		p.noArgs++
		return
	}
	p.args.seen++
	p.args.object(rec.Call.Args, rec.Hidden, 0)
}

// maxExamples is how many calls are named.
const maxExamples = 3

func someExamples(list []clickhouse.Example) []clickhouse.Example {
	slices.SortFunc(list, func(a, b clickhouse.Example) int {
		return cmp.Or(b.Time.Compare(a.Time), cmp.Compare(b.ID.String(), a.ID.String()))
	})
	return list[:min(len(list), maxExamples)]
}

func (o *observed) merge(from *observed) {
	for group, list := range from.members {
		if o.members[group] == nil {
			o.members[group] = list
			continue
		}
		for who := range list {
			o.members[group][who] = struct{}{}
		}
	}
	for key, q := range from.profiles {
		p := o.profiles[key]
		if p == nil {
			o.profiles[key] = q
			continue
		}
		p.calls, p.held, p.noArgs = p.calls+q.calls, p.held+q.held, p.noArgs+q.noArgs
		p.args.merge(&q.args)
		for d := range q.days {
			p.days[d] = struct{}{}
		}
		if q.first.Before(p.first) {
			p.first = q.first
		}
		if q.last.After(p.last) {
			p.last = q.last
		}
		for g, n := range q.groups {
			p.groups[g] += n
		}
		p.examples = someExamples(append(p.examples, q.examples...))
	}
}

// check refuses what makes no sense.
func (cfg *Config) check() error {
	if cfg.MinCalls == 0 {
		cfg.MinCalls = defaultMinCalls
	}
	if cfg.MinCalls < 1 || cfg.Workers < 0 {
		return errors.New("the least number of calls must be 1 or more, and that of workers not negative")
	}
	if cfg.Filter.Until.IsZero() {
		cfg.Filter.Until = time.Now()
	}
	return nil
}
