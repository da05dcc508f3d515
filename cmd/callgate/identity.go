package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/callgate/callgate/extauthz/identity"
)

func newIdentity() *cobra.Command {
	c := &cobra.Command{Use: "identity", Short: "Work on who may call"}
	key := &cobra.Command{
		Use:   "key NAME",
		Short: "Make an API key for a caller that has nothing else",
		Long: `Key prints a new API key, once, to standard output, and to standard error what
to put under identity.keys: only the key's hash. The key is sent as
'Authorization: Bearer cgk_…'.`,
		Example: "  callgate identity key night-job > night-job.key",
		Args:    cobra.ExactArgs(1),
	}
	kind := key.Flags().String("kind", "workload", "human, ci, agent or workload")
	key.RunE = func(c *cobra.Command, args []string) error {
		secret, hash := identity.NewKey()
		if _, err := fmt.Fprintf(c.ErrOrStderr(), "identity:\n  keys:\n    - {name: %s, kind: %s, hash: %s}\n", args[0], *kind, hash); err != nil {
			return err
		}
		_, err := fmt.Fprintln(c.OutOrStdout(), secret)
		return err
	}
	c.AddCommand(key)
	return c
}
