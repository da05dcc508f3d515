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
	node string
	now  func() time.Time
}

// content is where calls' content lies.
type content interface {
	Erasable(ctx context.Context, f clickhouse.Filter, ids []uuid.UUID) (list, missing []uuid.UUID, err error)
	Erase(ctx context.Context, ids []uuid.UUID) error
}

func (a *App) eraser() eraser {
	e := eraser{recorder: a.trail.recorder, node: a.cfg.Node, now: a.opts.Now}
	if a.trail.db != nil {
		e.content = a.trail.db
	}
	if e.now == nil {
		e.now = time.Now
	}
	return e
}

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
	case len(ask.Calls) == 0 && !selects:
		return console.Erased{}, fmt.Errorf("%w: name calls, or an identity, connection, function or period", console.ErrErase)
	case len(ask.Calls) > 0 && selects:
		return console.Erased{}, fmt.Errorf("%w: name calls or a selection, not both", console.ErrErase)
	}
	done := console.Erased{Calls: []uuid.UUID{}, Missing: []uuid.UUID{}}
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
	for part := range slices.Chunk(done.Calls, callsPerEvent) {
		e := call.ChangeEvent{What: call.ChangeErased, Detail: string(detail), Node: r.node, By: by.Issuer + "|" + by.Subject, Calls: part}
		if err := r.recorder.Record(ctx, call.Event{Kind: call.Changed, Time: r.now(), Change: &e}); err != nil {
			return console.Erased{}, fmt.Errorf("record the erasure: %w", err)
		}
		if err := r.content.Erase(ctx, part); err != nil {
			return console.Erased{}, err
		}
	}
	return done, nil
}
