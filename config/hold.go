package config

import (
	"fmt"
	"reflect"
	"slices"
	"time"
)

const (
	maxStages = 10
	maxNeed   = 20
	// MaxGrant is the longest that a grant which comes with an approval lasts.
	MaxGrant = 30 * 24 * time.Hour
)

// validate reports what is wrong with how a rule's calls are held. bad takes
// the setting's path below the rule.
func (h Hold) validate(action string, bad func(path, format string, args ...any)) {
	if action != "hold" {
		if !reflect.DeepEqual(h, Hold{}) {
			bad("hold", "hold is for action hold only")
		}
		return
	}
	h.validateWait(bad)
	if choices := []string{"", "optional", "required"}; !slices.Contains(choices, h.Reason) {
		bad("hold.reason", "hold.reason %q is not known; choose required or optional%s", h.Reason, suggest(h.Reason, choices[1:]))
	}
	if h.MaxGrant < 0 || h.MaxGrant > MaxGrant {
		bad("hold.max_grant", "hold.max_grant %s is outside 0s to 30d", h.MaxGrant)
	}
	if slices.Contains(slices.Concat(h.BreakGlass.Groups, h.BreakGlass.People), "") {
		bad("hold.break_glass", "hold.break_glass names somebody who is empty")
	}
	need := func(path string, n uint32, people int, groups bool) {
		switch {
		case n > maxNeed:
			bad(path, "%s %d is outside 1 to %d", path, n, maxNeed)
		case !groups && people > 0 && int(n) > people:
			bad(path, "%s is %d and only %d people are named, so nobody could ever approve; name more, or a group", path, n, people)
		}
	}
	if len(h.Stages) == 0 {
		need("hold.need", h.Need, distinct(h.Approvers.People), len(h.Approvers.Groups) > 0)
		return
	}
	switch {
	case !h.Approvers.Nobody():
		bad("hold.stages", "set hold.approvers or hold.stages, not both; a stage has groups and people of its own")
	case h.Need != 0:
		bad("hold.need", "hold.need goes with hold.approvers; each of hold.stages has a need of its own")
	case len(h.Stages) > maxStages:
		bad("hold.stages", "hold.stages has %d stages, at most %d can be asked", len(h.Stages), maxStages)
	}
	for i, s := range h.Stages {
		path := fmt.Sprintf("hold.stages[%d]", i)
		switch {
		case len(s.Groups)+len(s.People) == 0:
			bad(path, "%s names nobody; set its groups or people", path)
		case slices.Contains(slices.Concat(s.Groups, s.People), ""):
			bad(path, "%s names an approver that is empty", path)
		}
		need(path+".need", s.Need, distinct(s.People), len(s.Groups) > 0)
	}
	h.enough(bad)
}

func (h Hold) validateWait(bad func(path, format string, args ...any)) {
	retry, open, err := h.Wait.Retry()
	switch {
	case err != nil:
		bad("hold.wait", "hold.wait %v", err)
	case !retry && (h.Timeout < 0 || h.Timeout > MaxHold):
		bad("hold.timeout", "hold.timeout %s is outside 0s to %s; Envoy keeps the call open that long. With hold.wait: retry, or 20s, people can have %s", h.Timeout, MaxHold, MaxAsked)
	case retry && (h.Timeout < 0 || h.Timeout > MaxAsked):
		bad("hold.timeout", "hold.timeout %s is outside 0s to %s", h.Timeout, MaxAsked)
	case retry && (open > MaxHold || open > h.Timeout && h.Timeout > 0):
		bad("hold.wait", "hold.wait %s is longer than hold.timeout, or than %s; a shorter one tells the caller to come again", open, MaxHold)
	case retry && (h.Valid < time.Minute || h.Valid > MaxValid):
		bad("hold.valid", "hold.valid %s is outside 1m0s to %s; the caller must come again within it", h.Valid, MaxValid)
	case !retry && h.Valid != 0:
		bad("hold.valid", "hold.valid is for callers that come again; set hold.wait to retry or to a duration such as 20s")
	}
}

// enough reports stages that named people alone could never pass, since each
// counts once.
func (h Hold) enough(bad func(path, format string, args ...any)) {
	var people []string
	need := 0
	for _, s := range h.Stages {
		if len(s.Groups) > 0 {
			return
		}
		people, need = append(people, s.People...), need+max(1, int(s.Need))
	}
	if n := distinct(people); need > n && n > 0 {
		bad("hold.stages", "hold.stages need %d approvals and name only %d people, each of whom counts once; name more, or groups", need, n)
	}
}

func distinct(list []string) int {
	sorted := slices.Sorted(slices.Values(list))
	return len(slices.Compact(sorted))
}
