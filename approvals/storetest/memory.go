package storetest

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/callgate/callgate/approvals"
	"github.com/callgate/callgate/call"
)

// Memory is a store for tests. It passes the suite, and can be made to fail.
type Memory struct {
	mu          sync.Mutex
	holds       map[string]approvals.Hold
	history     map[string][]approvals.Step
	changes     []string
	notices     []notice
	delegations []approvals.Delegation
	alive       map[string]time.Time
	sessions    map[[32]byte]time.Time
	fail        error
	before      func(step string)
}

type notice struct {
	approvals.Notice
	due time.Time
}

var _ approvals.Store = (*Memory)(nil)

// NewMemory returns an empty Memory.
func NewMemory() *Memory {
	return &Memory{holds: map[string]approvals.Hold{}, history: map[string][]approvals.Step{}, alive: map[string]time.Time{}, sessions: map[[32]byte]time.Time{}}
}

// Fail makes every step return err until it is called with nil.
func (m *Memory) Fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail = err
}

// Before has do called ahead of every step, with the step's name and no lock
// held, so that a test can put another step in between.
func (m *Memory) Before(do func(step string)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.before = do
}

func (m *Memory) enter(ctx context.Context, step string) error {
	m.mu.Lock()
	before := m.before
	m.mu.Unlock()
	if before != nil {
		before(step)
	}
	m.mu.Lock()
	if err := cmp.Or(m.fail, ctx.Err()); err != nil {
		m.mu.Unlock()
		return fmt.Errorf("%s: %w", step, err)
	}
	return nil
}

func (m *Memory) put(h approvals.Hold, steps []approvals.Step) approvals.Change {
	m.holds[h.ID] = h
	for _, s := range steps {
		m.history[h.ID] = append(m.history[h.ID], s)
		m.changes = append(m.changes, h.ID)
		for _, target := range h.Told(s) {
			m.notices = append(m.notices, notice{approvals.Notice{Target: target, Hold: h.ID, Step: s}, s.At})
		}
	}
	h.Request.Body = nil
	return approvals.Change{Hold: h, Steps: steps}
}

// Ask implements [approvals.Holds].
func (m *Memory) Ask(ctx context.Context, h approvals.Hold) (approvals.Change, error) {
	if err := m.enter(ctx, "ask"); err != nil {
		return approvals.Change{}, err
	}
	defer m.mu.Unlock()
	var takers []approvals.Hold
	for _, one := range m.holds {
		if one.Binding == h.Binding && one.Takes(m.alive[one.Owner].After(h.AskedAt), h.AskedAt) {
			takers = append(takers, one)
		}
	}
	if len(takers) > 0 {
		one := slices.MinFunc(takers, func(a, b approvals.Hold) int {
			return cmp.Or(cmp.Compare(a.State, b.State), b.AskedAt.Compare(a.AskedAt))
		})
		one.Owner, one.Attempts = h.Owner, one.Attempts+1
		m.holds[one.ID] = one
		return approvals.Change{Hold: one}, nil
	}
	open := 0
	for _, one := range m.holds {
		if one.State == approvals.Open && approvals.PersonOf(one.Identity) == approvals.PersonOf(h.Identity) {
			open++
		}
	}
	if h.Most > 0 && open >= h.Most {
		return approvals.Change{}, approvals.ErrTooMany
	}
	h.Most = 0
	return m.begin(h, approvals.Open)
}

// Break implements [approvals.Holds].
func (m *Memory) Break(ctx context.Context, h approvals.Hold) (approvals.Change, error) {
	if err := m.enter(ctx, "break"); err != nil {
		return approvals.Change{}, err
	}
	defer m.mu.Unlock()
	return m.begin(h, approvals.BrokeGlass)
}

func (m *Memory) begin(h approvals.Hold, state approvals.State) (approvals.Change, error) {
	if _, twice := m.holds[h.ID]; twice {
		return approvals.Change{}, fmt.Errorf("create %s: it stands already", h.ID)
	}
	h.State, h.Identity.Claims, h.Request.Body = state, nil, slices.Clone(h.Request.Body)
	return m.put(h, h.Begin()), nil
}

