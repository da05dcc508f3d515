package suite

import (
	"slices"
	"strconv"
	"strings"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/config"
)

// compare lists what a ruling says otherwise than it should.
func compare(want config.TestExpect, got call.Ruling) []Difference {
	var out []Difference
	differ := func(what, want, got string) {
		if want != got {
			out = append(out, Difference{what, want, got})
		}
	}
	differ("decision", want.Decision, string(got.Action))
	if want.Rule != nil {
		differ("rule", *want.Rule, got.Rule)
	}
	if want.Reason != "" {
		differ("reason", want.Reason, string(got.Reason))
	}
	if want.Message != "" && !strings.Contains(got.Message, want.Message) {
		differ("message", "… "+want.Message+" …", got.Message)
	}
	if want.Mask != nil {
		var names []string
		for _, m := range got.Mask.Rules {
			names = append(names, m.Name)
		}
		differ("mask", listed(*want.Mask), listed(names))
	}
	if want.Shadow != nil {
		differ("shadow", listed(*want.Shadow), listed(got.Shadow))
	}
	if want.Approvers != nil {
		by := got.Hold.Approvers()
		differ("approvers.groups", listed(want.Approvers.Groups), listed(by.Groups))
		differ("approvers.people", listed(want.Approvers.People), listed(by.People))
	}
	if want.Approvals != nil {
		differ("approvals", strconv.Itoa(int(*want.Approvals)), strconv.Itoa(got.Hold.Needed()))
	}
	return out
}

// listed is a set of names as a text.
func listed(names []string) string {
	sorted := slices.Clone(names)
	slices.Sort(sorted)
	return "[" + strings.Join(sorted, ", ") + "]"
}
