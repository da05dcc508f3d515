package pages

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html/template"
	"slices"
	"strings"
	"time"

	"github.com/callgate/callgate/approvals"
	"github.com/callgate/callgate/call"
)

var functions = template.FuncMap{
	"caller":  caller,
	"state":   state,
	"left":    left,
	"stamp":   stamp,
	"short":   func(s string) string { return s[:min(len(s), 16)] },
	"visible": approvals.Visible,
}

// caller names who calls, and through whom.
func caller(i call.Identity) string {
	out := approvals.Visible(i.Subject)
	for n := len(i.Actors) - 1; n >= 0; n-- {
		out += " through " + approvals.Visible(i.Actors[n].Subject)
	}
	return out
}

func state(s approvals.State) string {
	switch s {
	case approvals.Open:
		return "waits"
	case approvals.Approved:
		return "approved"
	case approvals.Used:
		return "approved, passed"
	case approvals.Refused:
		return "refused"
	case approvals.Expired:
		return "expired"
	case approvals.Canceled:
		return "caller hung up"
	case approvals.BrokeGlass:
		return "glass broken"
	}
	return string(s)
}

// left is the time from now to then, in the two largest units.
func left(then, now time.Time) string {
	d := then.Sub(now)
	switch {
	case d <= 0:
		return "no time"
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min %d s", int(d.Minutes()), int(d.Seconds())%60)
	case d < 24*time.Hour:
		return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%d d %d h", int(d.Hours())/24, int(d.Hours())%24)
}

// stamp is a time, to the second, for people and for machines.
func stamp(t time.Time) template.HTML {
	t = t.UTC()
	return template.HTML(`<time datetime="` + t.Format(time.RFC3339) + `">` + t.Format("2 Jan 2006 15:04:05") + ` UTC</time>`)
}

func askedOf(a call.Approvers) string {
	var out []string
	for _, g := range a.Groups {
		out = append(out, "group "+g)
	}
	for _, p := range a.People {
		out = append(out, person(p))
	}
	return strings.Join(out, ", ")
}

// person is somebody's subject, without the issuer.
func person(who string) string {
	if scheme, bar := strings.Index(who, "://"), strings.IndexByte(who, '|'); scheme >= 0 && bar > scheme {
		return approvals.Visible(who[bar+1:])
	}
	return approvals.Visible(who)
}

// shown is one held call as its page shows it.
type shown struct {
	approvals.View
	Arguments      []argument // empty: ArgumentsText tells all
	ArgumentsText  string
	Stages         []stage
	Steps          []step
	ReasonRequired bool
	BreakGlass     string
}

type argument struct {
	Name, Value string
	Block       bool
}

type stage struct{ Class, Who, How string }

type step struct {
	Class, Text, Comment string
	At                   time.Time
}

func show(h *approvals.Hold, v approvals.View) shown {
	out := shown{View: v, ArgumentsText: v.Arguments, Arguments: layOut(v.Arguments), ReasonRequired: h.Terms.Reason, BreakGlass: approvals.Visible(h.BreakGlass)}
	for i, s := range h.Terms.Stages {
		need := max(1, s.Need)
		yes := 0
		for _, v := range h.Verdicts {
			if v.Approve && v.Stage == i {
				yes++
			}
		}
		one := stage{Who: askedOf(s.Approvers), How: "one of them approves"}
		if h.State == approvals.BrokeGlass {
			one.How = "was not asked; any of them reviews"
			out.Stages = append(out.Stages, one)
			continue
		}
		if need > 1 {
			one.How = fmt.Sprintf("%d of them approve", need)
		}
		if need > 1 && yes > 0 || yes >= need {
			one.How += fmt.Sprintf("; %d did", yes)
		}
		switch {
		case yes >= need:
			one.Class = "done"
		case h.State == approvals.Open && i == h.Stage:
			one.Class = "next"
			one.How += "; asked now"
		case h.State == approvals.Open:
			one.How += "; asked after that"
		}
		out.Stages = append(out.Stages, one)
	}
	out.Steps = steps(h)
	return out
}

// steps are what happened to a hold, in order.
func steps(h *approvals.Hold) []step {
	by := person(approvals.PersonOf(h.Identity).String())
	out := []step{{Text: "Asked by " + by, At: h.AskedAt}}
	if h.State == approvals.BrokeGlass {
		out[0] = step{Class: "no", Text: by + " broke the glass, and the call passed", At: h.AskedAt, Comment: approvals.Visible(h.BreakGlass)}
	}
	for _, m := range h.Marks {
		text := "Told to " + approvals.Visible(m.By)
		switch m.Name {
		case approvals.StepSeen:
			text = "Seen by " + person(m.By)
		case approvals.StepGranted:
			text = "Grant " + m.Grant + " was given"
		}
		out = append(out, step{Text: text, At: m.At})
	}
	for _, v := range h.Verdicts {
		one := step{Class: "done", Text: "Approved by " + person(v.By.String()), Comment: approvals.Visible(v.Comment), At: v.At}
		if !v.Approve {
			one.Class, one.Text = "no", "Refused by "+person(v.By.String())
		}
		if v.For != (approvals.Person{}) {
			one.Text += " in place of " + person(v.For.String())
		}
		if v.Grant.For > 0 {
			one.Text += ", with a grant for " + period(v.Grant.For)
		}
		out = append(out, one)
	}
	slices.SortStableFunc(out, func(a, b step) int { return a.At.Compare(b.At) })
	switch h.State {
	case approvals.Open:
		out = append(out, step{Class: "next", Text: "Waits for a decision, until", At: h.Expires})
	case approvals.Approved:
		text := "Waits for its caller, until"
		if h.Terms.Wait == call.WaitRetry {
			text = "Waits for its caller to make the call again, until"
		}
		out = append(out, step{Class: "next", Text: text, At: h.UseBy})
	case approvals.Expired:
		out = append(out, step{Class: "no", Text: "Nobody decided, or nobody came, in time", At: h.EndedAt})
	case approvals.Canceled:
		out = append(out, step{Class: "no", Text: "The caller hung up", At: h.EndedAt})
	case approvals.Used:
		out = append(out, step{Class: "done", Text: "The call passed", At: h.UsedAt})
	}
	if r := h.Review; !r.At.IsZero() {
		one := step{Class: "done", Text: "Found justified by " + person(r.By.String()), Comment: approvals.Visible(r.Comment), At: r.At}
		if !r.Justified {
			one.Class, one.Text = "no", "Found not justified by "+person(r.By.String())
		}
		out = append(out, one)
	}
	return out
}

// period writes a duration as people and the configuration do: 1h, 30m.
func period(d time.Duration) string {
	s := d.String()
	s = strings.TrimSuffix(s, "0s")
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// layOut makes a table of a JSON object's members, in their order; nothing where
// the text is something else.
func layOut(text string) []argument {
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil
	}
	var out []argument
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return nil
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil
		}
		a := argument{Name: approvals.Visible(fmt.Sprint(name))}
		var s string
		switch {
		case len(value) > 0 && (value[0] == '{' || value[0] == '['):
			var b bytes.Buffer
			if json.Indent(&b, value, "", "  ") != nil {
				return nil
			}
			a.Value, a.Block = b.String(), b.Len() > 2
		case json.Unmarshal(value, &s) == nil && (strings.ContainsAny(s, "\n") || len(s) > 100):
			a.Value, a.Block = string(value), true // as it stands, escapes and all
		default:
			a.Value = string(value)
		}
		out = append(out, a)
	}
	return out
}

// digest names what a page showed: a decision about anything else is not taken.
func digest(v approvals.View) string {
	sum := sha256.Sum256([]byte(strings.Join([]string{v.ID, v.CallID, v.Connection, v.Function, v.Method, v.Authority, v.Path, v.BodySHA256, v.Arguments, v.Policy}, "\x00")))
	return hex.EncodeToString(sum[:16])
}
