package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/callgate/callgate/policies/library"
)

func newPolicyLibrary() *cobra.Command {
	c := &cobra.Command{
		Use:   "library [NAME]",
		Short: "List the ready guardrails, or print one",
		Long: `Library lists the guardrails that a rule can use:

  rules:
    - use: destructive-sql
      connections: [crm]
      with: {argument: query, dialect: postgres}

With a name it prints that guardrail: what it is for, its parameters, its
condition, and the cases that it finds, leaves alone and misses.`,
		Example: "  callgate policy library\n  callgate policy library ssrf-targets",
		Args:    cobra.MaximumNArgs(1),
	}
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) == 1 {
			text, err := library.Source(args[0])
			if err != nil {
				return withCode(exitUsage, fmt.Errorf("there is no guardrail %q; there are %s", args[0], strings.Join(library.Names(), ", ")))
			}
			_, err = c.OutOrStdout().Write(text)
			return err
		}
		type entry struct {
			Name        string `json:"name"`
			Action      string `json:"action"`
			Description string `json:"description"`
		}
		var list []entry
		rows := [][]string{{"NAME", "ACTION", "FINDS"}}
		for _, name := range library.Names() {
			g := library.Find(name)
			list = append(list, entry{name, g.Action, g.Description})
			rows = append(rows, []string{name, g.Action, g.Description})
		}
		if *asJSON {
			return printJSON(c.OutOrStdout(), list)
		}
		return table(c.OutOrStdout(), rows)
	}
	return c
}
