package main

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/callgate/callgate/audit/clickhouse"
)

func newQuery() *cobra.Command {
	c := &cobra.Command{
		Use:   "query \"SQL\"",
		Short: "Ask the audit trail in SQL",
		Long: `Query runs one SQL statement against the ClickHouse that the configuration
names, in its database. Table calls has one row a call; DESCRIBE calls lists its
columns with what they mean.`,
		Example: `  callgate query "SELECT time, subject, function, decision FROM calls ORDER BY time DESC LIMIT 10"
  callgate query --csv "SELECT rule, count() FROM calls WHERE decision = 'deny' GROUP BY rule" > denials.csv
  callgate query "DESCRIBE calls"`,
		Args: cobra.ExactArgs(1),
	}
	asJSON := jsonFlag(c)
	asCSV := c.Flags().Bool("csv", false, "print CSV")
	c.MarkFlagsMutuallyExclusive("json", "csv")
	c.RunE = func(c *cobra.Command, args []string) error {
		switch {
		case *asJSON:
			return ask(c, args[0], &jsonRows{w: c.OutOrStdout()})
		case *asCSV:
			return ask(c, args[0], &csvRows{w: csv.NewWriter(c.OutOrStdout())})
		default:
			return ask(c, args[0], &tableRows{w: c.OutOrStdout()})
		}
	}
	return c
}

// ask runs a query and prints its result.
func ask(c *cobra.Command, sql string, out rows) (err error) {
	db, err := openTrail(c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
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

// rows prints a result as it comes.
type rows interface {
	columns([]string) error
	row([]any) error
	end() error
}

// tableRows prints aligned columns. It must see all rows to align them, so it
// keeps a bounded number at a time.
type tableRows struct {
	w     io.Writer
	names []string
	kept  [][]string
}

const tableAtOnce = 1000

func (t *tableRows) columns(names []string) error {
	t.names = names
	return nil
}

func (t *tableRows) row(values []any) error {
	cells := make([]string, len(values))
	for i, v := range values {
		cells[i] = clickhouse.Text(v)
	}
	if t.kept = append(t.kept, cells); len(t.kept) == tableAtOnce {
		return t.flush()
	}
	return nil
}

func (t *tableRows) flush() error {
	err := table(t.w, append([][]string{t.names}, t.kept...))
	t.kept = t.kept[:0]
	return err
}

func (t *tableRows) end() error { return t.flush() }

type csvRows struct{ w *csv.Writer }

func (r *csvRows) columns(names []string) error { return r.w.Write(names) }

func (r *csvRows) row(values []any) error {
	cells := make([]string, len(values))
	for i, v := range values {
		cells[i] = clickhouse.Text(v)
		// A spreadsheet would run a caller's text as a formula.
		if s, is := v.(string); is && s != "" && strings.ContainsRune("=+-@\t\r", rune(s[0])) {
			cells[i] = "'" + s
		}
	}
	return r.w.Write(cells)
}

func (r *csvRows) end() error {
	r.w.Flush()
	return r.w.Error()
}

// jsonRows prints a list of objects, one a line.
type jsonRows struct {
	w     io.Writer
	names []string
	any   bool
}

func (r *jsonRows) columns(names []string) error {
	r.names = names
	return nil
}

func (r *jsonRows) row(values []any) error {
	var b strings.Builder
	b.WriteString(map[bool]string{false: "[\n", true: ",\n"}[r.any])
	r.any = true
	for i, v := range values {
		name, err := json.Marshal(r.names[i])
		if err != nil {
			return err
		}
		value, err := json.Marshal(v)
		if err != nil {
			return fmt.Errorf("column %s: %w", r.names[i], err)
		}
		b.WriteString(map[bool]string{true: "{", false: ", "}[i == 0])
		b.Write(name)
		b.WriteString(": ")
		b.Write(value)
	}
	b.WriteString("}")
	_, err := r.w.Write(clickhouse.EscapeJSON([]byte(b.String())))
	return err
}

func (r *jsonRows) end() error {
	if !r.any {
		_, err := io.WriteString(r.w, "[]\n")
		return err
	}
	_, err := io.WriteString(r.w, "\n]\n")
	return err
}
