package storetest

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/callgate/callgate/approvals"
	"github.com/callgate/callgate/call"
)

// Memory is a store for tests. It passes the suite, and can be made to fail.
type Memory struct {
	mu      sync.Mutex
	holds   map[string]approvals.Hold
	changes []string
	fail    error
	before  func(step string)
}

// NewMemory returns an empty Memory.
func NewMemory() *Memory { return &Memory{holds: map[string]approvals.Hold{}} }

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

func (m *Memory) put(h approvals.Hold) {
	if m.holds[h.ID].State != h.State {
		m.changes = append(m.changes, h.ID)
	}
	m.holds[h.ID] = h
}

// Create implements [approvals.Store].
func (m *Memory) Create(ctx context.Context, h approvals.Hold) error {
	if err := m.enter(ctx, "create"); err != nil {
		return err
	}
	defer m.mu.Unlock()
	if _, twice := m.holds[h.ID]; twice {
		return fmt.Errorf("create %s: it stands already", h.ID)
	}
	h.Status = approvals.Status{State: approvals.Open}
	h.Identity.Claims = nil
	h.Request.Body = slices.Clone(h.Request.Body)
	m.holds[h.ID] = h
	return nil
}

// Get implements [approvals.Store].
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

// Status implements [approvals.Store].
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

// List implements [approvals.Store].
func (m *Memory) List(ctx context.Context, f approvals.Filter) ([]approvals.Hold, error) {
	if err := m.enter(ctx, "list"); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	var out []approvals.Hold
	for _, h := range m.holds {
		if f.State != "" && h.State != f.State || f.Connection != "" && h.Connection != f.Connection {
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

// Decide implements [approvals.Store].
func (m *Memory) Decide(ctx context.Context, id string, v approvals.Verdict) error {
	if err := m.enter(ctx, "decide"); err != nil {
		return err
	}
	defer m.mu.Unlock()
	h, ok := m.holds[id]
	switch {
	case !ok:
		return approvals.ErrNotFound
	case h.State == approvals.Canceled:
		return approvals.ErrCanceled
	case h.State == approvals.Expired, h.State == approvals.Open && !v.At.Before(h.Expires):
		return approvals.ErrExpired
	case h.State != approvals.Open:
		return approvals.ErrDecided
	}
	h.State = approvals.Refused
	if v.Approve {
		h.State = approvals.Approved
	}
	h.By, h.Comment, h.DecidedAt, h.EndedAt = v.By, v.Comment, v.At, v.At
	m.put(h)
	return nil
}

// Use implements [approvals.Store].
func (m *Memory) Use(ctx context.Context, id string, binding [32]byte, at time.Time) error {
	if err := m.enter(ctx, "use"); err != nil {
		return err
	}
	defer m.mu.Unlock()
	h, ok := m.holds[id]
	switch {
	case !ok:
		return approvals.ErrNotFound
	case h.State == approvals.Used:
		return approvals.ErrUsed
	case h.State != approvals.Approved:
		return approvals.ErrNotApproved
	case h.Binding != binding:
		return approvals.ErrBinding
	case at.Add(-approvals.Grace).After(h.Expires):
		return approvals.ErrExpired
	}
	h.State, h.UsedAt = approvals.Used, at
	m.put(h)
	return nil
}

// End implements [approvals.Store].
func (m *Memory) End(ctx context.Context, id string, to approvals.State, at time.Time) (approvals.Status, bool, error) {
	if err := m.enter(ctx, "end"); err != nil {
		return approvals.Status{}, false, err
	}
	defer m.mu.Unlock()
	h, ok := m.holds[id]
	switch {
	case to != approvals.Expired && to != approvals.Canceled:
		return approvals.Status{}, false, fmt.Errorf("end %s as %q", id, to)
	case !ok:
		return approvals.Status{}, false, approvals.ErrNotFound
	case h.State != approvals.Open:
		return h.Status, false, nil
	}
	h.State, h.EndedAt = to, at
	m.put(h)
	return h.Status, true, nil
}

// Expire implements [approvals.Store].
func (m *Memory) Expire(ctx context.Context, at time.Time, limit int) ([]approvals.Hold, error) {
	if err := m.enter(ctx, "expire"); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	var out []approvals.Hold
	for _, h := range m.holds {
		if h.State == approvals.Open && !h.Expires.After(at) && len(out) < limit {
			h.State, h.EndedAt = approvals.Expired, at
			m.put(h)
			h.Request.Body = nil
			out = append(out, h)
		}
	}
	return out, nil
}

// Changes implements [approvals.Store].
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

// Erase implements [approvals.Store].
func (m *Memory) Erase(ctx context.Context, calls []call.ID, at time.Time) (int, error) {
	if err := m.enter(ctx, "erase"); err != nil {
		return 0, err
	}
	defer m.mu.Unlock()
	n := 0
	for _, h := range m.holds {
		usable := h.State == approvals.Open || h.State == approvals.Approved && !h.Expires.Before(at.Add(-approvals.Grace))
		if usable || !slices.Contains(calls, h.CallID) || h.Binding == [32]byte{} {
			continue
		}
		h.ArgsJSON, h.Request.Path, h.Request.Body, h.Binding = nil, "", nil, [32]byte{}
		m.put(h)
		n++
	}
	return n, nil
}

// Prune implements [approvals.Store].
func (m *Memory) Prune(ctx context.Context, before time.Time, limit int) (int, error) {
	if err := m.enter(ctx, "prune"); err != nil {
		return 0, err
	}
	defer m.mu.Unlock()
	n := 0
	for id, h := range m.holds {
		if n < limit && !h.EndedAt.IsZero() && h.EndedAt.Before(before) {
			delete(m.holds, id)
			n++
		}
	}
	return n, nil
}
