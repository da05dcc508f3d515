package difference

import (
	"cmp"
	"reflect"
	"slices"

	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/policies"
)

// hows are the ways to hide a value, from the one that shows most.
var hows = []string{"show", "partial", "token", "hash", "redact", "drop"}

// maskEffect is what other masks do. What is hidden less may be shown, so that
// widens.
func maskEffect(was, is []config.Mask, where string, say func(Effect, string, ...any)) {
	before := map[string]config.Mask{}
	for _, m := range was {
		before[m.Name] = m
	}
	var all []Effect
	for _, m := range is {
		old, had := before[m.Name]
		delete(before, m.Name)
		if !had {
			all = append(all, Narrows)
			continue
		}
		all = append(all, oneMask(old, m)...)
	}
	if len(before) > 0 {
		all = append(all, Widens)
	}
	switch effect := together(all...); effect {
	case Widens:
		say(effect, "less is hidden %s", where)
	case Narrows:
		say(effect, "more is hidden %s", where)
	case Either:
		say(effect, "something else is hidden %s", where)
	default:
		say(Neither, "masks %s are called something else", where)
	}
}

// oneMask is what another way to say a mask does.
func oneMask(was, is config.Mask) []Effect {
	var all []Effect
	for _, l := range [][2][]string{{was.Paths, is.Paths}, {was.Keys, is.Keys}, {was.Detect, is.Detect}} {
		gained, lost := lists(l[0], l[1])
		if gained {
			all = append(all, Narrows)
		}
		if lost {
			all = append(all, Widens)
		}
	}
	if !reflect.DeepEqual(was.For, is.For) {
		all = append(all, forEffect(was, is))
	}
	return append(all, stricter(was.How, is.How))
}

// forEffect is what other exceptions do. Where there were none, or are none any
// more, that shows in how the others are.
func forEffect(was, is config.Mask) Effect {
	var all []Effect
	switch {
	case len(was.For) == 0:
		for _, f := range is.For {
			all = append(all, stricter(is.How, cmp.Or(f.How, is.How)))
		}
	case len(is.For) == 0:
		for _, f := range was.For {
			all = append(all, stricter(cmp.Or(f.How, was.How), was.How))
		}
	default:
		return Either
	}
	return together(all...)
}

// stricter compares two ways to hide.
func stricter(was, is string) Effect {
	a, b := slices.Index(hows, cmp.Or(was, "redact")), slices.Index(hows, cmp.Or(is, "redact"))
	switch {
	case a < 0 || b < 0:
		return Either
	case b > a:
		return Narrows
	case b < a:
		return Widens
	}
	return Neither
}

// detectors compares detectors of one's own.
func detectors(was, is config.Policy) []Change {
	var out []Change
	before := map[string]config.Detector{}
	for _, d := range was.Detectors {
		before[d.Name] = d
	}
	for _, d := range is.Detectors {
		old, had := before[d.Name]
		delete(before, d.Name)
		at := policies.Position(d.Position)
		if !had {
			out = append(out, Change{Kind: "detector", Name: d.Name, What: Added, Effect: Neither, New: at, Why: []string{"it hides something where a mask names it"}})
			continue
		}
		fields := differing(settings("detector", old.Said()), settings("detector", d.Said()))
		if len(fields) == 0 {
			continue
		}
		change := Change{Kind: "detector", Name: d.Name, What: Changed, Fields: fields, Old: policies.Position(old.Position), New: at}
		change.Effect, change.Why = detectorEffect(old, d, fields)
		out = append(out, change)
	}
	for _, d := range was.Detectors {
		if _, gone := before[d.Name]; gone {
			out = append(out, Change{Kind: "detector", Name: d.Name, What: Removed, Effect: Neither, Old: policies.Position(d.Position),
				Why: []string{"no mask can name it any more; what is hidden less shows where masks change"}})
		}
	}
	return out
}

// detectorEffect is what another way to say a detector does where masks name it.
func detectorEffect(was, is config.Detector, fields []Field) (Effect, []string) {
	var r reasons
	say := r.say
	list := func(was, is []string, more, less string) {
		gained, lost := lists(was, is)
		if gained {
			say(Narrows, more)
		}
		if lost {
			say(Widens, less)
		}
	}
	for _, f := range fields {
		switch f.Path {
		case "words":
			list(was.Words, is.Words, "more words are hidden", "fewer words are hidden")
		case "keys":
			list(was.Keys, is.Keys, "values of more names are hidden", "values of fewer names are hidden")
		case "match_case":
			if is.MatchCase {
				say(Widens, "words in another case are not hidden any more")
			} else {
				say(Narrows, "words are hidden in any case")
			}
		case "analyzer.min_score":
			effect, text := bounded("the analyzer must be surer of what is hidden", "less sure findings of the analyzer are hidden")(f)
			say(effect, text)
		case "analyzer.entities":
			switch {
			case f.Old == "":
				say(Widens, "the analyzer looks for some kinds alone")
			case f.New == "":
				say(Narrows, "the analyzer looks for all kinds")
			default:
				list(was.Analyzer.Entities, is.Analyzer.Entities, "the analyzer looks for more kinds", "the analyzer looks for fewer kinds")
			}
		case "analyzer.timeout", "analyzer.max_text", "analyzer.concurrency", "analyzer.ca_file":
			say(Neither, "the analyzer is asked in another way")
		case "analyzer.url", "analyzer.language":
			say(Either, "another analyzer says what is hidden")
		case "pattern":
			say(Either, "another pattern is hidden")
		default:
			say(Either, f.Path+" is another")
		}
	}
	return together(r.effects...), r.why
}
