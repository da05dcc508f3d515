package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/callgate/callgate/audit"
	"github.com/callgate/callgate/audit/clickhouse"
	"github.com/callgate/callgate/audit/ledger"
	"github.com/callgate/callgate/call"
)

// maxOpen bounds the events between two checkpoints that are remembered, to name
// the one that was changed.
const maxOpen = 4_000_000

// open is an event behind the last checkpoint that held.
type open struct {
	prefix [audit.PrefixSize]byte
	id     uuid.UUID
	gap    bool // it is missing
}

// logRun reads one log.
type logRun struct {
	v         *verifier
	spool     string
	trust     *trust
	tree      *ledger.Tree
	marks     []mark // not reached yet
	open      []open
	openAt    uint64 // index of the first of open
	broken    bool   // a root did not hold, so those after it can't
	log       Log
	unsigned  map[string]int      // checkpoints by what is wrong with their signature
	foreign   uint64              // the most that a checkpoint covers that nobody trusted signed
	newest    time.Time           // of the events that are not proved yet, and could be
	changes   []change            // told by events that are not proved yet
	approvals map[uint64][16]byte // digests of the rows that approvals must have
	last      *clickhouse.LedgerEvent
}

// change is what an event tells of the log itself.
type change struct {
	call.ChangeEvent
	at time.Time
}

// log verifies one spool.
func (v *verifier) log(ctx context.Context, s clickhouse.SpoolEvents, witness []mark) error {
	t, err := newTrust(v.cfg.Keys)
	if err != nil {
		return err
	}
	stored, err := v.cfg.Source.Checkpoints(ctx, s.Spool)
	if err != nil {
		return err
	}
	r := &logRun{v: v, spool: s.Spool, trust: t, tree: ledger.NewTree(), marks: marks(stored, witness), log: Log{Spool: s.Spool},
		unsigned: make(map[string]int), approvals: make(map[uint64][16]byte)}
	if n := len(stored); n > 0 {
		r.log.Node = stored[n-1].Node
	}
	r.begin()
	r.log.First, r.openAt = r.tree.Size(), r.tree.Size()
	v.cfg.Progress(fmt.Sprintf("spool %s %s: events from %d", s.Spool, r.log.Node, r.tree.Size()))
	if err := v.cfg.Source.Ledger(ctx, s.Spool, r.tree.Size(), func(e *clickhouse.LedgerEvent) error { return r.event(ctx, e) }); err != nil {
		return err
	}
	if err := r.end(ctx); err != nil {
		return err
	}
	v.report.Logs = append(v.report.Logs, r.log)
	return nil
}

// begin chooses where to read from: the last signed tree before the time that is
// asked for.
func (r *logRun) begin() {
	for _, m := range r.marks {
		if r.v.cfg.Since.IsZero() || !m.at.Before(r.v.cfg.Since) || m.size < r.tree.Size() {
			continue
		}
		if tree := m.start(r.spool, r.trust); tree != nil {
			r.tree = tree
			r.log.Signed, r.log.SignedAt = m.size, m.at
		}
	}
	size := r.tree.Size()
	r.marks = slices.DeleteFunc(r.marks, func(m mark) bool { return m.size < size })
	if size > 0 {
		r.v.unchecked("spool %s: the %d events before %s are not looked at, as --since asks", r.spool, size, r.log.SignedAt.UTC().Format(time.RFC3339))
	}
}

