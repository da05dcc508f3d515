package app

import (
	"maps"
	"sync/atomic"

	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/extproc/analyzer"
	"github.com/callgate/callgate/extproc/mask"
)

// ownDetectors are a policy's own, by name: as masks that travel name them.
type ownDetectors map[string]string

func detectorsOf(p config.Policy) ownDetectors {
	own := ownDetectors{}
	for _, d := range p.Detectors {
		own[d.Name] = d.Ref()
	}
	return own
}

func (own ownDetectors) refs(names []string) []string {
	if len(own) == 0 {
		return names
	}
	out := make([]string, len(names))
	for i, n := range names {
		if out[i] = n; own[n] != "" {
			out[i] = own[n]
		}
	}
	return out
}

func newDetector(d config.Detector) (*mask.Custom, error) {
	if a := d.Analyzer; a.URL != "" {
		made, err := analyzer.New(analyzer.Config{URL: a.URL, Language: a.Language, Entities: a.Entities, MinScore: *a.MinScore,
			Timeout: a.Timeout, MaxText: int(a.MaxText), Concurrency: int(a.Concurrency), CAFile: a.CAFile})
		if err != nil {
			return nil, err
		}
		return mask.NewAnalyzed(d.Name, made), nil
	}
	return mask.NewCustom(mask.Definition{Name: d.Name, Pattern: d.Pattern, Words: d.Words, MatchCase: d.MatchCase, Keys: d.Keys})
}

// detectors are those of all policies at hand, and of the ones before them: a call
// that was decided under a policy may be answered after it is gone.
type detectors struct {
	known atomic.Pointer[map[string]*mask.Custom]
	// now are those in use, before those that were until the last change.
	now, before map[string]*mask.Custom
}

// Detector implements [extproc.Detectors].
func (d *detectors) Detector(ref string) *mask.Custom {
	if m := d.known.Load(); m != nil {
		return (*m)[ref]
	}
	return nil
}

// use takes in the detectors of these policies; one caller at a time. Their
// definitions have been checked.
func (d *detectors) use(held []config.Policy) error {
	now, all := map[string]*mask.Custom{}, map[string]*mask.Custom{}
	for _, p := range held {
		for _, def := range p.Detectors {
			ref := def.Ref()
			c := d.Detector(ref)
			if c == nil {
				var err error
				if c, err = newDetector(def); err != nil {
					return err
				}
			}
			now[ref], all[ref] = c, c
		}
	}
	if !maps.Equal(now, d.now) {
		d.before, d.now = d.now, now
	}
	for ref, c := range d.before {
		all[ref] = c
	}
	d.known.Store(&all)
	return nil
}
