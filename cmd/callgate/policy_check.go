package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/callgate/callgate/app"
	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/policies"
	"github.com/callgate/callgate/policies/lint"
)

// somebody stands for those who decide by default, where the configuration that
// names them is not at hand.
var somebody = config.Approvers{Groups: []string{"approvers"}}

// loadedPolicy is a policy to look into.
type loadedPolicy struct {
	config.Policy
	approvers config.Approvers // who decides where a rule names nobody
	set       *policies.Set
	envoy     config.Envoy
	around    app.Around
}

// policyAt reads the policy that paths name, or that of the configuration, and
// compiles it for tools. Without connections in the paths, those of the
// configuration are used.
func policyAt(c *cobra.Command, paths []string) (loadedPolicy, error) {
	out := loadedPolicy{approvers: somebody, envoy: defaultEnvoy()}
	file, err := c.Flags().GetString("config")
	if err != nil {
		return out, err
	}
	_, missing := os.Stat(file)
	given := c.Flags().Changed("config") || os.Getenv("CALLGATE_CONFIG") != ""
	var cfg *config.Config
	if len(paths) == 0 || given || missing == nil {
		if cfg, err = loadConfig(c); err != nil && (len(paths) == 0 || given) {
			return out, err
		}
	}
	if cfg != nil {
		out.Policy, out.approvers, out.envoy, out.around = cfg.Policy, cfg.Approvals.Approvers, cfg.Envoy, app.AroundOf(cfg)
	}
	if len(paths) > 0 {
		files, err := config.PolicyFiles(paths...)
		if err != nil {
			return out, withCode(exitUsage, err)
		}
		if len(files) == 0 {
			return out, withCode(exitUsage, fmt.Errorf("%s: only tests, no policy", strings.Join(paths, " ")))
		}
		if out.Policy, err = config.CheckPolicy(files...); err != nil {
			return out, withCode(exitUsage, fmt.Errorf("the policy can't go live:\n%w", err))
		}
		if cfg != nil {
			if len(out.Connections) == 0 {
				out.Connections = cfg.Policy.Connections
			}
			if err := cfg.Unambiguous(out.Policy); err != nil {
				return out, withCode(exitUsage, fmt.Errorf("the policy can't go live:\n%w", err))
			}
		}
	}
	if out.set, err = app.InspectPolicy(out.Policy, out.approvers); err != nil {
		return out, withCode(exitUsage, fmt.Errorf("the policy can't go live:\n%w", err))
	}
	return out, nil
}

func newPolicyCheck() *cobra.Command {
	c := &cobra.Command{
		Use:   "check [FILE|FOLDER...]",
		Short: "Check connections and rules before they are put in place",
		Long: `Check reads the files as one policy: a rule may name a connection of another
file. Without files it reads the policy of the configuration. Every error is
printed as file:line:column with the rule's name; nothing is started or
contacted.

A policy that could go live is looked at further: for rules that can never match,
that another always comes before, or that say what another says; for names that
do not exist; for connections and functions that nothing allows, and what is
allowed to everybody. What it says of rules is proved; where it can't tell, it
says nothing.

Exit codes: 0 fine, or warnings; 1 an error in what the rules say, or with
--strict a warning; 2 the policy can't go live.`,
		Example: `  callgate policy check
  callgate policy check policies/
  callgate policy check --strict --ignore open-to-all callgate.yaml policies/refunds.yaml`,
	}
	strict := c.Flags().Bool("strict", false, "fail on warnings, too")
	ignore := c.Flags().StringSlice("ignore", nil, "checks to leave out, by the name that stands behind each finding")
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, files []string) error {
		for _, name := range *ignore {
			if !slices.Contains(lint.Checks(), lint.Check(name)) {
				return withCode(exitUsage, fmt.Errorf("--ignore %q is no check; there are %v", name, lint.Checks()))
			}
		}
		p, err := policyAt(c, files)
		if err != nil {
			return err
		}
		found, err := app.LintPolicy(c.Context(), p.Policy, p.set, p.around, time.Now())
		if err != nil {
			return err
		}
		found = slices.DeleteFunc(found, func(f lint.Finding) bool { return slices.Contains(*ignore, string(f.Check)) })
		if *asJSON {
			err = printJSON(c.OutOrStdout(), checkReport(p, found))
		} else {
			err = printFindings(c, p, found)
		}
		if err != nil {
			return err
		}
		faults, warnings := countFindings(found)
		if faults > 0 || *strict && warnings > 0 {
			return withCode(exitNo, errors.New(tellCount(faults, warnings)+" found"))
		}
		return nil
	}
	return c
}

func countFindings(found []lint.Finding) (faults, warnings int) {
	for _, f := range found {
		if f.Severity == lint.Fault {
			faults++
		} else {
			warnings++
		}
	}
	return faults, warnings
}

func tellCount(faults, warnings int) string {
	return fmt.Sprintf("%s and %s", counted(faults, "error"), counted(warnings, "warning"))
}

// counted is a number with its noun.
func counted(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func printFindings(c *cobra.Command, p loadedPolicy, found []lint.Finding) error {
	var b strings.Builder
	for _, f := range found {
		b.WriteString(printable(f.String()) + "\n")
	}
	state := "ok"
	if faults, warnings := countFindings(found); faults > 0 {
		state = tellCount(faults, warnings)
	} else if warnings > 0 {
		state = "ok, with " + counted(warnings, "warning")
	}
	fmt.Fprintf(&b, "%s: %d connections, %d rules, version %s\n", state, len(p.Connections), len(p.Rules), p.Version)
	_, err := c.OutOrStdout().Write([]byte(b.String()))
	return err
}

// finding is a lint finding as JSON has it.
type finding struct {
	Check    lint.Check    `json:"check"`
	Severity lint.Severity `json:"severity"`
	File     string        `json:"file"`
	Line     int           `json:"line"`
	Column   int           `json:"column"`
	Subject  string        `json:"subject"`
	Text     string        `json:"text"`
	Fix      string        `json:"fix"`
}

type checked struct {
	Connections int       `json:"connections"`
	Rules       int       `json:"rules"`
	Version     string    `json:"version"`
	Findings    []finding `json:"findings"`
}

func checkReport(p loadedPolicy, found []lint.Finding) checked {
	out := checked{Connections: len(p.Connections), Rules: len(p.Rules), Version: p.Version, Findings: []finding{}}
	for _, f := range found {
		out.Findings = append(out.Findings, finding{f.Check, f.Severity, f.Position.File, f.Position.Line, f.Position.Column, f.Subject, f.Text, f.Fix})
	}
	return out
}
