package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/callgate/callgate/audit/clickhouse"
	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/console"
)

// callsPerEvent bounds the calls that one event of an erasure names.
const callsPerEvent = 1000

// eraser implements [console.Eraser].
type eraser struct {
	content  content
	recorder interface {
		Record(context.Context, call.Event) error
	}
	held   held
	roll   func()                   // ends the spool's segment
	status func() clickhouse.Status // of what is not in ClickHouse
	node   string
	now    func() time.Time
}

// held is where held requests lie.
type held interface {
	Erase(ctx context.Context, calls []call.ID) (int, error)
}

// content is where calls' content lies.
type content interface {
	Erasable(ctx context.Context, f clickhouse.Filter, ids []uuid.UUID) (list, missing []uuid.UUID, err error)
	Erase(ctx context.Context, ids []uuid.UUID) error
	HeldAmong(ctx context.Context, f clickhouse.Filter, ids []uuid.UUID) ([]uuid.UUID, error)
}

func (a *App) eraser() eraser {
	e := eraser{recorder: a.trail.recorder, held: a.people.approvals, roll: a.trail.spool.Roll, node: a.cfg.Node, now: a.opts.Now}
	if a.trail.db != nil {
		e.content, e.status = a.trail.db, a.trail.shipper.Status
	}
	if e.now == nil {
		e.now = time.Now
	}
	return e
}

// maxErasure bounds what an erasure says of itself, in bytes: each of its events
// has it.
const maxErasure = 4 << 10

// Erase removes content. What is erased, by whom and why is durable before
// anything is removed, so that nobody can erase unseen.
func (r eraser) Erase(ctx context.Context, by call.Identity, ask console.Erase) (console.Erased, error) {
	f := clickhouse.Filter{Identity: ask.Identity, Connection: ask.Connection, Function: ask.Function, Since: ask.Since, Until: ask.Until}
	selects := f != (clickhouse.Filter{})
	switch {
	case r.content == nil:
		return console.Erased{}, fmt.Errorf("%w: audit.clickhouse.url is not set", console.ErrErase)
	case strings.TrimSpace(ask.Reason) == "" && !ask.DryRun:
		return console.Erased{}, fmt.Errorf("%w: say why (reason); it stays in the ledger", console.ErrErase)
	case len(ask.Reason)+len(ask.Identity)+len(ask.Connection)+len(ask.Function) > maxErasure:
		return console.Erased{}, fmt.Errorf("%w: reason and selection are longer than %d bytes", console.ErrErase, maxErasure)
	case len(ask.Calls) == 0 && !selects:
		return console.Erased{}, fmt.Errorf("%w: name calls, or an identity, connection, function or period", console.ErrErase)
	case len(ask.Calls) > 0 && selects:
		return console.Erased{}, fmt.Errorf("%w: name calls or a selection, not both", console.ErrErase)
	}
	st := r.status()
	done := console.Erased{Calls: []uuid.UUID{}, Missing: []uuid.UUID{}, Unsettled: st.Unsettled, Quarantined: st.Quarantined}
	list, missing, err := r.content.Erasable(ctx, f, ask.Calls)
	switch {
	case errors.Is(err, clickhouse.ErrEraseTooMany):
		return console.Erased{}, fmt.Errorf("%w: %w", console.ErrErase, err)
	case err != nil:
		return console.Erased{}, err
	}
	done.Calls, done.Missing = append(done.Calls, list...), append(done.Missing, missing...)
	if ask.DryRun {
		return done, nil
	}
	detail, err := json.Marshal(struct {
		Reason    string        `json:"reason"`
		Selection console.Erase `json:"selection"`
	}{ask.Reason, console.Erase{Identity: ask.Identity, Connection: ask.Connection, Function: ask.Function, Since: ask.Since, Until: ask.Until}})
	if err != nil {
		return console.Erased{}, fmt.Errorf("describe the erasure: %w", err)
	}
	if len(done.Calls) > 0 {
		r.roll() // what the spool has of these calls, too, is deleted soon
	}
	for part := range slices.Chunk(done.Calls, callsPerEvent) {
		e := call.ChangeEvent{What: call.ChangeErased, Detail: string(detail), Node: r.node, By: by.Issuer + "|" + by.Subject, Calls: part}
		if err := r.recorder.Record(ctx, call.Event{Kind: call.Changed, Time: r.now(), Change: &e}); err != nil {
			return console.Erased{}, fmt.Errorf("record the erasure: %w", err)
		}
		if err := r.content.Erase(ctx, part); err != nil {
			return console.Erased{}, err
		}
	}
	// Of all that are gone: another replica may have erased some, and this one's
	// approval store still has them; so may an erasure that was interrupted.
	list, err = r.content.HeldAmong(ctx, f, ask.Calls)
	if err != nil {
		return console.Erased{}, err
	}
	if done.Held, err = r.held.Erase(ctx, list); err != nil {
		return console.Erased{}, err
	}
	return done, nil
}