// Get implements [approvals.Holds].
func (m *Memory) Get(ctx context.Context, id string) (approvals.Hold, error) {
	if err := m.enter(ctx, "get"); err != nil {
		return approvals.Hold{}, err
	}
	defer m.mu.Unlock()
	h, ok := m.holds[id]
	if !ok {
		return h, approvals.ErrNotFound
	}
	return h, nil
}

// Status implements [approvals.Holds].
func (m *Memory) Status(ctx context.Context, id string) (approvals.Status, error) {
	if err := m.enter(ctx, "status"); err != nil {
		return approvals.Status{}, err
	}
	defer m.mu.Unlock()
	h, ok := m.holds[id]
	if !ok {
		return h.Status, approvals.ErrNotFound
	}
	return h.Status, nil
}

// List implements [approvals.Holds].
func (m *Memory) List(ctx context.Context, f approvals.Filter) ([]approvals.Hold, error) {
	if err := m.enter(ctx, "list"); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	var out []approvals.Hold
	for _, h := range m.holds {
		switch {
		case f.State != "" && h.State != f.State, f.Connection != "" && h.Connection != f.Connection, f.Function != "" && h.Function != f.Function,
			f.Rule != "" && h.Rule != f.Rule, f.Subject != "" && h.Identity.Subject != f.Subject, f.Unreviewed && !h.Unreviewed(), h.AskedAt.Before(f.Since):
			continue
		}
		if c := cmp.Or(h.AskedAt.Compare(f.Before), cmp.Compare(h.ID, f.BeforeID)); !f.Before.IsZero() && c >= 0 {
			continue
		}
		h.Request.Body = nil
		out = append(out, h)
	}
	slices.SortFunc(out, func(a, b approvals.Hold) int { return cmp.Or(b.AskedAt.Compare(a.AskedAt), cmp.Compare(b.ID, a.ID)) })
	return out[:min(len(out), f.Size())], nil
}

// History implements [approvals.Holds].
func (m *Memory) History(ctx context.Context, id string) ([]approvals.Step, error) {
	if err := m.enter(ctx, "history"); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	return slices.Clone(m.history[id]), nil
}

// LastApproved implements [approvals.Holds].
func (m *Memory) LastApproved(ctx context.Context, h approvals.Hold) (approvals.Hold, error) {
	if err := m.enter(ctx, "last approved"); err != nil {
		return approvals.Hold{}, err
	}
	defer m.mu.Unlock()
	var last approvals.Hold
	for _, one := range m.holds {
		approved := one.State == approvals.Approved || one.State == approvals.Used
		if approved && approvals.PersonOf(one.Identity) == approvals.PersonOf(h.Identity) && one.Connection == h.Connection && one.Function == h.Function &&
			!one.AskedAt.After(h.AskedAt) && one.ID != h.ID && (last.ID == "" || one.EndedAt.After(last.EndedAt)) {
			last = one
		}
	}
	if last.ID == "" {
		return last, approvals.ErrNotFound
	}
	return last, nil
}

// Counts implements [approvals.Holds].
func (m *Memory) Counts(ctx context.Context) (approvals.Counts, error) {
	var c approvals.Counts
	if err := m.enter(ctx, "counts"); err != nil {
		return c, err
	}
	defer m.mu.Unlock()
	for _, h := range m.holds {
		if h.Unreviewed() {
			c.Unreviewed++
		}
		if h.State == approvals.Open {
			if c.Open == 0 || h.AskedAt.Before(c.Oldest) {
				c.Oldest = h.AskedAt
			}
			c.Open++
		}
	}
	return c, nil
}

func (m *Memory) change(ctx context.Context, step, id string, do func(*approvals.Hold) ([]approvals.Step, error)) (approvals.Change, error) {
	if err := m.enter(ctx, step); err != nil {
		return approvals.Change{}, err
	}
	defer m.mu.Unlock()
	h, ok := m.holds[id]
	if !ok {
		return approvals.Change{}, approvals.ErrNotFound
	}
	steps, err := do(&h)
	if err != nil {
		return approvals.Change{}, err
	}
	return m.put(h, steps), nil
}

