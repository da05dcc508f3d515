package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// The pages about tables and views are made from the schema, so they can't say
// what is not so. 'make golden' writes them anew.
func TestReference(t *testing.T) {
	t.Parallel()
	db, cfg := database(t)
	golden(t, "../../docs/reference/schema.md", schemaPage(t, db, cfg.Database))
	golden(t, "../../docs/sql/README.md", viewsPage(t, db))
}

// described is a table or view and what its schema says of it.
type described struct {
	Name      string   `ch:"name"`
	Comment   string   `ch:"comment"`
	Partition string   `ch:"partition_key"`
	Sorting   string   `ch:"sorting_key"`
	Create    string   `ch:"create_table_query"`
	Params    []string `ch:"params"`
}

func describe(t *testing.T, db *DB, where string) []described {
	t.Helper()
	var list []described
	err := db.conn.Select(context.Background(), &list, `SELECT name, comment, partition_key, sorting_key, create_table_query,
		arrayMap(p -> p.1, parameterized_view_parameters) AS params FROM system.tables WHERE database = currentDatabase() AND `+where+` ORDER BY name`)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range list {
		if d.Comment == "" {
			t.Errorf("%s has no comment", d.Name)
		}
	}
	return list
}

const generated = "<!-- Made from the schema by 'make golden'. Change the comments in audit/clickhouse/migrations in its place. -->\n\n"

func schemaPage(t *testing.T, db *DB, name string) string {
	t.Helper()
	var page strings.Builder
	page.WriteString(`# The tables of the audit trail

` + generated + `They are in the database that ` + "`audit.clickhouse.database`" + ` names, ` + "`callgate`" + ` unless set. People query
` + "`calls`" + `: one row a call, never two. ` + "`callgate audit migrate --dry-run`" + ` prints the whole DDL;
[ready-made views](../sql/README.md) answer the questions asked most.

On a cluster each table here is a distributed one, and ` + "`…_local`" + ` beside it holds
a shard's rows; see [the guide](../guide/clickhouse.md).
`)
	tables := describe(t, db, "engine != 'View'")
	for i, table := range tables {
		if table.Name == tableCalls { // what people look for
			tables = append(append([]described{table}, tables[:i]...), tables[i+1:]...)
		}
	}
	ttl := regexp.MustCompile(`ORDER BY [^\n]*? TTL (.+?) SETTINGS`)
	for _, table := range tables {
		fmt.Fprintf(&page, "\n## %s\n\n%s\n\n", table.Name, table.Comment)
		if table.Partition != "" {
			fmt.Fprintf(&page, "Partitioned by `%s`, ordered by `%s`.", table.Partition, table.Sorting)
		} else {
			fmt.Fprintf(&page, "Ordered by `%s`.", table.Sorting)
		}
		if found := ttl.FindStringSubmatch(table.Create); found != nil {
			fmt.Fprintf(&page, " Rows are deleted at `%s`.", found[1])
		}
		page.WriteString("\n\n| column | type | meaning |\n|---|---|---|\n")
		rows, err := db.conn.Query(context.Background(), `SELECT name, type, default_kind, comment FROM system.columns
			WHERE database = ? AND table = ? ORDER BY position`, name, table.Name)
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			var column, typ, kind, comment string
			if err := rows.Scan(&column, &typ, &kind, &comment); err != nil {
				t.Fatal(err)
			}
			if kind == "ALIAS" || kind == "MATERIALIZED" {
				comment += " Computed; not in `SELECT *`."
			}
			fmt.Fprintf(&page, "| `%s` | `%s` | %s |\n", column, typ, strings.ReplaceAll(comment, "|", `\|`))
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
	}
	return page.String()
}

// Values for views' parameters that make sense in an example.
var sampleParams = map[string]string{"days": "30", "idle": "30", "bytes": "10485760"}

func viewsPage(t *testing.T, db *DB) string {
	t.Helper()
	var page strings.Builder
	page.WriteString(`# Questions people ask

` + generated + `Each is a view beside the tables, made by ` + "`callgate audit migrate`" + ` and by ` + "`callgate serve`" + `.
Those with parameters are called like functions and need all of them:

` + "```\ncallgate query \"SELECT * FROM denials_by_rule(days = 7) WHERE connection = 'crm'\"\n```" + `

- ` + "`days`" + `: how far to look back from now.
- ` + "`idle`" + `: for how many days nothing happened.
- ` + "`bytes`" + `: from what size on.

Whoever reads a view needs SELECT on the table below it, so a view shows nobody
more than he may see. Columns are those of [the schema](../reference/schema.md)
where they have their names. The SQL is given to be changed: copy it where a view
does not ask quite what you want.
`)
	definitions := map[string]string{}
	list, err := Migrations(Config{})
	if err != nil {
		t.Fatal(err)
	}
	create := regexp.MustCompile(`(?s)^CREATE VIEW IF NOT EXISTS callgate\.(\w+) AS\n(.+)\nCOMMENT '[^\n]*'$`)
	for _, m := range list {
		for _, sql := range m.Statements {
			if !strings.Contains(sql, "VIEW") || strings.HasPrefix(sql, "DROP VIEW IF EXISTS ") { // to be written anew
				continue
			}
			found := create.FindStringSubmatch(sql)
			if found == nil {
				t.Fatalf("not as views are written:\n%s", sql)
			}
			definitions[found[1]] = strings.ReplaceAll(found[2], "callgate.", "")
		}
	}
	parameter := regexp.MustCompile(`\{(\w+):\w+\}`)
	views := describe(t, db, "engine = 'View'")
	if len(views) != len(definitions) {
		t.Errorf("%d views, %d definitions", len(views), len(definitions))
	}
	for _, view := range views {
		sample := view.Name
		if len(view.Params) > 0 {
			var params []string
			for _, m := range parameter.FindAllStringSubmatch(definitions[view.Name], -1) {
				p := m[1]
				value, ok := sampleParams[p]
				if !ok {
					t.Fatalf("%s: parameter %s is not explained", view.Name, p)
				}
				if strings.HasPrefix(view.Name, "dormant") && p == "days" {
					value = "180"
				}
				if p := p + " = " + value; !strings.Contains(strings.Join(params, ", "), p) {
					params = append(params, p)
				}
			}
			sample += "(" + strings.Join(params, ", ") + ")"
		}
		ctx := context.Background()
		rows, err := db.Query(ctx, "DESCRIBE (SELECT * FROM "+sample+")")
		if err != nil {
			t.Fatal(err)
		}
		var columns []string
		for rows.Next() {
			values, err := rows.Values()
			if err != nil {
				t.Fatal(err)
			}
			columns = append(columns, fmt.Sprintf("`%s`", values[0]))
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil || len(columns) == 0 {
			t.Fatalf("%s has %d columns: %v", view.Name, len(columns), err)
		}
		// What is printed can be pasted.
		sql := definitions[view.Name]
		if err := db.conn.Exec(ctx, parameter.ReplaceAllStringFunc(sql, func(p string) string {
			return sampleParams[parameter.FindStringSubmatch(p)[1]]
		})); err != nil {
			t.Errorf("%s: %v", view.Name, err)
		}
		fmt.Fprintf(&page, "\n## %s\n\n%s\n\n```sql\nSELECT * FROM %s\n```\n\nColumns: %s.\n\n<details><summary>SQL</summary>\n\n```sql\n%s\n```\n\n</details>\n",
			view.Name, view.Comment, sample, strings.Join(columns, ", "), sql)
	}
	return page.String()
}
