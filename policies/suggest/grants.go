package suggest

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/callgate/callgate/audit/clickhouse"
	"github.com/callgate/callgate/policies"
)

// Suggestion is a grant and what speaks for it.
type Suggestion struct {
	Grant policies.Grant
	Calls uint64
	Held  uint64 // of Calls: people had let them through
	Days  int    // on which there were calls
	First time.Time
	Last  time.Time
	// Unbound says that no arguments were recorded to bind it to.
	Unbound bool

	conditions []string // of Grant.When, one a line
}

// Uncovered are calls that were let through and would not be.
type Uncovered struct {
	Issuer     string
	Subject    string
	Actors     []string
	Connection string
	Function   string
	Calls      uint64
	Why        string
	Examples   []clickhouse.Example
}

const (
	// maxWhen is the longest condition that is suggested, in bytes.
	maxWhen = 12 << 10
	// maxName is the longest name that a glob can hold when it is escaped.
	maxName = 500
	// fewest is how many identities a group must have to stand for them.
	fewest = 2
)

// sameKey is what grants of several principals to several functions share.
type sameKey struct {
	connection, actors, when string
	unbound                  bool
}

// draft is a grant in the making.
type draft struct {
	same       sameKey
	conditions []string
	functions  []string
	who        []principal // without actors, in order
	profiles   []*profile
}

// draftGrants makes grants of what was observed, in an order that depends on
// nothing else.
func draftGrants(o *observed, cfg *Config) (list []Suggestion, left []Uncovered) {
	b := bounder{minCalls: uint64(cfg.MinCalls), noValues: cfg.NoValues}
	keys := slices.SortedFunc(maps.Keys(o.profiles), compareKeys)
	type functionKey struct {
		sameKey
		function string
	}
	byFunction := map[functionKey]*draft{}
	var order []functionKey
	for _, key := range keys {
		p := o.profiles[key]
		if why := uncoverable(key, p, cfg); why != "" {
			left = append(left, uncovered(key, p.calls, why, p.examples))
			continue
		}
		conditions := append(callers(key.principal), arguments(b, p)...)
		k := functionKey{sameKey{key.connection, key.actors, strings.Join(conditions, " && "), p.args.seen == 0}, key.function}
		d := byFunction[k]
		if d == nil {
			d = &draft{same: k.sameKey, conditions: conditions, functions: []string{key.function}}
			byFunction[k] = d
			order = append(order, k)
		}
		d.who = append(d.who, principal{issuer: key.issuer, subject: key.subject})
		d.profiles = append(d.profiles, p)
	}
	// Functions that the same callers may use in the same way stand together.
	type whoKey struct {
		sameKey
		who string
	}
	together := map[whoKey]*draft{}
	var drafts []*draft
	for _, k := range order {
		d := byFunction[k]
		names := make([]string, len(d.who))
		for i, w := range d.who {
			names[i] = strconv.Quote(w.name())
		}
		wk := whoKey{d.same, strings.Join(names, ",")}
		if same := together[wk]; same != nil {
			same.functions = append(same.functions, d.functions...)
			same.profiles = append(same.profiles, d.profiles...)
			continue
		}
		together[wk] = d
		drafts = append(drafts, d)
	}
	slices.SortStableFunc(drafts, func(a, b *draft) int {
		return cmp.Or(cmp.Compare(a.same.connection, b.same.connection), cmp.Compare(a.functions[0], b.functions[0]))
	})
	number := map[string]int{}
	for _, d := range drafts {
		number[d.same.connection]++
		list = append(list, d.suggestion(o, cfg, number[d.same.connection]))
	}
	return list, left
}

func compareKeys(a, b profileKey) int {
	return cmp.Or(cmp.Compare(a.connection, b.connection), cmp.Compare(a.function, b.function), cmp.Compare(a.issuer, b.issuer),
		cmp.Compare(a.subject, b.subject), cmp.Compare(a.actors, b.actors))
}

// uncoverable says why a profile gets no grant, if so.
func uncoverable(key profileKey, p *profile, cfg *Config) string {
	switch {
	case key.subject == "":
		return "nobody was identified"
	case cfg.Connections != nil && !slices.Contains(cfg.Connections, key.connection):
		return "the configuration has no such connection"
	case p.calls < uint64(cfg.MinCalls):
		return fmt.Sprintf("fewer than %d calls", cfg.MinCalls)
	case len(key.function) > maxName || len(key.connection) > maxName:
		return "its name is too long for a grant"
	case key.function == "":
		return "it names no function"
	case strings.ContainsRune(key.function+key.subject+key.issuer, utf8.RuneError):
		return "its name is not recorded as it came"
	}
	return ""
}