func (r *logRun) event(ctx context.Context, e *clickhouse.LedgerEvent) error {
	if e.Index < r.tree.Size() {
		kind, what := Doubled, "the event is there twice"
		if r.last == nil || r.last.Index != e.Index || r.last.Leaf != e.Leaf {
			kind, what = Inserted, "a second event has this place in the log"
		}
		r.v.find(Finding{Kind: kind, Table: "events", Spool: r.spool, Index: e.Index, CallID: e.CallID, What: what})
		return nil
	}
	// Checkpoints that cover nothing new, and those that end in a gap.
	if err := r.reach(ctx); err != nil {
		return err
	}
	for r.tree.Size() < e.Index {
		r.push(ledger.LostLeaf, open{gap: true})
		if err := r.reach(ctx); err != nil {
			return err
		}
	}
	hash := ledger.LeafHash([]byte(e.Leaf))
	r.push(hash, open{prefix: [audit.PrefixSize]byte(hash[:audit.PrefixSize]), id: e.CallID})
	r.log.Events++
	r.look(e)
	// Checkpoints come after the events that they cover, and were read before.
	if coming := !e.Inserted.Before(r.v.cfg.Now.Add(-signedSoon)) && !e.Inserted.After(time.Now().Add(grace)); !coming && e.Time.After(r.newest) {
		r.newest = e.Time
	}
	copied := *e
	r.last = &copied
	return r.reach(ctx)
}

func (r *logRun) push(hash ledger.Hash, o open) {
	r.tree.Append(hash)
	if len(r.open) == maxOpen {
		r.openAt += uint64(len(r.open) / 2)
		r.open = append(r.open[:0], r.open[len(r.open)/2:]...)
	}
	r.open = append(r.open, o)
}

// look checks what stands beside the leaf, and takes note of what the event
// tells of the log itself.
func (r *logRun) look(row *clickhouse.LedgerEvent) {
	find := func(what string) {
		r.v.find(Finding{Kind: Edited, Table: "events", Spool: r.spool, Index: row.Index, CallID: row.CallID, What: what})
	}
	rec := audit.Record{Index: row.Index, Leaf: []byte(row.Leaf), Aside: []byte(row.Aside), Head: []byte(row.Head), Tail: []byte(row.Tail)}
	e, err := rec.Event(r.v.codec)
	if err != nil {
		if row.Kind != "unreadable" {
			find(fmt.Sprintf("it can't be read: %v", err))
		}
		return
	}
	switch {
	case row.Kind != string(e.Kind):
		find(fmt.Sprintf("its column kind says %q, the event %q", row.Kind, e.Kind))
	case row.CallID != e.CallID:
		find(fmt.Sprintf("its column call_id says %s, the event %s", row.CallID, e.CallID))
	case row.Time.UnixMicro() != clickhouse.ColumnTime(e.Time).UnixMicro():
		find("its column time is not that of the event")
	}
	switch {
	case e.Answered != nil && row.Unjoined:
		r.content(row, &e, e.Answered.Retain)
	case e.Decided != nil && row.Unjoined:
		r.content(row, &e, e.Decided.Retain)
	case e.Approval != nil:
		r.approvals[row.Index] = clickhouse.ApprovalDigest(&e, r.spool, row.Index)
	case e.Change != nil:
		r.changes = append(r.changes, change{*e.Change, e.Time})
	}
}

// content checks the content that is kept beside a leaf.
func (r *logRun) content(row *clickhouse.LedgerEvent, e *call.Event, retain call.Retain) {
	f := Finding{Kind: Edited, Table: "events", Spool: r.spool, Index: row.Index, CallID: row.CallID, What: "its content is not the one that was recorded"}
	if row.Aside == "" && row.Head == "" && row.Tail == "" {
		if !r.v.over(retain.Bodies) {
			f.Kind, f.What = Deleted, "its content is missing, and neither retention nor an erasure took it"
			r.v.doubts = append(r.v.doubts, doubt{id: row.CallID, finding: f})
		}
		return
	}
	if audit.CheckContent(e) != nil {
		r.v.find(f)
	}
}

