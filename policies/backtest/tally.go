package backtest

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/callgate/callgate/audit/clickhouse"
	"github.com/callgate/callgate/call"
)

// maxGroups bounds the differences that are told apart in one piece of the
// calls, and in the report. More than that nobody reads.
const maxGroups = 10_000

// differentKey is what calls that are decided differently are grouped by.
type differentKey struct {
	from, to           string
	rule, was          string // by name, else the reason
	issuer, subject    string
	acting             string
	connection, method string
}

type unjudgedKey struct{ why string }

// some are calls of one group.
type some struct {
	calls    uint64
	examples []clickhouse.Example // the newest first
}

// groups are counted calls by key.
type groups[K comparable] struct {
	by    map[K]*some
	most  int // examples
	other some
}

func newGroups[K comparable](examples int) groups[K] {
	return groups[K]{by: map[K]*some{}, most: examples}
}

func (g *groups[K]) add(key K, calls uint64, examples []clickhouse.Example) {
	s, known := g.by[key]
	if !known {
		if len(g.by) >= maxGroups {
			s = &g.other
		} else {
			s = &some{}
			g.by[key] = s
		}
	}
	s.add(calls, examples, g.most)
}

func (s *some) add(calls uint64, examples []clickhouse.Example, most int) {
	s.calls += calls
	for _, e := range examples {
		at, found := slices.BinarySearchFunc(s.examples, e, newest)
		if found || at >= most {
			continue
		}
		s.examples = slices.Insert(s.examples, at, e)
		s.examples = s.examples[:min(len(s.examples), most)]
	}
}

// newest orders examples the newest first.
func newest(a, b clickhouse.Example) int {
	return cmp.Or(b.Time.Compare(a.Time), cmp.Compare(b.ID.String(), a.ID.String()))
}

func (g *groups[K]) merge(from *groups[K]) {
	for key, s := range from.by {
		g.add(key, s.calls, s.examples)
	}
	g.other.add(from.other.calls, from.other.examples, g.most)
}

// tally counts what a replay finds.
type tally struct {
	same      uint64
	otherRule uint64 // of same
	held      uint64 // of same and different: people were asked then
	different groups[differentKey]
	changes   map[[2]string]uint64 // calls of different, by from and to
	unjudged  groups[unjudgedKey]
	unruled   map[string]uint64 // calls that were denied before the rules, by reason
}

func newTally(examples int) *tally {
	return &tally{different: newGroups[differentKey](examples), unjudged: newGroups[unjudgedKey](examples), unruled: map[string]uint64{}, changes: map[[2]string]uint64{}}
}

// judge counts calls of which both rulings are known.
func (t *tally) judge(rec *Recorded, before, after call.Ruling, g *clickhouse.Group, masks bool) {
	if before.Action == call.ActionHold {
		t.held += g.Calls
	}
	from, to := string(before.Action), string(after.Action)
	if from == to && masks && after.Action != call.ActionDeny && !sameMasks(before.Mask, after.Mask) {
		to += ", other masks"
	}
	if from == to {
		t.same += g.Calls
		// The rule is not known where several would each have denied.
		if before.Rule != after.Rule && (after.Rule != "" || after.Reason != "") {
			t.otherRule += g.Calls
		}
		return
	}
	t.changes[[2]string{from, to}] += g.Calls
	id := &rec.Call.Identity
	t.different.add(differentKey{
		from: from, to: to, rule: word(after), was: word(before),
		issuer: id.Issuer, subject: id.Subject, acting: g.Row.Acting, connection: rec.Call.Connection, method: rec.Call.Function,
	}, g.Calls, g.Examples)
}

func sameMasks(a, b call.Mask) bool {
	return slices.EqualFunc(a.Rules, b.Rules, func(a, b call.MaskRule) bool {
		return a.Name == b.Name && a.How == b.How && slices.Equal(a.Paths, b.Paths) && slices.Equal(a.Keys, b.Keys) && slices.Equal(a.Detect, b.Detect)
	})
}

// word is what a ruling is told by.
func word(r call.Ruling) string {
	switch {
	case r.Rule != "" && r.Reason == call.ReasonPolicyError:
		return r.Rule + " (" + string(r.Reason) + ")"
	case r.Rule != "":
		return r.Rule
	}
	return string(r.Reason)
}

func (t *tally) merge(from *tally) {
	t.same, t.otherRule, t.held = t.same+from.same, t.otherRule+from.otherRule, t.held+from.held
	t.different.merge(&from.different)
	t.unjudged.merge(&from.unjudged)
	for change, n := range from.changes {
		t.changes[change] += n
	}
	for reason, n := range from.unruled {
		t.unruled[reason] += n
	}
}

