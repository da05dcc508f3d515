package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/callgate/callgate/app"
	"github.com/callgate/callgate/config"
)

func newPolicy() *cobra.Command {
	c := &cobra.Command{
		Use:   "policy",
		Short: "Work on connections and rules",
	}
	c.AddCommand(&cobra.Command{
		Use:   "check FILE...",
		Short: "Check connections and rules before they are put in place",
		Long: `Check reads the files as one policy: a rule may name a connection of another
file. Every error is printed as file:line:column with the rule's name; nothing
is started or contacted.`,
		Example: `  callgate policy check policies/*.yaml
  callgate policy check callgate.yaml policies/refunds.yaml`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, files []string) error {
			policy, err := config.CheckPolicy(files...)
			if err != nil {
				return withCode(exitUsage, fmt.Errorf("the policy can't go live:\n%w", err))
			}
			// Who decides by default stands in another file; somebody does.
			somebody := config.Approvers{Groups: []string{"approvers"}}
			if err := app.CheckPolicy(policy, somebody); err != nil {
				return withCode(exitUsage, fmt.Errorf("the policy can't go live:\n%w", err))
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "ok: %d connections, %d rules, version %s\n",
				len(policy.Connections), len(policy.Rules), policy.Version)
			return err
		},
	})
	c.AddCommand(newPolicyPush(), newPolicyStatus(), newPolicyHistory(), newPolicyShow(), newPolicyRollback(), newPolicyPromote(), newPolicyAbort())
	c.AddCommand(newPolicyBacktest())
	return c
}