// reach compares the tree with the checkpoints that cover just what was read.
func (r *logRun) reach(ctx context.Context) error {
	for len(r.marks) > 0 && r.marks[0].size <= r.tree.Size() {
		m := r.marks[0]
		r.marks = r.marks[1:]
		if m.size < r.tree.Size() {
			continue // begin came later
		}
		c, err := m.open(r.spool, r.trust)
		switch {
		case errors.Is(err, ledger.ErrUnsigned):
			r.stranger(m)
			continue
		case err != nil:
			r.v.find(Finding{Kind: Forged, Table: "checkpoints", Spool: r.spool, Index: m.size, What: err.Error()})
			continue
		}
		if m.witness {
			r.log.Witnessed++
		} else {
			r.log.Checkpoints++
		}
		if c.Root == r.tree.Root() {
			r.hold(m)
			continue
		}
		r.fail(m)
		if tree := m.start(r.spool, r.trust); tree != nil {
			// The log can be read on from here as if nothing had been.
			r.tree, r.broken = tree, false
			r.log.Signed, r.log.SignedAt = m.size, m.at
		}
	}
	return ctx.Err()
}

// hold takes a root that is as signed: all events before it are proved.
func (r *logRun) hold(m mark) {
	first, n := uint64(0), 0
	for i, o := range r.open {
		if o.gap {
			if n == 0 {
				first = r.openAt + uint64(i)
			}
			n++
		}
	}
	if n > 0 {
		r.v.unchecked("spool %s: %d events from %d on were lost by the replica's disk before they were signed, and it said so", r.spool, n, first)
	}
	r.clear()
	r.broken = false
	r.log.Signed, r.log.SignedAt = m.size, m.at
	for _, c := range r.changes {
		switch c.What {
		case call.ChangeKeyAdded:
			r.trust.add(c.Version)
		case call.ChangeKeyRevoked:
			r.trust.revoke(c.Version)
		case call.ChangeErased:
			for _, id := range c.Calls {
				r.v.erased[id] = true
			}
		}
	}
	r.changes, r.newest = nil, time.Time{}
}

// stranger takes note of a checkpoint that nobody trusted signed.
func (r *logRun) stranger(m mark) {
	r.unsigned[signers(m.signed)]++
	r.foreign = max(r.foreign, m.size)
}

func (r *logRun) clear() {
	r.openAt += uint64(len(r.open))
	r.open = r.open[:0]
}

// fail names the events that make the tree another than was signed.
func (r *logRun) fail(m mark) {
	defer r.clear()
	r.changes = nil
	where := fmt.Sprintf("the checkpoint over %d events of %s", m.size, m.at.UTC().Format(time.RFC3339))
	named := false
	name := func(kind Kind, i int, what string) {
		named = true
		r.v.find(Finding{Kind: kind, Table: "events", Spool: r.spool, Index: r.openAt + uint64(i), CallID: r.open[i].id, What: what + "; " + where + " shows it"})
	}
	prefixes := r.prefixes(m)
	for i, o := range r.open {
		switch p, ok := prefixes(r.openAt + uint64(i)); {
		case o.gap && (!ok || p != [audit.PrefixSize]byte(ledger.LostLeaf[:audit.PrefixSize])):
			name(Deleted, i, "the event is missing")
		case !o.gap && ok && p != o.prefix:
			name(Edited, i, "the event is not the one that was recorded in this place")
		}
	}
	if named || r.broken {
		r.broken = true
		return
	}
	r.broken = true
	f := Finding{Kind: Edited, Table: "events", Spool: r.spool, Index: r.openAt, What: fmt.Sprintf("one of the events %d to %d is not the one that was recorded; %s shows it", r.openAt, m.size-1, where)}
	if len(r.open) == 0 {
		f.Kind, f.Table, f.What = Forged, "checkpoints", fmt.Sprintf("two signed checkpoints over %d events contradict each other", m.size)
	}
	r.v.find(f)
}

