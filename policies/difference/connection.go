package difference

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/policies"
)

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
		change.Effect, change.Why = connectionEffect(old, c, fields)
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
func connectionEffect(was, is config.Connection, fields []Field) (Effect, []string) {
	var r reasons
	say := func(effect Effect, format string, args ...any) { r.say(effect, fmt.Sprintf(format, args...)) }
	masks := map[string]bool{}
	for _, f := range fields {
		switch head, _, _ := strings.Cut(strings.ReplaceAll(f.Path, "[", "."), "."); head {
		case "mask", "mask_requests":
			if masks[head] {
				continue
			}
			masks[head] = true
			if head == "mask" {
				maskEffect(was.Mask, is.Mask, "in responses", say)
			} else {
				maskEffect(was.MaskRequests, is.MaskRequests, "of what functions are sent", say)
			}
		case "functions":
			switch {
			case f.New == "":
				say(Narrows, "requests of a function are not known any more")
			case f.Old == "":
				say(Widens, "a function can be called if a rule allows it")
			default:
				say(Either, "other requests are taken for a function")
			}
		default:
			effect, text := settingEffect(f)
			say(effect, "%s", text)
		}
	}
	return together(r.effects...), r.why
}

// settingEffect is what one changed setting does. One that is not known here may do
// anything.
func settingEffect(f Field) (Effect, string) {
	if known, ok := settingEffects[f.Path]; ok {
		return known(f)
	}
	switch head, _, _ := strings.Cut(f.Path, "."); head {
	case "match":
		return Either, "it takes other requests"
	case "upstream":
		return Neither, "calls go somewhere else, or in another way"
	case "credential":
		return Neither, "the service gets another credential"
	case "protocol", "grpc", "sql", "openapi":
		return Either, "requests are read in another way"
	}
	if strings.HasPrefix(f.Path, "mcp.tools.hold.") {
		return Either, "calls to changed tools are held in another way"
	}
	return Either, f.Path + " is another"
}

// settingEffects are those of settings that go by their whole path.
var settingEffects = map[string]func(Field) (Effect, string){
	"mode": func(f Field) (Effect, string) {
		if f.New == "shadow" {
			return Widens, "rules only note from now on what they would have done"
		}
		return Narrows, "rules decide from now on"
	},
	"proof": func(f Field) (Effect, string) {
		switch weak := []string{"", "none"}; {
		case slices.Contains(weak, f.New):
			return Widens, "callers need not prove any more that the token is theirs"
		case slices.Contains(weak, f.Old):
			return Narrows, "callers must prove that the token is theirs"
		}
		return Either, "callers prove in another way that the token is theirs"
	},
	"session_header": func(f Field) (Effect, string) {
		if f.New == "" {
			return Narrows, "calls of one identity count together again, whatever a header says"
		}
		return Either, "calls count by what a header says, within their identity"
	},
	"validate":              toggled("true", Narrows, "arguments that don't fit the function's schema are denied", "arguments need not fit the function's schema any more"),
	"max_body":              bounded("larger requests get through", "only smaller requests get through"),
	"max_response":          bounded("larger parts of responses are masked, and not withheld", "only smaller parts of responses are masked; larger ones are withheld"),
	"look_behind":           opposed(bounded("more of a response is searched together", "less of a response is searched together: a long value may be cut in two unseen")),
	"event_texts":           opposed(listed("more texts of events are searched over several of them", "fewer texts of events are searched over several of them")),
	"binary":                toggled("pass", Widens, "responses that can't be read get through unmasked", "responses that can't be read are withheld"),
	"grpc.streaming":        listed("more methods are judged by their headers alone", "fewer methods are judged by their headers alone"),
	"graphql.max_depth":     bounded("deeper operations get through", "only flatter operations get through"),
	"graphql.max_aliases":   bounded("operations with more aliases get through", "only operations with fewer aliases get through"),
	"graphql.max_fields":    bounded("larger operations get through", "only smaller operations get through"),
	"graphql.introspection": toggled("true", Widens, "callers may ask for the schema", "callers may not ask for the schema any more"),
	"graphql.several":       toggled("true", Widens, "one operation may have several fields at its root", "an operation has one field at its root"),
	"mcp.tools.pin": func(f Field) (Effect, string) {
		switch {
		case f.New == "off":
			return Widens, "the server is believed whatever it says of its tools"
		case f.Old == "off":
			return Narrows, "tools are held to what was pinned of them"
		}
		return Either, "tools are pinned at another time"
	},
	"mcp.tools.changed": toggled("hold", Widens, "calls to changed tools are held, which people may then let through", "calls to changed tools are denied"),
	"mcp.tools.refresh": same("the server is asked for its tools at another interval"),
	"batch.accept":      toggled("true", Widens, "batches are taken", "batches are denied"),
	"batch.max":         bounded("longer batches are taken", "only shorter batches are taken"),
	"record.unavailable": toggled("allow", Widens, "calls that can't be recorded get through",
		"calls that can't be recorded are denied"),
	"record.response":    same("responses are recorded in another way, or not"),
	"record.max_body":    same("another part of long bodies is recorded"),
	"record.headers":     same("other headers are recorded"),
	"record.keep.bodies": same("content is kept for another time"),
	"record.keep.calls":  same("records are kept for another time"),
	"record.originals":   listed("holders of more keys may be shown what masks hid", "holders of fewer keys may be shown what masks hid"),
}

func same(text string) func(Field) (Effect, string) {
	return func(Field) (Effect, string) { return Neither, text }
}

// toggled is a setting of which one value has an effect, and any other the opposite.
func toggled(value string, effect Effect, on, off string) func(Field) (Effect, string) {
	return func(f Field) (Effect, string) {
		if f.New == value {
			return effect, on
		}
		return opposite(effect), off
	}
}

// bounded is a setting of which more lets more through.
func bounded(more, less string) func(Field) (Effect, string) {
	return func(f Field) (Effect, string) {
		was, err1 := strconv.ParseFloat(f.Old, 64)
		is, err2 := strconv.ParseFloat(f.New, 64)
		switch {
		case err1 != nil || err2 != nil:
			return Either, f.Path + " is another"
		case is < was:
			return Narrows, less
		}
		return Widens, more
	}
}

func opposed(of func(Field) (Effect, string)) func(Field) (Effect, string) {
	return func(f Field) (Effect, string) {
		effect, text := of(f)
		return opposite(effect), text
	}
}

// listed is a list of which more lets more through.
func listed(more, less string) func(Field) (Effect, string) {
	return func(f Field) (Effect, string) {
		switch gained, lost := lists(split(f.Old), split(f.New)); {
		case gained && lost:
			return Either, f.Path + " names others"
		case lost:
			return Narrows, less
		}
		return Widens, more
	}
}

// lists tells whether a list gained and lost something.
func lists(was, is []string) (gained, lost bool) {
	return slices.ContainsFunc(is, func(s string) bool { return !slices.Contains(was, s) }),
		slices.ContainsFunc(was, func(s string) bool { return !slices.Contains(is, s) })
}
