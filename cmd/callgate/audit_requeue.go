package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/callgate/callgate/app"
	"github.com/callgate/callgate/audit/clickhouse"
	"github.com/callgate/callgate/config"
)

func newAuditRequeue() *cobra.Command {
	c := &cobra.Command{
		Use:   "requeue",
		Short: "Send rows again that ClickHouse refused",
		Long: `Requeue sends the rows that lie in quarantine to ClickHouse again, each once,
also where an earlier attempt may have succeeded. A row's file is removed when
the row is there. It may be used while Callgate runs, on the machine that has
the spool.

It exits with 1 where a row is still refused or a file is damaged; such files
stay as they are.`,
		Example: `  callgate audit requeue --dry-run
  callgate audit requeue --file .callgate/spool/quarantine/calls-00000000000000000013.json`,
		Args: cobra.NoArgs,
	}
	dry := c.Flags().Bool("dry-run", false, "tell what would be sent, and send nothing")
	files := c.Flags().StringArray("file", nil, "send only this file's row; may be repeated")
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) (err error) {
		cfg, err := loadConfig(c)
		if err != nil {
			return err
		}
		for _, f := range *files {
			if _, err := os.Stat(f); err != nil {
				return withCode(exitUsage, fmt.Errorf("--file: %w; quarantined rows lie in %s", err, clickhouse.QuarantineDir(cfg.Audit.Spool.Dir)))
			}
		}
		db, err := app.OpenClickHouse(cfg)
		if err != nil {
			return withCode(exitUsage, err)
		}
		defer func() { err = errors.Join(err, db.Close()) }()
		list, failed := clickhouse.Requeue(c.Context(), clickhouse.RequeueConfig{Dir: cfg.Audit.Spool.Dir, DB: db, Files: *files, DryRun: *dry,
			Log: newLog(config.Log{Level: "info", Format: "text"}, c.ErrOrStderr())})
		if *asJSON {
			if list == nil {
				list = []clickhouse.Requeued{}
			}
			err = printJSON(c.OutOrStdout(), list)
		} else if len(list) > 0 {
			rows := [][]string{{"RESULT", "TABLE", "EVENT", "FILE", "WHY"}}
			for _, r := range list {
				rows = append(rows, []string{r.Result, orDash(r.Table), strconv.FormatUint(r.Index, 10), filepath.Base(r.File), clickhouse.Text(orDash(r.Why))})
			}
			err = table(c.OutOrStdout(), rows)
		} else if failed == nil {
			_, err = fmt.Fprintln(c.OutOrStdout(), "the quarantine is empty")
		}
		if err != nil {
			return err
		}
		if failed != nil {
			return withCode(exitUnreachable, failed)
		}
		stay := 0
		for _, r := range list {
			if r.Result == clickhouse.RequeueRefused || r.Result == clickhouse.RequeueDamaged {
				stay++
			}
		}
		if stay > 0 {
			return withCode(exitNo, fmt.Errorf("%d of %d rows stay in quarantine", stay, len(list)))
		}
		return nil
	}
	return c
}