// prefixes gives the first bytes of the leaf hash at an index, as the checkpoint
// has them.
func (r *logRun) prefixes(m mark) func(uint64) ([audit.PrefixSize]byte, bool) {
	return func(index uint64) (p [audit.PrefixSize]byte, ok bool) {
		if m.stored == nil {
			return p, false
		}
		n := uint64(len(m.stored.Prefixes) / audit.PrefixSize)
		if n > m.size || index < m.size-n || index >= m.size {
			return p, false
		}
		return [audit.PrefixSize]byte([]byte(m.stored.Prefixes)[(index-(m.size-n))*audit.PrefixSize:]), true
	}
}

// end looks at what no event was left for.
func (r *logRun) end(ctx context.Context) error {
	if err := r.reach(ctx); err != nil {
		return err
	}
	var missing *mark
	for i, m := range r.marks {
		switch _, err := m.open(r.spool, r.trust); {
		case errors.Is(err, ledger.ErrUnsigned):
			r.stranger(m)
		case err != nil:
			r.v.find(Finding{Kind: Forged, Table: "checkpoints", Spool: r.spool, Index: m.size, What: err.Error()})
		default:
			missing = &r.marks[i]
		}
	}
	if missing != nil {
		who := "a checkpoint beside the rows"
		if missing.witness {
			who = "the witness"
		}
		r.v.find(Finding{Kind: Truncated, Table: "events", Spool: r.spool, Index: r.tree.Size(),
			What: fmt.Sprintf("the log ends here, but %s has %d events signed at %s; what only the witness has may still be in the replica's spool",
				who, missing.size, missing.at.UTC().Format(time.RFC3339))})
	}
	// An erasure of the last seconds is excused, and that is said.
	for _, c := range r.changes {
		if c.What != call.ChangeErased || r.broken || r.v.cfg.Now.Sub(c.at) > grace {
			continue // an old one would be signed
		}
		for _, id := range c.Calls {
			r.v.erased[id] = true
		}
		r.v.unchecked("spool %s: the erasure of %d calls by %s is told by an event that is not signed yet", r.spool, len(c.Calls), c.By)
	}
	for signer, n := range r.unsigned {
		r.v.unchecked("spool %s: %d checkpoints are signed only by %s, which is not trusted", r.spool, n, signer)
	}
	if rest := r.tree.Size() - min(r.tree.Size(), r.log.Signed); rest > 0 && !r.broken {
		r.uncovered()
		r.v.unchecked("spool %s: no trusted checkpoint covers the last %d events, from %d on: neither a change nor a deletion of them would show", r.spool, rest, r.log.Signed)
	}
	if r.broken {
		r.v.unchecked("spool %s: after its first bad event no root can hold; later events were compared by what the checkpoints tell of each alone", r.spool)
	}
	return r.checkApprovals(ctx)
}

// uncovered tells whether events that no trusted checkpoint covers should have
// one: else whoever makes the log anew, with keys of their own or with none, would
// pass.
func (r *logRun) uncovered() {
	f := Finding{Kind: Unsigned, Table: "checkpoints", Spool: r.spool, Index: r.log.Signed}
	switch {
	case r.foreign > r.log.Signed:
		f.What = "checkpoints from here on are signed by no key that is trusted; if these keys are your replica's, name them with --key, else somebody made the log anew"
	case r.newest.IsZero():
		return // all of them came just now
	case r.log.SignedAt.IsZero():
		f.What = "no checkpoint covers any event of this log; a replica signs every few seconds, so they were deleted, or it can't sign: see its log"
	case r.newest.Sub(r.log.SignedAt) > signedSoon:
		f.What = fmt.Sprintf("no checkpoint covers the events from here on, though they go on until %s; a replica signs every few seconds, so checkpoints were deleted, or it can't sign: see its log",
			r.newest.UTC().Format(time.RFC3339))
	default:
		return // the replica died before it signed the last seconds
	}
	r.v.find(f)
}

// signers names the keys that signed a note, as it says itself.
func signers(signed []byte) string {
	names := ledger.Signers(signed)
	if len(names) == 0 {
		return "nobody"
	}
	return fmt.Sprint(names)
}