// Decide implements [approvals.Holds].
func (m *Memory) Decide(ctx context.Context, id string, v approvals.Verdict) (approvals.Change, error) {
	return m.change(ctx, "decide", id, func(h *approvals.Hold) ([]approvals.Step, error) { return h.Decide(v) })
}

// Use implements [approvals.Holds].
func (m *Memory) Use(ctx context.Context, id string, u approvals.Use) (approvals.Change, error) {
	return m.change(ctx, "use", id, func(h *approvals.Hold) ([]approvals.Step, error) { return h.Use(u) })
}

// End implements [approvals.Holds].
func (m *Memory) End(ctx context.Context, id string, to approvals.State, at time.Time) (approvals.Change, error) {
	return m.change(ctx, "end", id, func(h *approvals.Hold) ([]approvals.Step, error) { return h.End(to, at) })
}

// Mark implements [approvals.Holds].
func (m *Memory) Mark(ctx context.Context, id string, mark approvals.Mark) (approvals.Change, error) {
	return m.change(ctx, "mark", id, func(h *approvals.Hold) ([]approvals.Step, error) { return h.Mark(mark) })
}

// Judge implements [approvals.Holds].
func (m *Memory) Judge(ctx context.Context, id string, r approvals.Review) (approvals.Change, error) {
	return m.change(ctx, "judge", id, func(h *approvals.Hold) ([]approvals.Step, error) { return h.Judge(r) })
}

// Expire implements [approvals.Holds].
func (m *Memory) Expire(ctx context.Context, at time.Time, limit int) ([]approvals.Change, error) {
	if err := m.enter(ctx, "expire"); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	var out []approvals.Change
	for _, h := range m.holds {
		if h.Overdue(at) && len(out) < limit {
			steps := h.Expire(at)
			out = append(out, m.put(h, steps))
		}
	}
	return out, nil
}

// Changes implements [approvals.Holds].
func (m *Memory) Changes(ctx context.Context, after int64) ([]string, int64, error) {
	if err := m.enter(ctx, "changes"); err != nil {
		return nil, after, err
	}
	defer m.mu.Unlock()
	if after < 0 {
		return nil, int64(len(m.changes)), nil
	}
	return slices.Clone(m.changes[after:]), int64(len(m.changes)), nil
}

// Erase implements [approvals.Holds].
func (m *Memory) Erase(ctx context.Context, calls []call.ID, at time.Time) (int, error) {
	if err := m.enter(ctx, "erase"); err != nil {
		return 0, err
	}
	defer m.mu.Unlock()
	n := 0
	for id, h := range m.holds {
		usable := h.State == approvals.Open || h.State == approvals.Approved && !h.UseBy.Before(at)
		if usable || !slices.Contains(calls, h.CallID) && !slices.Contains(calls, h.UsedFor) || h.Binding == [32]byte{} {
			continue
		}
		h.ArgsJSON, h.Request.Path, h.Request.Body, h.Binding = nil, "", nil, [32]byte{}
		m.holds[id] = h
		n++
	}
	return n, nil
}

// Prune implements [approvals.Holds].
func (m *Memory) Prune(ctx context.Context, before time.Time, limit int) (int, error) {
	if err := m.enter(ctx, "prune"); err != nil {
		return 0, err
	}
	defer m.mu.Unlock()
	n := 0
	for id, h := range m.holds {
		if n < limit && !h.EndedAt.IsZero() && h.EndedAt.Before(before) && !h.Unreviewed() {
			delete(m.holds, id)
			delete(m.history, id)
			m.notices = slices.DeleteFunc(m.notices, func(n notice) bool { return n.Hold == id })
			n++
		}
	}
	m.delegations = slices.DeleteFunc(m.delegations, func(d approvals.Delegation) bool {
		return d.Until.Before(before) || !d.Ended.IsZero() && d.Ended.Before(before)
	})
	return n, nil
}

// Lease implements [approvals.Outbox].
func (m *Memory) Lease(ctx context.Context, target string, at, until time.Time, limit int) ([]approvals.Notice, error) {
	if err := m.enter(ctx, "lease"); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	var out []approvals.Notice
	seen := map[string]bool{}
	for i := range m.notices { // in each hold's order
		n := &m.notices[i]
		if n.Target != target || seen[n.Hold] || len(out) == limit {
			continue
		}
		seen[n.Hold] = true
		if !n.due.After(at) {
			n.due = until
			n.Attempts++
			out = append(out, n.Notice)
		}
	}
	return out, nil
}

