package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/callgate/callgate/audit/engine"
)

// enginePassword is where the engine's password is taken from.
const enginePassword = "CALLGATE_CLICKHOUSE_PASSWORD"

func newClickHouseBackup() *cobra.Command {
	c := &cobra.Command{
		Use:   "backup",
		Short: "Back up the trail of a running embedded engine to one file",
		Long: `Backup makes one file of a database while the engine goes on: ClickHouse's own
backup, as tar, consistent as of its beginning. FILE.sha256 is made beside it.

A replica's spool, keys and approvals are not in it: they lie in state_dir.`,
		Example: `  CALLGATE_CLICKHOUSE_PASSWORD=… callgate clickhouse backup --path ./data --to /backup/trail.tar`,
		Args:    cobra.NoArgs,
	}
	cfg := engine.BackupConfig{}
	c.Flags().StringVar(&cfg.Path, "path", "clickhouse-data", "folder of the engine's data")
	c.Flags().StringVar(&cfg.Addr, "addr", "127.0.0.1:8123", "address that it listens on")
	c.Flags().StringVar(&cfg.User, "user", "default", "user name")
	c.Flags().StringVar(&cfg.Database, "database", "callgate", "database to back up")
	c.Flags().StringVar(&cfg.To, "to", "", "file to make")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if cfg.To == "" {
			return withCode(exitUsage, errors.New("name the file to make with --to"))
		}
		if cfg.Password = os.Getenv(enginePassword); cfg.Password == "" {
			return withCode(exitUsage, fmt.Errorf("set %s to the engine's password", enginePassword))
		}
		if err := engine.Backup(c.Context(), cfg); err != nil {
			return err
		}
		fmt.Fprintf(c.OutOrStdout(), "backed up %s to %s\n", cfg.Database, cfg.To)
		return nil
	}
	return c
}

func newClickHouseRestore() *cobra.Command {
	c := &cobra.Command{
		Use:   "restore",
		Short: "Make a new data folder of a backup",
		Long: `Restore makes a data folder for 'callgate clickhouse --path' of a file that
backup made. The folder must be new or empty: nothing is ever overwritten. A
backup that is damaged, or whose FILE.sha256 is missing, is refused.`,
		Example: `  callgate clickhouse restore --from /backup/trail.tar --path ./data-restored`,
		Args:    cobra.NoArgs,
	}
	from := c.Flags().String("from", "", "file that backup made")
	path := c.Flags().String("path", "", "folder to make")
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if *from == "" || *path == "" {
			return withCode(exitUsage, errors.New("name the backup with --from and the folder to make with --path"))
		}
		list, err := engine.Restore(c.Context(), engine.RestoreConfig{From: *from, Engine: engine.ProcessConfig{Config: engine.Config{Path: *path}, Stderr: os.Stderr}}, progress(c))
		if err != nil {
			return err
		}
		if *asJSON {
			return printJSON(c.OutOrStdout(), list)
		}
		rows := [][]string{{"TABLE", "ROWS"}}
		for _, t := range list {
			rows = append(rows, []string{t.Table, t.Rows})
		}
		return table(c.OutOrStdout(), rows)
	}
	return c
}
