package main

import (
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/callgate/callgate/config"
)

// newRoot builds the command tree.
func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "callgate",
		Short: "Checkpoints, approvals and an audit trail in front of your functions",
		Long: `Callgate decides each call to your functions before it runs, asks people where
it must, hides what callers must not see, and records every call for SQL.

Exit codes: 0 fine; 1 what was asked about does not hold; 2 wrong usage or
configuration; 3 something it depends on can't be reached.`,
		Example: `  callgate demo
  callgate serve -c callgate.yaml
  callgate query "SELECT subject, function, decision FROM calls ORDER BY time DESC LIMIT 10"`,
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return withCode(exitUsage, hint(err, c))
	})
	root.PersistentFlags().StringP("config", "c", defaultConfig(), "configuration file; CALLGATE_CONFIG sets it too")
	root.AddCommand(
		newServe(), newDemo(), newClickHouse(), newEnvoy(), newQuery(), newCalls(), newAudit(), newVerify(), newApprovals(), newPolicy(), newMask(), newGrants(), newRevocations(), newTools(), newIdentity(), newVersion(),
	)
	usageErrors(root)
	return root
}

func defaultConfig() string {
	if f := os.Getenv("CALLGATE_CONFIG"); f != "" {
		return f
	}
	return "callgate.yaml"
}

// loadConfig reads the file that -c names, with the command's flags laid over.
func loadConfig(c *cobra.Command) (*config.Config, error) {
	file, err := c.Flags().GetString("config")
	if err != nil {
		return nil, err
	}
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Changed {
			flags.AddFlag(f)
		}
	})
	cfg, err := config.Load(file, flags)
	return cfg, withCode(exitUsage, err)
}

// usageErrors gives wrong arguments the usage exit code, for c and all below.
func usageErrors(c *cobra.Command) {
	if check := c.Args; check != nil {
		c.Args = func(c *cobra.Command, args []string) error {
			if err := check(c, args); err != nil {
				return withCode(exitUsage, hint(err, c))
			}
			return nil
		}
	}
	for _, sub := range c.Commands() {
		usageErrors(sub)
	}
}