func (n notice) is(o approvals.Notice) bool {
	return n.Hold == o.Hold && n.Target == o.Target && n.Step.N == o.Step.N
}

// Delivered implements [approvals.Outbox].
func (m *Memory) Delivered(ctx context.Context, list ...approvals.Notice) error {
	if err := m.enter(ctx, "delivered"); err != nil {
		return err
	}
	defer m.mu.Unlock()
	m.notices = slices.DeleteFunc(m.notices, func(n notice) bool { return slices.ContainsFunc(list, n.is) })
	return nil
}

// Failed implements [approvals.Outbox].
func (m *Memory) Failed(ctx context.Context, of approvals.Notice, next time.Time) error {
	if err := m.enter(ctx, "failed"); err != nil {
		return err
	}
	defer m.mu.Unlock()
	for i, n := range m.notices {
		if n.is(of) && n.Attempts == of.Attempts {
			m.notices[i].due = next
		}
	}
	return nil
}

// Undelivered implements [approvals.Outbox].
func (m *Memory) Undelivered(ctx context.Context, target string) (int, error) {
	if err := m.enter(ctx, "undelivered"); err != nil {
		return 0, err
	}
	defer m.mu.Unlock()
	n := 0
	for _, one := range m.notices {
		if one.Target == target {
			n++
		}
	}
	return n, nil
}

// Delegate implements [approvals.Delegations].
func (m *Memory) Delegate(ctx context.Context, d approvals.Delegation) error {
	if err := m.enter(ctx, "delegate"); err != nil {
		return err
	}
	defer m.mu.Unlock()
	d.From.Claims = nil
	m.delegations = append(m.delegations, d)
	return nil
}

// Undelegate implements [approvals.Delegations].
func (m *Memory) Undelegate(ctx context.Context, id, by string, at time.Time) (approvals.Delegation, error) {
	if err := m.enter(ctx, "undelegate"); err != nil {
		return approvals.Delegation{}, err
	}
	defer m.mu.Unlock()
	for i, d := range m.delegations {
		if d.ID == id && d.Active(at) {
			m.delegations[i].Ended, m.delegations[i].EndedBy = at, by
			return m.delegations[i], nil
		}
	}
	return approvals.Delegation{}, approvals.ErrNotFound
}

// Delegations implements [approvals.Delegations].
func (m *Memory) Delegations(ctx context.Context, at time.Time) ([]approvals.Delegation, error) {
	if err := m.enter(ctx, "delegations"); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	var out []approvals.Delegation
	for _, d := range m.delegations {
		if at.IsZero() || d.Active(at) {
			out = append(out, d)
		}
	}
	slices.SortFunc(out, func(a, b approvals.Delegation) int {
		return cmp.Or(b.Created.Compare(a.Created), cmp.Compare(b.ID, a.ID))
	})
	return out, nil
}

// Alive implements [approvals.Replicas].
func (m *Memory) Alive(ctx context.Context, replica string, until time.Time) error {
	if err := m.enter(ctx, "alive"); err != nil {
		return err
	}
	defer m.mu.Unlock()
	m.alive[replica] = until
	return nil
}

// NoteSession implements [approvals.Sessions].
func (m *Memory) NoteSession(ctx context.Context, session [32]byte, at, until time.Time) error {
	if err := m.enter(ctx, "note session"); err != nil {
		return err
	}
	defer m.mu.Unlock()
	maps.DeleteFunc(m.sessions, func(_ [32]byte, until time.Time) bool { return !until.After(at) })
	if until.After(m.sessions[session]) {
		m.sessions[session] = until
	}
	return nil
}

// NotedSession implements [approvals.Sessions].
func (m *Memory) NotedSession(ctx context.Context, session [32]byte, at time.Time) (bool, error) {
	if err := m.enter(ctx, "noted session"); err != nil {
		return false, err
	}
	defer m.mu.Unlock()
	return m.sessions[session].After(at), nil
}
