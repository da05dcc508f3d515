package trace

import (
	"fmt"
	"io"
	"strings"
	"unicode"

	"github.com/callgate/callgate/policies"
)

// longest is how much of a value is printed, in characters; JSON has all of it.
const longest = 120

// Write prints an explanation for a person. Rules that look elsewhere are only
// counted, unless all is set.
func (e Explanation) Write(out io.Writer, all bool) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s on %s by %s: %s", printable(dash(e.Function)), printable(dash(e.Connection)), printable(dash(e.Subject)), e.Decision)
	if e.Rule != "" {
		fmt.Fprintf(&b, " by rule %q", e.Rule)
	}
	if e.Reason != "" {
		fmt.Fprintf(&b, " (%s)", e.Reason)
	}
	b.WriteByte('\n')
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "  %-9s %s\n", name, printable(value))
		}
	}
	line("args", clip(string(e.Args)))
	line("message", e.Message)
	line("hides", strings.Join(e.Mask, ", "))
	line("asks", e.Asks)
	line("shadow", strings.Join(e.Shadow, ", "))
	line("policy", e.Policy)
	for _, n := range e.Notes {
		line("note", n)
	}
	elsewhere := 0
	for _, r := range e.Rules {
		if r.Verdict == policies.Elsewhere && !all {
			elsewhere++
			continue
		}
		r.write(&b)
	}
	if elsewhere > 0 {
		fmt.Fprintf(&b, "\n%d more rules look at other calls\n", elsewhere)
	}
	_, err := io.WriteString(out, b.String())
	return err
}

func (r Rule) write(b *strings.Builder) {
	sign := map[policies.Verdict]string{policies.Elsewhere: "·", policies.Matched: "✓", policies.Unmatched: "✗", policies.Failed: "!", policies.Unknown: "?"}[r.Verdict]
	action := r.Action
	if r.Shadow {
		action += " in shadow"
	}
	fmt.Fprintf(b, "\n%s %s %q", sign, action, r.Name)
	if r.File != "" {
		fmt.Fprintf(b, "  %s", policies.Position{File: r.File, Line: r.Line, Column: r.Column})
	}
	fmt.Fprintf(b, "\n    %s\n", printable(r.Why))
	if r.Verdict == policies.Elsewhere {
		return
	}
	width := 0
	for _, p := range r.Parts {
		width = max(width, min(60, 2*p.Depth+len([]rune(p.Text))))
	}
	for _, p := range r.Parts {
		text := strings.Repeat("  ", p.Depth) + clip(strings.Join(strings.Fields(p.Text), " "))
		value := clip(string(p.Value))
		switch {
		case p.Error != "":
			value = "error: " + p.Error
		case value == "":
			value = "not evaluated"
		}
		fmt.Fprintf(b, "      %-*s = %s\n", width, printable(text), printable(value))
	}
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func clip(s string) string {
	if r := []rune(s); len(r) > longest {
		return string(r[:longest]) + "…"
	}
	return s
}

// printable replaces what could move a terminal's cursor or colour its text.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) && r != ' ' {
			return '\uFFFD'
		}
		return r
	}, s)
}
