package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/callgate/callgate/app"
	"github.com/callgate/callgate/audit/clickhouse"
)

// migrateBound ends a migration that a cluster does not take.
const migrateBound = 30 * time.Minute

func newAuditMigrate() *cobra.Command {
	c := &cobra.Command{
		Use:   "migrate",
		Short: "Make or upgrade the schema in ClickHouse",
		Long: `Migrate brings the tables and views of the audit trail up to this version, on
the server or cluster that audit.clickhouse names. 'callgate serve' does the
same when it first reaches ClickHouse; this is for doing it before, with a user
who may, and for seeing what would be done: --dry-run prints all of it, ready to
be pasted into a ClickHouse client, and contacts nobody.

Steps are numbered and only add. Several replicas may run them at once.`,
		Example: `  callgate audit migrate --dry-run > schema.sql
  callgate audit migrate
  callgate audit migrate --again    # after a shard or replica joined the cluster`,
		Args: cobra.NoArgs,
	}
	dry := c.Flags().Bool("dry-run", false, "print the DDL and contact nobody")
	again := c.Flags().Bool("again", false, "run all steps, also those that were done")
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) (err error) {
		if *dry && (*again || *asJSON) {
			return withCode(exitUsage, errors.New("--dry-run prints all steps as SQL; leave --again and --json out"))
		}
		cfg, err := loadConfig(c)
		if err != nil {
			return err
		}
		if *dry {
			return withCode(exitUsage, clickhouse.DDL(c.OutOrStdout(), app.ClickHouse(cfg)))
		}
		db, err := app.OpenClickHouse(cfg)
		if err != nil {
			return withCode(exitUsage, err)
		}
		defer func() { err = errors.Join(err, db.Close()) }()
		ctx, cancel := context.WithTimeout(c.Context(), migrateBound)
		defer cancel()
		if err := db.Ping(ctx); err != nil {
			return withCode(exitUnreachable, err)
		}
		did, err := db.MigrateSchema(ctx, newLog(cfg.Log, c.ErrOrStderr()), *again)
		if err != nil {
			return withCode(exitNo, err)
		}
		return printMigrated(c, did, *asJSON)
	}
	return c
}

func printMigrated(c *cobra.Command, did clickhouse.Migrated, asJSON bool) error {
	type step struct {
		Version uint32 `json:"version"`
		Name    string `json:"name"`
	}
	steps := []step{}
	for _, m := range did.Applied {
		steps = append(steps, step{m.Version, m.Name})
	}
	if asJSON {
		return printJSON(c.OutOrStdout(), map[string]any{"applied": steps, "before": did.Before, "ahead": did.Ahead})
	}
	for _, s := range steps {
		fmt.Fprintf(c.OutOrStdout(), "applied %d %s\n", s.Version, s.Name)
	}
	switch {
	case did.Ahead > 0:
		fmt.Fprintf(c.OutOrStdout(), "the schema is at %d, made by a newer callgate\n", did.Ahead)
	case len(steps) == 0:
		fmt.Fprintf(c.OutOrStdout(), "nothing to do: all %d migrations are there\n", did.Before)
	}
	return nil
}
