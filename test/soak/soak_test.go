//go:build linux

package soak

import (
	"slices"
	"strings"
	"sync"
	"testing"
)

// scenarios are the faults, in the order they are run.
var scenarios = []struct {
	name string
	// own: it has a world of its own, since it is made another way or what is
	// done to it can't be undone. The others share one, as a real one lives
	// through one thing after the other.
	own func(*testing.T)
	run func(*testing.T, *world)
}{
	{name: "kill", run: kill},
	{name: "engine", run: engineKilled},
	{name: "away", run: away},
	{name: "drain", run: drain},
	{name: "full", own: full},
	{name: "replicas", own: replicas},
	{name: "torn", own: torn},
	{name: "clock", own: clock},
}

// TestSoak does one thing after the other, each with the same check from
// outside.
func TestSoak(t *testing.T) {
	common := sync.OnceValue(func() *world { return newWorld(t, plan{}) })
	for _, s := range scenarios {
		if !set.chosen(s.name) {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			if s.own != nil {
				s.own(t)
			} else {
				s.run(t, common())
			}
		})
	}
}

// chosen reports whether a scenario is to be run.
func (s settings) chosen(name string) bool { return s.scenario == "" || s.scenario == name }

// known reports whether there is such a scenario, and else which there are.
func known(name string) (names string, ok bool) {
	var all []string
	for _, s := range scenarios {
		all = append(all, s.name)
	}
	return strings.Join(all, ", "), name == "" || slices.Contains(all, name)
}
