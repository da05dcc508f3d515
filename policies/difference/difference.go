// Package difference tells what changes between two policies, and what that
// means: whether more calls or fewer get through.
//
// Layout, comments, the order of keys and of lists of names, and where files lie
// make no difference. Neither does the order of rules, except where two that
// changed places can decide the same call.
package difference

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/policies"
)

// What is said of a change.
const (
	Added   = "added"
	Removed = "removed"
	Changed = "changed"
	Moved   = "moved" // before or behind another that can decide the same call
)

// Effect is what a change does to who may do what.
type Effect string

// The effects.
const (
	Widens  Effect = "widens"  // more may get through, or be shown
	Narrows Effect = "narrows" // less may
	Either  Effect = "either"  // both, or it can't be told
	Neither Effect = "neither" // as much as before
)

// Change is one difference.
type Change struct {
	Kind   string // detector, connection, rule or grant
	Name   string
	What   string
	Effect Effect
	Why    []string
	Fields []Field
	// Old and New are where it stands, if it does.
	Old, New policies.Position
}

// Side is one of two policies.
type Side struct {
	Policy config.Policy
	Set    *policies.Set // compiled with Inspect
}

// Compare lists what is different in is from was: detectors, connections, rules and
// grants, each in the order of the files. Its error is ctx's.
func Compare(ctx context.Context, was, is Side) ([]Change, error) {
	out := append(detectors(was.Policy, is.Policy), connections(was.Policy, is.Policy)...)
	rules, err := compareRules(ctx, was, is)
	if err != nil {
		return nil, err
	}
	return append(out, rules...), nil
}

// reasons gathers what parts of a change do, and why, each said once.
type reasons struct {
	effects []Effect
	why     []string
}

func (r *reasons) say(effect Effect, text string) {
	r.effects = append(r.effects, effect)
	if !slices.Contains(r.why, text) {
		r.why = append(r.why, text)
	}
}

// together is what several effects come to.
func together(all ...Effect) Effect {
	wide := slices.Contains(all, Widens) || slices.Contains(all, Either)
	narrow := slices.Contains(all, Narrows) || slices.Contains(all, Either)
	switch {
	case wide && narrow:
		return Either
	case wide:
		return Widens
	case narrow:
		return Narrows
	}
	return Neither
}

// String is the change in one line.
func (c Change) String() string {
	at := c.New
	if at.Line == 0 {
		at = c.Old
	}
	text := fmt.Sprintf("%s %q %s", c.Kind, c.Name, c.What)
	if p := at.String(); p != "" {
		text = p + ": " + text
	}
	return text + ": " + c.Effect.Phrase()
}

// Phrase is an effect in words.
func (e Effect) Phrase() string {
	return cmp.Or(map[Effect]string{Widens: "widens", Narrows: "narrows", Either: "may widen and narrow", Neither: "allows what was allowed"}[e], string(e))
}
