package approvals

import (
	"context"
	"time"

	"github.com/callgate/callgate/call"
)

// Store keeps holds and what goes with them. Each method is one atomic step,
// durable when it returns without an error; any number of processes may use one
// store at once. An error that is none of this package's means that the store is
// away, and that a change may or may not have been made.
type Store interface {
	Holds
	Outbox
	Delegations
	Replicas
	Sessions
}

// Watcher is a store that tells at once of what other processes decide. Changes
// covers what it does not tell.
type Watcher interface {
	// Watch calls changed with the ids of holds that have left Open, and
	// without any where some may have been missed, until ctx ends.
	Watch(ctx context.Context, changed func(ids ...string)) error
}

// Change is a hold after what was done to it, without its body, and the steps
// that this took; none where the hold stayed as it was.
type Change struct {
	Hold  Hold
	Steps []Step
}

// Holds keeps holds. What a step does is the method of [Hold] of the same name.
// Whoever does not find the hold gets ErrNotFound.
type Holds interface {
	// Ask keeps a new, open hold. But where a hold of the same binding takes
	// the caller (see [Hold.Takes], with the owner looked up in Replicas), that
	// one gets h's owner and one attempt more, and is returned without a step,
	// with its body. Of several at once with one binding and no owner, one
	// makes a hold and all others get it. Where the caller (its subject, of its
	// issuer) has h.Most open holds already it makes none, and the error is
	// ErrTooMany.
	Ask(ctx context.Context, h Hold) (Change, error)
	// Break keeps a new hold of a call that breaks glass.
	Break(ctx context.Context, h Hold) (Change, error)
	// Get returns a hold whole.
	Get(ctx context.Context, id string) (Hold, error)
	// Status returns how far a hold has come.
	Status(ctx context.Context, id string) (Status, error)
	// List returns holds without their bodies, the newest first.
	List(context.Context, Filter) ([]Hold, error)
	// History returns a hold's steps in order.
	History(ctx context.Context, id string) ([]Step, error)
	// LastApproved returns, whole, the hold that was approved or used last
	// among those that the same subject asked for at the same function before
	// h; else ErrNotFound.
	LastApproved(ctx context.Context, h Hold) (Hold, error)
	// Counts tells how many holds wait for somebody.
	Counts(context.Context) (Counts, error)

	Decide(ctx context.Context, id string, v Verdict) (Change, error)
	Use(ctx context.Context, id string, u Use) (Change, error)
	End(ctx context.Context, id string, to State, at time.Time) (Change, error)
	Mark(ctx context.Context, id string, m Mark) (Change, error)
	Judge(ctx context.Context, id string, r Review) (Change, error)
	// Expire ends at most limit holds that are overdue at at; each is
	// returned to one caller only.
	Expire(ctx context.Context, at time.Time, limit int) ([]Change, error)

	// Changes returns the ids of holds that took a step after the cursor,
	// and the next cursor. It may name one twice and never leaves one out. A
	// negative cursor asks for the present cursor alone.
	Changes(ctx context.Context, after int64) (ids []string, next int64, err error)
	// Prune deletes at most limit holds that ended before a time, with all
	// that belongs to them, and returns how many. Those that somebody must
	// still review stay.
	Prune(ctx context.Context, before time.Time, limit int) (int, error)
	// Erase removes arguments, path, body and binding of the holds that these
	// calls asked for or took up, and that nobody can decide or use at at any
	// more, and returns how many had any. Nothing of them is left in the
	// store's files.
	Erase(ctx context.Context, calls []call.ID, at time.Time) (int, error)
}

// Counts are holds that wait for somebody.
type Counts struct {
	Open       int
	Unreviewed int
	// Oldest is when the open hold that waits longest was asked for.
	Oldest time.Time
}

// TrailTarget is the audit trail as a target: it gets every step, and each
// hold has it.
const TrailTarget = "audit-trail"

// GrantTarget gives the grants that come with approvals: it gets the step that
// makes one whole that has any.
const GrantTarget = "grants"

// Outbox keeps what targets are still to be told. In the same transaction as a
// step each target of its hold gets a notice of it (see [Hold.Told]). A target
// gets the notices of one hold in the order of the steps: the next is not to be
// had before the one before it is delivered or dropped.
type Outbox interface {
	// Lease hands out at most limit of a target's notices that are due at at,
	// and of each hold the first alone. They are nobody else's until until.
	Lease(ctx context.Context, target string, at, until time.Time, limit int) ([]Notice, error)
	// Delivered removes notices. It is no error where one is gone.
	Delivered(ctx context.Context, list ...Notice) error
	// Failed makes a notice due at next; n must be as Lease gave it, and is
	// left alone where another has leased it since.
	Failed(ctx context.Context, n Notice, next time.Time) error
	// Undelivered is how many notices of a target there are.
	Undelivered(ctx context.Context, target string) (int, error)
}

// Notice is one step that one target is to be told of.
type Notice struct {
	Target   string
	Hold     string
	Step     Step
	Attempts int // this one included
}

// Told are the targets that are told of a step: the trail of each, others of
// those that are not about telling, looking and giving.
func (h *Hold) Told(s Step) []string {
	if s.Name == StepNotified || s.Name == StepSeen || s.Name == StepGranted {
		return []string{TrailTarget}
	}
	told := append([]string{TrailTarget}, h.Targets...)
	if grants, _ := h.Grants(); len(grants) > 0 && s.Name == StepApproved && s.State == Approved {
		told = append(told, GrantTarget)
	}
	return told
}

// Delegations keeps who decides in whose place.
type Delegations interface {
	Delegate(ctx context.Context, d Delegation) error
	// Undelegate takes a delegation back; ErrNotFound where there is none
	// that is active at at.
	Undelegate(ctx context.Context, id, by string, at time.Time) (Delegation, error)
	// Delegations returns those that are active at at, or all that are kept
	// where at is zero, the newest first.
	Delegations(ctx context.Context, at time.Time) ([]Delegation, error)
}

// Replicas keeps which replicas are there, so that a caller whose replica is
// gone finds its hold again, and one whose replica is there has it to itself.
type Replicas interface {
	// Alive says that a replica is there until until; a zero time says that it
	// is gone.
	Alive(ctx context.Context, replica string, until time.Time) error
}

// Sessions keeps which sessions of MCP have a client that can show its person a
// page: it says so once, and each call of the session may come to another replica.
// A session is named by a hash, since who has its id can speak in it.
type Sessions interface {
	// NoteSession notes that a session's client can, until until. Those whose
	// time was over at at are forgotten.
	NoteSession(ctx context.Context, session [32]byte, at, until time.Time) error
	// NotedSession reports whether that is noted and not over at at.
	NotedSession(ctx context.Context, session [32]byte, at time.Time) (bool, error)
}

// Filter says which holds to list. The zero value is the newest hundred.
type Filter struct {
	State      State  // empty: all
	Unreviewed bool   // those that somebody must review alone
	Connection string // empty: all; so are those below
	Function   string
	Rule       string
	Subject    string // of the caller
	Since      time.Time
	// Before starts below a hold already seen: those asked for earlier, or
	// at the same time with a smaller id.
	Before   time.Time
	BeforeID string
	Limit    int // at most 1000; 0 means 100
}

// Size is the filter's limit within its bounds.
func (f Filter) Size() int {
	switch {
	case f.Limit <= 0:
		return 100
	case f.Limit > 1000:
		return 1000
	}
	return f.Limit
}
