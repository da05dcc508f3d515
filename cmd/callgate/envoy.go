package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/callgate/callgate/envoy"
	"github.com/callgate/callgate/envoy/local"
)

func newEnvoy() *cobra.Command {
	c := &cobra.Command{
		Use:   "envoy",
		Short: "Get an Envoy to ask this Callgate",
	}
	node := c.PersistentFlags().String("node", "callgate-envoy", "node id, which audit rows name")
	admin := c.PersistentFlags().String("admin", "127.0.0.1:9901", "address of Envoy's admin interface; empty for none")
	bootstrap := func(c *cobra.Command) ([]byte, error) {
		cfg, err := loadConfig(c)
		if err != nil {
			return nil, err
		}
		b, err := envoy.Bootstrap(envoy.BootstrapConfig{Node: *node, XDS: cfg.Listen.XDS, Admin: *admin})
		return b, withCode(exitUsage, err)
	}
	show := &cobra.Command{
		Use:   "bootstrap",
		Short: "Print the bootstrap that names only the control plane",
		Long: `Bootstrap prints an Envoy bootstrap. Listeners, routes, clusters and secrets
are not in it: Envoy gets them over delta ADS from 'callgate serve'.`,
		Example: "  callgate envoy bootstrap -c callgate.yaml > envoy.json && envoy -c envoy.json",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			b, err := bootstrap(c)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(c.OutOrStdout(), string(b))
			return err
		},
	}
	run := &cobra.Command{
		Use:   "run",
		Short: "Run an Envoy with that bootstrap",
		Long: `Run starts the Envoy that CALLGATE_ENVOY names, else one of a supported version
on the PATH, else a pinned one that is fetched on first use (about 37 MB).`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if *admin == "" {
				return withCode(exitUsage, fmt.Errorf("--admin can't be empty here: it tells when Envoy is ready"))
			}
			b, err := bootstrap(c)
			if err != nil {
				return err
			}
			binary, err := local.Find(c.Context(), progress(c))
			if err != nil {
				return withCode(exitUnreachable, err)
			}
			dir, err := os.MkdirTemp("", "callgate-envoy-")
			if err != nil {
				return fmt.Errorf("make a folder for the bootstrap: %w", err)
			}
			defer os.RemoveAll(dir)
			p, err := local.Start(local.Config{Binary: binary, Bootstrap: b, Admin: *admin, Dir: dir, Output: os.Stderr})
			if err != nil {
				return err
			}
			select {
			case <-p.Done():
			case <-c.Context().Done():
			}
			return p.Stop()
		},
	}
	c.AddCommand(show, run)
	return c
}
