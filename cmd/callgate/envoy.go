package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/envoy"
	"github.com/callgate/callgate/envoy/local"
)

func newEnvoy() *cobra.Command {
	c := &cobra.Command{
		Use:   "envoy",
		Short: "Get an Envoy to ask this Callgate",
	}
	node := c.PersistentFlags().String("node", "callgate-envoy", "node id, which audit rows name")
	cert := c.PersistentFlags().String("cert", "", "PEM certificate that Envoy shows the control plane, on Envoy's host; needed where control.tls has a ca_file")
	key := c.PersistentFlags().String("key", "", "its key")
	ca := c.PersistentFlags().String("ca", "", "PEM file that the control plane's certificate must chain to, on Envoy's host. Default: control.tls.ca_file, else the system's roots")
	name := c.PersistentFlags().String("server-name", "", "what that certificate must be for. Default: control.tls.server_name, else the host of --xds")
	address := c.PersistentFlags().String("xds", "", "host:port of the control plane as Envoy reaches it. Default: listen.xds")
	admin := c.PersistentFlags().String("admin", "127.0.0.1:9901", "address of Envoy's admin interface; empty for none")
	bootstrap := func(c *cobra.Command) ([]byte, error) {
		cfg, err := loadConfig(c)
		if err != nil {
			return nil, err
		}
		out := envoy.BootstrapConfig{Node: *node, XDS: *address, Admin: *admin}
		if out.XDS == "" {
			out.XDS = cfg.Listen.XDS
		}
		if out.TLS, err = towardsControl(cfg.Control.TLS, envoy.BootstrapTLS{CertFile: *cert, KeyFile: *key, CAFile: *ca, ServerName: *name}); err != nil {
			return nil, withCode(exitUsage, err)
		}
		b, err := envoy.Bootstrap(out)
		return b, withCode(exitUsage, err)
	}
	show := &cobra.Command{
		Use:   "bootstrap",
		Short: "Print the bootstrap that names only the control plane",
		Long: `Bootstrap prints an Envoy bootstrap. Listeners, routes, clusters and secrets
are not in it: Envoy gets them over delta ADS from 'callgate serve'.

Where the control plane speaks TLS (control.tls), Envoy verifies it, and shows
the certificate of --cert and --key, which lie on Envoy's host.`,
		Example: `  callgate envoy bootstrap -c callgate.yaml > envoy.json && envoy -c envoy.json
  callgate envoy bootstrap -c callgate.yaml --cert /etc/envoy/edge.crt --key /etc/envoy/edge.key --ca /etc/envoy/fleet-ca.pem`,
		Args: cobra.NoArgs,
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

// towardsControl is how an Envoy reaches a control plane that is configured so.
func towardsControl(c config.ControlTLS, given envoy.BootstrapTLS) (envoy.BootstrapTLS, error) {
	if c.CertFile == "" {
		if given != (envoy.BootstrapTLS{}) && given.CAFile == "" {
			return given, errors.New("the control plane speaks plain text (control.tls has no cert_file); set it, or name --ca where something before it speaks TLS")
		}
		return given, nil
	}
	if c.CAFile != "" && given.CertFile == "" {
		return given, errors.New("the control plane takes only clients with a certificate (control.tls.ca_file); name Envoy's with --cert and --key")
	}
	if given.CAFile == "" {
		given.CAFile = c.CAFile
	}
	if given.CAFile == "" {
		given.CAFile = envoy.SystemRoots
	}
	if given.ServerName == "" {
		given.ServerName = c.ServerName
	}
	for _, f := range []*string{&given.CertFile, &given.KeyFile, &given.CAFile} {
		if *f == "" {
			continue
		}
		abs, err := filepath.Abs(*f)
		if err != nil {
			return given, fmt.Errorf("find %s: %w", *f, err)
		}
		*f = abs
	}
	return given, nil
}