// Report is what a replay found. Lists are in order: the most calls first.
type Report struct {
	Since     time.Time `json:"since,omitzero"`
	Until     time.Time `json:"until"`
	Candidate string    `json:"candidate"` // version of the policy
	Baseline  string    `json:"baseline"`  // version, or "recorded"

	Calls     uint64 `json:"calls"` // that came in the time; the sum of the next four
	Same      uint64 `json:"same"`
	Different uint64 `json:"different"`
	Unjudged  uint64 `json:"unjudged"`  // what they were decided by is not recorded
	NotRuled  uint64 `json:"not_ruled"` // denied before any rule was asked

	// OtherRule are those of Same that another rule decides the same way.
	OtherRule uint64 `json:"other_rule"`
	// Held are those that people were asked about then. They are compared by
	// what the rules say; what people would say is not known.
	Held uint64 `json:"held"`

	Changes []Change     `json:"changes"`
	Details []Difference `json:"differences"`
	Missing []Missing    `json:"missing"`
	Before  []NotRuled   `json:"before_rules"`
	// Untold are calls of Different that are in Changes and not in Details,
	// where there are too many groups.
	Untold uint64 `json:"untold,omitempty"`
}

// Change is how many calls go from one action to another.
type Change struct {
	From  string `json:"from"`
	To    string `json:"to"`
	Calls uint64 `json:"calls"`
}

// Difference are calls of one identity and function that one rule would decide
// differently.
type Difference struct {
	From       string    `json:"from"` // allow, hold or deny
	To         string    `json:"to"`
	Rule       string    `json:"rule"` // that decides now, or the reason where none does
	Was        string    `json:"was"`  // that decided then
	Issuer     string    `json:"issuer"`
	Subject    string    `json:"subject"`
	Acting     string    `json:"acting,omitempty"` // who was at work for the subject, if another
	Connection string    `json:"connection"`
	Function   string    `json:"function"`
	Calls      uint64    `json:"calls"`
	Examples   []Example `json:"examples"` // the newest calls
}

// Example is one call.
type Example struct {
	ID   string    `json:"call_id"`
	Time time.Time `json:"time"`
}

// Missing are calls that can't be judged for one reason.
type Missing struct {
	Why      string    `json:"why"`
	Calls    uint64    `json:"calls"`
	Examples []Example `json:"examples,omitempty"`
}

// NotRuled are calls that were denied before any rule was asked.
type NotRuled struct {
	Reason string `json:"reason"`
	Calls  uint64 `json:"calls"`
}

func (t *tally) report(cfg *Config) *Report {
	r := &Report{Since: cfg.Filter.Since, Until: cfg.Filter.Until, Candidate: cfg.Candidate.Set.Version(), Baseline: "recorded",
		Same: t.same, OtherRule: t.otherRule, Held: t.held, Untold: t.different.other.calls,
		Changes: []Change{}, Details: []Difference{}, Missing: []Missing{}, Before: []NotRuled{}}
	if cfg.Baseline != nil {
		r.Baseline = cfg.Baseline.Set.Version()
	}
	for k, s := range t.different.by {
		d := Difference{From: k.from, To: k.to, Rule: k.rule, Was: k.was, Issuer: k.issuer, Subject: k.subject, Connection: k.connection, Function: k.method,
			Calls: s.calls, Examples: examples(s.examples)}
		if k.acting != k.subject {
			d.Acting = k.acting
		}
		r.Details = append(r.Details, d)
	}
	slices.SortFunc(r.Details, func(a, b Difference) int {
		return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To), cmp.Compare(b.Calls, a.Calls), cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Was, b.Was),
			cmp.Compare(a.Connection, b.Connection), cmp.Compare(a.Function, b.Function), cmp.Compare(a.Issuer, b.Issuer), cmp.Compare(a.Subject, b.Subject), cmp.Compare(a.Acting, b.Acting))
	})
	for k, n := range t.changes {
		r.Different += n
		r.Changes = append(r.Changes, Change{k[0], k[1], n})
	}
	slices.SortFunc(r.Changes, func(a, b Change) int {
		return cmp.Or(cmp.Compare(b.Calls, a.Calls), cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To))
	})
	for k, s := range t.unjudged.by {
		r.Missing = append(r.Missing, Missing{k.why, s.calls, examples(s.examples)})
		r.Unjudged += s.calls
	}
	if n := t.unjudged.other.calls; n > 0 {
		r.Missing = append(r.Missing, Missing{Why: "other reasons", Calls: n})
		r.Unjudged += n
	}
	slices.SortFunc(r.Missing, func(a, b Missing) int { return cmp.Or(cmp.Compare(b.Calls, a.Calls), cmp.Compare(a.Why, b.Why)) })
	for _, reason := range slices.Sorted(maps.Keys(t.unruled)) {
		r.Before = append(r.Before, NotRuled{reason, t.unruled[reason]})
		r.NotRuled += t.unruled[reason]
	}
	r.Calls = r.Same + r.Different + r.Unjudged + r.NotRuled
	return r
}

func examples(list []clickhouse.Example) []Example {
	out := make([]Example, len(list))
	for i, e := range list {
		out[i] = Example{e.ID.String(), e.Time}
	}
	return out
}
