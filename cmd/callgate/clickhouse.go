package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/callgate/callgate/audit/engine"
	"github.com/callgate/callgate/config"
)

func newClickHouse() *cobra.Command {
	c := &cobra.Command{
		Use:   "clickhouse",
		Short: "Run the embedded ClickHouse engine",
		Long: `Clickhouse runs the embedded ClickHouse engine in this process, behind
ClickHouse's own HTTP interface: the store of one machine, for Callgate, curl,
Grafana and every other client of ClickHouse. The engine's library (about
180 MB) is fetched on first use; CALLGATE_CHDB names one that is at hand.

The password is taken from CALLGATE_CLICKHOUSE_PASSWORD, never from the command
line, where others could see it.`,
		Example: `  CALLGATE_CLICKHOUSE_PASSWORD=… callgate clickhouse --path ./data
  curl -u default:… 'http://127.0.0.1:8123/?query=SELECT+version()'`,
		Args: cobra.NoArgs,
	}
	c.AddCommand(newClickHouseBackup(), newClickHouseRestore())
	path := c.Flags().String("path", "clickhouse-data", "folder of the data")
	addr := c.Flags().String("addr", "127.0.0.1:8123", "address to listen on")
	user := c.Flags().String("user", "default", "user name")
	memory := c.Flags().String("max-memory", "1GiB", "most memory that queries may use together")
	connections := c.Flags().Int("connections", 0, "queries that may run at once (default: by the machine)")
	c.RunE = func(c *cobra.Command, _ []string) error {
		most, err := config.ParseBytes(*memory)
		if err != nil {
			return withCode(exitUsage, fmt.Errorf("--max-memory: %w", err))
		}
		return engine.Main(c.Context(), engine.Config{Path: *path, Addr: *addr, User: *user, MaxMemory: int64(most), Connections: *connections,
			Log: newLog(config.Log{Level: "info", Format: "json"}, os.Stderr)}, progress(c))
	}
	return c
}

// progress prints what takes longer than a moment.
func progress(c *cobra.Command) func(string) {
	return func(line string) { fmt.Fprintln(c.ErrOrStderr(), line) }
}
