package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/callgate/callgate/app"
	"github.com/callgate/callgate/audit/clickhouse"
	"github.com/callgate/callgate/call"
)

func newCalls() *cobra.Command {
	c := &cobra.Command{
		Use:   "calls",
		Short: "Look at recorded calls",
	}
	c.AddCommand(newCallsList(), newCallsShow())
	return c
}

// callsColumns are listed of each call.
const callsColumns = "time, call_id, subject, acting, connection, function, decision, rule, reason, http_status"

func newCallsList() *cobra.Command {
	c := &cobra.Command{
		Use:   "list",
		Short: "List recent calls, the newest first",
		Example: `  callgate calls list --since 1h --decision deny
  callgate calls list --subject alice --limit 100 --json`,
		Args: cobra.NoArgs,
	}
	asJSON := jsonFlag(c)
	since := c.Flags().Duration("since", 24*time.Hour, "how far back")
	limit := c.Flags().Uint("limit", 20, "most calls to list")
	filters := map[string]*string{}
	for flag, usage := range map[string]string{"subject": "who called", "connection": "which connection", "function": "which function", "decision": "allow, deny, hold→allow, hold→deny, hold→expired"} {
		filters[flag] = c.Flags().String(flag, "", usage)
	}
	c.RunE = func(c *cobra.Command, _ []string) error {
		where := []string{fmt.Sprintf("time >= now64(3) - INTERVAL %d SECOND", int64(since.Seconds()))}
		for column, v := range filters {
			if *v != "" {
				where = append(where, column+" = "+quote(*v))
			}
		}
		sql := fmt.Sprintf("SELECT %s FROM calls WHERE %s ORDER BY time DESC LIMIT %d", callsColumns, strings.Join(where, " AND "), *limit)
		var out rows = &tableRows{w: c.OutOrStdout()}
		if *asJSON {
			out = &jsonRows{w: c.OutOrStdout()}
		}
		return ask(c, sql, out)
	}
	return c
}

func newCallsShow() *cobra.Command {
	c := &cobra.Command{
		Use:     "show ID",
		Short:   "Show all that is recorded of one call",
		Example: "  callgate calls show 01935b5e-7f6a-7c1e-9d3b-2f1f0a9c8b7d --json",
		Args:    cobra.ExactArgs(1),
	}
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		id, err := call.ParseID(args[0])
		if err != nil {
			return withCode(exitUsage, err)
		}
		found := &oneRow{}
		if err := ask(c, "SELECT * FROM calls WHERE call_id = "+quote(id.String()), found); err != nil {
			return err
		}
		if found.values == nil {
			return withCode(exitNo, fmt.Errorf("there is no recorded call %s; a call appears when it has ended", id))
		}
		if *asJSON {
			out := &jsonRows{w: c.OutOrStdout(), names: found.names}
			if err := out.row(found.values); err != nil {
				return err
			}
			return out.end()
		}
		var lines [][]string
		for i, name := range found.names {
			if t := clickhouse.Text(found.values[i]); t != "" && t != "[]" {
				lines = append(lines, []string{name, t})
			}
		}
		return table(c.OutOrStdout(), lines)
	}
	return c
}

// oneRow keeps a single row.
type oneRow struct {
	names  []string
	values []any
}

func (o *oneRow) columns(names []string) error { o.names = names; return nil }
func (o *oneRow) row(values []any) error       { o.values = append([]any(nil), values...); return nil }
func (o *oneRow) end() error                   { return nil }

// ask runs a query of the command's own.
func ask(c *cobra.Command, sql string, out rows) (err error) {
	cfg, err := loadConfig(c)
	if err != nil {
		return err
	}
	db, err := app.OpenClickHouse(cfg)
	if err != nil {
		return withCode(exitUsage, err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := db.Ping(c.Context()); err != nil {
		return withCode(exitUnreachable, err)
	}
	found, err := db.Query(c.Context(), sql)
	if err != nil {
		return withCode(exitNo, err)
	}
	defer func() { err = errors.Join(err, found.Close()) }()
	var names []string
	for _, column := range found.Columns() {
		names = append(names, column.Name)
	}
	if err := out.columns(names); err != nil {
		return err
	}
	for found.Next() {
		values, err := found.Values()
		if err != nil {
			return withCode(exitNo, err)
		}
		if err := out.row(values); err != nil {
			return err
		}
	}
	if err := found.Err(); err != nil {
		return withCode(exitNo, err)
	}
	return out.end()
}

// quote writes a ClickHouse string literal.
func quote(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}
