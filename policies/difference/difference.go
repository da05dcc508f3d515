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
	"strconv"
	"strings"

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
	Kind   string // connection, rule or grant
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

// Compare lists what is different in is from was: connections, then rules, then
// grants, each in the order of the files. Its error is ctx's.
func Compare(ctx context.Context, was, is Side) ([]Change, error) {
	out := connections(was.Policy, is.Policy)
	rules, err := compareRules(ctx, was, is)
	if err != nil {
		return nil, err
	}
	return append(out, rules...), nil
}

// connections compares connections.
func connections(was, is config.Policy) []Change {
	var out []Change
	before := map[string]config.Connection{}
	for _, c := range was.Connections {
		before[c.Name] = c
	}
	for _, c := range is.Connections {
		old, had := before[c.Name]
		delete(before, c.Name)
		if !had {
			out = append(out, Change{Kind: "connection", Name: c.Name, What: Added, Effect: Neither, New: policies.Position(c.Position),
				Why: []string{"nothing can be called there until a rule or grant allows it"}})
			continue
		}
		fields := differing(settings("connection", old.Said()), settings("connection", c.Said()))
		if len(fields) == 0 {
			continue
		}
		change := Change{Kind: "connection", Name: c.Name, What: Changed, Fields: fields, Old: policies.Position(old.Position), New: policies.Position(c.Position)}
		change.Effect, change.Why = connectionEffect(fields)
		out = append(out, change)
	}
	for _, c := range was.Connections {
		if _, gone := before[c.Name]; gone {
			out = append(out, Change{Kind: "connection", Name: c.Name, What: Removed, Effect: Narrows, Old: policies.Position(c.Position),
				Why: []string{"its calls are denied from now on"}})
		}
	}
	return out
}

// connectionEffect is what changed settings of a connection do.
func connectionEffect(fields []Field) (Effect, []string) {
	var all []Effect
	var why []string
	for _, f := range fields {
		effect, text := Neither, ""
		switch head, _, _ := strings.Cut(strings.ReplaceAll(f.Path, "[", "."), "."); {
		case f.Path == "mode":
			switch {
			case f.New == "shadow":
				effect, text = Widens, "rules only note from now on what they would have done"
			case f.Old == "shadow":
				effect, text = Narrows, "rules decide from now on"
			}
		case head == "mask":
			switch {
			case f.New == "":
				effect, text = Widens, "less is hidden in responses"
			case f.Old == "":
				effect, text = Narrows, "more is hidden in responses"
			default:
				effect, text = Either, "something else is hidden in responses"
			}
		case head == "functions":
			switch {
			case f.New == "":
				effect, text = Narrows, "requests of a function are not known any more"
			case f.Old == "":
				effect, text = Widens, "a function can be called if a rule allows it"
			default:
				effect, text = Either, "other requests are taken for a function"
			}
		case head == "match":
			effect, text = Either, "it takes other requests"
		case head == "upstream":
			effect, text = Neither, "calls go somewhere else, or in another way"
		case head == "credential":
			effect, text = Neither, "the service gets another credential"
		case f.Path == "record.unavailable":
			if f.New == "allow" {
				effect, text = Widens, "calls that can't be recorded get through"
			} else {
				effect, text = Narrows, "calls that can't be recorded are denied"
			}
		case f.Path == "proof":
			switch weak := []string{"", "none"}; {
			case slices.Contains(weak, f.New):
				effect, text = Widens, "callers need not prove any more that the token is theirs"
			case slices.Contains(weak, f.Old):
				effect, text = Narrows, "callers must prove that the token is theirs"
			default:
				effect, text = Either, "callers prove in another way that the token is theirs"
			}
		case f.Path == "max_body":
			was, err1 := strconv.ParseInt(f.Old, 10, 64)
			is, err2 := strconv.ParseInt(f.New, 10, 64)
			if effect, text = Widens, "larger requests get through"; err1 == nil && err2 == nil && is < was {
				effect, text = Narrows, "only smaller requests get through"
			}
		case head == "protocol", head == "grpc":
			effect, text = Either, "requests are read in another way"
		}
		all = append(all, effect)
		if text != "" && !slices.Contains(why, text) {
			why = append(why, text)
		}
	}
	return together(all...), why
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
