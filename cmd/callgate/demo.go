package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/callgate/callgate/demo"
)

func newDemo() *cobra.Command {
	c := &cobra.Command{
		Use:   "demo",
		Short: "Show Callgate at work on this machine",
		Long: `Demo starts everything on this machine (a real Envoy, the embedded ClickHouse
engine, Callgate, an OIDC issuer, three functions) and takes you through it with
real calls. It stays up afterwards for you to try, until Ctrl-C.`,
		Example: "  callgate demo\n  callgate demo --once",
		Args:    cobra.NoArgs,
	}
	once := c.Flags().Bool("once", false, "end after the tour; 0 only if every step did what it should")
	dir := c.Flags().String("dir", "", "folder for configuration, data and logs (default: a temporary one, removed at the end)")
	c.RunE = func(c *cobra.Command, _ []string) error {
		self, err := os.Executable()
		if err != nil {
			return err
		}
		return demo.Run(c.Context(), demo.RunConfig{Executable: self, Dir: *dir, Once: *once, Out: c.OutOrStdout()})
	}
	return c
}
