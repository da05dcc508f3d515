package suggest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/callgate/callgate/audit/clickhouse"
)

// Result is what is suggested.
type Result struct {
	Since, Until time.Time
	Grants       []Suggestion
	Uncovered    []Uncovered // until [Result.Cover] adds to them, those seen too seldom
	NoValues     bool

	cfg      Config
	observed *observed
}

// Run reads the calls that were let through and makes grants of them.
func Run(ctx context.Context, cfg Config) (*Result, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	o, err := observe(ctx, &cfg)
	if err != nil {
		return nil, err
	}
	r := &Result{Since: cfg.Filter.Since, Until: cfg.Filter.Until, NoValues: cfg.NoValues, cfg: cfg, observed: o}
	r.Grants, r.Uncovered = draftGrants(o, &cfg)
	return r, nil
}

// maxListed bounds the calls that are listed as not covered.
const maxListed = 200

// Write writes the grants as a policy file. Comments say what speaks for each
// of them, and what they do not cover.
func (r *Result) Write(w io.Writer) error {
	grants := &yaml.Node{Kind: yaml.SequenceNode}
	for i := range r.Grants {
		node, err := r.Grants[i].node()
		if err != nil {
			return err
		}
		grants.Content = append(grants.Content, node)
	}
	if len(r.Grants) == 0 {
		grants.Style = yaml.FlowStyle
	}
	key := &yaml.Node{Kind: yaml.ScalarNode, Value: "grants"}
	doc := &yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{key, grants}}
	if _, err := io.WriteString(w, r.head()); err != nil {
		return err
	}
	enc := yaml.NewEncoder(w)
	enc.SetIndent(2)
	if err := errors.Join(enc.Encode(doc), enc.Close()); err != nil {
		return fmt.Errorf("write grants: %w", err)
	}
	_, err := io.WriteString(w, r.foot())
	return err
}

func (r *Result) head() string {
	since := "the first call"
	if !r.Since.IsZero() {
		since = day(r.Since)
	}
	text := fmt.Sprintf("# Suggested from the calls that were let through from %s to %s.\n# Read it before it goes live: it repeats what was done, right or wrong.\n", since, day(r.Until))
	if !r.NoValues {
		text += "# Its conditions hold values that callers sent, which may be personal data; --no-values\n# bounds numbers and lengths only. What looks like a credential is never written.\n"
	}
	return text + "# Rules that deny or hold come before any grant.\n\n"
}

func (r *Result) foot() string {
	if len(r.Uncovered) == 0 {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\n# Not covered, and so denied unless something else allows it:\n")
	for _, u := range r.Uncovered[:min(len(r.Uncovered), maxListed)] {
		fmt.Fprintf(&b, "# - %s\n", u)
	}
	if more := len(r.Uncovered) - maxListed; more > 0 {
		fmt.Fprintf(&b, "# - and %d more\n", more)
	}
	return b.String()
}

// String tells of uncovered calls in a line.
func (u Uncovered) String() string {
	who := u.Subject
	if who == "" {
		who = "nobody"
	}
	if len(u.Actors) > 0 {
		who = strings.Join(u.Actors, " through ") + " for " + who
	}
	text := fmt.Sprintf("%s, %s on %s: %d calls, %s", who, u.Function, u.Connection, u.Calls, u.Why)
	if len(u.Examples) > 0 {
		text += ", such as " + u.Examples[0].ID.String()
	}
	return clickhouse.Text(text) // callers choose some of it
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// node is the grant as YAML, with its support in a comment.
func (s *Suggestion) node() (*yaml.Node, error) {
	g := &s.Grant
	out := struct {
		Name        string   `yaml:"name"`
		Identities  []string `yaml:"identities,omitempty"`
		Groups      []string `yaml:"groups,omitempty"`
		Actors      []string `yaml:"actors,omitempty"`
		Connections []string `yaml:"connections,flow"`
		Functions   []string `yaml:"functions"`
		When        string   `yaml:"when,omitempty"`
	}{g.Name, g.Identities, g.Groups, g.Actors, g.Connections, g.Functions, g.When}
	node := &yaml.Node{}
	if err := node.Encode(out); err != nil {
		return nil, fmt.Errorf("write grant %s: %w", g.Name, err)
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		if node.Content[i].Value == "when" {
			node.Content[i+1].Style = yaml.LiteralStyle
		}
	}
	days := "days"
	if s.Days == 1 {
		days = "day"
	}
	node.HeadComment = fmt.Sprintf("# %d calls on %d %s, from %s to %s", s.Calls, s.Days, days, day(s.First), day(s.Last))
	if s.Held > 0 {
		node.HeadComment += fmt.Sprintf(";\n# %d of them were held, and people let them through: keep the rule that holds them", s.Held)
	}
	if s.Unbound {
		node.HeadComment += ";\n# their arguments are not recorded any more, so nothing bounds them"
	}
	return node, nil
}
