package approvals

import (
	"context"
	"time"

	"github.com/callgate/callgate/call"
)

// Store keeps holds. Each method is one atomic step, durable when it returns
// without an error; any number of processes may use one store at once. An
// error that is none of this package's means that the store is away, and that
// a change may or may not have been made.
type Store interface {
	// Create keeps a new, open hold.
	Create(context.Context, Hold) error
	// Get returns a hold whole, or ErrNotFound.
	Get(ctx context.Context, id string) (Hold, error)
	// Status returns how far a hold has come, or ErrNotFound.
	Status(ctx context.Context, id string) (Status, error)
	// List returns holds without their bodies, the newest first.
	List(context.Context, Filter) ([]Hold, error)
	// Decide approves or refuses an open hold whose end has not come at v.At.
	// Else it returns ErrNotFound, ErrDecided, ErrExpired or ErrCanceled.
	Decide(ctx context.Context, id string, v Verdict) error
	// Use takes an approval up, for exactly one caller ever. Else it returns
	// ErrNotFound, ErrNotApproved, ErrUsed, ErrBinding, or ErrExpired when at
	// is more than Grace past the hold's end.
	Use(ctx context.Context, id string, binding [32]byte, at time.Time) error
	// End brings an open hold to Expired or Canceled, and tells whether it
	// did; a hold that had left Open stays as it is. The status is what it
	// is afterwards.
	End(ctx context.Context, id string, to State, at time.Time) (Status, bool, error)
	// Expire brings at most limit open holds whose end had come at at to
	// Expired, and returns them without their bodies; each is returned to
	// one caller only.
	Expire(ctx context.Context, at time.Time, limit int) ([]Hold, error)
	// Changes returns the ids of holds that left a state after the cursor,
	// and the next cursor. It may name one twice and never leaves one out. A
	// negative cursor asks for the present cursor alone.
	Changes(ctx context.Context, after int64) (ids []string, next int64, err error)
	// Prune deletes at most limit holds that ended before a time, and
	// returns how many.
	Prune(ctx context.Context, before time.Time, limit int) (int, error)
	// Erase removes arguments, path, body and binding of the holds of these
	// calls that nobody can decide or use at at any more, and returns how
	// many had any. Nothing of them is left in the store's files.
	Erase(ctx context.Context, calls []call.ID, at time.Time) (int, error)
}

// Filter says which holds to list. The zero value is the newest hundred.
type Filter struct {
	State      State  // empty: all
	Connection string // empty: all
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
