package main

import "github.com/spf13/cobra"

func newPolicy() *cobra.Command {
	c := &cobra.Command{
		Use:   "policy",
		Short: "Work on connections and rules",
	}
	c.AddCommand(newPolicyCheck(), newPolicyTest(), newPolicyExplain(), newPolicyDiff())
	c.AddCommand(newPolicyLibrary(), newPolicyPush(), newPolicyStatus(), newPolicyHistory(), newPolicyShow(), newPolicyRollback(), newPolicyPromote(), newPolicyAbort())
	c.AddCommand(newPolicyBacktest(), newPolicySuggest())
	return c
}