func uncovered(key profileKey, calls uint64, why string, examples []clickhouse.Example) Uncovered {
	u := Uncovered{Issuer: key.issuer, Subject: key.subject, Connection: key.connection, Function: key.function, Calls: calls, Why: why, Examples: examples}
	if key.actors != "" {
		u.Actors = strings.Split(key.actors, "\n")
	}
	return u
}

func (p principal) name() string { return p.issuer + "|" + p.subject }

// callers are conditions on who calls that a grant's lists can't say.
func callers(p principal) []string {
	var all []string
	if !strings.Contains(p.issuer, "://") {
		// "issuer|subject" could be another issuer's subject.
		all = append(all, "identity.issuer == "+strconv.Quote(p.issuer))
	}
	switch chain := strings.Split(p.actors, "\n"); {
	case p.actors == "":
	case len(chain) == 1:
		all = append(all, "identity.actors.size() == 1") // not in person
	default:
		for i := range chain {
			chain[i] = strconv.Quote(chain[i])
		}
		all = append(all, `identity.actors.map(a, a.issuer + "|" + a.subject) == [`+strings.Join(chain, ", ")+"]")
	}
	return all
}

// arguments are the conditions on a profile's arguments.
func arguments(b bounder, p *profile) []string {
	if p.args.seen == 0 {
		return nil
	}
	if all := b.fields(&p.args, "call.args", maxNesting); len(strings.Join(all, " && ")) <= maxWhen {
		p.bound = true
		return all
	}
	// The names alone.
	names := shape{objects: p.args.objects, fields: map[string]*shape{}}
	for n, f := range p.args.fields {
		names.fields[n] = &shape{hidden: f.hidden}
	}
	if all := b.fields(&names, "call.args", maxNesting); len(strings.Join(all, " && ")) <= maxWhen {
		return all
	}
	return nil
}

func (d *draft) suggestion(o *observed, cfg *Config, n int) Suggestion {
	s := Suggestion{Unbound: d.same.unbound, conditions: d.conditions, First: d.profiles[0].first, Last: d.profiles[0].last}
	days := map[int64]struct{}{}
	for _, p := range d.profiles {
		s.Calls, s.Held = s.Calls+p.calls, s.Held+p.held
		maps.Copy(days, p.days)
		if p.first.Before(s.First) {
			s.First = p.first
		}
		if p.last.After(s.Last) {
			s.Last = p.last
		}
	}
	s.Days = len(days)
	s.Grant = policies.Grant{Name: fmt.Sprintf("seen-%s-%d", d.same.connection, n), Connections: []string{literal(d.same.connection)},
		When: strings.Join(d.conditions, " &&\n")}
	for _, f := range d.functions {
		s.Grant.Functions = append(s.Grant.Functions, literal(f))
	}
	if d.same.actors != "" {
		s.Grant.Actors = strings.Split(d.same.actors, "\n")
		slices.Sort(s.Grant.Actors)
		s.Grant.Actors = slices.Compact(s.Grant.Actors)
	}
	if group := d.group(o, cfg); group != "" {
		s.Grant.Groups = []string{group}
		return s
	}
	for _, w := range d.who {
		s.Grant.Identities = append(s.Grant.Identities, w.name())
	}
	return s
}

// group is a group whose members are exactly the callers of a draft, in all
// that was seen, or "".
func (d *draft) group(o *observed, cfg *Config) string {
	if len(d.who) < fewest || cfg.Filter.Identity != "" || cfg.Filter.Connection != "" || cfg.Filter.Function != "" {
		return "" // others in the group may not be among the calls that were read
	}
	for _, w := range d.who {
		// A group's name is no issuer's own.
		if w.issuer != d.who[0].issuer {
			return ""
		}
	}
next:
	for _, group := range slices.Sorted(maps.Keys(o.members)) {
		members := o.members[group]
		if group == "" || len(members) != len(d.who) {
			continue
		}
		for _, w := range d.who {
			if _, in := members[w]; !in {
				continue next
			}
		}
		for _, p := range d.profiles {
			if p.groups[group] != p.calls {
				continue next
			}
		}
		return group
	}
	return ""
}

// literal writes a name as a glob that fits it alone.
func literal(name string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`, `{`, `\{`, `}`, `\}`).Replace(name)
}
