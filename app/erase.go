package app

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/callgate/callgate/audit/clickhouse"
	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/console"
)

// callsPerEvent bounds the calls that one event of an erasure names.
const callsPerEvent = 1000

// Erase implements [console.Eraser]. What is erased, by whom and why is durable
// before anything is removed, so that nobody can erase unseen.
func (a *App) Erase(ctx context.Context, by call.Identity, ask console.Erase) (console.Erased, error) {
	done := console.Erased{}
	switch {
	case a.trail.db == nil:
		return done, fmt.Errorf("%w: audit.clickhouse.url is not set", console.ErrErase)
	case strings.TrimSpace(ask.Reason) == "" && !ask.DryRun:
		return done, fmt.Errorf("%w: say why (reason); it stays in the ledger", console.ErrErase)
	}
	f := clickhouse.Filter{Identity: ask.Identity, Connection: ask.Connection, Function: ask.Function, Since: ask.Since, Until: ask.Until}
	switch selects := f != (clickhouse.Filter{}); {
	case len(ask.Calls) == 0 && !selects:
		return done, fmt.Errorf("%w: name calls, or an identity, connection, function or period", console.ErrErase)
	case len(ask.Calls) > 0 && selects:
		return done, fmt.Errorf("%w: name calls or a selection, not both", console.ErrErase)
	case len(ask.Calls) > clickhouse.EraseMost:
		return done, fmt.Errorf("%w: %d calls are more than the %d of one erasure", console.ErrErase, len(ask.Calls), clickhouse.EraseMost)
	}
	var err error
	if done.Calls, done.Missing, err = a.trail.db.Erasable(ctx, f, ask.Calls); err != nil {
		return console.Erased{}, err
	}
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
		e := call.ChangeEvent{What: call.ChangeErased, Detail: string(detail), Node: a.cfg.Node, By: by.Issuer + "|" + by.Subject, Calls: part}
		if err := a.trail.recorder.Record(ctx, call.Event{Kind: call.Changed, Time: time.Now(), Change: &e}); err != nil {
			return console.Erased{}, fmt.Errorf("record the erasure: %w", err)
		}
		if err := a.trail.db.Erase(ctx, part); err != nil {
			return console.Erased{}, err
		}
	}
	return done, nil
}
