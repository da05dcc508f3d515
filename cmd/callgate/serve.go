package main

import (
	"io"
	"log/slog"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/callgate/callgate/app"
	"github.com/callgate/callgate/config"
)

func newServe() *cobra.Command {
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run the services that Envoy asks",
		Long: `Serve runs ext_authz, ext_proc, the access-log service, xDS and the admin API
until it is told to stop (SIGINT, SIGTERM). A changed policy is taken up while
it runs; other settings need a restart.`,
		Example: `  callgate serve -c callgate.yaml
  callgate serve --roles extauthz,extproc,accesslog
  CALLGATE_LOG_LEVEL=debug callgate serve`,
		Args: cobra.NoArgs,
	}
	roles := c.Flags().StringSlice("roles", nil, "services to run, of extauthz, extproc, accesslog, xds, console (default all)")
	for flag, usage := range map[string]string{
		"listen-grpc": "address of the services for Envoy", "listen-xds": "address of xDS", "listen-console": "address of the admin API",
		"listen-metrics": "address of metrics and health", "log-level": "debug, info, warn or error", "log-format": "json or text",
	} {
		c.Flags().String(flag, "", usage)
	}
	c.RunE = func(c *cobra.Command, _ []string) error {
		cfg, err := loadConfig(c)
		if err != nil {
			return err
		}
		chosen, err := app.ParseRoles(*roles)
		if err != nil {
			return withCode(exitUsage, err)
		}
		if err := app.CheckPolicy(cfg.Policy, cfg.Approvals.Approvers); err != nil {
			return withCode(exitUsage, err)
		}
		file, err := c.Flags().GetString("config")
		if err != nil {
			return err
		}
		if os.Getenv("GOGC") == "" {
			debug.SetGCPercent(gcPercent)
		}
		log := newLog(cfg.Log, os.Stderr)
		slog.SetDefault(log) // for libraries that take no logger
		a, err := app.New(c.Context(), cfg, app.Options{File: file, Roles: chosen, Version: version, Log: log})
		if err != nil {
			return withCode(exitUnreachable, err)
		}
		if os.Getenv("GOGC") == "" {
			go boundGarbage(c.Context(), a.Waiting)
		}
		return a.Run(c.Context())
	}
	return c
}

func newLog(c config.Log, w io.Writer) *slog.Logger {
	level := slog.LevelInfo
	// The configuration was checked: an unknown level can't come here.
	_ = level.UnmarshalText([]byte(c.Level))
	options := &slog.HandlerOptions{Level: level}
	if c.Format == "text" {
		return slog.New(slog.NewTextHandler(w, options))
	}
	return slog.New(slog.NewJSONHandler(w, options))
}
